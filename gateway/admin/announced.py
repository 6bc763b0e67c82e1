"""Acts that gatewayctl announces before it edits files: until it asks for the reload itself, the watcher of files holds still.

An act whose gatewayctl died is over by itself; then the watcher goes on.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.moment import comes

HOLD: Final = 10.0
"""Seconds that the watcher waits for an announced act."""
UNDO: Final = 1.0
"""Seconds that it waits for a refused edit to be taken back."""
REMEMBERED: Final = 60.0
"""Seconds after which nobody asks for an act's reload any more."""
MOST: Final = 100
"""Acts at once."""


@dataclass(slots=True)
class Act:
    """what: in words, `keys revoke k7f3`. spare: ids of keys whose open requests may end in peace when they are gone. since: monotonic."""

    what: str
    spare: Sequence[str]
    by: str
    since: float
    reloading: bool = False


class Announced:
    """All acts that were announced and are not over."""

    def __init__(self, now: Callable[[], float]) -> None:
        """now: monotonic seconds."""
        self._now = now
        self._acts: dict[int, Act] = {}
        self._last = 0
        self._over = asyncio.Event()

    def announce(self, what: str, spare: Sequence[str], *, by: str) -> int:
        """The act's number."""
        self._forget()
        self._last += 1
        self._acts[self._last] = Act(what, spare, by, self._now())
        return self._last

    def begin(self, number: int) -> Act | None:
        """Its reload begins: it is not too late from now on. None: nobody knows it (any more)."""
        self._forget()
        act = self._acts.get(number)
        if act is not None:
            act.reloading = True
        return act

    def end(self, number: int, *, undone: bool) -> None:
        """Its reload is over. undone: it was refused, so that the edit is about to be taken back."""
        act = self._acts.pop(number, None)
        if act is not None and undone:
            act.reloading, act.since = False, self._now() - HOLD + UNDO
            self._acts[number] = act
        self._over.set()

    def spared(self) -> list[str]:
        """Keys whose requests may end in peace, whoever asks for the reload first."""
        return sorted({id for act in self._acts.values() if self._counts(act) for id in act.spare})

    async def quiet(self) -> None:
        """Until no act is on its way."""
        while waiting := [act for act in self._acts.values() if self._counts(act)]:
            left = min(max(0.05, act.since + HOLD - self._now()) for act in waiting)
            self._over.clear()
            await comes(self._over, left)

    def _counts(self, act: Act) -> bool:
        return act.reloading or self._now() - act.since < HOLD

    def _forget(self) -> None:
        now = self._now()
        self._acts = {n: act for n, act in self._acts.items() if act.reloading or now - act.since < REMEMBERED}
        while len(self._acts) >= MOST:
            self._acts.pop(min(self._acts))

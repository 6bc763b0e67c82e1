"""primary-backup: tiers in order, however many. The first that is well serves; back to a better one only when it stays well.

    the serving tier is well      it goes on serving, until a better one has been well for `fail_back` without interruption
    the serving tier is away      the first tier that is well and has not been away lately, else the first that is well
    all are away                  the tiers in their order; whoever is well first serves, without waiting

What is well is looked at when a request is decided; between two requests nothing is known, and nothing interrupts.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from gateway.route.ask import Ask


class _View(NamedTuple):
    """front: the serving tier, None = all are away. back: by tier, since when it is well again; None = it always was; -1.0 = away."""

    front: int | None
    back: tuple[float | None, ...]


class PrimaryBackup:
    """One target list. fail_back: seconds."""

    __slots__ = ("_all", "_calm", "_count", "_fail_back", "_view")

    def __init__(self, count: int, fail_back: float) -> None:
        self._count = count
        self._fail_back = fail_back
        self._all = tuple(range(count))
        self._calm = _View(0, (None,) * count)
        self._view = self._calm

    def order(self, ask: Ask, well: Sequence[bool]) -> tuple[int, ...]:
        """Tier numbers, the serving one first, then those that are well, then those that are not, each in their order."""
        if self._view is self._calm and all(well):
            return self._all
        view = self._view = self._next(ask.now, well)
        if view == self._calm:
            self._view = self._calm
        return self._ranked(view, well)

    def peek(self, ask: Ask, well: Sequence[bool]) -> tuple[int, ...]:
        """What `order` would answer now."""
        return self._ranked(self._next(ask.now, well), well)

    def news(self, now: float) -> list[Any] | None:
        """How it stands, for another process: the serving tier, and by tier the seconds since it is well again. None: nothing happened."""
        if self._view is self._calm:
            return None
        return [self._view.front, [since if since is None or since < 0.0 else now - since for since in self._view.back]]

    def learn(self, news: Sequence[Any], now: float) -> None:
        """Stands as another one of the same tiers does. news: what that one's `news` said a moment ago."""
        front, back = news
        if len(back) == self._count:
            self._view = _View(front, tuple(age if age is None or age < 0.0 else now - age for age in back))

    def told(self, ask: Ask, well: Sequence[bool]) -> str:
        view = self._next(ask.now, well)
        if view.front is None:
            return "primary-backup: no tier is well, so all are tried in their order"
        said = f"primary-backup: tier {view.front + 1} of {self._count} serves"
        for number in range(view.front):
            since = view.back[number]
            if not well[number]:
                said += f"; tier {number + 1} is away"
            elif since is not None:
                said += f"; tier {number + 1} is well again, and takes over in {max(0.0, self._fail_back - (ask.now - since)):.0f} s"
        return said

    def _next(self, now: float, well: Sequence[bool]) -> _View:
        """The view that follows from the last one."""
        before = self._view
        back = tuple(self._since(now, fine, since) for fine, since in zip(well, before.back, strict=True))
        if not any(well):
            return _View(None, back)
        front = before.front
        if front is None:
            front = self._first(well)
        elif not well[front]:
            front = next((n for n in self._all if well[n] and back[n] is None), self._first(well))
        else:
            front = next((n for n in range(front) if well[n] and back[n] is None), front)
        return _View(front, back)

    def _since(self, now: float, fine: bool, since: float | None) -> float | None:
        if not fine:
            return -1.0
        if since is None:
            return None
        since = now if since < 0.0 else since
        return None if now - since >= self._fail_back else since

    def _first(self, well: Sequence[bool]) -> int:
        return next(n for n in self._all if well[n])

    def _ranked(self, view: _View, well: Sequence[bool]) -> tuple[int, ...]:
        if view.front is None:
            return self._all
        rest = [n for n in self._all if n != view.front]
        return (view.front, *(n for n in rest if well[n]), *(n for n in rest if not well[n]))

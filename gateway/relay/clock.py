"""The deadlines of all open attempts of a worker, looked at together twenty times a second.

A timer of its own costs each request more than a microsecond; this costs each open attempt a comparison a tick.
"""

import asyncio
from time import monotonic
from typing import Final, Protocol

TICK: Final = 0.05
"""Seconds: how late a deadline may be noticed."""


class Watched(Protocol):
    """`look_at`: the moment (monotonic seconds) from which `look` wants to be called."""

    look_at: float

    def look(self, now: float) -> None: ...


class Clock:
    """Ticks only while something is watched."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._watched: set[Watched] = set()
        self._ticking = False

    def watch(self, one: Watched) -> None:
        self._watched.add(one)
        if not self._ticking:
            self._ticking = True
            self.loop.call_later(TICK, self._tick)

    def forget(self, one: Watched) -> None:
        self._watched.discard(one)

    def _tick(self) -> None:
        now = monotonic()
        for one in [one for one in self._watched if one.look_at <= now]:
            if one in self._watched:
                one.look(now)
        if self._watched:
            self.loop.call_later(TICK, self._tick)
        else:
            self._ticking = False

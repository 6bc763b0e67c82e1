"""The deadlines of all open attempts of a worker, looked at together twenty times a second.

A timer of its own costs each request more than a microsecond; this costs each open attempt a comparison a tick.
"""

import asyncio
from time import monotonic
from typing import Final, Protocol

TICK: Final = 0.05
"""Seconds: how late a deadline may be noticed."""


class Watched(Protocol):
    """look: acts on what is overdue, and gives the moment (monotonic seconds) from which it wants to be called again.

    stood_still: the process did, from `since` until now. What was noted with the clock's `soon` meanwhile is as old as `since`.
    """

    def look(self, now: float) -> float: ...
    def stood_still(self, since: float, now: float) -> None: ...


class Clock:
    """Ticks only while something is watched. soon: the moment until which it next ticks (monotonic seconds), for who need not know exactly
    when something came, but not before: asking for the time costs more than the rest of what is noted of an event."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.soon = 0.0
        self._watched: dict[Watched, float] = {}
        self._ticking = False
        self._late = False

    def watch(self, one: Watched, since: float) -> None:
        """since: when it wants to be looked at first."""
        self._watched[one] = since
        if not self._ticking:
            self._ticking = True
            self.soon = monotonic() + TICK
            self.loop.call_later(TICK, self._tick)

    def forget(self, one: Watched) -> None:
        self._watched.pop(one, None)

    def _tick(self) -> None:
        """One that comes late first lets be read what has come while the process stood still: nobody was silent then."""
        now, due = monotonic(), self.soon
        self.soon = now + TICK
        self._late = now > due + TICK and not self._late
        if self._late:
            for one in self._watched:
                one.stood_still(due, now)
        else:
            for one in [one for one, since in self._watched.items() if since <= now]:
                if one in self._watched:
                    since = one.look(now)
                    if one in self._watched:
                        self._watched[one] = since
        if self._watched:
            self.loop.call_later(TICK, self._tick)
        else:
            self._ticking = False

"""How fast a channel's seats become free. Time is an argument (monotonic seconds).

While somebody waits, seats are given back as fast as the engines can, and that is measured, with the last ten seconds
counting most: engines that stand still are seen. Without a line nothing is measured, since a quiet channel gives
back few seats however fast it is; then the seats in use, divided by how long one is held, say it (Little's law).
"""

from math import exp
from typing import Final

MEMORY: Final = 10.0
"""Seconds after which what was measured counts for a third."""
GUESS: Final = 1.0
"""Seconds of measuring that outweigh the guess of Little's law."""
LEARN: Final = 1 / 16
"""Weight of the newest seat in the mean time that seats are held."""
SHORT: Final = 0.001
"""Seconds. What failed at once counts as this long."""


class Drain:
    """One channel's rate."""

    __slots__ = ("_at", "_freed", "_held", "_span")

    def __init__(self) -> None:
        self._at = 0.0
        self._freed = 0.0
        self._span = 0.0
        self._held = 0.0

    def look(self, now: float, *, line: bool) -> None:
        """Time passed. line: whether somebody waited since the last look."""
        passed, self._at = now - self._at, now
        if passed > 0 and (line or self._span):
            fade = exp(-passed / MEMORY)
            self._freed *= fade
            self._span = self._span * fade + (MEMORY * (1 - fade) if line else 0.0)

    def freed(self, held: float, *, line: bool) -> None:
        """A seat was given back after so many seconds."""
        held = max(held, SHORT)
        self._held = self._held + (held - self._held) * LEARN if self._held else held
        if line:
            self._freed += 1

    def rate(self, in_use: int) -> float:
        """Seats per second; 0.0 = nothing is known yet."""
        if not self._held:
            return self._freed / self._span if self._span else 0.0
        return (self._freed + GUESS * max(in_use, 1) / self._held) / (self._span + GUESS)

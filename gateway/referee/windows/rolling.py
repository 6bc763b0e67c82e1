"""The last second, minute or hour: never more than N in any stretch of that length.

A ring of 60 parts and the one that is just running out: what was used in a part counts until that part lies wholly outside
the window, so up to a sixtieth longer than the window, and never shorter. Goes by monotonic seconds.
"""

from collections.abc import Mapping
from typing import Final

from gateway.referee.moment import Moment

PARTS: Final = 60
SECONDS: Final = {"second": 1, "minute": 60, "hour": 3600}


class Rolling:
    """Parts that nothing was used in take no room."""

    __slots__ = ("_parts", "_rate", "_total")

    def __init__(self, seconds: int) -> None:
        self._rate = PARTS / seconds
        self._parts: dict[int, int] = {}
        self._total = 0

    def used(self, now: Moment) -> int:
        parts = self._parts
        if parts:
            oldest = int(now.mono * self._rate) - PARTS
            while parts and (first := next(iter(parts))) < oldest:
                self._total -= parts.pop(first)
        return self._total

    def add(self, amount: int, now: Moment) -> int:
        parts = self._parts
        part = int(now.mono * self._rate)
        late = part not in parts and parts and part < next(reversed(parts))
        parts[part] = parts.get(part, 0) + amount
        self._total += amount
        if late:  # told afterwards: the oldest must stay first
            self._parts = dict(sorted(parts.items()))
        return part

    def change(self, mark: int, delta: int) -> None:
        left = self._parts.get(mark)
        if left is not None:
            self._total += delta
            if left + delta:
                self._parts[mark] = left + delta
            else:  # nothing is used there any more, so nothing has to be waited for
                del self._parts[mark]

    def frees(self, amount: int, now: Moment) -> float:
        for part, used in self._parts.items():
            amount -= used
            if amount <= 0:
                return (part + PARTS + 1) / self._rate - now.mono
        return self.reset(now)

    def reset(self, now: Moment) -> float:
        return (next(reversed(self._parts)) + PARTS + 1) / self._rate - now.mono if self._parts else 0.0

    def place(self, wall: float) -> int | None:
        return int(wall * self._rate)

    def seed(self, kept: Mapping[int, int], now: Moment) -> None:
        """What was used in a part is taken as used at its end. kept: what was used last comes last.

        If that is still to come, the clock was put back since, and it was just now. Parts after it were used before the clock was put back
        earlier, nobody knows when: those further ahead than the window is long are left out, or they would count at each start anew.
        """
        here = int(now.wall * self._rate)
        back = max(0, [0, *kept][-1] - here)
        for place, amount in sorted(kept.items()):
            if place - back <= here + PARTS:
                self.add(amount, now.at((place - back + 1) / self._rate))

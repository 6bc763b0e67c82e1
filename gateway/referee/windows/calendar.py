"""The day or the month that the calendar on the wall of a zone shows: days of 23 and 25 hours, months of 28 to 31 days.

What was used in the few periods that were used last stays known, so that a clock that is put forward by mistake and back again finds what
it left.
"""

from collections.abc import Mapping
from datetime import datetime, tzinfo
from functools import lru_cache
from typing import Final

from gateway.config.hours import zone_of
from gateway.referee.moment import Moment

KEPT: Final = 3
"""Periods of which it is known what was used: the present one and those that were used last."""


class Periods:
    """The periods of a zone, by number: days by their ordinal, months counted from year 0. The present one is remembered."""

    __slots__ = ("_begin", "_end", "_monthly", "_number", "_zone")

    def __init__(self, per: str, zone: tzinfo) -> None:
        self._monthly = per == "month"
        self._zone = zone
        self._begin = self._end = 0.0
        self._number = 0

    def at(self, wall: float) -> int:
        """The period that a moment is in."""
        if not self._begin <= wall < self._end:
            self._find(wall)
        return self._number

    def begin(self, wall: float) -> float:
        """When that period began, in seconds since 1970."""
        self.at(wall)
        return self._begin

    def end(self, wall: float) -> float:
        """When that period ends, in seconds since 1970."""
        self.at(wall)
        return self._end

    def _find(self, wall: float) -> None:
        """A period begins when its first midnight is first shown, or passed over; clocks put back do not begin the last one again."""
        local = datetime.fromtimestamp(wall, self._zone)
        number = local.year * 12 + local.month - 1 if self._monthly else local.toordinal()
        if wall >= self._starts(number + 1):
            number += 1
        elif wall < self._starts(number):
            number -= 1
        self._number, self._begin, self._end = number, self._starts(number), self._starts(number + 1)

    def _starts(self, number: int) -> float:
        first = datetime(number // 12, number % 12 + 1, 1) if self._monthly else datetime.fromordinal(number)
        return first.replace(tzinfo=self._zone).timestamp()


@lru_cache(maxsize=256)
def calendar_of(per: str, zone: str) -> Periods:
    """One for all counters. Raises ValueError when the zone is not known (any more)."""
    return Periods(per, zone_of(zone))


class Calendar:
    """What was used in the present period, and in those that were it before: the last one comes last."""

    __slots__ = ("_periods", "_used")

    def __init__(self, periods: Periods) -> None:
        self._periods = periods
        self._used: dict[int, int] = {}

    def used(self, now: Moment) -> int:
        return self._used.get(self._periods.at(now.wall), 0)

    def add(self, amount: int, now: Moment) -> int:
        period = self._periods.at(now.wall)
        used = self._used
        used[period] = used.pop(period, 0) + amount
        if len(used) > KEPT:
            del used[next(iter(used))]
        return period

    def change(self, mark: int, delta: int) -> None:
        if mark in self._used:
            self._used[mark] += delta

    def frees(self, amount: int, now: Moment) -> float:
        return self.reset(now)

    def reset(self, now: Moment) -> float:
        return self._periods.end(now.wall) - now.wall

    def place(self, wall: float) -> int | None:
        return self._periods.at(wall)

    def seed(self, kept: Mapping[int, int], now: Moment) -> None:
        here = self._periods.at(now.wall)
        self._used = dict(sorted(kept.items(), key=lambda one: -abs(one[0] - here))[-KEPT:])

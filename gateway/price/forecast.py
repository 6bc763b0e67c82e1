"""What will have been spent when a day or a month is over, by what is spent so far. An estimate, in whole numbers; time is an argument."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import Final, NamedTuple

EVEN: Final = (1,) * 7
_FINE: Final = 1_000_000
"""Weights are counted in parts of this, moments in microseconds."""


class Day(NamedTuple):
    """A day of a calendar, in seconds since 1970. weekday: 0 = Monday."""

    begin: float
    end: float
    weekday: int


def forecast(spent: int, begin: float, now: float, end: float) -> int:
    """By the share of the time that has passed. Never less than what is spent."""
    passed, whole = _micros(now - begin), _micros(end - begin)
    return max(spent, spent * whole // passed) if 0 < passed < whole else spent


def by_weekday(spent: int, now: float, days: Sequence[Day], weights: Sequence[int]) -> int:
    """By what weekdays weigh (`weekdays`): a Friday's figure counts for less when Saturdays are quiet. days: all of the period."""
    passed = whole = 0
    for day in days:
        long = _micros(day.end - day.begin)
        gone = min(max(0, _micros(now - day.begin)), long)
        passed += weights[day.weekday] * _FINE * gone // long
        whole += weights[day.weekday] * _FINE
    if not passed:  # nothing was to be expected yet
        return forecast(spent, days[0].begin, now, days[-1].end)
    return max(spent, spent * whole // passed) if passed < whole else spent


def weekdays(history: Iterable[tuple[int, int]]) -> tuple[int, ...]:
    """What each weekday weighs: the mean of its days. history: weekday and amount of whole days; one that is missing weighs the mean."""
    sums, counts = [0] * 7, [0] * 7
    for weekday, amount in history:
        sums[weekday] += amount
        counts[weekday] += 1
    if not sum(sums):
        return EVEN
    mean = sum(sums) // sum(counts)
    return tuple(total // count if count else mean for total, count in zip(sums, counts, strict=True))


def days_of(begin: float, end: float, zone: tzinfo) -> list[Day]:
    """The days of a period, by the clock on the wall of its zone: 23 to 25 hours long."""
    days: list[Day] = []
    day = datetime.fromtimestamp(begin, zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    while (starts := day.replace(tzinfo=zone).timestamp()) < end:
        ends = (day + timedelta(days=1)).replace(tzinfo=zone).timestamp()
        days.append(Day(max(begin, starts), min(end, ends), day.weekday()))
        day += timedelta(days=1)
    return days


def _micros(seconds: float) -> int:
    return round(seconds * 1_000_000)

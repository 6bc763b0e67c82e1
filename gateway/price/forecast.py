"""What will have been spent when a day or a month is over, by what is spent so far. An estimate, in whole numbers; time is an argument."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, tzinfo
from functools import lru_cache
from typing import Final, NamedTuple

WEEK: Final = 168
EVEN: Final = (1,) * WEEK
LEAST_DAYS: Final = 14
"""Whole days of history before hours of the week are believed."""


class Hour(NamedTuple):
    """An hour, or its part, in seconds since 1970. slot: of the week by the clock on the wall, 0 = Monday from 0 to 1."""

    begin: float
    end: float
    slot: int


def forecast(spent: int, begin: float, now: float, end: float) -> int:
    """By the share of the time that has passed. Never less than what is spent."""
    passed, whole = _micros(now - begin), _micros(end - begin)
    return max(spent, spent * whole // passed) if 0 < passed < whole else spent


def by_hours(spent: int, now: float, hours: Sequence[Hour], weights: Sequence[int]) -> int:
    """By what the hours of the week weigh (`weigh`): what is spent on a Friday counts for less when Saturdays are quiet. hours: all of
    the period. Never less than what is spent."""
    passed = whole = 0
    for begin, end, slot in hours:
        long = _micros(end - begin)
        gone = min(max(0, _micros(now - begin)), long)
        passed += weights[slot] * gone
        whole += weights[slot] * long
    if not passed:  # nothing was to be expected yet
        return forecast(spent, hours[0].begin, now, hours[-1].end)
    return max(spent, spent * whole // passed) if passed < whole else spent


def weigh(spent: Mapping[int, int], hours: Iterable[Hour]) -> tuple[int, ...]:
    """What each hour of the week weighs: the mean of such hours. spent: by slot, in these hours."""
    counts = Counter(hour.slot for hour in hours)
    weights = tuple(spent.get(slot, 0) // counts[slot] if counts[slot] else 0 for slot in range(WEEK))
    return weights if any(weights) else EVEN


@lru_cache(64)
def hours_of(begin: float, end: float, zone: tzinfo) -> tuple[Hour, ...]:
    """The hours of a period. On days when clocks change one is there twice, or not at all."""
    hours, at = [], begin
    while at < end:
        local = datetime.fromtimestamp(at, zone)
        until = min(end, at + 3600 - local.minute * 60 - local.second - local.microsecond / 1e6)
        hours.append(Hour(at, until, local.weekday() * 24 + local.hour))
        at = until
    return tuple(hours)


def _micros(seconds: float) -> int:
    return round(seconds * 1_000_000)

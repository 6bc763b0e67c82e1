"""Is a schedule open, and when does that change? By the clock on the wall of its zone; the time is an argument.

A skipped hour is not there, so hours inside it are never open; an hour that comes twice counts twice. Hours across midnight
belong to the day that they begin on, holidays included. A date's own hours take the place of that day's weekly ones.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from gateway.config import resolved_when as form
from gateway.config.hours import DAY, DAYS, zone_of

Spans = tuple[tuple[int, int], ...]
"""Hours of one day, in minutes after its midnight; an end may lie in the next day."""

_WEEK: Final = 9
"""Days after which nothing new can happen, when no date is left to come."""


class Schedule:
    """One schedule, its zone loaded. Its answers depend on its arguments alone."""

    __slots__ = ("_dated", "_holidays", "_last", "_minute", "_weekly", "_zone", "zone")

    def __init__(self, schedule: form.Schedule) -> None:
        """Raises ValueError when the zone is not known (any more)."""
        self.zone = schedule.zone
        self._zone = zone_of(schedule.zone)
        self._weekly: tuple[Spans, ...] = tuple(
            tuple((hours.begin, hours.end) for hours in schedule.hours if not hours.first and hours.days >> day & 1) for day in range(7)
        )
        self._dated = tuple(hours for hours in schedule.hours if hours.first)
        self._holidays = schedule.holidays
        self._last = max((last for _, last in (*schedule.holidays, *((h.first, h.last) for h in self._dated))), default=0)
        self._minute: tuple[float, bool] = (-1.0, False)

    def open_at(self, unix: float) -> bool:
        """Whether it is open at this moment, in seconds since 1970. Within one minute nothing changes, so the last one is remembered."""
        minute = unix // 60
        known = self._minute
        if known[0] == minute:
            return known[1]
        found = self._open(minute * 60)
        self._minute = (minute, found)
        return found

    def next_change(self, unix: float) -> float | None:
        """When it next opens or closes, later than `unix`; None = never again."""
        state = self._open(unix)
        today = datetime.fromtimestamp(unix, self._zone).toordinal()
        for day in range(today, max(today, self._last) + _WEEK):
            for moment in sorted(self._moments(day)):
                if moment > unix and self._open(moment) != state:
                    return moment
        return None

    def told(self, unix: float) -> str:
        """`closed until Mon 2026-11-23 09:00 (Asia/Shanghai)`."""
        change = self.next_change(unix)
        until = " for good" if change is None else f" until {self._clock(change)}"
        return f"{'open' if self._open(unix) else 'closed'}{until} ({self.zone})"

    def _clock(self, unix: float) -> str:
        local = datetime.fromtimestamp(unix, self._zone)
        return f"{DAYS[local.weekday()]} {local:%Y-%m-%d %H:%M}"

    def _open(self, unix: float) -> bool:
        local = datetime.fromtimestamp(unix, self._zone)
        day, minute = local.toordinal(), local.hour * 60 + local.minute
        return any(begin <= minute < end for begin, end in self._spans(day)) or any(minute + DAY < end for _, end in self._spans(day - 1))

    def _spans(self, day: int) -> Spans:
        dated = tuple((hours.begin, hours.end) for hours in self._dated if hours.first <= day <= hours.last)
        if dated:
            return dated
        if any(first <= day <= last for first, last in self._holidays):
            return ()
        return self._weekly[(day - 1) % 7]

    def _moments(self, day: int) -> Iterator[float]:
        """Every moment of a day at which something may change: its hours' ends, its midnight, and changes of the clocks. Ends in the next
        day are that day's: it may have a change of the clocks before them."""
        midnight = datetime.fromordinal(day)
        ours = (minute for span in self._spans(day) for minute in span if minute <= DAY)
        walls = {0, *ours, *(end - DAY for _, end in self._spans(day - 1))}
        for minute in walls:
            wall = (midnight + timedelta(minutes=minute)).replace(tzinfo=self._zone)
            yield wall.timestamp()
            yield wall.replace(fold=1).timestamp()
        begin = midnight.replace(tzinfo=self._zone).timestamp()
        change = self._clocks_change(begin, begin + 86400)
        if change is not None:
            yield change

    def _clocks_change(self, early: float, late: float) -> float | None:
        """The moment between two, to the minute, at which the clocks are put forward or back."""
        before = self._offset(early)
        if self._offset(late) == before:
            return None
        low, high = int(early // 60), int(late // 60)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._offset(middle * 60) == before else (low, middle)
        return high * 60.0

    def _offset(self, unix: float) -> timedelta | None:
        return datetime.fromtimestamp(unix, self._zone).utcoffset()


def compile_schedule(schedule: form.Schedule) -> Schedule:
    """A schedule with its zone loaded. Raises ValueError when the zone is not known (any more)."""
    return Schedule(schedule)

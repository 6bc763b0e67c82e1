"""The text of schedules: `Mon-Fri 09:00-18:00`, `2027-01-01`, a zone's name. Every error says what to write instead."""

import re
from datetime import UTC, date, timedelta, timezone, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from gateway.config.resolved_when import Hours

DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
DAY: Final = 1440
"""Minutes of a day without a change of the clocks."""
_LONGEST: Final = 366
_ENTRY_MOST: Final = 100
_EXAMPLES: Final = 'write "Mon-Fri 09:00-18:00", "Sat,Sun", "09:00-18:00" or "2027-05-01 10:00-14:00"'
_entry = re.compile(r"(?P<days>[^\s:,]+(?:,\s*[^\s:,]+)*)?(?:(?:^|\s+)(?P<times>\S*:\S*))?\Z")
_times = re.compile(r"([0-9]{1,2}):([0-9]{2})-([0-9]{1,2}):([0-9]{2})\Z")
_date = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
_datelike = re.compile(r"[0-9]{2,}[-/.]")
_offset = re.compile(r"([+-])([01][0-9]):([0-5][0-9])\Z")


def hours_of(text: str) -> Hours:
    """One entry of a schedule's `when`. Raises ValueError: what is wrong, and after `; ` what to write."""
    found = _entry.match(text.strip())
    if found is None or not text.strip() or len(text) > _ENTRY_MOST:
        raise ValueError(f"is not a day with hours; {_EXAMPLES}")
    begin, end = _span(found["times"]) if found["times"] else (0, DAY)
    days = found["days"]
    if days is None:
        return Hours(begin, end, 127)
    if _datelike.match(days):
        first, last = dates_of(days)
        return Hours(begin, end, 0, first, last)
    return Hours(begin, end, _days(days))


def dates_of(text: str) -> tuple[int, int]:
    """`2027-02-06` or `2027-02-06..2027-02-12`, as the first and the last ordinal. Raises ValueError as `hours_of` does."""
    first, dots, last = text.partition("..")
    begin = _day(first)
    end = _day(last) if dots else begin
    if end < begin:
        raise ValueError("ends before it begins; the earlier date comes first")
    if end - begin >= _LONGEST:
        raise ValueError("is longer than a year; write one range for each year")
    return begin, end


def zone_of(name: str) -> tzinfo:
    """The zone of a name. Raises ValueError that tells a name nobody knows from a machine that knows none."""
    if name == "UTC":
        return UTC
    if found := _offset.match(name):
        away = timedelta(hours=int(found[2]), minutes=int(found[3]))
        return timezone(away if found[1] == "+" else -away)
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        pass
    if not available_timezones():
        raise ValueError(
            "this machine has no time zone database (/usr/share/zoneinfo); "
            'install the package tzdata, or write the offset from UTC: "+08:00"'
        )
    raise ValueError(f'there is no time zone "{name[:64]}"')


def _span(text: str) -> tuple[int, int]:
    found = _times.match(text)
    if found is None:
        raise ValueError(f"has hours that are none; {_EXAMPLES}")
    h1, m1, h2, m2 = map(int, found.groups())
    begin, end = h1 * 60 + m1, h2 * 60 + m2
    if max(m1, m2) > 59 or begin >= DAY or end > DAY:
        raise ValueError("names a time that no clock shows; 00:00 to 23:59, and 24:00 as an end")
    if begin == end:
        raise ValueError("begins and ends at the same time; for the whole day leave the hours out")
    return begin, end if end > begin else end + DAY


def _days(text: str) -> int:
    mask = 0
    for piece in text.split(","):
        first, dash, last = piece.strip().partition("-")
        begin = _weekday(first)
        end = _weekday(last) if dash else begin
        for step in range((end - begin) % 7 + 1):
            mask |= 1 << (begin + step) % 7
    return mask


def _weekday(text: str) -> int:
    short = text[:3].capitalize()
    if short not in DAYS or text.lower() not in (short.lower(), _LONG[short]):
        raise ValueError(f'has a day that is none: "{text[:20]}"; write Mon, Tue, Wed, Thu, Fri, Sat, Sun, or a date like 2027-05-01')
    return DAYS.index(short)


_LONG: Final = dict(zip(DAYS, "monday tuesday wednesday thursday friday saturday sunday".split(), strict=True))


def _day(text: str) -> int:
    if not _date.match(text):
        raise ValueError("is not a date; write 2027-01-01, or 2027-02-06..2027-02-12 for several days")
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise ValueError("is a date that no calendar has; check the month and the day") from None
    if not 2000 <= day.year <= 2199:
        raise ValueError("is far from today; write a year from 2000 to 2199")
    return day.toordinal()

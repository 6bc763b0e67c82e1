"""What is wrong with the name of a time zone, and what was meant."""

import re
from collections.abc import Iterator

from gateway.config.hours import zone_of
from gateway.config.marks import Loc
from gateway.config.read import Reading
from gateway.config.wording import nearest
from gateway.errors import Mistake

_offset_as_written = re.compile(r"(?i:UTC|GMT)? ?([+-])([0-9]{1,2})(?::?([0-5][0-9]))?\Z")


def zone_mistakes(zone: str, at: Loc, reading: Reading) -> Iterator[Mistake]:
    """Of the name of a zone."""
    try:
        zone_of(zone)
    except ValueError as error:
        message, _, hint = str(error).partition("; ")
        yield reading.marks.at(at, message, hint or _zone_hint(zone))


def _zone_hint(zone: str) -> str:
    """What was meant by a zone that there is not. Of an abbreviation nothing is guessed: CST is Shanghai's, Chicago's and Havana's."""
    from zoneinfo import available_timezones

    known = available_timezones()
    if offset := _offset_as_written.match(zone):
        return f'did you mean "{offset[1]}{int(offset[2]):02}:{offset[3] or "00"}"?'
    if other := next((name for name in known if name.casefold() == zone.casefold()), None):
        return f'did you mean "{other}"?'
    abbreviated = len(zone) <= 5 and zone.isupper()
    return (None if abbreviated else nearest(zone, known)) or 'write a name like Asia/Shanghai, UTC, or an offset like "+08:00"'

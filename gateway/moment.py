"""Waits that have an end, and the time of day as answers tell it."""

import asyncio
import time
from email.utils import formatdate
from functools import lru_cache
from typing import Final

EARLY: Final = 0.25
"""Of the time between two strokes: one that is nearer than this is the one that has just woken us, or is not worth a waking of its own."""


async def comes(event: asyncio.Event, within: float | None) -> bool:
    """Whether it is set within so many seconds; None = it is waited for without end."""
    try:
        async with asyncio.timeout(within):
            return await event.wait()
    except TimeoutError:
        return False


async def stroke(every: float) -> None:
    """The next stroke of a clock that strikes each `every` seconds, for all tasks and all processes of the machine at once: what recurs is
    done in one waking instead of one each, since a waking costs more than most of what recurs. A quarter early or late at the end of
    work that took longer."""
    await asyncio.sleep(until_stroke(every, time.monotonic()))


def until_stroke(every: float, now: float) -> float:
    """Seconds. now: monotonic, which all processes of a machine share."""
    left = every - now % every
    return left if left > every * EARLY else left + every


def date_line() -> bytes:
    """The header line `Date`, which RFC 9110 (6.6.1) demands of whoever has a clock."""
    return _date_of(int(time.time()))


@lru_cache(maxsize=2)
def _date_of(second: int) -> bytes:
    return b"Date: %b\r\n" % formatdate(second, usegmt=True).encode()

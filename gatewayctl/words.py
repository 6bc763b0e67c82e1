"""Times and sizes as people say them, and as they write them in options. Decides nothing."""

import re
import time
from datetime import datetime
from typing import Final

_SECONDS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_duration = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def ago(ts: float | None, now: float | None = None) -> str | None:
    """Unix seconds → `3 min ago`."""
    return None if not ts else f"{span((time.time() if now is None else now) - ts)} ago"


def span(seconds: float) -> str:
    """`12 s`, `3 min`, `5 h`, `12 days`: one unit, rounded down."""
    seconds = max(0.0, seconds)
    for most, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < most:
            return f"{int(seconds // unit)} {name}"
    return f"{int(seconds // 86400)} days"


def moment(ts: float | None) -> str | None:
    """Unix seconds → local date and time."""
    return None if not ts else datetime.fromtimestamp(ts).astimezone().isoformat(sep=" ", timespec="seconds")


def clock(ts: float | None) -> str | None:
    """Unix seconds → local time of today, with the date when it is another day."""
    if not ts:
        return None
    at = datetime.fromtimestamp(ts)
    return at.strftime("%H:%M:%S" if at.date() == datetime.now().date() else "%m-%d %H:%M:%S")


def size(count: float | None) -> str | None:
    """Bytes → `1.5 MiB`."""
    if count is None:
        return None
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def millis(ms: float | None) -> str | None:
    """Milliseconds → `12 ms`, `3.4 s`, `2 min`."""
    if not ms:
        return None
    if ms < 1000:
        return f"{ms:.0f} ms"
    return f"{ms / 1000:.1f} s" if ms < 120_000 else f"{ms / 60_000:.0f} min"


def plural(count: int, one: str, many: str = "") -> str:
    """`1 key`, `2 keys`."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def since(text: str, now: float) -> float:
    """`10m`, `1h30m` or `2026-11-22T18:00` → Unix seconds. Raises ValueError."""
    if re.fullmatch(rf"(?:{_duration.pattern})+", text):
        return now - sum(float(number) * _SECONDS[unit] for number, unit in _duration.findall(text))
    return datetime.fromisoformat(text).timestamp()

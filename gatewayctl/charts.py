"""Bars and lines of bars in text, and numbers as people read them. Decides nothing."""

import sys
from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final

EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
LEVELS: Final = "▁▂▃▄▅▆▇█"
PLAIN_LEVELS: Final = ".:-=+*#@"


def blocks() -> bool:
    """Whether stdout can show them."""
    try:
        "▏█▁".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def bar(share: float | None, width: int = 10) -> str:
    """A share from 0 to 1; what is above nothing shows at least a trace."""
    if not share or share < 0:
        return ""
    eighths = max(1, round(min(1.0, share) * width * 8))
    if not blocks():
        return "#" * max(1, round(eighths / 8))
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (EIGHTHS[rest] if rest else "")


def spark(values: Sequence[float]) -> str:
    """One character a value, the largest the highest; nothing is a blank."""
    most = max(values, default=0)
    levels = LEVELS if blocks() else PLAIN_LEVELS
    if most <= 0:
        return ""
    return "".join(" " if value <= 0 else levels[min(7, int(value / most * 7.999))] for value in values)


def count(number: Any) -> str | None:
    """`1,234,567`."""
    return None if number is None else f"{number:,}"


def percent(share: float | None) -> str | None:
    """`12.3%`, `<0.1%`."""
    if share is None:
        return None
    return "<0.1%" if 0 < share < 0.001 else f"{share * 100:.1f}%"


def change(part: float | None) -> str | None:
    """`+12%`, `×3.4`; None: there was nothing to compare with."""
    if part is None:
        return "new"
    return f"×{part + 1:.1f}" if part >= 2 else f"{part * 100:+.0f}%"


def money(text: str | None) -> str | None:
    """An exact amount, rounded for reading: two digits after the point, of small amounts the first two that say something."""
    if text is None:
        return None
    amount = Decimal(text)
    digits = 2 if not amount or abs(amount) >= 1 else min(9, 1 - amount.adjusted())
    return f"{amount.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_EVEN):,f}"


def rate(number: float | None) -> str | None:
    return None if number is None else f"{number:.0f}" if number >= 10 else f"{number:.1f}"

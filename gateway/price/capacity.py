"""What own hardware costs, whoever uses it: its price per hour shared out to those who used it, and what stood idle as its own line.

Exact: the shares and the idle line together are the whole, to the last nano (what is left over by rounding goes to the largest
remainders).
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gateway.price.entry import rounded

HOUR = 3_600_000_000
"""In microseconds."""
MILLION = 1_000_000


class Used(NamedTuple):
    """What one request, or one tenant's together, used: microseconds of engine time and tokens."""

    micros: int
    tokens: int


class Shares(NamedTuple):
    """In nanos. parts: of each, in their order. whole: what the time cost, parts and idle together. per_million: what a million tokens
    came to with idle time, busy_per_million: without it; None = there were no tokens."""

    whole: int
    parts: list[int]
    idle: int
    per_million: int | None
    busy_per_million: int | None


def shares(per_hour: int, micros: int, busy: int, uses: Sequence[Used]) -> Shares:
    """per_hour: nanos. micros: how long the hardware was there. busy: of that, how long it had something to do (`busy_time`).

    What was busy is shared by engine time; by tokens, when no time is known, and then nothing is called idle."""
    whole = rounded(per_hour * micros, HOUR)
    weights = [use.micros for use in uses]
    idle = rounded(whole * (micros - min(busy, micros)), micros) if micros else 0
    if not any(weights):
        weights = [use.tokens for use in uses]
        idle = 0 if any(weights) else whole
    tokens = sum(use.tokens for use in uses)
    parts = split(whole - idle, weights) if any(weights) else [0] * len(weights)
    idle = whole - sum(parts)
    if not tokens:
        return Shares(whole, parts, idle, None, None)
    return Shares(whole, parts, idle, rounded(whole * MILLION, tokens), rounded((whole - idle) * MILLION, tokens))


def split(whole: int, weights: Sequence[int]) -> list[int]:
    """Parts in proportion to the weights, whose sum is the whole: what rounding leaves goes to the largest remainders, then to the first.

    At least one weight is above zero."""
    total = sum(weights)
    parts = [whole * weight // total for weight in weights]
    left = whole - sum(parts)
    if left:
        by_rest = sorted(range(len(weights)), key=lambda number: -(whole * weights[number] % total))
        for number in by_rest[:left]:
            parts[number] += 1
    return parts


def busy_time(spans: Iterable[tuple[int, int]], begin: int, end: int) -> int:
    """How much of a time at least one request was there, in the unit of the spans: requests at the same time count once."""
    busy, reached = 0, begin
    for first, last in sorted(spans):
        first, last = max(first, reached), min(last, end)
        if last > first:
            busy += last - first
            reached = last
    return busy

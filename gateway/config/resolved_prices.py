"""The compact form of prices. Money is in whole thousand-millionths (nanos) of its currency, never a float. No I/O here."""

from typing import Final

from msgspec import Struct

NANO: Final = 1_000_000_000
UNSAID: Final = -1
"""In place of a price that is not written."""
PARTS: Final = 1_000_000
"""Discounts are counted in millionths of the whole."""


class Tier(Struct, frozen=True, array_like=True, gc=False):
    """Prices when the prompt has more than `over` tokens; UNSAID = as in the price around it."""

    over: int
    input: int = UNSAID
    cached: int = UNSAID
    output: int = UNSAID
    reasoning: int = UNSAID


class Price(Struct, frozen=True, array_like=True):
    """One entry. model or channel: a glob, the other is "". begins: seconds since 1970, 0 = always. per: how many tokens cost `input` …"""

    model: str
    channel: str
    currency: str
    begins: float = 0.0
    per: int = 1_000_000
    input: int = UNSAID
    cached: int = UNSAID
    output: int = UNSAID
    reasoning: int = UNSAID
    request: int = UNSAID
    second: int = UNSAID
    tiers: tuple[Tier, ...] = ()
    during: str = ""
    outside: str = ""


class Currencies(Struct, frozen=True, kw_only=True):
    """rates: nanos of the base currency that one of another is worth. base "" = no rates are known."""

    base: str = ""
    rates: dict[str, int] = {}


class Cost(Struct, frozen=True, kw_only=True):
    """Of a channel's hardware."""

    per_hour: int
    currency: str

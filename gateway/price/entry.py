"""One price, made ready to be multiplied: tiers, defaults and discounts. Whole numbers; rounded once, half to even, to a nano."""

import hashlib
from collections.abc import Callable
from decimal import Decimal
from typing import Final, NamedTuple

import msgspec

from gateway.config.resolved_prices import PARTS, UNSAID, Price

MICROS: Final = 1_000_000
"""In a second."""
Open = Callable[[float], bool]
"""Whether a schedule is open at a moment, in seconds since 1970."""


Charges = tuple[int, int, int, int]
"""Of input, cached, output and reasoning tokens; below zero = nothing is said of them."""


class Use(NamedTuple):
    """What one request used. cached is part of input, reasoning part of output. micros: millionths of a second that it took."""

    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0
    micros: int = 0


class Priced(NamedTuple):
    """An amount in nanos of its currency. rev: which price, with which discount; another digest when any of it changes."""

    nanos: int
    currency: str
    rev: str

    @property
    def amount(self) -> Decimal:
        return Decimal(self.nanos).scaleb(-9)


class Entry:
    """A price of the configuration. hours: when it counts; None = always."""

    __slots__ = ("_more", "_per", "_plain", "_revs", "_tiers", "begins", "by_tokens", "currency", "hours", "price", "timed")

    def __init__(self, price: Price, hours: Open | None) -> None:
        self.price = price
        self.hours = hours
        self.begins = price.begins
        self.currency = price.currency
        own = (price.input, price.cached, price.output, price.reasoning)
        tiers = [(tier.over, (tier.input, tier.cached, tier.output, tier.reasoning)) for tier in price.tiers]
        self.by_tokens = any(amount != UNSAID for charges in (own, *(said for _, said in tiers)) for amount in charges)
        """Otherwise tokens are in the price of the request or of its time."""
        self._plain = _complete(own, own, self.by_tokens)
        self._tiers = [(over, _complete(said, own, self.by_tokens)) for over, said in reversed(tiers)]
        self.timed = price.second > 0
        """Whether the time that a request takes costs something."""
        self._per = price.per
        self._more = price.request > 0 or price.second > 0
        """Whether a request or its time costs something besides its tokens."""
        self._revs: dict[int, str] = {}

    def rev(self, discount: int) -> str:
        found = self._revs.get(discount)
        if found is None:
            digest = hashlib.sha256(msgspec.msgpack.encode((self.price, discount))).hexdigest()
            found = self._revs[discount] = digest[:12]
        return found

    def priced(self, use: Use, discount: int = 0) -> Priced | None:
        """discount: in millionths of the whole. None: something was used that this price says nothing of."""
        nanos = self.nanos(use, discount)
        return None if nanos is None else Priced(nanos, self.currency, self.rev(discount))

    def nanos(self, use: Use, discount: int = 0) -> int | None:
        """As `priced`."""
        input, cached, output, reasoning, micros = use
        for_input, for_cached, for_output, for_reasoning = self.tier(input)
        if (for_input < 0 and input) or (for_output < 0 and output):
            return None
        if cached > input:
            cached = input
        if reasoning > output:
            reasoning = output
        whole = (input - cached) * for_input + cached * for_cached + (output - reasoning) * for_output + reasoning * for_reasoning
        parts = self._per
        if self._more:
            price = self.price
            whole = whole * MICROS + parts * (max(0, price.request) * MICROS + max(0, price.second) * micros)
            parts *= MICROS
        if discount:
            whole *= PARTS - discount
            parts *= PARTS
        return rounded(whole, parts)

    def tier(self, input: int) -> Charges:
        """For a prompt of so many tokens."""
        for over, charges in self._tiers:
            if input > over:
                return charges
        return self._plain

    def estimate(self, input: int, output: int, discount: int) -> Priced | None:
        """Before it is known: nothing is cached, all of the answer may be reasoning, and time that costs anything costs something."""
        _, _, for_output, for_reasoning = self.tier(input)
        found = self.priced(Use(input, 0, output, output if for_reasoning > for_output else 0), discount)
        if found is not None and not found.nanos and self.price.second > 0 and discount < PARTS:
            return found._replace(nanos=1)
        return found


def _complete(said: tuple[int, ...], own: tuple[int, ...], by_tokens: bool) -> Charges:
    """What a tier does not say is as in the price around it; cached tokens cost as input, reasoning as output."""
    if not by_tokens:
        return 0, 0, 0, 0
    input, cached, output, reasoning = (mine if mine != UNSAID else other for mine, other in zip(said, own, strict=True))
    return input, input if cached == UNSAID else cached, output, output if reasoning == UNSAID else reasoning


def rounded(whole: int, parts: int) -> int:
    """whole / parts to the nearest whole number, a half to the even one."""
    found, rest = divmod(whole, parts)
    rest *= 2
    return found + 1 if rest > parts or (rest == parts and found & 1) else found

"""What a record comes to: for the caller, and for us. Refused and failed requests cost nothing; what nobody counted is unknown."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from gateway.price.book import PriceBook
from gateway.price.entry import Entry, Priced, Use

NOTHING: Final = Priced(0, "", "")
"""Of a request that was refused, or that no engine answered: known, and free."""
FREE_APIS: Final = frozenset({"tokenize", "models"})


class Fact(NamedTuple):
    """What a record says that matters here. model: as the caller wrote it. read, queue, total: its milliseconds."""

    api: str
    model: str
    channel: str
    tenant: str
    status: int
    source: str
    input: int
    cached: int
    output: int
    reasoning: int
    read: float
    queue: float
    total: float
    ts: float
    attempts: str | bytes | msgspec.Raw | None = None
    """JSON, when there were several."""


class Part(NamedTuple):
    """What one attempt at an engine used."""

    channel: str
    use: Use


class _Tokens(msgspec.Struct, gc=False):
    input: int | None = msgspec.field(default=0, name="in")
    cached: int | None = 0
    out: int | None = 0
    reasoning: int | None = 0


class _Attempt(msgspec.Struct, gc=False):
    channel: str | None = ""
    ms: float | None = 0.0
    tokens: _Tokens | None = None


_attempts: Final = msgspec.json.Decoder(list[_Attempt])


class Bill(NamedTuple):
    """price: what the caller pays. cost: what the channel costs by its own price. None = unknown, which is not 0."""

    price: Priced | None
    cost: Priced | None


Nanos = tuple[int | None, int | None]
"""As in Bill."""


class Till:
    """What requests of one kind at one moment come to, by what they used."""

    __slots__ = ("_cost", "_discount", "_fixed", "_price", "timed")

    def __init__(self, price: Entry | None, discount: int, cost: Entry | None, fixed: Nanos | None = None) -> None:
        """discount: in millionths of the whole. fixed: they come to this, whatever they used."""
        self._price, self._discount, self._cost, self._fixed = price, discount, cost, fixed
        self.timed = (price is not None and price.timed) or (cost is not None and cost.timed)
        """Whether the time that a request took matters."""

    @property
    def price(self) -> tuple[str, str]:
        """Revision and currency of what the caller pays by."""
        price = self._price
        return ("", "") if price is None else (price.rev(self._discount), price.currency)

    @property
    def cost(self) -> tuple[str, str]:
        """Of what it costs us by."""
        cost = self._cost
        return ("", "") if cost is None else (cost.rev(0), cost.currency)

    def nanos(self, use: Use) -> Nanos:
        """Of what the caller pays, and of what it costs us."""
        if self._fixed is not None:
            return self._fixed
        price, cost = self._price, self._cost
        return None if price is None else price.nanos(use, self._discount), None if cost is None else cost.nanos(use)

    def bill(self, use: Use) -> Bill:
        price, cost = self.nanos(use)
        rev, currency = self.price
        engine_rev, engine_currency = self.cost
        return Bill(
            None if price is None else Priced(price, currency, rev), None if cost is None else Priced(cost, engine_currency, engine_rev)
        )


_FREE: Final = Till(None, 0, None, (0, 0))
_UNKNOWN: Final = Till(None, 0, None, (None, None))


def till(book: PriceBook, api: str, model: str, channel: str, tenant: str, status: int, source: str, ts: float) -> Till:
    """As in `Fact`, but status as `paid_as` has it. The caller pays once, for what the final answer used, however many attempts it took;
    what others cost us: `together`."""
    if is_free(api, status, source, 0):
        return _FREE
    price = book.entry(model, channel, ts)
    if source == "none" and price is not None and price.by_tokens:
        return _UNKNOWN
    return Till(price, book.discount(tenant), book.engine(channel, ts))


def bill(book: PriceBook, fact: Fact) -> Bill:
    api, model, channel, tenant, status, source, input, cached, output, reasoning, read, queue, total, ts, attempts = fact
    found = till(book, api, model, channel, tenant, paid_as(status, output), source, ts)
    made = found.bill(Use(input, cached, output, reasoning, micros(read, queue, total) if found.timed else 0))
    parts = parts_of(attempts) if attempts else []
    return made._replace(cost=together(book, parts, ts)) if parts else made


def paid_as(status: int, output: int) -> int:
    """A stream whose caller left, or that an operator ended, has a status like a refused request, but output that was delivered and is
    paid for like any other."""
    return 200 if status >= 400 and output else status


def parts_of(attempts: str | bytes | msgspec.Raw) -> list[Part]:
    """attempts: JSON, of a record. Those that say what they used: they do when several engines had a part in one answer."""
    parts = []
    for one in _attempts.decode(attempts):
        tokens = one.tokens
        if tokens is not None:
            use = Use(tokens.input or 0, tokens.cached or 0, tokens.out or 0, tokens.reasoning or 0, int((one.ms or 0.0) * 1000))
            if use.input or use.output:
                parts.append(Part(one.channel or "", use))
    return parts


def together(book: PriceBook, parts: Sequence[Part], ts: float) -> Priced | None:
    """What all attempts cost us. None: of one nobody knows it, or they cost different currencies."""
    found = [book.cost(part.channel, part.use, ts) for part in parts]
    known = [one for one in found if one is not None]
    if len(known) < len(found) or len({one.currency for one in known}) != 1:
        return None
    return Priced(sum(one.nanos for one in known), known[0].currency, "")


def is_free(api: str, status: int, source: str, output: int) -> bool:
    """Whether nobody pays: it was refused, no engine answered, its worker died before anything was counted, or it only counts tokens
    or lists models."""
    return paid_as(status, output) >= 400 or (not status and source == "none") or api in FREE_APIS


def micros(read: float, queue: float, total: float) -> int:
    """Millionths of a second that are paid for, from a record's milliseconds: from the request's last byte to the answer's, without
    waiting in a queue."""
    return max(0, round(total * 1000) - round(read * 1000) - round(queue * 1000))

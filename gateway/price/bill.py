"""What a record comes to: for the caller, and for us. Refused and failed requests cost nothing; what nobody counted is unknown."""

from typing import Final, NamedTuple

from gateway.price.book import PriceBook
from gateway.price.entry import Priced, Use

NOTHING: Final = Priced(0, "", "")
"""Of a request that was refused, or that no engine answered: known, and free."""
FREE_APIS: Final = frozenset({"tokenize"})


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


class Bill(NamedTuple):
    """price: what the caller pays. cost: what the channel costs by its own price. None = unknown, which is not 0."""

    price: Priced | None
    cost: Priced | None


_NOTHING: Final = Bill(NOTHING, NOTHING)


def bill(book: PriceBook, fact: Fact) -> Bill:
    """The caller pays once, for what the final answer used, however many attempts it took."""
    api, model, channel, tenant, status, source, input, cached, output, reasoning, read, queue, total, ts = fact
    if is_free(api, status, source, output):
        return _NOTHING
    use = Use(input, cached, output, reasoning, micros(read, queue, total))
    if source == "none" and _by_tokens(book, model, channel, ts):
        return Bill(None, None)
    return Bill(book.price(model, channel, tenant, use, ts), book.cost(channel, use, ts))


def is_free(api: str, status: int, source: str, output: int) -> bool:
    """Whether nobody pays: it was refused, no engine answered, its worker died before anything was counted, or it only counts tokens.
    A stream whose caller left, or that an operator ended, has a status like a refused request, but output that was delivered."""
    return (status >= 400 and not output) or (not status and source == "none") or api in FREE_APIS


def _by_tokens(book: PriceBook, model: str, channel: str, ts: float) -> bool:
    entry = book.entry(model, channel, ts)
    return entry is not None and entry.by_tokens


def micros(read: float, queue: float, total: float) -> int:
    """Millionths of a second that are paid for, from a record's milliseconds: from the request's last byte to the answer's, without
    waiting in a queue."""
    return max(0, round(total * 1000) - round(read * 1000) - round(queue * 1000))

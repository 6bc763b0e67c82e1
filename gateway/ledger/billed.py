"""Lines of the journal with what each request comes to written into them, for DuckDB to read both at once."""

import msgspec

from gateway.ledger.pricing import LARGEST
from gateway.price.bill import Fact, Till, bill, is_free, micros, paid_as, till
from gateway.price.book import PriceBook
from gateway.price.entry import Use


class _Tokens(msgspec.Struct, frozen=True, gc=False):
    input: int = msgspec.field(default=0, name="in")
    cached: int = 0
    out: int = 0
    reasoning: int = 0


class _Millis(msgspec.Struct, frozen=True, gc=False):
    read: float = 0.0
    queue: float = 0.0
    total: float = 0.0


_NO_TOKENS, _NO_MILLIS = _Tokens(), _Millis()


class _Line(msgspec.Struct, gc=False):
    """What a price turns on, of a record."""

    ts: float
    api: str = ""
    model: str = ""
    channel: str = ""
    tenant: str = ""
    status: int = 0
    source: str = ""
    tokens: _Tokens = _NO_TOKENS
    ms: _Millis = _NO_MILLIS
    attempts: msgspec.Raw = msgspec.Raw(b"")


class _Kind(msgspec.Struct, gc=False):
    """What makes a request free, of a record."""

    api: str = ""
    status: int = 0
    source: str = ""


_decoder = msgspec.json.Decoder(_Line)
_kinds = msgspec.json.Decoder(_Kind)


class _Form:
    """How the ends of lines look whose prices are these. till: of the caller's kind and moment."""

    __slots__ = ("_both", "_cost", "_price", "nanos", "timed")

    def __init__(self, till: Till) -> None:
        word = msgspec.json.encode
        self.nanos, self.timed = till.nanos, till.timed
        price = b'"rev":%b,"currency":%b,"nanos":' % (word(till.price[0]), word(till.price[1]))
        cost = b'"engine_currency":%b,"engine_nanos":' % word(till.cost[1])
        self._price, self._cost = (one.replace(b"%", b"%%") + b"%d" for one in (price, cost))
        self._both = b',"bill":{' + self._price + b"," + self._cost + b"}}\n"

    def end(self, use: Use) -> bytes:
        """What follows a line without its last brace."""
        price, cost = self.nanos(use)
        if price is not None and cost is not None and price < LARGEST and cost < LARGEST:
            return self._both % (price, cost)
        said = [form % nanos for form, nanos in ((self._price, price), (self._cost, cost)) if nanos is not None and nanos < LARGEST]
        return b',"bill":{%b}}\n' % b",".join(said) if said else b"}\n"


def _several(book: PriceBook, one: _Line) -> bytes:
    """The end of a line on which several engines had a part in one answer."""
    tokens, ms = one.tokens, one.ms
    used = (tokens.input, tokens.cached, tokens.out, tokens.reasoning, ms.read, ms.queue, ms.total)
    price, cost = bill(book, Fact(one.api, one.model, one.channel, one.tenant, one.status, one.source, *used, one.ts, one.attempts))
    said: dict[str, str | int] = {}
    if price is not None and price.nanos < LARGEST:
        said.update(rev=price.rev, currency=price.currency, nanos=price.nanos)
    if cost is not None and cost.nanos < LARGEST:
        said.update(engine_currency=cost.currency, engine_nanos=cost.nanos)
    return b',"bill":%b}\n' % msgspec.json.encode(said) if said else b"}\n"


def billed(book: PriceBook, lines: bytes) -> tuple[bytes, int]:
    """The same lines with a field `bill` at their ends, as far as it is known, the same object when nothing is; and how many they are.
    lines: whole ones, each a JSON object. Raises MsgspecError, UnicodeDecodeError."""
    if book.empty:
        kinds = [(one.api, one.status, one.source) for one in _kinds.decode_lines(lines)]
        if not any(is_free(*kind, 0) for kind in set(kinds)):
            return lines, len(kinds)
    made = []
    forms: dict[tuple[str | float, ...], _Form] = {}
    moment = book.moment
    texts = lines.split(b"\n")
    for text, one in zip(texts, _decoder.decode_lines(lines), strict=False):
        tokens, ms = one.tokens, one.ms
        if b'"tokens"' in bytes(one.attempts):
            made.append(text[:-1] + _several(book, one))
            continue
        kind = (one.api, one.model, one.channel, one.tenant, paid_as(one.status, tokens.out), one.source, moment(one.ts))
        form = forms.get(kind)
        if form is None:
            form = forms[kind] = _Form(till(book, *kind[:6], one.ts))
        took = micros(ms.read, ms.queue, ms.total) if form.timed else 0
        made.append(text[:-1] + form.end(Use(tokens.input, tokens.cached, tokens.out, tokens.reasoning, took)))
    return b"".join(made), len(texts) - 1

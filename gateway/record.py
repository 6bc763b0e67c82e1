"""The record of a request, as it stands in the journal: one line of JSON, written when the request opens and when it is done."""

from typing import Final

import msgspec
from msgspec import Struct, field

VERSION = 1
"""Of the record. Changes when an old reader could misread a new record."""


class Tokens(Struct, omit_defaults=True, frozen=True):
    """LLM tokens. cached is part of input, reasoning part of output."""

    input: int = field(default=0, name="in")
    cached: int = 0
    output: int = field(default=0, name="out")
    reasoning: int = 0


NO_TOKENS: Final = Tokens()
"""Of a request that nothing was reserved for. One object, so that records leave it out."""


class Attempt(Struct, omit_defaults=True):
    """One try at an engine. kind: first, failover, fallback, continue. reason: why it failed, or `ok`. ms: how long it took.

    tokens: what it says of its own part, when several engines had a part in one answer. via: as the record's.
    """

    kind: str
    channel: str
    endpoint: str
    model: str
    reason: str = ""
    status: int = 0
    ms: float = 0.0
    tokens: Tokens = Tokens()
    via: str = ""


class Millis(Struct, omit_defaults=True, frozen=True):
    """Milliseconds since accept (read: body complete), or of the phase named."""

    read: float = 0.0
    queue: float = 0.0
    connect: float = 0.0
    first: float = 0.0
    total: float = 0.0


class Bytes(Struct, omit_defaults=True, frozen=True):
    """Bytes of the caller's body and of the answer's body."""

    input: int = field(default=0, name="in")
    output: int = field(default=0, name="out")


class Facts(Struct, omit_defaults=True, frozen=True):
    """What the request asked for, without its content. prompt_est: its tokens, when a decision turned on them."""

    max_tokens: int = 0
    tools: int = 0
    format: str = ""
    n: int = 0
    prompt_est: int = 0


NOTHING_SPECIAL: Final = Facts()
"""Of a request that asks for nothing worth telling."""


class Record(Struct, omit_defaults=True):
    """A journal line (DESIGN §5). kind: open (at dispatch) or done (at settle). ts: Unix seconds at accept.

    end: two letters, see `words.End`. source: where the token counts come from: final, continuous, counted, none.
    tpot: milliseconds per output token after the first. rule, policy: what decided. via: the virtual model whose targets served, when a
    rule or a fallback led to another than was asked for. reserved: tokens that limits set aside; none = unlimited. system: the calling
    application's name, as far as its key may tell it.
    """

    v: int
    kind: str
    id: str
    node: str
    slot: int
    rev: int
    ts: float
    tenant: str = ""
    project: str = ""
    key: str = ""
    ip: str = ""
    trace: str = ""
    api: str = ""
    model: str = ""
    rule: str = ""
    policy: str = ""
    stream: bool = False
    channel: str = ""
    endpoint: str = ""
    upstream_model: str = ""
    status: int = 0
    end: str = ""
    error: str = ""
    attempts: list[Attempt] = []
    tokens: Tokens = Tokens()
    source: str = ""
    ms: Millis = Millis()
    tpot: float = 0.0
    bytes: Bytes = Bytes()
    rewrites: list[str] = []
    facts: Facts = Facts()
    via: str = ""
    reserved: Tokens = NO_TOKENS
    system: str = ""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)


def encode_record(record: Record) -> bytes:
    """One NDJSON line, newline included."""
    return _encoder.encode(record) + b"\n"


def decode_record(line: bytes) -> Record:
    """Raises msgspec.MsgspecError on a torn or foreign line."""
    return _decoder.decode(line)

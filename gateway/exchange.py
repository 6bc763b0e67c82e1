"""One request and everything that is known of it. The log line, the journal record, the trace and the metrics are views of it.

Holds facts and arithmetic; never does I/O and never reads a clock: every moment is handed in (monotonic seconds).
"""

from typing import Any, Final

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


class Exchange(Struct, eq=False):
    """The working state of one request. Times are monotonic seconds; 0.0 = has not happened.

    A msgspec struct for its price: made in a fraction of a microsecond, however many fields it has.
    """

    id: str
    request_id: str
    snapshot: Any
    method: str
    path: str
    headers: Any
    ip: str
    accepted: float
    ts: float
    api: str = ""
    key: Any = None
    permit: Any = None
    system: str = ""
    body: bytes = b""
    body_bytes: int = 0
    fields: dict[str, msgspec.Raw] = {}
    model: str = ""
    virtual: Any = None
    stream: bool = False
    wants_usage: bool = False
    wants_continuous: bool = False
    rule: str = ""
    policy: str = ""
    via: str = ""
    channel: str = ""
    endpoint: str = ""
    upstream_model: str = ""
    attempts: list[Attempt] = []
    shaped: list[str] = []
    ticket: int = 0
    so_far: Any = None
    heard: Any = None
    """What the present engine has said, when its tokens may have to be counted (wire.heard.Heard)."""
    rewrites: list[str] = []
    tokens: Tokens = Tokens()
    source: str = "none"
    status: int = 0
    end: str = ""
    error: str = ""
    trace: str = ""
    facts: Facts = Facts()
    read: float = 0.0
    queued: float = 0.0
    in_queue: bool = False
    connected: float = 0.0
    first: float = 0.0
    out_bytes: int = 0
    opened: Record | None = None
    settled: bool = False
    progress: int = -1
    lease: Any = None
    reserved: Tokens = NO_TOKENS
    cut: Any = None
    """The Refusal with which it was ended before its time; None = it was not."""
    spared: bool = False
    """Its key was revoked, but it may end in peace."""

    def opening(self, node: str, slot: int, rev: int) -> Record:
        """The `open` line: what is known when the request is sent to an engine for the first time."""
        self.opened = self._record("open", node, slot, rev)
        return self.opened

    def closing(self, node: str, slot: int, rev: int, now: float) -> Record:
        """The `done` line: the whole account of the request. now: monotonic seconds."""
        record = self.opened or self._record("done", node, slot, rev)
        record.kind = "done"
        record.channel, record.endpoint, record.upstream_model = self.channel, self.endpoint, self.upstream_model
        record.rule, record.policy, record.via, record.facts = self.rule, self.policy, self.via, self.facts
        record.status, record.end, record.error = self.status, self.end, self.error
        record.attempts, record.tokens, record.source, record.rewrites = self.attempts, self.tokens, self.source, self.rewrites
        record.reserved = self.reserved
        accepted, read, connected, first = self.accepted, self.read, self.connected, self.first
        record.ms = Millis(
            _millis(read - accepted) if read else 0.0,
            _millis(self.queued) if self.queued else 0.0,
            _millis(connected - read) if connected else 0.0,
            _millis(first - accepted) if first else 0.0,
            _millis(now - accepted),
        )
        if self.stream:
            record.tpot = self.tpot(now)
        record.bytes = Bytes(self.body_bytes, self.out_bytes)
        return record

    def own_part(self) -> None:
        """The present attempt's tokens, when an earlier one has its own: then each has."""
        if len(self.attempts) > 1 and any(attempt.tokens != NO_TOKENS for attempt in self.attempts[:-1]):
            self.attempts[-1].tokens = self.tokens

    def tpot(self, now: float) -> float:
        """Milliseconds per output token after the first; 0.0 when there is no such token."""
        rest = self.tokens.output - 1
        return _millis((now - self.first) / rest) if self.first and rest > 0 and self.stream else 0.0

    def _record(self, kind: str, node: str, slot: int, rev: int) -> Record:
        key = self.key
        tenant, project, name = (key.tenant, key.project, key.id) if key is not None else ("", "", "")
        return Record(
            VERSION, kind, self.id, node, slot, rev, self.ts, tenant, project, name, self.ip, self.trace,
            self.api, self.model, self.rule, self.policy, self.stream, self.channel, self.endpoint, self.upstream_model,
            facts=self.facts, reserved=self.reserved, system=self.system,
        )  # fmt: skip


def _millis(seconds: float) -> float:
    return int(seconds * 1_000_000) / 1000

"""One request and everything that is known of it. The log line, the journal record, the trace and the metrics are views of it.

Holds facts and arithmetic; never does I/O and never reads a clock: every moment is handed in (monotonic seconds).
"""

from typing import Any

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


class Attempt(Struct, omit_defaults=True):
    """One try at an engine. kind: first, retry, failover. reason: why it failed (`ok` when it did not). ms: how long it took."""

    kind: str
    channel: str
    endpoint: str
    model: str
    reason: str = ""
    status: int = 0
    ms: float = 0.0


class Millis(Struct, omit_defaults=True, frozen=True):
    """Milliseconds since accept (read: body complete), or of the phase named."""

    read: float = 0.0
    connect: float = 0.0
    first: float = 0.0
    total: float = 0.0


class Bytes(Struct, omit_defaults=True, frozen=True):
    """Bytes of the caller's body and of the answer's body."""

    input: int = field(default=0, name="in")
    output: int = field(default=0, name="out")


class Facts(Struct, omit_defaults=True, frozen=True):
    """What the request asked for, without its content."""

    max_tokens: int = 0
    tools: int = 0
    format: str = ""
    n: int = 0


class Record(Struct, omit_defaults=True):
    """A journal line (DESIGN §5). kind: open (at dispatch) or done (at settle). ts: Unix seconds at accept.

    end: two letters, see `words.End`. source: where the token counts come from: final, continuous, counted, none.
    tpot: milliseconds per output token after the first.
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


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)


def encode_record(record: Record) -> bytes:
    """One NDJSON line, newline included."""
    return _encoder.encode(record) + b"\n"


def decode_record(line: bytes) -> Record:
    """Raises msgspec.MsgspecError on a torn or foreign line."""
    return _decoder.decode(line)


class Exchange:
    """The working state of one request. Times are monotonic seconds; 0.0 = has not happened."""

    __slots__ = (
        "accepted",
        "api",
        "attempts",
        "body",
        "body_bytes",
        "channel",
        "connected",
        "end",
        "endpoint",
        "error",
        "facts",
        "fields",
        "first",
        "headers",
        "id",
        "ip",
        "key",
        "method",
        "model",
        "opened",
        "out_bytes",
        "path",
        "policy",
        "progress",
        "read",
        "request_id",
        "rewrites",
        "settled",
        "snapshot",
        "source",
        "status",
        "stream",
        "tokens",
        "trace",
        "ts",
        "upstream_model",
        "virtual",
        "wants_continuous",
        "wants_usage",
    )

    def __init__(
        self, id: str, request_id: str, snapshot: Any, method: str, path: str, headers: Any, ip: str, now: float, ts: float
    ) -> None:
        self.id = id
        self.request_id = request_id
        self.snapshot = snapshot
        self.method = method
        self.path = path
        self.headers = headers
        self.ip = ip
        self.accepted = now
        self.ts = ts
        self.api = ""
        self.key: Any = None
        self.body = b""
        self.body_bytes = 0
        self.fields: dict[str, msgspec.Raw] = {}
        self.model = ""
        self.virtual: Any = None
        self.stream = False
        self.wants_usage = False
        self.wants_continuous = False
        self.policy = ""
        self.channel = ""
        self.endpoint = ""
        self.upstream_model = ""
        self.attempts: list[Attempt] = []
        self.rewrites: list[str] = []
        self.tokens = Tokens()
        self.source = "none"
        self.status = 0
        self.end = ""
        self.error = ""
        self.trace = ""
        self.facts: Facts | None = None
        self.read = self.connected = self.first = 0.0
        self.out_bytes = 0
        self.opened = False
        self.settled = False
        self.progress = -1

    def opening(self, node: str, slot: int, rev: int) -> Record:
        """The `open` line: what is known when the request is sent to an engine for the first time."""
        return self._record("open", node, slot, rev)

    def closing(self, node: str, slot: int, rev: int, now: float) -> Record:
        """The `done` line: the whole account of the request. now: monotonic seconds."""
        record = self._record("done", node, slot, rev)
        record.channel, record.endpoint, record.upstream_model = self.channel, self.endpoint, self.upstream_model
        record.status, record.end, record.error = self.status, self.end, self.error
        record.attempts, record.tokens, record.source, record.rewrites = self.attempts, self.tokens, self.source, self.rewrites
        total = now - self.accepted
        first = self.first - self.accepted if self.first else 0.0
        record.ms = Millis(
            read=_millis(self.read - self.accepted) if self.read else 0.0,
            connect=_millis(self.connected - self.read) if self.connected else 0.0,
            first=_millis(first),
            total=_millis(total),
        )
        record.tpot = self.tpot(now)
        record.bytes = Bytes(input=self.body_bytes, output=self.out_bytes)
        return record

    def tpot(self, now: float) -> float:
        """Milliseconds per output token after the first; 0.0 when there is no such token."""
        rest = self.tokens.output - 1
        return _millis((now - self.first) / rest) if self.first and rest > 0 and self.stream else 0.0

    def _record(self, kind: str, node: str, slot: int, rev: int) -> Record:
        key = self.key
        record = Record(VERSION, kind, self.id, node, slot, rev, self.ts)
        if key is not None:
            record.tenant, record.project, record.key = key.tenant, key.project, key.id
        record.ip, record.trace, record.api, record.model = self.ip, self.trace, self.api, self.model
        record.policy, record.stream = self.policy, self.stream
        if self.facts is not None:
            record.facts = self.facts
        return record


def _millis(seconds: float) -> float:
    return int(seconds * 1_000_000) / 1000

"""One request and everything that is known of it. The log line, the journal record, the trace and the metrics are views of it.

Holds facts and arithmetic; never does I/O and never reads a clock: every moment is handed in (monotonic seconds).
"""

from typing import Any, Final

import msgspec
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.record import NO_TOKENS, NOTHING_SPECIAL, VERSION, Attempt, Bytes, Facts, Millis, Record, Tokens

NOTHING_SAID: Final[CIMultiDictProxy[str]] = CIMultiDictProxy(CIMultiDict())
"""In the place of headers that nobody will look at any more."""

NOTHING_ASKED: Final[dict[str, msgspec.Raw]] = {}
"""In the place of fields that nobody will look at any more."""

MODEL_MOST: Final = 128
"""Characters that a model's name may have. Records hold no more of what a caller asks for instead, who may send megabytes."""


class Exchange:
    """The working state of one request. Times are monotonic seconds; 0.0 = has not happened."""

    api: str = ""
    key: Any = None
    permit: Any = None
    system: str = ""
    body: bytes = b""
    body_bytes: int = 0
    held: int = 0
    """Bytes of its body that count in `memory`."""
    memory: Any = None
    """The worker's memory for bodies (accept.request.Memory)."""
    request: bytes = b""
    """What the present engine is sent, until soon after its stream has begun."""
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
    ticket: int = 0
    so_far: Any = None
    heard: Any = None
    """What the present engine has said, when its tokens may have to be counted (wire.heard.Heard)."""
    tokens: Tokens = NO_TOKENS
    source: str = "none"
    status: int = 0
    end: str = ""
    error: str = ""
    trace: str = ""
    """What the caller finds its record by: its own id of the request, else that of its trace."""
    traceparent: str = ""
    """The caller's trace context (W3C), well formed; "" = none."""
    facts: Facts = NOTHING_SPECIAL
    read: float = 0.0
    queued: float = 0.0
    in_queue: bool = False
    connected: float = 0.0
    first: float = 0.0
    out_bytes: int = 0
    opened: bool = False
    """Its `open` line is written."""
    settled: bool = False
    progress: int = -1
    lease: Any = None
    reserved: Tokens = NO_TOKENS
    cut: Any = None
    """The Refusal with which it was ended before its time; None = it was not."""
    spared: bool = False
    """Its key was revoked, but it may end in peace."""

    def __init__(
        self, id: str, request_id: str, snapshot: Any, method: str, path: str, headers: Any, ip: str, accepted: float, ts: float
    ) -> None:
        self.id = id
        self.request_id = request_id
        self.snapshot = snapshot
        self.method = method
        self.path = path
        self.headers = headers
        self.ip = ip
        self.accepted = accepted
        self.ts = ts
        self.fields: dict[str, msgspec.Raw] = {}
        self.attempts: list[Attempt] = []
        self.shaped: list[str] = []
        self.rewrites: list[str] = []

    def forget_request(self) -> None:
        """No engine will be asked any more, and nobody has to count the prompt: a long stream keeps nothing of what it was asked."""
        self.request = b""
        self.fields = NOTHING_ASKED
        self.headers = NOTHING_SAID
        if self.lease is not None:
            self.lease.told()
        self.forget_body()

    def forget_body(self) -> None:
        """Its body counts no more."""
        if self.held:
            self.memory.used -= self.held
            self.held = 0

    def opening(self, node: str, slot: int, rev: int) -> Record:
        """The `open` line: what is known when the request is sent to an engine for the first time."""
        self.opened = True
        tenant, project, key = self._consumer()
        return Record(
            VERSION, "open", self.id, node, slot, rev, self.ts, tenant, project, key, self.ip, self.trace,
            self.api, self._asked(), self.rule, self.policy, self.stream, self.channel, self.endpoint, self.upstream_model,
            facts=self.facts, reserved=self.reserved, system=self.system,
        )  # fmt: skip

    def closing(self, node: str, slot: int, rev: int, now: float) -> Record:
        """The `done` line: the whole account of the request. now: monotonic seconds."""
        tenant, project, key = self._consumer()
        accepted, read, connected, first = self.accepted, self.read, self.connected, self.first
        ms = Millis(
            _millis(read - accepted) if read else 0.0,
            _millis(self.queued) if self.queued else 0.0,
            _millis(connected - read) if connected else 0.0,
            _millis(first - accepted) if first else 0.0,
            _millis(now - accepted),
        )
        return Record(
            VERSION, "done", self.id, node, slot, rev, self.ts, tenant, project, key, self.ip, self.trace,
            self.api, self._asked(), self.rule, self.policy, self.stream, self.channel, self.endpoint, self.upstream_model,
            self.status, self.end, self.error, self.attempts, self.tokens, self.source, ms, self.tpot(now),
            Bytes(self.body_bytes, self.out_bytes), self.rewrites, self.facts, self.via, self.reserved, self.system,
        )  # fmt: skip

    def own_part(self) -> None:
        """The present attempt's tokens, when an earlier one has its own: then each has."""
        if len(self.attempts) > 1 and any(attempt.tokens != NO_TOKENS for attempt in self.attempts[:-1]):
            self.attempts[-1].tokens = self.tokens

    def tpot(self, now: float) -> float:
        """Milliseconds per output token after the first; 0.0 when there is no such token."""
        rest = self.tokens.output - 1
        return _millis((now - self.first) / rest) if self.first and rest > 0 and self.stream else 0.0

    def _asked(self) -> str:
        model = self.model
        return model if len(model) <= MODEL_MOST else model[:MODEL_MOST] + "…"

    def _consumer(self) -> tuple[str, str, str]:
        """Tenant, project and key; "" = nobody was recognised."""
        key = self.key
        return (key.tenant, key.project, key.id) if key is not None else ("", "", "")


def _millis(seconds: float) -> float:
    return int(seconds * 1_000_000) / 1000

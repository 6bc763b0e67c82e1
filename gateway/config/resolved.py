"""The compact, checked form of the configuration that control hands to workers. No pydantic, no YAML, no I/O here.

Every reference is resolved (secrets read, includes merged, defaults filled in). Durations are seconds, sizes bytes.
Encoded with msgspec's MessagePack; `FORMAT` changes whenever an old reader could misread a new form.
"""

from collections.abc import Iterator
from typing import Any, Final

from msgspec import Struct

from gateway.config.resolved_access import OPEN, Access
from gateway.config.resolved_limits import Limit, Limits
from gateway.config.resolved_prices import Cost, Currencies, Price
from gateway.config.resolved_registries import Registry
from gateway.config.resolved_when import Schedule, When

FORMAT: Final = 4


class Tls(Struct, frozen=True, kw_only=True):
    """TLS of a listener (cert and key set) or towards an engine. Paths; `digest` changes when a file's bytes do."""

    cert: str | None = None
    key: str | None = None
    ca: str | None = None
    verify: bool = True
    server_name: str | None = None
    min_version: str = "1.2"
    digest: str = ""


class Cors(Struct, frozen=True, kw_only=True):
    """Browser origins that may read answers. `["*"]` = any."""

    origins: tuple[str, ...] = ()
    max_age: int = 600


class Listener(Struct, frozen=True, kw_only=True):
    """An address that the gateway answers on. serves: `api` or `metrics`. proxy_protocol: each connection begins with its header."""

    name: str
    host: str
    port: int
    serves: str
    tls: Tls | None = None
    proxy_protocol: bool = False


class Http(Struct, frozen=True, kw_only=True):
    """Limits of the caller's side. Sizes in bytes, times in seconds."""

    body: int
    body_memory: int
    header: int
    body_timeout: float
    write_idle: float
    sse_keepalive: float
    keepalive: float
    drain_timeout: float
    trusted_proxies: tuple[str, ...] = ()
    cors: Cors | None = None


class Journal(Struct, frozen=True, kw_only=True):
    """How records are kept. sync: `none` (page cache) or `group` (fdatasync in batches). on_failure: `serve` or `refuse`."""

    segment: int
    every: float
    sync: str
    reserve: int
    on_failure: str


class Endpoint(Struct, frozen=True, kw_only=True):
    """One address of an engine: `url` as written; `base` is the path prefix before `/v1` (usually empty).

    weight: its share among its channel's endpoints of the same priority, at least 1. priority: lower ones serve first.
    """

    url: str
    scheme: str
    host: str
    port: int
    base: str = ""
    weight: int = 1
    priority: int = 0


class Timeouts(Struct, frozen=True, kw_only=True):
    """Seconds."""

    connect: float
    first_event: float
    idle: float
    total: float


class Breaker(Struct, frozen=True, kw_only=True):
    """When an endpoint is ejected and how it comes back. share: 0..1. Times in seconds."""

    failures: int = 5
    share: float = 0.5
    cooldown: float = 10.0
    slow_start: float = 30.0


class Channel(Struct, frozen=True, kw_only=True):
    """A way to reach one engine deployment.

    engine: a member of `words.ENGINES` (`auto` is resolved by control before a worker sees it; until then `openai`).
    model: the engine's model name when a target names none; None = the virtual model's name.
    usage: `continuous` (per-event usage asked for), `final`, or `count`. reasoning: the field that callers see.
    context_length: tokens, 0 = what the engine says. max_in_flight (of the channel), endpoint_in_flight: 0 = no limit.
    registry: where its endpoints come from; "" = they are written.
    """

    name: str
    engine: str
    model: str | None
    endpoints: tuple[Endpoint, ...]
    credential: str | None
    headers: dict[str, str]
    tls: Tls | None
    usage: str
    reasoning: str
    timeouts: Timeouts
    keepalive: float
    planes: dict[str, str]
    plane_tls: dict[str, Tls]
    auto: bool = False
    context_length: int = 0
    max_in_flight: int = 0
    endpoint_in_flight: int = 0
    queue_length: int = 100
    queue_wait: float = 30.0
    breaker: Breaker = Breaker()
    wedged_after: float = 60.0
    registry: str = ""


class Target(Struct, frozen=True, kw_only=True):
    """Where requests may go: a leaf (channel and the engine's name for the model), or a group (policy and targets).

    weight: share among its siblings, 0 = only as failover. sticky: `key`, `tenant`, a header's name, or "". fail_back: seconds.
    """

    channel: str = ""
    model: str = ""
    weight: int = 1
    policy: str = ""
    targets: "tuple[Target, ...]" = ()
    sticky: str = ""
    fail_back: float = 30.0

    def leaves(self) -> "Iterator[Target]":
        """The channel targets below it, itself when it is one."""
        if self.targets:
            for target in self.targets:
                yield from target.leaves()
        else:
            yield self


class Rule(Struct, frozen=True, kw_only=True):
    """Requests that go elsewhere: to a virtual model, or to a target of their own."""

    name: str
    when: When
    model: str = ""
    target: Target | None = None


class Retry(Struct, frozen=True, kw_only=True):
    """When and how often another attempt is made. attempts counts the first. within: seconds from the first attempt's start."""

    on: tuple[str, ...]
    attempts: int
    within: float


class Model(Struct, frozen=True, kw_only=True):
    """A virtual model: the name that callers use. policy, targets, sticky, fail_back: as those of a group of targets.

    defaults and caps: parameters, see config.model. tokenizer: a bundled vocabulary, a file, `engine`, or "". continuation: `off`
    or `same-model`.
    """

    name: str
    aliases: tuple[str, ...]
    policy: str
    targets: tuple[Target, ...]
    retry: Retry
    sticky: str = ""
    fail_back: float = 30.0
    rules: tuple[Rule, ...] = ()
    fallback: tuple[str, ...] = ()
    defaults: dict[str, Any] = {}
    caps: dict[str, int | float] = {}
    tokenizer: str = ""
    continuation: str = "off"

    def top(self) -> Target:
        """Its own targets as one group."""
        return Target(policy=self.policy, targets=self.targets, sticky=self.sticky, fail_back=self.fail_back)

    def leaves(self) -> Iterator[Target]:
        """Every channel target that it names itself, those of its rules too."""
        yield from self.top().leaves()
        for rule in self.rules:
            if rule.target is not None:
                yield from rule.target.leaves()


class Key(Struct, frozen=True, array_like=True, gc=False):
    """An API key. digest: SHA-256 of the whole secret, 32 bytes. expires: seconds since 1970, 0 = never.

    previous, until: the digest of its secret before, good until then; b"" = none. systems: globs of names that `x-gateway-system` may
    tell.
    """

    id: str
    digest: bytes
    tenant: str
    project: str
    access: Access = OPEN
    limits: tuple[Limit, ...] = ()
    enabled: bool = True
    expires: float = 0.0
    previous: bytes = b""
    until: float = 0.0
    systems: tuple[str, ...] = ()


class Referee(Struct, frozen=True, kw_only=True):
    """Who counts what limits limit. on_loss: `local` or `refuse`, what workers do without it."""

    url: str = "local"
    on_loss: str = "local"


class Ledger(Struct, frozen=True, kw_only=True):
    """Where requests are remembered. memory and size: bytes, size 0 = any. keep: seconds."""

    url: str = "duckdb:ledger.duckdb"
    memory: int = 512 * 1024 * 1024
    keep: float = 400 * 86400.0
    size: int = 0


class Resolved(Struct, frozen=True, kw_only=True):
    """Everything but the keys, which travel in slices so that no loop is held up."""

    node: str
    workers: int
    auth: str
    data_dir: str
    http: Http
    journal: Journal
    listeners: tuple[Listener, ...]
    channels: dict[str, Channel]
    models: dict[str, Model]
    tenants: dict[str, tuple[str, ...]]
    schedules: dict[str, Schedule] = {}
    registries: dict[str, Registry] = {}
    limits: dict[str, tuple[Limit, ...]] = {}
    access: dict[str, Access] = {}
    """By place: `""` (everybody: addresses alone), `tenants/T`, `tenants/T/projects/P`; those that open everything are not here."""
    referee: Referee = Referee()
    ledger: Ledger = Ledger()
    prices: tuple[Price, ...] = ()
    currencies: Currencies = Currencies()
    discounts: dict[str, int] = {}
    """By tenant, in millionths of the whole."""
    costs: dict[str, Cost] = {}
    """Of channels' hardware, by channel."""

    def counted(self) -> Limits:
        """Everything that counting needs, but the limits of keys."""
        return Limits(by=self.limits, on_loss=self.referee.on_loss, workers=self.workers, schedules=self.schedules)

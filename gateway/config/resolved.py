"""The compact, checked form of the configuration that control hands to workers. No pydantic, no YAML, no I/O here.

Every reference is resolved (secrets read, includes merged, defaults filled in). Durations are seconds, sizes bytes.
Encoded with msgspec's MessagePack; `FORMAT` changes whenever an old reader could misread a new form.
"""

from typing import Final

from msgspec import Struct

FORMAT: Final = 1


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
    """An address that the gateway answers on. serves: `api` or `metrics`."""

    name: str
    host: str
    port: int
    serves: str
    tls: Tls | None = None


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
    """One address of an engine: `url` as written; `base` is the path prefix before `/v1` (usually empty)."""

    url: str
    scheme: str
    host: str
    port: int
    base: str = ""


class Timeouts(Struct, frozen=True, kw_only=True):
    """Seconds."""

    connect: float
    first_event: float
    idle: float
    total: float


class Channel(Struct, frozen=True, kw_only=True):
    """A way to reach one engine deployment.

    engine: a member of `words.ENGINES` (`auto` is resolved by control before a worker sees it; until then `openai`).
    model: the engine's model name when a target names none; None = the virtual model's name.
    usage: `continuous` (per-event usage asked for), `final`, or `count`. reasoning: the field that callers see.
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


class Target(Struct, frozen=True, kw_only=True):
    """Where a model's requests may go. model: the engine's name for it. weight: share among its siblings, 0 = only as failover."""

    channel: str
    model: str
    weight: int


class Retry(Struct, frozen=True, kw_only=True):
    """When and how often another attempt is made. attempts counts the first. within: seconds from the first attempt's start."""

    on: tuple[str, ...]
    attempts: int
    within: float


class Model(Struct, frozen=True, kw_only=True):
    """A virtual model: the name that callers use."""

    name: str
    aliases: tuple[str, ...]
    policy: str
    targets: tuple[Target, ...]
    retry: Retry


class Key(Struct, frozen=True, array_like=True, gc=False):
    """An API key. digest: SHA-256 of the whole secret, 32 bytes. models: globs (`*` matches anything)."""

    id: str
    digest: bytes
    tenant: str
    project: str
    models: tuple[str, ...]


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

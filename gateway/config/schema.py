"""The configuration's language, as frozen types: every word, its meaning, its default.

`explain`, the JSON Schema and the reference in the docs come from here.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from gateway.config.fields import (
    Alias,
    Bind,
    Cidr,
    Credential,
    DurationField,
    Empty,
    Endpoints,
    Flag,
    Glob,
    Hash,
    HeaderName,
    HeaderValue,
    ModelName,
    Name,
    Origin,
    Patterns,
    SizeField,
    UrlText,
    Whole,
    Word,
    Workers,
)
from gateway.config.locate import DATA_DIR
from gateway.config.scalars import Duration, Size

Reason = Annotated[Literal["connect", "timeout", "429", "5xx", "stream"], Word]
TlsVersion = Annotated[Literal["1.2", "1.3"], Word]


def field(description: str, example: Any, default: Any = ..., **rules: Any) -> Any:
    """A field with what `explain` says of it. default `...` = must be written."""
    return Field(default, description=description, examples=[example], **rules)


def duration(default: str, description: str, example: str, least: str = "1ms", most: str = "3650d") -> Any:
    low, high = Duration.of(least), Duration.of(most)
    return Field(Duration.of(default), description=description, examples=[example], ge=low, le=high)


def size(default: str, description: str, example: str, least: str = "1B", most: str = "1TiB") -> Any:
    low, high = Size.of(least), Size.of(most)
    return Field(Size.of(default), description=description, examples=[example], ge=low, le=high)


class Part(BaseModel):
    """What all parts of the configuration have in common: unknown words are refused, and nothing changes once read."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, protected_namespaces=())


def group(model: type[Part], description: str, example: Any) -> Any:
    """A group of words that need not be written: then each has its own default."""
    made = model.model_construct()
    return Field(default_factory=lambda: made, description=description, examples=[example])


class ListenerTls(Part):
    """TLS of a listener."""

    cert: str = field("The certificate with its chain, a PEM file. Read again when it changes.", "/etc/gateway/tls.crt")
    key: str = field("The certificate's private key, a PEM file without a passphrase.", "/etc/gateway/tls.key")
    min_version: TlsVersion = field("The oldest TLS version that callers may speak.", "1.3", "1.2")


class Listener(Part):
    """An address that the gateway answers on."""

    bind: Bind = field("Address and port: `host:port`, `:port` for every IPv4 address, `[::]:port` for every address.", "0.0.0.0:8080")
    serves: Literal["api", "metrics"] = field("`api`: the OpenAI surface and health. `metrics`: Prometheus' /metrics.", "metrics", "api")
    tls: ListenerTls | None = field("TLS. Without it the listener speaks plain HTTP.", {"cert": "tls.crt", "key": "tls.key"}, None)


class Cors(Part):
    """Which web pages may call the gateway from a browser."""

    origins: list[Origin] = field("Origins whose pages may read answers; `*` = any.", ["https://chat.example.com"], min_length=1)
    max_age: DurationField = duration("10m", "How long a browser may remember that it was allowed.", "1h", "0s", "1d")


class Http(Part):
    """Limits of the callers' side."""

    body: SizeField = size("64MiB", "The largest request body. Larger ones are refused with 413.", "20MiB", "1KiB", "4GiB")
    body_memory: SizeField = size("512MiB", "Memory for all request bodies, shared out over the workers. Beyond: 503.", "1GiB", "1MiB")
    header: SizeField = size("16KiB", "The largest request head. Larger ones are refused with 431.", "32KiB", "1KiB", "1MiB")
    body_timeout: DurationField = duration(
        "30s", "A body must bring at least 4 KiB in this time, or its end. Otherwise: 408.", "1m", "100ms"
    )
    write_idle: DurationField = duration("60s", "How long a caller may take nothing of its answer before it is let go.", "2m", "100ms")
    sse_keepalive: DurationField = duration(
        "15s", "A stream that says nothing for this long gets a comment, so that proxies keep it open.", "10s", "100ms"
    )
    keepalive: DurationField = duration("75s", "How long a caller's idle connection is kept.", "2m", "100ms")
    drain_timeout: DurationField = duration(
        "10m", "How long requests in flight may still take when a worker is replaced or the service stops.", "2m", "0s"
    )
    trusted_proxies: list[Cidr] = field("Proxies whose X-Forwarded-For is believed.", ["10.0.0.1/32"], [])
    cors: Cors | None = field("Browser pages of other origins that may call. Without it: none.", {"origins": ["*"]}, None)


class Journal(Part):
    """How the records of requests are kept."""

    segment: SizeField = size("8MiB", "Size at which a worker begins a new segment.", "16MiB", "64KiB", "1GiB")
    every: DurationField = duration("2s", "Age at which a worker begins a new segment.", "10s", "100ms", "1h")
    sync: Literal["none", "group"] = field(
        "`none`: the kernel writes when it likes (survives a kill, not a power cut). `group`: written through to the disk, in batches.",
        "group",
        "none",
    )
    reserve: SizeField = size(
        "64MiB", "Disk space kept back, so that requests in flight are recorded when the disk is full.", "256MiB", "0B", "1TiB"
    )
    on_failure: Literal["serve", "refuse"] = field(
        "When records cannot be written: go on serving unrecorded, or refuse requests.", "refuse", "serve"
    )


class EngineTls(Part):
    """TLS towards an engine."""

    ca: str | None = field(
        "CA certificates that the engine's certificate is checked with, a PEM file. Default: the system's.", "/etc/gateway/ca.pem", None
    )
    cert: str | None = field("Our own certificate, for engines that want one (MindIE does by default).", "/etc/gateway/client.crt", None)
    key: str | None = field("The private key of `cert`, a PEM file without a passphrase.", "/etc/gateway/client.key", None)
    verify: Flag = field(
        "Whether the engine's certificate is checked. `false` lets anyone in between read and change everything.", False, True
    )
    server_name: str | None = field(
        "The name that the engine's certificate must carry, when it is not the URL's host.", "mindie.internal", None
    )
    min_version: TlsVersion = field("The oldest TLS version that the engine may speak.", "1.3", "1.2")


def _plane(value: Any) -> Any:
    return {"url": value} if isinstance(value, str) else value


class Plane(Part):
    """Another address of the same engine. A URL alone stands for `{url: …}`."""

    url: UrlText = field("Where it answers.", "https://10.0.0.5:1026")
    tls: EngineTls | None = field("Its own TLS. Default: the channel's.", {"ca": "ca.pem"}, None)


PlaneField = Annotated[Plane | None, BeforeValidator(_plane, json_schema_input_type=str | Plane | None)]


class Planes(Part):
    """Addresses beside the inference one."""

    management: PlaneField = field("The engine's management address (MindIE: port 1026).", "https://10.0.0.5:1026", None)
    metrics: PlaneField = field("The engine's metrics address (MindIE: port 1027).", "https://10.0.0.5:1027", None)


class Timeouts(Part):
    """How long an engine may take."""

    connect: DurationField = duration("3s", "To connect, TLS included.", "1s", "1ms", "5m")
    first_event: DurationField = duration(
        "60s", "To a stream's first event with content. Whole answers have `total` until they begin.", "2m"
    )
    idle: DurationField = duration("60s", "Between two pieces of an answer.", "30s")
    total: DurationField = duration("30m", "For one attempt, from its start to its last byte.", "2h")


class Channel(Part):
    """A way to reach one engine deployment."""

    engine: Literal["vllm", "sglang", "mindie", "openai", "auto"] = field("Which engine it is. `auto` finds out by asking it.", "vllm")
    model: str | None = field(
        "The engine's own name for the model. Default: the virtual model's name.", "qwen3-32b", None, min_length=1, max_length=256
    )
    endpoints: Endpoints = field("The engine's addresses, without /v1. Requests take turns over them.", ["http://10.0.0.6:8000"])
    credential: Credential | None = field("Sent to the engine as `Authorization: Bearer …`.", "${env:GPU_KEY}", None, repr=False)
    headers: Annotated[dict[HeaderName, HeaderValue], Empty] = field(
        "Further headers sent to the engine.", {"X-Team": "search"}, {}, repr=False
    )
    tls: EngineTls | None = field("TLS of https endpoints. Default: checked with the system's CA certificates.", {"ca": "ca.pem"}, None)
    planes: Annotated[Planes, Empty] = group(Planes, "Addresses beside the inference one.", {"management": "https://10.0.0.5:1026"})
    timeouts: Annotated[Timeouts, Empty] = group(Timeouts, "How long the engine may take.", {"first_event": "2m"})
    keepalive: DurationField = duration(
        "4s", "How long an idle connection is kept for the next request. Must be below the engine's own.", "20s", "0s", "1h"
    )
    usage: Literal["continuous", "final", "count"] | None = field(
        "Where token counts come from. `continuous`: with each event (exact even when a stream is cut off). `final`: at the end. "
        "`count`: the gateway counts. Default: `continuous` for vllm, sglang and auto, `final` for openai and mindie.",
        "final",
        None,
    )
    reasoning: str = field(
        "The field in which callers get a model's reasoning.", "reasoning", "reasoning_content", pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$"
    )


class Target(Part):
    """One place that a model's requests may go to."""

    channel: str = field("The channel.", "gpu")
    model: str | None = field(
        "The engine's name for the model. Default: the channel's `model`, else the virtual model's name.", "qwen3", None, min_length=1
    )
    weight: Whole = field("Its share among its siblings. 0 = only when others fail.", 3, 1, ge=0, le=10_000)


class Retry(Part):
    """When another attempt is made before the caller sees anything."""

    on: list[Reason] = field(
        "Failures that are tried again elsewhere: `connect` (no connection), `timeout` (no first event in time), `429`, `5xx`, "
        "`stream` (it broke before its first event).",
        ["connect", "5xx"],
        ["connect", "timeout", "429", "5xx", "stream"],
    )
    attempts: Whole = field("Attempts altogether, the first included.", 2, 3, ge=1, le=10)
    within: DurationField = duration("60s", "No further attempt begins later than this after the first one began.", "30s")


class Model(Part):
    """A virtual model: a name that callers use."""

    aliases: list[Alias] = field("Further names for it: exact, or a beginning followed by `*`.", ["gpt-4o*"], [])
    policy: Literal["proportional"] = field(
        "How a target is picked. `proportional`: by weight, exactly over time.", "proportional", "proportional"
    )
    targets: list[Target] = field("Where its requests may go.", [{"channel": "gpu", "weight": 3}], min_length=1)
    retry: Annotated[Retry, Empty] = group(Retry, "When another attempt is made.", {"attempts": 2})


class Project(Part):
    """A tenant's project."""


class Tenant(Part):
    """Who uses the gateway: a department, a customer."""

    projects: Annotated[dict[Name, Annotated[Project, Empty]], Empty] = field("Its projects by name.", {"chatbot": {}}, {})


class Key(Part):
    """An API key. The secret itself is nowhere in the configuration."""

    id: Name = field("Its name in commands, logs and records.", "k7f3")
    hash: Hash = field("SHA-256 of the whole secret: `sha256:` and 64 hex digits.", "sha256:" + "0f" * 32)
    tenant: str = field("The tenant that uses it.", "retail")
    project: str = field("The tenant's project that uses it.", "chatbot")
    models: list[Glob] = field("Models it may use, by name or alias; `*` stands for anything.", ["qwen*"])
    label: str | None = field("A note for people.", "Ann's notebook", None, max_length=256)


def _no_keys(value: Any) -> Any:
    return [] if value is None else value


class Config(Part):
    """The whole configuration."""

    version: Literal[1] = field("The version of this language. Always 1.", 1)
    node: Name | None = field("This machine's name in records and metrics. Default: the host name.", "gw-a", None)
    data_dir: str = field(
        "Where the journal, revisions and the admin socket are. Relative to this file's folder.", "/var/lib/gateway", DATA_DIR, min_length=1
    )
    workers: Workers = field("Processes that serve requests: 1 to 64, or `auto` for one per CPU.", 2, "auto")
    auth: Literal["keys", "none"] = field("`keys`: callers must send an API key. `none`: anyone may call.", "none", "keys")
    include: Patterns = field(
        "Further files, relative to this file's folder; `*` stands for anything. Each name may be written in one place only.",
        ["keys.yaml"],
        [],
    )
    listeners: Annotated[dict[Name, Listener], Empty] = field(
        "Addresses that the gateway answers on, by name.",
        {"api": {"bind": "0.0.0.0:8080"}},
        {"api": Listener.model_construct(bind="127.0.0.1:8080")},
    )
    http: Annotated[Http, Empty] = group(Http, "Limits of the callers' side.", {"body": "20MiB"})
    journal: Annotated[Journal, Empty] = group(Journal, "How the records of requests are kept.", {"sync": "group"})
    channels: Annotated[dict[Name, Channel], Empty] = field(
        "Ways to reach engines, by name.", {"gpu": {"engine": "vllm", "endpoints": ["http://10.0.0.6:8000"]}}, {}
    )
    models: Annotated[dict[ModelName, Model], Empty] = field(
        "Virtual models, by the name that callers use.", {"qwen": {"targets": [{"channel": "gpu"}]}}, {}
    )
    tenants: Annotated[dict[Name, Annotated[Tenant, Empty]], Empty] = field(
        "Who uses the gateway.", {"retail": {"projects": {"chatbot": {}}}}, {}
    )
    keys: Annotated[list[Key], BeforeValidator(_no_keys, json_schema_input_type=list[Key] | None)] = field(
        "API keys, usually in keys.yaml, one line each.", [], []
    )

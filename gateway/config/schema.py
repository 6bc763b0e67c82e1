"""The configuration's language, as frozen types: every word, its meaning, its default.

`explain`, the JSON Schema and the reference in the docs come from here.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from gateway.config.access import Apis, Hours, Instant, Ip, Models, Previous, apis_field, hours_field, ip_field, models_field
from gateway.config.alerts import Alerts
from gateway.config.channel import Channel, TlsVersion
from gateway.config.fields import (
    Bind,
    Cidr,
    DurationField,
    Empty,
    Flag,
    Hash,
    ModelName,
    Name,
    Origin,
    Patterns,
    Referable,
    SizeField,
    SystemGlob,
    Word,
    Workers,
)
from gateway.config.ledger import Ledger
from gateway.config.limits import LimitList, Referee, limits_field
from gateway.config.locate import DATA_DIR
from gateway.config.model import Model
from gateway.config.part import Part, duration, field, group, size
from gateway.config.prices import Budget, Currencies, Percent, PriceList, budget_field, discount_field
from gateway.config.registries import Registry
from gateway.config.when import Schedule


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
    proxy_protocol: Flag = field(
        "Only `http.trusted_proxies` may connect, and say in a header of the PROXY protocol (v1 or v2) who is calling.",
        True,
        False,
    )


class Cors(Part):
    """Which web pages may call the gateway from a browser."""

    origins: list[Origin] = field("Origins whose pages may read answers; `*` = any.", ["https://chat.example.com"], min_length=1)
    max_age: DurationField = duration("10m", "How long a browser may remember that it was allowed.", "1h", "0s", "1d")


class Http(Part):
    """Limits of the callers' side."""

    body: SizeField = size("64MiB", "The largest request body. Larger ones are refused with 413.", "20MiB", "1KiB", "4GiB")
    body_memory: SizeField = size(
        "512MiB", "Memory for request bodies that may be needed again, shared out over the workers. Beyond: 503.", "1GiB", "1MiB"
    )
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
    trusted_proxies: list[Cidr] = field("Proxies whose X-Forwarded-For or PROXY header is believed.", ["10.0.0.1/32"], [])
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


Priority = Annotated[int | None, Field(ge=0, le=9), Referable]
MetaText = Annotated[str, Field(max_length=256), Word]


def priority_field(otherwise: str) -> Any:
    said = "Who goes first when a channel's queue is not empty, inside one tenant: 0 to 9, the highest first."
    return field(f"{said} Default: {otherwise}.", 8, None)


class Project(Part):
    """A tenant's project. What it may not, none of its keys may."""

    models: Models | None = models_field("its keys")
    apis: Apis = apis_field()
    ip: Ip | None = ip_field("its keys")
    priority: Priority = priority_field("the tenant's")
    hours: Hours = hours_field()
    limits: LimitList = limits_field("all keys of the project together")
    budget: Budget | None = budget_field("all keys of the project together")


class Tenant(Part):
    """Who uses the gateway: a department, a customer. What it may not, none of its keys may."""

    projects: Annotated[dict[Name, Annotated[Project, Empty]], Empty] = field("Its projects by name.", {"chatbot": {}}, {})
    models: Models | None = models_field("its keys")
    apis: Apis = apis_field()
    ip: Ip | None = ip_field("its keys")
    priority: Priority = priority_field("5")
    hours: Hours = hours_field()
    limits: LimitList = limits_field("all keys of the tenant together")
    budget: Budget | None = budget_field("all keys of the tenant together")
    discount: Percent | None = discount_field()


class Key(Part):
    """An API key. The secret itself is nowhere in the configuration."""

    id: Name = field("Its name in commands, logs and records.", "k7f3")
    hash: Hash = field("SHA-256 of the whole secret: `sha256:` and 64 hex digits.", "sha256:" + "0f" * 32)
    tenant: str = field("The tenant that uses it.", "retail")
    project: str = field("The tenant's project that uses it.", "chatbot")
    models: Models = field("Models it may use, by name or alias; `*` stands for anything.", ["qwen*"])
    apis: Apis = apis_field()
    ip: Ip | None = ip_field("it")
    enabled: Flag = field("`false`: it is refused, and open streams end.", False, True)
    expires: Instant | None = field("From then on it is refused. A date alone is its beginning in UTC.", "2027-01-01", None)
    previous: Previous | None = field(
        "Its secret before the last `gatewayctl keys rotate`, as long as that is still good.",
        {"hash": "sha256:" + "1e" * 32, "until": "2027-01-01T12:00:00Z"},
        None,
    )
    priority: Priority = priority_field("the project's")
    hours: Hours = hours_field()
    systems: list[SystemGlob] = field(
        "Names of calling applications that `x-gateway-system` may tell, for reports; `*` stands for anything. Others are not recorded.",
        ["crm", "erp-*"],
        [],
    )
    label: str | None = field("A note for people.", "Ann's notebook", None, max_length=256)
    meta: Annotated[dict[Name, MetaText], Empty] = field("Further notes, for reports and scripts.", {"cost_centre": "4711"}, {})
    limits: LimitList = limits_field("this key")
    budget: Budget | None = budget_field("this key")


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
    ledger: Annotated[Ledger, Empty] = group(Ledger, "The database of all requests, for reports.", {"keep": "90d"})
    referee: Annotated[Referee, Empty] = group(Referee, "Who counts what limits limit.", {"on_loss": "refuse"})
    registries: Annotated[dict[Name, Registry], Empty] = field(
        "Places where channels' endpoints are looked up, by name.", {"lab": {"type": "dns", "srv": "_mindie._tcp.lab"}}, {}
    )
    channels: Annotated[dict[Name, Channel], Empty] = field(
        "Ways to reach engines, by name.", {"gpu": {"engine": "vllm", "endpoints": ["http://10.0.0.6:8000"]}}, {}
    )
    models: Annotated[dict[ModelName, Model], Empty] = field(
        "Virtual models, by the name that callers use.", {"qwen": {"targets": [{"channel": "gpu"}]}}, {}
    )
    schedules: Annotated[dict[Name, Schedule], Empty] = field(
        "Hours that rules refer to, by name.", {"office": {"zone": "Asia/Shanghai", "when": ["Mon-Fri 09:00-18:00"]}}, {}
    )
    limits: LimitList = limits_field("everybody together")
    prices: PriceList = field(
        "What models cost callers and channels cost us.", [{"model": "qwen", "currency": "CNY", "input": "2", "output": "8"}], []
    )
    currencies: Currencies | None = field("What currencies are worth.", {"base": "CNY", "rates": {"USD": "7.1"}}, None)
    ip: Ip | None = ip_field("anybody")
    tenants: Annotated[dict[Name, Annotated[Tenant, Empty]], Empty] = field(
        "Who uses the gateway.", {"retail": {"projects": {"chatbot": {}}}}, {}
    )
    keys: Annotated[list[Key], BeforeValidator(_no_keys, json_schema_input_type=list[Key] | None)] = field(
        "API keys, usually in keys.yaml, one line each.", [], []
    )
    alerts: Annotated[Alerts, Empty] = group(
        Alerts, "What is worth a message, and to whom it goes.", {"rules": [{"on": "endpoint_down", "for": "1m"}]}
    )

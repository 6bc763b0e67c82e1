"""The part of the configuration that says how engines are reached: `channels`."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from gateway.config.fields import (
    Credential,
    DurationField,
    Empty,
    Flag,
    HeaderName,
    HeaderValue,
    Referable,
    UrlText,
    Whole,
    Word,
)
from gateway.config.part import Part, duration, field, group
from gateway.config.prices import Cost
from gateway.config.registries import EndpointsField
from gateway.config.scalars import Expanded, plain

TlsVersion = Annotated[Literal["1.2", "1.3"], Word]


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


class Queue(Part):
    """Where requests wait for a free place at an engine: tenants take turns, inside a tenant the higher priority goes first."""

    length: Whole = field(
        "Requests that may wait. More are refused with 503 and a Retry-After. 0 = none waits.", 50, 100, ge=0, le=1_000_000
    )
    wait: DurationField = duration("30s", "How long one may wait. One that would wait longer is refused at once.", "10s", "0s", "1h")


Seats = Annotated[int, Field(ge=1, le=1_000_000), Referable]
Length = Annotated[int, Field(ge=1, le=100_000_000), Referable]


class InFlight(Part):
    """How many requests at the same time."""

    channel: Seats | None = field("At all its endpoints together.", 200, None)
    endpoint: Seats | None = field("At each of its endpoints.", 64, None)


def _in_flight(value: Any) -> Any:
    value = plain(value) if isinstance(value, Expanded) else value
    return {"channel": value} if isinstance(value, int) and not isinstance(value, bool) else value


InFlightField = Annotated[InFlight | None, BeforeValidator(_in_flight, json_schema_input_type=int | InFlight | None)]


class BreakerRules(Part):
    """When an endpoint is ejected, which at most half of a channel's endpoints are at once, and how it comes back."""

    failures: Whole = field("Failures in a row that eject it.", 3, 5, ge=1, le=1000)
    share: Whole = field("Percent of failed requests in the last 30 s that eject it, when there were at least 20.", 30, 50, ge=1, le=100)
    cooldown: DurationField = duration(
        "10s", "Time until one request may try it again. Each failed trial doubles it, up to eight times.", "5s", "100ms", "1h"
    )
    slow_start: DurationField = duration(
        "30s", "How long an endpoint that is back gets less than its share, rising from a tenth.", "1m", "0s", "1h"
    )


class Health(Part):
    """What control looks at beside requests."""

    wedged_after: DurationField = duration(
        "60s", "An engine that says it runs requests, and produces no token for this long, is `wedged` and left out.", "2m", "5s", "1h"
    )


class Channel(Part):
    """A way to reach one engine deployment."""

    engine: Literal["vllm", "sglang", "mindie", "openai", "auto"] = field("Which engine it is. `auto` finds out by asking it.", "vllm")
    model: str | None = field(
        "The engine's own name for the model. Default: the virtual model's name.", "qwen3-32b", None, min_length=1, max_length=256
    )
    endpoints: EndpointsField = field(
        "The engine's addresses, without /v1, or `{registry: …}` that knows them. Requests take turns over them.", ["http://10.0.0.6:8000"]
    )
    context_length: Length | None = field("Tokens that prompt and answer may have together. Default: what the engine says.", 32768, None)
    max_in_flight: InFlightField = field(
        "Requests at its engines at the same time; more wait in `queue`. A number alone is for the whole channel.",
        {"channel": 200, "endpoint": 64},
        None,
    )
    queue: Annotated[Queue, Empty] = group(Queue, "Where requests over `max_in_flight` wait.", {"length": 100, "wait": "30s"})
    breaker: Annotated[BreakerRules, Empty] = group(BreakerRules, "When an endpoint is left out because it fails.", {"failures": 3})
    cost: Cost | None = field("What its hardware costs, used or not.", {"per_hour": "12.50", "currency": "CNY"}, None)
    health: Annotated[Health, Empty] = group(Health, "What is looked at beside requests.", {"wedged_after": "2m"})
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

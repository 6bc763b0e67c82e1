"""The part of the configuration that says what is worth a message, and to whom it goes: `alerts`."""

import re
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import PlainValidator, WrapValidator, create_model

from gateway.config.alert_kinds import KINDS, NUMBER, SHARE, TIME
from gateway.config.fields import Credential, DurationField, Empty, Glob, Name, UrlText, Whole, quoted, wrong
from gateway.config.part import Part, duration, field
from gateway.config.scalars import Duration, Expanded, plain

Kind = Literal[
    "endpoint_down", "endpoint_wedged", "error_share", "ttft", "budget", "usage_anomaly", "cost_anomaly", "disk", "ledger", "drift",
    "certificate_expiry", "key_expiry", "config_refused", "unpriced", "journal_lost", "control_restarted", "worker_restarted", "frozen",
]  # fmt: skip
By = Literal["total", "tenant", "project", "key", "model", "channel"]
_percent = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*%")
_HOW: Final = "write a share like 5%, a time like 3s, or a number"


def measure(text: str) -> tuple[str, float]:
    """What `over` says: (SHARE, percent), (TIME, seconds) or (NUMBER, it). Raises ValueError."""
    if found := _percent.fullmatch(text):
        return SHARE, float(found[1])
    number = plain(text) if text else None
    if isinstance(number, int | float) and not isinstance(number, bool):
        return NUMBER, float(number)
    return TIME, float(Duration.of(text))


def _over(value: Any) -> str:
    value = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    if not isinstance(value, str):
        raise wrong("this is no threshold", _HOW)
    try:
        kind, amount = measure(value)
    except ValueError:
        raise wrong(f"{quoted(value)} is no threshold", _HOW) from None
    if not 0 <= amount <= (1000 if kind == SHARE else 1e15):
        raise wrong(f"{quoted(value)} is no threshold", "a share is at most 1000%" if kind == SHARE else "it is too large or below 0")
    return value


def _share(value: Any) -> str:
    found = _percent.fullmatch(value) if isinstance(value, str) else None
    if found is None or not 0 < float(found[1]) <= 100:
        raise wrong(f"{quoted(value)} is not a share", "more than 0% and at most 100%, like 5%")
    return str(value)


Over = Annotated[str, PlainValidator(_over, json_schema_input_type=int | float | str)]
Percent = Annotated[str, PlainValidator(_share, json_schema_input_type=str)]


class Sink(Part):
    """Somewhere that messages go. A text alone stands for `{url: …}`."""

    url: str | None = field(
        "A URL of apprise: `slack://…`, `dingtalk://…`, `feishu://…`, `wecombot://…`, `mailtos://…`, `json://…`, …; see alerts.md.",
        "${file:/etc/gateway/ops.url}",
        None,
        min_length=1,
        repr=False,
    )
    alertmanager: UrlText | None = field("An Alertmanager's address. Firing alerts are told it each minute.", "http://10.0.0.9:9093", None)
    credential: Credential | None = field("Sent to Alertmanager as `Authorization: Bearer …`.", "${env:AM_TOKEN}", None, repr=False)


def _sink(value: Any, read: Any) -> Any:
    if not isinstance(value, str):
        return read(value)
    if not value and not isinstance(value, Expanded):
        raise wrong("this is empty", "write a URL of apprise, or {alertmanager: …}")
    return Sink(url=value)


SinkField = Annotated[Sink, WrapValidator(_sink, json_schema_input_type=str | Sink)]


class _Rule(Part):
    on: Kind = field("What is watched; see alerts.md.", "endpoint_down")
    name: Name | None = field("Its name in messages and in `gatewayctl alerts`. Default: its kind, numbered.", "gpu-down", None)
    over: Over | None = field("The threshold: a share of requests, money or disk, a time, or a number.", "5%", None)
    within: DurationField | None = field(
        "How far it looks back (error_share, ttft, journal_lost, …) or ahead (certificate_expiry, key_expiry).", "14d", None,
        ge=Duration.of("10s"), le=Duration.of("3650d"),
    )  # fmt: skip
    share: Percent | None = field("`ttft`: the share of streams that may be slower than `over`.", "5%", None)
    requests: Whole | None = field("With fewer requests in the time `within` nothing is said.", 20, None, ge=1, le=1_000_000)
    sensitivity: Literal["low", "normal", "high"] | None = field("Of anomalies: how far off an hour must be.", "high", None)
    by: By | None = field("Of anomalies: whose usage is looked at, each by itself.", "tenant", None)
    channel: Glob | None = field("Only channels with such names; `*` stands for anything.", "gpu*", None)
    model: Glob | None = field("Only virtual models with such names.", "qwen*", None)
    tenant: Glob | None = field("Only tenants with such names.", "retail", None)
    severity: Literal["info", "warning", "critical"] | None = field("How bad it is. Default: as alerts.md says.", "critical", None)
    to: list[str] | None = field("Sinks by name. Default: all of them. The log always gets a line.", ["ops"], None)
    repeat: DurationField | None = field(
        "How often it is said again while it lasts. Default: `alerts.repeat`.", "1h", None, ge=Duration.of("1m"), le=Duration.of("365d")
    )


_wait = field("How long it must hold before it fires. Default: as alerts.md says.", "1m", None, ge=Duration.of("0s"), le=Duration.of("30d"))

if TYPE_CHECKING:
    AlertRule = _Rule
else:  # `for` is no name that a class body could have
    AlertRule = create_model(
        "AlertRule", __base__=_Rule, __doc__="Something that is worth a message.", **{"for": (DurationField | None, _wait)}
    )


class Alerts(Part):
    """What is worth a message, and to whom it goes."""

    sinks: Annotated[dict[Name, SinkField], Empty] = field(
        "Where messages go, by name. Without any: into the log.", {"ops": "${file:/etc/gateway/ops.url}"}, {}
    )
    rules: list[AlertRule] | None = field(
        "What is watched. Default: a few things that are always bad; see alerts.md.",
        [{"on": "endpoint_down", "for": "1m", "to": ["ops"]}],
        None,
    )
    repeat: DurationField = duration("4h", "How often an alert is said again while it lasts.", "1d", "1m", "365d")


assert set(KINDS) == set(Kind.__args__)  # type: ignore[attr-defined]

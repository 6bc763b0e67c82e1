"""What may be alerted about: each kind of rule with the words it has, and what they are when nothing is written. Plain data.

A new kind is one entry here and one file in gateway/alert/kinds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

INFO, WARNING, CRITICAL = SEVERITIES = ("info", "warning", "critical")
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
SHARE, TIME, NUMBER = "share", "time", "number"
"""What `over` is: `5%`, `3s`, `100`."""


@dataclass(frozen=True, slots=True)
class Kind:
    """meaning: when it holds. wait: seconds that it must hold (`for`). words: its own words beside those of every rule, with their
    defaults, None = no default. over: what `over` is, "" = it has none."""

    meaning: str
    severity: str = WARNING
    wait: float = 0.0
    words: Mapping[str, float | int | str | None] = field(default_factory=dict)
    over: str = ""


_MODELS: Final = {"model": None, "channel": None}
_ANOMALY: Final = {"sensitivity": "normal", "by": "tenant", "tenant": None, "model": None, "channel": None}

KINDS: Final[dict[str, Kind]] = {
    "endpoint_down": Kind("an endpoint is `down` or `ejected`", CRITICAL, MINUTE, {"channel": None}),
    "endpoint_wedged": Kind("an engine runs requests and produces no token", CRITICAL, 0.0, {"channel": None}),
    "error_share": Kind(
        "more than `over` of a model's requests failed in the time `within`", CRITICAL, 0.0,
        {"over": 5.0, "within": 5 * MINUTE, "requests": 20, **_MODELS}, SHARE,
    ),
    "ttft": Kind(
        "more than `share` of a model's streams took longer than `over` to their first token in the time `within`", WARNING, 0.0,
        {"over": 5.0, "share": 5.0, "within": 5 * MINUTE, "requests": 20, **_MODELS}, TIME,
    ),
    "budget": Kind("more than `over` of a limit or budget per day or month is used", WARNING, 0.0, {"over": 80.0, "tenant": None}, SHARE),
    "usage_anomaly": Kind("an hour's tokens are far from what such an hour usually has", WARNING, 0.0, _ANOMALY),
    "cost_anomaly": Kind("an hour's cost is far from what such an hour usually has", WARNING, 0.0, _ANOMALY),
    "disk": Kind("more than `over` of the disk that holds `data_dir` is used", CRITICAL, MINUTE, {"over": 90.0}, SHARE),
    "ledger": Kind(
        "the ledger is more than `over` behind the journal, cannot be written, or was given lines that are no records", WARNING, MINUTE,
        {"over": 300.0}, TIME,
    ),
    "drift": Kind(
        "a worker serves another revision than control, or the files another one than is served; or a channel's engines counted more than "
        "`over` more or fewer tokens in an hour than the ledger has", WARNING, 5 * MINUTE, {"over": 5.0, "channel": None}, SHARE,
    ),
    "certificate_expiry": Kind("a certificate of ours or of an engine ends in the time `within`", WARNING, 0.0, {"within": 14 * DAY}),
    "key_expiry": Kind("an API key ends in the time `within`", WARNING, 0.0, {"within": 7 * DAY, "tenant": None}),
    "config_refused": Kind("the configuration in the files was refused; the last good one is served", CRITICAL),
    "unpriced": Kind("more than `over` requests were for a model that has no price", WARNING, 0.0, {"over": 0.0, "model": None}, NUMBER),
    "journal_lost": Kind("records cannot be written, or were given up in the time `within`", CRITICAL, 0.0, {"within": 10 * MINUTE}),
    "control_restarted": Kind("the control process had to be started again in the time `within`", WARNING, 0.0, {"within": 10 * MINUTE}),
    "worker_restarted": Kind("a worker had to be started again in the time `within`", WARNING, 0.0, {"within": 10 * MINUTE}),
    "frozen": Kind("something is frozen", INFO, HOUR),
}  # fmt: skip
"""In the order of the docs."""

DEFAULTS: Final = (
    "endpoint_down endpoint_wedged error_share disk ledger certificate_expiry key_expiry config_refused journal_lost control_restarted"
).split()
"""The kinds that are watched when no rules are written."""

REPEAT: Final = 4 * HOUR

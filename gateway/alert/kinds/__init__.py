"""The kinds of rules: one file each, and one line here. What words a kind has is in gateway/config/alert_kinds.py."""

from collections.abc import Callable
from typing import Final

from gateway.alert.facts import Facts, Found
from gateway.alert.kinds import (
    budget,
    certificate_expiry,
    config_refused,
    control_restarted,
    cost_anomaly,
    disk,
    drift,
    endpoint_down,
    endpoint_wedged,
    error_share,
    frozen,
    journal_lost,
    key_expiry,
    ledger,
    ttft,
    unpriced,
    usage_anomaly,
    worker_restarted,
)
from gateway.config.resolved_alerts import Rule

KINDS: Final[dict[str, Callable[[Rule, Facts], Found]]] = {
    "endpoint_down": endpoint_down.found,
    "endpoint_wedged": endpoint_wedged.found,
    "error_share": error_share.found,
    "ttft": ttft.found,
    "budget": budget.found,
    "usage_anomaly": usage_anomaly.found,
    "cost_anomaly": cost_anomaly.found,
    "disk": disk.found,
    "ledger": ledger.found,
    "drift": drift.found,
    "certificate_expiry": certificate_expiry.found,
    "key_expiry": key_expiry.found,
    "config_refused": config_refused.found,
    "unpriced": unpriced.found,
    "journal_lost": journal_lost.found,
    "control_restarted": control_restarted.found,
    "worker_restarted": worker_restarted.found,
    "frozen": frozen.found,
}

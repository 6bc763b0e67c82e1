"""The disk that holds `data_dir` is nearly full."""

from gateway.alert.facts import Condition, Facts, Found
from gateway.config.resolved_alerts import Rule


def found(rule: Rule, facts: Facts) -> Found:
    if facts.disk is None:
        return Found([], sure=False)
    text = f"{facts.disk:.0f}% of the disk of data_dir is used, {facts.free / 2**30:.1f} GiB are free"
    return Found([Condition({}, round(facts.disk, 1), text)] if facts.disk > rule.over else [])

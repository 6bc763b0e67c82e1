"""The configuration in the files was refused; the last good one is served."""

from gateway.alert.facts import Condition, Facts, Found
from gateway.config.resolved_alerts import Rule


def found(rule: Rule, facts: Facts) -> Found:
    if facts.refused is None:
        return Found([], sure=False)
    return Found([Condition({}, 1.0, facts.refused)] if facts.refused else [])

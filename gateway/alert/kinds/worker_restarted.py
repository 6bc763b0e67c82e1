"""A worker had to be started again."""

from gateway.alert.facts import Facts, Found
from gateway.alert.kinds.control_restarted import restarted
from gateway.config.resolved_alerts import Rule


def found(rule: Rule, facts: Facts) -> Found:
    return restarted(rule, facts, "worker-")

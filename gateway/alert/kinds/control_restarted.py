"""The control process had to be started again."""

from gateway.alert.facts import Condition, Facts, Found, span
from gateway.config.resolved_alerts import Rule


def found(rule: Rule, facts: Facts) -> Found:
    return restarted(rule, facts, "control")


def restarted(rule: Rule, facts: Facts, kind: str) -> Found:
    """kind: how the names of the processes begin."""
    if not facts.processes:
        return Found([], sure=False)
    conditions = []
    for one in facts.processes:
        ago = facts.now - one.since
        if one.name.startswith(kind) and one.restarts and abs(ago) < rule.within:  # the clock may have been put back since
            text = f"it was started again {span(ago)} ago, {one.restarts} time{'s' if one.restarts != 1 else ''} in all"
            conditions.append(Condition({"process": one.name}, float(one.restarts), text))
    return Found(conditions)

"""Something is frozen, and may have been forgotten."""

from gateway.alert.facts import Condition, Facts, Found
from gateway.config.resolved_alerts import Rule


def found(rule: Rule, facts: Facts) -> Found:
    if facts.frozen is None:
        return Found([], sure=False)
    conditions = []
    for kind, name, reason in facts.frozen:
        what = f"{kind} {name}" if name else "everything"
        conditions.append(Condition({"frozen": what}, 1.0, f"{what} is frozen" + (f": {reason}" if reason else "")))
    return Found(conditions)

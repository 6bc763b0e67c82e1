"""An API key ends soon. A day after its end nothing more is said of it."""

from gateway.alert.facts import Condition, Facts, Found, span, wanted
from gateway.config.resolved_alerts import Rule

AFTER = 86400.0


def found(rule: Rule, facts: Facts) -> Found:
    if facts.keys is None:
        return Found([], sure=False)
    conditions = []
    for key in facts.keys:
        left = key.expires - facts.now
        if -AFTER < left < rule.within and wanted(rule.tenant, key.tenant):
            text = f"the key ends in {span(left)}" if left > 0 else f"the key ended {span(-left)} ago"
            conditions.append(Condition({"key": key.id, "tenant": key.tenant}, round(left / 86400, 1), text))
    return Found(conditions)

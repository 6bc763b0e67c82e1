"""Of a limit or budget per day or month too much is used."""

from gateway.alert.facts import Condition, Facts, Found, wanted
from gateway.config.resolved_alerts import Rule


def found(rule: Rule, facts: Facts) -> Found:
    if facts.budgets is None:
        return Found([], sure=False)
    conditions = [
        Condition(one.labels, round(one.share, 1), f"{one.share:.0f}% used: {one.text}")
        for one in facts.budgets
        if one.share > rule.over and (not rule.tenant or (one.tenant and wanted(rule.tenant, one.tenant)))
    ]
    return Found(conditions)

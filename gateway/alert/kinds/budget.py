"""Of a limit or budget per day or month too much is used. A budget with thresholds of its own (`warn`) goes by those: each is an alert."""

from collections.abc import Iterator

from gateway.alert.facts import Budget, Condition, Facts, Found, wanted
from gateway.config.resolved_alerts import Rule


def found(rule: Rule, facts: Facts) -> Found:
    if facts.budgets is None:
        return Found([], sure=False)
    mine = [one for one in facts.budgets if not rule.tenant or (one.tenant and wanted(rule.tenant, one.tenant))]
    return Found([condition for one in mine for condition in _reached(one, rule.over)])


def _reached(one: Budget, over: float) -> Iterator[Condition]:
    text = f"{int(one.share)}% used: {one.text}"
    if not one.warn and one.share > over:
        yield Condition(one.labels, round(one.share, 1), text)
    for percent in one.warn:
        if one.share >= percent:
            yield Condition({**one.labels, "warn": f"{percent}%"}, round(one.share, 1), f"{text} (it warns at {percent}%)")

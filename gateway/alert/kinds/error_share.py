"""Of a model's requests too many failed: with a status from 500 on, or broken off by the engine or by us."""

from gateway.alert.facts import Condition, Facts, Found, span, wanted
from gateway.config.resolved_alerts import Rule


def found(rule: Rule, facts: Facts) -> Found:
    counted = facts.counted(rule.within)
    if counted is None:
        return Found([], sure=False)
    total: dict[str, float] = {}
    failed: dict[str, float] = {}
    for (model, channel), requests in counted.requests.items():
        if model and wanted(rule.model, model) and wanted(rule.channel, channel):
            total[model] = total.get(model, 0) + requests
            failed[model] = failed.get(model, 0) + counted.failed.get((model, channel), 0)
    conditions = []
    for model, requests in total.items():
        share = 100 * failed[model] / requests if requests else 0.0
        if requests >= rule.requests and share > rule.over:
            text = f"{share:.0f}% of {requests:.0f} requests failed in {span(rule.within)}"
            conditions.append(Condition({"model": model}, round(share, 1), text))
    return Found(conditions, sure=counted.complete)

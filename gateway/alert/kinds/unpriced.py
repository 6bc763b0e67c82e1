"""Requests were for a model that has no price, so nobody knows what they cost."""

from gateway.alert.facts import Condition, Facts, Found, wanted
from gateway.config.resolved_alerts import Rule


def found(rule: Rule, facts: Facts) -> Found:
    if facts.unpriced is None:
        return Found([], sure=False)
    return Found(
        [
            Condition({"model": model}, float(requests), f"{requests} requests have no price")
            for model, requests in facts.unpriced.items()
            if requests > rule.over and wanted(rule.model, model)
        ]
    )

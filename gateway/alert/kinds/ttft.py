"""Too many of a model's streams took longer than the objective to their first token."""

from gateway.alert.facts import Condition, Facts, Found, span, wanted
from gateway.config.resolved_alerts import Rule
from gateway.config.scalars import duration_text


def found(rule: Rule, facts: Facts) -> Found:
    counted = facts.counted(rule.within)
    if counted is None:
        return Found([], sure=False)
    by_model: dict[str, dict[float, float]] = {}
    for (model, channel), buckets in counted.first.items():
        if model and wanted(rule.model, model) and wanted(rule.channel, channel):
            mine = by_model.setdefault(model, {})
            for bound, streams in buckets.items():
                mine[bound] = mine.get(bound, 0) + streams
    conditions = []
    for model, buckets in by_model.items():
        streams = sum(buckets.values())
        share = 100 * slower(buckets, rule.over) / streams if streams else 0.0
        if streams >= rule.requests and share > rule.share:
            text = f"{share:.0f}% of {streams:.0f} streams took longer than {duration_text(rule.over)} in {span(rule.within)}"
            conditions.append(Condition({"model": model}, round(share, 1), text))
    return Found(conditions, sure=counted.complete)


def slower(buckets: dict[float, float], objective: float) -> float:
    """How many took longer. Inside of the objective's own bucket they are taken to be spread evenly."""
    found, below = 0.0, 0.0
    for bound in sorted(buckets):
        if below >= objective:
            found += buckets[bound]
        elif bound > objective:
            found += buckets[bound] * (1.0 if bound == float("inf") else (bound - objective) / (bound - below))
        below = bound
    return found

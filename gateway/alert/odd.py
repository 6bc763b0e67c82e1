"""Which of several hourly series are out of the ordinary now: what the two kinds of anomaly share. Pure."""

from collections.abc import Iterator, Sequence

from gateway.alert.anomaly import HOURS, WEEK, Baseline, Verdict
from gateway.alert.facts import Condition, Facts, Found, number, wanted
from gateway.config.resolved_alerts import Rule


def odd(rule: Rule, facts: Facts, kind: str, least: float) -> Found:
    """By the last whole hour, and by the running one when it is over the mark already."""
    if facts.series is None:
        return Found([], sure=False)
    series = facts.series.series(kind, rule.by, HOURS)
    if series is None:
        return Found([], sure=False)
    glob = {"tenant": rule.tenant, "project": rule.tenant, "model": rule.model, "channel": rule.channel}.get(rule.by, "")
    conditions = []
    for name, hours in series.items():
        owner = name.partition("/")[0] if rule.by == "project" else name
        if not wanted(glob, owner):
            continue
        verdict = next(_verdicts(hours, rule.sensitivity, least), None)
        if verdict is not None:
            labels = {"by": rule.by, **({} if rule.by == "total" else {rule.by: name})}
            text = f"{kind} {verdict.kind}: {number(verdict.value)} in an hour, usual are {number(verdict.expected)}"
            conditions.append(Condition(labels, round(verdict.value, 2), text))
    return Found(conditions)


def _verdicts(hours: Sequence[float | None], sensitivity: str, least: float) -> Iterator[Verdict]:
    last = len(hours) - 1
    if all((hours[at] or 0.0) < least for at in (last, *range(last - 1, -1, -WEEK)) if at >= 0):
        return  # most keys do next to nothing: they are passed over quickly
    baseline = Baseline(hours, least)
    for at, whole in ((last, False), (last - 1, True)):
        if at >= 0 and (verdict := baseline.judge(at, sensitivity, whole=whole)) is not None:
            yield verdict

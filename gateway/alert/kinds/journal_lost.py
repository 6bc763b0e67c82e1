"""Records of requests cannot be written, or were given up."""

from gateway.alert.facts import Condition, Facts, Found, span
from gateway.config.resolved_alerts import Rule


def found(rule: Rule, facts: Facts) -> Found:
    counted = facts.counted(rule.within)
    lost = counted.lost if counted is not None else 0.0
    said = ["the disk refuses records of requests"] if facts.journal_failing else []
    said += [f"{lost:.0f} records were given up in {span(rule.within)}"] if lost else []
    sure = facts.journal_failing is not None and counted is not None and counted.complete
    return Found([Condition({}, lost, "; ".join(said))] if said else [], sure)

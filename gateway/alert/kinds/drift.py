"""What is served is not what should be: a worker has another revision than control, or the files another one than is served."""

from gateway.alert.facts import Condition, Facts, Found
from gateway.config.resolved_alerts import Rule


def found(rule: Rule, facts: Facts) -> Found:
    if facts.drift is None:
        return Found([], sure=False)
    return Found([Condition({"where": where}, 1.0, text) for where, text in facts.drift])

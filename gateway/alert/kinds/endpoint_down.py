"""An endpoint serves nobody, and no operator wants it so."""

from gateway.alert.facts import Condition, Facts, Found, wanted
from gateway.config.resolved_alerts import Rule

DOWN = ("down", "ejected")


def found(rule: Rule, facts: Facts) -> Found:
    if facts.endpoints is None:
        return Found([], sure=False)
    mine = [one for one in facts.endpoints if wanted(rule.channel, one.channel)]
    conditions = [
        Condition({"channel": one.channel, "endpoint": one.url}, 1.0, f"{one.state}: {one.why}" if one.why else one.state)
        for one in mine
        if one.state in DOWN and not one.drained
    ]
    return Found(conditions, sure=all(one.seen for one in mine))

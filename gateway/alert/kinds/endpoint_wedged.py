"""An engine says that it runs requests, and produces no token."""

from gateway.alert.facts import Condition, Facts, Found, wanted
from gateway.config.resolved_alerts import Rule


def found(rule: Rule, facts: Facts) -> Found:
    if facts.endpoints is None:
        return Found([], sure=False)
    mine = [one for one in facts.endpoints if wanted(rule.channel, one.channel)]
    conditions = [
        Condition({"channel": one.channel, "endpoint": one.url}, 1.0, f"wedged: {one.why}") for one in mine if one.state == "wedged"
    ]
    return Found(conditions, sure=all(one.seen for one in mine))

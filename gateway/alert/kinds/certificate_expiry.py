"""A certificate, of a listener, of a channel or of an engine, ends soon or has ended."""

from gateway.alert.facts import Condition, Facts, Found, Labels, span
from gateway.config.resolved_alerts import Rule


def found(rule: Rule, facts: Facts) -> Found:
    ends: list[tuple[Labels, float]] = [({"file": one.file}, one.not_after) for one in facts.certificates or ()]
    endpoints = facts.endpoints or ()
    ends += [({"channel": one.channel, "endpoint": one.url}, one.not_after) for one in endpoints if one.not_after]
    conditions = []
    for labels, end in ends:
        left = end - facts.now
        if left < rule.within:
            text = f"the certificate ends in {span(left)}" if left > 0 else f"the certificate ended {span(-left)} ago"
            conditions.append(Condition(labels, round(left / 86400, 1), text))
    return Found(conditions, sure=facts.certificates is not None and all(one.seen for one in endpoints))

"""What is served is not what should be: a worker has another revision than control, or the files another one than is served.
Or what an engine counted is not what the ledger has."""

from datetime import UTC, datetime
from typing import Final

from gateway.alert.facts import Condition, Drift, Facts, Found, number, wanted
from gateway.config.resolved_alerts import Rule

LEAST: Final = 1000
"""Tokens an hour that engine and ledger differ by at least."""


def found(rule: Rule, facts: Facts) -> Found:
    """A rule with a channel is on usage alone."""
    served = [] if rule.channel else [Condition({"where": where}, 1.0, text) for where, text in facts.drift or ()]
    used = [
        Condition({"channel": one.channel}, one.percent, _text(one))
        for one in facts.usage or ()
        if abs(one.percent) > rule.over and abs(one.tokens) >= LEAST and wanted(rule.channel, one.channel)
    ]
    return Found([*served, *used], sure=facts.usage is not None and (facts.drift is not None or bool(rule.channel)))


def _text(one: Drift) -> str:
    begin = datetime.fromtimestamp(one.hour, UTC)
    tokens, percent = number(abs(one.tokens)), f"{abs(one.percent):.0f}%"
    if one.tokens > 0:
        return f"its engines generated {tokens} tokens ({percent}) past this gateway in the hour from {begin:%H:%M} UTC"
    return f"the ledger has {tokens} tokens ({percent}) that its engines did not count, in the hour from {begin:%H:%M} UTC"

"""An hour's cost is far from what such an hour usually has."""

from gateway.alert.facts import Facts, Found
from gateway.alert.odd import odd
from gateway.config.resolved_alerts import Rule

LEAST = 1.0
"""Of the currency: an anomaly differs by that much an hour at least."""


def found(rule: Rule, facts: Facts) -> Found:
    return odd(rule, facts, "cost", LEAST)

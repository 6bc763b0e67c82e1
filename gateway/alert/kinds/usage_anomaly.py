"""An hour's tokens are far from what such an hour usually has."""

from gateway.alert.facts import Facts, Found
from gateway.alert.odd import odd
from gateway.config.resolved_alerts import Rule

LEAST = 1000.0
"""Tokens an hour that an anomaly differs by at least."""


def found(rule: Rule, facts: Facts) -> Found:
    return odd(rule, facts, "tokens", LEAST)

"""The ledger does not keep up with the journal, or cannot be written."""

from gateway.alert.facts import Condition, Facts, Found, span
from gateway.config.resolved_alerts import Rule


def found(rule: Rule, facts: Facts) -> Found:
    ledger = facts.ledger
    if ledger is None:
        return Found([], sure=False)
    if not ledger.trouble and ledger.lag <= rule.over:
        return Found([])
    text = f"it is {span(ledger.lag)} behind the journal" + (f": {ledger.trouble}" if ledger.trouble else "")
    return Found([Condition({}, round(ledger.lag, 1), text)])

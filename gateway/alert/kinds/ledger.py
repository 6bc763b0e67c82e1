"""The ledger does not keep up with the journal, cannot be written, or was given lines that are no records in the last day."""

from gateway.alert.facts import Condition, Facts, Found, span
from gateway.config.resolved_alerts import Rule


def found(rule: Rule, facts: Facts) -> Found:
    ledger = facts.ledger
    if ledger is None:
        return Found([], sure=False)
    said = [f"it is {span(ledger.lag)} behind the journal"] if ledger.lag > rule.over or ledger.trouble else []
    said += [ledger.trouble] if ledger.trouble else []
    said += [f"lines of the journal that are no records, put aside in the last day: {ledger.aside}"] if ledger.aside else []
    return Found([Condition({}, round(ledger.lag, 1), ": ".join(said))] if said else [])

"""Alerts as checked, in the compact form that control goes by. Decides nothing."""

from typing import Any

from gateway.config import resolved_alerts as form
from gateway.config.alert_kinds import KINDS
from gateway.config.alerts import AlertRule, Alerts, Sink, measure

_TEXTS = ("sensitivity", "by", "channel", "model", "tenant", "severity")


def resolve_alerts(alerts: Alerts) -> form.Alerts:
    """Defaults filled in; without rules, those that are always watched, told to every sink."""
    sinks = {name: _sink(name, sink) for name, sink in alerts.sinks.items()}
    everyone, repeat = tuple(sinks), float(alerts.repeat)
    if alerts.rules is None:
        rules = tuple(form.rule_of(rule.kind, repeat=repeat, to=everyone) for rule in form.DEFAULT_RULES)
        return form.Alerts(sinks=sinks, rules=rules)
    counts: dict[str, int] = {}
    taken = {rule.name for rule in alerts.rules if rule.name}
    rules = tuple(_rule(rule, rule.name or _free(rule.on, counts, taken), everyone, repeat) for rule in alerts.rules)
    return form.Alerts(sinks=sinks, rules=rules)


def _sink(name: str, sink: Sink) -> form.Sink:
    return form.Sink(name=name, url=str(sink.url or ""), alertmanager=str(sink.alertmanager or ""), credential=str(sink.credential or ""))


def _free(kind: str, counts: dict[str, int], taken: set[str]) -> str:
    """`disk`, `disk-2`, …"""
    while True:
        counts[kind] = counts.get(kind, 0) + 1
        name = kind if counts[kind] == 1 else f"{kind}-{counts[kind]}"
        if name not in taken:
            return name


def _rule(rule: AlertRule, name: str, everyone: tuple[str, ...], repeat: float) -> form.Rule:
    said: dict[str, Any] = {word: getattr(rule, word) for word in _TEXTS if getattr(rule, word) is not None}
    if rule.over is not None:
        said["over"] = measure(rule.over)[1]
    if rule.share is not None:
        said["share"] = measure(rule.share)[1]
    if rule.requests is not None:
        said["requests"] = rule.requests
    if rule.within is not None:
        said["within"] = float(rule.within)
    wait = getattr(rule, "for")
    said["wait"] = KINDS[rule.on].wait if wait is None else float(wait)
    said["repeat"] = repeat if rule.repeat is None else float(rule.repeat)
    return form.rule_of(rule.on, name=name, to=everyone if rule.to is None else tuple(rule.to), **said)

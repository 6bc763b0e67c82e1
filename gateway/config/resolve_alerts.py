"""Alerts as checked, in the compact form that control goes by. Decides nothing."""

from collections.abc import Iterator
from typing import Any

from gateway.config import resolved_alerts as form
from gateway.config.alert_kinds import DEFAULTS, KINDS
from gateway.config.alerts import AlertRule, Sink, measure
from gateway.config.model import Model
from gateway.config.schema import Config, Key, Project, Tenant

_TEXTS = ("sensitivity", "by", "channel", "model", "tenant", "severity")


def resolve_alerts(config: Config) -> form.Alerts:
    """Defaults filled in; without rules, those that are always watched, told to every sink."""
    alerts = config.alerts
    sinks = {name: _sink(name, sink) for name, sink in alerts.sinks.items()}
    everyone, repeat = tuple(sinks), float(alerts.repeat)
    if alerts.rules is None:
        rules = tuple(form.rule_of(kind, repeat=repeat, to=everyone, **said) for kind, said in _watched(config))
        return form.Alerts(sinks=sinks, rules=rules)
    counts: dict[str, int] = {}
    taken = {rule.name for rule in alerts.rules if rule.name}
    rules = tuple(_rule(rule, rule.name or _free(rule.on, counts, taken), everyone, repeat) for rule in alerts.rules)
    return form.Alerts(sinks=sinks, rules=rules)


def _watched(config: Config) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is watched without rules. Who has prices wants to hear of a model without one; who wrote `warn`, that it is reached: of other
    limits and budgets only what is beyond them is said then."""
    yield from ((kind, {}) for kind in DEFAULTS)
    if config.prices:
        yield "unpriced", {}
    projects = [project for tenant in config.tenants.values() for project in tenant.projects.values()]
    owners: list[Tenant | Project | Model | Key] = [*config.tenants.values(), *projects, *config.models.values(), *config.keys]
    if any(owner.budget is not None and owner.budget.warn for owner in owners):
        yield "budget", {"over": 100.0}


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

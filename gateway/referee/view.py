"""The limits as people look at them: which there are, how much of each is used, when it frees, and who used it. Changes nothing."""

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any, Final

from gateway.config.resolved_limits import Limit
from gateway.referee.moment import Moment
from gateway.referee.quotas import Gauge, Quotas
from gateway.referee.refusing import money
from gateway.referee.rules import Placed, Rule

TOP: Final = 5
COUNTERS_MOST: Final = 1000
"""Counters shown of one question, those with the least left."""


def told(place: str, limit: Limit) -> dict[str, Any]:
    """One limit as it is configured. max of money is text, so that it stays exact."""
    scope, owner = owner_of(place)
    return {
        "scope": scope,
        "owner": owner,
        "name": limit.name,
        "count": limit.count,
        "max": _amount(limit, limit.max),
        "per": limit.per,
        "zone": limit.zone if limit.per in ("day", "month") else "",
        "during": limit.during,
        "outside": limit.outside,
        "each": limit.each,
        "models": list(limit.models),
        "shadow": limit.shadow,
        "currency": limit.currency,
    }


def owner_of(place: str) -> tuple[str, str]:
    """`("project", "retail/chatbot")`."""
    kind, _, rest = place.partition("/")
    owner = rest.replace("/projects/", "/", 1) if kind == "tenants" else rest
    return {"": "global", "tenants": "project" if "/" in rest else "tenant", "keys": "key", "models": "model"}[kind], owner


def counters(quotas: Quotas, rules: Iterable[tuple[Placed, Rule | None]], now: Moment, key: str, model: str) -> list[dict[str, Any]]:
    """Every counter of these limits (a limit that has none yet has used nothing). key, model: only theirs, where each has its own."""
    wanted = {rule.id: placed for placed, rule in rules if rule is not None}
    by_rule: dict[str, list[Gauge]] = {}
    for gauge in list(quotas.gauges.values()):
        if gauge.rule.id in wanted:
            by_rule.setdefault(gauge.rule.id, []).append(gauge)
    found = []
    for (place, limit), rule in rules:
        mine = [gauge for gauge in by_rule.get(rule.id, ()) if _of(gauge, key, model)] if rule is not None else []
        common = {**told(place, limit), "refused": rule.refused if rule else 0, "shadow_refused": rule.shadowed if rule else 0}
        found += [{**common, **_state(quotas, gauge, now)} for gauge in mine]
        if not mine and not limit.each:
            most = _amount(limit, limit.max)
            found.append({**common, "value": "", "applies": True, "used": _amount(limit, 0), "left": most, "frees": 0.0, "top": []})
    found.sort(key=lambda one: float(one["left"]) / (float(one["max"]) or 1.0))
    return found[:COUNTERS_MOST]


def _of(gauge: Gauge, key: str, model: str) -> bool:
    """Whether it is theirs, or everybody's, or of something that was not asked for."""
    asked = {"key": key, "model": model}.get(gauge.rule.each)
    return not asked or _value(gauge) == asked


def _value(gauge: Gauge) -> str:
    """Whose counter it is, where each has its own."""
    return gauge.name[len(gauge.rule.id) + 1 :]


def _state(quotas: Quotas, gauge: Gauge, now: Moment) -> dict[str, Any]:
    limit = gauge.rule.limit
    used = gauge.window.used(now)
    top = _holders(quotas, gauge) if limit.count == "concurrency" else gauge.users.top(TOP)
    return {
        "value": _value(gauge),
        "applies": gauge.rule.hours is None or gauge.rule.hours(now.wall),
        "used": _amount(limit, used),
        "left": _amount(limit, max(0, limit.max - used)),
        "frees": round(gauge.window.reset(now), 3) if used else 0.0,
        "top": [{"key": key, "used": _amount(limit, amount)} for key, amount in top],
    }


def _holders(quotas: Quotas, gauge: Gauge) -> list[tuple[str, int]]:
    """Whose requests are in flight."""
    holders: dict[str, int] = {}
    for held in quotas.held.values():
        for lease in held.values():
            if gauge in lease.plan.gauges:
                holders[lease.plan.key] = holders.get(lease.plan.key, 0) + 1
    return sorted(holders.items(), key=lambda one: -one[1])[:TOP]


def _amount(limit: Limit, amount: int) -> int | str:
    return money(amount) if limit.count == "money" else amount


def of_model(placed: Iterable[Placed], model: str) -> Iterator[Placed]:
    """Those that requests for a virtual model come under, whoever asks."""
    for place, limit in placed:
        others = place.startswith("models/") and place != f"models/{model}"
        if not others and any(fnmatchcase(model, glob) for glob in limit.models or ("*",)):
            yield place, limit

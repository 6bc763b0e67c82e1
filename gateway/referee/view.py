"""The limits as people look at them: which there are, how much of each is used, when it frees, and who used it. Changes nothing."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from heapq import nsmallest
from itertools import islice
from operator import itemgetter
from typing import Any, Final

from gateway.config.globs import matches
from gateway.config.resolved_limits import UNBOUNDED, Limit
from gateway.referee.budgets import ahead
from gateway.referee.gauges import Gauge
from gateway.referee.moment import Moment
from gateway.referee.quotas import Quotas
from gateway.referee.refusing import money
from gateway.referee.rules import Placed, Rule

TOP: Final = 5
SLICE: Final = 2_000
"""Counters looked at between two pauses."""
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
        "max": _amount(limit, _most(limit)),
        "per": limit.per,
        "zone": limit.zone if limit.per in ("day", "month") else "",
        "during": limit.during,
        "outside": limit.outside,
        "each": limit.each,
        "models": list(limit.models),
        "shadow": limit.shadow,
        "currency": limit.currency,
        **({"budget": money(limit.budget), "warn": list(limit.warn), "stop": limit.stop or None} if limit.budget else {}),
    }


def owner_of(place: str) -> tuple[str, str]:
    """`("project", "retail/chatbot")`."""
    kind, _, rest = place.partition("/")
    owner = rest.replace("/projects/", "/", 1) if kind == "tenants" else rest
    return {"": "global", "tenants": "project" if "/" in rest else "tenant", "keys": "key", "models": "model"}[kind], owner


async def counters(quotas: Quotas, rules: Sequence[tuple[Placed, Rule | None]], now: Moment, key: str, model: str) -> list[dict[str, Any]]:
    """The fullest counters of these limits (a limit that has none yet has used nothing), pausing often.

    key, model: only theirs, where each has its own."""
    placed = {rule.id: (one, rule) for one, rule in rules if rule is not None}
    ranked: list[tuple[float, Gauge]] = []
    gauges = iter(list(quotas.gauges.values()))
    while some := list(islice(gauges, SLICE)):
        mine = [gauge for gauge in some if gauge.rule.id in placed and _of(gauge, key, model)]
        ranked = nsmallest(COUNTERS_MOST, [*ranked, *((_share_left(gauge, now), gauge) for gauge in mine)], key=itemgetter(0))
        await asyncio.sleep(0)
    seen = {gauge.rule.id for _, gauge in ranked}
    found = [{**_common(*placed[gauge.rule.id]), **_state(quotas, gauge, now)} for _, gauge in ranked]
    for (place, limit), rule in rules:
        if not limit.each and (rule is None or rule.id not in seen):
            state = {"value": "", "applies": True, "used": _amount(limit, 0), "left": _amount(limit, _most(limit)), "frees": 0.0, "top": []}
            if limit.count == "money" and limit.per in ("day", "month"):
                state |= _money_state(limit, 0, now)
            found.append({**_common((place, limit), rule), **state})
    return found[:COUNTERS_MOST]


def _share_left(gauge: Gauge, now: Moment) -> float:
    most = _most(gauge.rule.limit)
    return (most - gauge.window.used(now)) / (most or 1)


def _common(placed: Placed, rule: Rule | None) -> dict[str, Any]:
    return {**told(*placed), "refused": rule.refused if rule else 0, "shadow_refused": rule.shadowed if rule else 0}


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
        "left": _amount(limit, max(0, _most(limit) - used)),
        "frees": round(gauge.window.reset(now), 3) if used else 0.0,
        "top": [{"key": key, "used": _amount(limit, amount)} for key, amount in top],
        **(_money_state(limit, used, now) if limit.count == "money" and limit.per in ("day", "month") else {}),
    }


def _most(limit: Limit) -> int:
    """Of a budget that only warns, its whole."""
    return limit.budget if limit.max == UNBOUNDED else limit.max


def _money_state(limit: Limit, used: int, now: Moment) -> dict[str, Any]:
    """forecast: at the end of the day or month; basis: what it goes by, in the words of `cost budgets`. A counter knows its period alone,
    so it is always the share of that which has passed. percent: of the budget, or of the most."""
    whole = limit.budget or limit.max
    return {"percent": used * 100 // whole if whole else 100, "forecast": money(ahead(limit, used, now)), "basis": "rate"}


def _holders(quotas: Quotas, gauge: Gauge) -> list[tuple[str, int]]:
    """Whose requests are in flight."""
    holders: dict[str, int] = {}
    for held in quotas.held.values():
        for lease in held.values():
            if gauge in lease.plan.gauges:
                holders[lease.plan.key] = holders.get(lease.plan.key, 0) + lease.amounts[0]
    return sorted(holders.items(), key=lambda one: -one[1])[:TOP]


def _amount(limit: Limit, amount: int) -> int | str:
    return money(amount) if limit.count == "money" else amount


def of_model(placed: Iterable[Placed], model: str) -> Iterator[Placed]:
    """Those that requests for a virtual model come under, whoever asks."""
    for place, limit in placed:
        others = place.startswith("models/") and place != f"models/{model}"
        if not others and any(matches(glob, model) for glob in limit.models or ("*",)):
            yield place, limit

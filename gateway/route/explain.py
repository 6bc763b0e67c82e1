"""A decision told step by step, without taking anybody's turn: rules and why they held or not, the plan, what is left out."""

from typing import Any

from gateway.errors import Refusal, UpstreamFailure
from gateway.route.ask import Ask
from gateway.route.decide import Route, RuleLive, rest, sorted_by_health
from gateway.route.fit import fitting, nobody, unserved
from gateway.route.plan import Node, Ways

Told = dict[str, Any]


def explain(route: Route, ask: Ask, asked: str = "") -> Told:
    """JSON for people and programs. `ask.tokens` should be counted. asked: the model that leads here by a rule, "" = none does.
    Errors: none; a refusal is part of what is told."""
    asked = asked or route.name
    rules, chosen = [], None
    for rule in route.rules:
        if chosen is not None:
            rules.append({"name": rule.name, "matched": None, "why": [], "to": _to(rule)})
            continue
        why = [{"word": one.word, "holds": one.holds(ask), "told": one.told(ask)} for one in rule.conditions]
        matched = all(one["holds"] for one in why)
        rules.append({"name": rule.name, "matched": matched, "why": why, "to": _to(rule)})
        if matched:
            chosen = rule
    told: Told = {"model": route.name, "rules": rules, "rule": chosen.name if chosen else ""}
    if chosen is not None and chosen.route is not None:
        route.leads(ask, chosen.route)
        return told | {"leads_to": explain(chosen.route, ask, asked)}
    if chosen is not None and chosen.node is not None:
        return told | _plan(chosen.node, chosen.policy, ask, route, asked)
    return told | _plan(route.node, route.policy, ask, route, asked)


def _to(rule: RuleLive) -> str:
    if rule.route is not None:
        return f"model {rule.route.name}"
    assert rule.node is not None
    return ", ".join(dict.fromkeys(f"{way.name}:{way.model}" for way in rule.node.ways())) or "no endpoint"


def _plan(node: Node, policy: str, ask: Ask, route: Route, asked: str) -> Told:
    told: Told = {"policy": policy, "how": node.told(ask), "refused": None}
    fits: Ways = []
    try:
        route.limit(node, ask, long=not route.is_short(node, ask.api, ask.size, ask.max_tokens))
    except Refusal as no:
        told["refused"] = refused(no)
    ordered = node.order(ask, peek=True)
    if not told["refused"]:
        fits = ordered if ask.only is None else [way for way in ordered if way in ask.only]
    well = sorted_by_health(fits, ask.now)
    plan = [way for way in well if way.serves(ask.api)]
    if not plan and not told["refused"]:
        told["refused"] = refused(unserved(asked) if well else nobody(rest(fits, ask.now)))
    told["plan"] = [_way(way, ask) for way in plan]
    told["left_out"] = [_way(way, ask) | {"why": _left_out(way, fits, ask)} for way in ordered if way not in plan]
    return told


def refused(no: Refusal | UpstreamFailure) -> Told:
    """What the caller would get instead of an answer."""
    return {"status": no.status, "code": no.code, "message": no.message}


def _way(way: Any, ask: Ask) -> Told:
    breaker = way.at.breaker
    state = breaker.state(ask.now)
    return {
        "channel": way.name,
        "endpoint": way.at.url,
        "model": way.model,
        "state": state,
        "why": breaker.why,
        "context_length": way.length() or None,
        "in_flight": way.at.load.in_flight,
    }


def _left_out(way: Any, fits: Ways, ask: Ask) -> str:
    if way not in fits and not fitting([way], ask.tokens or 0, ask.max_tokens):
        return f"too long for it: {ask.tokens} tokens and {ask.max_tokens} for the answer, {way.length()} are possible"
    if not way.serves(ask.api):
        return f"its engine does not have this API ({ask.api})"
    wait = way.at.breaker.rests(ask.now)
    return f"asked to be left alone for {wait:.0f} s more" if wait else way.at.breaker.why or way.at.breaker.state(ask.now)

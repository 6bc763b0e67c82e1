"""Answers `gatewayctl routes`: where requests go, and where one that nobody sends would go, decided by the workers' own code."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from gateway.accept.request import facts, not_read, read_call
from gateway.admin.desk import Misasked, NoSuch
from gateway.auth.freezes import Freeze, Frozen
from gateway.auth.keyring import standing
from gateway.config.resolved import Key, Model, Resolved
from gateway.config.tokenizers import ENGINE
from gateway.config.written import plain, tree, written
from gateway.errors import Refusal
from gateway.exchange import Exchange
from gateway.route.ask import Ask
from gateway.route.decide import Route
from gateway.route.explain import explain, refused
from gateway.route.fit import TOO_LONG
from gateway.route.parameters import APIS as SAMPLED
from gateway.serve.builder import Builder
from gateway.serve.further import onward
from gateway.serve.live import ModelLive
from gateway.serve.shared import Shared
from gateway.serve.snapshot import Snapshot
from gateway.tokens.counter import Counter
from gateway.wire.openai import MalformedJson, encode, json_string, parse_object
from gateway.wire.outermost import misshapen

LATEST: Final = 7_258_118_400
"""Unix seconds of the year 2200; schedules know no date beyond it."""
MIDDLE = 0.5
"""Stands for luck where there is none."""
BYTES: Final = 4
"""Of a token, for a prompt of which only the length is said: what a model without a tokenizer takes it to be."""
ASKED_ENGINE: Final = "estimated: a worker asks the engine, where it matters"
SENT: Final = "the gateway sends such a request all the same, and the engine refuses it"


class Asked(msgspec.Struct, forbid_unknown_fields=True):
    """A request that nobody sends. body: its JSON as text. key: an id, "" = any. at: Unix seconds, None = now. tokens: None = counted."""

    model: str = ""
    headers: dict[str, str] = {}
    body: str = ""
    key: str = ""
    api: str = ""
    at: float | None = None
    tokens: int | None = None


class Served(Protocol):
    """What is served now (rollout.Rollout)."""

    config: Resolved | None
    keys: list[Key]
    rev: int


class Explainer:
    """Control's own copy of what workers decide by: built when it is asked for, and brought to the states that are known."""

    def __init__(
        self,
        served: Served,
        states: Callable[[], list[dict[str, Any]]],
        lengths: Callable[[str, str], dict[str, int]],
        freezes: Callable[[], list[Freeze]],
        tiers: Callable[[], dict[str, Any]],
        queued: Callable[[], dict[str, float]],
    ) -> None:
        """states: of all endpoints, as `health` shows them. lengths: an endpoint's context lengths by the engine's model name.
        tiers: how each primary-backup that is not as at the start stands at some worker, by its place. queued: how many wait for
        each limited channel."""
        self._served = served
        self._freezes = freezes
        self._tiers = tiers
        self._queued = queued
        self._states = states
        self._lengths = lengths
        self._counter = Counter()
        self._building = asyncio.Lock()

    # -- what there is --------------------------------------------------------------------------------------------------

    def routes(self) -> list[dict[str, Any]]:
        """All models, each with its targets and rules."""
        return [self._route(model) for model in self._config().models.values()]

    def route(self, name: str) -> dict[str, Any]:
        """One model, by its name or an alias. Raises NoSuch."""
        config = self._config()
        found = config.models.get(name) or _by_alias(config, name)
        if found is None:
            raise NoSuch.named("model", name, config.models)
        states = {(one["channel"], one["endpoint"]): one for one in self._states()}
        used = dict.fromkeys(leaf.channel for leaf in found.leaves())
        return {**self._route(found), "endpoints": [one for (channel, _), one in states.items() if channel in used]}

    @staticmethod
    def _route(model: Model) -> dict[str, Any]:
        return {
            "name": model.name,
            "aliases": list(model.aliases),
            **tree(model.top()),
            "rules": [
                {"name": rule.name, "when": written(rule.when), "to": {"model": rule.model} if rule.target is None else tree(rule.target)}
                for rule in model.rules
            ],
            "fallback": list(model.fallback),
            "retry": plain(model.retry),
            "continuation": model.continuation,
            "tokenizer": model.tokenizer,
            "defaults": model.defaults,
            "caps": model.caps,
        }

    def _config(self) -> Resolved:
        assert self._served.config is not None
        return self._served.config

    # -- where one would go ---------------------------------------------------------------------------------------------

    async def explain(self, asked: Asked) -> dict[str, Any]:
        """The decision, rule by rule. Raises NoSuch for a key or model that is not there, Misasked for a body that workers refuse."""
        snapshot = await self._snapshot()
        key = self._key(asked.key)
        at = time.time() if asked.at is None else asked.at
        if not 0 <= at < LATEST:
            raise Misasked("this is no time of the years 1970 to 2199")
        x = _read(asked, snapshot, at)
        fields, name, api = x.fields, x.model, x.api
        frozen = Frozen(self._freezes())
        model = _open_to(key, x, snapshot, frozen, at)
        shaped = model.parameters.apply(fields) if model.parameters is not None and api in SAMPLED else []
        ask = Ask(
            api=api,
            model=name,
            stream=x.stream,
            headers={header.lower(): value for header, value in asked.headers.items()},
            tenant=key.tenant,
            project=key.project,
            key=key.id,
            fields=fields,
            max_tokens=facts(fields).max_tokens,
            size=max(x.body_bytes, BYTES * (asked.tokens or 0)),
            now=time.monotonic(),
            at=at,
            luck=MIDDLE,
        )
        prompts = await self._count(ask, model, snapshot, asked.tokens)
        decided = _but(frozen, explain(model.route, ask))
        return {
            "asked": {"model": name, "api": api, "key": key.id, "tenant": key.tenant, "project": key.project, "at": ask.at},
            "prompt": _prompt(decided, prompts),
            "remarks": [f"{said}: {SENT}" for said in misshapen(api, fields)] if asked.body.strip() else [],
            "parameters": shaped,
            **decided,
            **_settings(snapshot, decided),
            "fallback": [told async for told in self._fallbacks(decided, ask, snapshot, asked.tokens, frozen)],
        }

    async def _fallbacks(
        self, decided: dict[str, Any], ask: Ask, snapshot: Snapshot, tokens: int | None, frozen: Frozen
    ) -> AsyncIterator[dict[str, Any]]:
        """What would follow, in the order in which workers go on."""
        way = _way(snapshot, decided)
        rest, tried = onward(way) if _goes_on(decided) else [], set(way)
        while rest:
            other = rest.pop(0)
            if other not in tried:
                told = await self._fallback(other, ask, snapshot, tokens, frozen)
                yield told
                way = _way(snapshot, told)
                rest, tried = onward(way) + rest, tried | set(way)

    async def _fallback(self, other: ModelLive, ask: Ask, snapshot: Snapshot, tokens: int | None, frozen: Frozen) -> dict[str, Any]:
        """As workers do, counted by its own tokenizer."""
        await self._count(ask, other, snapshot, tokens)
        return {"model": other.name, **(decided := _but(frozen, explain(other.route, ask))), **_settings(snapshot, decided)}

    async def _count(self, ask: Ask, model: ModelLive, snapshot: Snapshot, tokens: int | None) -> dict[str, dict[str, Any]]:
        """What is known of the prompt's length, and how, by the name of the model that counts: this one, or one that its rules lead to."""
        found = {}
        for name in _led(model.route):
            found[name] = await self._counted(ask, snapshot.models[name], tokens)
        ask.count_by(model.route.tokenizer)
        return found

    async def _counted(self, ask: Ask, model: ModelLive, tokens: int | None) -> dict[str, Any]:
        tokenizer, how, sure = model.config.tokenizer, "as you say", tokens or 0
        if tokens is None:
            before = self._counter.counted
            tokens, sure = await self._counter.measure(ask, tokenizer, enough=model.route.enough())
            counted = self._counter.counted > before
            how = f"by {tokenizer}" if counted else ASKED_ENGINE if tokenizer == ENGINE else "estimated"
        ask.note(model.route.tokenizer, tokens, sure)
        return {"tokens": tokens, "counted": how, "max_tokens": ask.max_tokens}

    async def _snapshot(self) -> Snapshot:
        """Built anew each time: asking is rare, and every endpoint begins as if nobody had met it."""
        async with self._building:
            config = self._config()
            self._counter.keep_in(Path(config.data_dir))
            await self._counter.prepare({model.tokenizer for model in config.models.values()})

            async def no_keys() -> AsyncIterator[list[Key]]:
                for some in (self._served.keys,):
                    yield some

            shared = Shared(self._counter)
            shared.queued = self._queued()
            snapshot = await Builder(self._served.rev, config, shared, strict=False).build(no_keys())
        now = time.monotonic()
        states = {(one["channel"], one["endpoint"]): one for one in self._states()}
        for name, channel in snapshot.channels.items():
            for at in channel.endpoints:
                at.lengths.update(self._lengths(name, at.url))
                known = states.get((name, at.url))
                if known is not None:
                    _bring_to(at.breaker, known, now)
                    at.load.figures(now, known.get("running"), known.get("waiting"), known.get("kv_use"))
                    at.load.in_flight = known.get("in_flight", 0)
        for place, news in self._tiers().items():
            if place in snapshot.tiers:
                snapshot.tiers[place].learn(news, now)
        snapshot.measured()
        snapshot.let_go()
        return snapshot

    def _key(self, id: str) -> Key:
        if not id:
            return Key("", b"", "", "")
        found = next((key for key in self._served.keys if key.id == id), None)
        if found is None:
            raise NoSuch.named("key", id, (key.id for key in self._served.keys))
        return found


def _led(route: Route) -> list[str]:
    """Its name, and those of the models that rules lead to from there and that count for themselves."""
    return [one.name for one in route.led() if one is route or one.tokenizer]


def _way(snapshot: Snapshot, told: dict[str, Any]) -> list[ModelLive]:
    """The models that the decision went through; the last one's settings count."""
    found = [snapshot.models[told["model"]]]
    while "leads_to" in told:
        told = told["leads_to"]
        found.append(snapshot.models[told["model"]])
    return found


def _settings(snapshot: Snapshot, told: dict[str, Any]) -> dict[str, Any]:
    config = _way(snapshot, told)[-1].config
    return {"retry": plain(config.retry), "continuation": config.continuation}


def _prompt(told: dict[str, Any], counted: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The count that decided where it goes: of the last model on the way that has its own."""
    found = counted[told["model"]]
    while "leads_to" in told:
        told = told["leads_to"]
        found = counted.get(told["model"], found)
    return found


def _bring_to(breaker: Any, known: dict[str, Any], now: float) -> None:
    """A breaker that has met nothing, to a state that is known of its endpoint."""
    state, why = known["state"], known.get("why") or ""
    if known.get("drained"):
        breaker.adopt("draining", why, now)
    elif state in ("down", "wedged", "draining"):
        breaker.adopt(state, why, now)
    elif state == "ejected":
        breaker.adopt_ejected(now, 1.0, why)
    elif state == "busy":
        breaker.rest(now, 1.0)


def _by_alias(config: Resolved, name: str) -> Model | None:
    """Exact before the longest beginning, as callers are understood."""
    aliases = {alias: model for model in config.models.values() for alias in model.aliases}
    begins = [alias for alias in aliases if alias.endswith("*") and name.startswith(alias[:-1])]
    return aliases.get(name) or (aliases[max(begins, key=len)] if begins else None)


def _open_to(key: Key, x: Exchange, snapshot: Snapshot, frozen: Frozen, at: float) -> ModelLive:
    """The model, when this key may ask for it now. Raises NoSuch with what the caller would be told otherwise."""
    permit = snapshot.keyring.permit(key)
    try:
        standing(key, at)
        permit.check_api(x.api)
        frozen.admit(key)
        model = snapshot.model(permit, x.model, at)
        frozen.allow(model.name)
    except Refusal as no:
        raise NoSuch(no.message) from None
    return model


def _but(frozen: Frozen, told: dict[str, Any]) -> dict[str, Any]:
    """What was decided, refused where it leads to or through a model that is frozen."""
    leaf, names = told, [told["model"]]
    while "leads_to" in leaf:
        leaf = leaf["leads_to"]
        names.append(leaf["model"])
    try:
        frozen.allow(*names)
    except Refusal as no:
        leaf |= {"refused": refused(no), "plan": [], "left_out": [way | {"why": "frozen"} for way in leaf["plan"]] + leaf["left_out"]}
    return told


def _goes_on(told: dict[str, Any]) -> bool:
    """Whether fallbacks follow: never when the model has not this API, or is frozen."""
    while "leads_to" in told:
        told = told["leads_to"]
    return told["refused"] is None or told["refused"]["code"] == TOO_LONG or told["refused"]["status"] == 503


def _read(asked: Asked, snapshot: Snapshot, at: float) -> Exchange:
    """Its JSON, as a worker reads it. Raises Misasked with what a worker would refuse it with, NoSuch when it names no model."""
    x = Exchange("", "", snapshot, "POST", "", asked.headers, "", time.monotonic(), at)
    try:
        fields = parse_object(asked.body.encode()) if asked.body.strip() else {}
        if asked.model:
            fields["model"] = json_string(asked.model)
        if "model" not in fields:
            raise NoSuch("no model is named: neither with --model nor in the request")
        x.api, x.body = asked.api or _api(fields), encode(fields)
        x.body_bytes = len(x.body)
        read_call(x)
    except (MalformedJson, UnicodeEncodeError) as error:
        raise _refused(not_read(error)) from None
    except Refusal as no:
        raise _refused(no) from None
    return x


def _refused(no: Refusal) -> Misasked:
    return Misasked(f"such a request is refused with {no.status} {no.code}: {no.message}")


def _api(fields: dict[str, msgspec.Raw]) -> str:
    """Which API such a body is for, when nothing says so."""
    for field, api in (
        ("messages", "chat"),
        ("documents", "rerank"),
        ("text_1", "score"),
        ("prompt", "completions"),
        ("input", "embeddings"),
    ):
        if field in fields:
            return api
    return "chat"

"""Builds a snapshot from the resolved form and from what outlives it (`shared`), and lets it go, pausing often."""

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Sequence
from typing import Any

from gateway.config.resolved import Channel, Endpoint, Key, Model, Resolved, Target, Tls
from gateway.config.tls import client_context, server_context
from gateway.config.tokenizers import ENGINE
from gateway.engine.family import DIALECTS
from gateway.referee.money import currencies_of, till_of
from gateway.referee.terms import Table
from gateway.relay.pool import Pool
from gateway.route.ask import Ask
from gateway.route.breaker import Breaker, BreakerSettings
from gateway.route.budget import RetryBudget
from gateway.route.build import looks, tree
from gateway.route.conditions import Figures, Together, compile_when, matcher
from gateway.route.decide import Bounds, Route, RuleLive, fallbacks
from gateway.route.load import Load
from gateway.route.prefix_affinity import PrefixAffinity
from gateway.route.primary_backup import PrimaryBackup
from gateway.route.schedule import Schedule, compile_schedule
from gateway.route.ward import Ward
from gateway.serve.live import ChannelLive, EndpointLive, ModelLive
from gateway.serve.shared import Shared
from gateway.serve.snapshot import Snapshot

log = logging.getLogger("gateway.snapshot")

SLICE = 200
"""Channels or models built between two pauses, so that a reload never holds a loop up."""
AT_ONCE = 2_000
"""Keys that are forgotten between two pauses."""


class Builder:
    """Builds one snapshot, pausing often. Remembers which shared things it used."""

    def __init__(self, rev: int, config: Resolved, shared: Shared, *, strict: bool = True) -> None:
        """strict: a certificate that cannot be used is an error. A worker that starts with what everybody serves already
        goes without it instead: its listener refuses handshakes, its engine's will fail, everything else is served."""
        self.config = config
        self._shared = shared
        self._strict = strict
        self._snapshot = Snapshot(rev, config)
        self._schedules: dict[str, Schedule] = {}
        self.used: dict[str, set[Hashable]] = {name: set() for name in shared.kept}

    async def build(self, keys: AsyncIterator[Iterable[Key]]) -> Snapshot:
        """The whole snapshot. Raises OSError or ssl.SSLError when a certificate cannot be used."""
        snapshot, config = self._snapshot, self.config
        for listener in config.listeners:
            if listener.tls is not None and listener.serves == "api":
                context = self._context("server", listener.tls, server_context)
                if context is not None:
                    snapshot.tls[listener.name] = context
        self._schedules = {name: compile_schedule(schedule) for name, schedule in config.schedules.items()}
        snapshot.keyring.schedules = {name: schedule.open_at for name, schedule in self._schedules.items()}
        for number, channel in enumerate(config.channels.values()):
            snapshot.channels[channel.name] = self._channel(channel)
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
        for number, model in enumerate(config.models.values()):
            snapshot.add_model(self._model(model))
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
        for model in config.models.values():
            self._lead_on(model)
            if model.rules:
                await asyncio.sleep(0)  # patterns and words take their time
        for live in snapshot.models.values():
            live.fallbacks = [snapshot.models[route.name] for route in fallbacks(live.route)]
            live.goes_on = any(route.fallback for route in live.route.led())
        limited = bool(config.limits)
        currencies = {currency for limits in config.limits.values() for currency in currencies_of(limits)}
        async for some in keys:
            snapshot.keyring.add(some)
            limited = limited or any(key.limits for key in some)
            if config.prices:
                currencies.update(currency for key in some if key.limits for currency in currencies_of(key.limits))
            await asyncio.sleep(0)
        if limited:
            snapshot.limits = Table(config.counted(), till_of(config, sorted(currencies)))
        return snapshot

    def sweep(self) -> None:
        """After the swap: what this snapshot does not use is let go."""
        for name, used in self.used.items():
            self._shared.kept[name].sweep(used)

    def _kept(self, kind: str, key: Hashable, make: Callable[[], Any]) -> Any:
        self.used[kind].add(key)
        return self._shared.kept[kind].get(key, make)

    def _context(self, side: str, tls: Tls, make: Callable[[Tls], ssl.SSLContext]) -> ssl.SSLContext | None:
        try:
            context: ssl.SSLContext = self._kept("contexts", (side, tls), lambda: make(tls))
        except OSError as error:  # ssl.SSLError is one
            files = ", ".join(filter(None, (tls.cert, tls.key, tls.ca)))
            if self._strict:
                raise OSError(f"TLS files cannot be used ({error.strerror or error}): {files}") from None
            log.error("TLS files cannot be used (%s): %s", error.strerror or error, files)
            return None
        return context

    # -- channels -----------------------------------------------------------------------------------------------------

    def _channel(self, channel: Channel) -> ChannelLive:
        lines = _constant_lines(channel)
        ward = self._kept("wards", channel.name, lambda: Ward(len(channel.endpoints)))

        held: set[tuple[str, Hashable]] = set()

        def make(endpoints: Sequence[Endpoint]) -> list[EndpointLive]:
            """Also later, when a registry knows others: then what is kept of those that are gone is let go."""
            before = set(held)
            held.clear()
            made = [self._endpoint(channel, endpoint, lines, ward, held) for endpoint in endpoints]
            for kind, key in before - held:
                self._shared.kept[kind].drop(key)
            ward.resize(len(endpoints), time.monotonic())
            return made

        turn = self._kept("turns", channel.name, lambda: [-1])
        return ChannelLive(channel, DIALECTS[channel.engine], make, turn, self._shared.notice)

    def _endpoint(self, channel: Channel, endpoint: Endpoint, lines: bytes, ward: Ward, held: set[tuple[str, Hashable]]) -> EndpointLive:
        def kept(kind: str, key: Hashable, make: Callable[[], Any]) -> Any:
            held.add((kind, key))
            return self._kept(kind, key, make)

        tls: Tls | None = None
        context: ssl.SSLContext | None = None
        if endpoint.scheme == "https":
            tls = channel.tls or Tls()
            context = self._context("client", tls, client_context) or client_context(Tls(verify=tls.verify))
        where = (endpoint.scheme, endpoint.host, endpoint.port, tls)
        connect, idle = channel.timeouts.connect, channel.keepalive
        name = tls.server_name if tls else None
        pool = kept("pools", (channel.name, *where, connect, idle), lambda: Pool(endpoint, context, name, connect, idle))
        at = (channel.name, *where, endpoint.base)
        rules = channel.breaker
        settings = BreakerSettings(failures=rules.failures, share=rules.share, cooldown=rules.cooldown, slow_start=rules.slow_start)
        breaker: Breaker = kept("breakers", at, lambda: Breaker(settings, ward))
        breaker.settings = settings
        return EndpointLive(endpoint, pool, breaker, kept("loads", at, Load), kept("lengths", at, dict), lines)

    # -- models -------------------------------------------------------------------------------------------------------

    def _model(self, model: Model) -> ModelLive:
        top = model.top()
        node = tree(top, self._leaf, self._policy, f"models.{model.name}")
        counts = f"{ENGINE} {model.name}" if model.tokenizer == ENGINE else model.tokenizer
        asks = bool(model.rules) or looks(top)
        route = Route(model.name, model.policy, node, self._bounds(model), asks=asks, counts=bool(counts), tokenizer=counts)
        return ModelLive(model, route, self._kept("budgets", model.name, RetryBudget))

    def _leaf(self, target: Target) -> Any:
        return self._snapshot.channels[target.channel].leaf(target.model)

    def _policy(self, key: tuple[str, Target], make: Callable[[], Any]) -> Any:
        policy = self._kept("policies", key, make)
        if isinstance(policy, PrefixAffinity):
            self._snapshot.affinities[str(key[0])] = policy
        elif isinstance(policy, PrimaryBackup):
            self._snapshot.tiers[str(key[0])] = policy
        return policy

    def _bounds(self, model: Model) -> Bounds:
        """Asked by every rule on length, so the last answer is remembered."""
        counter, tokenizer = self._shared.counter, model.tokenizer
        last: list[Any] = [None, (0, 0)]

        def bounds(ask: Ask) -> tuple[int, int]:
            if last[0] is not ask:
                last[:] = ask, counter.bounds(ask, tokenizer)
            found: tuple[int, int] = last[1]
            return found

        return bounds

    def _lead_on(self, model: Model) -> None:
        """Rules and fallbacks, which lead to other models: now all are there."""
        live = self._snapshot.models[model.name]
        bounds, figures = live.route.bounds, _figures(self._snapshot.channels, self._shared)
        together = Together()
        for rule in model.rules:
            salt = f"{model.name} {rule.name}"
            conditions = compile_when(rule.when, schedules=self._schedules, figures=figures, bounds=bounds, salt=salt, together=together)
            if (length := rule.when.prompt_tokens) is not None:
                live.route.limits += [int(limit) for limit in (length.over, length.up_to) if limit is not None]
            if rule.target is None:
                live.route.rules.append(RuleLive(rule.name, conditions, matcher(conditions), route=self._snapshot.models[rule.model].route))
            else:
                node = tree(rule.target, self._leaf, self._policy, f"models.{model.name}.rules.{rule.name}")
                live.route.rules.append(RuleLive(rule.name, conditions, matcher(conditions), rule.target.policy, node))
        together.ready()
        live.route.fallback = [self._snapshot.models[name].route for name in model.fallback]


async def let_go(snapshot: Snapshot) -> None:
    """Of one that no new request sees, while old ones may go on for long: what is largest of it at once, the rest with the last of them."""
    snapshot.let_go()
    for _ in iter(lambda: snapshot.keyring.let_go(AT_ONCE), False):
        await asyncio.sleep(0)


def _figures(channels: dict[str, ChannelLive], shared: Shared) -> Callable[[str], Figures]:
    """How busy a channel is, for conditions on its load. No method: rules that know the builder would know the whole snapshot."""

    def figures(channel: str) -> Figures:
        return channels[channel].figures(shared.queued.get(channel))

    return figures


def _constant_lines(channel: Channel) -> bytes:
    lines = {"Accept": "*/*", "Content-Type": "application/json", "User-Agent": "gateway"}
    if channel.credential:
        lines["Authorization"] = f"Bearer {channel.credential}"
    lines |= channel.headers
    return "".join(f"{name}: {value}\r\n" for name, value in lines.items()).encode("latin-1")

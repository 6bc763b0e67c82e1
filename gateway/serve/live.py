"""What a worker uses of channels and models while requests run: endpoints with their connections and luck, hops, plans.

Made once per snapshot by `builder`; what it refers to (pools, breakers, loads) outlives the snapshot in `shared`.
"""

import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from gateway.config.resolved import Channel, Endpoint, Model
from gateway.engine.base import Dialect
from gateway.errors import UpstreamFailure
from gateway.exchange import Exchange
from gateway.relay.pool import Pool
from gateway.route.ask import Ask
from gateway.route.breaker import Breaker
from gateway.route.budget import RetryBudget
from gateway.route.conditions import Figures
from gateway.route.decide import Decision, Route
from gateway.route.load import Load
from gateway.route.parameters import Parameters
from gateway.route.plan import Leaf
from gateway.words import STREAMING_APIS

LONGER: Final = 0.1
"""Seconds by which an engine must ask for more rest, before the other workers hear of it again."""

UNLISTED: Final = "its registry lists it no longer: it finishes what it has"

Notice = Callable[[str, str, str, str, float], None]
"""Tells control what happened: channel, endpoint, event (`ejected`, `recovered`, `trial`, `rests`), reason, seconds it stays so."""

NOBODY: Final = Ask(api="", model="")
"""Stands for a request that no policy looks at."""


class EndpointLive:
    """One address of a channel, with its connections and its luck."""

    __slots__ = ("_heads", "_lines", "breaker", "endpoint", "gone", "lengths", "load", "pool", "priority", "url", "weight")

    def __init__(self, endpoint: Endpoint, pool: Pool, breaker: Breaker, load: Load, lengths: dict[str, int], lines: bytes) -> None:
        """lengths: context length by the engine's model name, as control found it."""
        self.endpoint = endpoint
        self.url, self.weight, self.priority = endpoint.url, endpoint.weight, endpoint.priority
        self.pool = pool
        self.breaker = breaker
        self.load = load
        self.lengths = lengths
        self.gone = False
        """Its registry lists it no longer."""
        self._lines = lines
        self._heads: dict[str, bytes] = {}

    @property
    def shut(self) -> bool:
        """Nothing new is to be sent there: it is gone, or drained."""
        return self.gone or self.breaker.barred

    def head(self, path: str) -> bytes:
        """The constant part of a request's head: request line, Host, the channel's credential and headers."""
        head = self._heads.get(path)
        if head is None:
            at = self.endpoint
            host = f"[{at.host}]" if ":" in at.host else at.host
            port = "" if at.port == {"http": 80, "https": 443}[at.scheme] else f":{at.port}"
            head = self._heads[path] = f"POST {at.base}{path} HTTP/1.1\r\nHost: {host}{port}\r\n".encode() + self._lines
        return head


class ChannelLive:
    """A channel as a worker uses it. Its endpoints change when a registry says so, its leaves with them."""

    __slots__ = ("_leaves", "_made", "_make", "config", "dialect", "endpoints", "leaving", "limited", "notice", "turn")

    def __init__(
        self, config: Channel, dialect: Dialect, make: Callable[[Sequence[Endpoint]], list[EndpointLive]], turn: list[int], notice: Notice
    ) -> None:
        """make: endpoints with everything that is kept of them."""
        self.config = config
        self.dialect = dialect
        self.turn = turn
        self.notice = notice
        self.limited = bool(config.max_in_flight or config.endpoint_in_flight)
        self._make = make
        self._leaves: list[tuple[Leaf, str]] = []
        self._made: dict[str, list[Hop]] = {}
        self.endpoints = make(config.endpoints)
        self.leaving: list[tuple[EndpointLive, float]] = []
        """Endpoints that a registry lists no longer and that still had requests then, each with when that was (monotonic)."""

    def leaf(self, model: str) -> Leaf:
        """Its place in a plan, under an engine's name for the model. Where it stands in several places, its hops are the same ones."""
        made = Leaf(self.config.name, self._hops(model), self.turn)
        self._leaves.append((made, model))
        return made

    def refill(self, endpoints: Sequence[Endpoint]) -> None:
        """Other endpoints from now on. Requests at those that are gone end there; those that wait do not go there."""
        before, now = self.endpoints, time.monotonic()
        self.endpoints = self._make(endpoints)
        kept = {id(at.load) for at in self.endpoints}
        for at in before:
            at.gone = id(at.load) not in kept
        gone = [*self.leaving, *((at, now) for at in before if at.gone)]
        self.leaving = [(at, since) for at, since in gone if at.load.in_flight]
        self._made.clear()
        for leaf, model in self._leaves:
            leaf.refill(self._hops(model))

    def let_go(self) -> None:
        """No registry is heard any more: requests that still use it keep the endpoints that it has. What made them knows the whole
        snapshot, and leaves know who remembers their order."""
        self._make = _no_more
        for leaf, _ in self._leaves:
            leaf.let_go()
        self._leaves.clear()

    def figures(self, queue: float | None) -> Figures:
        """How busy its engines are together. queue: requests that wait for it here, when that is known."""
        now = time.monotonic()
        loads = [at.load for at in self.endpoints if at.load.fresh(now)]
        if not loads:
            return Figures(queue=queue)
        running, waiting = sum(load.running for load in loads), sum(load.waiting for load in loads)
        return Figures(running, waiting, queue, max(load.kv_use for load in loads))

    def _hops(self, model: str) -> "list[Hop]":
        hops = self._made.get(model)
        if hops is None:
            hops = self._made[model] = [Hop(self, at, model) for at in self.endpoints]
        return hops


def _no_more(endpoints: Sequence[Endpoint]) -> list[EndpointLive]:
    return []


def told(channels: Iterable[ChannelLive], now: float) -> list[dict[str, Any]]:
    """What a worker says of its endpoints in its health; of those that are well and idle nothing. now: monotonic seconds."""
    said: list[dict[str, Any]] = []
    for channel in channels:
        name = channel.config.name
        for at in channel.endpoints:
            if at.pool.handshakes or at.load.in_flight or at.breaker.since or not at.breaker.well:
                state = at.breaker.state(now)
                said.append(_told(name, at, state, at.breaker.why, now - at.breaker.since if at.breaker.since else 0.0))
        said += [_told(name, at, "draining", UNLISTED, now - since) for at, since in channel.leaving if at.load.in_flight]
    return said


def _told(channel: str, at: EndpointLive, state: str, why: str, seconds: float) -> dict[str, Any]:
    return {
        "channel": channel,
        "endpoint": at.endpoint.url,
        "state": state,
        "why": why,
        "for": round(seconds, 1),
        "in_flight": at.load.in_flight,
        "errors": at.load.errors,
        "ttft": at.load.ttft,
        "handshakes": at.pool.handshakes,
    }


class Hop:
    """One possible attempt: this endpoint of this channel, under this model name."""

    __slots__ = ("_notice", "at", "channel", "dialect", "limited", "model", "name")

    def __init__(self, live: ChannelLive, at: EndpointLive, model: str) -> None:
        self.channel = live.config
        self.dialect = live.dialect
        self.name = live.config.name
        self.limited = live.limited
        self._notice = live.notice
        self.at = at
        self.model = model

    def serves(self, api: str) -> bool:
        """Whether its engine has this API."""
        return api in self.dialect.paths

    def length(self) -> int:
        """The context length in tokens, 0 = nobody says."""
        return self.channel.context_length or self.at.lengths.get(self.model, 0)

    def begin(self, now: float) -> int:
        """A request is sent there. now: monotonic. Returns the breaker's ticket for it."""
        breaker = self.at.breaker
        ticket = breaker.begin(now)
        if not breaker.well and breaker.tries(now):
            self._notice(self.name, self.at.url, "trial", "", 0.0)
        return ticket

    def served(self, ticket: int | None = None) -> None:
        """ticket: what the breaker gave when the request was sent."""
        if self.at.breaker.success(None if self.at.breaker.well else time.monotonic(), ticket):
            self._notice(self.name, self.at.url, "recovered", "", 0.0)

    def began(self, seconds: float) -> None:
        """A stream's first content came so long after its request was sent."""
        self.at.load.began(seconds)

    def failed(self, failure: UpstreamFailure, ticket: int | None = None) -> None:
        """Counts against the endpoint, unless the caller was to blame: then the engine is well, or it would not have said so. What failed
        here says nothing of it."""
        now = time.monotonic()
        breaker = self.at.breaker
        if failure.blame == "gateway":
            breaker.abandoned(ticket)
            return
        if failure.blame == "engine":
            self.at.load.errors += 1
        if failure.retry_after and failure.upstream_status in (429, 503):
            rested = breaker.rests(now)
            breaker.rest(now, failure.retry_after, ticket)
            if breaker.rests(now) > rested + LONGER:
                self._notice(self.name, self.at.url, "rests", "", breaker.rests(now))
        elif failure.blame != "engine":
            self.served(ticket)
        elif breaker.failure(now, failure.reason, ticket):
            self._notice(self.name, self.at.url, "ejected", failure.reason, breaker.remaining(now))


class ModelLive:
    """A virtual model as a worker uses it."""

    __slots__ = ("budget", "config", "continues", "fallbacks", "goes_on", "name", "names", "parameters", "route")

    def __init__(self, config: Model, route: Route, budget: RetryBudget) -> None:
        self.config = config
        self.name = config.name
        self.names = (config.name, *config.aliases)
        self.route = route
        self.budget = budget
        self.fallbacks: list[ModelLive] = []
        """Where to go on when everything failed: its fallbacks, and theirs."""
        self.goes_on = False
        """Whether there are any, or a model that its rules lead to has some."""
        self.parameters = Parameters(config.defaults, config.caps) if config.defaults or config.caps else None
        self.continues = config.continuation != "off"

    def plan(self, x: Exchange, now: float) -> Decision | Ask:
        """Where a request that was read goes. An `Ask`: its tokens must be counted first, then `route.decide` it.

        Errors: Refusal, when it is surely too long for every target.
        """
        route = self.route
        if not route.asks and route.is_short(route.node, x.api, x.body_bytes, x.facts.max_tokens):  # the usual case
            everywhere = x.api in STREAMING_APIS
            for way in route.node.ways():
                if not (way.at.breaker.well and (everywhere or way.serves(x.api))):
                    break
            else:
                NOBODY.luck = random.random()  # who comes second goes by it
                return Decision("", route.policy, route.node.order(NOBODY), 0.0)
        ask = self.ask(x, now)
        return route.decide(ask) or ask

    @staticmethod
    def ask(x: Exchange, now: float) -> Ask:
        """The request as decisions see it."""
        key = x.key
        return Ask(
            api=x.api,
            model=x.model,
            stream=x.stream,
            headers=x.headers,
            tenant=key.tenant,
            project=key.project,
            key=key.id,
            fields=x.fields,
            max_tokens=x.facts.max_tokens,
            size=x.body_bytes,
            now=now,
            at=x.ts,
            luck=random.random(),
        )

"""One revision of the configuration, built whole and never changed: what a request needs to be decided and sent.

`build` makes it from the resolved form and from what outlives it (`shared`); the snapshot a request was accepted
under serves it to its very end.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable, Hashable, Iterable
from typing import Any

from gateway.auth.keyring import Keyring
from gateway.auth.proxies import Proxies
from gateway.config.resolved import Channel, Endpoint, Http, Journal, Key, Model, Resolved, Tls
from gateway.config.tls import client_context, server_context
from gateway.engine.base import Dialect
from gateway.engine.family import DIALECTS
from gateway.errors import Refusal, UpstreamFailure
from gateway.relay.pool import Pool
from gateway.route.breaker import Breaker
from gateway.route.budget import RetryBudget
from gateway.route.proportional import Proportional
from gateway.shared import Load, Shared

log = logging.getLogger("gateway.snapshot")

SLICE = 200
"""Channels or models built between two pauses, so that a reload never holds a loop up."""


class EndpointLive:
    """One address of a channel, with its connections and its luck."""

    __slots__ = ("_heads", "_lines", "breaker", "endpoint", "load", "pool")

    def __init__(self, endpoint: Endpoint, pool: Pool, breaker: Breaker, load: Load, lines: bytes) -> None:
        self.endpoint = endpoint
        self.pool = pool
        self.breaker = breaker
        self.load = load
        self._lines = lines
        self._heads: dict[str, bytes] = {}

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
    """A channel as a worker uses it."""

    __slots__ = ("config", "dialect", "endpoints", "turn")

    def __init__(self, config: Channel, dialect: Dialect, endpoints: list[EndpointLive], turn: list[int]) -> None:
        self.config = config
        self.dialect = dialect
        self.endpoints = endpoints
        self.turn = turn


class Hop:
    """One possible attempt: this endpoint of this channel, under this model name."""

    __slots__ = ("at", "channel", "dialect", "model", "name")

    def __init__(self, live: ChannelLive, at: EndpointLive, model: str) -> None:
        self.channel = live.config
        self.dialect = live.dialect
        self.name = live.config.name
        self.at = at
        self.model = model

    def served(self) -> None:
        self.at.breaker.success()

    def began(self, seconds: float) -> None:
        """A stream's first content came so long after its request was sent."""
        self.at.load.began(seconds)

    def failed(self, failure: UpstreamFailure) -> None:
        """Counts against the endpoint, unless the caller was to blame: then the engine is well, or it would not have said so."""
        now = time.monotonic()
        if failure.blame == "engine":
            self.at.load.errors += 1
        if failure.retry_after and failure.upstream_status in (429, 503):
            self.at.breaker.rest(now, failure.retry_after)
        elif failure.blame == "engine":
            self.at.breaker.failure(now, failure.reason)
        else:
            self.at.breaker.success()


class TargetLive:
    """A model's target: its hops in every rotation, made once, so that a plan only picks one."""

    __slots__ = ("_rotations", "_turn", "hops")

    def __init__(self, live: ChannelLive, model: str) -> None:
        self.hops = [Hop(live, at, model) for at in live.endpoints]
        self._rotations = [self.hops[n:] + self.hops[:n] for n in range(len(self.hops))]
        self._turn = live.turn

    def in_turn(self) -> list[Hop]:
        """All endpoints of the channel, another one first each time."""
        if len(self._rotations) == 1:
            return self.hops
        turn = self._turn[0] = (self._turn[0] + 1) % len(self._rotations)
        return self._rotations[turn]


class ModelLive:
    """A virtual model as a worker uses it."""

    __slots__ = ("_depth", "_plans", "_targets", "budget", "config", "name", "shares")

    def __init__(self, config: Model, targets: list[TargetLive], shares: Proportional, budget: RetryBudget) -> None:
        self.config = config
        self.name = config.name
        self.shares = shares
        self.budget = budget
        self._targets = targets
        self._depth = max(len(target.hops) for target in targets)
        self._plans: dict[tuple[int, ...], list[Hop]] = {}

    def plan(self, now: float) -> list[Hop]:
        """Every endpoint that may serve, each once, in the order they are to be tried.

        The policy's pick first, then the other targets, then further endpoints of each. Ejected endpoints come last: when
        nobody else can serve, they are tried all the same. Those that asked to be left alone are left alone: empty = all did.
        """
        if len(self._targets) == 1:
            hops = self._targets[0].in_turn()
        else:
            hops = self._ordered(self.shares.order())
        for hop in hops:
            if not hop.at.breaker.well:
                awake = [one for one in hops if not one.at.breaker.rests(now)]
                return sorted(awake, key=lambda one: not one.at.breaker.allows(now))
        return hops

    def rest(self, now: float) -> float:
        """Seconds until the first endpoint that asked to be left alone may be asked again."""
        return min(hop.at.breaker.rests(now) for target in self._targets for hop in target.hops)

    def _ordered(self, order: tuple[int, ...]) -> list[Hop]:
        """The hops of targets in this order; of each target its endpoint in turn first."""
        if self._depth > 1:
            columns = [self._targets[n].in_turn() for n in order]
            return [column[row] for row in range(self._depth) for column in columns if row < len(column)]
        hops = self._plans.get(order)
        if hops is None:
            hops = self._plans[order] = [self._targets[n].hops[0] for n in order]
        return hops


class Snapshot:
    """Everything a worker decides by. `rev` is the revision's number."""

    __slots__ = (
        "_prefixes",
        "body_share",
        "channels",
        "cors",
        "data_dir",
        "http",
        "journal",
        "keyring",
        "listeners",
        "models",
        "names",
        "node",
        "proxies",
        "rev",
        "tls",
    )

    def __init__(self, rev: int, config: Resolved) -> None:
        self.rev = rev
        self.node = config.node
        self.data_dir = config.data_dir
        self.http: Http = config.http
        self.body_share = max(config.http.body, config.http.body_memory // max(1, config.workers))
        self.proxies = Proxies(config.http.trusted_proxies) if config.http.trusted_proxies else None
        self.journal: Journal = config.journal
        self.listeners = config.listeners
        self.keyring = Keyring(config.auth)
        self.channels: dict[str, ChannelLive] = {}
        self.models: dict[str, ModelLive] = {}
        self.names: dict[str, ModelLive] = {}
        self._prefixes: list[tuple[str, ModelLive]] = []
        self.cors: dict[str, bytes] = _cors_lines(config.http)
        self.tls: dict[str, ssl.SSLContext] = {}

    def add_model(self, model: ModelLive) -> None:
        self.models[model.name] = self.names[model.name] = model
        for alias in model.config.aliases:
            if alias.endswith("*"):
                self._prefixes.append((alias[:-1], model))
                self._prefixes.sort(key=lambda item: -len(item[0]))
            else:
                self.names[alias] = model

    def model(self, key: Key, name: str) -> ModelLive:
        """The virtual model that `name` means for `key`: exact before the longest prefix. Refuses with 404 or 403."""
        found = self.names.get(name)
        if found is None:
            found = next((model for prefix, model in self._prefixes if name.startswith(prefix)), None)
        if found is None:
            raise Refusal(
                404,
                "model_not_found",
                f"The model `{name[:200]}` does not exist or you do not have access to it.",
                param="model",
                phase="R",
            )
        if not self.keyring.allows(key, found.name, name):
            raise Refusal(403, "model_not_allowed", f"Your API key may not use the model `{name[:200]}`.", param="model", phase="K")
        return found

    def usable(self, key: Key) -> frozenset[str]:
        """Model names (aliases too) that `key` may use."""
        return self.keyring.usable(key, self.names)


class Builder:
    """Builds one snapshot, pausing often. Remembers which shared things it used."""

    def __init__(self, rev: int, config: Resolved, shared: Shared, *, strict: bool = True) -> None:
        """strict: a certificate that cannot be used is an error. A worker that starts with what everybody serves already
        goes without it instead: its listener refuses handshakes, its engine's will fail, everything else is served."""
        self._config = config
        self._shared = shared
        self._strict = strict
        self._snapshot = Snapshot(rev, config)
        self.used: dict[str, set[Hashable]] = {
            name: set() for name in ("pools", "breakers", "shares", "budgets", "contexts", "turns", "loads")
        }

    async def build(self, keys: AsyncIterator[Iterable[Key]]) -> Snapshot:
        """The whole snapshot. Raises OSError or ssl.SSLError when a certificate cannot be used."""
        snapshot = self._snapshot
        for listener in self._config.listeners:
            if listener.tls is not None and listener.serves == "api":
                context = self._context("server", listener.tls, server_context)
                if context is not None:
                    snapshot.tls[listener.name] = context
        for number, channel in enumerate(self._config.channels.values()):
            snapshot.channels[channel.name] = self._channel(channel)
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
        for number, model in enumerate(self._config.models.values()):
            snapshot.add_model(self._model(model))
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
        async for some in keys:
            snapshot.keyring.add(some)
            await asyncio.sleep(0)
        return snapshot

    def sweep(self) -> None:
        """After the swap: what this snapshot does not use is let go."""
        for name, used in self.used.items():
            getattr(self._shared, name).sweep(used)

    def _kept(self, kind: str, key: Hashable, make: Any) -> Any:
        self.used[kind].add(key)
        return getattr(self._shared, kind).get(key, make)

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

    def _channel(self, channel: Channel) -> ChannelLive:
        lines = _constant_lines(channel)
        endpoints = [self._endpoint(channel, endpoint, lines) for endpoint in channel.endpoints]
        turn = self._kept("turns", (channel.name, len(endpoints)), lambda: [-1])
        return ChannelLive(channel, DIALECTS[channel.engine], endpoints, turn)

    def _endpoint(self, channel: Channel, endpoint: Endpoint, lines: bytes) -> EndpointLive:
        tls: Tls | None = None
        context: ssl.SSLContext | None = None
        if endpoint.scheme == "https":
            tls = channel.tls or Tls()
            context = self._context("client", tls, client_context) or client_context(Tls(verify=tls.verify))
        where = (endpoint.scheme, endpoint.host, endpoint.port, tls)
        connect, idle = channel.timeouts.connect, channel.keepalive
        name = tls.server_name if tls else None
        pool = self._kept("pools", (channel.name, *where, connect, idle), lambda: Pool(endpoint, context, name, connect, idle))
        breaker = self._kept("breakers", (channel.name, *where, endpoint.base), Breaker)
        load = self._kept("loads", (channel.name, *where, endpoint.base), Load)
        return EndpointLive(endpoint, pool, breaker, load, lines)

    def _model(self, model: Model) -> ModelLive:
        targets = [TargetLive(self._snapshot.channels[target.channel], target.model) for target in model.targets]
        weights = tuple(target.weight for target in model.targets)
        shares = self._kept("shares", (model.name, model.targets), lambda: Proportional(weights))
        return ModelLive(model, targets, shares, self._kept("budgets", model.name, RetryBudget))


def _constant_lines(channel: Channel) -> bytes:
    lines = {"Accept": "*/*", "Content-Type": "application/json", "User-Agent": "gateway"}
    if channel.credential:
        lines["Authorization"] = f"Bearer {channel.credential}"
    lines |= channel.headers
    return "".join(f"{name}: {value}\r\n" for name, value in lines.items()).encode("latin-1")


def _cors_lines(http: Http) -> dict[str, bytes]:
    """Per allowed origin, the header lines that let its pages read our answers. `*` stands under every origin asked for."""
    if http.cors is None:
        return {}
    expose = "Access-Control-Expose-Headers: x-request-id, x-gateway-channel, x-gateway-attempts, retry-after, retry-after-ms\r\n"
    return {o: f"Access-Control-Allow-Origin: {o}\r\nVary: Origin\r\n{expose}".encode() for o in http.cors.origins}

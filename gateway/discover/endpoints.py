"""Control's view of every endpoint: looks at each in turn, in the background, and resolves `engine: auto`. Never routes anything:
what it finds is told to the workers (agreement.py), which have breakers of their own.
"""

import asyncio
import heapq
import itertools
import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from gateway.config.resolved import Channel, Endpoint, Model
from gateway.discover.finding import Probe
from gateway.discover.look import DOWN, Look
from gateway.discover.probe import TOTAL, peek, probe
from gateway.discover.sparing import Sparing
from gateway.moment import comes

log = logging.getLogger("gateway.endpoints")

EVERY: Final = 10.0
"""Seconds between two looks at an endpoint: its model list, its health path, its figures."""
CLOSELY: Final = 2.0
"""Seconds between two looks at the figures of endpoints whose load decides where requests go, or that are wedged after a short time."""
HASTY: Final = 3 * EVERY
"""Where engines are wedged after less, figures are looked at closely: whole looks would find it much later than they say."""
SOON: Final = 1.0
"""Seconds to the next look when the last one failed for the first time."""
RETURN: Final = 3.0
"""Seconds between two looks at one that fails: what is well again should not wait for long."""
AT_ONCE: Final = 32
"""Looks at the same time."""
PER_SECOND: Final = 100.0
"""Looks a second at most: with more than a thousand endpoints, each is looked at less often."""
PATIENCE: Final = 3.0
"""Seconds for one look at a model list."""
WHOLE: Final = 600.0
"""Seconds between two whole probes (version, context length) of an endpoint that is well."""
TICK: Final = 0.1
"""Looks that are due within so many seconds are begun together."""

Key = tuple[str, str]
"""Channel's name, endpoint's URL."""


class Endpoints:
    """`adopt` says which there are, `run` keeps looking at them; everything else tells what is known."""

    def __init__(self, on_detected: Callable[[str, str], None] = lambda channel, engine: None) -> None:
        """on_detected: called with channel and engine when an `auto` channel's engine became known, or is another one now."""
        self._on_detected = on_detected
        self.on_seen: Callable[[Look, bool], None] = lambda look, figures: None
        """Called after each look at an endpoint; figures: whether there are new ones."""
        self.on_figures: Callable[[Look], None] = lambda look: None
        """Called when an endpoint's own figures were read anew."""
        self.on_adopted: Callable[[], None] = lambda: None
        """Called when the endpoints are those of another revision."""
        self._looks: dict[Key, Look] = {}
        self._channels: dict[str, list[Look]] = {}
        self._closely: frozenset[str] = frozenset()
        self._due: list[tuple[float, int, Look]] = []
        self._sooner = asyncio.Event()
        """A look is planned that comes before all others."""
        self._number = itertools.count(1)
        self._told: dict[str, str] = {}
        self._detecting = 0
        self._sparing = Sparing()

    # -- what there is ------------------------------------------------------------------------------------------------

    def adopt(self, channels: Mapping[str, Channel], models: Mapping[str, Model] | None = None) -> None:
        """The channels of a revision. What is known of unchanged endpoints stays; new ones are looked at soon.

        models: whose targets say which models each channel must have; without them only `Channel.model` does.
        """
        wanted = wanted_of(channels, models or {})
        before, self._looks, self._channels = self._looks, {}, {}
        new = []
        for name, channel in channels.items():
            looks = self._channels[name] = []
            for endpoint in {endpoint.url: endpoint for endpoint in channel.endpoints}.values():
                look = self._kept(before.get((name, endpoint.url)), channel, endpoint)
                if look is None:
                    look = Look(channel, endpoint, (), time.time())
                    new.append(look)
                elif look.wanted != wanted[name]:
                    look.list_due = 0.0
                    self._plan(look, random.uniform(0.0, SOON))
                look.channel, look.endpoint, look.wanted = channel, endpoint, wanted[name]
                self._looks[name, endpoint.url] = look
                looks.append(look)
            _hold_back(channel, looks, before)
        for key, look in before.items():
            look.gone = self._looks.get(key) is not look
        self._told = {name: engine for name, engine in self._told.items() if name in channels and channels[name].auto}
        spread = min(EVERY, len(new) / PER_SECOND)
        for look in new:
            self._plan(look, random.uniform(0.0, spread))
        self.on_adopted()

    def watch_closely(self, channels: Iterable[str]) -> None:
        """The channels whose figures are needed fresh: under a policy or a rule that goes by load. Those whose engines are wedged
        after a short time are so by themselves."""
        before, self._closely = self._closely, frozenset(channels)
        for name in self._closely - before:
            for look in self._channels.get(name, ()):
                self._plan(look, random.uniform(0.0, CLOSELY))

    @staticmethod
    def _kept(look: Look | None, channel: Channel, endpoint: Endpoint) -> Look | None:
        return look if look is not None and _identity(look.channel, look.endpoint) == _identity(channel, endpoint) else None

    # -- what is known ------------------------------------------------------------------------------------------------

    def engine_of(self, channel: str) -> str | None:
        """The family that a channel's endpoints say they are, the first that says so; None = unknown yet."""
        return next((look.engine for look in self._channels.get(channel, ()) if look.engine), None)

    def states(self) -> list[dict[str, Any]]:
        """Every endpoint: channel, endpoint, engine, state, since, why, models, context_length, version, tls, figures."""
        now = time.monotonic()
        return [look.told(now) for look in self._looks.values()]

    def looks(self) -> Mapping[Key, Look]:
        """What is known of each endpoint, by channel and URL."""
        return self._looks

    async def probe_channel(self, name: str) -> dict[str, Any]:
        """A whole, fresh probe of each endpoint of a channel. Raises KeyError."""
        looks = list(self._channels[name])
        found = await asyncio.gather(*(_probe(look) for look in looks))
        for look, one in zip(looks, found, strict=True):
            self._learn(look, one, whole=True)
        channel = looks[0].channel if looks else None
        return {
            "channel": name,
            "engine": "auto" if channel and channel.auto else channel.engine if channel else "",
            "detected": self.engine_of(name),
            "endpoints": [one.told() for one in found],
        }

    async def detect_all(self, timeout: float) -> None:
        """Asks the endpoints of `auto` channels whose engine is unknown, for at most `timeout` seconds. `on_detected` is not called."""
        unknown = [look for name, looks in self._channels.items() if self.engine_of(name) is None for look in looks if look.channel.auto]
        slots = asyncio.Semaphore(AT_ONCE)

        async def ask(look: Look) -> None:
            async with slots:
                self._learn(look, await _probe(look, total=min(TOTAL, timeout)), whole=True)

        self._detecting += 1
        tasks = [asyncio.create_task(ask(look)) for look in unknown]
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=timeout)
        finally:
            self._detecting -= 1
            await _ended(tasks)
        for name, looks in self._channels.items():
            if looks and looks[0].channel.auto and (engine := self.engine_of(name)):
                self._told[name] = engine

    # -- looking --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Looks at the endpoints, for ever. Errors: none; only a cancel ends it."""
        slots = asyncio.Semaphore(AT_ONCE)
        tasks: set[asyncio.Task[None]] = set()

        async def visit(look: Look) -> None:
            try:
                if not look.gone:
                    await self._visit(look)
            except Exception:
                log.exception("looking at %s ended in a fault of ours", look.endpoint.url)
            finally:
                look.visited = False
                slots.release()
                if not look.gone:
                    self._plan(look, self._pause(look))
            if look.gone:
                await look.vitals.close()

        try:
            while True:
                while self._due and self._due[0][0] <= time.monotonic():
                    _, number, look = heapq.heappop(self._due)
                    if look.visited or number != look.planned:
                        continue
                    look.visited = True
                    await slots.acquire()
                    task = asyncio.create_task(visit(look))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                await comes(self._sooner, max(TICK, self._due[0][0] - time.monotonic()) if self._due else None)
                self._sooner.clear()
        finally:
            await _ended(tasks)
            for look in {*self._looks.values(), *(look for _, _, look in self._due)}:
                await look.vitals.close()

    async def _visit(self, look: Look) -> None:
        """Its model list, its health path and its figures; between two of these its figures alone."""
        channel, now = look.channel, time.monotonic()
        known = look.engine or (None if channel.auto else channel.engine)
        closely = self._is_close(channel)
        if known is not None and now < look.list_due:
            fresh = await look.vitals.look(channel, look.endpoint, known, health=False, keep=closely, total=PATIENCE)
            if not look.gone:
                self._seen(look, look.feel(time.time()), fresh)
            return
        whole = known is None or now - look.asked_all_at > WHOLE
        if whole:
            found = await _probe(look, PATIENCE)
        else:
            at, engine = channel, known or channel.engine
            found = await peek(look.endpoint, engine, credential=at.credential, tls=at.tls, headers=at.headers, total=PATIENCE)
        engine = found.engine or known or channel.engine
        fresh = found.reachable and await look.vitals.look(channel, look.endpoint, engine, health=True, keep=closely, total=PATIENCE)
        if not look.gone:
            self._learn(look, found, whole=whole, fresh=fresh)
            self._tell(channel.name)
            look.list_due = time.monotonic() + self._period(look)

    def _learn(self, look: Look, found: Probe, *, whole: bool, fresh: bool = False) -> None:
        channel = look.channel
        changed = look.learn(found, time.time(), lambda: self.engine_of(channel.name) if channel.auto else channel.engine)
        if found.reachable and not look.failures:
            look.reached = time.monotonic()
        if whole and look.state != DOWN:
            look.asked_all_at = time.monotonic()
        elif look.state == DOWN:
            look.asked_all_at = float("-inf")  # another engine may stand there afterwards
        self._seen(look, changed, fresh)

    def _seen(self, look: Look, changed: bool, fresh: bool) -> None:
        if changed:
            self._sparing.say(look, time.monotonic())
        self.on_seen(look, fresh)
        if fresh:
            self.on_figures(look)

    def _tell(self, name: str) -> None:
        engine = self.engine_of(name)
        looks = self._channels.get(name)
        if self._detecting or not engine or not looks or not looks[0].channel.auto or self._told.get(name) == engine:
            return
        self._told[name] = engine
        try:
            self._on_detected(name, engine)
        except Exception:
            log.exception("channel %s: that its engine is %s was told in vain", name, engine)

    def _plan(self, look: Look, pause: float) -> None:
        """The next look at it; what was planned before holds no longer."""
        look.planned = next(self._number)
        heapq.heappush(self._due, (time.monotonic() + pause, look.planned, look))
        if self._due[0][1] == look.planned:
            self._sooner.set()

    def _period(self, look: Look) -> float:
        """Seconds from one whole look to the next."""
        spread = len(self._looks) / PER_SECOND
        period = max(EVERY, spread)
        if look.failures:
            period = min(SOON if look.failures == 1 else max(RETURN, spread), period)
        return period * random.uniform(0.9, 1.1)

    def _is_close(self, channel: Channel) -> bool:
        return channel.name in self._closely or channel.wedged_after < HASTY

    def _pause(self, look: Look) -> float:
        whole = max(0.0, look.list_due - time.monotonic())
        if not self._is_close(look.channel) or look.state == DOWN:
            return whole
        close = sum(len(looks) for looks in self._channels.values() if looks and self._is_close(looks[0].channel))
        return min(whole, max(CLOSELY, close / PER_SECOND) * random.uniform(0.9, 1.1))


def wanted_of(channels: Mapping[str, Channel], models: Mapping[str, Model]) -> dict[str, tuple[str, ...]]:
    """Which models each channel's engines must have."""
    found: dict[str, dict[str, None]] = {name: {channel.model: None} if channel.model else {} for name, channel in channels.items()}
    for target in (target for model in models.values() for target in model.leaves()):
        if target.model:
            found.setdefault(target.channel, {})[target.model] = None
    return {name: tuple(names) for name, names in found.items()}


def _hold_back(channel: Channel, looks: list[Look], before: Mapping[Key, Look]) -> None:
    """What a registry has just named serves nobody before it was looked at, as long as there are others."""
    fresh = [look for look in looks if before.get((channel.name, look.endpoint.url)) is not look]
    if channel.registry and len(fresh) < len(looks):
        for look in fresh:
            look.new = True


def _identity(channel: Channel, endpoint: Endpoint) -> tuple[object, ...]:
    """What must be the same for what is known of an endpoint to hold."""
    engine = "auto" if channel.auto else channel.engine
    where = (endpoint.scheme, endpoint.host, endpoint.port, endpoint.base)
    return (where, engine, channel.credential, channel.headers, channel.tls, channel.planes, channel.plane_tls)


async def _probe(look: Look, total: float = TOTAL) -> Probe:
    channel = look.channel
    return await probe(
        look.endpoint,
        engine=None if channel.auto else channel.engine,
        credential=channel.credential,
        tls=channel.tls,
        planes=channel.planes,
        plane_tls=channel.plane_tls,
        headers=channel.headers,
        total=total,
    )


async def _ended(tasks: "set[asyncio.Task[None]] | list[asyncio.Task[None]]") -> None:
    for task in tasks:
        task.cancel()
    for error in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(error, Exception):
            log.error("asking an endpoint ended in a fault of ours", exc_info=error)

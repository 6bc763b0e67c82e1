"""Control's view of every endpoint: looks at each in turn, in the background, and resolves `engine: auto`. Never routes anything:
workers have breakers of their own.
"""

import asyncio
import heapq
import itertools
import logging
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from gateway.config.resolved import Channel, Endpoint, Model
from gateway.discover.finding import Probe
from gateway.discover.look import DOWN, UP, Look
from gateway.discover.probe import TOTAL, peek, probe

log = logging.getLogger("gateway.endpoints")

EVERY: Final = 10.0
"""Seconds between two looks at an endpoint."""
SOON: Final = 3.0
"""Seconds to the next look when the last one failed for the first time."""
AT_ONCE: Final = 32
"""Looks at the same time."""
PER_SECOND: Final = 100.0
"""Looks a second at most: with more than a thousand endpoints, each is looked at less often."""
PATIENCE: Final = 3.0
"""Seconds for one look at a model list."""
WHOLE: Final = 600.0
"""Seconds between two whole probes (version, context length) of an endpoint that is well."""
TICK: Final = 0.1

Key = tuple[str, str]
"""Channel's name, endpoint's URL."""


class Endpoints:
    """`adopt` says which there are, `run` keeps looking at them; everything else tells what is known."""

    def __init__(self, on_detected: Callable[[str, str], None] = lambda channel, engine: None) -> None:
        """on_detected: called with channel and engine when an `auto` channel's engine became known, or is another one now."""
        self._on_detected = on_detected
        self._looks: dict[Key, Look] = {}
        self._channels: dict[str, list[Look]] = {}
        self._due: list[tuple[float, int, Look]] = []
        self._number = itertools.count()
        self._told: dict[str, str] = {}
        self._detecting = 0

    # -- what there is ------------------------------------------------------------------------------------------------

    def adopt(self, channels: Mapping[str, Channel], models: Mapping[str, Model] | None = None) -> None:
        """The channels of a revision. What is known of unchanged endpoints stays; new ones are looked at soon.

        models: whose targets say which models each channel must have; without them only `Channel.model` does.
        """
        wanted: dict[str, list[str]] = {name: [channel.model] if channel.model else [] for name, channel in channels.items()}
        for target in (target for model in (models or {}).values() for target in model.targets):
            wanted.setdefault(target.channel, []).append(target.model)
        before, self._looks, self._channels = self._looks, {}, {}
        new = []
        for name, channel in channels.items():
            self._channels[name] = []
            for endpoint in dict.fromkeys(channel.endpoints):
                look = self._kept(before.get((name, endpoint.url)), channel, endpoint)
                if look is None:
                    look = Look(channel, endpoint, (), time.time())
                    new.append(look)
                look.channel, look.wanted = channel, tuple(dict.fromkeys(wanted[name]))
                self._looks[name, endpoint.url] = look
                self._channels[name].append(look)
        for key, look in before.items():
            look.gone = self._looks.get(key) is not look
        self._told = {name: engine for name, engine in self._told.items() if name in channels and channels[name].auto}
        spread = min(EVERY, len(new) / PER_SECOND)
        for look in new:
            self._plan(look, random.uniform(0.0, spread))

    @staticmethod
    def _kept(look: Look | None, channel: Channel, endpoint: Endpoint) -> Look | None:
        return look if look is not None and _identity(look.channel, look.endpoint) == _identity(channel, endpoint) else None

    # -- what is known ------------------------------------------------------------------------------------------------

    def engine_of(self, channel: str) -> str | None:
        """The family that a channel's endpoints say they are, the first that says so; None = unknown yet."""
        return next((look.engine for look in self._channels.get(channel, ()) if look.engine), None)

    def states(self) -> list[dict[str, Any]]:
        """Every endpoint: channel, endpoint, engine, state, since, why, models, context_length, version, tls."""
        return [look.told() for look in self._looks.values()]

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
                await self._visit(look)
            except Exception:
                log.exception("looking at %s ended in a fault of ours", look.endpoint.url)
            finally:
                slots.release()
                if not look.gone:
                    self._plan(look, self._pause(look))

        try:
            while True:
                while self._due and self._due[0][0] <= time.monotonic():
                    look = heapq.heappop(self._due)[2]
                    if look.gone:
                        continue
                    await slots.acquire()
                    task = asyncio.create_task(visit(look))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                await asyncio.sleep(TICK)
        finally:
            await _ended(tasks)

    async def _visit(self, look: Look) -> None:
        now = time.monotonic()
        known = look.engine or (None if look.channel.auto else look.channel.engine)
        whole = known is None or now - look.asked_all_at > WHOLE
        if whole:
            found = await _probe(look, PATIENCE)
        else:
            at = look.channel
            found = await peek(look.endpoint, known or at.engine, credential=at.credential, tls=at.tls, headers=at.headers, total=PATIENCE)
        if not look.gone:
            self._learn(look, found, whole=whole)
            self._tell(look.channel.name)

    def _learn(self, look: Look, found: Probe, *, whole: bool) -> None:
        channel = look.channel
        changed = look.learn(found, time.time(), lambda: self.engine_of(channel.name) if channel.auto else channel.engine)
        if whole and look.state != DOWN:
            look.asked_all_at = time.monotonic()
        elif look.state == DOWN:
            look.asked_all_at = float("-inf")  # another engine may stand there afterwards
        if changed:
            level = logging.INFO if look.state == UP else logging.WARNING
            log.log(level, "channel %s: %s is %s%s", channel.name, look.endpoint.url, look.state, f": {look.why}" if look.why else " again")

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
        heapq.heappush(self._due, (time.monotonic() + pause, next(self._number), look))

    def _pause(self, look: Look) -> float:
        period = max(EVERY, len(self._looks) / PER_SECOND)
        return (min(SOON, period) if look.failures == 1 else period) * random.uniform(0.9, 1.1)


def _identity(channel: Channel, endpoint: Endpoint) -> tuple[object, ...]:
    """What must be the same for what is known of an endpoint to hold."""
    engine = "auto" if channel.auto else channel.engine
    return (endpoint, engine, channel.credential, channel.headers, channel.tls, channel.planes, channel.plane_tls)


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

"""All registries of the configuration: one watcher each, kept over revisions while it looks at the same place. Routes nothing:
what is found goes to workers by way of the rollout.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from gateway.config.resolved_registries import Registry
from gateway.discover.registries import dns, file, static
from gateway.discover.registries.known import Found, Known

log = logging.getLogger("gateway.registries")

KINDS: Final[Mapping[str, Callable[[Known], Coroutine[Any, Any, None]]]] = {"static": static.watch, "dns": dns.watch, "file": file.watch}
"""Each type and what watches it: fills a `Known`, for as long as there is something to look at."""
AGAIN: Final = 10.0
"""Seconds until a watcher that failed through a fault of ours is started again."""


class Registries:
    """`adopt` says which there are; while `run` runs they are watched. Everything else tells what is known."""

    def __init__(self, on_change: Callable[[str], None] = lambda name: None) -> None:
        """on_change: called with a registry's name when its endpoints are others."""
        self._on_change = on_change
        self._names: dict[str, Known] = {}
        self._watched: dict[Known, asyncio.Task[None]] = {}
        self._woken = asyncio.Event()

    def adopt(self, configs: Mapping[str, Registry]) -> None:
        """The registries of a revision. What is known of those that did not change stays, and they are watched on."""
        before, self._names = self._names, {}
        for name, config in configs.items():
            known = before.get(name)
            if known is None or known.config != config:
                other, known = known, Known(config, self._told)
                if other is not None and other.config.place() == config.place():
                    known.inherit(other)
            self._names[name] = known
        self._woken.set()

    def endpoints(self, name: str) -> tuple[Found, ...]:
        """What the registry's last good answer holds; () when there was none. Raises KeyError."""
        return self._names[name].endpoints

    def answered(self, name: str) -> bool:
        """Whether it ever gave a good answer. Raises KeyError."""
        return self._names[name].succeeded is not None

    def states(self) -> list[dict[str, Any]]:
        """Every registry: name, type, endpoints (how many), left_out, state (up, degraded, down), since, success, why."""
        return [known.told() for known in self._names.values()]

    async def settled(self, timeout: float) -> None:
        """Until each was looked at once, whatever came of it, but for `timeout` seconds at most."""
        waiting = [asyncio.create_task(known.answered.wait()) for known in self._names.values()]
        if waiting:
            await asyncio.wait(waiting, timeout=timeout)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    async def run(self) -> None:
        """Watches them, for ever. Errors: none; only a cancel ends it."""
        try:
            while True:
                wanted = set(self._names.values())
                await _ended([self._watched.pop(known) for known in set(self._watched) - wanted])
                for known in wanted - set(self._watched):
                    self._watched[known] = asyncio.create_task(_watch(known))
                self._woken.clear()
                if set(self._names.values()) == wanted:
                    await self._woken.wait()
        finally:
            await _ended(list(self._watched.values()))
            self._watched.clear()

    def _told(self, name: str) -> None:
        try:
            self._on_change(name)
        except Exception:
            log.exception("registry %s: that its endpoints are others was told in vain", name)


async def _watch(known: Known) -> None:
    while True:
        try:
            return await KINDS[known.config.type](known)
        except Exception:
            log.exception("watching registry %s ended in a fault of ours", known.config.name)
            known.failed("the gateway made a mistake while looking at it")
        await asyncio.sleep(AGAIN)


async def _ended(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

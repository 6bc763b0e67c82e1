"""Which endpoints a registry's channels have: those that it lists and a probe has seen well. What was handed out stays for as long
as it is listed, or until the first of those that take its place was looked at. It is remembered in a file: a restart while the registry
is away takes nothing from anybody.
"""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from gateway.config import files
from gateway.config.resolved import Channel, Endpoint, Resolved
from gateway.config.resolved_registries import Registry
from gateway.discover.endpoints import Endpoints
from gateway.discover.look import BUSY, DEGRADED, NOT_YET, UP, Look
from gateway.discover.registries.registries import Registries

log = logging.getLogger("gateway.registries")

LOOK_EVERY: Final = 0.02


class Given(msgspec.Struct, frozen=True):
    """What a channel's workers have. place: the registry that listed it."""

    place: Registry
    endpoints: tuple[Endpoint, ...]


_given: Final = msgspec.json.Decoder(dict[str, Given])


class Supply:
    """`listed` is for the probe, `handed` for workers; `keep` says that workers have it now."""

    def __init__(self, registries: Registries, endpoints: Endpoints) -> None:
        self._registries = registries
        self._endpoints = endpoints
        self._given: dict[str, Given] = {}

    def listed(self, config: Resolved) -> dict[str, Channel]:
        """All channels, those of registries with everything that is listed, seen or not."""
        return {name: _with(channel, self._list(channel, config)) for name, channel in config.channels.items()}

    def handed(self, config: Resolved) -> Resolved:
        """The same configuration, the channels of registries with what may serve."""
        if not any(channel.registry for channel in config.channels.values()):
            return config
        channels = {name: _with(channel, self._good(channel, config)) for name, channel in config.channels.items()}
        return msgspec.structs.replace(config, channels=channels)

    async def seen(self, config: Resolved, patience: float) -> None:
        """Until a probe has looked at each listed endpoint of the channels that have none yet; `patience` seconds at most."""
        for _ in range(int(patience / LOOK_EVERY)):
            if not any(self._unseen(channel, config) for channel in config.channels.values()):
                return
            await asyncio.sleep(LOOK_EVERY)

    def keep(self, config: Resolved) -> bool:
        """Workers have `config` now. Returns whether that is something else than before."""
        before = self._given
        self._given = {
            name: Given(config.registries[channel.registry].place(), channel.endpoints)
            for name, channel in config.channels.items()
            if channel.registry
        }
        return before != self._given

    def write(self, path: Path) -> None:
        """Remembers what `keep` was told. Blocks; trouble is logged: all works on without."""
        try:
            files.write(path, msgspec.json.encode(self._given))
        except OSError as error:
            log.error("the endpoints of registries cannot be remembered: %s", error)

    def recall(self, path: Path) -> None:
        """What was remembered. Blocks; what cannot be read is not there."""
        try:
            self._given = _given.decode(path.read_bytes())
        except FileNotFoundError:
            return
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("the remembered endpoints of registries cannot be read: %s", error)

    def _list(self, channel: Channel, config: Resolved) -> tuple[Endpoint, ...]:
        """What the registry says; while it never said anything, what was handed out from the same place."""
        if not channel.registry:
            return channel.endpoints
        if self._registries.answered(channel.registry):
            return self._registries.endpoints(channel.registry)
        given = self._given.get(channel.name)
        return given.endpoints if given and given.place == config.registries[channel.registry].place() else ()

    def _good(self, channel: Channel, config: Resolved) -> tuple[Endpoint, ...]:
        if not channel.registry:
            return channel.endpoints
        given = self._given.get(channel.name)
        known = {one.url for one in given.endpoints} if given else set()
        looks, listed = self._endpoints.looks(), self._list(channel, config)
        good = tuple(one for one in listed if one.url in known or well(looks.get((channel.name, one.url))))
        if not good and given and any(unseen(looks.get((channel.name, one.url))) for one in listed):
            return given.endpoints  # all of them are others now: nobody is left without an engine while these are looked at
        return good

    def _unseen(self, channel: Channel, config: Resolved) -> bool:
        if not channel.registry or ((given := self._given.get(channel.name)) and given.endpoints):
            return False
        looks = self._endpoints.looks()
        return any(unseen(looks.get((channel.name, one.url))) for one in self._list(channel, config))


def _with(channel: Channel, endpoints: tuple[Endpoint, ...]) -> Channel:
    """The very same channel when it has them already."""
    return channel if channel.endpoints == endpoints else msgspec.structs.replace(channel, endpoints=endpoints)


def unseen(look: Look | None) -> bool:
    """Whether no probe has looked at it yet."""
    return look is None or (look.listed[1] == NOT_YET and not look.failures)


def well(look: Look | None) -> bool:
    """Whether a probe found what its channel needs. Behind a generic server a model list proves nothing."""
    if look is None or look.listed[1] == NOT_YET:
        return False
    return look.state in (UP, BUSY) or (look.state == DEGRADED and look.channel.engine == "openai" and not look.channel.auto)


def moved(before: Mapping[str, Channel], after: Mapping[str, Channel]) -> dict[str, tuple[Endpoint, ...]]:
    """The channels that have other endpoints, with these."""
    return {name: one.endpoints for name, one in after.items() if name not in before or one.endpoints != before[name].endpoints}

"""Control's side of the listening sockets, which the supervisor owns: addresses are asked for over the leash and answered by message."""

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from typing import Any, Final

from gateway.bus.frames import Parcel
from gateway.bus.leash import Leash
from gateway.bus.memory import to_memfd
from gateway.config.resolved import Resolved
from gateway.meter.exposition import Exposition

UPGRADE_PATIENCE: Final = 75.0
"""Seconds: the new version has 60 to say whether it fits."""


class SupervisorLine:
    """The leash, as `rollout.Sockets` needs it: addresses are asked for and answered by message."""

    def __init__(self, leash: Leash, metrics: Callable[[], Exposition]) -> None:
        self._leash = leash
        self._metrics = metrics
        self._asked: asyncio.Future[tuple[str, list[int], dict[str, int]]] | None = None
        self._known: dict[str, Any] = {}
        self._new: dict[str, socket.socket] = {}
        self._upgrading: asyncio.Future[tuple[str, int]] | None = None

    async def upgrade(self, to: str) -> tuple[str, int]:
        """The supervisor becomes the version at `to`. Why it does not, or empty; and how many upgrades there were before."""
        if self._upgrading is None or self._upgrading.done():
            self._upgrading = asyncio.get_running_loop().create_future()
            self._leash.say({"say": "upgrade", "to": to})
        async with asyncio.timeout(UPGRADE_PATIENCE):
            return await asyncio.shield(self._upgrading)

    def upgrade_answered(self, trouble: str, upgrades: int) -> None:
        if self._upgrading is not None and not self._upgrading.done():
            self._upgrading.set_result((trouble, upgrades))

    async def prepare(self, config: Resolved) -> None:
        wanted = addresses(config)
        if wanted == self._known:
            return
        trouble, fds, places = await self._ask("prepare", wanted)
        if trouble:
            raise OSError(errno.EADDRNOTAVAIL, trouble)
        self._new = _named(places, fds)

    async def boot(self, config: Resolved) -> None:
        """Claims the data directory and the addresses. When they cannot be had, the supervisor ends the service."""
        wanted = addresses(config)
        _, fds, places = await self._ask("boot", {"data_dir": config.data_dir, **wanted}, patience=None)
        self._new = _named(places, fds)

    async def commit(self, config: Resolved, parcel: Parcel) -> None:
        self._known = addresses(config)
        fd = to_memfd(parcel.to_bytes())
        self._leash.say({"say": "commit", "drain_timeout": config.http.drain_timeout, **self._known}, [fd])
        os.close(fd)
        new, self._new = self._new, {}
        await self._metrics().listen_on({f"{host}|{port}" for host, port in self._known["metrics"]}, new)

    def abort(self) -> None:
        for sock in self._new.values():
            sock.close()
        self._new = {}
        self._leash.say({"say": "abort"})

    async def _ask(self, say: str, wanted: dict[str, Any], patience: float | None = 5.0) -> tuple[str, list[int], dict[str, int]]:
        self._asked = asyncio.get_running_loop().create_future()
        self._leash.say({"say": say, **wanted})
        try:
            async with asyncio.timeout(patience):
                return await self._asked
        except TimeoutError:
            raise OSError(errno.ETIMEDOUT, "the supervisor does not answer") from None

    def answered(self, trouble: str, fds: list[int], places: dict[str, int]) -> None:
        if self._asked is not None and not self._asked.done():
            self._asked.set_result((trouble, fds, places))
            return
        for fd in fds:
            os.close(fd)


def _named(places: dict[str, int], fds: list[int]) -> dict[str, socket.socket]:
    return {place: socket.socket(fileno=fds[number]) for place, number in places.items()}


def addresses(config: Resolved) -> dict[str, Any]:
    """What the supervisor must listen on, and for how many workers."""
    api = sorted({(one.host, one.port) for one in config.listeners if one.serves == "api"})
    metrics = sorted({(one.host, one.port) for one in config.listeners if one.serves == "metrics"})
    return {"api": api, "metrics": metrics, "workers": config.workers}

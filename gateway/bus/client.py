"""The worker's end of the bus: says who it is, prepares and commits revisions, reports its health. Reconnects for ever."""

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from gateway.bus.frames import VERSION, BusError, Parcel, frame, read_frame
from gateway.moment import stroke

log = logging.getLogger("gateway.bus")

RECONNECT = 0.2
RECONNECT_AT_LAST = 5.0
"""Seconds between two tries. Control sends a worker of another version away: one that has streams left for minutes asks less and less."""
HEALTH_EVERY = 0.5
"""Seconds. All workers agree on an endpoint's state within two of these."""


class Swapper(Protocol):
    """The worker, as the bus needs it."""

    @property
    def rev(self) -> int: ...
    async def prepare(self, parcel: Parcel) -> None: ...
    def commit(self, rev: int, spared: Sequence[str]) -> None: ...
    def abort(self) -> None: ...
    def health(self) -> dict[str, Any]: ...


class BusClient:
    """Keeps one connection to control for as long as the worker lives."""

    def __init__(self, path: Path, slot: int, swapper: Swapper) -> None:
        self._path = path
        self.slot = slot
        self._swapper = swapper
        self._writer: asyncio.StreamWriter | None = None
        self._handlers: dict[str, Callable[[dict[str, Any]], None]] = {}
        self._lost: list[Callable[[], None]] = []
        self._pause = RECONNECT
        self._told_away = False

    # -- rooms of the worker that talk with control -------------------------------------------------------------------

    def on(self, kind: str, handler: Callable[[dict[str, Any]], None]) -> None:
        """Frames of this kind go to `handler`."""
        self._handlers[kind] = handler

    def on_lost(self, handler: Callable[[], None]) -> None:
        """`handler` is called when the connection to control is lost."""
        self._lost.append(handler)

    def say(self, data: bytes) -> bool:
        """Sends a frame; False when control is away, so that nothing was sent."""
        if self._writer is None or self._writer.is_closing():
            return False
        self._writer.write(data)
        return True

    # -- the connection -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(str(self._path))
            except OSError:
                await asyncio.sleep(RECONNECT)
                continue
            report = asyncio.get_running_loop().create_task(self._report(writer))
            try:
                writer.write(frame("hello", v=VERSION, slot=self.slot, pid=os.getpid(), parent=os.getppid(), rev=self._swapper.rev))
                self._writer = writer
                await self._listen(reader, writer)
            except (asyncio.IncompleteReadError, OSError):
                self._say_away()
            except BusError as error:
                log.error("bus: %s", error)
            finally:
                report.cancel()
                writer.close()
                self._writer = None
                for told in self._lost:
                    told()
            self._swapper.abort()
            await asyncio.sleep(self._pause)
            self._pause = min(self._pause * 2, RECONNECT_AT_LAST)

    def _say_away(self) -> None:
        """Once, until control was heard again."""
        if not self._told_away:
            self._told_away = True
            log.info("control is away; serving on with revision %d", self._swapper.rev)

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            message = await read_frame(reader)
            self._pause, self._told_away = RECONNECT, False
            match message["kind"]:
                case "prepare":
                    slices = [(await read_frame(reader))["keys"] for _ in range(message["slices"])]
                    await self._prepare(Parcel(message["rev"], message["head"], slices), writer)
                case "commit":
                    self._swapper.commit(message["rev"], message["spared"])
                    writer.write(frame("swapped", rev=self._swapper.rev))
                case "abort":
                    self._swapper.abort()
                case kind if kind in self._handlers:
                    self._handlers[kind](message)

    async def _prepare(self, parcel: Parcel, writer: asyncio.StreamWriter) -> None:
        try:
            await self._swapper.prepare(parcel)
        except Exception as error:  # whatever is wrong with it: this revision is not served, and control is told why
            log.error("revision %d cannot be served: %s", parcel.rev, error)
            writer.write(frame("prepared", rev=parcel.rev, ok=False, error=str(error)))
        else:
            writer.write(frame("prepared", rev=parcel.rev, ok=True, error=""))

    async def _report(self, writer: asyncio.StreamWriter) -> None:
        while True:
            await stroke(HEALTH_EVERY)
            writer.write(frame("health", **self._swapper.health()))

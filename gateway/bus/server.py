"""Control's end of the bus: the connected workers, and the two phases that change them all or none."""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gateway.bus.frames import VERSION, BusError, Parcel, frame, read_frame

log = logging.getLogger("gateway.bus")

PREPARE_PATIENCE = 5.0
"""Seconds a worker has to prepare a revision; one that cannot answer in time is killed and replaced."""


GATHER_PATIENCE = 2.0
"""Seconds that a change waits for workers that are being replaced or have lost their connection."""


class Stranger(BusError):
    """A worker that is not one of ours, or not any more: after an upgrade it finishes what it has, and asks again until it ends."""


class Link:
    """One connected worker."""

    def __init__(self, slot: int, pid: int, rev: int, writer: asyncio.StreamWriter) -> None:
        self.slot = slot
        self.pid = pid
        self.rev = rev
        self.writer = writer
        self.health: dict[str, Any] = {}
        self.shipped = rev
        self.answer: asyncio.Future[str] | None = None
        self.swapped: asyncio.Future[None] | None = None

    def send(self, data: bytes) -> None:
        if not self.writer.is_closing():
            self.writer.write(data)


class BusServer:
    """All workers. `current` is what a (re)connecting worker is brought to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._server: asyncio.Server | None = None
        self.links: dict[int, Link] = {}
        self.current: Parcel | None = None
        self.spared: Sequence[str] = ()
        """Ids of keys that are gone in `current`, whose open requests may end in peace."""
        self._come = asyncio.Event()
        self._sent_away: set[str] = set()
        """What was said of strangers: they come again, and it is said once."""
        self._handlers: dict[str, Callable[[Link, dict[str, Any]], None]] = {}
        self._greeters: list[Callable[[Link], None]] = []
        self._mourners: list[Callable[[Link], None]] = []

    # -- rooms of control that talk with workers ------------------------------------------------------------------

    def on(self, kind: str, handler: Callable[[Link, dict[str, Any]], None]) -> None:
        """Frames of this kind go to `handler`, with the worker they came from."""
        self._handlers[kind] = handler

    def greet(self, greeter: Callable[[Link], None]) -> None:
        """`greeter` is called for each worker that (re)connects, when it was told the current revision."""
        self._greeters.append(greeter)

    def mourn(self, mourner: Callable[[Link], None]) -> None:
        """`mourner` is called for each worker whose connection is lost, unless its successor is here already."""
        self._mourners.append(mourner)

    def broadcast(self, data: bytes) -> None:
        """A frame for every connected worker."""
        for link in self.links.values():
            link.send(data)

    # -- the connections --------------------------------------------------------------------------------------------

    async def open(self) -> None:
        self._path.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._meet, str(self._path))
        finally:
            os.umask(mask)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            for link in self.links.values():
                link.writer.close()
            await self._server.wait_closed()

    async def gathered(self, workers: int) -> None:
        """Until so many are connected, so that all can say no; but not for long: some may be down."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GATHER_PATIENCE):
                while len(self.links) < workers:
                    self._come.clear()
                    await self._come.wait()

    async def prepare(self, parcel: Parcel) -> dict[int, str]:
        """Phase one: every connected worker builds `parcel` beside what it serves. Returns what went wrong, by slot."""
        links = list(self.links.values())
        loop = asyncio.get_running_loop()
        for link in links:
            link.answer = loop.create_future()
            self._ship(link, parcel)
        trouble: dict[int, str] = {}
        if links:
            await asyncio.wait([link.answer for link in links if link.answer is not None], timeout=PREPARE_PATIENCE)
        for link in links:
            assert link.answer is not None
            if not link.answer.done():
                log.error("worker-%d (pid %d) did not prepare within %.0f s and is replaced", link.slot, link.pid, PREPARE_PATIENCE)
                self._kill(link)
            elif link.answer.result():
                trouble[link.slot] = link.answer.result()
            link.answer = None
        return trouble

    async def commit(self, parcel: Parcel) -> None:
        """Phase two: all swap. Returns when every worker has, or is gone; late ones get `current` when they connect."""
        self.current = parcel
        links = list(self.links.values())
        loop = asyncio.get_running_loop()
        for link in links:
            link.swapped = loop.create_future()
            if link.shipped != parcel.rev:  # it came while the others prepared
                self._ship(link, parcel)
            link.send(frame("commit", rev=parcel.rev, spared=self.spared))
        if links:
            await asyncio.wait([link.swapped for link in links if link.swapped is not None], timeout=PREPARE_PATIENCE)
        for link in links:
            link.swapped = None
            if link.rev != parcel.rev and self.links.get(link.slot) is link:
                log.error("worker-%d (pid %d) did not take revision %d and is replaced", link.slot, link.pid, parcel.rev)
                self._kill(link)

    def abort(self) -> None:
        for link in self.links.values():
            link.shipped = link.rev
            link.send(frame("abort"))

    def _ship(self, link: Link, parcel: Parcel) -> None:
        link.shipped = parcel.rev
        link.send(frame("prepare", rev=parcel.rev, head=parcel.head, slices=len(parcel.slices)))
        for part in parcel.slices:
            link.send(frame("keys", keys=part))

    def _kill(self, link: Link) -> None:
        """The supervisor starts a successor, which begins with the current revision."""
        try:
            os.kill(link.pid, 9)
        except ProcessLookupError:
            return

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link: Link | None = None
        try:
            async with asyncio.timeout(PREPARE_PATIENCE):
                hello = await read_frame(reader)
            if hello["kind"] != "hello" or hello.get("v") != VERSION:
                raise Stranger(f"a worker (pid {hello.get('pid')}) speaks bus version {hello.get('v')}, this control speaks {VERSION}")
            if hello["parent"] != os.getppid():
                raise Stranger(f"worker-{hello['slot']} (pid {hello['pid']}) belongs to a gateway that has ended")
            link = Link(hello["slot"], hello["pid"], hello["rev"], writer)
            self.links[link.slot] = link
            self._come.set()
            log.debug("worker-%d (pid %d) is here with revision %d", link.slot, link.pid, link.rev)
            if self.current is not None and link.rev != self.current.rev:
                self._ship(link, self.current)
                link.send(frame("commit", rev=self.current.rev, spared=self.spared))
            for greeter in self._greeters:
                greeter(link)
            while True:
                self._heard(link, await read_frame(reader))
        except (asyncio.IncompleteReadError, OSError, TimeoutError):
            return
        except Stranger as stranger:
            if str(stranger) not in self._sent_away:
                self._sent_away.add(str(stranger))
                log.warning("bus: %s", stranger)
        except BusError as error:
            log.error("bus: %s", error)
        finally:
            if link is not None:
                self._lose(link)
            writer.close()

    def _heard(self, link: Link, message: dict[str, Any]) -> None:
        match message["kind"]:
            case "prepared" if message["rev"] == link.shipped:
                trouble = "" if message["ok"] else message["error"] or "unknown"
                if link.answer is not None and not link.answer.done():
                    link.answer.set_result(trouble)
                elif trouble:  # what everybody serves already: a successor takes it as far as it goes
                    log.error("worker-%d (pid %d) cannot take revision %d and is replaced: %s", link.slot, link.pid, link.shipped, trouble)
                    self._kill(link)
            case "swapped":
                link.rev = message["rev"]
                if link.swapped is not None and not link.swapped.done() and link.rev == link.shipped:
                    link.swapped.set_result(None)
            case "health":
                link.health = message
            case kind if kind in self._handlers:
                self._handlers[kind](link, message)

    def _lose(self, link: Link) -> None:
        if self.links.get(link.slot) is link:
            del self.links[link.slot]
            for mourner in self._mourners:
                mourner(link)
        for waiting in (link.answer, link.swapped):
            if waiting is not None and not waiting.done():
                waiting.set_result(None if waiting is link.swapped else "")  # type: ignore[arg-type]

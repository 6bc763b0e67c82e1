"""The data plane: one process per slot. Serves requests from its snapshot, its sockets and its own journal.

Never reads YAML, never opens the ledger, never watches files: control hands it the compact form over the bus, and the
memfd it was started with lets it serve while control is down.
"""

import argparse
import asyncio
import contextlib
import gc
import logging
import mmap
import os
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader

from gateway.accept.caller import Caller, Door
from gateway.accept.gate import PlainGate, TlsGate
from gateway.bus.client import BusClient
from gateway.bus.frames import Parcel
from gateway.bus.leash import BEAT_EVERY, Leash
from gateway.config.resolved import Key
from gateway.log.lines import start_logging
from gateway.meter.account import Account
from gateway.meter.journal import Journal
from gateway.meter.metrics import slot_metrics
from gateway.pipeline import Live, Pipeline
from gateway.shared import Shared
from gateway.snapshot import Builder, Snapshot

log = logging.getLogger("gateway.worker")

Address = tuple[str, int]
TICK = 0.1
"""Seconds between two looks at the journal; metrics and health follow at each tenth."""


class Worker:
    """Everything that one worker process holds."""

    def __init__(self, slot: int, incarnation: str, leash: socket.socket, sockets: dict[Address, socket.socket]) -> None:
        self._slot = slot
        self._incarnation = incarnation
        self._sockets = sockets
        self._loop = asyncio.get_running_loop()
        self._leash = Leash(leash, self._heard, self._orphaned)
        self._live = Live()
        self._shared = Shared()
        self._prepared: tuple[Builder, Snapshot] | None = None
        self._gates: dict[Address, PlainGate | TlsGate] = {}
        self._told_idle: bool | None = None
        self._lost = 0
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._now = False

    async def run(self, parcel: Parcel) -> None:
        """Serves until told to exit."""
        builder, snapshot = await self._build(parcel)
        directory = Path(snapshot.data_dir)
        self._journal = Journal(directory / "journal", self._slot, self._incarnation, snapshot.journal)
        self._metrics = slot_metrics(directory / "metrics", self._slot)
        self._account = Account(self._journal, self._metrics, snapshot.node, self._slot)
        self._pipeline = Pipeline(self._live, self._account, self._loop)
        http = snapshot.http
        self._door = Door(
            self._pipeline.serve, self._pipeline.refuse_parse, header=http.header, keepalive=http.keepalive, write_idle=http.write_idle
        )
        self._swap(builder, snapshot)
        bus = BusClient(directory / "bus.sock", self._slot, self)
        tasks = [self._loop.create_task(work) for work in (bus.run(), self._tick(), self._journal.sync_for_ever(), self._beat())]
        for address, sock in self._sockets.items():
            await self._open_gate(address, sock)
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 100)
        self._leash.say({"say": "listening", "rev": snapshot.rev})
        await self._ended
        await self._close(tasks)

    # -- configuration: two phases (bus.client.Swapper) -----------------------------------------------------------

    @property
    def rev(self) -> int:
        return self._live.current.rev if self._live.current is not None else 0

    async def prepare(self, parcel: Parcel) -> None:
        """Builds the snapshot beside the present one. Raises when it cannot be served."""
        self._prepared = await self._build(parcel)

    def commit(self, rev: int) -> None:
        """Swaps. Requests in flight keep the snapshot they were accepted under."""
        prepared, self._prepared = self._prepared, None
        if prepared is not None and prepared[1].rev == rev:
            self._swap(*prepared)
            self._loop.create_task(self._fit_gates()).add_done_callback(_report)

    def abort(self) -> None:
        self._prepared = None

    async def _build(self, parcel: Parcel) -> tuple[Builder, Snapshot]:
        async def keys() -> AsyncIterator[list[Key]]:
            for part in parcel.slices:
                yield Parcel.keys(part)

        builder = Builder(parcel.rev, parcel.config(), self._shared)
        return builder, await builder.build(keys())

    def _swap(self, builder: Builder, snapshot: Snapshot) -> None:
        self._live.current = snapshot
        builder.sweep()
        self._journal.settings = snapshot.journal
        self._door.adopt(header=snapshot.http.header, keepalive=snapshot.http.keepalive, write_idle=snapshot.http.write_idle)

    # -- addresses ------------------------------------------------------------------------------------------------

    async def _open_gate(self, address: Address, sock: socket.socket) -> None:
        """Plain or TLS, as the present snapshot says. The gate owns a duplicate, so that it can be changed later."""
        listener = self._listener(address)
        if listener is None:
            return
        if listener.tls is None:
            self._gates[address] = await PlainGate.open(sock.dup(), self._door)
        else:
            self._gates[address] = TlsGate(sock.dup(), self._door, lambda: self._context(address))

    async def _fit_gates(self) -> None:
        """After a swap: an address that became TLS, or stopped being it, gets another gate."""
        for address, gate in list(self._gates.items()):
            listener = self._listener(address)
            if listener is not None and (listener.tls is None) != isinstance(gate, PlainGate):
                gate.close()
                await self._open_gate(address, self._sockets[address])
        for address, sock in self._sockets.items():
            if address not in self._gates:
                await self._open_gate(address, sock)

    def _listener(self, address: Address) -> Any:
        assert self._live.current is not None
        return next((one for one in self._live.current.listeners if (one.host, one.port) == address and one.serves == "api"), None)

    def _context(self, address: Address) -> Any:
        listener = self._listener(address)
        assert self._live.current is not None
        return self._live.current.tls.get(listener.name) if listener is not None else None

    # -- what the supervisor says -----------------------------------------------------------------------------------

    def _heard(self, message: dict[str, Any], fds: list[int]) -> None:
        match message.get("say"):
            case "drain":
                log.info("draining")
                self._live.draining = True
                self._door.drain(refuse_late=message.get("late") == "refuse")
            case "exit":
                self._now = bool(message.get("now"))
                self._end()
            case "listen":
                for address, fd in zip(message["addresses"], fds, strict=True):
                    self._sockets[tuple(address)] = socket.socket(fileno=fd)
                self._loop.create_task(self._fit_gates()).add_done_callback(_report)
            case "unlisten":
                for address in message["addresses"]:
                    self._forget(tuple(address))

    def _forget(self, address: Address) -> None:
        gate = self._gates.pop(address, None)
        if gate is not None:
            gate.close()
        sock = self._sockets.pop(address, None)
        if sock is not None:
            sock.close()

    def _orphaned(self) -> None:
        log.error("the supervisor is gone; this worker ends too")
        self._end()

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    # -- clocks -------------------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            self._leash.say({"say": "beat"})
            await asyncio.sleep(BEAT_EVERY)

    async def _tick(self) -> None:
        turn = 0
        while True:
            await asyncio.sleep(TICK)
            self._journal.tick(time.monotonic())
            if self._live.draining:
                self._tell_idle()
            turn += 1
            if turn % 10 == 0:
                lost, self._lost = self._journal.lost - self._lost, self._journal.lost
                self._metrics.journal(self._journal.failing, lost)
                self._metrics.flush()

    def _tell_idle(self) -> None:
        idle = self._door.begun() == 0
        if idle != self._told_idle:
            self._told_idle = idle
            self._leash.say({"say": "idle" if idle else "busy"})

    def health(self) -> dict[str, Any]:
        """What control merges into `gatewayctl health`: each endpoint as this worker sees it."""
        assert self._live.current is not None
        now = time.monotonic()
        return {
            "in_flight": self._metrics.in_flight,
            "journal": {"failing": self._journal.failing, "lost": self._journal.lost},
            "endpoints": [
                {
                    "channel": channel.config.name,
                    "endpoint": at.endpoint.url,
                    "state": at.breaker.state(now),
                    "reason": at.breaker.reason,
                    "for": round(now - at.breaker.since, 1) if at.breaker.since else 0.0,
                    "in_flight": at.in_flight,
                    "handshakes": at.pool.handshakes,
                }
                for channel in self._live.current.channels.values()
                for at in channel.endpoints
            ],
        }

    # -- the end --------------------------------------------------------------------------------------------------------

    async def _close(self, tasks: list[asyncio.Task[Any]]) -> None:
        """Every open request ends and is recorded before the journal is sealed."""
        for gate in self._gates.values():
            gate.close()
        self._live.stopping = True
        await self._door.shutdown(0.5 if self._now else 1.0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._shared.close()
        self._metrics.flush()
        self._journal.close()
        self._leash.close()


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("listening changed only in part", exc_info=task.exception())


def _read_snapshot(fd: int) -> Parcel:
    with contextlib.closing(mmap.mmap(fd, 0, prot=mmap.PROT_READ)) as data:
        return Parcel.from_bytes(data[:])


def _sockets(listen: str) -> dict[Address, socket.socket]:
    found: dict[Address, socket.socket] = {}
    for item in filter(None, listen.split(",")):
        host, port, fd = item.rsplit("|", 2)
        found[host, int(port)] = socket.socket(fileno=int(fd))
    return found


def main(arguments: list[str]) -> int:
    """The role `worker`; only the supervisor starts it."""
    parser = argparse.ArgumentParser(prog="gateway worker")
    parser.add_argument("--leash", type=int, required=True)
    parser.add_argument("--slot", type=int, required=True)
    parser.add_argument("--snapshot", type=int, required=True)
    parser.add_argument("--listen", default="")
    options = parser.parse_args(arguments)
    start_logging(f"worker-{options.slot}")
    incarnation = f"{time.time_ns():x}{os.getpid():x}"

    async def run() -> None:
        parcel = _read_snapshot(options.snapshot)
        worker = Worker(options.slot, incarnation, socket.socket(fileno=options.leash), _sockets(options.listen))
        await worker.run(parcel)

    import uvloop

    uvloop.run(run())
    return 0

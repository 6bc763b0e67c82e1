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
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from gateway.accept.caller import Door
from gateway.accept.gate import Gate, open_gate
from gateway.bus.child import end_soon, obey_the_supervisor_alone
from gateway.bus.client import BusClient
from gateway.bus.frames import Parcel, frame
from gateway.bus.leash import BEAT_EVERY, Leash
from gateway.config.resolved import Endpoint, Key
from gateway.log.lines import start_logging
from gateway.meter.account import Account
from gateway.meter.journal import Journal
from gateway.meter.metrics import slot_metrics
from gateway.moment import stroke
from gateway.pipeline import Live, Pipeline
from gateway.referee.limits import Limiter
from gateway.referee.line import limits_of
from gateway.referee.seats import Seats
from gateway.serve.aftercount import Aftercount
from gateway.serve.builder import Builder, let_go
from gateway.serve.cutting import Cutting
from gateway.serve.dispatch import Dispatch
from gateway.serve.measure import Measure
from gateway.serve.moves import learn, tell
from gateway.serve.shared import Shared
from gateway.serve.snapshot import Snapshot
from gateway.serve.watch import Watch
from gateway.tokens.counter import Counter

log = logging.getLogger("gateway.worker")

Address = tuple[str, int]
LAST_WORDS = 1.0
"""Seconds for requests that are cut off at the end to be told so and recorded."""
GRACE = 3.0
"""Seconds in which the callers of a worker that is replaced may use their open connections once more."""
GREETING = 0.5
"""Seconds that control has to say which endpoints may serve, before the first request does not wait for it."""
TICK = 0.25
"""Seconds between two looks at the journal; metrics follow at each fourth."""


class Worker:
    """Everything that one worker process holds."""

    def __init__(self, slot: int, incarnation: str, leash: socket.socket, sockets: dict[Address, socket.socket]) -> None:
        self._slot = slot
        self._incarnation = incarnation
        self._sockets = sockets
        self._loop = asyncio.get_running_loop()
        self._leash = Leash(leash, self._heard, self._orphaned)
        self._live = Live()
        self._shared = Shared(Counter())
        self._measure = Measure(self._shared.counter)
        self._bus: BusClient | None = None
        self._seats, self._limits = Seats(self._sayer("seats"), self._loop), Limiter(self._sayer("limits"), self._loop)
        self._watch = Watch(lambda: self._live.current.channels if self._live.current is not None else {}, self._measured)
        self._watch.changed = self._seats.look_again
        self._shared.notice = self._watch.notice
        self._prepared: tuple[Builder, Snapshot] | None = None
        self._gates: dict[Address, Gate] = {}
        self._left: list[Gate] = []
        self._fitting = asyncio.Lock()
        self._door: Door | None = None
        self._late, self._lost = "", 0
        self._told_idle: bool | None = None
        self._ended: asyncio.Future[None] = self._loop.create_future()

    async def run(self, parcel: Parcel) -> None:
        """Serves until told to exit."""
        builder, snapshot = await self._build(parcel, strict=False)
        directory = Path(snapshot.data_dir)
        self._journal = Journal(directory / "journal", self._slot, self._incarnation, snapshot.journal)
        self._metrics = slot_metrics(directory / "metrics", self._slot)
        self._account = Account(self._journal, self._metrics, snapshot.node, self._slot)
        self._account.recount = self._aftercount = Aftercount(self._shared.counter, self._loop)
        dispatch = Dispatch(self._account, self._loop, self._seats, self._measure, lambda: self._live.frozen)
        self._pipeline = Pipeline(self._live, self._account, dispatch, self._limits, self._loop)
        http = snapshot.http
        self._door = Door(
            self._pipeline.serve, self._pipeline.refuse_parse, header=http.header, keepalive=http.keepalive, write_idle=http.write_idle
        )
        self._cutting = Cutting(self._live, self._door, lambda data: self._bus is not None and self._bus.say(data))
        self._swap(builder, snapshot)
        self._bus = bus = self._connect(directory)
        tasks = [self._loop.create_task(work) for work in (bus.run(), self._tick(), self._journal.sync_for_ever(), self._beat())]
        for task in tasks:
            task.add_done_callback(self._finished)
        await self._watch.greeted(GREETING)
        self._cutting.recall(directory)
        await self._fit_gates()
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 100)
        self._leash.say({"say": "listening", "rev": snapshot.rev})
        if self._late:
            self._drain(self._late)
        await self._ended
        await self._close(tasks)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        """None of them ends by itself: without one of them this process is no worker any more."""
        if not task.cancelled() and task.exception() is not None:
            log.error("a task of this worker failed; the supervisor starts another", exc_info=task.exception())
            self._end()

    def _connect(self, directory: Path) -> BusClient:
        """The bus, with everybody who talks over it."""
        bus = BusClient(directory / "bus.sock", self._slot, self)
        self._watch.connect(bus)
        for kind, part in (("seats", self._seats), ("limits", self._limits)):
            bus.on(kind, part.heard)
            bus.on_lost(part.lost)
        bus.on("queued", self._shared.heard_queued)
        bus.on("endpoints", self._other_endpoints)
        bus.on("moves", lambda message: learn(self._live.current, message["moves"]))
        bus.on("frozen", self._cutting.heard)
        return bus

    def _sayer(self, kind: str) -> Callable[[dict[str, Any]], bool]:
        return lambda message: self._bus is not None and self._bus.say(frame(kind, **message))

    def _measured(self) -> None:
        if self._live.current is not None:
            self._live.current.measured()

    def _other_endpoints(self, message: dict[str, Any]) -> None:
        """A registry knows others."""
        snapshot = self._live.current
        if snapshot is not None:
            for channel, endpoints in message["channels"].items():
                snapshot.set_endpoints(channel, [msgspec.convert(one, Endpoint) for one in endpoints])
            self._watch.adopt(snapshot.channels)
            self._seats.look_again()

    # -- configuration: two phases (bus.client.Swapper) -----------------------------------------------------------

    @property
    def rev(self) -> int:
        return self._live.current.rev if self._live.current is not None else 0

    async def prepare(self, parcel: Parcel) -> None:
        """Builds the snapshot beside the present one. Raises when it cannot be served."""
        self.abort()
        self._prepared = await self._build(parcel)

    def commit(self, rev: int, spared: Sequence[str]) -> None:
        """Swaps. Requests in flight keep the snapshot they were accepted under; those whose key is gone end, unless it is `spared`."""
        prepared, self._prepared = self._prepared, None
        if prepared is not None and prepared[1].rev == rev:
            before = self._live.current
            self._swap(*prepared)
            self._cutting.revoked(prepared[1].keyring, spared)
            self._loop.create_task(self._fit_gates()).add_done_callback(_report)
            if before is not None:
                self._loop.create_task(let_go(before)).add_done_callback(_report)

    def abort(self) -> None:
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            prepared[1].let_go()

    async def _build(self, parcel: Parcel, *, strict: bool = True) -> tuple[Builder, Snapshot]:
        async def keys() -> AsyncIterator[list[Key]]:
            for part in parcel.slices:
                yield Parcel.keys(part)

        config = parcel.config()
        self._shared.counter.keep_in(Path(config.data_dir))
        troubles = await self._shared.counter.prepare({model.tokenizer for model in config.models.values()})
        for name, why in troubles.items():
            log.error("prompts are only estimated where tokenizer %s should count: %s", name, why)
        builder = Builder(parcel.rev, config, self._shared, strict=strict)
        return builder, await builder.build(keys())

    def _swap(self, builder: Builder, snapshot: Snapshot) -> None:
        self._watch.adopt(snapshot.channels)
        self._live.current = snapshot
        builder.sweep()
        self._shared.counter.keep({model.tokenizer for model in builder.config.models.values()})
        self._seats.adopt(limits_of(builder.config.channels), builder.config.workers)
        self._limits.adopt(snapshot.limits, Path(snapshot.data_dir) / "limits")
        self._journal.settings = snapshot.journal
        assert self._door is not None
        self._door.adopt(header=snapshot.http.header, keepalive=snapshot.http.keepalive, write_idle=snapshot.http.write_idle)

    # -- addresses ------------------------------------------------------------------------------------------------

    async def _fit_gates(self) -> None:
        """After a change: a new address gets a gate; one that speaks TLS or the PROXY protocol now, or no longer, gets another."""
        async with self._fitting:
            for address, sock in list(self._sockets.items()):
                listener = self._listener(address)
                if listener is None or self._ended.done():
                    continue  # the configuration that names it, or no longer does, is about to come
                gate = self._gates.get(address)
                if gate is not None and not gate.fits(listener):
                    self._gates.pop(address).close()
                    gate = None
                if gate is None:
                    await self._open_gate(address, sock, listener)

    async def _open_gate(self, address: Address, sock: socket.socket, listener: Any) -> None:
        """The gate owns a duplicate, so that it can be changed later."""
        assert self._door is not None
        gate = await open_gate(sock.dup(), self._door, listener, lambda: self._context(address), self._trusts)
        if self._sockets.get(address) is sock:
            self._gates[address] = gate
        else:  # taken away meanwhile
            gate.close()

    def _listener(self, address: Address) -> Any:
        assert self._live.current is not None
        return next((one for one in self._live.current.listeners if (one.host, one.port) == address and one.serves == "api"), None)

    def _context(self, address: Address) -> Any:
        listener = self._listener(address)
        assert self._live.current is not None
        return self._live.current.tls.get(listener.name) if listener is not None else None

    def _trusts(self, peer: str) -> bool:
        assert self._live.current is not None
        proxies = self._live.current.proxies
        return proxies is not None and proxies.trust(peer)

    # -- what the supervisor says -----------------------------------------------------------------------------------

    def _heard(self, message: dict[str, Any], fds: list[int]) -> None:
        match message.get("say"):
            case "drain":
                self._late = str(message["late"])
                if self._door is not None and self._live.current is not None:
                    self._drain(self._late)
            case "exit":
                self._end()
            case "listen":
                for address, fd in zip(message["addresses"], fds, strict=True):
                    self._forget(tuple(address))
                    self._sockets[tuple(address)] = socket.socket(fileno=fd)
                self._loop.create_task(self._fit_gates()).add_done_callback(_report)
            case "unlisten":
                for address in message["addresses"]:
                    self._forget(tuple(address))

    def _drain(self, late: str) -> None:
        """late: `refuse` when the whole gateway ends, `serve` when only this worker does."""
        log.info("draining")
        assert self._door is not None
        self._live.draining = True
        self._door.drain(refuse_late=late == "refuse", grace=GRACE if late == "serve" else 0.0)

    def _forget(self, address: Address) -> None:
        gate = self._gates.pop(address, None)
        if gate is not None:
            gate.leave()
            self._left.append(gate)
        sock = self._sockets.pop(address, None)
        if sock is not None:
            sock.close()

    def _orphaned(self) -> None:
        log.error("the supervisor is gone; this worker ends too")
        end_soon()
        self._end()

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    # -- clocks -------------------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            self._leash.say({"say": "beat"})
            await stroke(BEAT_EVERY)

    async def _tick(self) -> None:
        turn = 0
        while True:
            await stroke(TICK)
            self._journal.tick(time.monotonic())
            if self._live.draining:
                self._tell_idle()
            turn += 1
            if turn % 2 == 0:
                tell(self._live.current, self._sayer("moves"))
            if turn % 4 == 0:
                lost, self._lost = self._journal.lost - self._lost, self._journal.lost
                self._metrics.journal(self._journal.failing, lost)
                self._metrics.flush()

    def _tell_idle(self) -> None:
        assert self._door is not None
        idle = self._door.begun() == 0 and not any(gate.greeting() for gate in self._left)
        if self._door.grace and self._door.connections:
            idle = False
        if idle != self._told_idle:
            self._told_idle = idle
            self._leash.say({"say": "idle" if idle else "busy"})

    def health(self) -> dict[str, Any]:
        """What control merges into `gatewayctl health`: each endpoint as this worker sees it."""
        assert self._live.current is not None
        return {
            "in_flight": self._metrics.in_flight,
            "journal": {"failing": self._journal.failing, "lost": self._journal.lost},
            "metrics": {"failing": self._metrics.failing},
            **self._live.current.told(time.monotonic()),
        }

    # -- the end --------------------------------------------------------------------------------------------------------

    async def _close(self, tasks: list[asyncio.Task[Any]]) -> None:
        """Every open request ends and is recorded before the journal is sealed."""
        assert self._door is not None
        for gate in (*self._gates.values(), *self._left):
            gate.close()
        self._live.stopping = True
        self._door.cut()
        await self._door.shutdown(LAST_WORDS)
        await self._aftercount.finish()
        self._limits.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for part in (self._seats, self._shared):
            part.close()
        await self._measure.close()
        await self._shared.counter.close()
        self._metrics.flush()
        self._journal.close()
        self._leash.close()


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("listening changed only in part", exc_info=task.exception())


def _read_snapshot(fd: int) -> Parcel:
    try:
        with contextlib.closing(mmap.mmap(fd, 0, prot=mmap.PROT_READ)) as data:
            return Parcel.from_bytes(data[:])
    finally:
        os.close(fd)


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
    obey_the_supervisor_alone()
    incarnation = f"{time.time_ns():x}{os.getpid():x}"

    async def run() -> None:
        parcel = _read_snapshot(options.snapshot)
        worker = Worker(options.slot, incarnation, socket.socket(fileno=options.leash), _sockets(options.listen))
        await worker.run(parcel)

    import uvloop

    uvloop.run(run())
    return 0

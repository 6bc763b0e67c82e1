"""The process that is never busy: owns the listening sockets, starts and restarts the children, talks to systemd.

It reads no configuration: control tells it what to listen on. Sockets live here, one per worker slot and address, so
that connections waiting for a dead worker are answered by its successor. The snapshot that new workers start from is
kept in a memfd, so that they can start while control is down.
"""

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from gateway.accept.listen import Address, Wish
from gateway.bus.child import START_PATIENCE, Child
from gateway.log.lines import start_logging
from gateway.log.systemd import Systemd
from gateway.moment import comes, stroke
from gateway.upgrade.claim import Claimed, claim
from gateway.upgrade.handover import Estate, inherit, listen_to_signals
from gateway.upgrade.succession import become, succeed, sweep_gauges, told

log = logging.getLogger("gateway.supervisor")

LOOK_EVERY: Final = 1.0
EXIT_PATIENCE: Final = 5.0
"""Seconds that children have to end when told to."""
BIND_PATIENCE: Final = 3.0
"""Seconds at the start for a taken address to become free: children of a killed supervisor need a moment to end."""
SETTLE: Final = 0.5
"""Seconds from the moment new connections go elsewhere until the last handshake that was under way is over."""


class Supervisor:
    """One per `data_dir`. own: what it has, and what a later version of it will have."""

    def __init__(self, config: Path, resume: bool) -> None:
        self.config = config
        self.resume = resume
        self.systemd = Systemd()
        self.own = Estate()
        self.stopping = False
        self.commits = 0
        self.upgrade = ""
        self.standing = ""
        """What control says of the configuration, for `systemctl status`."""
        self.ready = False
        self._resized = False
        self._changed = asyncio.Event()
        self._ended: asyncio.Future[int]
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, will: int = -1) -> int:
        """Until stopped. will: what the version before has left (handover). Returns the exit status: 0, 1, or control's own (78: bad
        configuration at the start)."""
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        loop.add_signal_handler(signal.SIGTERM, self._terminate)
        loop.add_signal_handler(signal.SIGINT, self._terminate)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        loop.add_signal_handler(signal.SIGUSR2, lambda: self._task(become(self, "")))
        if will < 0:
            self._task(self.start(self.own.control))
        else:
            self.own = inherit(will, self._heard_control, self._heard_worker, self._gone)
            self.ready = True
            self._task(succeed(self))
        listen_to_signals()
        self._task(self._watch())
        try:
            return await self._ended
        finally:
            for task in self._tasks:
                task.cancel()
            for child in self.own.children():
                child.kill()
            self.own.sockets.close()

    # -- children -----------------------------------------------------------------------------------------------

    async def start(self, child: Child) -> None:
        """Starts a child that is wanted, however long the system refuses it."""
        while not self.stopping and child.wanted and child.process is None:
            try:
                if child is self.own.control:
                    self._start_control()
                else:
                    self._start_worker(child)
            except OSError as error:
                log.error("%s cannot be started: %s", child.name, error.strerror)
                await asyncio.sleep(1.0)
        self.tell_processes()

    def _start_control(self) -> None:
        arguments = ["--config", str(self.config)]
        if self.resume:
            arguments.append("--resume")
        if self.own.snapshot >= 0:
            arguments += ["--again", self.own.data_dir]
        self.own.control.spawn("control", arguments, [], self._heard_control, self._gone)

    def _start_worker(self, child: Child) -> None:
        sockets = self.own.sockets.of(child.slot)
        listen = ",".join(f"{host}|{port}|{sock.fileno()}" for (host, port), sock in sockets.items())
        arguments = ["--slot", str(child.number), "--snapshot", str(self.own.snapshot), "--listen", listen]
        fds = [self.own.snapshot, *(sock.fileno() for sock in sockets.values())]
        child.spawn("worker", arguments, fds, self._heard_worker, self._gone)

    def _gone(self, child: Child, pid: int) -> None:
        self._task(self._bury(child, pid))

    async def _bury(self, child: Child, pid: int) -> None:
        """A child's line is closed: its end is awaited, then it is started again, unless nobody wants it."""
        if child.pid != pid:
            return
        status = await child.reap(START_PATIENCE if self.own.snapshot < 0 else 1.0)  # its own status says what is wrong at the start
        self._changed.set()
        if self.own.snapshot < 0:  # control never got as far as something to serve; it has said why
            self._end(status if status > 0 else 1)
        if self.stopping or not child.wanted or self.own.snapshot < 0:
            return
        child.restarts += 1
        lived = time.monotonic() - child.started
        log.error("%s (pid %d) ended with status %s after %.1f s and is started again", child.name, pid, status, lived)
        self.tell_processes()
        await asyncio.sleep(child.pause())
        await self.start(child)

    async def _watch(self) -> None:
        """Replaces hung children; tells systemd we live only while all of them beat, or are starting. While this process itself stood
        still (a paused machine, SIGSTOP) nobody's beat was heard: that time is no child's fault."""
        fed, now, every = 0.0, time.monotonic(), self.systemd.watchdog_every
        while True:
            await stroke(LOOK_EVERY)
            before, now = now, time.monotonic()
            self.own.keep_pace(self.tell_processes)
            for child in self.own.children():
                child.beat = min(now, child.beat + max(0.0, now - before - LOOK_EVERY))
                child.watch(now)
                if child.process is not None and child.hung(now):
                    log.error("%s (pid %d) has not beaten for %.0f s and is killed", child.name, child.pid, now - child.beat)
                    child.turn("hung")
                    child.beat = now
                    child.process.kill()
            if self.stopping:
                self.systemd.more_time(15)
            if every and now - fed >= every and all(child.beats(now) for child in self.own.children()):
                fed = now
                self.systemd.watchdog()

    # -- what control says --------------------------------------------------------------------------------------

    def _heard_control(self, child: Child, message: dict[str, Any], fds: list[int]) -> None:
        child.beat = time.monotonic()
        match message.get("say"):
            case "beat":
                child.turn("up")
            case "boot":
                self._task(self._boot(message))
            case "prepare":
                self._prepare(message)
            case "commit":
                self._take_snapshot(fds[0])
                self.own.drain_timeout = message["drain_timeout"]
                self._move(Wish.of(message))
                self.commits += 1
                self._changed.set()
            case "upgrade":
                self._task(become(self, message["to"]))
            case "abort":
                self.own.sockets.drop_new()
            case "standing":
                self.standing = message["status"]
            case "reloading":
                if self.ready and not self.stopping:
                    self.systemd.reloading()
            case "reloaded":
                self.standing = message["status"]
                if self.ready and not self.stopping:
                    self.systemd.ready(self.standing)

    async def _boot(self, message: dict[str, Any]) -> None:
        """Control has a configuration to serve: the moment to claim the data directory and the addresses."""
        wish = Wish.of(message)
        try:
            if self.own.lock < 0:
                self.own.data_dir = message["data_dir"]
                self.own.lock = claim(Path(self.own.data_dir))
            await self._bind(wish)
        except (OSError, Claimed) as error:
            if self.own.snapshot < 0:
                print(f"gateway: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
                self.stopping = True
                self._end(1)
                return
            log.error("%s", error)  # control was started again: what we have is served on
        self._hand_metrics("go", self.own.sockets.metrics())

    async def _bind(self, wish: Wish) -> None:
        end = time.monotonic() + (BIND_PATIENCE if self.own.snapshot < 0 else 0.0)
        while True:
            try:
                self.own.sockets.make(wish)
                return
            except OSError as error:
                if error.errno != errno.EADDRINUSE or time.monotonic() >= end:
                    raise
            await asyncio.sleep(0.1)

    def _prepare(self, message: dict[str, Any]) -> None:
        """Phase one of a reload that changes addresses or the number of workers."""
        try:
            if self.stopping:
                raise OSError(errno.ESHUTDOWN, "the gateway is stopping")
            self.own.sockets.make(Wish.of(message))
        except OSError as error:
            self.own.control.say({"say": "cannot", "message": error.strerror})
            return
        self._hand_metrics("prepared", self.own.sockets.new_metrics())

    def _hand_metrics(self, say: str, sockets: dict[Address, socket.socket]) -> None:
        places = {f"{host}|{port}": number for number, (host, port) in enumerate(sockets)}
        self.own.control.say({"say": say, "metrics": places}, [sock.fileno() for sock in sockets.values()])

    def _take_snapshot(self, fd: int) -> None:
        if self.own.snapshot >= 0:
            os.close(self.own.snapshot)
        self.own.snapshot = fd

    def _move(self, wish: Wish) -> None:
        """Phase two: workers get their new sockets; those of gone addresses and slots close once workers let them go."""
        before = self.own.sockets.workers
        if before and wish.workers != before:
            self._resized = True
            self.own.sockets.steer(min(before, wish.workers))
        new = self.own.sockets.take_new()
        gone, doomed = self.own.sockets.leave(wish)
        for slot, child in self.own.workers.items():
            if child.wanted and slot in new:
                child.say({"say": "listen", "addresses": list(new[slot])}, [sock.fileno() for sock in new[slot].values()])
            if slot in gone and slot < wish.workers:
                child.say({"say": "unlisten", "addresses": gone[slot]})
        self._fill_slots()
        if doomed:
            asyncio.get_running_loop().call_later(SETTLE, _close, doomed)
        self.tell_processes()

    def _fill_slots(self) -> None:
        """Starts workers for slots that have none, drains those that are no longer wanted."""
        wanted = self.own.sockets.slots()
        for slot in sorted(wanted - set(self.own.workers)):
            if not self.stopping:
                self.own.workers[slot] = self.own.worker(slot)
                self._task(self.start(self.own.workers[slot]))
        for slot in set(self.own.workers) - wanted:
            child = self.own.workers[slot]
            if child.wanted:
                child.wanted = False
                self.retire(child)

    def retire(self, child: Child) -> None:
        """A worker too many finishes what it has, within `http.drain_timeout`."""
        child.turn("draining")
        self._task(self._retire(child))

    async def _retire(self, child: Child) -> None:
        await asyncio.sleep(SETTLE)
        child.say({"say": "drain", "late": "serve"})
        await self._idle([child])
        child.say({"say": "exit"})
        await self._dead([child])
        child.kill()
        if child in self.own.beside:
            self.own.beside.remove(child)
        else:
            del self.own.workers[child.slot]
        sweep_gauges(self.own.data_dir, child.number)
        self._fill_slots()  # it may be wanted again by now
        self._check_up()
        self.tell_processes()

    async def _idle(self, children: list[Child]) -> None:
        """Until none of them serves a request, or `http.drain_timeout` has passed."""
        await self.until(lambda: all(child.process is None or child.idle for child in children), self.own.drain_timeout)

    async def _dead(self, children: list[Child]) -> None:
        await self.until(lambda: all(child.process is None for child in children), EXIT_PATIENCE)

    async def until(self, done: Callable[[], bool], seconds: float) -> None:
        """Until `done`, which is asked whenever a child ended or said something; for `seconds` at most."""
        end = time.monotonic() + seconds
        while not done() and (left := end - time.monotonic()) > 0:
            self._changed.clear()
            await comes(self._changed, left)

    # -- what workers say -----------------------------------------------------------------------------------------

    def _heard_worker(self, child: Child, message: dict[str, Any], fds: list[int]) -> None:
        child.beat = time.monotonic()
        match message.get("say"):
            case "listening":
                log.info("%s (pid %d) listens", child.name, child.pid)
                if child.wanted and not self.stopping:
                    child.turn("up")
                    self._changed.set()
                self._check_up()
                self.tell_processes()
            case "idle" | "busy" as state:
                child.idle = state == "idle"
                self._changed.set()

    def _check_up(self) -> None:
        """Whether all workers listen: then the service is ready, and each gets its share of new connections."""
        if self.stopping or any(child.state != "up" for child in self.own.workers.values()):
            return
        if self._resized:
            self._resized = False
            self.own.sockets.steer(self.own.sockets.workers)
        if not self.ready:
            self.ready = True
            self.systemd.ready(self.serving())
            log.info("ready: %d worker(s)", len(self.own.workers))

    def serving(self) -> str:
        """For `systemctl status`, after a start or an upgrade."""
        return "; ".join(filter(None, (f"serving with {len(self.own.workers)} worker(s)", self.standing)))

    def tell_processes(self) -> None:
        """Control shows the table in `gatewayctl status`, and closes the journal of workers that died."""
        own = {"name": "supervisor", "pid": os.getpid(), "state": "up", "since": self.own.started, "restarts": 0}
        own |= told(self.upgrade, self.own.upgrades)
        self.own.control.say({"say": "processes", "table": [own, *(c.told() for c in self.own.children())], "stopping": self.stopping})

    # -- signals and the end ----------------------------------------------------------------------------------------

    def _hang_up(self) -> None:
        if not self.stopping:
            self.own.control.say({"say": "reload"})

    def _terminate(self) -> None:
        if self.stopping:
            log.warning("stopping at once")
            self._task(self._stop(now=True))
            return
        self.stopping = True
        log.info("stopping: open requests may take %.0f s", self.own.drain_timeout)
        self.systemd.stopping("draining")
        self._task(self._drain())

    async def _drain(self) -> None:
        for child in self.own.all_workers():
            child.turn("draining")
            child.say({"say": "drain", "late": "refuse"})
        self.tell_processes()
        await self._idle(self.own.all_workers())
        await self._stop(now=False)

    async def _stop(self, now: bool) -> None:
        for child in self.own.all_workers():
            child.say({"say": "exit", "now": now})
        await self._dead(self.own.all_workers())
        if self.own.snapshot >= 0:
            self.own.control.say({"say": "exit"})
            await self._dead([self.own.control])
        self._end(0)

    def _end(self, status: int) -> None:
        if not self._ended.done():
            self._ended.set_result(status)

    def _task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.critical("the supervisor ends because of a fault of ours", exc_info=task.exception())
            self._end(1)


def _close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def main(config: Path, resume: bool, will: int = -1) -> int:
    """The role `serve`."""
    start_logging("supervisor")
    with contextlib.suppress(KeyboardInterrupt):
        return asyncio.run(Supervisor(config, resume).run(will))
    return 130

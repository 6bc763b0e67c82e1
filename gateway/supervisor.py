"""The process that is never busy: owns the listening sockets, starts and restarts the children, talks to systemd.

It reads no configuration: control tells it what to listen on. Sockets live here, one per worker slot and address, so
that connections waiting for a dead worker are answered by its successor. The snapshot that new workers start from is
kept in a memfd, so that they can start while control is down.
"""

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from gateway.accept.listen import Address, Sockets, Wish
from gateway.bus.child import Child
from gateway.log.lines import start_logging
from gateway.log.systemd import Systemd

log = logging.getLogger("gateway.supervisor")

LOOK_EVERY: Final = 0.25
EXIT_PATIENCE: Final = 5.0
"""Seconds that children have to end when told to."""
BIND_PATIENCE: Final = 3.0
"""Seconds at the start for a taken address to become free: children of a killed supervisor need a moment to end."""
SETTLE: Final = 0.5
"""Seconds from the moment new connections go elsewhere until the last handshake that was under way is over."""
STARTED: Final = time.time()


class Supervisor:
    """One per `data_dir`."""

    def __init__(self, config: Path, resume: bool) -> None:
        self._config = config
        self._resume = resume
        self._systemd = Systemd()
        self._control = Child("control", -1)
        self._workers: dict[int, Child] = {}
        self._sockets = Sockets()
        self._data_dir = ""
        self._snapshot = -1
        self._lock = -1
        self._drain_timeout = 600.0
        self._stopping = False
        self._ready = False
        self._resized = False
        self._changed = asyncio.Event()
        self._ended: asyncio.Future[int]
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Until stopped. Returns the exit status: 0, 1, or control's own (78: bad configuration at the start)."""
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        loop.add_signal_handler(signal.SIGTERM, self._terminate)
        loop.add_signal_handler(signal.SIGINT, self._terminate)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        self._task(self._start(self._control))
        self._task(self._watch())
        try:
            return await self._ended
        finally:
            for task in self._tasks:
                task.cancel()
            for child in self._children():
                child.kill()
            self._sockets.close()

    # -- children -----------------------------------------------------------------------------------------------

    async def _start(self, child: Child) -> None:
        """Starts a child that is wanted, however long the system refuses it."""
        while not self._stopping and child.wanted and child.process is None:
            try:
                if child is self._control:
                    self._start_control()
                else:
                    self._start_worker(child)
            except OSError as error:
                log.error("%s cannot be started: %s", child.name, error.strerror)
                await asyncio.sleep(1.0)
        self._tell_processes()

    def _start_control(self) -> None:
        arguments = ["--config", str(self._config)]
        if self._resume:
            arguments.append("--resume")
        if self._snapshot >= 0:
            arguments += ["--again", self._data_dir]
        self._control.spawn("control", arguments, [], self._heard_control, self._gone)

    def _start_worker(self, child: Child) -> None:
        sockets = self._sockets.of(child.slot)
        listen = ",".join(f"{host}|{port}|{sock.fileno()}" for (host, port), sock in sockets.items())
        arguments = ["--slot", str(child.slot), "--snapshot", str(self._snapshot), "--listen", listen]
        fds = [self._snapshot, *(sock.fileno() for sock in sockets.values())]
        child.spawn("worker", arguments, fds, self._heard_worker, self._gone)

    def _gone(self, child: Child, pid: int) -> None:
        self._task(self._bury(child, pid))

    async def _bury(self, child: Child, pid: int) -> None:
        """A child's line is closed: its end is awaited, then it is started again, unless nobody wants it."""
        if child.pid != pid:
            return
        status = await child.reap()
        self._changed.set()
        if self._snapshot < 0:  # control never got as far as something to serve; it has said why
            self._end(status if status > 0 else 1)
        if self._stopping or not child.wanted or self._snapshot < 0:
            return
        child.restarts += 1
        lived = time.monotonic() - child.started
        log.error("%s (pid %d) ended with status %s after %.1f s and is started again", child.name, pid, status, lived)
        self._tell_processes()
        await asyncio.sleep(child.pause())
        await self._start(child)

    async def _watch(self) -> None:
        """Replaces hung children; tells systemd we live only while all of them beat."""
        fed = 0.0
        every = self._systemd.watchdog_every
        while True:
            await asyncio.sleep(LOOK_EVERY)
            now = time.monotonic()
            for child in self._children():
                if child.process is not None and child.hung(now):
                    log.error("%s (pid %d) has not beaten for %.0f s and is killed", child.name, child.pid, now - child.beat)
                    child.turn("hung")
                    child.beat = now
                    child.process.kill()
            if self._stopping:
                self._systemd.more_time(15)
            if every and now - fed >= every and all(child.beats(now) for child in self._children()):
                fed = now
                self._systemd.watchdog()

    def _children(self) -> list[Child]:
        return [self._control, *self._workers.values()]

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
                self._drain_timeout = message["drain_timeout"]
                self._move(Wish.of(message))
            case "abort":
                self._sockets.drop_new()
            case "reloading":
                if self._ready and not self._stopping:
                    self._systemd.reloading()
            case "reloaded":
                if self._ready and not self._stopping:
                    self._systemd.ready(message["status"])

    async def _boot(self, message: dict[str, Any]) -> None:
        """Control has a configuration to serve: the moment to claim the data directory and the addresses."""
        wish = Wish.of(message)
        try:
            if self._lock < 0:
                self._data_dir = message["data_dir"]
                self._lock = claim(Path(self._data_dir))
            await self._bind(wish)
        except (OSError, Claimed) as error:
            if self._snapshot < 0:
                print(f"gateway: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
                self._stopping = True
                self._end(1)
                return
            log.error("%s", error)  # control was started again: what we have is served on
        self._hand_metrics("go", self._sockets.metrics())

    async def _bind(self, wish: Wish) -> None:
        end = time.monotonic() + (BIND_PATIENCE if self._snapshot < 0 else 0.0)
        while True:
            try:
                self._sockets.make(wish)
                return
            except OSError as error:
                if error.errno != errno.EADDRINUSE or time.monotonic() >= end:
                    raise
            await asyncio.sleep(0.1)

    def _prepare(self, message: dict[str, Any]) -> None:
        """Phase one of a reload that changes addresses or the number of workers."""
        try:
            if self._stopping:
                raise OSError(errno.ESHUTDOWN, "the gateway is stopping")
            self._sockets.make(Wish.of(message))
        except OSError as error:
            self._control.say({"say": "cannot", "message": error.strerror})
            return
        self._hand_metrics("prepared", self._sockets.new_metrics())

    def _hand_metrics(self, say: str, sockets: dict[Address, socket.socket]) -> None:
        places = {f"{host}|{port}": number for number, (host, port) in enumerate(sockets)}
        self._control.say({"say": say, "metrics": places}, [sock.fileno() for sock in sockets.values()])

    def _take_snapshot(self, fd: int) -> None:
        if self._snapshot >= 0:
            os.close(self._snapshot)
        self._snapshot = fd

    def _move(self, wish: Wish) -> None:
        """Phase two: workers get their new sockets; those of gone addresses and slots close once workers let them go."""
        before = self._sockets.workers
        if before and wish.workers != before:
            self._resized = True
            self._sockets.steer(min(before, wish.workers))
        new = self._sockets.take_new()
        gone, doomed = self._sockets.leave(wish)
        for slot, child in self._workers.items():
            if child.wanted and slot in new:
                child.say({"say": "listen", "addresses": list(new[slot])}, [sock.fileno() for sock in new[slot].values()])
            if slot in gone and slot < wish.workers:
                child.say({"say": "unlisten", "addresses": gone[slot]})
        self._fill_slots()
        if doomed:
            asyncio.get_running_loop().call_later(SETTLE, _close, doomed)
        self._tell_processes()

    def _fill_slots(self) -> None:
        """Starts workers for slots that have none, drains those that are no longer wanted."""
        wanted = self._sockets.slots()
        for slot in sorted(wanted - set(self._workers)):
            if not self._stopping:
                self._workers[slot] = Child(f"worker-{slot}", slot)
                self._task(self._start(self._workers[slot]))
        for slot in set(self._workers) - wanted:
            child = self._workers[slot]
            if child.wanted:
                child.wanted = False
                self._task(self._retire(child))

    async def _retire(self, child: Child) -> None:
        """A slot too many: its worker finishes what it has, within `http.drain_timeout`."""
        child.turn("draining")
        await asyncio.sleep(SETTLE)
        child.say({"say": "drain", "late": "serve"})
        await self._idle([child])
        child.say({"say": "exit"})
        await self._dead([child])
        child.kill()
        del self._workers[child.slot]
        self._fill_slots()  # it may be wanted again by now
        self._check_up()
        self._tell_processes()

    async def _idle(self, children: list[Child]) -> None:
        """Until none of them serves a request, or `http.drain_timeout` has passed."""
        await self._until(lambda: all(child.process is None or child.idle for child in children), self._drain_timeout)

    async def _dead(self, children: list[Child]) -> None:
        await self._until(lambda: all(child.process is None for child in children), EXIT_PATIENCE)

    async def _until(self, done: Callable[[], bool], seconds: float) -> None:
        """Until `done`, which is asked whenever a child ended or said something; for `seconds` at most."""
        end = time.monotonic() + seconds
        while not done() and (left := end - time.monotonic()) > 0:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)

    # -- what workers say -----------------------------------------------------------------------------------------

    def _heard_worker(self, child: Child, message: dict[str, Any], fds: list[int]) -> None:
        child.beat = time.monotonic()
        match message.get("say"):
            case "listening":
                log.info("%s (pid %d) listens", child.name, child.pid)
                if child.wanted and not self._stopping:
                    child.turn("up")
                self._check_up()
                self._tell_processes()
            case "idle" | "busy" as state:
                child.idle = state == "idle"
                self._changed.set()

    def _check_up(self) -> None:
        """Whether all workers listen: then the service is ready, and each gets its share of new connections."""
        if self._stopping or any(child.state != "up" for child in self._workers.values()):
            return
        if self._resized:
            self._resized = False
            self._sockets.steer(self._sockets.workers)
        if not self._ready:
            self._ready = True
            self._systemd.ready(f"serving with {len(self._workers)} worker(s)")
            log.info("ready: %d worker(s)", len(self._workers))

    def _tell_processes(self) -> None:
        """Control shows the table in `gatewayctl status`, and closes the journal of workers that died."""
        own = {"name": "supervisor", "pid": os.getpid(), "state": "up", "since": STARTED, "restarts": 0}
        self._control.say({"say": "processes", "table": [own, *(c.told() for c in self._children())], "stopping": self._stopping})

    # -- signals and the end ----------------------------------------------------------------------------------------

    def _hang_up(self) -> None:
        if not self._stopping:
            self._control.say({"say": "reload"})

    def _terminate(self) -> None:
        if self._stopping:
            log.warning("stopping at once")
            self._task(self._stop(now=True))
            return
        self._stopping = True
        log.info("stopping: open requests may take %.0f s", self._drain_timeout)
        self._systemd.stopping("draining")
        self._task(self._drain())

    async def _drain(self) -> None:
        for child in self._workers.values():
            child.turn("draining")
            child.say({"say": "drain", "late": "refuse"})
        self._tell_processes()
        await self._idle(list(self._workers.values()))
        await self._stop(now=False)

    async def _stop(self, now: bool) -> None:
        for child in self._workers.values():
            child.say({"say": "exit", "now": now})
        await self._dead(list(self._workers.values()))
        if self._snapshot >= 0:
            self._control.say({"say": "exit"})
            await self._dead([self._control])
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


class Claimed(Exception):
    """Another gateway owns this data directory."""


def claim(data_dir: Path) -> int:
    """Locks the data directory for this process's lifetime. Raises Claimed, or OSError when it cannot be written."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
        fd = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OSError(error.errno, f"data_dir {data_dir} cannot be used: {error.strerror}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(fd, 32).decode(errors="replace").strip() or "unknown"
        os.close(fd)
        raise Claimed(f"{data_dir} is in use by another gateway (pid {owner}); stop it first or give this one its own data_dir") from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def _close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def main(config: Path, resume: bool) -> int:
    """The role `serve`."""
    start_logging("supervisor")
    with contextlib.suppress(KeyboardInterrupt):
        return asyncio.run(Supervisor(config, resume).run())
    return 130

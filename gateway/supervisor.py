"""The process that is never busy: owns the listening sockets, starts and restarts the children, talks to systemd.

It reads no configuration: control tells it what to listen on. Sockets live here, one per worker slot and address, so
that connections waiting for a dead worker are answered by its successor. The snapshot that new workers start from is
kept in a memfd, so that they can start while control is down.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gateway.accept.listen import Address, Sockets, Wish
from gateway.bus.leash import HUNG_AFTER, Leash
from gateway.log.lines import start_logging
from gateway.log.systemd import Systemd

log = logging.getLogger("gateway.supervisor")

START_PATIENCE: Final = 60.0
"""Seconds until a child must have said its first word."""
BACKOFF: Final = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)
"""Seconds before a child that keeps dying is started again. A child that lived for 10 s starts at once."""
EXIT_PATIENCE: Final = 5.0


@dataclass
class Child:
    """One process we keep alive. `state`: starting, up, draining, hung, down."""

    name: str
    slot: int
    process: subprocess.Popen[bytes] | None = None
    leash: Leash | None = None
    state: str = "down"
    since: float = field(default_factory=time.time)
    beat: float = 0.0
    started: float = 0.0
    restarts: int = 0
    failures: int = 0
    idle: bool = False
    wanted: bool = True

    def turn(self, state: str) -> None:
        if state != self.state:
            self.state = state
            self.since = time.time()


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
        self._ended: asyncio.Future[int]
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Until stopped. Returns the exit status: 0, 1, or control's own (78: bad configuration at the start)."""
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        loop.add_signal_handler(signal.SIGTERM, self._terminate)
        loop.add_signal_handler(signal.SIGINT, self._terminate)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        self._start_control()
        watch = loop.create_task(self._watch())
        try:
            return await self._ended
        finally:
            watch.cancel()
            self._kill_all()
            self._sockets.close()

    # -- children -----------------------------------------------------------------------------------------------

    def _start_control(self) -> None:
        arguments = ["--config", str(self._config)]
        if self._resume:
            arguments.append("--resume")
        if self._lock >= 0:
            arguments.append("--again")
        self._spawn(self._control, "control", arguments, [], self._heard_control)

    def _start_worker(self, child: Child) -> None:
        sockets = self._sockets.of(child.slot)
        listen = ",".join(f"{host}|{port}|{sock.fileno()}" for (host, port), sock in sockets.items())
        arguments = ["--slot", str(child.slot), "--snapshot", str(self._snapshot), "--listen", listen]
        child.idle = False
        self._spawn(child, "worker", arguments, [self._snapshot, *(s.fileno() for s in sockets.values())], self._heard_worker)

    def _spawn(self, child: Child, role: str, arguments: list[str], fds: list[int], heard: Any) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [*self_command(), role, "--leash", str(theirs.fileno()), *arguments]
        child.process = subprocess.Popen(command, pass_fds=[theirs.fileno(), *fds], stdin=subprocess.DEVNULL)
        theirs.close()
        child.started = child.beat = time.monotonic()
        child.turn("starting")
        pid = child.process.pid
        child.leash = Leash(ours, lambda m, f: heard(child, m, f), lambda: self._gone(child, pid))

    def _gone(self, child: Child, pid: int) -> None:
        """The child's line is closed: it is dead or as good as dead."""
        self._task(self._bury(child, pid))

    async def _bury(self, child: Child, pid: int) -> None:
        process = child.process
        if process is None or process.pid != pid:
            return
        child.leash = None
        status = await self._wait(process)
        child.process = None
        child.turn("down")
        if self._lock < 0:  # control never got as far as a valid configuration
            self._end(status if status > 0 else 1)
            return
        if self._stopping or not child.wanted:
            return
        lived = time.monotonic() - child.started
        child.failures = 0 if lived > 10 else child.failures + 1
        child.restarts += 1
        log.error("%s (pid %d) ended with status %s after %.1f s and is started again", child.name, pid, status, lived)
        self._tell_processes()
        await asyncio.sleep(BACKOFF[min(child.failures, len(BACKOFF) - 1)])
        if not self._stopping and child.wanted and child.process is None:
            if child is self._control:
                self._start_control()
            else:
                self._start_worker(child)
            self._tell_processes()

    async def _wait(self, process: subprocess.Popen[bytes]) -> int:
        for _ in range(100):
            if (status := process.poll()) is not None:
                return status
            await asyncio.sleep(0.01)
        process.kill()
        return await asyncio.get_running_loop().run_in_executor(None, process.wait)

    async def _watch(self) -> None:
        """Replaces hung children; tells systemd we live only while all of them beat."""
        fed = 0.0
        while True:
            await asyncio.sleep(0.25)
            now = time.monotonic()
            for child in self._children():
                patience = HUNG_AFTER if child.state not in ("starting", "down") else START_PATIENCE
                if child.process is not None and now - child.beat > patience:
                    log.error("%s (pid %d) has not beaten for %.0f s and is killed", child.name, child.process.pid, now - child.beat)
                    child.turn("hung")
                    child.beat = now
                    child.process.kill()
            if self._stopping:
                self._systemd.more_time(15)
            every = self._systemd.watchdog_every
            if every and now - fed >= every and all(c.process is not None and now - c.beat < HUNG_AFTER for c in self._children()):
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
                self._boot(message)
            case "snapshot":
                self._take_snapshot(fds)
                self._drain_timeout = message["drain_timeout"]
            case "prepare":
                self._prepare(message)
            case "commit":
                self._take_snapshot(fds)
                self._drain_timeout = message["drain_timeout"]
                self._commit(message)
            case "abort":
                self._sockets.drop_new()
            case "reloading":
                self._systemd.reloading()
            case "reloaded":
                if not self._stopping:
                    self._systemd.ready(message["status"])

    def _boot(self, message: dict[str, Any]) -> None:
        """Control has a valid configuration: this is the moment to claim the data directory and the addresses."""
        try:
            if self._lock < 0:
                self._lock = claim(Path(message["data_dir"]))
            self._sockets.make(Wish.of(message))
            self._sockets.take_new()
        except (OSError, Claimed) as error:
            print(f"gateway: {error}", file=sys.stderr)
            self._stopping = True
            self._end(1)
            return
        self._data_dir = message["data_dir"]
        self._hand_metrics("go", self._sockets.metrics())

    def _hand_metrics(self, say: str, sockets: dict[Address, socket.socket]) -> None:
        assert self._control.leash is not None
        places = {f"{host}|{port}": number for number, (host, port) in enumerate(sockets)}
        self._control.leash.say({"say": say, "metrics": places}, [sock.fileno() for sock in sockets.values()])

    def _take_snapshot(self, fds: list[int]) -> None:
        if not fds:
            return
        if self._snapshot >= 0:
            os.close(self._snapshot)
        self._snapshot = fds[0]
        self._fill_slots()
        self._tell_processes()

    def _fill_slots(self) -> None:
        """Starts workers for slots that have none, drains those that are no longer wanted."""
        wanted = self._sockets.slots() or set(self._workers)
        for slot in sorted(wanted - set(self._workers)):
            child = self._workers[slot] = Child(f"worker-{slot}", slot)
            self._start_worker(child)
        for slot in set(self._workers) - wanted:
            child = self._workers[slot]
            if child.wanted:
                child.wanted = False
                self._task(self._retire(child))

    async def _retire(self, child: Child) -> None:
        """A slot too many: its worker finishes what it has, within `http.drain_timeout`."""
        child.turn("draining")
        if child.leash is not None:
            child.leash.say({"say": "drain", "late": "serve"})
        end = time.monotonic() + self._drain_timeout
        while child.process is not None and not child.idle and time.monotonic() < end:
            await asyncio.sleep(0.05)
        if child.leash is not None:
            child.leash.say({"say": "exit"})
        if child.process is not None:
            await self._wait(child.process)
        self._workers.pop(child.slot, None)

    def _prepare(self, message: dict[str, Any]) -> None:
        """Phase one of a reload that changes addresses or the number of workers."""
        assert self._control.leash is not None
        try:
            self._sockets.make(Wish.of(message))
        except OSError as error:
            self._control.leash.say({"say": "cannot", "message": str(error)})
            return
        self._hand_metrics("prepared", self._sockets.new_metrics())

    def _commit(self, message: dict[str, Any]) -> None:
        """Phase two: workers get their new sockets; sockets of gone addresses and slots close once workers let them go."""
        wish = Wish.of(message)
        for slot, child in self._workers.items():
            new = self._sockets.new_of(slot)
            if new and child.leash is not None:
                child.leash.say({"say": "listen", "addresses": list(new)}, [s.fileno() for s in new.values()])
        self._sockets.take_new()
        gone, doomed = self._sockets.leave(wish)
        for slot, addresses in gone.items():
            leash = self._workers[slot].leash if slot < wish.workers and slot in self._workers else None
            if leash is not None:
                leash.say({"say": "unlisten", "addresses": addresses})
        self._fill_slots()
        if doomed:
            asyncio.get_running_loop().call_later(2.0, _close, doomed)
        self._tell_processes()

    # -- what workers say -----------------------------------------------------------------------------------------

    def _heard_worker(self, child: Child, message: dict[str, Any], fds: list[int]) -> None:
        child.beat = time.monotonic()
        match message.get("say"):
            case "listening":
                child.turn("up")
                log.info("%s (pid %d) listens", child.name, child.process.pid if child.process else 0)
                self._check_ready()
                self._tell_processes()
            case "idle":
                child.idle = True
            case "busy":
                child.idle = False

    def _check_ready(self) -> None:
        if not self._ready and not self._stopping and all(child.state == "up" for child in self._workers.values()):
            self._ready = True
            self._systemd.ready(f"serving with {len(self._workers)} worker(s)")
            log.info("ready: %d worker(s)", len(self._workers))

    def _tell_processes(self) -> None:
        """Control shows the table in `gatewayctl status`, and closes the journal of workers that died."""
        if self._control.leash is None:
            return
        own = {"name": "supervisor", "pid": os.getpid(), "state": "up", "since": STARTED, "restarts": 0}
        table = [
            {"name": c.name, "pid": c.process.pid if c.process else 0, "state": c.state, "since": c.since, "restarts": c.restarts}
            for c in self._children()
        ]
        self._control.leash.say({"say": "processes", "table": [own, *table], "stopping": self._stopping})

    # -- signals and the end ----------------------------------------------------------------------------------------

    def _hang_up(self) -> None:
        if self._control.leash is not None:
            self._control.leash.say({"say": "reload"})

    def _terminate(self) -> None:
        if self._stopping:
            log.warning("stopping at once")
            self._task(self._stop(now=True))
            return
        self._stopping = True
        log.info("stopping: open requests may take %.0f s", self._drain_timeout)
        self._systemd.stopping("draining")
        if self._lock < 0:
            self._end(0)
            return
        self._task(self._drain())

    async def _drain(self) -> None:
        for child in self._workers.values():
            child.turn("draining")
            if child.leash is not None:
                child.leash.say({"say": "drain", "late": "refuse"})
        self._tell_processes()
        end = time.monotonic() + self._drain_timeout
        while time.monotonic() < end and any(c.process is not None and not c.idle for c in self._workers.values()):
            await asyncio.sleep(0.02)
        await self._stop(now=False)

    async def _stop(self, now: bool) -> None:
        for child in (*self._workers.values(), self._control):
            if child is self._control:
                await self._all_dead(list(self._workers.values()))
            if child.leash is not None:
                child.leash.say({"say": "exit", "now": now})
        await self._all_dead([self._control])
        self._end(0)

    async def _all_dead(self, children: list[Child]) -> None:
        end = time.monotonic() + EXIT_PATIENCE
        while any(c.process is not None for c in children) and time.monotonic() < end:
            await asyncio.sleep(0.01)

    def _kill_all(self) -> None:
        for child in self._children():
            if child.process is not None:
                child.process.kill()
                child.process.wait()
            if child.leash is not None:
                child.leash.close()

    def _end(self, status: int) -> None:
        if not self._ended.done():
            self._ended.set_result(status)

    def _task(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


STARTED: Final = time.time()


class Claimed(Exception):
    """Another gateway owns this data directory."""


def self_command() -> list[str]:
    """How this executable starts itself in another role; frozen or not."""
    return [sys.executable] if getattr(sys, "frozen", False) else [sys.executable, "-m", "gateway"]


def claim(data_dir: Path) -> int:
    """Locks the data directory for this process's lifetime. Raises Claimed, or OSError when it cannot be written."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
    fd = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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

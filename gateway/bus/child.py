"""One process that the supervisor keeps alive: how it is started, heard, ended, and how soon it is started again.

It decides nothing about when; the supervisor does.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gateway import __version__
from gateway.bus.leash import BUSY_AFTER, HUNG_AFTER, IDLE_AFTER, Leash

START_PATIENCE: Final = 60.0
"""Seconds until a child must have said its first word."""
NEVER_UP: Final = (0.1, 0.5, 1.0, 2.0, 5.0)
"""Seconds before a child is started again that dies again and again before it was up."""
SHORT_LIVED: Final = 0.2
"""Seconds before a child is started again that was up, but lived for less than `LONG`. One that lived longer: at once."""
LONG: Final = 10.0
ORPHAN_PATIENCE: Final = 5.0
"""Seconds that an orphan has to end."""

KEPT: Final = ("name", "slot", "number", "version", "state", "since", "started", "restarts", "failures", "was_up", "idle", "wanted")
"""What a later version of the supervisor must know of a child."""

Heard = Callable[["Child", dict[str, Any], list[int]], None]
Gone = Callable[["Child", int], None]


class Adopted:
    """A child that an earlier version of this very process has started: what Popen does, as far as it is used here."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self._wait(os.WNOHANG)

    def wait(self) -> int | None:
        return self._wait(0)

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def _wait(self, how: int) -> int | None:
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, how)
            except ChildProcessError:
                pid, status = self.pid, 0
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


@dataclass
class Child:
    """`state`: starting, up, draining, hung, down. slot: whose sockets it has; -1 for control. number: what it is called by control, in
    the journal and in metrics; no two that live have the same. spent: its CPU time when last looked at, in the kernel's ticks; worked:
    when that was last seen to grow. Times are monotonic, but `since` is wall clock."""

    name: str
    slot: int
    number: int = -1
    version: str = __version__
    process: subprocess.Popen[bytes] | Adopted | None = None
    leash: Leash | None = None
    state: str = "down"
    since: float = field(default_factory=time.time)
    beat: float = 0.0
    spent: int = 0
    worked: float = 0.0
    started: float = 0.0
    restarts: int = 0
    failures: int = 0
    was_up: bool = False
    idle: bool = False
    wanted: bool = True

    @property
    def pid(self) -> int:
        """0 when there is no process."""
        return self.process.pid if self.process is not None else 0

    def turn(self, state: str) -> None:
        self.was_up = self.was_up or state == "up"
        if state != self.state:
            self.state = state
            self.since = time.time()

    def spawn(self, role: str, arguments: list[str], fds: list[int], heard: Heard, gone: Gone) -> None:
        """Starts the process. gone: called once, with its pid, when its line is closed: it is dead or as good as dead.
        Raises OSError when the system has no room for another process."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [*self_command(), role, "--leash", str(theirs.fileno()), *arguments]
        try:
            # A group of its own: Ctrl-C is for the supervisor alone, which drains.
            self.process = subprocess.Popen(
                command, pass_fds=[theirs.fileno(), *fds], stdin=subprocess.DEVNULL, env=environment(), process_group=0
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self.started = self.beat = time.monotonic()
        self.was_up = self.idle = False
        self.version = __version__
        self.turn("starting")
        self._hold(ours, self.process.pid, heard, gone)

    def _hold(self, ours: socket.socket, pid: int, heard: Heard, gone: Gone) -> None:
        self.leash = Leash(ours, lambda message, got: heard(self, message, got), lambda: gone(self, pid))

    def bequeathed(self) -> dict[str, Any]:
        """For `adopted`, in the next version of this process."""
        kept = {word: getattr(self, word) for word in KEPT}
        line = self.leash.fileno() if self.leash is not None else -1
        return {**kept, "pid": self.pid, "leash": line}

    @classmethod
    def adopted(cls, told: dict[str, Any], heard: Heard, gone: Gone) -> "Child":
        """What the version before says of a child. One that was dead is started again like any other."""
        child = cls(**{word: told[word] for word in KEPT})
        if told["pid"] and told["leash"] >= 0:
            child.process = Adopted(told["pid"])
            child.beat = time.monotonic()
            child._hold(socket.socket(fileno=told["leash"]), told["pid"], heard, gone)
        return child

    def say(self, message: dict[str, Any], fds: list[int] | None = None) -> None:
        """Said to nobody when it is down or does not listen: its successor is told everything at its start."""
        if self.leash is not None:
            self.leash.say(message, fds)

    def watch(self, now: float) -> None:
        """Notes whether it works, while it is silent."""
        if self.process is not None and now - self.beat > HUNG_AFTER - IDLE_AFTER:
            spent = cpu_ticks(self.pid)
            if spent != self.spent:
                self.spent, self.worked = spent, now

    def hung(self, now: float) -> bool:
        """Whether it has been silent for too long. One that is stopped is told from one that has much to do by its CPU time (`watch`)."""
        patience = START_PATIENCE if self.state == "starting" else HUNG_AFTER if now - self.worked > IDLE_AFTER else BUSY_AFTER
        return self.process is not None and now - self.beat > patience

    def beats(self, now: float) -> bool:
        """As far as it has to by now: one that is only starting has its time, which the others' requests must not pay for."""
        return self.process is not None and not self.hung(now)

    async def reap(self, patience: float = 1.0) -> int:
        """Waits for the end of a process whose line is closed; one that lingers for so many seconds is killed. Returns its exit status."""
        self.leash = None
        process = self.process
        assert process is not None
        for _ in range(int(patience * 100)):
            if process.poll() is not None:
                break
            await asyncio.sleep(0.01)
        else:
            process.kill()
            await asyncio.get_running_loop().run_in_executor(None, process.wait)
        self.process = None
        self.turn("down")
        return process.returncode or 0

    def pause(self) -> float:
        """Seconds to wait before the next start."""
        if self.was_up:
            self.failures = 0
            return 0.0 if time.monotonic() - self.started > LONG else SHORT_LIVED
        self.failures += 1
        return NEVER_UP[min(self.failures, len(NEVER_UP)) - 1]

    def kill(self) -> None:
        """At once, and for certain."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        if self.leash is not None:
            self.leash.close()

    def told(self) -> dict[str, Any]:
        """For `gatewayctl status`."""
        return {word: getattr(self, word) for word in ("name", "pid", "state", "since", "restarts", "version")}


def cpu_ticks(pid: int) -> int:
    """What a process has had of CPUs, in the kernel's ticks (proc(5)); 0 when it cannot be read."""
    try:
        words = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return int(words[11]) + int(words[12])
    except (OSError, ValueError, IndexError):
        return 0


def self_command() -> list[str]:
    """How this executable starts itself in another role; frozen or not. -P: nothing is imported from the working directory."""
    path = [] if getattr(sys, "frozen", False) else ["-P"]
    return [sys.executable, *path, "-m", "gateway"]


def environment() -> dict[str, str]:
    """Ours, and for an unfrozen child the place where this very gateway is imported from."""
    if getattr(sys, "frozen", False):
        return dict(os.environ)
    place = str(Path(__file__).parents[2])
    others = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part and part != place]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([place, *others])}


def end_soon() -> None:
    """In a child whose supervisor is gone: nobody kills it any more if it hangs at its end, so it sees to that itself."""
    last = threading.Timer(ORPHAN_PATIENCE, os._exit, (1,))
    last.daemon = True
    last.start()


def obey_the_supervisor_alone() -> None:
    """In a child: signals that end a service or a terminal's job are for the supervisor, which ends its children in order."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)

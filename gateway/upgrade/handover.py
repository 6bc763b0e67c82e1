"""What a supervisor leaves to the version that it becomes: over exec it stays the same process, so sockets, children and the lock of
the data directory stay its own. Their numbers travel in a memfd.

Signals are held back from the last moment of the old version until the new one listens to them: none is lost, none kills.
"""

import asyncio
import json
import os
import signal
import stat
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gateway.accept.listen import Sockets
from gateway.bus.child import Child, Gone, Heard, environment, self_command
from gateway.bus.memory import to_memfd
from gateway.steady import Pace

HANDOVER: Final = 1
"""Goes up when an older estate, or what is said over the leash, would be misread."""
FITS: Final = "fits"
"""What the next version says when it can take over. An exit code of 0 is not enough: /bin/true has it too, and would end the service."""
FIT_PATIENCE: Final = 60.0
"""Seconds that the new version has to say whether it fits."""
HELD: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2})


PLAIN: Final = ("data_dir", "snapshot", "lock", "drain_timeout", "started", "upgrades")
"""Fields of an estate that travel as they are."""


class CannotUpgrade(Exception):
    """Its text is the sentence for the operator."""


@dataclass
class Estate:
    """What a supervisor has. workers: by slot. beside: workers that are about to have a slot, or had one and finish what they have.
    snapshot, lock: descriptors, -1 = none yet. started: Unix seconds. upgrades: how many there were."""

    sockets: Sockets = field(default_factory=Sockets)
    control: Child = field(default_factory=lambda: Child("control", -1))
    workers: dict[int, Child] = field(default_factory=dict)
    beside: list[Child] = field(default_factory=list)
    data_dir: str = ""
    snapshot: int = -1
    lock: int = -1
    drain_timeout: float = 600.0
    started: float = field(default_factory=time.time)
    upgrades: int = 0
    pace: Pace = field(default_factory=lambda: Pace(time.time(), time.monotonic()))

    def all_workers(self) -> list[Child]:
        return [*self.workers.values(), *self.beside]

    def children(self) -> list[Child]:
        return [self.control, *self.all_workers()]

    def keep_pace(self, moved: Callable[[], None]) -> None:
        """When the clock was put forward or back, nothing is older or younger for it. moved: called when it was."""
        if jump := self.pace.jump(time.time(), time.monotonic()):
            self.started += jump
            for child in self.children():
                child.since += jump
            moved()

    def worker(self, slot: int) -> Child:
        """A new one, with the first number that is free."""
        taken = {child.number for child in self.all_workers()}
        number = next(number for number in range(len(taken) + 1) if number not in taken)
        return Child(f"worker-{number}", slot, number)

    def descriptors(self) -> list[int]:
        lines = [child.leash.fileno() for child in self.children() if child.leash is not None]
        return [self.snapshot, self.lock, *lines, *(held[-1] for held in self.sockets.held()), *self.sockets.held_metrics().values()]

    def told(self) -> dict[str, Any]:
        """For `inherit`, in JSON's types."""
        return {
            **{word: getattr(self, word) for word in PLAIN},
            "api": self.sockets.held(),
            "metrics": [[*address, fd] for address, fd in self.sockets.held_metrics().items()],
            "listening": self.sockets.workers,
            "control": self.control.bequeathed(),
            "workers": [child.bequeathed() for child in self.workers.values()],
            "beside": [child.bequeathed() for child in self.beside],
        }


def command_of(link: str) -> list[str]:
    """How the next version is started. link: its executable; empty: where this one was started from, a link that may lead elsewhere by
    now. Raises CannotUpgrade."""
    if not link:
        link = os.environ.get("GATEWAYCTL_LINK", "") if getattr(sys, "frozen", False) else ""
        return [os.path.realpath(link), "-m", "gateway"] if link else self_command()
    path = os.path.realpath(link)
    for part in (path, os.path.dirname(path)):
        try:
            found = os.stat(part)
        except OSError as error:
            raise CannotUpgrade(f"{part}: {error.strerror}") from None
        # Whoever may use the admin socket may not thereby run what they like as the gateway.
        if found.st_uid not in (0, os.geteuid()) or found.st_mode & (stat.S_IWOTH | stat.S_IWGRP):
            raise CannotUpgrade(f"{part} could be changed by others than root and the gateway's own user, so it is not executed")
    return [path, "-m", "gateway"]


async def must_fit(command: list[str], config: Path, data_dir: str) -> None:
    """Asks the next version whether it can take over. Raises CannotUpgrade."""
    asked = [*command, "fit", "--config", str(config), "--data-dir", data_dir, "--handover", str(HANDOVER)]
    try:
        child = await asyncio.create_subprocess_exec(*asked, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=environment())
    except OSError as error:
        raise CannotUpgrade(f"{command[0]} cannot be started: {error.strerror}") from None
    try:
        async with asyncio.timeout(FIT_PATIENCE):
            answer, said = await child.communicate()
    except TimeoutError:
        child.kill()
        await child.wait()
        raise CannotUpgrade(f"{command[0]} did not say within {FIT_PATIENCE:.0f} s whether it can take over") from None
    if child.returncode != 0:
        lines = said.decode(errors="replace").strip().splitlines()
        raise CannotUpgrade(lines[-1] if lines else f"{command[0]} ended with status {child.returncode}")
    if answer.decode(errors="replace").strip() != FITS:
        raise CannotUpgrade(f"{command[0]} is no gateway: asked whether it can take over, it did not answer")


def bequeath(estate: Estate, command: list[str], config: Path, resume: bool) -> None:
    """Becomes the next version. Returns never, or raises OSError when that cannot be; then all is as before."""
    will = to_memfd(json.dumps(estate.told()).encode())
    kept = [will, *estate.descriptors()]
    arguments = ["serve", "--config", str(config), *(["--resume"] if resume else []), "--estate", str(will)]
    held_before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        for fd in kept:
            os.set_inheritable(fd, True)
        os.execve(command[0], [*command, *arguments], environment())
    except OSError:
        for fd in kept:
            os.set_inheritable(fd, False)
        os.close(will)
        signal.pthread_sigmask(signal.SIG_SETMASK, held_before)
        raise


def inherit(will: int, heard_control: Heard, heard_worker: Heard, gone: Gone) -> Estate:
    """The estate of the version before. Call it in the running loop; then let signals come (`listen_to_signals`)."""
    with os.fdopen(will, "rb") as file:
        file.seek(0)
        found = json.load(file)
    estate = Estate(**{word: found[word] for word in PLAIN})
    estate.upgrades += 1
    estate.sockets.adopt(found["api"], found["metrics"], found["listening"])
    estate.control = Child.adopted(found["control"], heard_control, gone)
    estate.workers = {told["slot"]: Child.adopted(told, heard_worker, gone) for told in found["workers"]}
    estate.beside = [Child.adopted(told, heard_worker, gone) for told in found["beside"]]
    for fd in estate.descriptors():
        os.set_inheritable(fd, False)
    return estate


def listen_to_signals() -> None:
    """Handlers are in place: what was held back comes now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)

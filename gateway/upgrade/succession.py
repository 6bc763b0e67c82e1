"""An upgrade without a dropped request: the supervisor becomes the new version, in the same process; then control and the workers of
the version before are replaced by those of this one, one after the other.

A worker's successor listens on the same sockets before it stops listening, so no connection is refused or lost; then it finishes
what it has, within `http.drain_timeout`. When something goes wrong, whoever serves goes on serving.
"""

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

from gateway import __version__
from gateway.bus.child import Child
from gateway.log.systemd import Systemd
from gateway.upgrade.handover import CannotUpgrade, Estate, bequeath, command_of, must_fit

log = logging.getLogger("gateway.succession")

CONTROL_PATIENCE: Final = 60.0
"""Seconds until the new control must have said what is to be served."""
WORKER_PATIENCE: Final = 60.0
"""Seconds until a new worker must listen."""
EXIT_PATIENCE: Final = 3.0
"""Seconds that the control before has to end. Whether it is told to or killed, nothing that counts is lost."""


class Household(Protocol):
    """The supervisor, as far as it becomes another version. commits: how many snapshots control has handed over."""

    config: Path
    resume: bool
    systemd: Systemd
    own: Estate
    commits: int
    upgrade: str
    stopping: bool
    ready: bool

    async def start(self, child: Child) -> None: ...
    async def until(self, done: Callable[[], bool], seconds: float) -> None: ...
    def retire(self, child: Child) -> None: ...
    def serving(self) -> str: ...
    def tell_processes(self) -> None: ...


class Stuck(Exception):
    """The new version does not do its work. Its text says what did not happen."""


async def become(house: Household, to: str) -> None:
    """By gatewayctl (to: the new version's executable) or SIGUSR2 (empty: where this one was started from). Does not return when it can
    be done: `succeed` goes on, in the new version."""
    own = house.own
    try:
        command = command_of(to)
        _must_be_quiet(house)
        await must_fit(command, house.config, own.data_dir)
        _must_be_quiet(house)
    except CannotUpgrade as no:
        log.error("not upgraded: %s", no)
        own.control.say({"say": "not upgraded", "message": str(no)})
        return
    log.info("becoming %s", command[0])
    house.systemd.status("upgrading")
    _say(house, "the new version takes over")
    own.control.say({"say": "upgrading", "upgrades": own.upgrades})
    try:
        bequeath(own, command, house.config, house.resume)
    except OSError as error:
        log.error("not upgraded: %s: %s", command[0], error.strerror)
        _say(house, f"stopped: {command[0]}: {error.strerror}")


def _must_be_quiet(house: Household) -> None:
    """Raises CannotUpgrade while something is under way that the next version would not know of."""
    own = house.own
    if house.stopping or not house.ready or own.sockets.preparing or any(child.wanted for child in own.beside):
        raise CannotUpgrade("the gateway is starting, stopping, or being changed right now; try again in a moment")


async def succeed(house: Household) -> None:
    """Replaces everybody who is of another version's making. What became of it is said in `house.upgrade`."""
    own = house.own
    log.info("version %s has taken over: %d worker(s)", __version__, len(own.workers))
    for child in own.beside:
        house.retire(child)
    for child in own.workers.values():
        await house.start(child)  # one that was dead at the moment
    try:
        await _replace_all(house)
    except Stuck as stuck:
        log.error("the upgrade to version %s stopped: %s; the processes before go on serving", __version__, stuck)
        _say(house, f"stopped: {stuck}")
    else:
        log.info("upgraded to version %s", __version__)
        _say(house, "")
    if not house.stopping:
        house.systemd.ready(f"{house.serving()}{f'; upgrade {house.upgrade}' if house.upgrade else ''}")


async def _replace_all(house: Household) -> None:
    own = house.own
    _say(house, "control is being replaced")
    await _replace_control(house)
    for slot in sorted(own.workers):
        if slot in own.workers and not house.stopping:
            _say(house, f"{own.workers[slot].name} is being replaced")
            await _replace_worker(house, own.workers[slot])


def _say(house: Household, what: str) -> None:
    house.upgrade = what
    house.tell_processes()


async def _replace_control(house: Household) -> None:
    """Workers serve on meanwhile, with what they have."""
    control, before = house.own.control, house.commits
    control.wanted = False
    control.say({"say": "exit"})
    await house.until(lambda: control.process is None, EXIT_PATIENCE)
    if control.process is not None:
        control.process.kill()
        await house.until(lambda: control.process is None, EXIT_PATIENCE)
    control.wanted = True
    control.version = __version__
    await house.start(control)
    await house.until(lambda: house.commits > before or house.stopping, CONTROL_PATIENCE)
    if house.commits == before and not house.stopping:
        raise Stuck(f"the new control did not say within {CONTROL_PATIENCE:.0f} s what is to be served")


async def _replace_worker(house: Household, old: Child) -> None:
    new = house.own.worker(old.slot)
    house.own.beside.append(new)
    await house.start(new)
    await house.until(lambda: new.state == "up" or house.stopping, WORKER_PATIENCE)
    house.own.beside.remove(new)
    if new.state != "up" or house.own.workers.get(old.slot) is not old:
        new.wanted = False
        new.kill()
        if house.stopping or house.own.workers.get(old.slot) is not old:  # a reload took the slot away meanwhile
            return
        raise Stuck(f"{new.name} did not listen within {WORKER_PATIENCE:.0f} s")
    house.own.workers[old.slot] = new
    house.own.beside.append(old)
    old.wanted = False
    old.say({"say": "unlisten", "addresses": list(house.own.sockets.of(old.slot))})
    house.retire(old)


def sweep_gauges(data_dir: str, number: int) -> None:
    """A worker is gone for good: what it measured last is not so any more. Its counters stay."""
    for gauge in Path(data_dir, "metrics").glob(f"gauge_*_{number}.db"):
        with contextlib.suppress(OSError):
            gauge.unlink()


def told(upgrade: str, upgrades: int) -> dict[str, Any]:
    """For `gatewayctl upgrade`: the supervisor's own line in the table of processes."""
    return {"version": __version__, "upgrade": upgrade, "upgrades": upgrades}

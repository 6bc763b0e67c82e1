"""What a request pays for asking control: control and workers as processes, on a real bus; the engine is a pause.

Each of 64 callers a worker has 200 µs of other work, then a request of `--pause` ms ± a third. Microseconds of CPU are over the
same without asking, medians of alternating rounds. A worker that would sleep otherwise pays for waking up: with `--pause 3` it is busy.
"""

import argparse
import asyncio
import random
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any, Protocol

sys.path.insert(0, str(Path(__file__).parents[1]))

import uvloop

from gateway.bus.client import BusClient
from gateway.bus.frames import Parcel, frame
from gateway.bus.server import BusServer

ROUNDS = 8
"""Without and with asking in turn; the median counts, because other processes disturb."""
OPTIONS = {"workers": 1, "callers": 64, "seconds": 5.0, "busy": 200.0, "pause": 30.0}

Frame = dict[str, Any]
Given = argparse.Namespace


class Decides(Protocol):
    """Control's end of the matter."""

    def greet(self, slot: int, pid: int) -> None: ...
    def heard(self, slot: int, frame: Frame) -> None: ...
    def lost(self, slot: int) -> None: ...


class Asks(Protocol):
    """A worker's end."""

    def heard(self, frame: Frame) -> None: ...
    def lost(self) -> None: ...
    def close(self) -> None: ...


@dataclass
class Control:
    """figures: what is printed in the end. beside: what runs beside it, if anything."""

    end: Decides
    figures: Callable[[], object]
    beside: Coroutine[Any, Any, None] | None = None


@dataclass
class Worker:
    """take: asks for one request, and gives what `give_back` wants at its end."""

    end: Asks
    take: Callable[[], Awaitable[Any]]
    give_back: Callable[[Any], None]


@dataclass
class Matter:
    """What control is asked for. name: of its frames. waits: what a caller waits for. options: its own, with their defaults.

    control and worker make the ends in their processes, from what sends a frame and the options."""

    name: str
    waits: str
    control: Callable[[Callable[[int, Frame], None], Given], Control]
    worker: Callable[[Callable[[Frame], bool], Given], Worker]
    options: Mapping[str, Any] = field(default_factory=dict)

    def main(self) -> None:
        parser = argparse.ArgumentParser()
        for name, value in {**OPTIONS, **self.options, "slot": 0}.items():
            parser.add_argument(f"--{name}", type=type(value), default=value)
        parser.add_argument("--path", type=Path)
        parser.add_argument("--role")
        given = parser.parse_args()
        if given.role == "control":
            uvloop.run(_control(self, given))
        elif given.role == "worker":
            uvloop.run(_worker(self, given))
        else:
            _measure(self, given)


class Taker:
    """The worker, as the bus needs it."""

    rev = 1

    async def prepare(self, parcel: Parcel) -> None: ...
    def commit(self, rev: int) -> None: ...
    def abort(self) -> None: ...
    def health(self) -> dict[str, Any]:
        return {}


# -- control's process --------------------------------------------------------------------------------------------------


async def _control(matter: Matter, given: Given) -> None:
    loop = asyncio.get_running_loop()
    bus = BusServer(given.path)

    def say(slot: int, fields: Frame) -> None:
        bus.links[slot].send(frame(matter.name, **fields))

    made = matter.control(say, given)
    bus.on(matter.name, lambda link, message: made.end.heard(link.slot, message))
    bus.greet(lambda link: made.end.greet(link.slot, link.pid))
    bus.mourn(lambda link: made.end.lost(link.slot))
    await bus.open()
    beside = loop.create_task(made.beside) if made.beside is not None else None
    print("ready", flush=True)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        print(process_time() if line == b"cpu\n" else made.figures(), flush=True)
    if beside is not None:
        beside.cancel()


# -- a worker's process -------------------------------------------------------------------------------------------------


async def _worker(matter: Matter, given: Given) -> None:
    bus = BusClient(given.path, given.slot, Taker())
    made = matter.worker(lambda fields: bus.say(frame(matter.name, **fields)), given)
    bus.on(matter.name, made.end.heard)
    bus.on_lost(made.end.lost)
    task = asyncio.create_task(bus.run())
    await asyncio.sleep(1.5)
    load = Load(made, given)
    await load.round_of(asks=True)
    load.waits.clear()
    print("start", flush=True)
    without, asking = zip(*[(await load.round_of(asks=False), await load.round_of(asks=True)) for _ in range(ROUNDS)], strict=True)
    cost = median(asking) - median(without)
    ranked = sorted(load.waits)
    p50, p99 = (ranked[int(len(ranked) * share)] * 1e6 for share in (0.5, 0.99))
    print(f"{len(ranked)} {cost:.1f} {p50:.0f} {p99:.0f}", flush=True)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    made.end.close()


class Load:
    """A worker's callers. waits: seconds that each waited until it had its answer."""

    def __init__(self, worker: Worker, given: Given) -> None:
        self._worker = worker
        self._given = given
        self._turns = turns_of(given.busy)
        self.waits: list[float] = []

    async def round_of(self, *, asks: bool) -> float:
        """CPU microseconds a request."""
        begun, end = process_time(), perf_counter() + self._given.seconds / ROUNDS
        counts = await asyncio.gather(*(self._caller(end, asks) for _ in range(self._given.callers)))
        return (process_time() - begun) / sum(counts) * 1e6

    async def _caller(self, end: float, asks: bool) -> int:
        take, give_back, waits = self._worker.take, self._worker.give_back, self.waits
        turns, pause, count, taken = self._turns, self._given.pause / 1000, 0, None
        while perf_counter() < end:
            work(turns)
            if asks:
                begun = perf_counter()
                taken = await take()
                waits.append(perf_counter() - begun)
            await asyncio.sleep(pause * random.uniform(0.67, 1.33))
            if asks:
                give_back(taken)
            count += 1
        return count


def work(turns: int) -> int:
    """Other work: always the same, however long it takes while other processes have the core."""
    found = 0
    for number in range(turns):
        found ^= number
    return found


def turns_of(microseconds: float) -> int:
    """How much work takes so long here."""
    best = min(timed(lambda: work(10_000)) for _ in range(20))
    return int(10_000 * microseconds / 1e6 / best)


def timed(do: Callable[[], object]) -> float:
    begun = process_time()
    do()
    return process_time() - begun


# -- who measures -------------------------------------------------------------------------------------------------------


def _measure(matter: Matter, given: Given) -> None:
    with tempfile.TemporaryDirectory(prefix="gw-", dir="/tmp") as folder:
        desk = _start("control", folder)
        _ask(desk)
        doers = [_start("worker", folder, "--slot", str(slot)) for slot in range(given.workers)]
        for doer in doers:
            _ask(doer)
        before = float(_ask(desk, "cpu"))
        results = [_ask(doer).split() for doer in doers]
        spent = float(_ask(desk, "cpu")) - before
        requests = sum(int(result[0]) for result in results)
        for doer in doers:
            doer.wait()
        more = "".join(f", {getattr(given, name)} {name}" for name in matter.options)
        rate = requests / given.seconds
        print(
            f"{given.workers} worker(s), {given.callers} callers each{more}, {given.busy:.0f} µs of other work, {given.pause:.0f} ms: "
            f"{rate:.0f} requests/s"
        )
        for _, cost, p50, p99 in results:
            print(f"  worker {float(cost):5.1f} µs a request; until {matter.waits} p50 {p50} µs, p99 {p99} µs")
        print(f"  control {spent / requests * 1e6:4.1f} µs a request; in the end: {_ask(desk, 'figures')}")
        desk.communicate()


def _start(role: str, folder: str, *more: str) -> subprocess.Popen[str]:
    """This very command, as one of the processes."""
    command = [sys.executable, *sys.argv, "--path", f"{folder}/bus.sock", "--role", role, *more]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _ask(process: subprocess.Popen[str], what: str = "") -> str:
    """A line of what it prints, after having been asked for it or not."""
    assert process.stdin and process.stdout
    if what:
        process.stdin.write(what + "\n")
        process.stdin.flush()
    return process.stdout.readline().strip()

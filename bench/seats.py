"""What a seat of a limited channel costs: `python bench/seats.py`. Control and workers as processes, on a real bus; the engine is a pause.

Each of 64 callers a worker has 200 µs of other work, then a request of `--pause` ms ± a third. Microseconds of CPU are over the
same without limits, medians of alternating rounds. A worker that would sleep otherwise pays for waking up: with `--pause 3` it is busy.
"""

import argparse
import asyncio
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import uvloop

from gateway.bus.client import BusClient
from gateway.bus.frames import Parcel, frame
from gateway.bus.server import BusServer
from gateway.referee.desk import Desk
from gateway.referee.line import Limits
from gateway.referee.seats import Seats

ROUNDS = 8
"""With and without limits in turn; the median counts, because other processes disturb."""
LIMITS = {"c": Limits(channel=120, endpoint=64, length=1000)}
WISHES = [("c", "http://10.0.0.6:8000"), ("c", "http://10.0.0.7:8000")]


class Taker:
    """The worker, as the bus needs it."""

    rev = 1

    async def prepare(self, parcel: Parcel) -> None: ...
    def commit(self, rev: int) -> None: ...
    def abort(self) -> None: ...
    def health(self) -> dict[str, Any]:
        return {}


async def control(path: Path, workers: int) -> None:
    bus = BusServer(path)

    def say(slot: int, fields: dict[str, Any]) -> None:
        bus.links[slot].send(frame("seats", **fields))

    desk = Desk(say, asyncio.get_running_loop(), workers)
    desk.adopt(LIMITS)
    bus.on("seats", lambda link, message: desk.heard(link.slot, message))
    bus.greet(lambda link: desk.greet(link.slot, link.pid))
    bus.mourn(lambda link: desk.lost(link.slot))
    await bus.open()
    print("ready", flush=True)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        print(process_time() if line == b"cpu\n" else desk.figures(), flush=True)


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


async def worker(path: Path, slot: int, callers: int, seconds: float, busy: float, pause: float) -> None:
    loop = asyncio.get_running_loop()
    bus = BusClient(path, slot, Taker())
    seats = Seats(lambda fields: bus.say(frame("seats", **fields)), loop)
    seats.adopt(LIMITS, 1)
    bus.on("seats", seats.heard)
    bus.on_lost(seats.lost)
    task = loop.create_task(bus.run())
    await asyncio.sleep(1.5)
    waits: list[float] = []
    turns = turns_of(busy)

    async def caller(end: float, limited: bool) -> int:
        count = 0
        while loop.time() < end:
            work(turns)
            if limited:
                begun = perf_counter()
                seat = await seats.take(WISHES, tenant="acme")
                waits.append(perf_counter() - begun)
            await asyncio.sleep(pause / 1000 * random.uniform(0.67, 1.33))
            if limited:
                assert seat is not None
                seats.give_back(seat)
            count += 1
        return count

    async def round_of(limited: bool) -> float:
        """CPU microseconds a request."""
        begun = process_time()
        counts = await asyncio.gather(*(caller(loop.time() + seconds / ROUNDS, limited) for _ in range(callers)))
        return (process_time() - begun) / sum(counts) * 1e6

    await round_of(True)
    waits.clear()
    print("start", flush=True)
    without, limited = zip(*[(await round_of(False), await round_of(True)) for _ in range(ROUNDS)], strict=True)
    cost = median(limited) - median(without)
    ranked = sorted(waits)
    p50, p99 = (ranked[int(len(ranked) * share)] * 1e6 for share in (0.5, 0.99))
    print(f"{len(waits)} {cost:.1f} {p50:.0f} {p99:.0f}", flush=True)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    seats.close()


def measure(workers: int, callers: int, seconds: float, busy: float, pause: float) -> None:
    with tempfile.TemporaryDirectory(prefix="gw-", dir="/tmp") as folder:
        path = Path(folder) / "bus.sock"

        def start(*role: str) -> subprocess.Popen[str]:
            command = [sys.executable, __file__, "--path", str(path), "--role", *role]
            command += [
                "--workers",
                str(workers),
                "--callers",
                str(callers),
                "--seconds",
                str(seconds),
                "--busy",
                str(busy),
                "--pause",
                str(pause),
            ]
            return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

        def ask(process: subprocess.Popen[str], what: str = "") -> str:
            assert process.stdin and process.stdout
            if what:
                process.stdin.write(what + "\n")
                process.stdin.flush()
            return process.stdout.readline().strip()

        desk = start("control")
        ask(desk)
        doers = [start("worker", "--slot", str(slot)) for slot in range(workers)]
        for doer in doers:
            ask(doer)
        before = float(ask(desk, "cpu"))
        results = [ask(doer).split() for doer in doers]
        spent = float(ask(desk, "cpu")) - before
        requests = sum(int(result[0]) for result in results)
        for doer in doers:
            doer.wait()
        print(
            f"{workers} worker(s), {callers} callers each, {busy:.0f} µs of other work, {pause:.0f} ms: {requests / seconds:.0f} requests/s"
        )
        for _, cost, p50, p99 in results:
            print(f"  worker {float(cost):5.1f} µs a request; until a seat is there p50 {p50} µs, p99 {p99} µs")
        print(f"  control {spent / requests * 1e6:4.1f} µs a request; in the end: {ask(desk, 'figures')}")
        desk.communicate()


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, value in (("workers", 1), ("callers", 64), ("seconds", 5.0), ("busy", 200.0), ("pause", 30.0), ("slot", 0)):
        parser.add_argument(f"--{name}", type=type(value), default=value)
    parser.add_argument("--path", type=Path)
    parser.add_argument("--role")
    given = parser.parse_args()
    if given.role == "control":
        uvloop.run(control(given.path, given.workers))
    elif given.role == "worker":
        uvloop.run(worker(given.path, given.slot, given.callers, given.seconds, given.busy, given.pause))
    else:
        measure(given.workers, given.callers, given.seconds, given.busy, given.pause)


if __name__ == "__main__":
    main()

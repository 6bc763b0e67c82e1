"""What limits cost a request: `python bench/limits.py --limits 6`. Control and workers as processes, on a real bus; the engine is a pause.

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
from time import perf_counter, process_time, time
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import uvloop

from gateway.bus.client import BusClient
from gateway.bus.frames import Parcel, frame
from gateway.bus.server import BusServer
from gateway.config.resolved_limits import Limit, Limits
from gateway.referee.limits import Claim, Limiter
from gateway.referee.referee import Referee
from gateway.referee.rules import amounts
from gateway.referee.store import Store
from gateway.referee.terms import Table

ROUNDS = 8
"""With and without limits in turn; the median counts, because other processes disturb."""
MANY = 10**12
SIX = (
    ("tenants/acme", Limit("requests", MANY, "minute")),
    ("tenants/acme", Limit("total_tokens", MANY, "day", zone="Asia/Shanghai")),
    ("tenants/acme/projects/bot", Limit("requests", MANY, "hour")),
    ("", Limit("total_tokens", MANY, "minute")),
    ("", Limit("concurrency", MANY)),
    ("models/m", Limit("requests", MANY, "second")),
)
WANTED, USED = amounts(120, 256, 0), amounts(110, 80, 0)


def limits_of(number: int) -> Limits:
    by: dict[str, tuple[Limit, ...]] = {}
    for place, limit in SIX[:number]:
        by[place] = (*by.get(place, ()), limit)
    return Limits(by=by)


class Granting:
    """An exchange, as far as `granted` needs one."""

    reserved: object = None


class Taker:
    """The worker, as the bus needs it."""

    rev = 1

    async def prepare(self, parcel: Parcel) -> None: ...
    def commit(self, rev: int) -> None: ...
    def abort(self) -> None: ...
    def health(self) -> dict[str, Any]:
        return {}


async def control(path: Path, workers: int, limits: int) -> None:
    bus = BusServer(path)
    loop = asyncio.get_running_loop()

    def say(slot: int, fields: dict[str, Any]) -> None:
        bus.links[slot].send(frame("limits", **fields))

    store = Store(path.parent / "limits")
    store.load(time())
    referee = Referee(say, loop, store, workers)
    referee.adopt(limits_of(limits), lambda id: ("acme", "bot", ()), limited=True)
    bus.on("limits", lambda link, message: referee.heard(link.slot, message))
    bus.greet(lambda link: referee.greet(link.slot, link.pid))
    bus.mourn(lambda link: referee.lost(link.slot))
    await bus.open()
    keeping = loop.create_task(referee.run())
    print("ready", flush=True)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        print(process_time() if line == b"cpu\n" else len(referee.quotas.gauges), flush=True)
    keeping.cancel()


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


async def worker(path: Path, slot: int, callers: int, seconds: float, busy: float, pause: float, limits: int) -> None:
    loop = asyncio.get_running_loop()
    bus = BusClient(path, slot, Taker())
    limiter = Limiter(lambda fields: bus.say(frame("limits", **fields)), loop)
    table = Table(limits_of(limits))
    limiter.adopt(table, path.parent / "limits")
    bus.on("limits", limiter.heard)
    bus.on_lost(limiter.lost)
    task = loop.create_task(bus.run())
    await asyncio.sleep(1.5)
    waits: list[float] = []
    turns = turns_of(busy)
    exchange: Any = Granting()

    async def caller(end: float, limited: bool) -> int:
        count = 0
        while loop.time() < end:
            work(turns)
            if limited:
                begun = perf_counter()
                terms = table.terms("k1", "acme", "bot", (), "m", "10.0.0.1")
                assert terms is not None
                claim: Claim = limiter.claim(terms, WANTED)
                await limiter.granted(exchange, claim)
                claim.lines()
                waits.append(perf_counter() - begun)
            await asyncio.sleep(pause / 1000 * random.uniform(0.67, 1.33))
            if limited:
                limiter.end(claim, USED, time(), "01234567-89ab-7cde-8f01-23456789abcd")
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
    limiter.close()


def measure(workers: int, callers: int, seconds: float, busy: float, pause: float, limits: int) -> None:
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
                "--limits",
                str(limits),
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
            f"{workers} worker(s), {callers} callers each, {limits} limits, {busy:.0f} µs of other work, {pause:.0f} ms: "
            f"{requests / seconds:.0f} requests/s"
        )
        for _, cost, p50, p99 in results:
            print(f"  worker {float(cost):5.1f} µs a request; until it may go on p50 {p50} µs, p99 {p99} µs")
        print(f"  control {spent / requests * 1e6:4.1f} µs a request; counters: {ask(desk, 'figures')}")
        desk.communicate()


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, value in (("workers", 1), ("callers", 64), ("seconds", 5.0), ("busy", 200.0), ("pause", 30.0), ("slot", 0), ("limits", 6)):
        parser.add_argument(f"--{name}", type=type(value), default=value)
    parser.add_argument("--path", type=Path)
    parser.add_argument("--role")
    given = parser.parse_args()
    if given.role == "control":
        uvloop.run(control(given.path, given.workers, given.limits))
    elif given.role == "worker":
        uvloop.run(worker(given.path, given.slot, given.callers, given.seconds, given.busy, given.pause, given.limits))
    else:
        measure(given.workers, given.callers, given.seconds, given.busy, given.pause, given.limits)


if __name__ == "__main__":
    main()

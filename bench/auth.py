"""What many keys cost: authentication of a request, loading them while requests come, and `keys create`. `python bench/auth.py`.

Stalls are seen from outside, as in `reload`.
"""

import argparse
import asyncio
import gc
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import aiohttp
from reload import Prober, free_port, told

from gateway.auth.keyring import Keyring, standing
from gateway.bus.frames import Parcel
from gateway.config.compose import no_collecting
from gateway.config.load import load
from gateway.config.resolve import resolve
from gateway.config.resolved import Key
from gateway.serve.builder import Builder
from gateway.serve.shared import Shared
from gateway.tokens.counter import Counter
from gateway.worker import let_go

EACH = 20_000
"""Keys in one file."""
TENANTS = 100


def secret(number: int) -> str:
    return f"gw_k{number}_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG_012345"


def write(folder: Path, keys: int, head: str = "") -> Path:
    """A configuration with so many keys in files of EACH; its main file."""
    names = [f"keys-{n}.yaml" for n in range(max(1, -(-keys // EACH)))]
    for number, name in enumerate(names):
        rows = ["keys:"]
        for n in range(number * EACH, min(keys, (number + 1) * EACH)):
            hashed = sha256(secret(n).encode()).hexdigest()
            rows.append(f'  - {{id: k{n}, hash: "sha256:{hashed}", tenant: t{n % TENANTS}, project: chat, models: ["qwen*"]}}')
        (folder / name).write_text("\n".join(rows) + "\n")
    tenants = "".join(f"  t{n}: {{projects: {{chat: {{}}}}}}\n" for n in range(TENANTS))
    path = folder / "gateway.yaml"
    path.write_text(
        f"version: 1\n{head}include: [{', '.join(names)}]\n"
        'channels: {gpu: {engine: vllm, endpoints: ["http://127.0.0.1:9"]}}\nmodels: {qwen: {targets: [{channel: gpu}]}}\n'
        f"tenants:\n{tenants}"
    )
    return path


def authentication(keys: int) -> None:
    """Of one request in µs, the best of five rounds, callers by chance."""
    with tempfile.TemporaryDirectory() as name, no_collecting():
        config, found = resolve(load(write(Path(name), keys)))
    ring = Keyring(config.auth, config.access)
    ring.add(found)
    callers = [f"Bearer {secret(n)}" for n in random.Random(1).choices(range(keys), k=100_000)]
    now = time.time()

    def one(header: str) -> None:
        key = ring.identify(header)
        if key.expires or not key.enabled:
            standing(key, now)
        permit = ring.permit(key)
        if permit.checked:
            permit.check("10.0.0.1", "chat")

    def and_model(header: str) -> None:
        ring.permit(ring.identify(header)).allows("qwen", ("qwen",), now)

    for what, call in (("who calls, and from where", one), ("who calls, and may it use the model", and_model)):
        print(f"{keys} keys, {what:<36} {_best(call, callers):5.2f} µs")


def _best(call: Callable[[str], None], callers: list[str]) -> float:
    best = float("inf")
    for _ in range(5):
        begun = time.process_time()
        for header in callers:
            call(header)
        best = min(best, time.process_time() - begun)
    return best / len(callers) * 1e6


async def turns(keys: int) -> None:
    """Building and letting go what a worker has, in this process: the longest turn of its loop, in CPU, whatever else the machine does."""
    with tempfile.TemporaryDirectory() as name, no_collecting():
        parcel = Parcel.pack(1, *resolve(load(write(Path(name), keys))))

    async def some() -> AsyncIterator[list[Key]]:
        for part in parcel.slices:
            yield Parcel.keys(part)

    worst, total, before = 0.0, 0.0, time.thread_time()

    async def watch() -> None:
        nonlocal worst, total, before
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            worst, total, before = max(worst, now - before), total + now - before, now

    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)  # as workers do
    before = time.thread_time()
    watcher = asyncio.create_task(watch())
    await asyncio.sleep(0)
    old: Keyring | None = None
    for _ in range(3):
        snapshot = await Builder(1, parcel.config(), Shared(Counter())).build(some())
        if old is not None:
            await let_go(old)
        old = snapshot.keyring
    watcher.cancel()
    print(f"{keys} keys three times, longest turn of a worker's loop {worst * 1000:.1f} ms CPU of {total * 1000:.0f}")


@contextmanager
def gateway(folder: Path, keys: int, workers: int) -> Iterator[tuple[Path, int, int]]:
    """A running one; its main file, its port, and the number of its process."""
    port = free_port()
    head = f'data_dir: {folder}/data\nworkers: {workers}\nlisteners: {{api: {{bind: "127.0.0.1:{port}", serves: api}}}}\n'
    path = write(folder, keys, head)
    with (folder / "log").open("wb") as out:
        command = [sys.executable, "-m", "gateway", "serve", "--config", str(path)]
        process = subprocess.Popen(command, env={**os.environ, "GATEWAY_LOG_LEVEL": "error"}, stderr=out)
    try:
        end = time.monotonic() + 120
        while socket.socket().connect_ex(("127.0.0.1", port)) and time.monotonic() < end and process.poll() is None:
            time.sleep(0.1)
        time.sleep(3)
        yield path, port, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        print((folder / "log").read_text()[-2000:], end="")


async def loading(path: Path, port: int, keys: int, workers: int, rounds: int) -> None:
    """Reloads that bring all keys, take them away, and change one."""
    loop = asyncio.get_running_loop()
    probers = [(await loop.create_connection(Prober, "127.0.0.1", port))[1] for _ in range(workers * 2)]
    await asyncio.sleep(3)
    told("no reload, 3 s", [gap for one in probers for gap in one.gaps])
    full = await asyncio.to_thread(path.read_text)
    few = full.replace(full[full.index("include:") :].partition("\n")[0], "include: [keys-0.yaml]")
    steps = [("all but a file go", few), (f"{keys} keys come", full), ("one key changes", full)]
    steps = steps[:2] * rounds + steps[2:]
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path.parent / "data/admin.sock"))) as session:
        for name, text in steps:
            if name == "one key changes":
                first = path.parent / "keys-0.yaml"
                await asyncio.to_thread(first.write_text, first.read_text().replace("chat, models", "chat, priority: 1, models", 1))
            await asyncio.to_thread(path.write_text, text)
            for one in probers:
                one.gaps.clear()
            begun = time.perf_counter()
            async with session.post("http://admin/v1/reload") as answer:
                outcome = json.loads(await answer.read())
            took = time.perf_counter() - begun
            assert outcome["ok"], outcome
            await asyncio.sleep(2)
            told(f"{name}: {took:.2f} s", [gap for one in probers for gap in one.gaps])
    for one in probers:
        one.transport.close()


def cpu(pid: int) -> float:
    """Seconds of processor that a process and its children, which are alive, have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") + sum(cpu(int(child)) for child in children)


def creating(path: Path, pid: int, rounds: int) -> None:
    """`keys create` as a sysadmin runs it, until it returns."""
    took = []
    ours, before = sum(os.times()[2:4]), cpu(pid)
    for _ in range(rounds):
        command = [sys.executable, "-m", "gatewayctl", "keys", "create", "-q", "--config", str(path), "--tenant", "t1", "--project", "chat"]
        begun = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        took.append(time.perf_counter() - begun)
    command_cpu, gateway_cpu = (sum(os.times()[2:4]) - ours) / rounds, (cpu(pid) - before) / rounds
    print(
        f"keys create: best {min(took):.2f} s, median {statistics.median(took):.2f} s, worst {max(took):.2f} s of {rounds};"
        f" CPU {command_cpu:.2f} s of the command, {gateway_cpu:.2f} s of the gateway"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--many", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    said = parser.parse_args()
    authentication(said.keys)
    asyncio.run(turns(said.many))
    with tempfile.TemporaryDirectory(prefix="gw-", dir="/tmp") as name, gateway(Path(name), said.keys, said.workers) as (path, _, pid):
        creating(path, pid, said.rounds * 3)
    with tempfile.TemporaryDirectory(prefix="gw-", dir="/tmp") as name, gateway(Path(name), said.many, said.workers) as (path, port, _):
        asyncio.run(loading(path, port, said.many, said.workers, said.rounds))


if __name__ == "__main__":
    main()

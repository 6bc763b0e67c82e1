"""How long a reload of 2,000 channels and 10,000 keys takes, and how long it holds a worker's loop up. `python bench/reload.py`.

Stalls are seen from outside: one connection per worker sends `GET /healthz` again as soon as the last answer is there; the
longest time between two answers is the worst stall (and the operating system's own jitter, shown by the run without reloads).
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
from config import write

PROBE = b"GET /healthz HTTP/1.1\r\nHost: bench\r\n\r\n"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Prober(asyncio.Protocol):
    """Back-to-back requests on one connection; `gaps` are seconds between answers."""

    def __init__(self) -> None:
        self.gaps: list[float] = []
        self.pause = 0.0005

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        self.gaps.append(time.perf_counter() - self._asked)
        asyncio.get_running_loop().call_later(self.pause, self._ask)

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        if not self.transport.is_closing():
            self.transport.write(PROBE)


def told(name: str, gaps: list[float]) -> None:
    ordered = sorted(gaps)
    print(
        f"{name:<28} {len(gaps):>7} probes  median {ordered[len(gaps) // 2] * 1000:6.2f} ms"
        f"  p99.9 {ordered[int(len(gaps) * 0.999)] * 1000:6.2f} ms  worst {ordered[-1] * 1000:6.2f} ms"
    )


async def measured(path: Path, text: str, admin: Path, port: int, rounds: int, probers: int) -> None:
    loop = asyncio.get_running_loop()
    connections = [(await loop.create_connection(Prober, "127.0.0.1", port))[1] for _ in range(probers)]
    await asyncio.sleep(3)
    told("no reload, 3 s", [gap for one in connections for gap in one.gaps])
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(admin))) as session:
        for number in range(rounds):
            other = text.replace("connect: 2s", f"connect: {3 + number}s")  # every channel, so every pool, is another one
            await asyncio.to_thread(path.write_text, other)
            for one in connections:
                one.gaps.clear()
            begun = time.perf_counter()
            async with session.post("http://admin/v1/reload") as answer:
                outcome = json.loads(await answer.read())
            took = time.perf_counter() - begun
            assert outcome["ok"] and outcome["changed"], outcome
            await asyncio.sleep(2)  # the file's watcher looks as well
            told(f"reload {number + 1}: {took:.2f} s", [gap for one in connections for gap in one.gaps])
    for one in connections:
        one.transport.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=int, default=2_000)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    said = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gw-", dir="/tmp") as name:
        folder, port = Path(name), free_port()
        path = write(folder, said.channels, said.keys)
        head = f'data_dir: {folder}/data\nworkers: {said.workers}\nlisteners: {{api: {{bind: "127.0.0.1:{port}", serves: api}}}}\n'
        path.write_text(path.read_text().replace("version: 1\n", "version: 1\n" + head))
        env = {**os.environ, "GATEWAY_LOG_LEVEL": "error"}
        with (folder / "log").open("wb") as out:
            command = [sys.executable, "-m", "gateway", "serve", "--config", str(path)]
            gateway = subprocess.Popen(command, env=env, stderr=out)
        try:
            end = time.monotonic() + 60
            while socket.socket().connect_ex(("127.0.0.1", port)) and time.monotonic() < end and gateway.poll() is None:
                time.sleep(0.1)
            time.sleep(2)
            asyncio.run(measured(path, path.read_text(), folder / "data/admin.sock", port, said.rounds, said.workers * 2))
        finally:
            gateway.send_signal(signal.SIGTERM)
            gateway.wait(20)
            print((folder / "log").read_text()[-2000:], end="")


if __name__ == "__main__":
    main()

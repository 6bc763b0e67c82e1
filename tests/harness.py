"""A real gateway (its own processes, sockets and files) before simulated engines, for conversations in tests.

async with Rig(tmp_path) as rig:                     # engines a (vllm) and b (mindie) …
    rig.engine("a", "vllm"); rig.model("qwen", {"a": 1})
    await rig.start()
    answer = await rig.chat("qwen", "hi")
"""

import asyncio
import collections
import contextlib
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from gateway.simulate import simulator
from gateway.simulate.script import of
from gateway.simulate.settings import Kind
from gateway.simulate.simulator import Simulator

KEY = "sk-test-0123456789abcdef0123456789abcdef"
"""The key of every rig, unless a test writes its own."""


LANE, LANES = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
"""Which of the processes that run tests side by side this is, and how many there are."""


_given: collections.deque[int] = collections.deque(maxlen=500)


def free_port() -> int:
    """One that nobody has. Below those that the kernel gives to outgoing connections, or one of these may have it a moment later.

    Each of the processes that run tests has ports of its own: it would take until a gateway listens to see that another chose the same.
    """
    while True:
        port = random.randrange(10_000 + LANE, 32_000, LANES)
        if port in _given:  # somebody is about to listen there
            continue
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            _given.append(port)
            return port


async def eventually(look: Callable[[], Any], within: float = 10.0, every: float = 0.02) -> Any:
    """The first truthy thing that `look` (plain or coroutine function) gives, or an assertion error that shows the last."""
    end = time.monotonic() + within
    while True:
        seen = look()
        if asyncio.iscoroutine(seen):
            seen = await seen
        if seen:
            return seen
        assert time.monotonic() < end, f"not within {within} s; last seen: {seen!r}"
        await asyncio.sleep(every)


@dataclass
class Answer:
    """What a caller saw."""

    status: int
    headers: dict[str, str]
    body: bytes
    events: list[str] = field(default_factory=list)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def done(self) -> bool:
        return "[DONE]" in self.events

    @property
    def chunks(self) -> list[dict[str, Any]]:
        return [json.loads(event) for event in self.events if event != "[DONE]"]

    @property
    def text(self) -> str:
        """The answer's text, streamed or whole."""
        if not self.events:
            return str(self.json["choices"][0]["message"]["content"])
        return "".join(choice["delta"].get("content") or "" for chunk in self.chunks for choice in chunk.get("choices", ()))

    @property
    def error(self) -> dict[str, Any] | None:
        if self.events:
            return next((chunk["error"] for chunk in self.chunks if "error" in chunk), None)
        found: dict[str, Any] | None = self.json.get("error")
        return found


class Rig:
    """One gateway, its engines, its configuration as a dict that `write` puts into the YAML file."""

    def __init__(self, tmp: Path, *, workers: int = 1) -> None:
        self.tmp = tmp
        self._short = tempfile.TemporaryDirectory(prefix="gw-", dir="/tmp")  # Unix socket paths must be short
        self.data_dir = Path(self._short.name)
        self.port = free_port()
        self.metrics_port = free_port()
        self.engines: dict[str, Simulator] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self.log_path = tmp / "gateway.log"
        self.path = tmp / "gateway.yaml"
        self.config: dict[str, Any] = {
            "version": 1,
            "node": "test",
            "data_dir": str(self.data_dir),
            "workers": workers,
            "listeners": {
                "api": {"bind": f"127.0.0.1:{self.port}", "serves": "api"},
                "metrics": {"bind": f"127.0.0.1:{self.metrics_port}", "serves": "metrics"},
            },
            "journal": {"reserve": "1MiB", "every": "500ms"},
            "channels": {},
            "models": {},
            "tenants": {"acme": {"projects": {"bot": {}}}},
            "keys": [
                {
                    "id": "k1",
                    "hash": "sha256:" + hashlib.sha256(KEY.encode()).hexdigest(),
                    "tenant": "acme",
                    "project": "bot",
                    "models": ["*"],
                }
            ],
        }
        self._session: aiohttp.ClientSession | None = None

    # -- building ---------------------------------------------------------------------------------------------------

    async def engine(
        self, name: str, kind: Kind = "vllm", *, model: str = "qwen3", channel: dict[str, Any] | None = None, **options: Any
    ) -> Simulator:
        """A simulated engine and the channel to it. `channel` adds or replaces fields of the channel."""
        engine = await simulator.start(kind, model=model, **options)
        self.engines[name] = engine
        self.config["channels"][name] = {"engine": kind, "endpoints": [engine.url], "model": model, **(channel or {})}
        return engine

    def model(self, name: str, targets: dict[str, int] | None = None, **more: Any) -> None:
        """A virtual model; targets: channel → weight (all channels by default)."""
        shares = targets or dict.fromkeys(self.config["channels"], 1)
        self.config["models"][name] = {"targets": [{"channel": c, "weight": w} for c, w in shares.items()], **more}

    def write(self) -> None:
        """The configuration as it is now, put in place by an atomic rename."""
        temporary = self.path.with_suffix(".new")
        temporary.write_text(yaml.safe_dump(self.config, sort_keys=False))
        os.replace(temporary, self.path)

    # -- running ------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> "Rig":
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
        await self.stop()
        for engine in self.engines.values():
            await engine.stop()
        self._short.cleanup()

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "gateway", *arguments]

    async def start(self, *arguments: str, env: dict[str, str] | None = None, wait: bool = True) -> None:
        """Writes the file and serves it; returns when all workers listen."""
        self.write()
        with self.log_path.open("ab") as out:
            self.process = subprocess.Popen(
                self.command("serve", "--config", str(self.path), *arguments), stdout=out, stderr=out, env={**os.environ, **(env or {})}
            )
        if wait:
            await eventually(self._is_ready, within=20)

    async def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"serve ended with {self.process.poll()}:\n{self.log()}"
        return "ready:" in self.log()

    async def stop(self, sig: int = signal.SIGTERM, within: float = 15.0) -> int:
        """Ends it and returns its exit status; a process that does not end is killed and fails the test."""
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(sig)
        try:
            return await asyncio.to_thread(process.wait, within)
        except subprocess.TimeoutExpired:
            for pid in [p["pid"] for p in self._children(process.pid)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.kill()
            process.wait()
            raise AssertionError(f"the gateway did not end within {within} s:\n{self.log()}") from None

    @staticmethod
    def _children(pid: int) -> list[dict[str, Any]]:
        """Child processes: pid and command line."""
        found = []
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with contextlib.suppress(OSError):
                found.append({"pid": int(child), "command": Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ")})
        return found

    def pid_of(self, name: str) -> int:
        """`control`, `worker-0` …"""
        assert self.process is not None
        role, _, slot = name.partition("-")
        for child in self._children(self.process.pid):
            if f" gateway {role} " in child["command"] and (not slot or f"--slot {slot} " in child["command"]):
                return int(child["pid"])
        raise AssertionError(f"there is no {name}")

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    # -- gatewayctl's view --------------------------------------------------------------------------------------------

    async def admin(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """The admin API over its Unix socket."""
        connector = aiohttp.UnixConnector(str(self.data_dir / "admin.sock"))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(method, f"http://admin{path}", json=body) as answer,
        ):
            found: dict[str, Any] = await answer.json()
            return found

    async def reload(self) -> dict[str, Any]:
        """Writes the file and reloads it; what control answered."""
        self.write()
        return await self.admin("POST", "/v1/reload")

    async def metrics(self) -> str:
        async with self.session.get(f"http://127.0.0.1:{self.metrics_port}/metrics") as answer:
            return await answer.text()

    def records(self) -> list[dict[str, Any]]:
        """All `done` records in the journal, the oldest accepted first."""
        lines = [line for line in self.journal_lines() if line["kind"] == "done"]
        return sorted(lines, key=lambda line: float(line["ts"]))

    def journal_lines(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for pattern in ("*.open", "*.ndjson"):  # in this order a segment that is sealed between the two looks is never missed
            for path in (self.data_dir / "journal").glob(pattern):
                with contextlib.suppress(FileNotFoundError):
                    found += [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
        return list({(line["kind"], line["id"]): line for line in found}.values())

    async def record(self, **wanted: Any) -> dict[str, Any]:
        """The newest record with these values, as soon as there is one."""

        def look() -> dict[str, Any] | None:
            return next((r for r in reversed(self.records()) if all(r.get(k) == v for k, v in wanted.items())), None)

        found: dict[str, Any] = await eventually(look)
        return found

    # -- a caller -------------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        return self._session

    async def post(self, path: str, body: Any, *, key: str | None = KEY, headers: dict[str, str] | None = None) -> Answer:
        """Any call. body: JSON value or raw bytes."""
        sent = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {}), **(headers or {})}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.session.post(self.url + path, data=data, headers=sent) as answer:
            got = {name.lower(): value for name, value in answer.headers.items()}
            if not got.get("content-type", "").startswith("text/event-stream"):
                return Answer(answer.status, got, await answer.read())
            raw = bytearray()
            with contextlib.suppress(aiohttp.ClientPayloadError):
                async for piece in answer.content.iter_any():
                    raw += piece
            return Answer(answer.status, got, bytes(raw), _events(bytes(raw)))

    async def chat(self, model: str, text: str = "hello", *, stream: bool = False, **more: Any) -> Answer:
        headers = more.pop("headers", None)
        key = more.pop("key", KEY)
        body = {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream, **more}
        return await self.post("/v1/chat/completions", body, headers=headers, key=key)

    @contextlib.asynccontextmanager
    async def open_stream(self, model: str, text: str = "hello", **more: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """A stream that the test reads (or leaves) by itself."""
        body = {"model": model, "messages": [{"role": "user", "content": text}], "stream": True, **more}
        headers = {"Authorization": f"Bearer {KEY}"}
        async with self.session.post(self.url + "/v1/chat/completions", json=body, headers=headers) as answer:
            yield answer

    async def raw(self, data: bytes, *, within: float = 5.0, close: bool = True) -> bytes:
        """Bytes to the API address, and all that comes back until it closes or is silent for `within` seconds."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        got = b""
        try:
            writer.write(data)
            with contextlib.suppress(TimeoutError, ConnectionError):
                while piece := await asyncio.wait_for(reader.read(65_536), within):
                    got += piece
        finally:
            writer.close()
        return got


def _events(raw: bytes) -> list[str]:
    """The data of each complete event."""
    return [block[6:] for block in raw.decode().split("\n\n")[:-1] if block.startswith("data: ")]


def script(*rules: dict[str, Any]) -> Any:
    """A fault script for an engine: `rig.engines["a"].script = script({"on": 1, "do": "reset"})`."""
    return of(*rules)

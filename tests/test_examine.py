"""The programs that gatewayctl starts: `gateway examine` looks outside, `gateway records` reads a journal."""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.config.load import load
from gateway.config.resolve import resolve
from gateway.config.resolved import Resolved
from gateway.discover import examine
from gateway.simulate import simulator
from tests.fixtures.cli import ROOT, environment


def config(tmp_path: Path, channels: str, more: str = "") -> Resolved:
    file = tmp_path / "g.yaml"
    file.write_text(f"version: 1\nchannels:\n{channels}\nmodels: {{m: {{targets: [{{channel: a}}]}}}}\n{more}\n")
    return resolve(load(file, {}))[0]


def child(role: str, *arguments: str, data: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    argv = [sys.executable, "-m", "gateway", role, *arguments]
    return subprocess.run(argv, input=data, capture_output=True, timeout=30, check=False, cwd=ROOT, env=environment())


async def test_each_endpoint_is_asked_as_its_channel_says(tmp_path):
    async with await simulator.start("vllm", model="qwen3", api_key="sk-x") as engine:
        text = f"  a: {{engine: vllm, model: qwen3, endpoints: ['{engine.url}', 'http://127.0.0.1:1'], credential: KEY}}"
        right = await examine.everything(config(tmp_path, text.replace("KEY", "sk-x")))
        wrong = await examine.everything(config(tmp_path, text.replace("KEY", "sk-y")))
    up, down = right["endpoints"]
    assert (up["state"], up["why"], up["found"]["engine"], up["channel"]) == ("up", "", "vllm", "a")
    assert down["state"] == "down" and "nothing listens" in down["why"]
    assert "credential" in wrong["endpoints"][0]["why"] and right["names"] == right["registries"] == []


async def test_what_takes_too_long_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(examine, "PATIENCE", 0.3)

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            pass
        writer.close()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    began = time.monotonic()
    found = await examine.everything(config(tmp_path, f"  a: {{engine: vllm, model: q, endpoints: ['http://127.0.0.1:{port}']}}"))
    assert time.monotonic() - began < 3 and found["endpoints"][0]["state"] == "down" and "within 0.3 s" in found["endpoints"][0]["why"]
    monkeypatch.setattr(examine, "WHOLE", 0.0)
    found = await examine.everything(config(tmp_path, f"  a: {{engine: vllm, model: q, endpoints: ['http://127.0.0.1:{port}']}}"))
    assert found["endpoints"][0]["why"] == examine.NOT_LOOKED
    silent.close()
    await asyncio.sleep(0.05)


async def test_registries_and_names(tmp_path):
    (tmp_path / "list.json").write_text('[{"targets": ["127.0.0.1:1", "localhost:1"]}]')
    registries = "registries:\n  f: {type: file, path: list.json}\n  n: {type: file, path: none.json}"
    channels = "  a: {engine: vllm, model: q, endpoints: {registry: f}}\n  b: {engine: vllm, model: q, endpoints: {registry: n}}"
    found = await examine.everything(config(tmp_path, channels, registries))
    told = {one["name"]: one for one in found["registries"]}
    assert told["f"]["endpoints"] == 2 and told["f"]["why"] == "" and told["n"]["endpoints"] == 0 and "none.json" in told["n"]["why"]
    assert [one["name"] for one in found["names"]] == ["localhost"] and "127.0.0.1" in found["names"][0]["addresses"]
    assert len(found["endpoints"]) == 2


def test_as_a_child_it_reads_the_configuration_from_stdin_and_ends_at_once(tmp_path):
    resolved = config(tmp_path, "  a: {engine: vllm, model: q, endpoints: ['http://127.0.0.1:1', 'http://no-such.invalid:1']}")
    done = child("examine", data=msgspec.msgpack.encode(resolved))
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == 0 and done.stderr == b"" and len(found["endpoints"]) == 2 and found["names"][0]["why"]


def test_records_of_a_journal_that_nobody_serves(tmp_path):
    lines = [{"kind": "done", "id": str(number), "ts": float(number), "ms": {}} for number in range(5)]
    (tmp_path / "0-a-000001.ndjson").write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    done = child("records", str(tmp_path), "2")
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == ["3", "4"]
    done = child("records", str(tmp_path / "none"), "2")
    assert done.returncode == 1 and b"No such file" in done.stderr


@pytest.mark.parametrize("asked", ["_x._tcp.lab"])
async def test_dns_that_does_not_answer(tmp_path, asked):
    registries = f"registries: {{lab: {{type: dns, srv: {asked}, servers: ['127.0.0.1:1']}}}}"
    found = await examine.everything(config(tmp_path, "  a: {engine: vllm, model: q, endpoints: {registry: lab}}", registries))
    assert found["registries"][0]["endpoints"] == 0 and found["registries"][0]["why"] and found["registries"][0]["asked"] == f"{asked} SRV"

"""Engines' own counters against the ledger, in a running gateway: exact for what went through it, told for what went past it."""

import asyncio
import contextlib
import json
import os
import signal
import time
from typing import Any

import aiohttp
import pytest

from gateway.simulate import simulator
from tests.harness import Rig, eventually, script

Row = dict[str, Any]


@pytest.fixture
async def rig(tmp_path, monkeypatch):
    async with Rig(tmp_path) as rig:
        await rig.engine("gpu", "vllm", tps=200, monitor=True)
        await rig.engine("ascend", "mindie", tps=200, monitor=True)
        rig.model("qwen", {"gpu": 1})
        rig.model("pangu", {"ascend": 1})
        rig.config["models"]["busy"] = {
            "policy": "least-busy",
            "targets": [{"channel": name} for name in ("gpu", "ascend")],
        }  # so that figures are read often
        yield rig


CALM = {"agrees", "uncertain"}
"""No drift: which of the two depends on the minute at which a test begins."""


async def hours(rig: Rig) -> dict[str, Row]:
    """Both channels' rows, hours added up: a test may run over the end of one."""
    found: dict[str, Row] = {}
    told = await rig.admin("GET", "/v1/usage/reconcile")
    assert "hours" in told, told
    for row in told["hours"]:
        seen = found.setdefault(row["channel"], {**row, "states": []})
        seen["states"].append(row["state"])
        if len(seen["states"]) > 1:
            for name in ("engine", "ledger", "drift", "bypassed", "unseen", "resets"):
                seen[name] += row[name]
    return found


async def settled(rig: Rig, channel: str, **wanted: Any) -> Row:
    """When figures and ledger have caught up."""
    end, row = time.monotonic() + 25, {}
    while time.monotonic() < end:
        with contextlib.suppress(aiohttp.ClientError, AssertionError):  # control is being started again, or opens its ledger
            row = (await hours(rig)).get(channel, {})
        if all(row.get(name) == value for name, value in wanted.items()):
            return row
        await asyncio.sleep(0.3)
    raise AssertionError((wanted, row))


async def looked(rig: Rig) -> None:
    """Both engines' counters were seen once."""

    async def both() -> bool:
        return len(await hours(rig)) == 2

    await eventually(both, within=25)


async def aborted(rig: Rig, channel: str, model: str, after: int = 20) -> None:
    """The caller leaves while the engine pauses: a token that is under way just then would be counted by the engine alone."""
    rig.engines[channel].script = script({"do": "stall", "at": "mid_stream", "after": after})
    async with rig.open_stream(model, max_tokens=400, ignore_eos=True) as stream, asyncio.timeout(10):
        got = 0
        while got < after:
            got += (await stream.content.readline()).startswith(b"data: ")
    rig.engines[channel].script = script()


async def direct(rig: Rig, channel: str, tokens: int) -> None:
    body = {"model": "qwen3", "max_tokens": tokens, "ignore_eos": True, "messages": [{"role": "user", "content": "hi"}]}
    async with aiohttp.ClientSession() as session, session.post(f"{rig.engines[channel].url}/v1/chat/completions", json=body) as answer:
        assert answer.status == 200


async def test_traffic_through_the_gateway_agrees_to_the_token_and_what_goes_past_it_is_told(rig):
    await rig.start()
    await looked(rig)
    for _ in range(3):
        await rig.chat("qwen", max_tokens=30, ignore_eos=True)
        await rig.chat("qwen", max_tokens=50, ignore_eos=True, stream=True)
        await rig.chat("pangu", max_tokens=40, ignore_eos=True, stream=True)
    await aborted(rig, "gpu", "qwen")
    await aborted(rig, "ascend", "pangu")
    for channel in ("gpu", "ascend"):
        total = await steady(rig, channel)
        row = await settled(rig, channel, engine=total, ledger=total)
        assert row["drift"] == row["bypassed"] == row["resets"] == 0 and set(row["states"]) <= CALM, row
        assert row["prompt"]["engine"] == row["prompt"]["ledger"] or channel == "ascend"
    await direct(rig, "gpu", 300)
    row = await settled(rig, "gpu", bypassed=300)
    assert "bypassed" in row["states"] and row["drift"] == 300 and row["percent"] > 1


async def steady(rig: Rig, channel: str) -> int:
    """What the engine has generated, once it rests."""
    engine = rig.engines[channel].engine
    await eventually(lambda: not engine.working)
    return int(engine.generation_tokens)


@pytest.mark.hard
async def test_an_engine_that_is_started_again_is_a_reset_and_no_drift(rig):
    await rig.start()
    await looked(rig)
    await rig.chat("qwen", max_tokens=90, ignore_eos=True)
    await settled(rig, "gpu", engine=90, ledger=90)
    old = rig.engines["gpu"]
    port = int(old.url.rsplit(":", 1)[1])
    await old.stop()
    rig.engines["gpu"] = await simulator.start("vllm", model="qwen3", tps=200, port=port)

    async def serves() -> bool:
        return bool((await rig.chat("qwen", max_tokens=20, ignore_eos=True)).status == 200)

    await eventually(serves, within=20, every=0.3)
    row = await settled(rig, "gpu", resets=1, engine=110, ledger=110)
    assert row["drift"] == row["bypassed"] == row["unseen"] == 0 and set(row["states"]) <= CALM


@pytest.mark.hard
async def test_what_engines_did_while_control_was_killed_is_counted(rig):
    await rig.start()
    await looked(rig)
    await rig.chat("qwen", max_tokens=60, ignore_eos=True)
    await settled(rig, "gpu", engine=60, ledger=60)
    before = rig.pid_of("control")
    os.kill(before, signal.SIGKILL)
    await direct(rig, "gpu", 25)
    await rig.chat("qwen", max_tokens=15, ignore_eos=True)
    await eventually(lambda: _other(rig, before), within=20, every=0.2)
    row = await settled(rig, "gpu", engine=100, ledger=75)
    assert row["bypassed"] == 25 and row["resets"] == 0


def _other(rig: Rig, before: int) -> bool:
    try:
        return rig.pid_of("control") != before and (rig.data_dir / "admin.sock").exists()
    except AssertionError:
        return False


@pytest.mark.hard
async def test_the_command_line_says_the_same_while_it_runs_and_while_it_does_not(rig, inside):
    await rig.start()
    await looked(rig)
    await rig.chat("qwen", max_tokens=64, ignore_eos=True)
    await settled(rig, "gpu", engine=64, ledger=64)
    code, out, _ = await inside("usage", "reconcile", "--channel", "gpu", "--config", str(rig.path))
    assert code == 0 and any(state in out for state in CALM) and "(running)" in out and "ascend" not in out
    await rig.stop()
    code, out, err = await inside("usage", "reconcile", "--last", "2h", "-o", "json", "--config", str(rig.path))
    found = [row for row in json.loads(out) if row["channel"] == "gpu"]
    assert code == 0 and "not running" in err
    assert sum(row["engine"] for row in found) == sum(row["ledger"] for row in found) == 64
    code, out, _ = await inside("cost", "anomalies", "-o", "json", "--config", str(rig.path))
    assert code == 0 and json.loads(out) == []


@pytest.mark.hard
async def test_a_budget_alerts_at_each_of_its_thresholds_and_lines_put_aside_at_the_ledger(rig):
    rig.config["prices"] = [{"model": "*", "currency": "CNY", "input": 0, "output": "10000"}]
    rig.config["tenants"]["acme"]["budget"] = {"amount": "1", "currency": "CNY", "warn": [50, 80, 95]}
    rig.config["alerts"] = {"rules": [{"on": "budget"}, {"on": "ledger", "for": "0s"}]}
    await rig.start()
    await rig.chat("qwen", max_tokens=85, ignore_eos=True)
    (rig.data_dir / "journal/9-bad-000001.ndjson").write_bytes(b"no record\n")

    async def firing() -> Any:
        alerts = (await rig.admin("GET", "/v1/alerts"))["alerts"]
        texts = sorted(one["text"] for one in alerts if one["state"] == "firing")
        return texts if len(texts) == 3 else None

    assert await eventually(firing, within=55, every=1.0) == [
        "85% used: 0.85 of 1 CNY per month (it warns at 50%)",
        "85% used: 0.85 of 1 CNY per month (it warns at 80%)",
        "lines of the journal that are no records, put aside in the last day: 1",
    ]

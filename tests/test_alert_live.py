"""Alerts end to end: engines that die and come back, control killed in between, sinks that are down, silences, a refused configuration."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from gateway.simulate import simulator
from tests.fixtures.cli import actl
from tests.harness import Rig, eventually, free_port, script


class Ears:
    """A webhook and an Alertmanager."""

    def __init__(self) -> None:
        self.port = free_port()
        self.messages: list[dict[str, Any]] = []
        self.alerts: list[dict[str, Any]] = []

    async def hook(self, request: web.Request) -> web.Response:
        self.messages.append(await request.json())
        return web.Response()

    async def manager(self, request: web.Request) -> web.Response:
        self.alerts += await request.json()
        return web.Response()

    def of(self, word: str, about: str = "") -> list[str]:
        """Lines of messages that begin with a word."""
        lines = [line for one in self.messages for line in one["message"].splitlines()]
        return [line for line in lines if line.startswith(f"{word} ") and about in line]


@pytest_asyncio.fixture
async def ears() -> AsyncIterator[Ears]:
    ears = Ears()
    app = web.Application()
    app.router.add_post("/canaryhook", ears.hook)
    app.router.add_post("/api/v2/alerts", ears.manager)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", ears.port).start()
    yield ears
    await runner.cleanup()


async def begin(rig: Rig, ears: Ears, rules: list[dict[str, Any]], **sinks: Any) -> None:
    await rig.engine("a")
    await rig.engine("b")
    rig.model("qwen")
    ops, am = f"json://127.0.0.1:{ears.port}/canaryhook", {"alertmanager": f"http://127.0.0.1:{ears.port}"}
    rig.config["alerts"] = {"sinks": {"ops": ops, "am": am, **sinks}, "rules": rules}
    await rig.start()


async def listed(rig: Rig) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await rig.admin("GET", "/v1/alerts"))["alerts"]
    return found


def kept(rig: Rig) -> Any:
    return json.loads((rig.data_dir / "alerts.json").read_text())


async def control_back(rig: Rig, old: int) -> None:
    async def look() -> bool:
        try:
            return rig.pid_of("control") != old and bool((await rig.admin("GET", "/v1/alerts"))["rules"])
        except (OSError, AssertionError):
            return False

    await eventually(look, within=20)


@pytest.mark.hard
async def test_a_dead_engine_is_told_once_and_its_return_too_whatever_happens_to_control(rig: Rig, ears: Ears) -> None:
    await begin(rig, ears, [{"on": "endpoint_down", "for": "2s"}])
    url = rig.engines["a"].url
    await rig.engines["a"].stop()
    await eventually(lambda: ears.of("FIRING") and ears.alerts, within=25)
    await eventually(lambda: not kept(rig)["waiting"])  # a kill in the very moment of sending tells it twice rather than never
    old = rig.pid_of("control")
    os.kill(old, signal.SIGKILL)
    await control_back(rig, old)
    await asyncio.sleep(6)
    assert len(ears.of("FIRING")) == 1 and not ears.of("RESOLVED"), ears.messages
    (alert,) = await listed(rig)
    assert alert["state"] == "firing" and alert["labels"] == {"channel": "a", "endpoint": url}
    rig.engines["a"] = await simulator.start("vllm", model="qwen3", port=int(url.rpartition(":")[2]))
    await eventually(lambda: ears.of("RESOLVED"), within=40)
    assert len(ears.of("FIRING")) == 1 and len(ears.of("RESOLVED")) == 1
    await eventually(lambda: ears.alerts[-1]["endsAt"] < ears.alerts[0]["endsAt"])
    assert len({(one["startsAt"], json.dumps(one["labels"])) for one in ears.alerts}) == 1, "to Alertmanager it is one alert"
    assert "canaryhook" not in rig.log()


@pytest.mark.hard
async def test_a_refused_configuration_is_told_until_it_is_right_again(rig: Rig, ears: Ears, tmp_path: Path) -> None:
    await begin(rig, ears, [{"on": "config_refused"}])
    good = rig.path.read_text()
    rig.path.write_text(good.replace("version: 1", "version: 1\nnonsense: 1"))
    await eventually(lambda: ears.of("FIRING", "nonsense"), within=15)
    rig.path.write_text(good)
    await eventually(lambda: ears.of("RESOLVED"), within=30)
    text = await rig.metrics()
    assert 'gateway_alerts_firing{kind="config_refused",severity="critical"} 0.0' in text
    assert 'gateway_alert_deliveries_total{outcome="ok",sink="ops"} 2.0' in text


@pytest.mark.hard
async def test_a_dead_sink_costs_callers_nothing_and_is_said(rig: Rig, ears: Ears) -> None:
    dead = f"json://127.0.0.1:{free_port()}/canaryhook"
    await begin(rig, ears, [{"on": "endpoint_down", "for": "0s"}], dead=dead)
    tested = await actl("alerts", "test", GATEWAY_CONFIG=str(rig.path))
    assert tested.code == 1 and "did not take it" in tested.err and "dead" in tested.out, tested
    assert (await actl("alerts", "test", "--sink", "ops", GATEWAY_CONFIG=str(rig.path))).code == 0 and ears.of("TEST")
    await rig.engines["b"].stop()
    await eventually(lambda: ears.of("FIRING"), within=25)
    answers = [await rig.chat("qwen", max_tokens=2) for _ in range(20)]
    assert all(answer.status == 200 for answer in answers)

    async def trouble() -> bool:
        sinks = (await rig.admin("GET", "/v1/alerts"))["sinks"]
        return any(one["name"] == "dead" and one["failed"] >= 2 and one["waiting"] == 1 and one["trouble"] for one in sinks)

    await eventually(trouble, within=10)
    shown = await actl("alerts", GATEWAY_CONFIG=str(rig.path))
    assert "firing" in shown.out and "sink dead: A Connection error" in shown.err and "canaryhook" not in shown.out + shown.err + rig.log()


@pytest.mark.hard
async def test_a_silence_keeps_quiet_until_it_is_taken_back(rig: Rig, ears: Ears) -> None:
    await begin(rig, ears, [{"on": "frozen", "for": "0s"}])
    env = {"GATEWAY_CONFIG": str(rig.path)}
    bad = await actl("alerts", "silence", "chanel=gpu", "--for", "1h", **env)
    assert bad.code == 1 and 'did you mean "channel"?' in bad.err
    made = await actl("alerts", "silence", "kind=frozen", "frozen=model*", "--for", "1h", "--comment", "known", "-o", "json", **env)
    id = json.loads(made.out)["id"]
    await rig.admin("POST", "/v1/freeze", {"kind": "model", "name": "qwen"})

    async def silenced() -> bool:
        return any(one["state"] == "firing" and one["silenced"] == id for one in await listed(rig))

    await eventually(silenced)
    shown = await actl("alerts", **env)
    assert "silenced" in shown.out and "known" in shown.out and "kind=frozen frozen=model*" in " ".join(shown.out.split())
    await asyncio.sleep(3)
    assert not ears.messages and not ears.alerts
    old = rig.pid_of("control")
    os.kill(old, signal.SIGKILL)
    await control_back(rig, old)
    assert (await rig.admin("GET", "/v1/alerts"))["silences"][0]["id"] == id, "it outlives control"
    assert (await actl("alerts", "unsilence", id, **env)).code == 0
    await eventually(lambda: ears.of("FIRING", "model qwen is frozen"), within=15)
    acts = [act["what"] for act in (await rig.admin("GET", "/v1/audit?last=20"))["audit"]]
    assert "alerts silence kind=frozen frozen=model*" in acts and f"alerts unsilence {id}" in acts


async def test_sinks_come_and_go_with_a_reload(rig: Rig, ears: Ears) -> None:
    await begin(rig, ears, [])
    rig.config["alerts"] = {"rules": [{"on": "frozen", "for": "0s"}]}
    assert (await rig.reload())["ok"]
    await rig.admin("POST", "/v1/freeze", {"kind": "model", "name": "qwen"})
    await eventually(lambda: "FIRING info frozen" in rig.log())
    assert (await rig.admin("GET", "/v1/alerts"))["sinks"] == [] and not ears.messages
    answer = await rig.admin("POST", "/v1/alerts/test", {})
    assert answer["results"] == [] and "TEST" in rig.log()


def certificate(folder: Path, days: int) -> dict[str, str]:
    """A self-signed one that ends in so many days."""
    key, cert = folder / "tls.key", folder / "tls.crt"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=gw -days {days} -keyout {key} -out {cert}"
    subprocess.run(command.split(), check=True, capture_output=True)
    return {"cert": str(cert), "key": str(key)}


@pytest.mark.hard
async def test_what_one_gateway_can_be_in_trouble_with(rig: Rig, tmp_path: Path) -> None:
    await rig.engine("a", ttft=0.2)
    await rig.engine("bad")
    rig.engines["bad"].script = script({"on": "1-", "do": "status", "status": 500})
    rig.model("slow", {"a": 1})
    rig.model("broken", {"bad": 1}, retry={"attempts": 1})
    rig.config["listeners"]["tls"] = {"bind": f"127.0.0.1:{free_port()}", "serves": "api", "tls": certificate(tmp_path, 10)}
    soon = datetime.fromtimestamp(time.time() + 3 * 86400, UTC).isoformat(timespec="seconds")
    rig.config["keys"].append({**rig.config["keys"][0], "id": "k2", "hash": "sha256:" + "1e" * 32, "expires": soon, "models": ["*"]})
    rig.config["tenants"]["acme"]["limits"] = [{"count": "requests", "max": 40, "per": "day", "name": "daily"}]
    kinds = ["certificate_expiry", "key_expiry", "budget", "worker_restarted", "usage_anomaly", "drift", "ledger", "unpriced"]
    rules: list[dict[str, Any]] = [{"on": kind, "for": "0s"} for kind in kinds]
    rules += [{"on": "error_share", "within": "30s", "requests": 5}, {"on": "ttft", "over": "100ms", "within": "30s", "requests": 5}]
    rig.config["alerts"] = {"rules": [*rules, {"on": "disk", "over": "0%", "for": "0s"}]}
    await rig.start()
    os.kill(rig.pid_of("worker-0"), signal.SIGKILL)

    async def served() -> bool:
        with contextlib.suppress(OSError, aiohttp.ClientError):
            return (await rig.chat("slow", stream=True, max_tokens=2)).status == 200
        return False

    await eventually(served, within=20)

    for _ in range(18):
        for model in ("slow", "broken"):
            await rig.chat(model, stream=True, max_tokens=2)
    found: dict[str, str] = {}
    wanted = {"certificate_expiry", "key_expiry", "budget", "worker_restarted", "error_share", "ttft", "disk"}

    async def all_seen() -> bool:
        found.update({one["kind"]: one["text"] for one in await listed(rig) if one["state"] == "firing"})
        return wanted <= found.keys()

    await eventually(all_seen, within=40, every=0.5)
    assert "ends in 9 days" in found["certificate_expiry"] and "ends in 2 days" in found["key_expiry"]
    assert "of 40 requests per day" in found["budget"] and "requests failed in 30 s" in found["error_share"]
    assert "took longer than 100ms" in found["ttft"] and "started again" in found["worker_restarted"]
    rules = (await rig.admin("GET", "/v1/alerts"))["rules"]
    assert [rule["name"] for rule in rules if not rule["sure"] and rule["kind"] not in ("error_share", "ttft")] == []

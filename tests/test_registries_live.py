"""Registries before a real gateway: endpoints come and go under load, and nobody who calls notices."""

import asyncio
import contextlib
import json
import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.simulate.simulator import start
from tests.dns_server import NXDOMAIN, DnsServer, a, srv
from tests.harness import Rig, eventually


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with Rig(tmp_path, workers=2) as rig:
        yield rig


async def engines(rig: Rig, count: int) -> list[str]:
    """Simulated engines a, b, …; their URLs."""
    for name in "abcdef"[:count]:
        rig.engines[name] = await start("vllm", model="qwen3")
    return [engine.url for engine in rig.engines.values()]


def registry(rig: Rig, **config: Any) -> None:
    rig.config["registries"] = {"lab": config}
    rig.config["channels"] = {"gpu": {"engine": "vllm", "model": "qwen3", "endpoints": {"registry": "lab"}}}
    rig.model("qwen")


def lists(path: Path, *urls: str) -> None:
    path.with_suffix(".new").write_text(json.dumps([{"targets": urls}]))
    os.replace(path.with_suffix(".new"), path)


def served(rig: Rig, name: str) -> int:
    """Completions that an engine was asked for."""
    return sum(1 for request in rig.engines[name].requests if request.path.startswith("/v1/chat"))


class Load:
    """Callers that ask without a pause, streamed and not. `bad`: what was no whole answer."""

    def __init__(self, rig: Rig, callers: int = 4) -> None:
        self._rig = rig
        self._stop = False
        self.good = 0
        self.bad: list[str] = []
        self._tasks = [asyncio.create_task(self._call(number)) for number in range(callers)]

    async def _call(self, number: int) -> None:
        while not self._stop:
            answer = await self._rig.chat("qwen", stream=bool(number % 2), max_tokens=8)
            if answer.status == 200 and answer.text and answer.headers["x-gateway-attempts"] == "1" and (answer.done or not number % 2):
                self.good += 1
            else:
                self.bad.append(f"{answer.status}: {answer.body[:200]!r}")

    async def more(self, count: int = 40) -> None:
        """So many further answers."""
        goal = self.good + count
        await eventually(lambda: self.good >= goal or self.bad, within=20)
        assert not self.bad, self.bad[:3]

    async def end(self) -> None:
        self._stop = True
        await asyncio.gather(*self._tasks)
        assert not self.bad, self.bad[:3]


async def answers(rig: Rig) -> bool:
    """Whether control is there."""
    with contextlib.suppress(OSError, aiohttp.ClientError):
        return bool(await rig.admin("GET", "/v1/status"))
    return False


async def listed(rig: Rig) -> set[str]:
    """What `gatewayctl channels list` shows."""
    (channel,) = (await rig.admin("GET", "/v1/channels"))["channels"]
    return {one["endpoint"] for one in channel["endpoints"]}


@pytest.mark.hard
async def test_a_list_gains_and_loses_an_endpoint_under_load(rig: Rig, tmp_path: Path) -> None:
    one, two, three = await engines(rig, 3)
    path = tmp_path / "list.json"
    registry(rig, type="file", path=str(path))
    lists(path, one, two)
    await rig.start()
    load = Load(rig)
    await load.more()
    assert served(rig, "a") and served(rig, "b") and not served(rig, "c")
    lists(path, one, two, three)
    await eventually(lambda: served(rig, "c"), within=15)
    await load.more()
    lists(path, one, three)
    await eventually(lambda: "2 endpoint(s) from registry lab" in rig.log(), within=15)
    await load.more(20)  # those that had begun there may end there
    before = served(rig, "b")
    await load.more(80)
    assert served(rig, "b") == before

    async def settled() -> bool:
        return await listed(rig) == {one, three}

    await eventually(settled, within=5)  # what the other one was working on is over
    worker = rig.pid_of("worker-0")
    await load.end()
    os.kill(worker, signal.SIGKILL)  # its successor begins with what is served now, under the same revision
    await eventually(lambda: "worker-0 (pid " in rig.log() and rig.log().count(" listens") >= 3, within=15)
    load = Load(rig)
    await load.more(80)
    await load.end()
    assert served(rig, "b") == before and (await rig.admin("GET", "/v1/status"))["revision"]["rev"] == 1


async def test_a_channel_whose_registry_lists_nothing_is_told_of_in_health(rig: Rig, tmp_path: Path) -> None:
    (one,) = await engines(rig, 1)
    registry(rig, type="file", path=str(tmp_path / "list.json"))
    await rig.start()
    (row,) = (await rig.admin("GET", "/v1/health"))["endpoints"]
    assert (row["channel"], row["endpoint"], row["state"]) == ("gpu", "", "down") and "lab lists no endpoint: " in row["why"]
    lists(tmp_path / "list.json", one)

    async def up() -> bool:
        return [(at["endpoint"], at["state"]) for at in (await rig.admin("GET", "/v1/health"))["endpoints"]] == [(one, "up")]

    await eventually(up, within=15)


@pytest.mark.hard
async def test_who_waits_for_one_that_is_listed_no_longer_goes_to_those_that_are(rig: Rig, tmp_path: Path) -> None:
    (one,) = await engines(rig, 1)
    rig.engines["b"] = await start("vllm", model="qwen3", ttft=6.0)
    path = tmp_path / "list.json"
    registry(rig, type="file", path=str(path))
    rig.config["channels"]["gpu"] |= {"max_in_flight": 1}
    lists(path, rig.engines["b"].url)
    await rig.start()
    callers = [asyncio.create_task(rig.chat("qwen")) for _ in range(3)]
    await eventually(lambda: served(rig, "b") == 1)
    lists(path, one)
    assert [(await caller).status for caller in callers] == [200] * 3
    assert (served(rig, "a"), served(rig, "b")) == (2, 1)


@pytest.mark.hard
async def test_one_that_is_listed_no_longer_drains_and_is_shown_until_it_has_finished(rig: Rig, tmp_path: Path) -> None:
    (one,) = await engines(rig, 1)
    rig.engines["b"] = await start("vllm", model="qwen3", tps=20)
    two, path = rig.engines["b"].url, tmp_path / "list.json"
    registry(rig, type="file", path=str(path))
    lists(path, two)
    await rig.start()

    async def leaving() -> Any:
        return next((at for at in (await rig.admin("GET", "/v1/health"))["endpoints"] if at["endpoint"] == two), None)

    async def draining() -> bool:
        at = await leaving()
        return at and (at["state"], at["serves"], at["in_flight"]) == ("draining", False, 1) and "no longer" in at["why"]

    async def gone() -> bool:
        return await leaving() is None

    async with rig.open_stream("qwen", max_tokens=80, ignore_eos=True) as stream:
        await stream.content.readany()
        lists(path, one)
        await eventually(draining, within=15)
        assert (await rig.admin("POST", "/v1/channels/gpu/drain", {"endpoint": two}))["channel"]["endpoint"] == two
        assert (await leaving())["drained"]
        assert (await rig.chat("qwen", max_tokens=1)).status == 200 and served(rig, "a") == served(rig, "b") == 1
        assert b"[DONE]" in await stream.content.read(), "it was left in peace"
    await eventually(gone, within=5)
    assert (await rig.admin("GET", "/v1/channels/gpu"))["channel"]["drained_unlisted"][0]["endpoint"] == two


@pytest.mark.hard
async def test_a_dead_newcomer_gets_no_request_and_a_dead_control_costs_none(rig: Rig, tmp_path: Path) -> None:
    one, two, three = await engines(rig, 3)
    path = tmp_path / "list.json"
    registry(rig, type="file", path=str(path))
    lists(path, one)
    await rig.start()
    await rig.engines["b"].down()
    load = Load(rig)
    lists(path, one, two)
    await eventually(lambda: "is down" in rig.log(), within=15)
    await load.more()
    shown = {one["endpoint"]: one for one in (await rig.admin("GET", "/v1/health"))["endpoints"]}
    assert [shown[url]["serves"] for url in (one, two)] == [True, False]
    assert (shown[two]["state"], shown[two]["why"][:32]) == ("degraded", "listed by lab, serves nobody yet")
    ups = dict(re.findall(r'gateway_endpoint_up{channel="gpu",endpoint="(.*)"} (.*)', await rig.metrics()))
    assert ups == {one: "1.0", two: "0.0"}
    assert (await rig.admin("POST", "/v1/channels/gpu/drain", {"endpoint": two}))["channel"]["endpoint"] == two
    lists(path, one)

    async def unlisted() -> bool:
        return [at["endpoint"] for at in (await rig.admin("GET", "/v1/channels/gpu"))["channel"]["drained_unlisted"]] == [two]

    await eventually(unlisted, within=15)
    assert (await rig.admin("POST", "/v1/channels/gpu/undrain", {"endpoint": two}))["channel"]["changed"]
    lists(path, one, two)
    await rig.engines["b"].up()
    await rig.admin("POST", "/v1/channels/gpu/probe")  # or wait for the next look
    await eventually(lambda: served(rig, "b"), within=15)
    path.write_text('[{"targets": [')
    await eventually(lambda: f"{path}:1: it is not JSON" in rig.log(), within=15)
    known = (await rig.admin("GET", "/v1/channels/gpu"))["channel"]["registry_state"]
    assert (known["name"], known["state"], known["endpoints"]) == ("lab", "degraded", 2) and "it is not JSON" in known["why"]
    os.kill(rig.pid_of("control"), signal.SIGKILL)
    await load.more()
    await eventually(lambda: answers(rig), within=15)
    await load.more()
    before = served(rig, "b")
    await load.more()
    assert served(rig, "b") > before  # control came back, the list did not: what workers had, they have
    lists(path, two, three)
    await eventually(lambda: served(rig, "c"), within=15)
    await load.more()
    await load.end()


@pytest.mark.hard
async def test_services_of_dns_with_priorities_and_a_name_that_goes(rig: Rig) -> None:
    await engines(rig, 2)
    ports = {name: rig.engines[name].port for name in "ab"}
    async with DnsServer() as dns:
        dns.say("host.lab", "A", a("127.0.0.1"))
        dns.say("_llm._tcp.lab", "SRV", srv("host.lab", ports["a"], priority=0), srv("host.lab", ports["b"], priority=1))
        registry(rig, type="dns", srv="_llm._tcp.lab", servers=[dns.address], ttl_min="1s", family="ipv4")
        await rig.start()
        load = Load(rig)
        await load.more()
        assert served(rig, "a") and not served(rig, "b")
        dns.script("_llm._tcp.lab", "SRV", NXDOMAIN)
        await eventually(lambda: "no such name (NXDOMAIN); the last 2 endpoint(s) stay" in rig.log(), within=15)
        await load.more()
        dns.say("_llm._tcp.lab", "SRV", srv("host.lab", ports["b"]))
        await eventually(lambda: served(rig, "b"), within=15)
        await load.more()
        await load.end()

"""A worker through reloads: requests keep what they began with, connections and luck survive, nothing is cut."""

import asyncio
import contextlib
import gc
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config.resolve import resolve
from gateway.config.resolved import Key
from gateway.serve.builder import Builder
from gateway.serve.shared import Shared
from gateway.tokens.counter import Counter
from tests.config_text import loaded
from tests.harness import Rig, eventually, script


async def endpoint(rig: Rig, channel: str) -> dict[str, Any]:
    """What workers say of a channel's only endpoint."""
    found = (await rig.admin("GET", "/v1/health"))["endpoints"]
    return next(one for one in found if one["channel"] == channel)


async def test_a_request_in_flight_keeps_its_configuration_to_the_end(rig: Rig) -> None:
    await rig.engine("a", tps=60, reply_tokens=2000)
    rig.model("qwen")
    await rig.start()
    async with rig.open_stream("qwen", max_tokens=150) as stream:
        await stream.content.readline()
        await eventually(lambda: in_flight(rig, "a", 1))
        await rig.engine("b", model="other")
        del rig.config["models"]["qwen"]
        rig.model("new", {"b": 1})
        assert (await rig.reload())["ok"]
        assert (await rig.chat("qwen")).status == 404
        assert (await rig.chat("new", max_tokens=2)).status == 200
        await asyncio.sleep(0.6)  # a report of the worker's health later
        assert (await endpoint(rig, "a"))["in_flight"] == 1, "what runs on an earlier snapshot is counted"
        del rig.config["channels"]["a"]
        assert (await rig.reload())["ok"]
        rest = await stream.read()
    assert b"data: [DONE]" in rest and b'"model":"qwen"' in rest
    record = await rig.record(stream=True)
    assert (record["end"], record["rev"], record["tokens"]["out"]) == ("--", 1, 150)


async def in_flight(rig: Rig, channel: str, count: int) -> bool:
    return bool((await endpoint(rig, channel))["in_flight"] == count)


@pytest.mark.hard
async def test_pools_breakers_and_counters_of_unchanged_channels_survive(rig: Rig) -> None:
    await rig.engine("a")
    await rig.engine("b")
    rig.model("qwen", {"a": 1})
    rig.model("bad", {"b": 1}, retry={"attempts": 1})
    await rig.start()
    for _ in range(3):
        assert (await rig.chat("qwen", max_tokens=2)).status == 200
    rig.engines["b"].script = script({"on": "1-", "do": "status", "status": 500})
    for _ in range(5):
        assert (await rig.chat("bad")).status >= 500
    await eventually(lambda: ejected(rig))
    await eventually(lambda: counted(rig, 3))
    for number in range(3):
        rig.model(f"more-{number}", {"a": 1})
        assert (await rig.reload())["ok"]
        assert (await rig.chat("qwen", max_tokens=2)).status == 200
    await eventually(lambda: counted(rig, 6))
    assert (await endpoint(rig, "a"))["handshakes"] == 1, "one connection, kept through all reloads"
    assert (await endpoint(rig, "b"))["state"] == "ejected"
    rig.config["channels"]["a"]["timeouts"] = {"connect": "1s"}
    assert (await rig.reload())["ok"]
    assert (await rig.chat("qwen", max_tokens=2)).status == 200
    await eventually(lambda: handshakes(rig, 1))  # another timeout, another pool


async def ejected(rig: Rig) -> bool:
    return bool((await endpoint(rig, "b"))["state"] == "ejected")


async def handshakes(rig: Rig, count: int) -> bool:
    return bool((await endpoint(rig, "a"))["handshakes"] == count)


async def counted(rig: Rig, count: float) -> bool:
    return requests_total(await rig.metrics()) == count


def requests_total(text: str) -> float:
    lines = [line for line in text.splitlines() if line.startswith("gateway_requests_total{") and 'status="200"' in line]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


@pytest.mark.hard
async def test_counters_go_on_when_a_worker_is_replaced(rig: Rig) -> None:
    await rig.engine("a")
    rig.model("qwen")
    await rig.start()
    for _ in range(4):
        await rig.chat("qwen", max_tokens=2)
    await eventually(lambda: counted(rig, 4))
    os.kill(rig.pid_of("worker-0"), signal.SIGKILL)
    await eventually(lambda: rig.log().count(" listens") == 2)
    assert (await rig.chat("qwen", max_tokens=2)).status == 200
    await eventually(lambda: counted(rig, 5))


@pytest.mark.hard
async def test_a_worker_that_does_not_answer_is_replaced_and_the_others_change(rig: Rig) -> None:
    await rig.engine("a")
    rig.model("qwen")
    rig.config["workers"] = 2
    await rig.start()
    os.kill(rig.pid_of("worker-1"), signal.SIGSTOP)
    rig.model("other")
    answer = await rig.reload()
    assert answer["ok"]
    for _ in range(10):
        assert (await rig.chat("other", max_tokens=2)).status == 200
    await eventually(lambda: rig.log().count(" listens") == 3)
    revs = {one["name"]: one["rev"] for one in (await rig.admin("GET", "/v1/status"))["processes"]}
    assert revs["worker-0"] == revs["worker-1"] == 2


@pytest.mark.hard
@pytest.mark.timeout(240)
async def test_a_hundred_reloads_under_load_fail_no_request_and_cut_no_stream(rig: Rig) -> None:
    """200 requests a second and 50 streams all the time, 100 reloads: every answer is 200, every stream ends with [DONE]."""
    await rig.engine("a", tps=40, reply_tokens=2000)
    await rig.engine("b")
    rig.model("slow", {"a": 1})
    rig.model("quick", {"b": 1})
    rig.config["workers"] = 2
    await rig.start()
    running = True
    served, streams, wrong = 0, 0, []

    async def streaming() -> None:
        nonlocal streams
        while running:
            answer = await rig.chat("slow", stream=True, max_tokens=100)
            streams += 1
            if answer.status != 200 or not answer.done:
                wrong.append(answer)

    async def one() -> None:
        nonlocal served
        answer = await rig.chat("quick", max_tokens=2)
        served += 1
        if answer.status != 200:
            wrong.append(answer)

    async def steady() -> None:
        begun, number = time.monotonic(), 0
        async with asyncio.TaskGroup() as group:
            while running:
                number += 1
                group.create_task(one())
                await asyncio.sleep(max(0.0, begun + number / 200 - time.monotonic()))

    tasks = [asyncio.create_task(streaming()) for _ in range(50)] + [asyncio.create_task(steady())]
    begun = time.monotonic()
    for number in range(100):
        rig.model(f"model-{number % 7}", {"a": number % 3 + 1, "b": 1})
        rig.config["channels"]["a"]["timeouts"] = {"connect": f"{number % 5 + 1}s"}
        assert (await rig.reload())["ok"]
        await asyncio.sleep(0.2)  # each stream sees a dozen of them
    took = time.monotonic() - begun
    running = False
    await asyncio.gather(*tasks)
    status = await rig.admin("GET", "/v1/status")
    assert not wrong, wrong[:3]
    assert all(one["restarts"] == 0 for one in status["processes"])
    assert status["revision"]["rev"] > 90
    with contextlib.suppress(AssertionError):
        await eventually(lambda: len(rig.records()) >= served + streams)
    assert {record["end"] for record in rig.records()} == {"--"}
    print(f"\n100 reloads in {took:.1f} s under {served / took:.0f} requests a second; {streams} streams, all whole")


EVERYTHING = """
version: 1
node: gw-a
channels:
  a: {engine: vllm, endpoints: ["http://127.0.0.1:9", "http://127.0.0.2:9"], max_in_flight: 5}
  b: {engine: mindie, endpoints: ["http://127.0.0.1:10"]}
models:
  qwen:
    aliases: ["gpt-4o*", latest]
    policy: primary-backup
    targets:
      - {policy: proportional, sticky: key, targets: [{channel: a, weight: 3}, {channel: b}]}
      - {policy: least-busy, targets: [{channel: a, model: x}, {channel: b, model: x}]}
      - {policy: prefix-affinity, targets: [{channel: a, model: y}, {channel: b, model: y}]}
    rules:
      - {name: long, when: {prompt_tokens: {over: 3000}, max_tokens: {over: 5}}, to: {channel: b}}
      - name: head
        when: {headers: {x-a: [one, {prefix: two}], x-b: {prefix: "t-"}, x-c: {match: "^a"}, x-d: [{match: b}, {match: c}]}}
        to: {model: small}
      - name: said
        when: {content: [{words: [refund, cash], match: "[0-9]+"}, {path: metadata.kind, equals: [x]}, {match: "a.c", in: any}]}
        to: {channel: a}
      - {name: hours, when: {during: office, tenant: "re*", has: [tools], api: chat}, to: [{channel: a}, {channel: b}]}
      - {name: trial, when: {share: {percent: 5, by: key}, load: {channel: a, waiting: {over: 5}}}, to: {channel: b}}
    fallback: [small]
    limits: [{count: requests, max: 9, per: minute}]
  small: {targets: [{channel: a}], fallback: [last]}
  last: {targets: [{channel: b}]}
schedules:
  office: {zone: Asia/Shanghai, when: ["Mon-Fri 09:00-18:00"], holidays: [2027-01-01]}
tenants:
  retail:
    hours: [{outside: office, models: ["small"]}]
    budget: {amount: 5, currency: CNY, stop: 100}
    projects: {chatbot: {priority: 7}}
prices: [{model: "*", currency: CNY, input: 2, output: 8}]
keys:
  - hash: "sha256:0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f"
    id: k7f3
    tenant: retail
    project: chatbot
    models: ["*"]
"""


async def test_a_snapshot_goes_with_who_used_it_last_and_waits_for_no_collector(tmp_path: Path) -> None:
    """A worker's collector comes after millions of objects, so each reload of a large configuration would leave megabytes behind."""
    config, keys = resolve(loaded(tmp_path, EVERYTHING))
    shared = Shared(Counter())

    async def some() -> AsyncIterator[list[Key]]:
        yield keys

    gc.collect()
    gc.disable()
    try:
        builder = Builder(1, config, shared)
        snapshot = await builder.build(some())
        snapshot.let_go()
        del builder, snapshot
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left = {type(one).__qualname__ for one in gc.garbage if type(one).__module__.startswith("gateway.")}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert left == set()

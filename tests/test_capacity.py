"""Engine capacity end to end: two workers, engines with few places, callers who wait, are refused, go elsewhere or leave."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.harness import Answer, Rig, eventually, script

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with Rig(tmp_path_factory.mktemp("capacity"), workers=2) as rig:
        rig.config["http"] = {"sse_keepalive": "200ms"}
        await rig.engine("two", model="m", ttft=0.4, channel={"max_in_flight": 2, "queue": {"length": 50, "wait": "10s"}})
        await rig.engine("tight", model="m", ttft=0.4, channel={"max_in_flight": {"endpoint": 1}, "queue": {"length": 1, "wait": "10s"}})
        await rig.engine("spill", model="m")
        await rig.engine("hasty", model="m", ttft=1.0, channel={"max_in_flight": 1, "queue": {"length": 5, "wait": "300ms"}})
        await rig.engine("slow", model="m", ttft=4.0, channel={"max_in_flight": 1, "queue": {"length": 5, "wait": "20s"}})
        for name in ("well", "ill"):
            await rig.engine(name, model="m", ttft=0.3)
        pair = rig.config["channels"]["well"]
        pair["endpoints"] = [rig.engines["well"].url, rig.engines["ill"].url]
        pair |= {"max_in_flight": {"endpoint": 1}, "queue": {"length": 50, "wait": "20s"}, "breaker": {"failures": 1, "cooldown": "60s"}}
        del rig.config["channels"]["ill"]
        rig.model("pair", {"well": 1})
        rig.model("slow", {"slow": 1})
        rig.model("slow-backed", {"slow": 1}, fallback=["elsewhere"])
        rig.model("two", {"two": 1})
        rig.model("tight", {"tight": 1})
        rig.model("hasty", {"hasty": 1})
        rig.config["models"]["over"] = {"policy": "primary-backup", "targets": [{"channel": "tight"}, {"channel": "spill"}]}
        rig.model("backed", {"tight": 1}, fallback=["elsewhere"])
        rig.model("elsewhere", {"spill": 1})
        when = {"load": {"channel": "two", "queue": {"up_to": 0}}}
        rig.model("idles", {"spill": 1}, rules=[{"name": "idle", "when": when, "to": {"channel": "two"}}])
        await rig.start()
        yield rig


@pytest.fixture(autouse=True)
async def calm(rig):
    await eventually(lambda: idle(rig))
    for engine in rig.engines.values():
        engine.requests.clear()


async def idle(rig: Rig) -> bool:
    channels = (await rig.admin("GET", "/v1/channels"))["channels"]
    details = [(await rig.admin("GET", f"/v1/channels/{one['name']}"))["channel"]["capacity"] for one in channels]
    return all(not one or (one["in_flight"] == 0 and one["queued"] == 0) for one in details)


async def test_never_more_than_may_and_all_are_served_in_the_end(rig):
    engine = rig.engines["two"]
    seen: list[int] = []
    done = asyncio.Event()

    async def watch() -> None:
        while not done.is_set():
            seen.append(engine.engine.running)
            await asyncio.sleep(0.01)

    watcher = asyncio.create_task(watch())
    answers = await asyncio.gather(*(rig.chat("two", max_tokens=2) for _ in range(8)))
    done.set()
    await watcher
    assert {answer.status for answer in answers} == {200}
    assert max(seen) == 2
    record = await rig.record(model="two")
    assert any(line.get("ms", {}).get("queue", 0) > 100 for line in rig.records()), record


async def test_a_full_queue_is_told_at_once_with_when_to_come_back(rig):
    first = asyncio.create_task(rig.chat("tight", max_tokens=2))
    await eventually(lambda: rig.engines["tight"].engine.running == 1)
    second = asyncio.create_task(rig.chat("tight", max_tokens=2))
    await eventually(lambda: queued(rig, "tight", 1))
    begun = time.monotonic()
    third = await rig.chat("tight", max_tokens=2)
    took = time.monotonic() - begun
    assert third.status == 503 and third.error is not None and third.error["code"] == "upstream_overloaded"
    assert int(third.headers["retry-after"]) >= 1 and took < 2, "or it would wait for 10 s"
    assert (await first).status == 200 and (await second).status == 200
    record = await rig.record(id=third.headers["x-request-id"])
    assert (record["end"], record["error"]) == ("GQ", "queue_full")


async def queued(rig: Rig, name: str, number: int) -> bool:
    found = (await rig.admin("GET", f"/v1/channels/{name}"))["channel"]["capacity"]
    return bool(found and found["queued"] == number)


async def test_a_plan_that_leads_further_goes_there_instead_of_waiting(rig):
    answers = await asyncio.gather(*(rig.chat("over", max_tokens=2) for _ in range(4)))
    where = Counter(answer.headers["x-gateway-channel"] for answer in answers)
    assert where["tight"] == 1 and where["spill"] == 3


async def test_who_finds_all_well_endpoints_full_waits_for_them_and_does_not_go_to_an_ill_one(rig):
    """Its places are free because it is ill; a request may hang there for a minute."""
    rig.engines["ill"].script = script({"do": "status", "status": 500})
    while not any(request.number for request in rig.engines["ill"].requests):
        assert (await rig.chat("pair", max_tokens=2)).status == 200
    found: list[Any] = []

    async def ejected() -> bool:
        found[:] = (await rig.admin("GET", "/v1/channels/well"))["channel"]["endpoints"]
        return bool(found[1]["state"] == "ejected")

    await eventually(ejected)
    rig.engines["ill"].requests.clear()
    answers = await asyncio.gather(*(rig.chat("pair", max_tokens=2) for _ in range(6)))
    assert {(answer.status, answer.headers["x-gateway-attempts"]) for answer in answers} == {(200, "1")}
    assert not any(request.number for request in rig.engines["ill"].requests)
    rig.engines["well"].script = script({"do": "status", "status": 500})
    assert (await rig.chat("pair", max_tokens=2)).headers["x-gateway-attempts"] == "2", "when nobody else is left"


async def test_a_full_model_falls_back(rig):
    answers = await asyncio.gather(*(rig.chat("backed", max_tokens=2) for _ in range(5)))
    assert {answer.status for answer in answers} == {200}
    where = Counter(answer.headers["x-gateway-channel"] for answer in answers)
    assert where["tight"] == 2 and where["spill"] == 3


async def test_who_waits_too_long_is_told(rig):
    first = asyncio.create_task(rig.chat("hasty", max_tokens=2))
    await eventually(lambda: rig.engines["hasty"].engine.running == 1)
    late = await rig.chat("hasty", max_tokens=2)
    assert late.status == 503 and (await rig.record(id=late.headers["x-request-id"]))["error"] in ("queue_late", "queue_hopeless")
    assert late.error is not None and "too many requests wait" not in late.error["message"] and "free in time" in late.error["message"]
    assert (await first).status == 200


async def test_a_stream_that_waits_is_kept_alive_and_then_served(rig):
    holders = [asyncio.create_task(rig.chat("two", max_tokens=2)) for _ in range(2)]
    await eventually(lambda: rig.engines["two"].engine.running == 2)
    answer = await rig.chat("two", stream=True, max_tokens=2)
    assert answer.done and b": keep-alive" in answer.body
    assert {(await holder).status for holder in holders} == {200}


async def test_a_caller_who_leaves_while_waiting_takes_no_place(rig):
    first = asyncio.create_task(rig.chat("tight", max_tokens=2))
    await eventually(lambda: rig.engines["tight"].engine.running == 1)
    second = asyncio.create_task(rig.chat("tight", max_tokens=2))
    await eventually(lambda: queued(rig, "tight", 1))
    second.cancel()
    await eventually(lambda: queued(rig, "tight", 0))
    assert (await first).status == 200
    record = await rig.record(model="tight", end="CQ")
    assert record["status"] == 499


async def test_who_waits_when_its_engine_is_drained_does_not_go_there(rig):
    first = asyncio.create_task(rig.chat("tight", max_tokens=2))
    await eventually(lambda: rig.engines["tight"].engine.running == 1)
    second = asyncio.create_task(rig.chat("tight", max_tokens=2))
    await eventually(lambda: queued(rig, "tight", 1))
    assert not (await rig.admin("POST", "/v1/channels/tight/drain", {}))["channel"]["deaf"]
    answers = [await second, await first]
    assert (await rig.admin("POST", "/v1/channels/tight/undrain", {}))["channel"]["changed"]
    assert [answer.status for answer in answers] == [503, 200] and answers[0].error["code"] == "upstream_unavailable"
    assert len([request for request in rig.engines["tight"].requests if request.number]) == 1


async def test_who_waits_when_its_engine_is_drained_hears_of_it_at_once(rig):
    """Not when the seat that it waited for comes free: an answer may take minutes."""
    first = asyncio.create_task(rig.chat("slow", max_tokens=2))
    await eventually(lambda: rig.engines["slow"].engine.running == 1)
    waiting = [asyncio.create_task(rig.chat(model, max_tokens=2)) for model in ("slow", "slow-backed")]
    await eventually(lambda: queued(rig, "slow", 2))
    assert not (await rig.admin("POST", "/v1/channels/slow/drain", {}))["channel"]["deaf"]
    refused, served = [await task for task in waiting]
    assert not first.done() and await queued(rig, "slow", 0)
    assert refused.status == 503 and refused.error["code"] == "upstream_unavailable"
    assert served.status == 200 and served.headers["x-gateway-channel"] == "spill"
    assert (await first).status == 200
    assert (await rig.admin("POST", "/v1/channels/slow/undrain", {}))["channel"]["changed"]


async def test_rules_that_look_at_a_queue_are_explained_as_they_decide(rig):
    """`not known` holds in no case: so it has to be known of a queue in which nobody waits, too."""

    async def told() -> dict[str, Any]:
        found: dict[str, Any] = (await rig.admin("POST", "/v1/explain", {"model": "idles"}))["explained"]
        return found

    assert (await told())["rule"] == "idle" and (await goes(rig, "idles")) == "two"
    waiting = [asyncio.create_task(rig.chat("two", max_tokens=2)) for _ in range(10)]

    async def busy() -> bool:
        found = await told()
        return found["rule"] == "" and ", over 0" in found["rules"][0]["why"][0]["told"]

    await eventually(busy)
    await asyncio.gather(*waiting)


async def goes(rig: Rig, model: str) -> str:
    return (await rig.chat(model, max_tokens=2)).headers["x-gateway-channel"]


async def test_a_worker_that_starts_knows_who_waits(rig):
    old = {slot: rig.pid_of(f"worker-{slot}") for slot in (0, 1)}
    for pid in old.values():
        os.kill(pid, signal.SIGKILL)

    async def others_serve() -> bool:
        up = {one["name"]: one for one in (await rig.admin("GET", "/v1/status"))["processes"]}
        return all(up[f"worker-{slot}"]["state"] == "up" and up[f"worker-{slot}"]["pid"] != pid for slot, pid in old.items())

    await eventually(others_serve, within=10)
    assert [await goes(rig, "idles") for _ in range(6)] == ["two"] * 6


@pytest.mark.hard
async def test_seats_of_a_killed_worker_come_free(rig):
    first = asyncio.create_task(rig.chat("tight", max_tokens=2))
    await eventually(lambda: rig.engines["tight"].engine.running == 1)
    for slot in (0, 1):
        os.kill(rig.pid_of(f"worker-{slot}"), signal.SIGKILL)
    with pytest.raises(Exception, match=r"disconnect|reset|closed|Server"):
        await first

    async def served() -> Answer | None:
        try:
            answer = await rig.chat("tight", max_tokens=2)
        except (OSError, aiohttp.ClientError):  # a connection that the dying worker had accepted
            return None
        return answer if answer.status == 200 else None

    await eventually(served, within=5)

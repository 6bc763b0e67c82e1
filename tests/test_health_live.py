"""Health end to end: two real workers of one mind, engines that go, come, stall and are drained, and what survives which death."""

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.discover.look import STATES
from gateway.meter import exposition
from tests.fixtures.cli import actl
from tests.harness import Answer, Rig, eventually, script


@pytest.fixture
async def rig(tmp_path: Path):
    async with Rig(tmp_path, workers=2) as rig:
        yield rig


async def endpoints(rig: Rig) -> dict[str, dict[str, Any]]:
    """By channel, one endpoint each."""
    return {one["channel"]: one for one in (await rig.admin("GET", "/v1/health"))["endpoints"]}


def under(rig: Rig, model: str, policy: str, *channels: str) -> None:
    """A virtual model under a policy that knows no weights."""
    rig.config["models"][model] = {"policy": policy, "targets": [{"channel": name} for name in channels], "retry": {"attempts": 3}}


async def is_in(rig: Rig, channel: str, state: str, within: float = 15.0) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        one = (await endpoints(rig))[channel]
        return one if one["state"] == state else None

    found: dict[str, Any] = await eventually(look, within=within)
    return found


async def of_workers(rig: Rig) -> set[int]:
    """Which slots serve when many callers ask at once, each on a connection of its own."""

    async def one() -> Answer:
        return await rig.chat("qwen", max_tokens=1, headers={"Connection": "close"})

    before = {record["id"] for record in rig.records()}
    answers = await asyncio.gather(*(one() for _ in range(16)))
    assert {answer.status for answer in answers} == {200}
    return {record["slot"] for record in rig.records() if record["id"] not in before}


def sent(rig: Rig, engine: str) -> int:
    """Requests that reached an engine."""
    return sum(1 for request in rig.engines[engine].requests if request.number)


async def both_serve(rig: Rig) -> None:
    async def look() -> bool:
        return await of_workers(rig) == {0, 1}

    await eventually(look)


def test_metrics_name_the_states_that_there_are():
    assert exposition.STATES == STATES


async def test_what_one_worker_meets_all_workers_know_within_a_second(rig: Rig) -> None:
    """Its requests fail while its health looks good: only workers can find that out."""
    await rig.engine("a", channel={"breaker": {"failures": 3, "cooldown": "3s", "slow_start": "0s"}})
    await rig.engine("b")
    rig.model("qwen", retry={"attempts": 3})
    await rig.start()
    await both_serve(rig)
    rig.engines["a"].script = script({"do": "status", "status": 500})
    for _ in range(6):  # over one kept connection, so by one worker
        assert (await rig.chat("qwen", max_tokens=1)).status == 200
    ejected = time.monotonic()
    assert "status_500" in (await is_in(rig, "a", "ejected", within=1.0))["why"]
    before = sent(rig, "a")
    await both_serve(rig)
    assert time.monotonic() - ejected > 2.9 or sent(rig, "a") == before, "no worker sends anything there"
    rig.engines["a"].script = script()

    async def recovered() -> bool:
        await rig.chat("qwen", max_tokens=1)
        return bool((await endpoints(rig))["a"]["state"] == "up")

    await eventually(recovered)
    before = sent(rig, "a")
    await both_serve(rig)
    assert sent(rig, "a") > before + 4, "and all send there again"
    url = rig.engines["a"].url
    assert f'gateway_endpoint_ejections_total{{channel="a",endpoint="{url}",reason="status_500"}} 1.0' in await rig.metrics()


async def test_two_workers_make_one_trial_of_an_ejected_engine(rig: Rig) -> None:
    await rig.engine("a", channel={"breaker": {"failures": 2, "cooldown": "1s", "slow_start": "0s"}})
    await rig.engine("b")
    rig.model("qwen", retry={"attempts": 3})
    await rig.start()
    await both_serve(rig)
    rig.engines["a"].script = script({"do": "status", "status": 500})

    async def is_ejected() -> bool:
        await of_workers(rig)
        return bool((await endpoints(rig))["a"]["state"] == "ejected")

    await eventually(is_ejected)
    begun, before, both = time.monotonic(), sent(rig, "a"), set()
    while time.monotonic() - begun < 2:  # the first trial comes after a second, the next one two seconds later
        both |= await of_workers(rig)
    assert both == {0, 1} and sent(rig, "a") == before + 1


async def test_what_an_engine_asks_of_one_worker_all_workers_heed(rig: Rig) -> None:
    await rig.engine("a")
    await rig.engine("b")
    rig.model("qwen", retry={"attempts": 3})
    await rig.start()
    await both_serve(rig)
    rig.engines["a"].script = script({"do": "status", "status": 503, "headers": {"Retry-After": "30"}})
    before = sent(rig, "a")
    while sent(rig, "a") == before:  # over one kept connection, so by one worker
        assert (await rig.chat("qwen", max_tokens=1)).status == 200
    await is_in(rig, "a", "busy", within=1.0)
    await both_serve(rig)
    assert sent(rig, "a") == before + 1


@pytest.mark.hard
async def test_an_engine_that_refuses_is_ejected_everywhere_and_comes_back_everywhere(rig: Rig) -> None:
    await rig.engine("a", channel={"breaker": {"cooldown": "1s", "slow_start": "0s"}})
    await rig.engine("b")
    rig.model("qwen", retry={"attempts": 3})
    await rig.start()
    await both_serve(rig)
    await rig.engines["a"].down()

    async def bad() -> bool:
        await of_workers(rig)
        return bool((await endpoints(rig))["a"]["state"] in ("ejected", "down"))

    await eventually(bad)
    await rig.engines["a"].up()

    async def good() -> bool:
        await of_workers(rig)
        return bool((await endpoints(rig))["a"]["state"] == "up")

    await eventually(good, within=25.0)
    before = sent(rig, "a")
    await both_serve(rig)
    assert sent(rig, "a") > before + 4


@pytest.mark.hard
async def test_a_worker_that_was_killed_knows_what_the_others_know(rig: Rig) -> None:
    await rig.engine("a", channel={"breaker": {"failures": 2, "cooldown": "60s"}})
    await rig.engine("b")
    rig.model("qwen", retry={"attempts": 3})
    await rig.start()
    rig.engines["a"].script = script({"do": "status", "status": 500})

    async def ejected() -> bool:
        await of_workers(rig)
        return bool((await endpoints(rig))["a"]["state"] == "ejected")

    await eventually(ejected)
    killed = rig.pid_of("worker-0")
    before = sent(rig, "a")
    os.kill(killed, signal.SIGKILL)

    async def both() -> bool:
        with contextlib.suppress(OSError, AssertionError, aiohttp.ClientError):
            return rig.pid_of("worker-0") != killed and await of_workers(rig) == {0, 1}
        return False

    await eventually(both)
    new = [record for record in rig.records() if record["slot"] == 0 and record["attempts"][0]["channel"] == "a"]
    await both_serve(rig)
    assert sent(rig, "a") == before, new


@pytest.mark.hard
async def test_a_drain_survives_everything(rig: Rig) -> None:
    await rig.engine("a", channel={"breaker": {"slow_start": "0s"}})
    await rig.engine("b")
    rig.model("qwen")
    await rig.start()
    await both_serve(rig)
    answer = (await rig.admin("POST", "/v1/channels/a/drain", {}))["channel"]
    assert (answer["deaf"], answer["left"]) == ([], [])
    before = sent(rig, "a")
    await both_serve(rig)
    os.kill(rig.pid_of("control"), signal.SIGKILL)
    await both_serve(rig)

    async def back() -> bool:
        with contextlib.suppress(Exception):
            return bool((await endpoints(rig))["a"]["state"] == "draining")
        return False

    await eventually(back)
    rig.model("other")

    async def reloaded() -> bool:
        return bool((await rig.reload())["ok"])

    await eventually(reloaded)  # as soon as control is done with starting
    await both_serve(rig)
    assert await rig.stop() == 0
    rig.log_path.unlink()
    await rig.start()
    assert (await endpoints(rig))["a"]["why"].startswith("drained by ")
    await both_serve(rig)
    assert sent(rig, "a") == before, "not one request went there"
    assert (await rig.admin("POST", "/v1/channels/a/undrain", {}))["channel"]["changed"]
    await both_serve(rig)
    assert sent(rig, "a") > before
    assert "is drained by" in rig.log() or "no longer drained" in rig.log()


@pytest.mark.hard
async def test_draining_waits_for_what_is_in_flight_and_says_what_is_left(rig: Rig) -> None:
    await rig.engine("a", tps=20)
    rig.model("qwen")
    await rig.start()
    await both_serve(rig)
    async with rig.open_stream("qwen", max_tokens=50, ignore_eos=True) as stream:
        await stream.content.readany()
        began = time.monotonic()
        ran = await actl("channels", "drain", "a", "--wait", "-o", "json", "--config", rig.path)
        assert ran.code == 0 and time.monotonic() - began > 1.5, ran
        assert b"[DONE]" in await stream.content.read(), "it was left in peace"
    lines = ran.out.splitlines()
    assert '"in_flight": 1' in lines[0] and '"in_flight": 0' in lines[-1]
    assert "model qwen has no endpoint left" in ran.err
    refused = await rig.chat("qwen")
    assert refused.status == 503
    found = (await rig.admin("GET", "/v1/channels/a"))["channel"]
    assert found["models"] == ["qwen"] and found["drained"]["by"] and found["endpoints"][0]["context_length"] == 32768
    for path, body, code in (("none/drain", {}, "no_such_thing"), ("a/drain", {"endpoint": "http://x"}, "no_such_thing")):
        assert (await rig.admin("POST", f"/v1/channels/{path}", body))["error"]["code"] == code
    ran = await actl("channels", "undrain", "a", "--config", rig.path)
    assert ran.code == 0 and (await rig.chat("qwen", max_tokens=1)).status == 200


@pytest.mark.hard
async def test_draining_waits_on_when_control_is_started_again(rig: Rig) -> None:
    async def drained() -> Any:
        return (await rig.admin("GET", "/v1/channels/a"))["channel"]["drained"]

    await rig.engine("a", tps=15)
    rig.model("qwen")
    await rig.start()
    await both_serve(rig)
    async with rig.open_stream("qwen", max_tokens=90, ignore_eos=True) as stream:
        await stream.content.readany()
        reading = asyncio.create_task(stream.content.read())
        waiting = asyncio.create_task(actl("channels", "drain", "a", "--wait", "-o", "json", "--config", rig.path))
        await eventually(drained)
        os.kill(rig.pid_of("control"), signal.SIGKILL)
        ran = await waiting
        assert ran.code == 0 and reading.done(), ran


@pytest.mark.hard
async def test_an_engine_that_hangs_is_found_wedged_without_spending_a_token(rig: Rig) -> None:
    await rig.engine("a", channel={"health": {"wedged_after": "5s"}})
    await rig.engine("b")
    under(rig, "qwen", "primary-backup", "a", "b")
    under(rig, "busy", "least-busy", "a", "b")  # so that figures are read often
    await rig.start()
    rig.engines["a"].script = script({"do": "stall", "after": 1})
    async with rig.open_stream("qwen", max_tokens=50) as stream:
        await stream.content.readany()
        found = await is_in(rig, "a", "wedged", within=25.0)
        assert found["running"] == 1 and found["why"] == "requests run in it, and no token came for 5 s"
        before = sent(rig, "a")
        await both_serve(rig)
        assert sent(rig, "a") == before, "nobody is sent there"
        text = await rig.metrics()
        url = rig.engines["a"].url
        assert f'gateway_endpoint_state{{channel="a",endpoint="{url}",state="wedged"}} 1.0' in text
        assert f'gateway_endpoint_wedged_total{{channel="a",endpoint="{url}"}} 1.0' in text
        assert f'gateway_endpoint_running{{channel="a",endpoint="{url}"}} 1.0' in text
        ran = await actl("health", "--config", rig.path)
        assert ran.code == 6 and "wedged" in ran.out
    rig.engines["a"].script = script()
    await is_in(rig, "a", "up")


@pytest.mark.hard
async def test_figures_and_context_lengths_reach_people(rig: Rig) -> None:
    await rig.engine("a", "mindie", max_model_len=2560)
    rig.model("qwen")
    await rig.start()
    rig.engines["a"].health = "busy"
    found = await is_in(rig, "a", "busy", within=25.0)
    assert (found["running"], found["waiting"], found["kv_use"], found["context_length"]) == (0, 0, 0, 2560)
    ran = await actl("channels", "show", "a", "--config", rig.path)
    assert ran.code == 0 and "2560" in ran.out and "busy" in ran.out

"""Limits that last: restarts, kills, control away or gone, reloads, files that are broken."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from gateway.meter.progress import left_open
from tests.harness import Rig, eventually
from tests.test_limits_live import ask, key


async def left(rig: Rig, id: str) -> int:
    """Requests that a key has left, as an answer says (which uses one)."""
    answer = await ask(rig, id)
    return int(answer.headers["x-ratelimit-remaining-requests"])


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[Rig]:
    async with Rig(tmp_path, workers=2) as rig:
        await rig.engine("a", model="m")
        await rig.engine("slow", model="m", ttft=1.5)
        rig.model("m", {"a": 1})
        rig.model("slow", {"slow": 1})
        key(rig, "day", {"count": "requests", "max": 10, "per": "day"}, {"count": "total_tokens", "max": 10_000, "per": "hour"})
        key(rig, "flight", {"count": "concurrency", "max": 3})
        yield rig


async def tokens_left(rig: Rig, id: str) -> int:
    return int((await ask(rig, id)).headers["x-ratelimit-remaining-tokens"])


@pytest.mark.hard
@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL])
async def test_counters_survive_a_restart_and_a_kill(small, sig):
    await small.start()
    for _ in range(4):
        assert (await ask(small, "day")).status == 200
    last = await ask(small, "day")
    used = sum(r["tokens"]["in"] + r["tokens"]["out"] for r in small.records() if r.get("key") == "day" and r["status"] == 200)
    assert last.headers["x-ratelimit-remaining-requests"] == "5"
    await end(small, sig)
    small.log_path.unlink()
    await small.start()
    again = await ask(small, "day")
    assert again.headers["x-ratelimit-remaining-requests"] == "4"
    assert abs(10_000 - used - int(again.headers["x-ratelimit-remaining-tokens"])) < 100, "the next request's own reservation"
    assert [(await ask(small, "day")).status for _ in range(5)] == [200] * 4 + [429]


async def end(rig: Rig, sig: int) -> None:
    """SIGKILL takes all processes at once, so that nothing can be put in order."""
    assert rig.process is not None
    if sig == signal.SIGTERM:
        await rig.stop()
        return
    pids = [rig.process.pid, *(child["pid"] for child in rig._children(rig.process.pid))]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    rig.process.wait()
    rig.process = None
    await eventually(lambda: not any(Path(f"/proc/{pid}").exists() and "Z" not in state(pid) for pid in pids))


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "Z"


@pytest.mark.hard
async def test_what_was_counted_goes_on_when_control_is_killed_in_the_middle(small):
    small.config["workers"] = 1
    await small.start()
    open_one = asyncio.create_task(ask(small, "flight", "slow", max_tokens=3))
    await eventually(lambda: small.engines["slow"].engine.running == 1)
    for _ in range(3):
        assert (await ask(small, "day")).status == 200
    control = small.pid_of("control")
    os.kill(control, signal.SIGKILL)
    await eventually(lambda: back(small, control))
    await eventually(lambda: counted(small, "day", 3))
    assert await left(small, "day") == 6
    statuses = Counter(a.status for a in await asyncio.gather(*(ask(small, "flight", "slow", max_tokens=3) for _ in range(5))))
    finished = await open_one
    assert finished.status == 200 and statuses[200] in (2, 3)


def back(rig: Rig, before: int) -> bool:
    try:
        return rig.pid_of("control") != before
    except AssertionError:
        return False


async def counted(rig: Rig, id: str, used: int) -> bool:
    """Whether control counts so many requests of a key."""
    try:
        found = (await rig.admin("GET", f"/v1/limits/counters?key={id}"))["counters"]
    except (OSError, aiohttp.ClientError):
        return False
    return any(one["count"] == "requests" and one["used"] == used for one in found)


async def without_control(rig: Rig) -> int:
    """Stops control: it is there and does not answer."""
    control = rig.pid_of("control")
    os.kill(control, signal.SIGSTOP)
    return control


async def test_local_each_worker_goes_on_with_its_share_and_tells_control_afterwards(small):
    await small.start()
    assert (await ask(small, "day")).status == 200
    control = await without_control(small)
    try:
        answers = [await ask(small, "day") for _ in range(12)]
    finally:
        os.kill(control, signal.SIGCONT)
    passed = sum(answer.status == 200 for answer in answers)
    assert 4 <= passed <= 9, "each has 5, one of them less what it had served already"
    done = [record for record in small.records() if record["kind"] == "done" and record.get("key") == "day" and record["status"] == 200]
    assert len(done) == 1 + passed and all(record.get("reserved") for record in done), "a control that begins anew counts by them"
    await eventually(lambda: counted(small, "day", 1 + passed))


async def test_refuse_what_is_limited_is_refused_while_nobody_counts(small):
    small.config["referee"] = {"on_loss": "refuse"}
    small.config["schedules"] = {"once": {"when": "2020-01-01"}}
    small.config["prices"] = [{"model": "*", "currency": "CNY", "input": "1", "output": "1"}]
    small.config["models"]["slow"]["budget"] = {"amount": "1", "currency": "CNY", "warn": [80]}
    key(small, "shadow", {"count": "requests", "max": 1, "per": "hour", "shadow": True})
    key(small, "later", {"count": "requests", "max": 0, "per": "hour", "during": "once"})
    await small.start()
    assert (await ask(small, "day")).status == 200
    control = await without_control(small)
    try:
        no = await ask(small, "day")
        assert no.status == 503 and no.error is not None and no.error["code"] == "limits_unavailable"
        assert no.headers["retry-after"] == "1"
        assert (await small.chat("m", max_tokens=2)).status == 200, "what is not limited is served"
        assert (await small.chat("slow", max_tokens=2)).status == 200, "so it is where a budget only warns"
        assert [(await ask(small, id)).status for id in ("shadow", "shadow", "later")] == [200] * 3, "what may not refuse does not"
    finally:
        os.kill(control, signal.SIGCONT)
    await eventually(lambda: served(small))


async def served(rig: Rig) -> bool:
    return (await ask(rig, "day")).status == 200


async def test_a_maximum_changes_while_it_counts_and_a_limit_comes_and_goes(small):
    await small.start()
    assert await left(small, "day") == 9
    limits = small.config["keys"][1]["limits"]
    limits[0]["max"] = 5
    assert (await small.reload())["ok"]
    assert await left(small, "day") == 3
    limits.append({"count": "requests", "max": 1, "per": "month", "name": "new"})
    assert (await small.reload())["ok"]
    assert [(await ask(small, "day")).status for _ in range(2)] == [200, 429]
    limits.pop()
    assert (await small.reload())["ok"]
    assert await left(small, "day") == 1
    del small.config["keys"][1]["limits"]
    assert (await small.reload())["ok"]
    assert "x-ratelimit-limit-requests" not in (await ask(small, "day")).headers


@pytest.mark.hard
async def test_a_file_that_cannot_be_read_is_put_aside_and_made_anew_from_the_journal(small):
    await small.start()
    for _ in range(3):
        await ask(small, "day")
    folder = small.data_dir / "limits"
    files = await eventually(lambda: list(folder.glob("[0-9]*.json")))
    await small.stop()
    for file in files:
        file.write_bytes(b"{ torn")
    small.log_path.unlink()
    await small.start()
    assert "cannot be read" in small.log() and list(folder.glob("*.bad"))
    assert await left(small, "day") == 6


async def test_whose_caller_leaves_uses_what_was_used_and_no_more(small):
    await small.start()
    task = asyncio.create_task(ask(small, "flight", "slow", max_tokens=3))
    await eventually(lambda: small.engines["slow"].engine.running == 1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await small.record(key="flight", status=499)

    async def all_free() -> bool:
        return Counter(a.status for a in await asyncio.gather(*(ask(small, "flight") for _ in range(3))))[200] == 3

    await eventually(all_free)


@pytest.mark.hard
async def test_what_a_killed_worker_had_begun_stays_counted_and_its_tokens_follow(small):
    """The request was made; how much it used is known when its record is closed. A restart counts the same."""
    small.config["workers"] = 1
    await small.engine("long", model="m", ttft=0.01, tps=20)
    small.model("long", {"long": 1})
    await small.start()
    task = asyncio.create_task(ask(small, "day", "long", max_tokens=400, stream=True))
    tables = small.data_dir / "journal"
    await eventually(lambda: any(usage for table in tables.glob("*.progress") for _, usage in left_open(table)))
    os.kill(small.pid_of("worker-0"), signal.SIGKILL)
    await asyncio.gather(task, return_exceptions=True)
    record = await small.record(key="day", end="KD")
    used = record.get("tokens", {}).get("in", 0) + record.get("tokens", {}).get("out", 0)
    assert used > 0

    async def figures() -> dict[str, int]:
        found = (await small.admin("GET", "/v1/limits/counters?key=day"))["counters"]
        return {one["count"]: one["used"] for one in found}

    async def told() -> bool:
        return await figures() == {"requests": 1, "total_tokens": used}

    await eventually(told)
    await small.stop()
    small.log_path.unlink()
    await small.start()
    assert await figures() == {"requests": 1, "total_tokens": used}


async def test_what_is_used_and_refused_is_shown_and_measured(small):
    small.config["keys"][1]["limits"].append({"count": "requests", "max": 1, "per": "hour", "name": "trial", "shadow": True})
    await small.start()
    for _ in range(11):
        await ask(small, "day")
    counters = (await small.admin("GET", "/v1/limits/counters?key=day&model=m"))["counters"]
    by = {one["name"] or one["count"]: one for one in counters}
    assert (by["requests"]["used"], by["requests"]["left"], by["requests"]["refused"]) == (10, 0, 1)
    assert by["requests"]["top"] == [{"key": "day", "used": 10}] and counters[0]["left"] == 0
    assert 0 < by["requests"]["frees"] <= 86_400
    assert (by["trial"]["used"], by["trial"]["shadow_refused"], by["trial"]["refused"]) == (1, 9, 0)
    text = await small.metrics()
    assert 'gateway_limit_refused_total{count="requests",scope="key"} 1.0' in text
    assert 'gateway_limit_shadow_refused_total{count="requests",scope="key"} 9.0' in text
    assert (await small.admin("GET", "/v1/limits/counters?key=nobody"))["error"]["code"] == "no_such_thing"
    assert (await small.admin("GET", "/v1/limits/counters?tenant=acme"))["counters"]
    for unknown in ("tenant=x", "model=x"):
        assert (await small.admin("GET", f"/v1/limits/counters?{unknown}"))["error"]["code"] == "no_such_thing"
    configured = (await small.admin("GET", "/v1/limits"))["limits"]
    assert [one["count"] for one in configured] == ["requests", "total_tokens", "requests", "concurrency"]


async def test_who_leaves_before_the_answer_has_used_what_was_reserved(small):
    """Nobody knows how far the engine came: of a whole answer all of it counts, of a stream that has not begun the prompt. So it does after
    a restart that knows nothing but the journal."""
    small.config["workers"] = 1
    key(small, "leaver", {"count": "input_tokens", "max": 10_000, "per": "day"}, {"count": "output_tokens", "max": 10_000, "per": "day"})
    await small.start()

    async def leave(stream: bool) -> dict[str, int]:
        task = asyncio.create_task(ask(small, "leaver", "slow", max_tokens=700, stream=stream))
        await eventually(lambda: small.engines["slow"].engine.running == 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        record = await small.record(key="leaver", status=499, **({"stream": True} if stream else {}))
        assert (record["end"], record["source"], record.get("tokens", {})) == ("CW", "none", {})
        await eventually(lambda: small.engines["slow"].engine.running == 0)
        reserved: dict[str, int] = record["reserved"]
        return reserved

    whole = await leave(stream=False)
    assert whole["in"] > 0 and whole["out"] == 700
    begun = await leave(stream=True)
    expected = {"input_tokens": whole["in"] + begun["in"], "output_tokens": 700}

    async def figures() -> dict[str, int]:
        found = (await small.admin("GET", "/v1/limits/counters?key=leaver"))["counters"]
        return {one["count"]: one["used"] for one in found}

    async def told() -> bool:
        return await figures() == expected

    await eventually(told)
    await end(small, signal.SIGKILL)
    for file in (small.data_dir / "limits").glob("*.json"):
        file.write_text("broken")
    small.log_path.unlink()
    await small.start()
    assert await figures() == expected

"""Limits end to end: two real workers, callers who race, kills, restarts, control away; what callers and records see."""

import asyncio
import hashlib
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio

from gateway.meter.progress import left_open
from tests.harness import Answer, Rig, eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


def secret(id: str) -> str:
    return f"sk-{id}-0123456789abcdef0123456789abcdef"


def key(rig: Rig, id: str, *limits: dict[str, Any], project: str = "bot") -> None:
    """A key of its own for each test: they share no counter."""
    hashed = "sha256:" + hashlib.sha256(secret(id).encode()).hexdigest()
    rig.config["keys"].append({"id": id, "hash": hashed, "tenant": "acme", "project": project, "models": ["*"], "limits": list(limits)})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with Rig(tmp_path_factory.mktemp("limits"), workers=2) as rig:
        await rig.engine("a", model="m")
        await rig.engine("slow", model="m", ttft=0.5)
        rig.model("m", {"a": 1})
        rig.model("slow", {"slow": 1})
        rig.model("other", {"a": 1})
        key(rig, "requests", {"count": "requests", "max": 20, "per": "minute"})
        key(rig, "many", {"count": "requests", "max": 600, "per": "hour"}, {"count": "total_tokens", "max": 10**9, "per": "day"})
        key(rig, "input", {"count": "input_tokens", "max": 1000, "per": "hour"})
        key(rig, "output", {"count": "output_tokens", "max": 100, "per": "hour"})
        key(rig, "prompts", {"count": "output_tokens", "max": 100, "per": "hour"})
        key(rig, "total", {"count": "total_tokens", "max": 400, "per": "day", "zone": "Asia/Shanghai"})
        key(rig, "flight", {"count": "concurrency", "max": 7})
        key(rig, "one", {"count": "concurrency", "max": 1})
        key(rig, "head", {"count": "requests", "max": 5, "per": "minute"}, {"count": "total_tokens", "max": 5000, "per": "hour"})
        key(rig, "client", {"count": "requests", "max": 2, "per": "second"})
        key(rig, "quota", {"count": "requests", "max": 1, "per": "day"})
        key(rig, "shadow", {"count": "requests", "max": 1, "per": "day", "shadow": True})
        key(rig, "address", {"count": "requests", "max": 1, "per": "hour", "each": "address"})
        key(rig, "model", {"count": "requests", "max": 1, "per": "hour", "each": "model"})
        key(rig, "some", {"count": "requests", "max": 1, "per": "hour", "models": ["oth*"]})
        rig.config["tenants"]["acme"]["projects"]["small"] = {"limits": [{"name": "tiny", "count": "requests", "max": 2, "per": "hour"}]}
        key(rig, "p1", project="small")
        key(rig, "p2", project="small")
        await rig.start()
        yield rig


async def ask(rig: Rig, id: str, model: str = "m", **more: Any) -> Answer:
    return await rig.chat(model, key=secret(id), **{"max_tokens": 2, **more})


async def race(rig: Rig, id: str, callers: int = 200, **more: Any) -> Counter[int]:
    answers = await asyncio.gather(*(ask(rig, id, **more) for _ in range(callers)))
    return Counter(answer.status for answer in answers)


# -- exactly n -------------------------------------------------------------------------------------------------------------


async def test_of_200_racing_callers_exactly_n_requests_pass(rig):
    assert await race(rig, "requests") == {200: 20, 429: 180}


async def test_of_a_flood_exactly_n_requests_pass_though_workers_are_lent_some(rig):
    found: Counter[int] = Counter()
    for _ in range(5):
        found += await race(rig, "many")
    assert found == {200: 600, 429: 400}


async def test_of_200_racing_callers_exactly_so_many_are_in_flight(rig):
    assert await race(rig, "flight", model="slow") == {200: 7, 429: 193}
    assert (await ask(rig, "flight")).status == 200, "and all places are free again"


async def test_output_tokens_are_reserved_and_what_was_not_used_comes_back(rig):
    """50 reserved each: two at a time. What two answers used is less, so that more pass afterwards."""
    assert (await race(rig, "output", callers=50, max_tokens=50, model="slow"))[200] == 2
    used = sum(r["tokens"]["out"] for r in rig.records() if r.get("key") == "output" and r["status"] == 200)
    answer = await ask(rig, "output", max_tokens=1)
    assert answer.status == 200
    assert int(answer.headers["x-ratelimit-remaining-tokens"]) == 100 - used - 1


async def test_the_answers_of_all_prompts_are_reserved_and_quotes_hide_nothing(rig):
    """100 an hour: what asks for more is refused for good, whichever way it is written."""
    for more in (
        {"prompt": ["a", "b", "c"], "max_tokens": 40},
        {"prompt": "a", "max_tokens": "120"},
        {"prompt": [[1], [2]], "max_tokens": 6e1},
    ):
        no = await rig.post("/v1/completions", {"model": "m", **more}, key=secret("prompts"))
        assert no.status == 429 and no.headers["x-should-retry"] == "false" and no.error is not None
        assert "this request may use 120" in no.error["message"]
    good = await rig.post("/v1/completions", {"model": "m", "prompt": ["a", "b", "c"], "max_tokens": 4}, key=secret("prompts"))
    assert good.status == 200
    record = await rig.record(id=good.headers["x-request-id"])
    assert record["reserved"]["out"] == 12 == record["tokens"]["out"]


async def test_input_and_total_tokens_end_where_the_limit_is(rig):
    for id, most in (("input", 1000), ("total", 400)):
        statuses = await race(rig, id, callers=60, text="abcdefgh " * 50)
        assert statuses[200] and statuses[429] and set(statuses) == {200, 429}
        used = sum(
            r["tokens"]["in"] + (r["tokens"]["out"] if id == "total" else 0)
            for r in rig.records()
            if r.get("key") == id and r["status"] == 200
        )
        assert 0 < used <= most


# -- what callers see ------------------------------------------------------------------------------------------------------


async def test_every_answer_of_a_limited_key_says_what_is_left(rig):
    for left in range(4, -1, -1):
        answer = await ask(rig, "head", stream=left % 2 == 0)
        assert answer.status == 200
        headers = answer.headers
        assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == ("5", str(left))
        assert headers["x-ratelimit-reset-requests"] in ("1m0s", "1m1s")
        assert headers["x-ratelimit-limit-tokens"] == "5000" and 4000 < int(headers["x-ratelimit-remaining-tokens"]) < 5000
    no = await ask(rig, "head")
    assert no.status == 429 and no.error is not None and no.headers["x-ratelimit-remaining-requests"] == "0"
    assert no.error["code"] == "rate_limit_exceeded" and no.error["type"] == "rate_limit_error"
    assert "your API key" in no.error["message"] and "5 requests per minute" in no.error["message"]
    assert 55 <= int(no.headers["retry-after"]) <= 61 and 54_000 < int(no.headers["retry-after-ms"]) <= 61_000
    record = await rig.record(id=no.headers["x-request-id"])
    assert (record["end"], record["error"], record.get("reserved")) == ("GL", "limit_key_requests", None)
    good = await rig.record(key="head", status=200)
    assert good["reserved"] == {"in": good["reserved"]["in"], "out": 2}


async def test_who_is_not_limited_hears_nothing_of_it(rig):
    answer = await rig.chat("m", max_tokens=2)
    assert answer.status == 200 and not [name for name in answer.headers if name.startswith("x-ratelimit")]
    assert "reserved" not in await rig.record(id=answer.headers["x-request-id"])


async def test_an_openai_client_gets_its_own_error_and_comes_back_when_it_is_told(rig):
    async with openai.AsyncOpenAI(base_url=rig.url + "/v1", api_key=secret("client"), max_retries=0) as client:
        message: Any = [{"role": "user", "content": "hi"}]

        async def call(patient: openai.AsyncOpenAI) -> Any:
            return await patient.chat.completions.create(model="m", messages=message, max_tokens=2)

        await call(client)
        await call(client)
        with pytest.raises(openai.RateLimitError) as caught:
            await call(client)
        assert caught.value.code == "rate_limit_exceeded"
        wait = float(caught.value.response.headers["retry-after-ms"]) / 1000
        begun = time.monotonic()
        await call(client.with_options(max_retries=1))  # one retry is enough only when it comes late enough
        assert time.monotonic() - begun >= wait * 0.9


async def test_a_budget_of_a_day_is_a_quota_and_clients_do_not_come_back_at_once(rig):
    assert (await ask(rig, "quota")).status == 200
    async with openai.AsyncOpenAI(base_url=rig.url + "/v1", api_key=secret("quota"), max_retries=5) as client:
        before = len(rig.records())
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
    assert caught.value.code == "insufficient_quota" and caught.value.response.headers["x-should-retry"] == "false"
    await rig.record(key="quota", status=429)
    assert len(rig.records()) == before + 1


async def test_what_can_never_be_served_is_said_with_both_numbers(rig):
    no = await ask(rig, "output", max_tokens=101)
    assert no.status == 429 and no.error is not None and "retry-after" not in no.headers
    assert no.headers["x-should-retry"] == "false" and "101 output tokens" in no.error["message"] and "100 output" in no.error["message"]


# -- which limits apply ----------------------------------------------------------------------------------------------------


async def test_a_shadow_refuses_nobody(rig):
    assert await race(rig, "shadow", callers=5) == {200: 5}


async def test_a_limit_of_a_project_is_shared_by_its_keys(rig):
    assert [(await ask(rig, id)).status for id in ("p1", "p2")] == [200, 200]
    no = await ask(rig, "p1")
    assert no.status == 429 and no.error is not None and "your project `small` (limit `tiny`)" in no.error["message"]


async def test_one_counter_for_each_model_or_address(rig):
    assert [(await ask(rig, "model", model)).status for model in ("m", "other", "m", "other")] == [200, 200, 429, 429]
    assert [(await ask(rig, "address")).status for _ in range(2)] == [200, 429]
    assert [(await ask(rig, "some", model)).status for model in ("m", "other", "m", "other")] == [200, 200, 200, 429]


# -- what ends badly -------------------------------------------------------------------------------------------------------


@pytest.mark.hard
async def test_what_a_killed_worker_held_is_free_at_once(rig):
    """The only place is taken by a stream of one worker; the other worker's caller has it right after the kill."""
    first = asyncio.create_task(ask(rig, "one", "slow", max_tokens=1000))
    await eventually(lambda: rig.engines["slow"].engine.running == 1)
    assert (await ask(rig, "one")).status == 429

    async def workers() -> list[Any]:
        return [one for one in (await rig.admin("GET", "/v1/status"))["processes"] if one["name"].startswith("worker")]

    before = {one["pid"] for one in await workers()}
    holder = await eventually(lambda: holding(rig))
    os.kill(holder, signal.SIGKILL)
    killed = time.monotonic()
    while (await tried(rig, "one")) != 200:
        assert time.monotonic() - killed < 2.0
    with pytest.raises(Exception):  # noqa: B017 - its connection broke
        await first
    await eventually(lambda: other(workers, before))


async def other(workers: Any, before: set[int]) -> bool:
    now = await workers()
    return {one["pid"] for one in now} != before and all(one["state"] == "up" for one in now)


async def tried(rig: Rig, id: str) -> int:
    try:
        return (await ask(rig, id, max_tokens=1)).status
    except Exception:  # its connection was to the worker that is gone
        return 0


def holding(rig: Rig) -> int:
    """The worker that has a request open, by its progress table."""
    for table in rig.data_dir.glob("journal/*.progress"):
        if left_open(table):
            return rig.pid_of(f"worker-{table.name.split('-')[0]}")
    return 0

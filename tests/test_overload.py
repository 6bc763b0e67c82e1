"""Five times more than the engines can: their capacity stays busy, who is refused knows at once, small tenants get their share."""

import asyncio
import hashlib
import time
from collections import Counter

import pytest

from tests.harness import Answer, Rig, eventually

SEATS = 6
HOLD = 0.2
"""Seconds that the engine needs for an answer: 30 a second at most."""
KEYS = {tenant: f"sk-{tenant}-0123456789abcdef0123456789abcdef" for tenant in ("loud", "one", "two")}


def furnish(rig: Rig) -> None:
    rig.config["workers"] = 2
    rig.config["tenants"] = {tenant: {"projects": {"bot": {}}} for tenant in KEYS}
    rig.config["keys"] = [
        {
            "id": tenant,
            "hash": "sha256:" + hashlib.sha256(key.encode()).hexdigest(),
            "tenant": tenant,
            "project": "bot",
            "models": ["*"],
        }
        for tenant, key in KEYS.items()
    ]


async def capacity_of(rig: Rig, seconds: float) -> float:
    """Answers per second when as many callers as there are seats ask one after the other."""
    end = time.monotonic() + seconds

    async def caller() -> int:
        count = 0
        while time.monotonic() < end:
            assert (await rig.chat("qwen", key=KEYS["one"], max_tokens=1)).status == 200
            count += 1
        return count

    begun = time.monotonic()
    counts = await asyncio.gather(*(caller() for _ in range(SEATS)))
    return sum(counts) / (time.monotonic() - begun)


@pytest.mark.hard
async def test_overload(rig: Rig) -> None:
    engine = await rig.engine("a", ttft=HOLD, channel={"max_in_flight": SEATS, "queue": {"length": 20, "wait": "10s"}})
    furnish(rig)
    rig.model("qwen")
    await rig.start()
    capacity = await capacity_of(rig, 2.0)

    answers: list[tuple[str, Answer]] = []
    ended: list[float] = []
    most = 0

    async def call(tenant: str) -> None:
        nonlocal most
        answer = await rig.chat("qwen", key=KEYS[tenant], max_tokens=1)
        answers.append((tenant, answer))
        if answer.status == 200:
            ended.append(time.monotonic())
        most = max(most, engine.engine.running)

    seconds, tick = 4.0, 0.02
    calls: set[asyncio.Task[None]] = set()
    begun = time.monotonic()
    for number in range(int(seconds / tick)):
        calls |= {asyncio.create_task(call("loud")) for _ in range(3)}  # 150 a second
        if number % 33 == 0:  # a hundredth of it each
            calls |= {asyncio.create_task(call(tenant)) for tenant in ("one", "two")}
        await asyncio.sleep(max(0.0, begun + (number + 1) * tick - time.monotonic()))
    until = time.monotonic()
    await asyncio.gather(*calls)

    assert most <= SEATS
    statuses = Counter((tenant, answer.status) for tenant, answer in answers)
    assert {status for _, status in statuses} == {200, 503}
    assert {tenant for tenant, status in statuses if status == 503} == {"loud"}, statuses
    good = sum(begun + 0.5 < end < until for end in ended) / (until - begun - 0.5)
    assert good > 0.9 * capacity, (good, capacity)

    refused = [answer for _, answer in answers if answer.status == 503]
    assert {(answer.error or {})["code"] for answer in refused} == {"upstream_overloaded"}
    assert all(1 <= int(answer.headers["retry-after"]) <= 60 for answer in refused)
    await eventually(lambda: len([r for r in rig.records() if r["status"] == 503]) == len(refused))
    took = sorted(record["ms"]["total"] for record in rig.records() if record["status"] == 503)
    assert took[int(len(took) * 0.95)] < 50.0, took[-20:]
    small = [
        record["ms"]["total"] for record in rig.records() if record["tenant"] != "loud" and record["ts"] > rig.records()[-1]["ts"] - 3.0
    ]
    assert small and max(small) < 2_000

"""A worker is killed while another engine goes on with an answer: nothing hangs, everything it held comes free, one record closes it."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.meter.progress import left_open
from tests.harness import KEY, Rig, eventually, script

TEXT = "one two three four five six seven eight nine ten eleven twelve"
MORE: dict[str, Any] = {"max_tokens": 40}


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with Rig(tmp_path, workers=2) as rig:
        for name in ("dies", "goes-on"):
            patient = {"breaker": {"failures": 1000, "share": 100}, "max_in_flight": 1}
            await rig.engine(name, reply_tokens=20, channel=patient)
        rig.model("m", {"dies": 1, "goes-on": 0}, continuation="same-model")
        rig.config["keys"][0]["limits"] = [{"count": "concurrency", "max": 1}, {"count": "output_tokens", "max": 1000, "per": "day"}]
        await rig.start()
        yield rig


def holding(rig: Rig) -> int:
    """The worker that has a request open, by its progress table."""
    for table in rig.data_dir.glob("journal/*.progress"):
        if left_open(table):
            return rig.pid_of(f"worker-{table.name.split('-')[0]}")
    return 0


async def test_a_worker_is_killed_in_the_middle_of_a_continuation(rig: Rig) -> None:
    rig.engines["dies"].script = script({"on": 1, "do": "cut", "after": 7})
    rig.engines["goes-on"].script = script({"on": 1, "do": "stall", "at": "mid_stream", "after": 4})
    got = b""
    with pytest.raises(aiohttp.ClientError):
        async with rig.open_stream("m", TEXT, **MORE) as answer:
            id = answer.headers["x-request-id"]
            while b"nine" not in got:  # the third word of the second engine
                got += await answer.content.readany()
            os.kill(await eventually(lambda: holding(rig)), signal.SIGKILL)
            while piece := await answer.content.readany():
                got += piece
    assert b"[DONE]" not in got and got.count(b"nine") == 1

    record = await rig.record(id=id)
    assert (record["end"], record["error"], record["source"]) == ("KD", "worker_killed", "continuous")
    assert record["tokens"]["out"] == 9, "six of the first engine, three of the second"
    assert [line["kind"] for line in rig.journal_lines() if line["id"] == id].count("done") == 1
    await eventually(lambda: not rig.engines["goes-on"].engine.running, within=2.0)

    answers = [await rig.chat("m", TEXT, stream=True, key=KEY, **MORE) for _ in range(4)]  # one at a time: seats and limits are free
    assert [(one.status, one.done) for one in answers] == [(200, True)] * 4
    spent = sum(line["tokens"]["out"] for line in rig.records())

    async def counted() -> bool:
        found = (await rig.admin("GET", "/v1/limits/counters?key=k1"))["counters"]
        return {one["count"]: one["used"] for one in found} == {"concurrency": 0, "output_tokens": spent}

    await eventually(counted)

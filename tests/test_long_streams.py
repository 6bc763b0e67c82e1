"""What a stream keeps while it runs: nothing of what was asked, once no engine can be asked again."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from tests.harness import Rig, eventually

LARGE = "x" * 700_000
"""Not two of these fit into the worker's memory for bodies."""

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with Rig(tmp_path_factory.mktemp("long")) as rig:
        await rig.engine("slow", "vllm", tps=30, reply_tokens=90)
        await rig.engine("silent", "vllm", tps=30, reply_tokens=90, channel={"usage": "count"})
        await rig.engine("late", "vllm", ttft=1)
        rig.model("plain", {"slow": 1})
        rig.model("lasting", {"slow": 1}, continuation="same-model")
        rig.model("counted", {"silent": 1})
        rig.model("late", {"late": 1})
        rig.config["http"] = {"body": "1MiB", "body_memory": "1MiB"}
        await rig.start()
        yield rig


async def begun(answer: aiohttp.ClientResponse, tokens: int = 1) -> None:
    assert answer.status == 200, await answer.text()
    while tokens:
        tokens -= b'"content":"' in await answer.content.readline()


async def test_a_body_takes_no_memory_soon_after_its_stream_has_begun(rig):
    async with rig.open_stream("plain", user=LARGE) as one:
        await begun(one)

        async def accepted() -> bool:
            return bool((await rig.chat("plain", user=LARGE, max_tokens=1, stream=True)).done)

        await eventually(accepted, every=0.1)
        assert not one.content.at_eof()
        assert b"[DONE]" in await one.read()
    record = await rig.record(model="plain")
    assert record["bytes"]["in"] > len(LARGE)


@pytest.mark.parametrize("model", ["lasting", "counted"])
async def test_a_body_that_may_be_needed_again_keeps_its_place(rig, model):
    """To ask another engine for the rest of the answer, or to count the prompt of an engine that does not tell."""
    async with rig.open_stream(model, user=LARGE) as one:
        await begun(one, 45)  # more than a second, after which a place may be given away
        refused = await rig.chat(model, user=LARGE, stream=True)
        assert refused.status == 503 and refused.json["error"]["code"] == "overloaded"
        assert (await rig.chat(model, stream=True, max_tokens=1)).done
        assert b"[DONE]" in await one.read()
    assert (await rig.chat(model, user=LARGE, stream=True, max_tokens=1)).done


async def test_a_body_keeps_its_place_until_an_answer_begins(rig):
    waiting = asyncio.create_task(rig.chat("late", user=LARGE, stream=True))
    await eventually(lambda: any(request.path == "/v1/chat/completions" for request in rig.engines["late"].requests))
    refused = await rig.chat("plain", user=LARGE, stream=True)
    assert refused.status == 503 and not waiting.done()
    assert (await waiting).done


async def test_the_place_of_a_stream_that_was_left_is_free_again(rig):
    async with rig.open_stream("lasting", user=LARGE) as one:
        await begun(one)
    assert (await rig.record(model="lasting", status=499))["end"]
    assert (await rig.chat("lasting", user=LARGE, stream=True, max_tokens=1)).done

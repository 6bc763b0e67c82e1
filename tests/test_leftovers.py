"""Nothing of a request stays behind in a worker until Python's collector comes, which is after fifty thousand objects."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.harness import KEY, Rig, eventually, free_port, script

pytestmark = pytest.mark.asyncio(loop_scope="module")

MANY = 12
Do = Callable[[Rig], Awaitable[Any]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with Rig(tmp_path_factory.mktemp("leftovers")) as rig:
        await rig.engine("a", "vllm")
        await rig.engine("b", "vllm")
        rig.model("alone", {"a": 1})
        rig.model("qwen", {"a": 1, "b": 0})
        rig.model("going-on", {"a": 1, "b": 0}, continuation="same-model")
        rig.config["channels"]["dead"] = {**rig.config["channels"]["b"], "endpoints": [f"http://127.0.0.1:{free_port()}"]}
        rig.model("nobody", {"dead": 1})
        rig.config["keys"][0]["limits"] = [{"count": "requests", "max": 100_000, "per": "minute"}]
        census = Path(__file__).parent / "fixtures" / "census"
        path = os.pathsep.join(filter(None, (str(census), os.environ.get("PYTHONPATH"))))
        await rig.start(env={"PYTHONPATH": path, "CENSUS": str(rig.tmp / "census")})
        yield rig


async def counted(rig: Rig) -> dict[str, int]:
    """The gateway's objects in the worker, by type, when all requests are over."""
    path = rig.tmp / "census"
    path.unlink(missing_ok=True)
    os.kill(rig.pid_of("worker-0"), signal.SIGUSR2)
    await eventually(path.exists)
    found: dict[str, int] = json.loads(path.read_text())
    return found


def fault(rig: Rig, **rule: Any) -> None:
    for engine in rig.engines.values():
        engine.script = script()
    rig.engines["a"].script = script(rule)


async def broken_stream(rig: Rig) -> None:
    fault(rig, do="cut", after=3)
    await rig.chat("alone", stream=True, max_tokens=20)


async def broken_answer(rig: Rig) -> None:
    fault(rig, do="cut", after=1)
    await rig.chat("alone")


async def failed_over(rig: Rig) -> None:
    fault(rig, do="reset")
    await rig.chat("qwen", stream=True)


async def continued(rig: Rig) -> None:
    fault(rig, do="cut", after=5)
    await rig.chat("going-on", stream=True, max_tokens=20)


async def left_before_the_answer(rig: Rig) -> None:
    fault(rig, do="stall", at="headers")
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(rig.chat("alone"), 0.1)


async def left_in_a_stream(rig: Rig) -> None:
    fault(rig, on=1_000_000, do="reset")
    async with rig.open_stream("qwen", max_tokens=5000) as answer:
        await answer.content.read(10)


async def left_while_sending(rig: Rig) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 500000\r\n\r\n"
    writer.write(head.encode() + b"x" * 200_000)
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.close()


async def no_request(rig: Rig) -> None:
    await rig.raw(b"\x16\x03 nonsense\r\n\r\n", within=1)


async def undecodable(rig: Rig) -> None:
    assert (await rig.post("/v1/chat/completions", b"abcd", headers={"Content-Encoding": "gzip"})).status == 400


async def refused(rig: Rig) -> None:
    await rig.chat("nope")
    await rig.post("/v1/chat/completions", b'{"model":')


async def unreachable(rig: Rig) -> None:
    await rig.chat("nobody")
    await rig.chat("nobody", stream=True)


@pytest.mark.parametrize(
    "do",
    [
        broken_stream, broken_answer, failed_over, continued, left_before_the_answer, left_in_a_stream, left_while_sending, no_request,
        refused, undecodable, unreachable,
    ],
)  # fmt: skip
async def test_nothing_stays_behind(rig: Rig, do: Do) -> None:
    for _ in range(3):  # what is made once and kept
        await do(rig)
    before = await counted(rig)
    for _ in range(MANY):
        await do(rig)

    async def gone() -> bool:
        after = await counted(rig)
        return not {name: count - before.get(name, 0) for name, count in after.items() if count - before.get(name, 0) > MANY // 2}

    await eventually(gone, every=0.2)

"""No answer ever reaches another caller: a thousand callers with canaries, half of them leaving at any moment."""

import asyncio
import contextlib
import json
import random
import re

import pytest

from gateway.meter.progress import left_open
from tests.harness import KEY, Rig, eventually, script

CANARY = re.compile(rb"canary-\d{6}")


class Tally:
    def __init__(self) -> None:
        self.whole = self.left = self.failed = 0
        self.strange: list[str] = []


async def call(
    rig: Rig, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int, dice: random.Random, tally: Tally
) -> bool:
    """One request with its canary. False: the connection is of no more use."""
    canary = b"canary-%06d" % number
    stream = dice.random() < 0.6
    body = json.dumps(
        {"model": "qwen", "messages": [{"role": "user", "content": canary.decode()}], "stream": stream, "max_tokens": 40}
    ).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {KEY}\r\nx-request-id: {canary.decode()}\r\n"
    writer.write(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    patience = dice.choice((0.0, dice.random() * 0.05, dice.random() * 0.5)) if dice.random() < 0.5 else None
    leaves = patience is not None
    got = b""
    try:
        async with asyncio.timeout(patience if leaves else 30):
            while not finished(got):
                piece = await reader.read(65_536)
                if not piece:
                    break
                got += piece
    except TimeoutError:
        if leaves:
            tally.left += 1
        else:
            tally.strange.append(f"{canary!r} was never answered: {got[-300:]!r}")
        return False
    finally:
        for seen in set(CANARY.findall(got)):
            if seen != canary:
                tally.strange.append(f"{canary!r} saw {seen!r}: {got[:300]!r}")
    if not finished(got):
        return False
    text = b"".join(re.findall(rb'"content":"([^"]*)"', got))
    if b'"error"' in got:
        tally.failed += 1
    elif canary not in text:
        tally.strange.append(f"{canary!r} not in its own answer: {got[-300:]!r}")
    else:
        tally.whole += 1
    return b"Connection: close" not in got


def finished(got: bytes) -> bool:
    if b"Transfer-Encoding: chunked" in got:
        return got.endswith(b"0\r\n\r\n")
    head, blank, body = got.partition(b"\r\n\r\n")
    size = re.search(rb"Content-Length: (\d+)", head)
    return bool(blank and size) and len(body) >= int(size[1])  # type: ignore[index]


async def caller(rig: Rig, number: int, calls: int, tally: Tally) -> None:
    dice = random.Random(number)
    await asyncio.sleep(dice.random())
    done = 0
    while done < calls:
        with contextlib.suppress(ConnectionError):
            reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
            try:
                keep = True
                while keep and done < calls:
                    done += 1
                    keep = await call(rig, reader, writer, number * 100 + done, dice, tally)
            finally:
                writer.transport.abort()
                await writer.wait_closed()


async def crowd(rig: Rig, callers: int, calls: int) -> Tally:
    for name in ("a", "b", "c"):
        await rig.engine(name, ("vllm", "sglang", "mindie")["abc".index(name)], tps=400, ttft=0.02)
        rig.engines[name].script = script(
            {"share": 0.02, "do": "reset"}, {"share": 0.02, "do": "cut", "after": 3}, {"share": 0.02, "do": "status", "status": 503}
        )
    rig.config["http"] = {"sse_keepalive": "100ms"}
    rig.model("qwen", retry={"attempts": 3})
    await rig.start()
    tally = Tally()
    await asyncio.gather(*(caller(rig, number, calls, tally) for number in range(1, callers + 1)))
    return tally


async def each_is_recorded_once(rig: Rig, calls: int, tally: Tally) -> None:

    async def quiet() -> bool:
        return "gateway_requests_in_flight 0.0" in await rig.metrics()

    await asyncio.sleep(1.1)  # the metrics are a second old
    await eventually(quiet)
    records = rig.records()
    named = [record["trace"] for record in records if record.get("trace", "").startswith("canary-")]
    assert len(named) == len(set(named)) and len(named) <= calls
    assert sum(record["end"] == "--" for record in records) >= tally.whole
    assert "fault of ours" not in rig.log() and "Traceback" not in rig.log()
    tables = (rig.data_dir / "journal").glob("*.progress")
    assert not any(left_open(table) for table in tables), "an open request was never settled"


async def test_a_hundred_callers(rig: Rig) -> None:
    tally = await crowd(rig, 100, 8)
    assert not tally.strange, tally.strange[:3]
    assert tally.whole > 300 and tally.left > 100
    await each_is_recorded_once(rig, 800, tally)


@pytest.mark.hard
@pytest.mark.timeout(300)
async def test_a_thousand_callers(tmp_path) -> None:
    async with Rig(tmp_path, workers=2) as rig:
        tally = await crowd(rig, 1000, 20)
        assert not tally.strange, tally.strange[:3]
        assert tally.whole > 7_000 and tally.left > 4_000, vars(tally)
        await each_is_recorded_once(rig, 20_000, tally)

"""Every fault on a real socket, for streams and whole answers: what a client of a sick engine sees."""

import asyncio
import json
import time

import pytest

from gateway.simulate import script
from gateway.simulate.faults import Script
from gateway.simulate.simulator import Simulator, start

KINDS = ("vllm", "sglang", "mindie")


async def ask(simulator: Simulator, *, stream: bool, seconds: float = 5.0) -> bytes:
    """The raw answer up to the connection's end. Errors: ConnectionResetError for RST, TimeoutError."""
    body = json.dumps({"model": "qwen3", "messages": [{"role": "user", "content": "Hi"}], "stream": stream}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
    try:
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return await asyncio.wait_for(reader.read(), seconds)
    finally:
        writer.close()


async def until(condition, seconds: float = 3.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        await asyncio.sleep(0.005)


async def sick(kind: str, **rule: object) -> Simulator:
    return await start(kind, script=script.of(rule))  # type: ignore[arg-type]


def ended_well(answer: bytes) -> bool:
    return answer.endswith(b"\r\n0\r\n\r\n")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stream", [True, False])
async def test_refuse_closes_without_a_word_and_only_once(kind, stream) -> None:
    async with await sick(kind, on=1, do="refuse") as simulator:
        assert await ask(simulator, stream=stream) == b""
        assert b"200 OK" in await ask(simulator, stream=stream)
        assert [request.fault for request in simulator.requests] == ["refuse", ""]
        assert simulator.requests[0].aborted_at is None


@pytest.mark.parametrize("kind", KINDS)
async def test_reset_is_a_real_rst(kind) -> None:
    async with await sick(kind, do="reset") as simulator:
        with pytest.raises(ConnectionResetError):
            await ask(simulator, stream=False)
    async with await sick(kind, do="reset", after=2) as simulator:
        for stream in (True, False):
            with pytest.raises(ConnectionResetError):
                await ask(simulator, stream=stream)
        assert simulator.engine.failed == 2
        assert simulator.engine.running == 0


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("at", "expected"), [("headers", b""), ("first_event", b"200 OK"), ("mid_stream", b"Hi")])
async def test_stall_holds_at_its_place_and_then_goes_on(stream, at, expected) -> None:
    rule = {"do": "stall", "at": at, **({"after": 2} if at == "mid_stream" else {})}
    async with await sick("vllm", **rule) as simulator:
        body = json.dumps({"model": "qwen3", "messages": [{"role": "user", "content": "Hi"}], "stream": stream}).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        writer.write(body)
        got = b""
        while not expected or expected not in got:
            try:
                got += await asyncio.wait_for(reader.read(65536), 0.15 if not expected else 3)
            except TimeoutError:
                break
        assert expected in got
        assert (at == "headers") is (got == b"")
        assert b"data: [DONE]" not in got
        writer.close()
        await until(lambda: simulator.last.aborted_at is not None)
    async with await sick("vllm", **rule, **{"for": "50ms"}) as simulator:
        began = time.monotonic()
        answer = await ask(simulator, stream=stream)
        assert time.monotonic() - began >= 0.05
        assert b"data: [DONE]" in answer if stream else answer.endswith(b'"metrics":null}')


@pytest.mark.parametrize("kind", KINDS)
async def test_cut_ends_a_stream_or_a_body_in_the_middle(kind) -> None:
    async with await sick(kind, do="cut", after=3) as simulator:
        answer = await ask(simulator, stream=True)
        assert answer.count(b"data: {") == 3
        assert not ended_well(answer)
        answer = await ask(simulator, stream=False)
        head, _, body = answer.partition(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        assert 0 < len(body) < length
        assert simulator.engine.failed == 2


async def test_bare_text_ends_a_stream_as_mindie_does() -> None:
    async with await sick("mindie", do="bare_text", after=2, text="Failed to get engine response") as simulator:
        answer = await ask(simulator, stream=True)
        assert answer.count(b"data: {") == 2
        assert answer.endswith(b"Failed to get engine response\r\n0\r\n\r\n")
        assert b"[DONE]" not in answer
        answer = await ask(simulator, stream=False)
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert b"Content-Type: application/json" in answer
        assert answer.endswith(b"\r\n\r\nFailed to get engine response")


@pytest.mark.parametrize("kind", KINDS)
async def test_status_has_the_scripts_body_or_the_engines_shape(kind) -> None:
    async with await sick(kind, do="status", status=503, headers={"Retry-After": "2"}) as simulator:
        answer = await ask(simulator, stream=True)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 2" in answer
        assert b"simulated failure" in answer
    async with await sick(kind, do="status", status=429, body="slow down") as simulator:
        answer = await ask(simulator, stream=False)
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert answer.endswith(b"\r\n\r\nslow down")


@pytest.mark.parametrize("stream", [True, False])
async def test_slow_body_keeps_to_its_rate_and_says_it_all(stream) -> None:
    async with await sick("sglang", do="slow_body", rate=20_000) as simulator:
        began = time.monotonic()
        answer = await ask(simulator, stream=stream)
        assert time.monotonic() - began > len(answer) / 20_000 * 0.5
        assert b"data: [DONE]" in answer if stream else answer.endswith(b"}")


async def test_garbage_is_a_200_that_nobody_can_read() -> None:
    async with await sick("vllm", do="garbage") as simulator:
        assert b"<garbage>" in await ask(simulator, stream=False)
        answer = await ask(simulator, stream=True)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"text/event-stream" in answer
        assert b"data:" not in answer
    async with await sick("vllm", do="garbage", after=2) as simulator:
        answer = await ask(simulator, stream=True)
        assert answer.count(b"data: {") == 2
        assert b"<garbage>" in answer


QUEUE_FULL = [
    ("vllm", True, b'{"error":{"message":"The engine is currently busy and cannot accept new requests. Please try again later or on a '
     b'different instance.","type":"Service Unavailable","param":null,"code":503}}'),
    ("sglang", False, b'{"object":"error","message":"The request queue is full.","type":"503","param":null,"code":503}'),
    ("sglang", True, b'data: {"error": {"object": "error", "message": "The request queue is full.", "type": "SERVICE_UNAVAILABLE", '
     b'"param": null, "code": 503}}\n\ndata: [DONE]\n\n'),
    ("mindie", True, b""),
    ("mindie", False, b""),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "stream", "text"), QUEUE_FULL)
async def test_queue_full_in_the_engines_own_words(kind, stream, text) -> None:
    async with await sick(kind, do="queue_full") as simulator:
        answer = await ask(simulator, stream=stream)
        assert text in answer
        assert bool(answer) is bool(text)
        assert simulator.engine.rejected == 1


ERROR_EVENTS = [
    ("vllm", b'data: {"error":{"message":"EngineCore encountered an issue. ', b"data: [DONE]\n\n"),
    ("sglang", b'data: {"error": {"object": "error", "message": "', b"data: [DONE]\n\n"),
    ("mindie", b"Engine callback timeout: server tokenTimeout", b"tokenTimeout"),
]


@pytest.mark.parametrize(("kind", "error", "end"), ERROR_EVENTS)
@pytest.mark.parametrize("after", [0, 2])
async def test_error_event_is_the_engines_own(kind, error, end, after) -> None:
    async with await sick(kind, do="error_event", after=after) as simulator:
        answer = await ask(simulator, stream=True)
        assert error in answer
        assert answer.count(b'"delta"') == after
        assert answer.endswith(end + b"\r\n0\r\n\r\n")
        whole = await ask(simulator, stream=False)
        assert whole.startswith(b"HTTP/1.1 500 ")
        assert simulator.dialect.broken.encode() in whole and simulator.dialect.broken.encode() in answer


@pytest.mark.parametrize("kind", KINDS)
async def test_no_done_ends_politely_but_too_early(kind) -> None:
    async with await sick(kind, do="no_done") as simulator:
        answer = await ask(simulator, stream=True)
        assert b"[DONE]" not in answer
        assert b'"finish_reason":"stop"' in answer
        assert ended_well(answer)


async def test_restart_drops_everybody_and_comes_back_on_the_same_port() -> None:
    async with await start("vllm", tps=50, script=script.of({"on": 2, "do": "restart", "for": "200ms"})) as simulator:
        port = simulator.port
        streaming = asyncio.create_task(ask(simulator, stream=True))
        await until(lambda: simulator.engine.running == 1)
        assert await ask(simulator, stream=False) == b""
        with pytest.raises((ConnectionResetError, AssertionError)):
            assert ended_well(await streaming)
        with pytest.raises(ConnectionRefusedError):
            await ask(simulator, stream=False)
        await until(lambda: simulator.listening)
        assert simulator.port == port
        assert b"200 OK" in await ask(simulator, stream=False)
        assert [request.aborted_at for request in simulator.requests] == [None, None, None]


async def test_flap_goes_up_and_down_until_another_script_comes() -> None:
    async with await start("sglang", script=script.of({"do": "flap", "up": "50ms", "down": "50ms"})) as simulator:
        await until(lambda: not simulator.listening)
        await until(lambda: simulator.listening)
        await until(lambda: not simulator.listening)
        simulator.script = Script()
        await until(lambda: simulator.listening)
        assert b"200 OK" in await ask(simulator, stream=False)


async def test_a_new_script_counts_from_one() -> None:
    async with await start("vllm") as simulator:
        assert b"200 OK" in await ask(simulator, stream=False)
        simulator.script = script.of({"on": 2, "do": "refuse"})
        assert b"200 OK" in await ask(simulator, stream=False)
        assert await ask(simulator, stream=False) == b""


async def test_a_health_check_can_be_struck_alone() -> None:
    async with await sick("vllm", path="/health", do="status", status=503) as simulator:
        assert b"200 OK" in await ask(simulator, stream=False)
        reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
        writer.close()

"""The relay: who leaves when, how long an engine may take, and what a slow reader costs. Scripted engines over real sockets."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.exchange import Exchange
from gateway.relay.clock import Clock
from gateway.relay.whole import WholeDelivery
from gateway.simulate import tokens
from gateway.wire.heard import TEXT_MOST
from gateway.wire.outlet import Outlet
from tests.harness import KEY, Rig, eventually, free_port, script

pytestmark = pytest.mark.asyncio(loop_scope="module")

Play = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\n"
SSE = OK + b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Actor:
    """An engine that says exactly what a test tells it to, byte by byte. `play` is called once per request."""

    def __init__(self) -> None:
        self.port = free_port()
        self.play: Play = silent
        self.connections = 0
        self.requests = 0
        self.left = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"POST"):
                    size = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                    await reader.readexactly(size)
                    self.requests += 1
                    await self.play(reader, writer)
                else:
                    writer.write(OK + b'Content-Length: 11\r\n\r\n{"data":[]}')
                await writer.drain()
        self.left.set()
        writer.close()


def event(text: str = "x", **more: object) -> bytes:
    delta = {"content": text}
    return b"data: " + json.dumps({"id": "1", "model": "m", "choices": [{"index": 0, "delta": delta}], **more}).encode() + b"\n\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


WHOLE = json.dumps({"id": "1", "model": "odd-name", "choices": [{"message": {"role": "assistant", "content": "hi"}}]}).encode()
DONE = b"data: [DONE]\n\n"


def says(*parts: bytes | float | None) -> Play:
    """Bytes are sent, numbers are pauses, None waits for the gateway to leave."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            if isinstance(part, bytes):
                writer.write(part)
                await writer.drain()
            elif part is None:
                assert await reader.read(1) == b""
            else:
                await asyncio.sleep(part)

    return play


def then_closes(*parts: bytes | float) -> Play:
    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await says(*parts)(reader, writer)
        writer.close()

    return play


silent = says(None)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with Rig(tmp_path_factory.mktemp("relay")) as rig:
        await rig.engine("a", "vllm", tps=50)
        await rig.engine("fin", "vllm", tps=50, channel={"usage": "final"})
        rig.config["channels"]["odd"] = {
            "engine": "openai",
            "endpoints": [f"http://127.0.0.1:{actor.port}"],
            "model": "odd-name",
            "keepalive": "300ms",
            "timeouts": {"connect": "400ms", "first_event": "400ms", "idle": "500ms", "total": "1500ms"},
        }
        rig.config["channels"]["nowhere"] = {
            **json.loads(json.dumps(rig.config["channels"]["odd"])),
            "endpoints": [f"http://127.0.0.1:{hole.port}"],
        }
        rig.model("qwen", {"a": 1})
        rig.model("final", {"fin": 1})
        rig.config["channels"]["long"] = json.loads(json.dumps(rig.config["channels"]["odd"]))
        rig.config["channels"]["long"]["timeouts"]["total"] = "1m"
        rig.config["channels"]["patient"] = json.loads(json.dumps(rig.config["channels"]["long"]))
        rig.config["channels"]["patient"]["timeouts"]["first_event"] = "30s"
        rig.model("patient", {"patient": 1})
        for name, one in (("dies", actor), ("heir", heir)):
            rig.config["channels"][name] = json.loads(json.dumps(rig.config["channels"]["long"]))
            rig.config["channels"][name].update(engine="vllm", endpoints=[f"http://127.0.0.1:{one.port}"])
        rig.model("inherited", {"dies": 1, "heir": 0}, continuation="same-model")
        rig.model("odd", {"odd": 1})
        rig.model("long", {"long": 1})
        rig.model("counted", {"odd": 1}, tokenizer="cl100k")
        rig.model("nowhere", {"nowhere": 1})
        rig.config["http"] = {"sse_keepalive": "150ms", "write_idle": "5s"}
        await actor.open()
        await heir.open()
        await rig.start()
        yield rig
        await actor.close()
        await heir.close()
        hole.close()


class Hole:
    """An address that accepts nothing: its queue is full."""

    def __init__(self) -> None:
        self.port = free_port()
        self._sock = socket.socket()
        self._sock.bind(("127.0.0.1", self.port))
        self._sock.listen(0)
        self._fill = [socket.socket() for _ in range(3)]
        for one in self._fill:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", self.port))

    def close(self) -> None:
        for one in (self._sock, *self._fill):
            one.close()


actor = Actor()
heir = Actor()
hole = Hole()


@pytest.fixture(autouse=True)
def fresh(rig):
    actor.left.clear()
    actor.play = silent
    for engine in rig.engines.values():
        engine.script = script()
    yield


def request(model: str, stream: bool, id: str, **more: object) -> bytes:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": stream, **more}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {KEY}\r\nx-request-id: {id}\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


async def left(rig: Rig, data: bytes, when: Callable[[bytes], bool], also: Callable[[], bool] = lambda: True) -> bytes:
    """A caller that leaves when what it got is enough (and `also` is true). Returns what it got."""
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(data)
    got = b""
    while not when(got):
        got += await asyncio.wait_for(reader.read(65_536), 5)
    await eventually(also)
    writer.close()
    return got


# -- callers that leave --------------------------------------------------------------------------------------------------


async def test_leaving_while_the_body_is_sent(rig):
    data = request("qwen", False, "leave-body")
    await left(rig, data[:-20], lambda got: True)
    record = await rig.record(trace="leave-body")
    assert (record["status"], record["end"], record["error"]) == (499, "CA", "caller_gone")
    assert "attempts" not in record and "fault of ours" not in rig.log()


@pytest.mark.parametrize("stream", [False, True])
async def test_leaving_before_the_first_byte_of_an_answer(rig, stream):
    rig.engines["a"].script = script({"do": "stall", "at": "headers"})
    seen = len(rig.engines["a"].requests)
    await left(rig, request("qwen", stream, f"leave-wait-{stream}"), lambda got: True, lambda: len(rig.engines["a"].requests) > seen)
    gone = time.monotonic()
    received = rig.engines["a"].last
    await eventually(lambda: received.aborted_at, within=1)
    assert received.aborted_at - gone < 1
    record = await rig.record(trace=f"leave-wait-{stream}")
    assert (record["status"], record["end"], record["source"]) == (499, "CW", "none")
    assert [attempt["reason"] for attempt in record["attempts"]] == ["abandoned"]


@pytest.mark.parametrize(("model", "engine", "source"), [("qwen", "a", "continuous"), ("final", "fin", "counted")])
async def test_leaving_in_the_middle_of_a_stream_is_billed_for_what_was_generated(rig, model, engine, source):
    got = await left(rig, request(model, True, f"leave-{source}", max_tokens=500, ignore_eos=True), lambda got: got.count(b"data: ") > 12)
    received = rig.engines[engine].last
    await eventually(lambda: received.aborted_at, within=1)
    record = await rig.record(trace=f"leave-{source}")
    assert (record["end"], record["status"], record["source"]) == ("CD", 499, source)
    assert got.count(b"data: ") - 2 <= record["tokens"]["out"] <= received.tokens
    if source == "continuous":
        assert abs(record["tokens"]["out"] - received.tokens) <= 1 and record["tokens"]["in"] > 0


async def test_leaving_a_stream_of_several_prompts_is_billed_for_all_of_them(rig):
    prompts = ["one two three", "four five six seven eight"]
    body = {"model": "qwen", "prompt": prompts, "stream": True, "max_tokens": 500, "ignore_eos": True}
    headers = {"Authorization": f"Bearer {KEY}", "x-request-id": "leave-prompts"}
    async with rig.session.post(rig.url + "/v1/completions", json=body, headers=headers) as answer:
        for _ in range(24):
            await answer.content.readline()
        answer.close()
    record = await rig.record(api="completions", end="CD")
    assert record["source"] == "continuous" and record["tokens"]["in"] == sum(map(tokens.count, prompts))
    assert abs(record["tokens"]["out"] - rig.engines["a"].last.tokens) <= 1


async def test_leaving_after_the_end_is_a_success(rig):
    got = await left(rig, request("qwen", True, "leave-done", max_tokens=3), lambda got: b"[DONE]" in got)
    record = await rig.record(trace="leave-done")
    assert (record["end"], record["status"]) == ("--", 200) and got.endswith(b"0\r\n\r\n")


async def test_leaving_by_closing_one_half_is_leaving(rig):
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(request("qwen", True, "leave-half", max_tokens=500, ignore_eos=True))
    await reader.read(10)
    writer.write_eof()
    await asyncio.wait_for(reader.read(), 5)
    assert (await rig.record(trace="leave-half"))["end"] == "CD"
    writer.close()


async def test_leaving_while_we_connect_leaves_no_socket(rig):
    open_files = Path(f"/proc/{rig.pid_of('worker-0')}/fd")

    def sockets() -> int:
        """Other files come and go: a segment of the journal, a metric's first count."""
        found = 0
        for one in open_files.iterdir():
            with contextlib.suppress(FileNotFoundError):
                found += os.readlink(one).startswith("socket:")
        return found

    before = sockets()
    for n in range(20):
        await left(rig, request("nowhere", bool(n % 2), f"leave-connect-{n}"), lambda got: True, lambda: True)
    await eventually(lambda: sockets() <= before)
    record = await rig.record(trace="leave-connect-19")
    assert record["end"] in ("CA", "CW")


# -- time limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_connect(rig, stream):
    started = time.monotonic()
    answer = await rig.chat("nowhere", stream=stream)
    assert 0.3 < time.monotonic() - started < 5
    assert answer.error["code"] == "upstream_timeout" and (answer.status == 504 or stream)
    assert (await rig.record(model="nowhere", stream=True) if stream else await rig.record(model="nowhere", status=504))[
        "error"
    ] == "timeout_connect"


async def test_first_event(rig):
    for play in (
        silent,
        says(SSE, None),
        says(SSE + chunk(b": ping\n\n"), None),
        says(SSE + chunk(event("")), 0.2, chunk(event("")), None),
    ):
        actor.play = play
        started = time.monotonic()
        answer = await rig.chat("odd", stream=True)
        assert 0.3 < time.monotonic() - started < 5
        assert answer.error["code"] == "upstream_timeout" and not answer.done
        record = await rig.record(model="odd")
        assert (record["error"], record["end"]) == ("timeout_first_event", "UW")


async def test_idle(rig):
    for stream, play in (
        (True, says(SSE + chunk(event()), None)),
        (False, says(OK + b"Content-Length: 200\r\n\r\n{", None)),
        (False, says(OK, 0.1, b"Content-Length: 200\r\n\r\n", None)),
    ):
        actor.play = play
        actor.left.clear()
        started = time.monotonic()
        answer = await rig.chat("odd", stream=stream)
        assert 0.4 < time.monotonic() - started < 5
        assert answer.error["code"] == "upstream_timeout" and not answer.done
        assert (await rig.record(model="odd"))["error"] == "timeout_idle"
        await asyncio.wait_for(actor.left.wait(), 5)


async def test_while_a_worker_stood_still_no_engine_was_silent(rig):
    underway = asyncio.Event()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await says(SSE, *[part for _ in range(4) for part in (chunk(event()), 0.1)])(reader, writer)
        underway.set()
        await says(*[part for _ in range(15) for part in (chunk(event()), 0.1)], chunk(DONE) + b"0\r\n\r\n")(reader, writer)

    actor.play = play
    worker = rig.pid_of("worker-0")
    asking = asyncio.create_task(rig.chat("long", stream=True))
    await underway.wait()
    os.kill(worker, signal.SIGSTOP)
    await asyncio.sleep(0.9)
    os.kill(worker, signal.SIGCONT)
    answer = await asking
    assert answer.done and not answer.error, answer.error


@pytest.mark.hard
async def test_total(rig):
    for stream, play in (
        (True, says(SSE, *[part for _ in range(20) for part in (chunk(event()), 0.2)])),
        (False, silent),
        (False, says(OK + b"Content-Length: 200\r\n\r\n", *[part for _ in range(20) for part in (b" ", 0.2)])),
        (False, says(b"HTTP/1.1 500 Oops\r\nContent-Length: 200\r\n\r\n", *[part for _ in range(20) for part in (b" ", 0.2)])),
    ):
        actor.play = play
        started = time.monotonic()
        answer = await rig.chat("odd", stream=stream)
        assert 1.3 < time.monotonic() - started < 6
        assert answer.error["code"] == "upstream_timeout" and not answer.done
        assert (await rig.record(model="odd"))["error"] == "timeout_total"


async def test_a_waiting_stream_gets_comments(rig):
    rig.engines["a"].script = script({"do": "stall", "at": "headers", "for": "600ms"})
    async with rig.open_stream("qwen", max_tokens=2) as answer:
        raw = await answer.read()
    assert raw.count(b": keep-alive\n\n") >= 2 and raw.endswith(b"data: [DONE]\n\n")
    assert "x-gateway-channel" not in answer.headers and answer.headers["x-request-id"]


# -- what an engine may send ---------------------------------------------------------------------------------------------------


GOOD = {
    "in one piece": OK + b"Content-Length: %d\r\n\r\n" % len(WHOLE) + WHOLE,
    "continue first": b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: %d\r\n\r\n" % len(WHOLE) + WHOLE,
    "hints first": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK + b"Content-Length: %d\r\n\r\n" % len(WHOLE) + WHOLE,
    "chunked": OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(WHOLE[:9]) + chunk(WHOLE[9:]) + b"0\r\n\r\n",
    "names of both kinds": OK + b"content-type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(WHOLE) + b"0\r\n\r\n",
    "names in capitals": OK.replace(b"OK", b"ok") + b"CONTENT-LENGTH: %d\r\n\r\n" % len(WHOLE) + WHOLE,
    "trailers": OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(WHOLE) + b"0\r\nX-T: 1\r\n\r\n",
}


@pytest.mark.parametrize("form", GOOD)
async def test_a_whole_answer_in_every_good_form(rig, form):
    for pieces in ([GOOD[form]], [bytes([byte]) for byte in GOOD[form]]):
        actor.play = says(*pieces)
        answer = await rig.chat("odd")
        assert answer.status == 200 and answer.text == "hi" and answer.json["model"] == "odd"


async def test_tiny_chunks_of_a_whole_answer_are_kept_together():
    x = Exchange("1", "1", None, "POST", "/v1/chat/completions", {}, "127.0.0.1", 0.0, 0.0)
    one = WholeDelivery(x, Outlet(lambda: b""), None, None, Clock(asyncio.get_running_loop()))  # type: ignore[arg-type]
    one.status = 200
    one.data([b"ab"] * 10_000)
    one.data([b"c"])
    assert [len(piece) for piece in one.pieces] == [20_000, 1]


async def test_an_answer_that_ends_with_its_connection(rig):
    actor.play = then_closes(OK + b"\r\n" + WHOLE)
    assert (await rig.chat("odd")).text == "hi"
    actor.play = then_closes(b"HTTP/1.0 200 OK\r\n\r\n" + WHOLE[:-10])
    answer = await rig.chat("odd")
    assert answer.status == 502 and answer.error["code"] == "upstream_error"


BAD = {
    "no HTTP": b"hello\r\n\r\n",
    "upgrade": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    "head without end": b"HTTP/1.1 200 OK\r\nX: 1\r\n",
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n12345",
    "length and chunked": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bad chunk": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "chunks without end": OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(WHOLE),
    "short": OK + b"Content-Length: 900\r\n\r\n" + WHOLE,
    "an array": OK + b"Content-Length: 2\r\n\r\n[]",
    "no JSON": OK + b"Content-Length: 5\r\n\r\nhello",
    "empty": OK + b"Content-Length: 0\r\n\r\n",
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "elsewhere": b"HTTP/1.1 302 Found\r\nLocation: http://evil/\r\nContent-Length: 0\r\n\r\n",
    "compressed": OK + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08",
    "nothing": b"",
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("form", BAD)
async def test_an_answer_that_is_none_is_an_honest_error(rig, form, stream):
    data = BAD[form].replace(OK, OK + b"Content-Type: text/event-stream\r\n") if stream else BAD[form]
    actor.play = then_closes(data)
    answer = await rig.chat("odd", stream=stream)
    assert answer.error["code"] in ("upstream_error", "upstream_unavailable") and not answer.done
    assert answer.status == 502 and "odd-name" not in str(answer.body)
    record = await rig.record(model="odd")
    assert record["end"] == "UW" and record["attempts"][-1]["reason"] == record["error"]


async def test_an_endless_head_endless_trailers_and_an_endless_error_are_cut_short(rig):
    endless = [b"X-A: " + b"y" * 8000 + b"\r\n"] * 60
    actor.play = says(OK, *endless, None)
    answer = await rig.chat("odd")
    assert answer.status == 502 and (await rig.record(model="odd"))["error"] == "protocol"
    for stream, begun in ((False, OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(WHOLE)), (True, SSE + chunk(event()))):
        actor.play = says(begun + b"0\r\n", *endless, None)
        answer = await rig.chat("odd", stream=stream)
        assert answer.error["code"] == "upstream_error" and not answer.done
        assert (await rig.record(model="odd"))["error"] == "protocol"
    actor.left.clear()
    actor.play = says(b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n", *[chunk(b"z" * 30_000)] * 20, None)
    answer = await rig.chat("odd")
    assert answer.status == 400
    await asyncio.wait_for(actor.left.wait(), 5)


async def test_a_stream_that_goes_on_without_a_word_is_cut_short(rig):
    """What comes before the first word is held back, and must not fill the memory."""
    actor.left.clear()
    actor.play = says(SSE, *[chunk(event("", more="y" * 4_000_000))] * 9, None)
    answer = await rig.chat("patient", stream=True)
    assert answer.error["code"] == "upstream_error" and not answer.done
    record = await rig.record(model="patient")
    assert (record["error"], record["end"]) == ("garbage", "UW")
    await asyncio.wait_for(actor.left.wait(), 5)


async def test_a_stream_whose_engine_answers_with_a_body(rig):
    actor.play = says(GOOD["in one piece"])
    answer = await rig.chat("odd", stream=True)
    assert answer.status == 502 and (await rig.record(model="odd"))["error"] == "garbage"
    body = b'{"error":{"message":"odd-name: max_tokens is too large","code":400,"type":"BadRequestError"}}'
    actor.play = says(OK + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    answer = await rig.chat("odd", stream=True)
    assert answer.status == 400 and answer.error["message"] == "odd: max_tokens is too large"
    assert (await rig.record(model="odd"))["end"] == "CW"


async def test_a_whole_answer_that_is_an_error_says_so(rig):
    """Status 200, and an error in place of an answer: the caller hears what it says, as in a stream."""
    body = b'{"object":"error","message":"odd-name: max_tokens is too large","code":400,"type":"BadRequestError"}'
    actor.play = says(OK + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    answer = await rig.chat("odd")
    assert answer.status == 400 and answer.error["message"] == "odd: max_tokens is too large"
    record = await rig.record(model="odd")
    assert (record["end"], record["error"], record["attempts"][-1]["reason"]) == ("CW", "stream_error", "stream_error")


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        ({"message": "CUDA error", "code": 500}, 502, "stream_error"),
        ("Engine callback timeout", 504, "stream_error"),
        (None, 200, "ok"),
        ("", 200, "ok"),
    ],
)
async def test_an_error_beside_the_answer_counts_as_it_does_in_a_stream(rig, error, status, reason):
    body = json.dumps({**json.loads(WHOLE), "error": error}).encode()
    actor.play = says(OK + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    answer = await rig.chat("odd")
    assert answer.status == status
    assert (await rig.record(id=answer.headers["x-request-id"]))["attempts"][-1]["reason"] == reason


@pytest.mark.parametrize(("model", "output"), [("odd", 6), ("counted", 7)])
async def test_a_whole_answer_without_usage_is_counted(rig, model, output):
    """hi| there|,| you| all, {}, yes: seven for cl100k, and 22 bytes."""
    calls = [None, 5, {"function": {"arguments": "{}"}}]
    choices = [{"message": {"content": "hi there, you all", "tool_calls": calls}}, None, {"text": "yes"}]
    body = json.dumps({"id": "1", "model": "odd-name", "usage": "none", "choices": choices}).encode()
    actor.play = says(OK + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    answer = await rig.chat(model)
    assert answer.status == 200
    record = await rig.record(id=answer.headers["x-request-id"])
    assert record["source"] == "counted" and record["tokens"]["in"] > 0
    assert record["tokens"]["out"] == output


@pytest.mark.parametrize(
    ("model", "text", "output"), [("odd", "你好吗", 3), ("odd", "", 0), ("counted", "x" * (TEXT_MOST + 1), TEXT_MOST // 4)]
)
async def test_what_nothing_counts_of_a_whole_answer_goes_by_its_size(rig, model, text, output):
    """Also of one that is too long to be counted, which is not free for that."""
    choices = [{"message": {"content": text}}]
    body = json.dumps({"id": "1", "model": "odd-name", "choices": choices}, ensure_ascii=False).encode()
    actor.play = says(OK + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    answer = await rig.chat(model)
    record = await rig.record(id=answer.headers["x-request-id"])
    assert record["source"] == "counted" and 0 <= record["tokens"].get("out", 0) - output <= 20


async def test_the_type_of_a_stream_is_read_in_any_case(rig):
    events = event() + DONE
    actor.play = says(OK + b"Content-Type: Text/Event-Stream;charset=UTF-8\r\nContent-Length: %d\r\n\r\n" % len(events) + events)
    answer = await rig.chat("odd", stream=True)
    assert answer.done and answer.text == "x"


# -- connections to engines -------------------------------------------------------------------------------------------------------


async def test_connections_are_kept_and_shared_by_nobody(rig):
    await asyncio.sleep(0.5)  # whatever was kept is too old by now
    actor.play = says(GOOD["chunked"])
    opened = actor.connections
    for _ in range(5):
        assert (await rig.chat("odd")).status == 200
    assert actor.connections == opened + 1
    stream = SSE + chunk(event("a")) + chunk(DONE) + b"0\r\n\r\n"
    for pieces in ([stream], [stream[:-5], 0.05, stream[-5:]]):  # the end together with `[DONE]`, and after it
        actor.play = says(*pieces)
        for _ in range(3):
            assert (await rig.chat("odd", stream=True)).done
    assert actor.connections <= opened + 3
    actor.play = says(0.1, GOOD["chunked"])
    answers = await asyncio.gather(*(rig.chat("odd") for _ in range(8)))
    assert all(answer.status == 200 for answer in answers)


async def test_an_idle_connection_is_closed_before_the_engine_would(rig):
    actor.play = says(GOOD["chunked"])
    await rig.chat("odd")
    actor.left.clear()
    await asyncio.wait_for(actor.left.wait(), 5)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_kept_connection_that_died_is_replaced_in_silence(rig, stream):
    good = SSE + chunk(event("a")) + chunk(DONE) + b"0\r\n\r\n" if stream else GOOD["chunked"]
    closing = iter([True, False])

    async def dies_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if next(closing):
            writer.transport.abort()
        else:
            writer.write(good)

    actor.play = says(good)
    assert (await rig.chat("odd", stream=stream)).status == 200
    actor.play = dies_once
    answer = await rig.chat("odd", stream=stream)
    assert answer.status == 200 and answer.headers["x-gateway-attempts"] == "1"


async def test_a_fresh_connection_that_dies_is_not_tried_again(rig):
    await asyncio.sleep(0.5)
    seen = actor.requests
    actor.play = then_closes(b"")
    assert (await rig.chat("odd")).status == 502
    assert actor.requests == seen + 1


async def test_bytes_that_follow_an_answer_never_reach_the_next(rig):
    evil = OK + b"Content-Length: 4\r\n\r\nevil"
    for late in (False, True):
        actor.play = says(GOOD["in one piece"], 0.05, evil) if late else says(GOOD["in one piece"] + evil)
        assert (await rig.chat("odd")).text == "hi"
        await asyncio.sleep(0.15 if late else 0)
        actor.play = says(GOOD["in one piece"])
        for _ in range(3):
            assert (await rig.chat("odd")).text == "hi"


# -- slow readers -------------------------------------------------------------------------------------------------------------------


class Pours:
    """An engine that sends `count` events as quickly as it is let, and whose own buffers hold next to nothing: what it could send, the
    gateway has taken."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.sent = self.finished = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(high=0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        writer.write(SSE)
        data = chunk(event("y" * 900))
        for _ in range(self.count):
            writer.write(data)
            await writer.drain()
            self.sent += 1
        writer.write(chunk(DONE) + b"0\r\n\r\n")
        self.finished += 1


async def slow_caller(rig: Rig, model: str, trace: str) -> socket.socket:
    """Has asked for a stream, and takes nothing yet."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", rig.port))
    await loop.sock_sendall(sock, request(model, True, trace))
    return sock


async def rest_of(sock: socket.socket) -> bytes:
    """Everything to the end of the stream."""
    got = bytearray()
    while b"[DONE]" not in got:
        got += await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 1 << 20), 5)
    return bytes(got)


async def test_a_slow_reader_pauses_the_engine_and_is_no_fault_of_its(rig):
    """The caller takes nothing for longer than `idle`; then it takes all, and the stream ends well."""
    actor.play = pours = Pours(1000)
    with await slow_caller(rig, "long", "slow-reader") as sock:
        await asyncio.sleep(0.9)
        assert 50 < pours.sent < 700, "the engine must wait"
        waits = pours.sent
        await asyncio.sleep(0.1)
        assert pours.sent == waits
        got = await rest_of(sock)
    assert got.count(b"y" * 900) == 1000
    record = await rig.record(trace="slow-reader")
    assert record["end"] == "--"


async def test_a_slow_reader_pauses_also_the_engine_that_goes_on(rig):
    """The first engine dies with more than a slow caller takes; the second must not pour the rest into memory."""
    died = b'data: {"error":{"message":"gone","code":500}}\n\n'
    actor.play = says(SSE + chunk(event("x" * 5_000_000) + died))
    heir.play = pours = Pours(1000)
    with await slow_caller(rig, "inherited", "slow-heir") as sock:
        await eventually(lambda: pours.sent)
        await asyncio.sleep(0.9)
        assert pours.sent < 700, "the engine must wait"
        got = await rest_of(sock)
    assert got.count(b"y" * 900) == 1000 and b"x" * 5_000 in got
    record = await rig.record(trace="slow-heir")
    assert (record["end"], [attempt["kind"] for attempt in record["attempts"]]) == ("--", ["first", "continue"])


async def slow_readers(rig: Rig, readers: int, seconds: float) -> tuple[float, int]:
    """KiB the worker grew by per reader while all of them take 1 KB/s, and how many streams the engine could finish."""
    pid = rig.pid_of("worker-0")
    actor.play = pours = Pours(4000)
    before = resident(pid)
    socks = [await slow_caller(rig, "long", f"slow-{n}") for n in range(readers)]
    most = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for sock in socks:
            with contextlib.suppress(BlockingIOError):
                sock.recv(1024)
        most = max(most, resident(pid) - before)
        await asyncio.sleep(1)
    for sock in socks:
        sock.close()
    return most / readers / 1024, pours.finished


def resident(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.hard
async def test_five_hundred_slow_readers(rig):
    kilobytes, finished = await slow_readers(rig, 500, 10)
    assert kilobytes <= 320, f"{kilobytes:.0f} KiB each"
    assert finished == 0

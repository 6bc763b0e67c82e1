"""A connection without its parser: let go of between two requests, made anew when it is needed, and nobody can tell the difference."""

import asyncio
import random
from typing import Any

import pytest
from aiohttp import http_parser, web_protocol

from gateway.accept import caller as caller_module
from gateway.accept.caller import Caller, Door
from gateway.accept.familiar import READ, Whole

KNOWN = b"POST /v1/chat/completions HTTP/1.1\r\nHost: gw\r\nContent-Length: %d\r\n\r\n"
OTHERS = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: gw\r\nX-Other: 1\r\nContent-Length: %d\r\n\r\n",
    b"PUT / HTTP/1.1\r\nHost: gw\r\nContent-Length: %d\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: gw\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n",
)
BODILESS = (
    b"GET /v1/models HTTP/1.1\r\nHost: gw\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: gw\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
)
WRONG = b"POST / HTTP/1.1\r\nHost: gw\r\nContent-Length: x\r\n\r\n"
SIZES = (1, 2, 40, 40, 40, 3_000, 300_000, 600_000, 1_300_000)
"""Of bodies. The largest ones are more than a connection holds unread: reading stops in their middle."""
READS = (7, 60, 1_000, 65_536, 262_144)
"""Bytes of a read: small ones, and of what is large all that a socket gives at once."""


class Transport(asyncio.Transport):
    """Gives a connection what was sent, as long as it wants any. hasty: in the largest reads, and nobody gets a turn in between."""

    def __init__(self, sent: bytes, luck: random.Random, hasty: bool = False) -> None:
        super().__init__()
        self.sent, self.luck, self.hasty = sent, luck, hasty
        self.answers = b""
        self.paused = self.closed = False

    def give(self, caller: Caller) -> bool:
        """Some more of it; False when there is nothing to give, or nobody takes it."""
        if not self.sent or self.paused or self.closed:
            return False
        size = READS[-1] if self.hasty else self.luck.choice(READS if len(self.sent) < READS[-1] else READS[2:])
        piece, self.sent = self.sent[:size], self.sent[size:]
        caller.data_received(piece)
        return True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.answers += bytes(data)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


class Alone:
    """In the place of what a connection remembers of heads: nothing, so that aiohttp's own parser sees everything."""

    remembers_all = False

    def read(self, data: bytes) -> None:
        return None

    def fed(self, data: bytes, message: Any) -> None: ...


async def served(sent: bytes, seed: int, familiar: Alone | None, hasty: bool) -> tuple[list[tuple[Any, ...]], bytes, bool]:
    """What a connection makes of it: the requests with their bodies, the answers, and whether it is open still."""
    found: list[tuple[Any, ...]] = []

    async def serve(caller: Caller) -> None:
        message, payload, body = caller.message, caller.payload, b""
        if isinstance(payload, Whole):
            body = payload.data
        else:
            while piece := await payload.readany():
                await asyncio.sleep(0)
                body += piece
        caller.payload = READ
        found.append((message.method, message.path, [*message.headers.items()], body))
        caller.outlet.answer(200, b"", b"%d" % len(found))

    async def refused(caller: Caller, no: Any, known: Any) -> None:
        found.append((no.status, no.code))
        caller.outlet.write(caller.outlet.refused(no))

    door = Door(serve, refused, header=4096, keepalive=10, write_idle=10)
    caller = door()
    assert isinstance(caller, Caller)
    caller.outlet._date = lambda: b""
    if familiar is not None:
        caller.familiar = familiar  # type: ignore[assignment]
    transport = Transport(sent, random.Random(seed), hasty)
    caller.connection_made(transport)
    quiet = 0
    while quiet < 30:
        given = transport.give(caller)
        quiet = 0 if given else quiet + 1
        for _ in range(0 if given and hasty else transport.luck.randrange(4)):
            await asyncio.sleep(0)
    ended = transport.closed
    caller.connection_lost(None)
    await asyncio.sleep(0)
    return found, transport.answers, ended


def sending(luck: random.Random) -> bytes:
    """A few requests, most of them with one head."""
    sent = b""
    for _ in range(luck.randrange(2, 9)):
        kind, size = luck.random(), luck.choice(SIZES)
        if kind < 0.85:
            head = KNOWN if kind < 0.6 else luck.choice(OTHERS)
            sent += head % size + luck.randbytes(size)
        else:
            sent += luck.choice(BODILESS) if kind < 0.97 else WRONG
    return sent


@pytest.mark.parametrize("hasty", [False, True])
@pytest.mark.parametrize("seed", range(40))
async def test_what_is_served_is_what_a_connection_that_keeps_its_parser_serves(seed, hasty):
    sent = sending(random.Random(seed))
    assert await served(sent, seed, None, hasty) == await served(sent, seed, Alone(), hasty)


async def test_a_parser_in_which_the_end_of_a_body_waits_is_kept():
    """A connection stops reading at half a megabyte that nobody has read, here with the last read of a body."""
    found, _, _ = await served(KNOWN % 600_000 + bytes(600_000), 0, None, hasty=True)
    assert [body for *_, body in found] == [bytes(600_000)]


async def test_a_parser_is_let_go_of_once_a_plain_request_is_whole_and_comes_back_for_another():
    caller, transport = Door(nobody, nobody, header=4096, keepalive=10, write_idle=10)(), Transport(b"", random.Random(0))
    assert isinstance(caller, Caller)
    caller.connection_made(transport)
    request = KNOWN % 4 + b"body"
    first = caller._parser
    caller.data_received(request[:-1])
    assert caller._parser is first is not None
    caller.data_received(request[-1:])
    assert caller._parser is None
    await asyncio.sleep(0)
    caller.data_received(request)
    assert caller._parser is None
    await asyncio.sleep(0)
    caller.data_received(BODILESS[1][:-3])
    assert caller._parser is not None
    caller.connection_lost(None)
    assert caller._parser is None
    caller.resume_reading()
    caller.data_received(b"")
    assert caller._parser is None


async def test_a_parser_that_is_made_anew_is_the_one_that_aiohttp_makes(monkeypatch):
    made: list[tuple[Any, ...]] = []
    real = http_parser.HttpRequestParser

    def note(*arguments: Any, **options: Any) -> Any:
        made.append((arguments, options))
        return real(*arguments, **options)

    monkeypatch.setattr(web_protocol, "HttpRequestParser", note)
    monkeypatch.setattr(caller_module, "HttpRequestParser", note)
    caller = Door(nobody, nobody, header=777, keepalive=10, write_idle=10)()
    assert isinstance(caller, Caller)
    caller._new_parser()
    assert len(made) == 2 and made[0] == made[1]


async def nobody(*_: object) -> None: ...

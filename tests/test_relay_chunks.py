"""Chunks that the parser does not see: whatever an engine sends, what comes of it is what the parser alone makes of it."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.relay.connection import Connection
from gateway.wire.chunks import whole_chunk
from gateway.wire.stream import Stream, transform

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Pool:
    """What becomes of the connection, and what its sink hears. able: the sink takes whole chunks out of their framing itself."""

    def __init__(self, able: bool = True) -> None:
        self.heard: list[Any] = []
        self.able = able
        self.taken = 0

    def post(self, connection: Connection) -> None: ...

    def give_back(self, connection: Connection) -> None:
        self.heard.append("given back")

    def forget(self, connection: Connection) -> None: ...

    def head(self, status: int, headers: dict[bytes, bytes]) -> None:
        self.heard.append(status)

    def data(self, pieces: list[bytes]) -> None:
        if isinstance(self.heard[-1], bytes):
            pieces = [self.heard.pop(), *pieces]
        self.heard.append(b"".join(pieces))

    def framed(self, data: bytes) -> bool:
        found, at = [], 0
        while self.able and at < len(data):
            start, stop = whole_chunk(data, at)
            if not start:
                return False
            found.append(data[start:stop])
            at = stop + 2
        if found:
            self.taken += 1
            self.data(found)
        return bool(found)

    def end(self) -> None:
        self.heard.append("end")

    def lost(self, failure: Any) -> None:
        self.heard.append(failure.reason)


class Transport:
    def write(self, data: bytes) -> None: ...

    def abort(self) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0


def heard(loop: asyncio.AbstractEventLoop, answers: list[list[bytes]], pool: Pool | None = None) -> list[Any]:
    """answers: what comes of each, in the pieces that are read."""
    pool = pool or Pool()
    connection = Connection(pool, loop)
    connection.connection_made(Transport())  # type: ignore[arg-type]
    for number, pieces in enumerate(answers):
        if pool.heard.count("given back") < number:
            break  # nobody sends while an answer is not whole
        if not connection.closed:
            connection.send(b"GET / HTTP/1.1\r\n\r\n", pool)
            connection.transmit()
        for piece in pieces:
            if not connection.closed:
                connection.data_received(piece)
    return pool.heard


BODIES = st.sampled_from(
    [b"data: {}\n\n", b"a\r\na\r\na\r\na", b"12\r\n", b"AAA\r\n", b"x" * 300, b"\r\n", b"0\r\n\r\n", b"3\r\nabc\r\n", HEAD, b"\n"]
)
SIZES = st.sampled_from([b"%x"] * 12 + [b"%X", b"0%x", b"0x%x", b"+%x", b"%x;a=b", b"%x ", b"1%x", b"000000%x"])
CHUNKS = st.builds(lambda size, body: size % len(body) + b"\r\n" + body + b"\r\n", SIZES, BODIES)
ENDS = st.sampled_from([b"0\r\n\r\n"] * 6 + [b"", b"0\r\nX-A: b\r\n\r\n", b"0\r\n\r\n0", b"0;a\r\n\r\n", b"00\r\n\r\n", b"0\r\n"])


@st.composite
def answers(draw: st.DrawFn) -> list[bytes]:
    """An answer, as it is read: mostly chunk by chunk, now and then several at once or cut."""
    parts = [HEAD, *draw(st.lists(CHUNKS, max_size=6)), draw(ENDS)]
    pieces, held = [], b""
    for part in parts:
        held += part
        how = draw(st.integers(0, 5))
        if how == 0:
            continue
        at = draw(st.integers(1, len(held))) if how == 1 and held else len(held)
        pieces += [held[:at]]
        held = held[at:]
    return [piece for piece in [*pieces, held] if piece]


@given(st.lists(answers(), min_size=1, max_size=3))
def test_what_is_heard_is_what_the_parser_alone_would_say(given_answers):
    loop = asyncio.new_event_loop()
    try:
        assert heard(loop, given_answers) == heard(loop, given_answers, Pool(able=False))
    finally:
        loop.close()


ITSELF = b"a\r\na\r\na\r\na"  # ten bytes that look like a size, its line's end, and themselves
LIKE_ONE = b"5\r\nabcde\r\n"  # ten bytes that look like a chunk


@pytest.mark.parametrize(
    ("pieces", "body"),
    [
        pytest.param([b"1", b"3\r\nabc\r\n", b"x" * 14, b"\r\n"], b"abc\r\n" + b"x" * 14, id="the rest of a size"),
        pytest.param([LIKE_ONE + b"1", b"3\r\nabc\r\n", b"x" * 14, b"\r\n"], b"abcdeabc\r\n" + b"x" * 14, id="the rest of a later size"),
        pytest.param([b"00f\r\nAAA\r\n", LIKE_ONE, b"\r\n"], b"AAA\r\n" + LIKE_ONE, id="the rest of a body"),
        pytest.param([b"a\r\n" + ITSELF + b"\r\na\r\n", LIKE_ONE, b"\r\n"], ITSELF + LIKE_ONE, id="what follows a size"),
        pytest.param(
            [b"14\r\n" + b"x" * 10, ITSELF + b"\r\na\r\n", LIKE_ONE, b"\r\n"], b"x" * 10 + ITSELF + LIKE_ONE, id="after a body's rest"
        ),
    ],
)
def test_what_only_looks_like_a_chunk_is_none(pieces, body):
    loop = asyncio.new_event_loop()
    assert heard(loop, [[HEAD + b"1\r\nx\r\n", *pieces, b"0\r\n\r\n"]]) == [200, b"x" + body, "given back", "end"]
    loop.close()


def test_what_looks_like_a_chunk_is_no_answer():
    loop = asyncio.new_event_loop()
    assert heard(loop, [[HEAD + LIKE_ONE + b"0\r\n\r\n"], [LIKE_ONE]]) == [200, b"abcde", "given back", "end", "protocol"]
    loop.close()


@pytest.mark.parametrize("coding", [b"chunked, gzip", b"xchunked", b"chunked;a=b", b"chunked\r\nTransfer-encoding: gzip"])
def test_a_body_that_is_not_chunked_in_the_end_has_no_chunks(coding):
    loop = asyncio.new_event_loop()
    head = HEAD.lower().replace(b"http", b"HTTP").replace(b"chunked", coding)
    assert heard(loop, [[head, LIKE_ONE, LIKE_ONE]]) == [200, LIKE_ONE + LIKE_ONE]
    loop.close()


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([HEAD, LIKE_ONE, LIKE_ONE], id="after the first chunk"),
        pytest.param([HEAD + LIKE_ONE, LIKE_ONE], id="after a chunk that came with the head"),
        pytest.param([HEAD, b"5\r\nab", b"cde\r\n", LIKE_ONE], id="after a chunk that came in two reads"),
        pytest.param([HEAD, b"5\r", b"\nabcde\r", b"\n", LIKE_ONE + LIKE_ONE], id="after one that was cut everywhere"),
        pytest.param([HEAD, b"5\r\nabcde\r\n5;a=b\r\n", b"abcde\r\n", LIKE_ONE], id="after one with an extension"),
    ],
)
def test_the_parser_is_passed_by_as_soon_as_it_stands_between_two_chunks(pieces):
    loop, pool = asyncio.new_event_loop(), Pool()
    told = heard(loop, [[*pieces, b"0\r\n\r\n"]], pool)
    assert pool.taken == 1 and told[1].replace(b"abcde", b"") == b"" and told[2:] == ["given back", "end"]
    loop.close()


class Relay(Pool):
    """A sink that hears what a caller gets, from a stream whose forms are learned."""

    def __init__(self, able: bool) -> None:
        super().__init__(able)
        self.stream: Stream = transform("splice", model="m", wants_usage=True, wants_continuous=True, reasoning="reasoning")

    def data(self, pieces: list[bytes]) -> None:
        self.heard.append(self.stream.feed_all(pieces))

    def framed(self, data: bytes) -> bool:
        shown = self.stream.feed_framed(data) if self.able else None
        if shown is None:
            return False
        self.taken += 1
        self.heard.append(shown)
        return True


def said(text: bytes, number: int, field: bytes = b"content") -> bytes:
    usage = b'{"prompt_tokens":9,"completion_tokens":%d}' % number
    event = b'data: {"choices":[{"index":0,"delta":{"%b":"%b"}}],"usage":%b}\n\n' % (field, text, usage)
    return b"%x\r\n%b\r\n" % (len(event), event)


LEARNED = [HEAD, *(said(b"x", number, field) for number, field in enumerate([b"content", b"reasoning"] * 3))]
TEXTS = [
    b"a",
    b"",
    b"\\n",
    b"a\\",
    b"\\ud800",
    b"\\u00e",
    "é".encode(),
    b"\xff",
    b"\x00",
    b"y" * 4095,
    b"y" * 4096 + b"\\t",
    b"y" * 4096 + b"\xff",
    "é".encode() * 2048,
]
LINES = st.one_of(
    st.builds(said, st.sampled_from(TEXTS), st.sampled_from([0, 10, 10**15 - 1, 10**15]), st.sampled_from([b"content", b"reasoning"])),
    st.sampled_from([b"7\r\ndata: {\r\n", b"1\r\n\n\r\n", b"2\r\n: \r\n"]),
)


@given(st.lists(LINES, min_size=1, max_size=4), st.data())
def test_a_caller_gets_what_it_would_get_by_the_parser_whatever_is_hurt_on_the_way(lines, data):
    *before, read = lines if data.draw(st.booleans()) else [b"".join(lines)]
    how = data.draw(st.sampled_from(["whole", "cut", "hurt"]))
    at = data.draw(st.integers(0, len(read))) if how != "whole" else 0
    if how == "hurt":
        damage = data.draw(st.sampled_from([b"", b"0", b"f", b";", b" ", b"\r", b"\n", b'"', b"\\", b"}", b"\xff"]))
        read = read[:at] + damage + read[at + data.draw(st.integers(0, 1)) :]
        at = 0
    pieces = [*LEARNED, *before, *filter(None, (read[:at], read[at:])), said(b"z", 30), b"e\r\ndata: [DONE]\n\n\r\n", b"0\r\n\r\n"]
    loop, quick, slow = asyncio.new_event_loop(), Relay(able=True), Relay(able=False)
    try:
        assert heard(loop, [pieces], quick) == heard(loop, [pieces], slow)
    finally:
        loop.close()
    assert quick.stream.tally.usage == slow.stream.tally.usage and quick.stream.tally.events == slow.stream.tally.events
    assert quick.taken and not slow.taken

"""Chunks that the parser does not see: whatever an engine sends, what comes of it is what the parser alone makes of it."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.relay.connection import Connection
from gateway.wire.chunks import whole_chunk

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
        pytest.param([b"00f\r\nAAA\r\n", LIKE_ONE, b"\r\n"], b"AAA\r\n" + LIKE_ONE, id="the rest of a body"),
        pytest.param([b"a\r\n" + ITSELF + b"\r\na\r\n", LIKE_ONE, b"\r\n"], ITSELF + LIKE_ONE, id="what follows a size"),
        pytest.param(
            [b"14\r\n" + b"x" * 10, ITSELF + b"\r\na\r\n", LIKE_ONE, b"\r\n"], b"x" * 10 + ITSELF + LIKE_ONE, id="after a body's rest"
        ),
    ],
)
def test_what_only_looks_like_a_chunk_is_none(pieces, body):
    loop = asyncio.new_event_loop()
    assert heard(loop, [[HEAD, *pieces, b"0\r\n\r\n"]]) == [200, body, "given back", "end"]
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

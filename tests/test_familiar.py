"""Heads that are not parsed once more: whatever is sent, what is served is what aiohttp's parser alone would have given."""

import asyncio
import gzip
from typing import Any

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser
from hypothesis import given
from hypothesis import strategies as st

from gateway.accept.familiar import PATIENCE, Familiar, Whole

PLAIN = b"POST /v1/chat/completions HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer a\r\nContent-Length: %d\r\nX-A: b\r\n\r\n%b"
HEADS = (
    PLAIN,
    PLAIN,
    PLAIN,
    PLAIN.replace(b"%d", b"+%d"),
    PLAIN.replace(b"%d", b"0_%d"),
    b"POST /v1/completions HTTP/1.1\r\nHost: gw\r\nContent-Length: %d\r\n\r\n%b",
    b"POST / HTTP/1.1\r\nHost: gw\r\ncontent-length:%d\r\n\r\n%b",
    b"POST / HTTP/1.1\r\nContent-Length:   %d  \r\nHost: gw\r\n\r\n%b",
    b"POST / HTTP/1.1\r\nHost: gw\r\nContent-Length: 0%d\r\n\r\n%b",
    b"POST / HTTP/1.1\r\nHost: gw\r\nX-Content-Length: 3\r\nContent-Length: %d\r\n\r\n%b",
    b"PUT / HTTP/1.1\r\nHost: gw\r\nContent-Length: %d\r\n\r\n%b",
    b"POST / HTTP/1.1\r\nHost: gw\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n%b",
    b"POST / HTTP/1.1\r\nHost: gw\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b",
    b"POST / HTTP/1.1\r\nHost: gw\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b",
    b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: %d\r\n\r\n%b",
    b"\r\nPOST / HTTP/1.1\r\nHost: gw\r\nContent-Length: %d\r\n\r\n%b",
    b"\r\n\r\nPOST / HTTP/1.1\r\nHost: gw\r\nContent-Length: %d\r\n\r\n%b",
    b"POST / HTTP/1.1\r\nHost: gw\r\nContent-Length: %d\r\nContent-Length: 1\r\n\r\n%b",
)
ODD = (
    b"GET /v1/models HTTP/1.1\r\nHost: gw\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: gw\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: gw\r\nContent-Length: 0\r\n\r\n",
    b"rubbish\r\n\r\n",
    PLAIN % (5, b"POST "),
    PLAIN % (7, PLAIN[:7]),
)
BODIES = st.sampled_from([b"", b"x", b"hello", b"\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", PLAIN % (1, b"y"), b"z" * 1234])


@pytest.fixture(scope="module")
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


RARELY = st.integers(0, 7).map(lambda number: number == 0)
SENDINGS = st.tuples(
    st.integers(0, 2),
    BODIES,
    RARELY,
    st.one_of(st.just(9999), st.just(9999), st.just(-1), st.integers(1, 200)),
    st.one_of(st.just(b""), st.just(b""), st.just(b""), st.sampled_from([b"P", b"\r\n", PLAIN[:30], PLAIN % (1, b"y")])),
)
"""Which head; its body; whether the connection is busy; where it is cut (-1 = behind its head); what follows in the same write."""


class Nobody(BaseProtocol):
    """Stands in for the connection that a parser belongs to."""


def parser_of(loop: asyncio.AbstractEventLoop) -> Any:
    return HttpRequestParser(Nobody(loop), loop, 2**16, max_line_size=4096, max_field_size=4096, max_headers=100)


def shown(message: Any) -> tuple[Any, ...]:
    """What is looked at of a request's head."""
    what = message.method, message.path, message.version, message.should_close, message.compression, message.upgrade, message.chunked
    return *what, list(message.headers.items())


class Fed:
    """A parser, or one with a memory for heads before it, and the requests that came out."""

    def __init__(self, loop: asyncio.AbstractEventLoop, familiar: Familiar | None) -> None:
        self.loop = loop
        self.parser = parser_of(loop)
        self.familiar = familiar
        self.found: list[tuple[tuple[Any, ...], Any]] = []
        self.passed = 0
        self.over = False

    def feed(self, data: bytes, waits: bool) -> None:
        """waits: everything that came before was served, so the connection waits for a request."""
        if self.over:
            return
        familiar = self.familiar
        if familiar is not None and waits and all(payload.is_eof() for _, payload in self.found):
            known = familiar.read(data)
            if known is not None:
                self.passed += 1
                self.found.append((shown(known[0]), known[1]))
                return
        try:
            messages, self.over, _ = self.parser.feed_data(data)
        except HttpProcessingError:
            messages, self.over = (), True
        for message, payload in messages:
            self.found.append((shown(message), payload))
            self.over = self.over or message.should_close
        if familiar is not None:
            familiar.fed(data, messages[0][0] if len(messages) == 1 else None)
            if familiar.remembers_all:  # then the connection lets go of its parser
                self.parser = parser_of(self.loop)

    def said(self) -> list[tuple[tuple[Any, ...], bytes, bool]]:
        return [(head, body_of(payload), payload.is_eof()) for head, payload in self.found]


def body_of(payload: Any) -> bytes:
    return payload.data if isinstance(payload, Whole) else b"".join(getattr(getattr(payload, "out", payload), "_buffer", ()))


@given(st.lists(st.sampled_from(HEADS + ODD), min_size=1, max_size=3), st.lists(SENDINGS, min_size=3, max_size=8))
def test_what_is_served_is_what_the_parser_alone_would_give(loop, heads, sendings):
    """Requests with a few heads, sent one by one again and again, now and then cut or glued together, while the connection waits or not."""
    alone, both = Fed(loop, None), Fed(loop, Familiar())
    for number, body, busy, cut, more in sendings:
        request = heads[number % len(heads)]
        if b"%d" in request:
            request %= len(body), body
        at = min(cut, len(request)) if cut >= 0 else request.rfind(b"\r\n\r\n") + 4
        request += more
        for piece in (request[:at], request[at:]):
            if piece:
                alone.feed(piece, not busy)
                both.feed(piece, not busy)
    assert both.said() == alone.said() and both.over == alone.over


def served(loop: asyncio.AbstractEventLoop, *requests: bytes) -> Fed:
    fed = Fed(loop, Familiar())
    for request in requests:
        fed.feed(request, True)
    return fed


def test_a_head_that_came_before_passes_the_parser_by_with_a_body_of_any_length(loop):
    fed = served(
        loop, PLAIN % (3, b"abc"), PLAIN % (3, b"def"), PLAIN % (4, b"ghij"), PLAIN % (4, b"klmn"), PLAIN % (12, b"\r\n\r\n12345678")
    )
    assert fed.passed == 4
    assert [body for _, body, _ in fed.said()] == [b"abc", b"def", b"ghij", b"klmn", b"\r\n\r\n12345678"]
    assert [dict(head[-1])["Content-Length"] for head, _, _ in fed.said()] == ["3", "3", "4", "4", "12"]


def test_a_body_in_pieces_is_the_parsers_and_the_next_request_is_known_again(loop):
    whole = PLAIN % (3, b"abc")
    fed = served(loop, whole[:-2], whole[-2:-1], whole[-1:], whole, whole)
    assert fed.passed == 2 and [body for _, body, _ in fed.said()] == [b"abc"] * 3


@pytest.mark.parametrize("came", [PLAIN % (3, b"abc") * 2, PLAIN % (3, b"abcd"), PLAIN[:30]], ids=["two", "more", "less"])
def test_who_sent_what_does_not_end_with_a_request_is_parsed_from_then_on(loop, came):
    fed = served(loop, came, *[PLAIN % (3, b"abc")] * 3)
    assert fed.passed == 0


def test_who_sends_another_head_each_time_is_not_compared_for_ever(loop):
    other = [b"POST / HTTP/1.1\r\nHost: gw\r\nX-Id: %d\r\nContent-Length: 1\r\n\r\nx" % number for number in range(PATIENCE + 2)]
    assert served(loop, *other, other[-1]).passed == 0
    assert served(loop, *other[:2], *other[:2], other[1], *other[:2], other[1]).passed == 2


def test_a_length_with_zeros_before_it_is_read_by_the_parser(loop):
    odd = PLAIN.replace(b"%d", b"01") % b"x"
    unfinished = PLAIN.replace(b"%d", b"11") % b"x"
    assert served(loop, odd, odd, unfinished).passed == 1


def unfinished(path: bytes) -> bytes:
    """A request of whose body as many bytes are still to come as its head has."""
    head = b"POST %b HTTP/1.1\r\nHost: gw\r\nContent-Length: 100\r\n\r\n" % path
    return head + b"y" * (100 - len(head))


@pytest.mark.parametrize(
    "came",
    [[b"\r\n\r\n"], [b"POST / HTTP/1.1\r\nHost: gw\r\nTransfer-Encoding: chunked\r\n\r\n", b"0\r\n\r\n"]],
    ids=["empty lines", "the end of chunks"],
)
def test_what_stands_before_a_head_is_not_taken_for_it(loop, came):
    """Else the end of a body that looks like a head would pass for the head of the request behind it, whose body has not come yet."""
    *before, start = came
    second = unfinished(b"/2")
    looks = b"POST / HTTP/1.1\r\nX: %b\r\n\r\n"
    looks %= b"x" * (second.find(b"\r\n\r\n") + 4 - len(looks) + 2)
    fed = served(loop, *before, start + second, looks + unfinished(b"/3"))
    assert [(head[1], payload.is_eof()) for head, payload in fed.found][-2:] == [("/2", True), ("/3", False)]
    assert fed.familiar is not None and fed.familiar.read(looks + b"z" * 100) is None


def test_a_packed_body_is_unpacked_each_time(loop):
    packed = gzip.compress(b"hello")
    request = b"POST / HTTP/1.1\r\nHost: gw\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(packed), packed)
    fed = served(loop, request, request)
    assert fed.passed == 0 and [body for _, body, _ in fed.said()] == [b"hello"] * 2

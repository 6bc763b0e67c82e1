"""Heads that came before: whatever an engine sends, what comes of it is what the parser alone makes of it."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.heads import PATIENCE, LastHead, around_length, body_behind
from tests.test_relay_chunks import HEAD, heard

PLAIN = b"HTTP/1.1 200 OK\r\ndate: now\r\ncontent-length: %d\r\ncontent-type: application/json\r\n\r\n"


@pytest.mark.parametrize("size", [1, 8, 10, 97, 100, 500, 990, 1000, 1003, 10_000])
def test_a_body_of_any_length_is_found(size):
    before, after = around_length(PLAIN % 7, 7)
    assert body_behind(before, after, PLAIN % size + b"x" * size) == b"x" * size


@pytest.mark.parametrize("size", [9, 98, 99, 996, 999, 9995])
def test_just_below_a_power_of_ten_the_parser_is_asked(size):
    before, after = around_length(PLAIN % 7, 7)
    assert body_behind(before, after, PLAIN % size + b"x" * size) in (b"", b"x" * size)


def test_what_has_another_head_or_length_is_none():
    before, after = around_length(PLAIN % 7, 7)
    for data in (b"", PLAIN % 7, PLAIN % 7 + b"x" * 6, PLAIN % 7 + b"x" * 8, (PLAIN % 7).replace(b"now", b"nox") + b"x" * 7, b"0" * 400):
        assert body_behind(before, after, data) == b""
    assert body_behind(before, after, (PLAIN % 7).replace(b"th: 7", b"th: 07") + b"x" * 7) == b""
    assert around_length((PLAIN % 7).replace(b"th: 7", b"th: 07"), 7) == (b"", b"") == around_length(PLAIN % 7, 8)
    assert around_length(HEAD, 7) == (b"", b"")


def test_an_engine_with_a_new_head_each_time_is_not_compared_for_ever():
    last, one = LastHead(), PLAIN % 1 + b"x"
    for number in range(PATIENCE + 1):
        last.meet(one.replace(b"now", b"%d" % number), {})
    assert not last.body_of(one.replace(b"now", b"%d" % PATIENCE))
    last = LastHead()
    for _ in range(PATIENCE * 2):
        last.meet(one, {})
        assert last.body_of(one) == b"x"


def test_a_body_that_looks_like_an_answer_is_a_body():
    loop = asyncio.new_event_loop()
    inner = PLAIN % 1 + b"x"
    answers = [[inner], [PLAIN % len(inner), inner], [inner]]
    assert heard(loop, answers) == [200, b"x", "given back", "end", 200, inner, "given back", "end", 200, b"x", "given back", "end"]
    loop.close()


SHAPES = [
    *[PLAIN] * 12,
    PLAIN.replace(b"now", b"then"),
    PLAIN.replace(b"200 OK", b"404 Not Found"),
    PLAIN.replace(b"200 OK", b"204 No Content"),
    PLAIN.replace(b"length: %d", b"length: 0%d"),
    PLAIN.replace(b"length: %d", b"length:%d  "),
    PLAIN.replace(b"date: now", b"connection: close"),
    PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0"),
    b"HTTP/1.1 100 Continue\r\n\r\n" + PLAIN,
    PLAIN.replace(b"date: now", b"content-length: 1"),
]
WRONG = st.sampled_from([0] * 20 + [1, -1, 300])


@st.composite
def answers(draw: st.DrawFn) -> list[bytes]:
    """An answer as it is read: mostly in one piece. Now and then it is chunked, cut, or shorter or longer than it says."""
    if draw(st.integers(0, 9)) == 0:
        return [HEAD, b"3\r\nabc\r\n", b"0\r\n\r\n"]
    size = draw(st.sampled_from([1, 1, 5, 10, 12, 97, 99, 0]))
    data = draw(st.sampled_from(SHAPES)) % max(0, size + draw(WRONG)) + b"{" * size
    at = draw(st.integers(0, len(data))) if draw(st.integers(0, 11)) == 0 else 0
    return [piece for piece in (data[:at], data[at:]) if piece]


@given(st.lists(answers(), min_size=2, max_size=6))
def test_what_is_heard_is_what_the_parser_alone_would_say(given_answers: list[list[bytes]]) -> None:
    loop = asyncio.new_event_loop()
    try:
        ours: list[Any] = heard(loop, given_answers)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gateway.wire.heads.body_behind", lambda before, after, data: b"")
            assert heard(loop, given_answers) == ours
    finally:
        loop.close()

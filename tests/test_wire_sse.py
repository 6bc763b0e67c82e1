"""The splitter gives the same events however the bytes arrive, and costs the same per byte."""

import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire.sse import EventTooLong, Splitter, fields_of
from tests.fixtures.engines import STREAMS

TEXT = [stream.encode() for _, stream in STREAMS.values()]
ENDINGS = [b"\n", b"\r\n", b"\r"]


def split(pieces, limit=1 << 24):
    splitter = Splitter(limit)
    events = [event for piece in pieces for event in splitter.feed(piece)]
    return events, splitter.flush()


@pytest.mark.parametrize("end", ENDINGS, ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("name", STREAMS)
def test_every_split_point_gives_the_same_events(name, end):
    stream = STREAMS[name][1].encode()[:1200]
    whole = split([stream])
    sent = stream.replace(b"\n", end)
    assert split([sent]) == whole
    assert b"".join(whole[0]) + whole[1] == stream
    for at in range(len(sent)):
        assert split([sent[:at], sent[at:]]) == whole
    assert split([sent[at : at + 1] for at in range(len(sent))]) == whole


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([b"\n", b"\r", b"\r\n", b"data: x", b":", b"\xef\xbb\xbf", b"\n\n"]), max_size=12), st.data())
def test_any_bytes_in_any_pieces(parts, data):
    stream = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert split(pieces) == split([stream])


def test_a_byte_order_mark_and_blank_lines_before_the_first_event():
    stream = b"\xef\xbb\xbf\n\n\ndata: 1\n\n\n\n\ndata: 2\n\n"
    events, rest = split([bytes([byte]) for byte in stream])
    assert [fields_of(event).data for event in events] == [b"1", b"2"] and rest == b""


def test_a_megabyte_byte_by_byte_is_linear():
    event = b"data: " + b"x" * 1_000_000 + b"\n\n"
    pieces = [event[at : at + 1] for at in range(len(event))]
    start = time.process_time()
    assert split(pieces) == ([event], b"")
    assert time.process_time() - start < 8


def test_an_event_in_tiny_pieces_takes_little_more_memory_than_its_bytes():
    splitter, data = Splitter(), b"data: " + b"xy" * 100_000 + b"\n\n"
    tracemalloc.start()
    try:
        for at in range(0, len(data) - 2, 2):
            assert splitter.feed(data[at : at + 2]) == []
        assert tracemalloc.get_traced_memory()[1] < 2 * len(data)
    finally:
        tracemalloc.stop()
    assert splitter.feed(b"\n\n") == [data] and splitter.fresh


def test_too_long_is_refused_and_what_was_whole_before_it_is_kept():
    for pieces in (
        [b"data: 1\n\ndata: " + b"x" * 100],
        [b"data: 1\n\n", b"data: ", b"x" * 50, b"x" * 50],
        [b"data: 1\n\ndata: " + b"x" * 90 + b"\n\n"],
    ):
        splitter, seen = Splitter(64), []
        with pytest.raises(EventTooLong, match="64 bytes") as caught:
            for piece in pieces:
                seen += splitter.feed(piece)
        assert seen + caught.value.events == [b"data: 1\n\n"]


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (b'data: {"a":1}\n\n', b'{"a":1}'),
        (b'data:{"a":1}\n\n', b'{"a":1}'),
        (b"data: a\ndata: b\n\n", b"a\nb"),
        (b"data: a\r\ndata:  b\r\n\r\n", b"a\n b"),
        (b"data\n\n", b""),
        (b"data: \n\n", b""),
        (b": keep-alive\n\n", None),
        (b": a\ndata: b\n\n", b"b"),
        (b"event: x\nid: 1\nretry: 5\n\n", None),
        (b"\xef\xbb\xbfdata: a\n\n", b"a"),
        (b"\n\n", None),
    ],
)
def test_data(event, data):
    assert fields_of(event).data == data


def test_lines_that_are_no_sse_are_named():
    assert fields_of(b"Engine callback timeout: server tokenTimeout\n\n").strange == b"Engine callback timeout: server tokenTimeout"
    assert fields_of(b"event: x\ndata: 1\n\n").strange is None

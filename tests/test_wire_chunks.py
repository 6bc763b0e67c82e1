"""Where a chunk lies, and what is left to the parser."""

import pytest

from gateway.wire.chunks import whole_chunk


@pytest.mark.parametrize("digits", [b"%x", b"%X", b"0%x", b"00%x"])
@pytest.mark.parametrize("size", [1, 9, 10, 15, 16, 17, 200, 255, 256, 4096, 70_000])
def test_the_body_of_a_whole_chunk_is_found(size, digits):
    body = b"a" * size
    framing = digits % size
    data = b"before" + framing + b"\r\n" + body + b"\r\n" + b"3\r\nabc\r\n"
    start, stop = whole_chunk(data, len(b"before"))
    assert data[start:stop] == body
    assert data[slice(*whole_chunk(data, stop + 2))] == b"abc"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n",
        b"3",
        b"3\r\n",
        b"3\r\nabc",
        b"3\r\nabc\r",
        b"3\r\nabcd\r\n",
        b"3\nabc\r\n",
        b"3\rabc\r\n",
        b"3\r\nabc\n\n",
        b"3\r\nabc\r\r",
        b"0\r\n\r\n",
        b"000\r\n\r\n",
        b"3;x=y\r\nabc\r\n",
        b"3 \r\nabc\r\n",
        b" 3\r\nabc\r\n",
        b"+3\r\nabc\r\n",
        b"-3\r\nabc\r\n",
        b"0x3\r\nabc\r\n",
        b"g\r\nabc\r\n",
        b"00000003\r\nabc\r\n",
        b"fffffff\r\nabc\r\n",
        b"10\r\n0123456789abcd\r\n",
    ],
)
def test_anything_else_is_the_parsers(data):
    assert whole_chunk(data, 0) == (0, 0)

"""A chunk of a chunked body that arrives whole and alone, taken out of its framing without the parser.

An engine writes each event of its stream as a chunk, and most come alone: for those, HTTP's parser is half of what reading them costs.
Whoever calls knows that the parser stands between two chunks; it stands there again behind this one.
"""

from typing import Final

_LARGEST: Final = 4096
"""Bytes with their framing. Events are smaller; what is larger is worth the parser's time."""

_starts: dict[int, bytes] = {}
"""What a chunk begins with whose size is written plainly, by its length with the framing; b"" = none has that length."""


def whole_chunk(data: bytes) -> bytes | None:
    """The body of the one chunk that `data` is. None = it is anything else, or it may be."""
    start = _starts.get(len(data))
    if start is None:
        start = _start(len(data))
    if start and data.startswith(start) and data.endswith(b"\r\n"):
        return data[len(start) : -2]
    return None


def _start(length: int) -> bytes:
    start = b""
    for digits in (1, 2, 3):
        size = length - digits - 4
        if size > 0 and len(b"%x" % size) == digits:
            start = b"%x\r\n" % size
    if length <= _LARGEST:
        _starts[length] = start
    return start

"""Chunks of a chunked body that arrive whole: one that comes alone is taken out of its framing without the parser.

An engine writes each event of its stream as a chunk, and most come alone: for those, HTTP's parser is half of what reading them costs.
While the parser stands between two chunks, it needs not see what is one whole chunk, because it stands there again behind it.
"""

from typing import Final

_LARGEST: Final = 4096
"""Bytes with their framing. Events are smaller; what is larger is worth the parser's time."""

_starts: Final[dict[int, bytes]] = {}
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


def ends_whole(data: bytes, start: int, bodies: list[bytes]) -> bool:
    """Whether the parser stands between two chunks again behind `data`. It stood there at `start`, and `bodies` is what it has found since.

    Chunks whose sizes are written plainly are as long as that says, and none can be shorter; a last one that is not whole has its
    size right before the end of `data`, where one that is has its body.
    """
    length = start
    for body in bodies:
        size = len(body)
        length += size + (5 if size < 16 else 6 if size < 256 else 7 if size < 4096 else 8 if size < 65536 else 9)
    return length == len(data) and (not bodies or data.endswith(b"%x\r\n%b\r\n" % (len(bodies[-1]), bodies[-1])))

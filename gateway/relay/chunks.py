"""Whole chunks of a chunked body, taken apart without the parser.

An engine writes each event of its stream as a chunk, and most arrive whole: for those, HTTP's parser is half of what their framing costs.
Whoever calls knows that the parser stands between two chunks; it stands there again behind the last of them.
"""

import re
from typing import Final

_SIZE: Final = re.compile(rb"[0-9a-fA-F]{1,5}")
_KEPT: Final = 4096

_sizes: dict[bytes, int] = {}
"""What sizes mean, as they were written; 0 = something else than the size of a chunk with bytes in it."""


def whole_chunks(data: bytes) -> list[bytes] | None:
    """The bodies of the chunks that `data` is. None = it is anything else than whole ones, with bytes in them and without extensions."""
    parts = data.split(b"\r\n")
    last = len(parts) - 1
    if last % 2 or parts[last]:
        return None
    found: list[bytes] = []
    for at in range(0, last, 2):
        body = parts[at + 1]
        size = _sizes.get(parts[at], -1)
        if size < 0:
            size = _learn(parts[at])
        if size != len(body) or not size:
            return None
        found.append(body)
    return found


def _learn(written: bytes) -> int:
    size = int(written, 16) if _SIZE.fullmatch(written) is not None else 0
    if len(_sizes) < _KEPT:
        _sizes[written] = size
    return size

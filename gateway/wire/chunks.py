"""Where a chunk of a chunked body lies among bytes that begin with one (RFC 9112, 7.1)."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mypy_extensions import i64

_DIGITS_MOST: Final = 7
_CR: Final = 0x0D
_LF: Final = 0x0A


def whole_chunk(data: bytes, at: "i64") -> "tuple[i64, i64]":
    """Where the body of the chunk begins whose size stands at `at`, and where it ends, before its CRLF. Zeros = it is not all there, is the
    last one, or is anything that a parser must judge."""
    size: i64 = len(data)
    most: i64 = min(size, at + _DIGITS_MOST)
    length: i64 = 0
    while at < most:
        byte: i64 = data[at]
        if 0x30 <= byte <= 0x39:
            length = length * 16 + byte - 0x30
        elif 0x61 <= byte <= 0x66:
            length = length * 16 + byte - 0x57
        elif 0x41 <= byte <= 0x46:
            length = length * 16 + byte - 0x37
        else:
            break
        at += 1
    start: i64 = at + 2
    stop: i64 = start + length
    if length == 0 or stop + 2 > size or data[at] != _CR or data[at + 1] != _LF or data[stop] != _CR or data[stop + 1] != _LF:
        return 0, 0
    return start, stop

"""What is wrong with bytes that are no plain request, as the caller is told it."""

import re
from typing import Any, Final

from aiohttp import HttpVersion10, HttpVersion11
from aiohttp.http_exceptions import ContentEncodingError, LineTooLong
from aiohttp.http_parser import RawRequestMessage
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.errors import Refusal

_WORDS: Final = re.compile(r"[A-Za-z][\w' /-]{0,79}")
"""What the parser says in words of its own. Bytes that it quotes may be a secret."""

_HOST: Final = re.compile(r"(?:\[[\w.:~!$&'()*+,;=%-]+]|[\w.~!$&'()*+,;=%-]*)(?::\d*)?", re.ASCII)
"""RFC 9112 §3.2: anything else in a Host header must be refused."""

_PLAINER: Final = {"Pause on PRI/Upgrade": "HTTP/2 is not spoken here"}
"""For what the parser says in words that only its authors understand."""


_WANTED: Final = frozenset({b"x-request-id", b"origin", b"x-forwarded-for"})
_value: Final = re.compile(rb"[\x20-\x7e]{0,1000}")
_LINES: Final = 200


def known_of(message: Any, data: bytes) -> CIMultiDictProxy[str]:
    """Of a request that is none, what its caller needs to read the refusal, and the record to name the caller, as far as it can be read.

    data: what came of its head in one go, for a message that the parser has made nothing of.
    """
    found: CIMultiDict[str] = CIMultiDict()
    if isinstance(message, RawRequestMessage):
        lines = [(name, value) for name, value in message.raw_headers]
    else:
        head = data.partition(b"\r\n\r\n")[0].split(b"\r\n", _LINES)[1:]
        lines = [(name, value.strip()) for name, _, value in (line.partition(b":") for line in head)]
    for name, value in lines:
        if name.lower() in _WANTED and _value.fullmatch(value):
            found.add(name.decode(), value.decode())
    return CIMultiDictProxy(found)


def not_unpacked() -> Refusal:
    """The body is packed in a way that the parser does not know."""
    said = "The request body's Content-Encoding is not understood here; send it plain, or as gzip or deflate."
    return Refusal(415, "unsupported_media_type", said, close=True, headers={"Accept-Encoding": "gzip, deflate"})


def objection_to(message: Any, most: int) -> Refusal | None:
    """What is wrong with bytes that are no plain request: 431 when the head is too large, 415, else 400; None = nothing.

    most: bytes of the head.
    """
    large, wrong = False, None
    if isinstance(message, RawRequestMessage):
        large = len(message.path) + sum([len(name) + len(value) + 4 for name, value in message.raw_headers]) > most
        if not HttpVersion10 <= message.version <= HttpVersion11:  # the parser lets 0.9 and 2.0 through
            wrong = "Invalid HTTP version"
        elif _HOST.fullmatch(message.headers.get("Host", "")) is None:
            wrong = "Invalid Host header"
    elif isinstance(message.exc, ContentEncodingError):
        if "deflate" not in str(message.exc):
            return not_unpacked()
        return Refusal(400, "bad_request", "The request body cannot be decoded.", close=True)  # it ends too soon
    else:
        large = isinstance(message.exc, LineTooLong) or "Too many headers" in str(message.exc)
        wrong = _why(message)
    if large:
        return Refusal(431, "header_too_large", "The request's head is larger than this gateway accepts.", close=True)
    if wrong is None:
        return None
    return Refusal(400, "bad_request", f"This is not a valid HTTP/1.1 request{f' ({wrong})' if wrong else ''}.", close=True)


def _why(message: Any) -> str:
    """The parser's reason, `Duplicate Content-Length`: the last line before what it quotes; "" where it has none that can be told."""
    error = getattr(message, "exc", None)
    said = str(getattr(error, "message", "")).partition("\n\n")[0].rpartition("\n")[2].strip(" .:")
    said = _PLAINER.get(said, said)
    return said if _WORDS.fullmatch(said) else ""

"""Heads that a connection has sent before: not parsed once more.

A client sends the same head with each request of a connection, but for the length of its body; parsing it is a fifth of what a small
request costs. aiohttp's strict parser sees each head once. When the next request begins with the very same bytes, is whole and nothing
follows it, what the parser would say of it is known: between two requests it remembers nothing of the one before. Everything else goes
to the parser, and as soon as anything came that may have left it in the middle of something, all that the connection sends from then on.
"""

from typing import Any, Final

from aiohttp import HttpVersion11
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.wire.heads import around_length, body_behind

LARGEST: Final = 4096
"""Bytes of a head that are kept for as long as its connection is open."""
PATIENCE: Final = 4
"""Other heads in a row, after which a connection is believed to send a new one each time."""
DIGITS: Final = 9
"""Of a body's length: more are the parser's business."""


class Whole:
    """A body that arrived whole with its head. Stands in for aiohttp's StreamReader, of which a body that is there needs one question."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def is_eof(self) -> bool:
        return True


READ: Final = Whole(b"")
"""In the place of a body that somebody has taken."""


class Familiar:
    """What one connection's parser was fed, as far as it matters whether it needs to see the next request."""

    __slots__ = ("_after", "_before", "_head", "_left", "_length", "_message", "_strange")

    def __init__(self) -> None:
        self._message: Any = None
        """The last head as it was parsed; None = no head is known."""
        self._head = b""
        self._length = 0
        """Bytes of its body."""
        self._before = self._after = b""
        """The head around the digits of its Content-Length, once one of another length has come; b"" = not looked for yet."""
        self._left = 0
        """Bytes that the parser still expects of the present body; 0 = it is between two requests; less = nobody knows any more."""
        self._strange = 0
        """Heads in a row that were not the one before."""

    @property
    def remembers_all(self) -> bool:
        """Whether the parser knows nothing that is not known here."""
        return self._message is not None and not self._left

    def read(self, data: bytes) -> tuple[Any, Whole] | None:
        """The request that `data` is, as the parser would give it; None = let the parser see it."""
        message = self._message
        if message is None or self._left:
            return None
        head = self._head
        if len(data) == len(head) + self._length and data.startswith(head):
            self._strange = 0
            return message, Whole(data[len(head) :])
        return self._resized(data)

    def _resized(self, data: bytes) -> tuple[Any, Whole] | None:
        """The same with a body of another length."""
        if not self._before:
            self._before, self._after = around_length(self._head, self._length)
            if not self._before:
                self._message = None
                return None
        body = body_behind(self._before, self._after, data)
        if not body:
            return None
        self._strange = 0
        headers = CIMultiDict(self._message.headers)
        headers["Content-Length"] = str(len(body))
        self._message = self._message._replace(headers=CIMultiDictProxy(headers))
        self._head, self._length = data[: len(data) - len(body)], len(body)
        return self._message, Whole(body)

    def fed(self, data: bytes, message: Any) -> None:
        """The parser has taken `data`, with which this request began; None = none began, several did, or it was no request."""
        if self._left > 0:
            self._left -= len(data)
        elif not self._left:
            self._left = self._meet(data, message)

    def _meet(self, data: bytes, message: Any) -> int:
        """Between two requests came `data`. Returns what the parser expects now, and keeps the head when it is a plain one.

        Where a head ends is known only when nothing stands before it, neither empty lines nor the end of chunks.
        """
        self._strange += self._message is not None
        self._message, self._before = None, b""
        if message is None or self._strange > PATIENCE or message.chunked or data[0] in b"\r\n":
            return -1
        head, ended, body = data.partition(b"\r\n\r\n")
        length = message.headers.get("Content-Length", "0")
        if not ended or len(length) > DIGITS:
            return -1
        size = int(length)
        plain = data.startswith(b"POST ") and message.version is HttpVersion11 and "Content-Encoding" not in message.headers
        if plain and size and len(head) < LARGEST:
            self._message = message._replace(raw_headers=())  # which were looked at when they came
            self._head, self._length = head + ended, size
        return size - len(body)

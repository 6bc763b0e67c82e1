"""What the heads of one connection's messages differ in, mostly: the digits of their Content-Length."""

from typing import Final

_NAME: Final = b"\r\ncontent-length:"

PATIENCE: Final = 8
"""Other heads in a row, after which a peer is believed to send a new one each time."""


def around_length(head: bytes, length: int) -> tuple[bytes, bytes]:
    """What stands before and behind the digits of this Content-Length; b"" = it is not written plainly. head: with its blank line."""
    before, found, rest = head.lower().partition(_NAME)
    start = len(before) + len(found) + len(rest) - len(rest.lstrip(b" "))
    digits = b"%d\r\n" % length
    if not head[start:].startswith(digits):
        return b"", b""
    return head[:start], head[start + len(digits) - 2 :]


def body_behind(before: bytes, after: bytes, data: bytes) -> bytes:
    """The body of the whole message that `data` is, when its head is `before`, its length, and `after`; b"" = anything else, or perhaps."""
    rest = len(data) - len(before) - len(after)
    if rest < 2:
        return b""
    size = rest - len(b"%d" % rest)  # with as many digits as `rest`; just above a power of ten it has one less, and is not found
    head = b"%b%d%b" % (before, size, after)
    return data[len(head) :] if len(head) + size == len(data) and data.startswith(head) else b""


class LastHead:
    """The head of an engine's last whole answer on a connection. The next one with the same needs no parser (as accept.familiar has it)."""

    __slots__ = ("_after", "_before", "_strange", "headers")

    def __init__(self) -> None:
        self._before = self._after = b""
        self._strange = 0
        self.headers: dict[bytes, bytes] = {}
        """As they were parsed, with the length of that answer."""

    def body_of(self, data: bytes) -> bytes:
        """The body of the whole answer that `data` is, when it has this head; b"" = anything else, or perhaps."""
        body = body_behind(self._before, self._after, data) if self._before else b""
        if body:
            self._strange = 0
        return body

    def meet(self, data: bytes, headers: dict[bytes, bytes]) -> None:
        """A whole answer was parsed that came in one piece."""
        self._before = b""
        self._strange += 1
        if self._strange <= PATIENCE:
            head, ended, body = data.partition(b"\r\n\r\n")
            self._before, self._after = around_length(head + ended, len(body))
            self.headers = headers.copy()

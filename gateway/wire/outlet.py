"""How the answers of one caller's connection leave: whole ones in one write, streams event by event, each with its proper end or none.

Beside the connection (accept.caller.Caller) instead of in it, because aiohttp's classes cannot be compiled and each event passes here.
"""

from collections.abc import Callable
from typing import Protocol

from gateway.errors import Refusal
from gateway.wire.answers import CONTINUE, LAST_CHUNK, chunk, error_answer, stream_head, whole_answer


class Transport(Protocol):
    """asyncio's, as far as answers need it."""

    def write(self, data: bytes) -> object: ...


class Feeder(Protocol):
    """Whoever feeds a stream: told when the caller is too slow, and when it can take more."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...


class Outlet:
    """One connection's answers, one at a time."""

    __slots__ = (
        "_chunked", "_date", "_opening", "close_after", "feeder", "head_only", "head_sent", "modern", "paused", "streaming", "transport",
    )  # fmt: skip

    def __init__(self, date: Callable[[], bytes]) -> None:
        """date: gives the header line that each answer has."""
        self._date = date
        self.transport: Transport | None = None
        """None = the caller is gone: what is written then goes nowhere."""
        self.feeder: Feeder | None = None
        self.paused = False
        """The caller is slow, and what is written waits here."""
        self.head_sent = False
        self.streaming = False
        self.close_after = False
        """The connection closes after this answer, which says so."""
        self.modern = True
        """HTTP/1.1: may be sent chunks and kept alive by default."""
        self.head_only = False
        self._chunked = True
        self._opening = b""

    def begin(self, modern: bool, head_only: bool, close_after: bool) -> None:
        """A request has come. head_only: it wants no body (HEAD)."""
        self.head_sent = self.streaming = False
        self.modern, self.head_only, self.close_after = modern, head_only, close_after

    # -- whole answers ------------------------------------------------------------------------------------------

    def ready(self, status: int, headers: bytes, body: bytes) -> bytes:
        """A whole answer's bytes. headers: complete lines, each with its CRLF."""
        self.head_sent = True
        return whole_answer(status, self._date(), headers, body, self.close_after, self.head_only)

    def refused(self, refusal: Refusal, headers: bytes = b"") -> bytes:
        """The bytes of a refusal in OpenAI's envelope."""
        self.close_after = self.close_after or refusal.close
        extra, body = error_answer(refusal)
        return self.ready(refusal.status, headers + extra, body)

    def answer(self, status: int, headers: bytes, body: bytes) -> None:
        """A whole answer that no record waits for."""
        self.write(self.ready(status, headers, body))

    def send_continue(self) -> None:
        """The caller may send the body that it has announced."""
        if self.transport is not None:
            self.transport.write(CONTINUE)

    def write(self, data: bytes) -> None:
        """Bytes that `ready`, `refused`, `ended` or `broken` gave, once the record that they end stands in the journal."""
        if self._opening:
            self._opening, data = b"", self._opening + data
        if self.transport is not None:
            self.transport.write(data)

    # -- streams --------------------------------------------------------------------------------------------------

    def begin_stream(self, headers: bytes) -> None:
        """The 200 head of an event stream. It leaves with the first event, in one write."""
        self.head_sent = self.streaming = True
        self._chunked = self.modern
        if not self.modern:
            self.close_after = True
        self._opening = stream_head(self._date(), headers, self.close_after, self.modern)

    def send(self, data: bytes) -> None:
        """Whole events of a begun stream."""
        self.write(chunk(data) if self._chunked else data)

    def open(self) -> None:
        """The end of a stream that had no event: its head leaves all the same."""
        if self._opening:
            self.write(b"")

    def ended(self, data: bytes) -> bytes:
        """The last bytes of a stream with its proper end, for one write."""
        return (chunk(data) if data else b"") + LAST_CHUNK if self.modern else data

    def broken(self, data: bytes) -> bytes:
        """The last bytes of a stream that failed. It gets no proper end and its connection closes, so that it looks
        unfinished even to a caller that does not read the error event."""
        self.close_after = True
        return chunk(data) if self.modern else data

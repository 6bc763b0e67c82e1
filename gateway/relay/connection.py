"""One HTTP/1.1 connection to an engine, parsed by httptools. Serves one exchange at a time and tells its sink what arrives."""

import asyncio
from typing import Any, Protocol

import httptools

from gateway.errors import UpstreamFailure

LATE = 5.0
"""Seconds an engine may take to end a message whose `[DONE]` was seen already, before its connection is dropped."""


class Sink(Protocol):
    """Who listens to an answer. Called from the event loop, never after `end` or `lost`."""

    def head(self, status: int, headers: dict[bytes, bytes]) -> None: ...
    def data(self, data: bytes) -> None: ...
    def end(self) -> None: ...
    def lost(self, failure: UpstreamFailure) -> None: ...


class Owner(Protocol):
    """The pool that a connection goes back to."""

    def give_back(self, connection: "Connection") -> None: ...
    def forget(self, connection: "Connection") -> None: ...


class Connection(asyncio.Protocol):
    """States: idle (in the pool) → busy (has a sink) → idle, or closed. `untouched`: no byte of the present answer has come."""

    __slots__ = (
        "_chunked",
        "_complete",
        "_headed",
        "_headers",
        "_lasting",
        "_late",
        "_length",
        "_loop",
        "_owner",
        "_parser",
        "_pieces",
        "_sink",
        "closed",
        "idle_since",
        "reused",
        "transport",
        "untouched",
    )

    def __init__(self, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        self._owner = owner
        self._loop = loop
        self._parser: Any = httptools.HttpResponseParser(self)
        self._sink: Sink | None = None
        self._headers: dict[bytes, bytes] = {}
        self._pieces: list[bytes] = []
        self._complete = False
        self._headed = self._length = self._chunked = self._lasting = False
        self._late: asyncio.TimerHandle | None = None
        self.transport: asyncio.Transport | None = None
        self.closed = False
        self.reused = False
        self.untouched = True
        self.idle_since = 0.0

    # -- used by the pool and the relay -------------------------------------------------------------------------

    def send(self, request: bytes, sink: Sink) -> None:
        """Sends a whole request; its answer goes to `sink`."""
        assert self.transport is not None
        self._sink = sink
        self._complete = self._headed = self._length = self._chunked = self._lasting = False
        self._headers = {}
        self.untouched = True
        self.transport.write(request)

    def detach(self) -> None:
        """The sink has all it needs. The connection is kept if the engine ends the message soon, else dropped."""
        self._sink = None
        if self._complete:
            self._release()
        elif not self.closed:
            self._late = self._loop.call_later(LATE, self.abort)

    def abort(self) -> None:
        """Drops the connection at once: the engine sees the reset and stops working."""
        self._sink = None
        self._cancel_late()
        if not self.closed and self.transport is not None:
            self.transport.abort()

    def pause(self) -> None:
        if self.transport is not None and not self.closed:
            self.transport.pause_reading()

    def resume(self) -> None:
        if self.transport is not None and not self.closed:
            self.transport.resume_reading()

    # -- asyncio.Protocol ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self._sink is None and self._late is None:
            self.abort()  # bytes nobody asked for: an idle connection out of step is never used again
            return
        self.untouched = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail("protocol", "the engine answered with a protocol upgrade")
            return
        except httptools.HttpParserError:
            self._hand_over()
            self._fail("protocol", "the engine's answer is not valid HTTP")
            return
        self._hand_over()
        if self._complete:
            self._finished()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: BaseException | None) -> None:
        self.closed = True
        self._cancel_late()
        self._owner.forget(self)
        sink = self._sink
        if sink is None:
            return
        if self._headed and not self._length and not self._chunked and not self._complete:
            self._sink = None  # a body without length ends with the connection; whether it is whole, its content must say
            sink.end()
            return
        text = (
            "the engine closed the connection without an answer"
            if self.untouched
            else "the engine closed the connection in the middle of its answer"
        )
        self._fail("reset" if self.untouched else "cut", text)

    # -- httptools callbacks ------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # 100 Continue or 103: not the answer yet
            self._headers = {}
            return
        headers = self._headers
        self._headed = True
        self._length = b"content-length" in headers or status in (204, 304)
        self._chunked = b"chunked" in headers.get(b"transfer-encoding", b"").lower()
        self._lasting = (self._length or self._chunked) and self._parser.should_keep_alive()
        if self._sink is not None:
            self._sink.head(status, headers)

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() >= 200:
            self._complete = True

    # -- inside -------------------------------------------------------------------------------------------------

    def _hand_over(self) -> None:
        pieces = self._pieces
        if not pieces:
            return
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        if self._sink is not None:
            self._sink.data(data)

    def _finished(self) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            self._release_after(sink)
        else:
            self._cancel_late()
            self._release()

    def _release_after(self, sink: Sink) -> None:
        self._release()
        sink.end()

    def _release(self) -> None:
        if self.closed:
            return
        if self._lasting:
            self._owner.give_back(self)
        elif self.transport is not None:
            self.transport.close()

    def _fail(self, reason: str, message: str) -> None:
        sink, self._sink = self._sink, None
        if not self.closed and self.transport is not None:
            self.transport.abort()
        if sink is not None:
            sink.lost(UpstreamFailure(reason, message, status=502, code="upstream_error"))

    def _cancel_late(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

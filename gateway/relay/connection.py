"""One HTTP/1.1 connection to an engine, parsed by httptools. Serves one exchange at a time and tells its sink what arrives."""

import asyncio
import ssl
from typing import Any, Final, Protocol

import httptools

from gateway.errors import UpstreamFailure
from gateway.wire.heads import LastHead

LATE: Final = 5.0
"""Seconds an engine may take to end a message whose `[DONE]` was seen already, before its connection is dropped."""

HEAD_MOST: Final = 256 * 1024
"""Bytes of an answer's head, or in a row of what frames its body, trailers above all; an engine that sends more is out of its mind."""


class Sink(Protocol):
    """Who listens to an answer. Called from the event loop, never after `end` or `lost`.

    pieces: of the body, as its framing had them, which is mostly an event each.
    framed: bytes of the body as they came, which begin where a chunk does. True = they are whole chunks, and the sink has taken them;
    False = it has noted nothing of them, and wants what the parser makes of them.
    """

    def head(self, status: int, headers: dict[bytes, bytes]) -> None: ...
    def data(self, pieces: list[bytes]) -> None: ...
    def framed(self, data: bytes) -> bool: ...
    def end(self) -> None: ...
    def lost(self, failure: UpstreamFailure) -> None: ...


class Owner(Protocol):
    """The pool that a connection goes back to."""

    def post(self, connection: "Connection") -> None: ...
    def give_back(self, connection: "Connection") -> None: ...
    def forget(self, connection: "Connection") -> None: ...


class Connection:
    """States: idle (in the pool) → busy (has a sink) → idle, or closed. `untouched`: no byte of the present answer has come."""

    __slots__ = (
        "_after_chunk",
        "_between",
        "_busy",
        "_chunked",
        "_complete",
        "_head_size",
        "_headed",
        "_headers",
        "_last_head",
        "_lasting",
        "_late",
        "_length",
        "_loop",
        "_owner",
        "_parser",
        "_paused",
        "_pieces",
        "_sink",
        "_unsent",
        "closed",
        "idle_since",
        "on_body",
        "on_header",
        "reused",
        "transport",
        "untouched",
    )

    def __init__(self, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        self._owner = owner
        self._loop = loop
        self._sink: Sink | None = None
        self._headers: dict[bytes, bytes] = {}
        self._pieces: list[bytes] = []
        # httptools calls these two per header and per piece of a body: no frame of ours in between.
        self.on_header = self._headers.__setitem__
        self.on_body = self._pieces.append
        self._parser: Any = httptools.HttpResponseParser(self)
        self._head_size = 0
        self._complete = False
        self._headed = self._length = self._chunked = self._lasting = False
        self._after_chunk = False
        """The parser has found the end of a chunk, and no size since."""
        self._between = False
        """It stands right behind that chunk, with nothing of the next one."""
        self._last_head = LastHead()
        self._late: asyncio.TimerHandle | None = None
        self.transport: asyncio.Transport | None = None
        self._unsent = b""
        self._paused = False
        self._busy = False
        self.closed = False
        self.reused = False
        self.untouched = True
        self.idle_since = 0.0

    # -- used by the pool and the relay -------------------------------------------------------------------------

    def send(self, request: bytes, sink: Sink) -> None:
        """Takes a whole request, which leaves at the end of this turn of the loop; its answer goes to `sink`."""
        self._sink = sink
        self._complete = self._headed = self._length = self._chunked = self._lasting = self._after_chunk = self._between = False
        self._headers.clear()
        self._head_size = 0
        self.untouched = True
        self._busy = True
        self._unsent = request
        self._owner.post(self)

    def transmit(self) -> None:
        """The end of the turn. Who dropped the connection meanwhile wants nothing sent."""
        if not self.closed and self.transport is not None:
            self.transport.write(self._unsent)
        self._unsent = b""

    def detach(self) -> None:
        """The sink has all it needs. The connection is kept if the engine ends the message soon, else dropped.

        When the message is complete already, whoever is reading it gives the connection back, and only they do: given
        back twice, it would serve two exchanges at once.
        """
        self._sink = None
        if not self._complete and not self.closed:
            self._late = self._loop.call_later(LATE, self.abort)

    def abort(self) -> None:
        """Drops the connection at once: the engine sees it and stops working. It is never used again."""
        self._sink = None
        self._cancel_late()
        self._drop()

    def leave(self, sink: Sink) -> None:
        """`sink` wants no more of its answer: the connection is dropped. Unless it serves another by now, or is nobody's:
        who was answered may still be told to stop afterwards."""
        if self._sink is sink:
            self.abort()

    def forget_head(self) -> None:
        """Nobody will look at the headers of this answer any more, which has only begun."""
        if not self._complete:
            self._headers.clear()

    def pause(self) -> None:
        if self.transport is not None and not self.closed and not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        if self.transport is not None and not self.closed and self._paused:
            self._paused = False
            self.transport.resume_reading()

    # -- asyncio.Protocol ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self._sink is None and self._late is None:
            self.abort()  # bytes nobody asked for: an idle connection out of step is never used again
            return
        begun, self.untouched = not self.untouched, False
        if self._between:  # the parser need not see whole chunks, because it stands between two again behind them
            if self._sink is not None and self._sink.framed(data):
                return
        elif not begun:
            body = self._last_head.body_of(data)
            if body:
                self._familiar(body)
                return
        self._parse(data, begun)

    def _familiar(self, body: bytes) -> None:
        """A whole answer with the head of the one before. The parser, which stands between two answers, need not see it."""
        self._headed = self._length = self._lasting = self._complete = True
        if self._sink is not None:
            self._sink.head(200, self._last_head.headers)
        if self._sink is not None:
            self._sink.data([body])
        self._finished()

    def _parse(self, data: bytes, begun: bool) -> None:
        """begun: some of the answer came before."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail("protocol", "the engine answered with a protocol upgrade")
            return
        except httptools.HttpParserError:
            valid = False
        else:
            valid = True
        self._between = self._after_chunk and data.endswith(b"\n")  # a size that has begun has no line's end yet
        pieces = self._pieces[:] if self._pieces else []
        if pieces:
            self._pieces.clear()
            self._head_size = 0
            if self._sink is not None:
                self._sink.data(pieces)
        if self._complete:
            self._lasting &= valid  # if not: the answer is whole, but something follows that nobody asked for
            if not begun and self._parser.get_status_code() == 200:
                self._last_head.meet(data, self._headers)
            self._finished()
        elif not valid:
            self._fail("protocol", "the engine's answer is not valid HTTP")
        elif not pieces:
            self._head_size += len(data)
            if self._head_size > HEAD_MOST:
                self._fail("protocol", "the head of the engine's answer never ends" if not self._headed else "its trailers never end")

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        """A request is one write, kept whole anyway until it has left."""

    def resume_writing(self) -> None: ...

    def connection_lost(self, exc: BaseException | None) -> None:
        self.closed = True
        self._parser = None  # they know each other, and a worker's collector comes seldom
        self._cancel_late()
        self._owner.forget(self)
        sink = self._sink
        if sink is None:
            return
        if exc is None and self._headed and not self._length and not self._chunked and not self._complete:
            self._sink = None  # a body without length ends with the connection; whether it is whole, its content must say
            sink.end()
            return
        if isinstance(exc, ssl.SSLError) and self.untouched and not self.reused:
            self._fail("tls", "the engine refused the TLS connection")  # with TLS 1.3 it says so only after the handshake
            return
        text = (
            "the engine closed the connection without an answer"
            if self.untouched
            else "the engine closed the connection in the middle of its answer"
        )
        self._fail("reset" if self.untouched else "cut", text)

    # -- httptools callbacks ------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._complete:
            raise ValueError("a second answer to one request")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        headers = self._headers
        if status < 200:  # 100 Continue or 103: not the answer yet
            headers.clear()
            return
        if b"content-type" not in headers or not (b"content-length" in headers or b"transfer-encoding" in headers):
            # Most engines write names in lower case; of those that do not, or not all, the names are read again.
            headers.update({name.lower(): value for name, value in headers.items()})
        self._headed = True
        self._length = b"content-length" in headers or status in (204, 304)
        coding = headers.get(b"transfer-encoding")
        self._chunked = coding is not None and coding.lower().rpartition(b",")[2].strip() == b"chunked"  # as the parser sees it
        self._lasting = (self._length or self._chunked) and self._parser.should_keep_alive()
        if self._sink is not None:
            self._sink.head(status, headers)

    def on_chunk_header(self) -> None:
        self._after_chunk = False

    def on_chunk_complete(self) -> None:
        self._after_chunk = True

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() >= 200:
            self._complete = True

    # -- inside -------------------------------------------------------------------------------------------------

    def _finished(self) -> None:
        """The message is complete. The connection is free before its sink is told, so that what follows may use it."""
        sink, self._sink = self._sink, None
        if self._late is not None:
            self._cancel_late()
        self._release()
        if sink is not None:
            sink.end()

    def _release(self) -> None:
        """Back to the pool, at most once per request."""
        if self.closed or not self._busy:
            return
        self._busy = False
        assert self.transport is not None
        if self._paused:
            self.resume()
        if self._lasting and not self._unsent and not self.transport.get_write_buffer_size():
            self._owner.give_back(self)
        else:  # also when the engine answered before it had read the whole request: what is unsent would precede the next one
            self._drop()

    def _fail(self, reason: str, message: str) -> None:
        sink, self._sink = self._sink, None
        self._cancel_late()
        self._drop()
        if sink is not None:
            sink.lost(UpstreamFailure(reason, message, status=502, code="upstream_error"))

    def _drop(self) -> None:
        if not self.closed:
            self.closed = True
            if self.transport is not None:
                self.transport.abort()

    def _cancel_late(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

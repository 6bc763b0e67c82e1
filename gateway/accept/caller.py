"""One caller's connection: aiohttp's parser in front, our own request loop behind; answers leave by its outlet (wire.outlet).

aiohttp's `RequestHandler` gives the strict C parser, flow control, pipelining and keep-alive timing; its response
objects and a task per request are what cost most (facts/performance.md), so `start` is replaced and answers are
written straight to the transport. This file is the only one that touches aiohttp's internals; aiohttp is pinned
and tests/test_accept.py walks each of them.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import HttpVersion11, web
from aiohttp.http_parser import HttpRequestParser, RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler, RequestPayloadError
from multidict import CIMultiDictProxy

from gateway.accept.familiar import READ, Familiar, Whole
from gateway.accept.objections import known_of, objection_to
from gateway.auth.keyring import Visitor
from gateway.errors import Refusal, forget_frames
from gateway.exchange import Exchange
from gateway.moment import date_line
from gateway.wire.outlet import Outlet

log = logging.getLogger("gateway.accept")

WRITE_HIGH = 64 * 1024
"""Bytes waiting for a slow caller before its engine is paused."""

LINGER = 5.0
"""Seconds given to a caller to stop sending a body that was refused, so that it reads our answer instead of a reset."""

Serve = Callable[["Caller"], Awaitable[None]]
RefuseParse = Callable[["Caller", Refusal, CIMultiDictProxy[str]], Awaitable[None]]


class Door(web.Server):
    """Makes a `Caller` per accepted connection and knows those that are open."""

    def __init__(self, serve: Serve, refused: RefuseParse, *, header: int, keepalive: float, write_idle: float) -> None:
        super().__init__(serve, handler_cancellation=True)  # type: ignore[arg-type]
        self.refused = refused
        self.draining = False
        self.refuse_late = False
        self.grace = 0.0
        self.write_idle = write_idle
        self._options: dict[str, Any] = {}
        self.adopt(header=header, keepalive=keepalive, write_idle=write_idle)

    def __call__(self, ip: str = "") -> RequestHandler:
        """ip: the caller's address; "" = the connection's peer."""
        return Caller(self, ip, loop=self._loop, **self._options)

    def adopt(self, *, header: int, keepalive: float, write_idle: float) -> None:
        """Limits for connections that come from now on. header: bytes of a line or field; the rest seconds."""
        self.write_idle = write_idle
        self._options = {
            "keepalive_timeout": keepalive,
            "max_line_size": header,
            "max_field_size": header,
            "max_headers": 100,
            "access_log": None,
        }

    def drain(self, *, refuse_late: bool, grace: float = 0.0) -> None:
        """Closes idle connections; the others close after their present answer. refuse_late: the whole gateway ends,
        so connections that come from now on are told so (health is still answered). grace: seconds in which an open connection
        gets one more request answered, so that none crosses with our goodbye."""
        self.draining = True
        self.refuse_late = refuse_late
        self.grace = grace
        for connection in self.connections:
            assert isinstance(connection, Caller)
            connection.let_go()

    def cut(self) -> None:
        """Ends every request that is being served: each handler is cancelled and has its last words."""
        for connection in self._connections:
            task = connection._task_handler
            if connection._request_in_progress and task is not None:
                task.cancel()

    def end(self, pick: Callable[[Exchange], Refusal | None]) -> int:
        """Ends the requests for which `pick` gives a refusal: their callers are told it. Returns how many these are."""
        ended = 0
        for connection in self._connections:
            assert isinstance(connection, Caller)
            x, task = connection.exchange, connection._task_handler
            if x is None or task is None or x.settled or x.cut is not None:
                continue
            no = pick(x)
            if no is not None:
                x.cut = no
                task.cancel()
                ended += 1
        return ended

    def begun(self) -> int:
        """Connections whose request is being served."""
        return sum(1 for connection in self._connections if connection._request_in_progress)


class Deaf:
    """Stands in for the parser of a connection that is only waited for to end."""

    def feed_data(self, data: bytes) -> tuple[tuple[()], bool, bytes]:
        return (), False, b""


class Caller(RequestHandler):
    """One connection of one caller, serving one request at a time."""

    __slots__ = (
        "door",
        "exchange",
        "familiar",
        "ip",
        "late",
        "message",
        "outlet",
        "payload",
        "stalled",
        "stalled_size",
        "unread",
        "visitor",
    )

    def __init__(self, door: Door, ip: str, **options: Any) -> None:
        super().__init__(door, **options)
        self._messages: list[Any] = []  # type: ignore[assignment]  # of a few; aiohttp's deque takes 760 bytes
        self.door = door
        self.outlet = Outlet(date_line)
        self.exchange: Exchange | None = None
        self.familiar = Familiar()
        self.message: Any = None
        """The present request's head, until somebody takes it up."""
        self.payload: StreamReader | Whole = READ
        """Its body; READ once somebody has all of it."""
        self.visitor = Visitor()
        self.ip = ip
        self.late = door.refuse_late
        self.stalled: asyncio.TimerHandle | None = None
        self.stalled_size = 0
        self.unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert isinstance(transport, asyncio.WriteTransport) or hasattr(transport, "set_write_buffer_limits")
        transport.set_write_buffer_limits(high=WRITE_HIGH)
        self.outlet.transport = self.transport
        if not self.ip:
            peer = transport.get_extra_info("peername")
            self.ip = peer[0] if isinstance(peer, tuple) else ""

    def connection_lost(self, exc: BaseException | None) -> None:
        self.outlet.transport = None
        self.payload = READ  # the body knows its connection, and a worker's collector comes seldom
        self._forget_stall()
        super().connection_lost(exc)

    # -- the request loop -------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """A request whose head this connection has sent before passes aiohttp's parser by, unless others are still held back there.

        A parser takes 3 KB and keeps the last head twice: where it need not remember anything it is let go of, and made anew for what
        it has to see after all.
        """
        if data and not (self._messages or self._reading_paused or self._buffer_paused or self._force_close or self._close):
            known = self.familiar.read(data)
            if known is not None:
                self._request_count += 1
                self._messages.append(known)
                waiter = self._waiter
                if waiter is not None and not waiter.done():
                    waiter.set_result(None)
                return
        count, waiter = self._request_count, self._waiter
        if self._parser is None and not (self._force_close or self._close):
            self._parser = self._new_parser()
        super().data_received(data)
        if data:
            message: Any = self._messages[-1][0] if self._request_count == count + 1 else None
            if isinstance(message, RawRequestMessage):
                self.familiar.fed(data, message)
            else:
                self.familiar.fed(data, None)
                if message is not None:  # no request: the fault's traceback knows the list of messages, and so itself
                    forget_frames(message.exc)
                    if count == 0 or waiter is not None:  # so no body of another request was on its way
                        self.unread = data
            if self.familiar.remembers_all and not (self._reading_paused or self._buffer_paused):  # else some of it waits there
                self._parser = None

    def _new_parser(self) -> Any:
        """As aiohttp makes it when a connection begins."""
        return HttpRequestParser(
            self,
            self._loop,
            self._read_bufsize,
            max_line_size=self.max_line_size,
            max_field_size=self.max_field_size,
            max_headers=self.max_headers,
            payload_exception=RequestPayloadError,
            auto_decompress=True,
            max_msg_queue_size=self._max_msg_queue_size,
        )

    async def start(self) -> None:
        """Serves requests one after another until either side wants to close. Replaces aiohttp's own loop."""
        door = self.door
        serve: Any = door.request_handler
        while not self._force_close:
            if not self._messages:
                if door.draining and self._request_count > 0:
                    if not door.grace:
                        break
                    self._loop.call_later(door.grace, self._part)
                try:
                    self._waiter = self._loop.create_future()
                    await self._waiter
                finally:
                    self._waiter = None
            request: Any = self._messages.pop(0)
            message, self.payload = request
            del request
            if self._parser is not None:
                self._parser.message_consumed()
            if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
                self._resume_reading_if_drained()
            if not isinstance(self.payload, Whole):  # whose head was looked at when it came first
                objection = objection_to(message, self.max_field_size)
                if objection is not None:
                    await self._refuse_parse(objection, known_of(message, self.unread))
                    await self._linger()
                    break
            if self._paused:  # the answer before is still on its way: its slow reader must not gather two
                await self._drain_helper()
            self._begin(message)
            del message  # a stream is long
            try:
                await serve(self)
            except asyncio.CancelledError:
                self.force_close()
                raise
            except Exception:
                log.exception("a request ended in a fault of ours")
                self.force_close()
            finally:
                self._finish()
            if self.outlet.close_after:
                if not self.payload.is_eof():
                    await self._linger()
                break
            if not self.payload.is_eof() and not await self._swallow():
                break
            self._rearm_keepalive()
        if not self._force_close:
            self._task_handler = None
            self.outlet.open()
            if self.transport is not None:
                self.transport.close()

    def _begin(self, message: RawRequestMessage) -> None:
        self.message = message
        modern = message.version is HttpVersion11
        # Who speaks HTTP/1.0 may not understand our keep-alive; what follows a wish to upgrade is not HTTP any more.
        close_after = message.should_close or message.upgrade or self.door.draining or not modern
        self.outlet.begin(modern, message.method == "HEAD", close_after)
        self._request_in_progress = True

    def _finish(self) -> None:
        self._request_in_progress = False
        self.outlet.feeder = None
        self.exchange = self.message = None
        if self._handler_waiter is not None:
            self._handler_waiter.set_result(None)

    async def _refuse_parse(self, refusal: Refusal, known: CIMultiDictProxy[str]) -> None:
        """Always closes: where the next request begins, nobody can tell."""
        self.outlet.begin(modern=True, head_only=False, close_after=True)
        try:
            await self.door.refused(self, refusal, known)
        except Exception:
            log.exception("a refusal ended in a fault of ours")
            self.force_close()

    async def _linger(self) -> None:
        """After the last answer, to a caller that is still sending: it gets time to read the answer, and nothing that it
        sends is parsed any more. Ends when the caller closes: then this task is cancelled."""
        transport = self.transport
        if transport is None:
            return
        self._parser = Deaf()  # type: ignore[assignment]
        self._messages.clear()
        self.resume_reading()
        if transport.can_write_eof():
            transport.write_eof()
        await asyncio.sleep(LINGER)

    async def _swallow(self) -> bool:
        """Reads the rest of a body that nobody wanted, for a short while. False: the connection must close."""
        payload: Any = self.payload
        try:
            async with asyncio.timeout(LINGER):
                while not payload.is_eof():
                    await payload.readany()
        except Exception:  # a broken or endless body: either way this connection is of no more use
            return False
        return True

    def _rearm_keepalive(self) -> None:
        self._next_keepalive_close_time = close_time = self._loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(close_time, self._process_keepalive)

    def let_go(self) -> None:
        """Drain: an idle connection closes now, a busy one after its answer; with a grace, when that has said so or is long over."""
        if self.door.grace:
            if not (self._request_in_progress and self.outlet.head_sent):  # this answer has promised that the connection stays
                self.outlet.close_after = True
            self._loop.call_later(self.door.grace, self._part)
            return
        self.outlet.close_after = True
        waiter = self._waiter
        if waiter is not None and not waiter.done() and self._request_count > 0:
            self.force_close()

    def _part(self) -> None:
        """The grace is over: nobody has asked anything, or not even that."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            self.force_close()

    # -- its end --------------------------------------------------------------------------------------------------

    def gone(self) -> bool:
        return self.transport is None or self.transport.is_closing()

    def force_close(self) -> None:
        self.outlet.open()
        super().force_close()
        self.outlet.transport = None

    # -- slow callers -------------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        super().pause_writing()
        self.outlet.paused = True
        if self.outlet.feeder is not None:
            self.outlet.feeder.pause()
        self._watch_stall()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._forget_stall()
        self.outlet.paused = False
        if self.outlet.feeder is not None:
            self.outlet.feeder.resume()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """aiohttp asks for it after each body. Nearly always there is nothing to resume."""
        if resume_parser or self._reading_paused or self._buffer_paused:
            super().resume_reading(resume_parser)

    def _watch_stall(self) -> None:
        assert self.transport is not None
        self.stalled_size = self.transport.get_write_buffer_size()
        self.stalled = self._loop.call_later(self.door.write_idle, self._stall)

    def _stall(self) -> None:
        """No byte taken for `http.write_idle`: the caller is as good as gone."""
        self.stalled = None
        if self.transport is None:
            return
        if self.transport.get_write_buffer_size() < self.stalled_size:
            self._watch_stall()
            return
        log.info("a caller took no byte for %.0f s and is disconnected", self.door.write_idle)
        self.transport.abort()

    def _forget_stall(self) -> None:
        if self.stalled is not None:
            self.stalled.cancel()
            self.stalled = None

"""One attempt at one engine: its connection, its deadlines, and how it ends. Whole answers and streams build on it.

`done` resolves when the caller has the end of its answer (or is gone); it fails with UpstreamFailure as long as
another engine may be tried, which is until commit.
"""

import asyncio
from abc import ABC, abstractmethod
from time import monotonic
from typing import Final

from gateway.engine.failures import api_missing
from gateway.errors import UpstreamFailure
from gateway.exchange import Exchange
from gateway.relay.clock import Clock
from gateway.relay.connection import Connection
from gateway.relay.ports import Book, Way
from gateway.wire.outlet import Outlet
from gateway.words import STREAMING_APIS

BODY_MOST: Final = 256 * 1024 * 1024
"""Bytes of a whole answer that are kept; larger ones are the engine's fault."""

ERROR_MOST: Final = 64 * 1024
"""Bytes of an engine's error answer that are read."""


class Delivery(ABC):
    """The engine's answer to one attempt, on its way to the caller."""

    __slots__ = (
        "account",
        "clock",
        "connection",
        "done",
        "error_body",
        "headers",
        "hop",
        "last",
        "outlet",
        "started",
        "status",
        "x",
    )

    def __init__(self, x: Exchange, outlet: Outlet, hop: Way, account: Book, clock: Clock) -> None:
        self.x = x
        self.outlet = outlet
        self.hop = hop
        self.account = account
        self.clock = clock
        self.done: asyncio.Future[None] = clock.loop.create_future()
        self.connection: Connection | None = None
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.error_body = b""
        self.started = self.last = 0.0

    # -- the pipeline's side ------------------------------------------------------------------------------------

    def send(self, connection: Connection, request: bytes, now: float) -> None:
        """Sends the request and starts the clocks."""
        self.connection = connection
        self.started = self.last = now
        self.outlet.feeder = self
        self.clock.watch(self, now)  # at the first tick after this the deadlines are worked out: most answers are over by then
        connection.send(request, self)

    def abandon(self) -> None:
        """The caller is gone or the process must end: the engine is told at once by closing its connection."""
        self.rest()
        if self.connection is not None:
            self.connection.leave(self)
        if self.done.done() and not self.done.cancelled():
            self.done.exception()  # it failed in the same moment; nobody will ask any more

    # -- the caller's side (wire.outlet.Feeder) ---------------------------------------------------------------

    def pause(self) -> None:
        if self.connection is not None:
            self.connection.pause()

    def resume(self) -> None:
        if self.connection is not None:
            self.connection.resume()
            self.last = monotonic()

    # -- the engine's side (relay.connection.Sink) --------------------------------------------------------------

    def head(self, status: int, headers: dict[bytes, bytes]) -> None:
        self.status = status
        self.headers = headers

    @abstractmethod
    def data(self, pieces: list[bytes]) -> None: ...

    def framed(self, data: bytes) -> bool:
        return False

    @abstractmethod
    def end(self) -> None: ...

    @abstractmethod
    def lost(self, failure: UpstreamFailure) -> None: ...

    # -- shared steps -------------------------------------------------------------------------------------------

    def error_data(self, pieces: list[bytes]) -> None:
        """Some of an error answer. One that is too long to be one is judged by its beginning."""
        self.last = monotonic()
        self.error_body += b"".join(pieces)
        if len(self.error_body) > ERROR_MOST:
            assert self.connection is not None
            self.connection.leave(self)
            self.fail(self.refused())

    def refused(self) -> UpstreamFailure:
        """The engine's error answer, translated by its dialect."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in self.headers.items()}
        failure = self.hop.dialect.failure(self.status, self.error_body, headers)
        failure.upstream_status = self.status
        return failure if self.x.api in STREAMING_APIS else api_missing(failure)

    def succeed(self, now: float) -> None:
        """This attempt served: so it stands in the record, and the endpoint is well."""
        attempt = self.x.attempts[-1]
        attempt.reason, attempt.status, attempt.ms = "ok", 200, int((now - self.started) * 1_000_000) / 1000
        self.hop.served(self.x.ticket)

    def failed(self, failure: UpstreamFailure) -> None:
        """This attempt broke off, and the caller is told: so it stands in the record, and against the endpoint."""
        attempt = self.x.attempts[-1]
        attempt.reason, attempt.ms = failure.reason, int((monotonic() - self.started) * 1_000_000) / 1000
        self.hop.failed(failure, self.x.ticket)

    def fail(self, failure: UpstreamFailure) -> None:
        """This attempt is over and nothing of it reached the caller: the pipeline decides what comes next."""
        self.rest()
        if not self.done.done():
            self.done.set_exception(failure)

    def finish(self, end: bytes) -> None:
        """The record stands in the journal: the caller gets the end of its answer."""
        self.outlet.write(end)
        if not self.done.done():
            self.done.set_result(None)

    def rest(self) -> None:
        """No more clocks, no more back-pressure: this attempt waits for nothing any more."""
        self.outlet.feeder = None
        self.clock.forget(self)

    # -- deadlines (relay.clock.Watched) ------------------------------------------------------------------------

    @abstractmethod
    def _deadline(self) -> float:
        """The next moment at which something must be looked at."""

    @abstractmethod
    def _overdue(self, now: float) -> None:
        """That moment has come."""

    def look(self, now: float) -> float:
        """Acts on a deadline that has passed, and says when to look again."""
        if self._deadline() <= now:
            self._overdue(now)
        # A deadline only ever moves away, except when an answer begins: then `idle` from there is the next one.
        return min(self._deadline(), now + self.hop.channel.timeouts.idle)

    def stood_still(self, since: float, now: float) -> None:
        """What was read right after it, before the clock's tick, was noted with the time before."""
        if self.last >= since:
            self.last = now

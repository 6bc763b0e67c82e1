"""A stream's caller whose request waits for a place at an engine: comments keep its connection open meanwhile."""

from time import monotonic
from types import TracebackType

from gateway.exchange import Exchange
from gateway.relay.clock import Clock
from gateway.wire.answers import KEEP_ALIVE, identity
from gateway.wire.outlet import Outlet


class Waiting:
    """Used as a context: keeps alive while inside, and notes how long that was."""

    __slots__ = ("_begun", "_clock", "_every", "_outlet", "_x")

    def __init__(self, x: Exchange, outlet: Outlet, clock: Clock) -> None:
        self._x, self._outlet, self._clock = x, outlet, clock
        self._every: float = x.snapshot.http.sse_keepalive
        self._begun = monotonic()

    def __enter__(self) -> None:
        self._x.in_queue = True
        if self._x.stream:
            self._clock.watch(self, self._begun + self._every)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._clock.forget(self)
        self._x.queued += monotonic() - self._begun
        self._x.in_queue = error is not None  # who left here left the queue

    def look(self, now: float) -> float:
        """Called by the clock (relay.clock.Watched)."""
        if not self._outlet.head_sent:
            self._outlet.begin_stream(identity(self._x, channel=False))
        if not self._outlet.paused:
            self._outlet.send(KEEP_ALIVE)
        return now + self._every

    def stood_still(self, since: float, now: float) -> None:
        """A comment that comes sooner does no harm."""

"""A stream that another engine may go on with: when its engine dies after commit, the dispatcher is told instead of the caller."""

from functools import partial
from time import monotonic

from gateway.errors import UpstreamFailure
from gateway.exchange import Exchange
from gateway.record import Tokens
from gateway.relay.clock import Clock
from gateway.relay.ports import Book, Way
from gateway.relay.stream import StreamDelivery
from gateway.wire.answers import DONE
from gateway.wire.continuation import SoFar
from gateway.wire.event import encode
from gateway.wire.outlet import Outlet
from gateway.wire.stream import Stream
from gateway.words import End


class ContinuingDelivery(StreamDelivery):
    """One engine's part of an answer. `done` fails also after commit; that the caller has the beginning, `x.first` tells."""

    __slots__ = ("so_far",)

    def __init__(
        self, x: Exchange, outlet: Outlet, hop: Way, account: Book, clock: Clock, transform: Stream, keepalive: float, so_far: SoFar
    ) -> None:
        super().__init__(x, outlet, hop, account, clock, transform, keepalive)
        self.so_far = so_far

    def _break(self, failure: UpstreamFailure) -> None:
        so_far = self.so_far
        if self.committed and self.transform.finished and failure.blame == "engine":
            self._conclude(failure)
        elif not self.committed or failure.blame != "engine" or failure.reason == "timeout_total" or not so_far.able:
            super()._break(failure)
        elif so_far.full:
            self._conclude(failure)
        else:
            self.count("continuous")
            self._tell_own()
            self.fail(failure)

    def _complete(self, out: bytes, now: float) -> None:
        left = self.so_far.left(self.transform.tally.frame)
        super()._complete(b"data: " + encode(left) + b"\n\n" + out if left else out, now)

    def _conclude(self, failure: UpstreamFailure) -> None:
        """Nothing is missing but the end: the caller has the finish reason, or all the tokens it wanted."""
        self.failed(failure)
        x, transform = self.x, self.transform
        out = transform.conclude({} if transform.finished else self.so_far.last_event(transform.tally.frame)) + DONE
        self.out_bytes += len(out)
        x.status, x.end = 200, End.NORMAL
        self.count("continuous")
        end = self.outlet.ended(out)
        self.rest()
        self.account.settle(x, monotonic(), partial(self.finish, end))

    def count(self, source: str) -> None:
        """What the caller got of all engines together."""
        super().count(source)
        x, so_far = self.x, self.so_far
        if x.source == "counted":
            x.tokens = Tokens(input=so_far.prompt or 0, output=so_far.given)
        elif so_far.continued and x.source == source:
            x.source = "continuous" if so_far.exact else "counted"
        if so_far.continued:
            self._tell_own()

    def _tell_own(self) -> None:
        """What this engine says of its own part stands at its attempt."""
        self.x.attempts[-1].tokens = self.so_far.own or Tokens(output=self.transform.tally.events)

"""A stream: whole events from the engine, transformed, to the caller as they come, by callback.

Until commit (the first event with content) what arrived is held back and another engine may be tried; from then on
the stream ends in one of two honest ways: settled and `[DONE]`, or an error event and no `[DONE]`.
"""

from functools import partial
from time import monotonic
from typing import Final

from gateway.errors import UpstreamFailure
from gateway.exchange import Exchange
from gateway.record import NO_TOKENS, Tokens
from gateway.relay.clock import Clock
from gateway.relay.delivery import Delivery
from gateway.relay.ports import Book, Way
from gateway.wire.answers import DONE, KEEP_ALIVE, identity, own_words, type_of
from gateway.wire.event import decode, error_in
from gateway.wire.openai import error_event
from gateway.wire.outlet import Outlet
from gateway.wire.stream import Stream
from gateway.wire.usage import tokens_of
from gateway.words import End

NO_STREAM: Final = -200
"""Stands for the status of a whole answer where a stream was asked for: its body is read as an error."""

BEGUN_EVERY: Final = 1.0
"""Seconds after which is looked again whether an answer has begun."""

HELD_MOST: Final = 32 * 1024 * 1024
"""Bytes of events without content that are held back until commit: room for the largest event, and the events of all choices' roles."""


class StreamDelivery(Delivery):
    """One attempt at a stream."""

    __slots__ = ("committed", "held", "held_bytes", "keepalive", "out_bytes", "place", "sent", "table", "tally", "transform")

    def __init__(self, x: Exchange, outlet: Outlet, hop: Way, account: Book, clock: Clock, transform: Stream, keepalive: float) -> None:
        super().__init__(x, outlet, hop, account, clock)
        self.transform = transform
        self.tally = transform.tally
        self.table = account.table
        self.place = x.progress
        self.out_bytes = x.out_bytes
        self.keepalive = keepalive
        self.held: list[bytes] = []
        self.held_bytes = 0
        self.committed = False
        self.sent = monotonic()

    def abandon(self) -> None:
        """What was used until the caller left is recorded."""
        super().abandon()
        self.count("continuous")

    # -- the engine's side --------------------------------------------------------------------------------------

    def head(self, status: int, headers: dict[bytes, bytes]) -> None:
        super().head(status, headers)
        if status == 200:
            kind = headers.get(b"content-type", b"")
            if not kind.startswith(b"text/event-stream") and not kind.lower().startswith(b"text/event-stream"):
                self.status = NO_STREAM

    def data(self, pieces: list[bytes]) -> None:
        if self.status != 200:
            self.error_data(pieces)
            return
        transform = self.transform
        out = transform.feed_all(pieces)
        now = monotonic()
        self._heard(now)
        if not self.committed:
            if not transform.committed and not transform.done:
                if out:
                    self.held.append(out)
                    self.held_bytes += len(out)
                if transform.over:
                    self._engine_failed()
                elif self.held_bytes > HELD_MOST:
                    self._says_nothing()
                return
            out = self._commit(out, now)
        if transform.done:
            self._complete(out, now)
            return
        if out:
            self._pass_on(out, now)
        if transform.over:
            self._engine_failed()

    def framed(self, data: bytes) -> bool:
        out = self.transform.feed_framed(data) if self.committed else None
        if out is None:
            return False
        now = self.clock.soon
        self._heard(now)
        self._pass_on(out, now)
        return True

    def end(self) -> None:
        if self.status != 200:
            self.fail(self.refused())
            return
        self._last_words(UpstreamFailure("cut", "the engine ended its stream before it was complete"))

    def lost(self, failure: UpstreamFailure) -> None:
        if self.status == 200:
            self._last_words(failure)
        else:
            self._break(failure)

    def refused(self) -> UpstreamFailure:
        if self.status != NO_STREAM:
            return super().refused()
        said = error_in(decode(self.error_body))
        return self.hop.dialect.event_failure(said) if said else UpstreamFailure("garbage", "the engine did not answer with a stream")

    # -- steps ----------------------------------------------------------------------------------------------------

    def _heard(self, now: float) -> None:
        """The engine has said something, which was fed."""
        self.last = now
        usage = self.tally.usage
        if usage:
            self.table.usage(self.place, usage)

    def _pass_on(self, out: bytes, now: float) -> None:
        self.sent = now
        self.out_bytes += len(out)
        self.outlet.send(out)

    def _commit(self, out: bytes, now: float) -> bytes:
        """The first event with content: from here on this engine's answer is the caller's answer."""
        self.committed = True
        x = self.x
        x.first = x.first or now
        self.hop.began(now - self.started)
        x.status = 200
        if not self.outlet.head_sent:
            self.outlet.begin_stream(identity(x))
        if self.held:
            out = b"".join([*self.held, out])
            self.held.clear()
        if self.outlet.paused:  # what an engine before this one has written is still on its way
            self.pause()
        return out

    def _forget_what_led_here(self) -> None:
        """A stream may be long, and there may be thousands: it keeps nothing that nobody needs any more. Not done at commit, because the
        first tokens of others wait for what this one does then."""
        x = self.x
        x.request = b""
        if x.so_far is None and self._told() is not None:  # else another engine may be asked, or its prompt have to be counted
            x.forget_request()
        assert self.connection is not None
        self.connection.forget_head()

    def _complete(self, out: bytes, now: float) -> None:
        """`[DONE]` was seen: the record is settled before the bytes that end the answer are released."""
        x = self.x
        out += DONE
        self.out_bytes += len(out)
        x.status, x.end = 200, End.NORMAL
        self.count("final")
        self.succeed(now)
        end = self.outlet.ended(out)
        assert self.connection is not None
        self.connection.detach()
        self.rest()
        self.account.settle(x, now, partial(self.finish, end))

    def _last_words(self, failure: UpstreamFailure) -> None:
        """The engine's bytes are at their end: a `[DONE]` without its blank line still counts, anything else is `failure`."""
        transform = self.transform
        out = transform.flush()
        if transform.done:
            now = monotonic()
            self._complete(out if self.committed else self._commit(out, now), now)
        elif transform.broken is not None or transform.error is not None:
            self._engine_failed()
        else:
            self._break(failure)

    def _engine_failed(self) -> None:
        """An in-band error event, or bytes that are no stream."""
        assert self.connection is not None
        self.connection.leave(self)
        transform = self.transform
        if transform.error is not None:
            self._break(self.hop.dialect.event_failure(transform.error))
        else:
            said = self.hop.dialect.text_failure(transform.broken_text)
            self._break(said or UpstreamFailure("garbage", f"the engine broke its stream: {transform.broken}"))

    def _says_nothing(self) -> None:
        """It goes on and on without a word: that must not become a memory full of it."""
        assert self.connection is not None
        self.connection.leave(self)
        self._break(UpstreamFailure("garbage", "the engine sent much and said nothing"))

    def _break(self, failure: UpstreamFailure) -> None:
        if not self.committed:
            if usage := self.tally.usage:  # what it has worked in vain
                self.x.attempts[-1].tokens = tokens_of(usage) or NO_TOKENS
            self.fail(failure)
            return
        x = self.x
        x.end, x.error = End.UPSTREAM + End.DATA, failure.reason
        self.failed(failure)
        event = error_event(own_words(failure.message, x), failure.type or type_of(failure.status), failure.param, failure.code)
        self.out_bytes += len(event)
        self.count("continuous")
        end = self.outlet.broken(event)
        self.rest()
        self.account.settle(x, monotonic(), partial(self.finish, end))

    def count(self, source: str) -> None:
        """What the caller got: tokens from the engine's latest usage, else from the events that carried output, and bytes."""
        x, tally = self.x, self.tally
        x.out_bytes = self.out_bytes
        tokens = self._told()
        if tokens is not None:
            x.tokens, x.source = tokens, source
        elif tally.events:
            x.source = "counted"
            x.tokens = Tokens(output=tally.events)
        x.own_part()

    def _told(self) -> Tokens | None:
        """What the engine says itself of what it has used."""
        return tokens_of(self.tally.usage) if self.hop.channel.usage != "count" else None

    # -- clocks ---------------------------------------------------------------------------------------------------

    def look(self, now: float) -> float:
        again = super().look(now)
        if not self.committed:
            return min(again, now + BEGUN_EVERY)
        if self.x.request:
            self._forget_what_led_here()
        return again

    def _deadline(self) -> float:
        timeouts = self.hop.channel.timeouts
        silent = self.last + timeouts.idle if self.committed else self.started + timeouts.first_event
        return min(silent, self.started + timeouts.total, self.sent + self.keepalive)

    def _overdue(self, now: float) -> None:
        timeouts = self.hop.channel.timeouts
        if self.outlet.paused:
            self.last = now  # the engine is paused because the caller is slow: its silence is not its fault
        if now >= self.started + timeouts.total:
            self._give_up("timeout_total", retryable=False)
        elif not self.committed and now >= self.started + timeouts.first_event:
            self._give_up("timeout_first_event", retryable=True)
        elif self.committed and now >= self.last + timeouts.idle:
            self._give_up("timeout_idle", retryable=False)
        elif now >= self.sent + self.keepalive:
            self._keep_alive(now)

    def _give_up(self, reason: str, retryable: bool) -> None:
        assert self.connection is not None
        self.connection.leave(self)
        self._break(UpstreamFailure(reason, "the engine did not answer in time", 504, "upstream_timeout", retryable=retryable))

    def _keep_alive(self, now: float) -> None:
        """A comment, so that proxies between us and the caller do not cut a connection that only waits."""
        self.sent = now
        if not self.outlet.head_sent:
            self.outlet.begin_stream(identity(self.x, channel=False))
        if not self.outlet.paused:
            self.outlet.send(KEEP_ALIVE)

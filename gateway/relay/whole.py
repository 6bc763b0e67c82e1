"""A whole (non-stream) answer: collected, checked to be what the API answers, renamed, accounted, then sent in one write."""

from functools import partial
from time import monotonic
from typing import Final

from msgspec import Raw

from gateway.config.tokenizers import ENGINE
from gateway.errors import UpstreamFailure
from gateway.exchange import Exchange
from gateway.record import Tokens
from gateway.relay.clock import Clock
from gateway.relay.delivery import BODY_MOST, Delivery
from gateway.relay.ports import Book, Way
from gateway.wire.answers import identity
from gateway.wire.event import decode, error_in
from gateway.wire.heard import Heard
from gateway.wire.openai import encode, json_string
from gateway.wire.outlet import Outlet
from gateway.wire.usage import tokens_of
from gateway.words import End

BYTES_PER_TOKEN: Final = 4
"""Of an answer's text, where nothing can count it."""


class WholeDelivery(Delivery):
    """Nothing reaches the caller before the engine's answer is complete, so a truncated one can never look whole."""

    __slots__ = ("_size", "pieces")

    def __init__(self, x: Exchange, outlet: Outlet, hop: Way, account: Book, clock: Clock) -> None:
        super().__init__(x, outlet, hop, account, clock)
        self.pieces: list[bytes] = []
        self._size = 0

    def data(self, pieces: list[bytes]) -> None:
        if self.status != 200:
            self.error_data(pieces)
            return
        self.last = monotonic()
        piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)  # thousands of tiny ones would cost many times their bytes
        self.pieces.append(piece)
        self._size += len(piece)
        if self._size > BODY_MOST:
            assert self.connection is not None
            self.connection.leave(self)
            self.fail(UpstreamFailure("too_large", "the engine's answer is larger than the gateway relays"))

    def end(self) -> None:
        if self.status != 200:
            self.fail(self.refused())
            return
        body = self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)
        x, hop = self.x, self.hop
        try:
            fields = hop.dialect.answer(x.api, body, hop.channel.reasoning, x.fields)
        except ValueError:
            self.fail(self._no_answer(body))
            return
        if "error" in fields and error_in(decode(body)):  # beside an answer that is none or a part of one, as in a stream
            self.fail(self._no_answer(body))
            return
        fields["model"] = json_string(x.virtual.name)
        tokens = tokens_of(fields.get("usage"))
        if tokens is not None:
            x.tokens, x.source = tokens, "final"
            x.own_part()
        elif "choices" in fields:
            self._count(fields["choices"])
        out = encode(fields)
        x.first = now = monotonic()
        x.status, x.end, x.out_bytes = 200, End.NORMAL, len(out)
        self.succeed(now)
        end = self.outlet.ready(200, identity(x), out)
        self.rest()
        self.account.settle(x, now, partial(self.finish, end))

    def _count(self, choices: Raw) -> None:
        """The engine does not say what it has used: the text is counted, by the model's own tokenizer if it has one, else by its size."""
        x = self.x
        tokenizer: str = x.snapshot.models.get(x.via, x.virtual).config.tokenizer
        heard = Heard(self.hop.dialect.event, tokenizer)
        heard.whole(decode(bytes(choices)))
        if tokenizer not in ("", ENGINE):
            x.heard = heard
        size = len(bytes(choices)) if heard.overfull else sum([len(text.encode(errors="replace")) for text in heard.texts()])
        x.tokens, x.source = Tokens(output=-(-size // BYTES_PER_TOKEN)), "counted"
        x.own_part()

    def _no_answer(self, body: bytes) -> UpstreamFailure:
        """A body that is none of this API's answers, although its status says 200: an error, or nothing that is understood."""
        said = error_in(decode(body))
        return (
            self.hop.dialect.event_failure(said) if said else UpstreamFailure("garbage", "the engine's answer is not what this API answers")
        )

    def lost(self, failure: UpstreamFailure) -> None:
        self.fail(failure)

    def _deadline(self) -> float:
        timeouts = self.hop.channel.timeouts
        total = self.started + timeouts.total
        return min(total, self.last + timeouts.idle) if self.status else total

    def _overdue(self, now: float) -> None:
        assert self.connection is not None
        self.connection.leave(self)
        kind = "idle" if now < self.started + self.hop.channel.timeouts.total else "total"
        self.fail(
            UpstreamFailure(
                f"timeout_{kind}", "the engine did not finish its answer in time", 504, "upstream_timeout", retryable=kind == "idle"
            )
        )

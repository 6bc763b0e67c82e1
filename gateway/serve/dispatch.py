"""From a decision to an answer: the plan's hops in order, each with its seat, its connection and its attempt, until one commits.

Fallback models follow when everything of the model failed. What the caller has to be told of it is raised.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic

import msgspec

from gateway.auth.freezes import Frozen
from gateway.config.tokenizers import ENGINE
from gateway.engine.base import Fields, Normalise
from gateway.engine.continuing import continued, limit_of, may_continue, stops_of
from gateway.engine.prepare import prepare
from gateway.errors import Refusal, UpstreamFailure, forget_frames
from gateway.exchange import Exchange
from gateway.meter.account import Account
from gateway.record import Attempt
from gateway.referee.seats import Seat, Seats
from gateway.relay.clock import Clock
from gateway.relay.connection import Connection
from gateway.relay.continuing import ContinuingDelivery
from gateway.relay.delivery import Delivery
from gateway.relay.stream import StreamDelivery
from gateway.relay.waiting import Waiting
from gateway.relay.whole import WholeDelivery
from gateway.route.ask import Ask
from gateway.route.decide import Decision
from gateway.route.fit import nobody, unserved
from gateway.serve.further import elsewhere, led, listed, may_go_on, onward, told, word, worth_telling
from gateway.serve.live import Hop, ModelLive
from gateway.serve.measure import Measure
from gateway.wire.answers import header_block
from gateway.wire.continuation import SoFar
from gateway.wire.heard import Heard
from gateway.wire.openai import encode
from gateway.wire.outlet import Outlet
from gateway.wire.stream import transform
from gateway.wire.tally import choices_of_each, several_of_one
from gateway.words import STREAMING_APIS, End

log = logging.getLogger("gateway.request")


class Dispatch:
    """Sends requests on their way, for one worker."""

    def __init__(
        self, account: Account, loop: asyncio.AbstractEventLoop, seats: Seats, measure: Measure, frozen: Callable[[], Frozen | None]
    ) -> None:
        """frozen: what is frozen now; None = nothing."""
        self._frozen = frozen
        self._account = account
        self._clock = Clock(loop)
        self._seats = seats
        self._measure = measure

    def deliver(self, x: Exchange, outlet: Outlet) -> Awaitable[None]:
        """Done when the caller has its answer. Raises the failure or Refusal that the caller is to be told."""
        model: ModelLive = x.virtual
        return self._serve_or_fall_back(x, outlet, model) if model.goes_on else self._serve(x, outlet, model, "first", [])

    async def _serve_or_fall_back(self, x: Exchange, outlet: Outlet, model: ModelLive) -> None:
        way: list[ModelLive] = []
        try:
            await self._serve(x, outlet, model, "first", way)
        except (UpstreamFailure, Refusal) as no:
            forget_frames(no)
            if x.first or not elsewhere(no, way[-1]):
                raise
            await self._fall_back(x, outlet, way, no)

    async def _fall_back(self, x: Exchange, outlet: Outlet, way: list[ModelLive], no: UpstreamFailure | Refusal) -> None:
        """The other models, when everything of the last one on the way failed, was full, or too short for the request."""
        rest, tried = onward(way), set(way)
        while rest:
            other = rest.pop(0)
            if other in tried:
                continue
            tried.add(other)
            log.info("request %s: %s did not serve it (%s); on to %s", x.id, way[-1].name, word(no), other.name)
            try:
                await self._serve(x, outlet, other, "fallback", way)
                return
            except (UpstreamFailure, Refusal) as further:
                forget_frames(further)
                tried.update(way)
                rest = onward(way) + rest
                if (isinstance(further, Refusal) and further.who == End.OPERATOR) or word(further) == "unsupported":
                    continue  # frozen, or without this API: as if it were not there
                no = told(no, further)
                if not elsewhere(further, way[-1]):
                    break
        raise no

    async def _serve(self, x: Exchange, outlet: Outlet, model: ModelLive, kind: str, way: list[ModelLive]) -> None:
        """One model's plan. kind: of its first attempt. way: becomes the models that rules led through, the last one in charge."""
        started = monotonic()
        decision = await self._plan(x, model, kind, started, way)
        way[-1].budget.first_try()
        failure: UpstreamFailure | None = None
        unable: Refusal | None = None
        hops = _offering(x.api, decision.ways, model)
        begun = len(x.attempts)
        while hops:
            if failure is not None and not may_go_on(x, way[-1], failure, started, begun):
                break
            hop, seat = hops[0], None
            if failure is not None and hop.at.shut:  # since the plan was made
                hops = hops[1:]
                continue
            if hop.limited:
                hop, seat = await self._sit(x, outlet, hops)
                if hop.at.shut:  # since it waits
                    self._rise(seat)
                    hops = [other for other in hops if not other.at.shut]
                    if not hops and failure is None:  # a registry may list others instead
                        decision = await self._plan(x, model, kind, monotonic(), way)
                        hops = _offering(x.api, decision.ways, model)
                    continue
            hops = [other for other in hops if other is not hop]
            try:
                error = await self._try(x, outlet, hop, seat, kind if len(x.attempts) == begun else "failover")
            except Refusal as no:  # what this engine cannot do another one may
                forget_frames(no)
                unable = no
                continue
            if error is None:
                return
            if x.first:
                failure = error
                break
            failure = worth_telling(failure, error)
            if not error.retryable or not listed(error, way[-1].config.retry.on):
                break
        if x.first and failure is not None:
            await self._go_on(x, outlet, way[-1], hops, failure, begun)
            return
        raise failure or unable or nobody(decision.resting)

    async def _plan(self, x: Exchange, model: ModelLive, kind: str, now: float, way: list[ModelLive]) -> Decision:
        """Where it goes, noted in the record and in `way`. Errors: Refusal."""
        try:
            decision = model.plan(x, now)
            if isinstance(decision, Ask):
                decision = await self._decide(x, model, decision)
        except Refusal as no:
            way[:] = led(x, model, no.through)
            if kind == "first":
                x.rule, x.via = no.rule, no.via
            raise
        way[:] = led(x, model, decision.through) if decision.through else [model]
        if (kind == "fallback" or decision.through) and (frozen := self._frozen()) is not None:
            frozen.allow(model.name, *decision.through)
        x.rule, x.policy = decision.rule, decision.policy
        x.via = decision.via or (model.name if model is not x.virtual else "")
        return decision

    async def _go_on(self, x: Exchange, outlet: Outlet, model: ModelLive, hops: Sequence[Hop], died: UpstreamFailure, begun: int) -> None:
        """An engine died in the middle of its answer: others of the same upstream model go on where it stopped. Errors: `died`, when
        none can."""
        so_far: SoFar = x.so_far
        since = monotonic()
        ways = [hop for hop in hops if hop.model == x.upstream_model and hop.dialect.continues and not hop.at.shut]
        while ways and so_far.able and may_go_on(x, model, died, since, begun):
            rest = continued(x.api, x.fields, so_far.text, so_far.given)
            if rest is None:
                break
            hop, seat = ways[0], None
            try:
                if hop.limited:
                    hop, seat = await self._sit(x, outlet, ways)
                    if hop.at.shut:
                        self._rise(seat)
                        ways = [other for other in ways if not other.at.shut]
                        continue
                ways.remove(hop)
                if await self._try(x, outlet, hop, seat, "continue", rest) is None:
                    return
            except Refusal:  # no room in any of them, or not what this engine can do
                break
        raise died

    async def _try(
        self, x: Exchange, outlet: Outlet, hop: Hop, seat: Seat | None, kind: str, rest: Fields | None = None
    ) -> UpstreamFailure | None:
        """One attempt, its seat given back afterwards, whatever comes. None: the caller has its answer."""
        try:
            await self._attempt(x, outlet, hop, kind, rest)
            return None
        except UpstreamFailure as error:
            forget_frames(error)
            log.info("request %s: attempt (%s) at channel %s failed: %s", x.id, kind, hop.name, error.reason)
            return error
        finally:
            self._rise(seat)

    async def _decide(self, x: Exchange, model: ModelLive, ask: Ask) -> Decision:
        """The decision of a request whose tokens must be counted for it. Errors: Refusal."""
        decision: Decision | None = None
        while decision is None:  # once for each tokenizer on the way that has to count
            await self._measure.measure(x.snapshot.models.get(ask.by, model), ask)
            x.facts = msgspec.structs.replace(x.facts, prompt_est=ask.tokens)
            ask.by = ""
            ask.count_by(model.route.tokenizer)
            decision = model.route.decide(ask)
        return decision

    # -- seats ------------------------------------------------------------------------------------------------------

    async def _sit(self, x: Exchange, outlet: Outlet, hops: Sequence[Hop]) -> tuple[Hop, Seat | None]:
        """A hop whose channel has room, waited for if need be, but for ill ones only when all are: a place is free there for that very
        reason. Of the plan's hops those up to the first without a limit are asked for:
        that one is taken when they are all full. One that is shut comes back when all became so meanwhile. Errors: Refusal 503, when
        waiting is of no use."""
        now = monotonic()
        hops = [hop for hop in hops if hop.at.breaker.well or hop.at.breaker.allows(now)] or hops
        unlimited = next((hop for hop in hops if not hop.limited), None)
        wished = hops[: hops.index(unlimited)] if unlimited is not None else hops
        wishes = [(hop.name, hop.at.url) for hop in wished]
        tenant, priority = x.key.tenant, x.permit.priority(x.ts)
        with Waiting(x, outlet, self._clock):
            seat = await self._seats.take(
                wishes,
                tenant=tenant,
                priority=priority,
                otherwise=unlimited is not None,
                useless=lambda: all(hop.at.shut for hop in wished),
            )
        if seat is None:
            return unlimited or hops[0], None
        return wished[seat.number], seat

    def _rise(self, seat: Seat | None) -> None:
        if seat is not None:
            self._seats.give_back(seat)

    # -- one attempt ------------------------------------------------------------------------------------------------

    async def _attempt(self, x: Exchange, outlet: Outlet, hop: Hop, kind: str, rest: Fields | None = None) -> None:
        """One attempt, with one silent repetition when a pooled connection turns out to be dead. rest: the request for the rest of an
        answer that has begun."""
        x.request = _request(x, hop, rest)
        begun = monotonic()
        attempt = Attempt(kind, hop.name, hop.at.url, hop.model, via=x.via)
        x.attempts.append(attempt)
        x.channel, x.endpoint, x.upstream_model = hop.name, hop.at.url, hop.model
        x.ticket = hop.begin(begun)
        load = hop.at.load
        load.in_flight += 1
        delivery: Delivery | None = None
        try:
            self._account.open(x)
            connection = hop.at.pool.take()
            try:
                if connection is None:
                    connection = await self._connect(x, hop)
                delivery = self._send(x, outlet, hop, connection)
                await delivery.done
            except UpstreamFailure as failure:
                if not (connection is not None and connection.reused and connection.untouched and failure.reason == "reset"):
                    raise
                delivery = self._send(x, outlet, hop, await self._connect(x, hop))
                await delivery.done
        except UpstreamFailure as failure:
            attempt.reason = failure.reason
            attempt.status = failure.upstream_status or 0
            hop.failed(failure, x.ticket)
            raise
        except BaseException:
            if delivery is not None:
                delivery.abandon()
            hop.at.breaker.abandoned(x.ticket)
            attempt.reason = "abandoned" if delivery is not None else "unsent"
            raise
        finally:
            load.in_flight -= 1
            attempt.ms = attempt.ms or int((monotonic() - begun) * 1_000_000) / 1000

    async def _connect(self, x: Exchange, hop: Hop) -> Connection:
        self._account.metrics.connected(hop.name, 1)
        connection = await hop.at.pool.open()
        if not x.first:  # who goes on with an answer that has begun did not keep the caller waiting
            x.connected = monotonic()
        return connection

    def _send(self, x: Exchange, outlet: Outlet, hop: Hop, connection: Connection) -> Delivery:
        """Sends the request on its way; the answer comes by callback and ends in the delivery's `done`."""
        delivery: Delivery
        if x.stream:
            delivery = self._stream(x, outlet, hop)
        else:
            delivery = WholeDelivery(x, outlet, hop, self._account, self._clock)
        delivery.send(connection, x.request, monotonic())
        return delivery

    def _stream(self, x: Exchange, outlet: Outlet, hop: Hop) -> StreamDelivery:
        if not x.first and not _serving(x).continues:
            x.so_far = None
        elif x.so_far is None and may_continue(x.api, x.fields):
            x.so_far = SoFar(limit_of(x.api, x.fields), stops_of(x.fields))
        so_far: SoFar | None = x.so_far
        kind, event = hop.dialect.transform, hop.dialect.events()
        x.heard = _heard(x, hop, event)
        if x.heard is not None:
            kind, event = "decode", x.heard.event
        if so_far is not None:
            so_far.begin(event)
            kind, event = "decode", so_far.event
        events = transform(
            kind,
            model=x.virtual.name,
            wants_usage=x.wants_usage,
            wants_continuous=x.wants_continuous,
            reasoning=hop.channel.reasoning,
            event=event,
        )
        if x.api == "completions":
            events.tally.each = choices_of_each(x.fields)
        events.tally.apart = not hop.dialect.continuous_usage and several_of_one(x.fields)
        keepalive = x.snapshot.http.sse_keepalive
        if so_far is None:
            return StreamDelivery(x, outlet, hop, self._account, self._clock, events, keepalive)
        return ContinuingDelivery(x, outlet, hop, self._account, self._clock, events, keepalive, so_far)


def _serving(x: Exchange) -> ModelLive:
    """The model whose targets serve: the one that was asked for, or that a rule or a fallback led to."""
    serving: ModelLive = x.snapshot.models.get(x.via, x.virtual)
    return serving


def _heard(x: Exchange, hop: Hop, event: Normalise) -> Heard | None:
    """What keeps the text of an engine that does not say on the way how much it has generated, where the model's tokenizer counts."""
    if hop.dialect.continuous_usage and hop.channel.usage == "continuous":
        return None
    tokenizer = _serving(x).config.tokenizer
    return Heard(event, tokenizer) if tokenizer not in ("", ENGINE) else None


def _request(x: Exchange, hop: Hop, rest: Fields | None) -> bytes:
    """The bytes for the engine. Of the caller's headers only its trace goes on; its key, cookies and identity never do. rest: what is
    asked for the rest of an answer that has begun. Errors: Refusal, for what this engine cannot do."""
    fields = dict(x.fields) if rest is None else rest
    rewrites = prepare(fields, model=hop.model, stream=x.stream, usage=hop.channel.usage, dialect=hop.dialect, api=x.api)
    x.rewrites = x.shaped + rewrites
    body = encode(fields)
    own = b"x-request-id: %b\r\n" % x.request_id.encode()
    if x.traceparent:
        own += header_block({"traceparent": x.traceparent})
        state = ",".join(x.headers.getall("tracestate", ()))
        if state and state.isascii() and state.isprintable() and len(state) <= 512:
            own += header_block({"tracestate": state})
    return b"%b%bContent-Length: %d\r\n\r\n%b" % (hop.at.head(hop.dialect.paths[x.api]), own, len(body), body)


def _offering(api: str, ways: Sequence[Hop], model: ModelLive) -> Sequence[Hop]:
    """Of a plan's ways those whose engines have this API. Errors: UpstreamFailure, when none has."""
    if api in STREAMING_APIS:  # every engine serves those
        return ways
    hops = [hop for hop in ways if hop.serves(api)]
    if ways and not hops:
        raise unserved(model.name)
    return hops

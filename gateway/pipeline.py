"""ONE REQUEST. Read this first: accept → authenticate → read → route → relay → account, failing over until commit."""

import asyncio
import logging
from time import monotonic
from typing import Final

from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader

from gateway.accept import surface
from gateway.accept.caller import Caller
from gateway.accept.request import Memory, accept, read_body, read_call
from gateway.engine.prepare import prepare
from gateway.errors import Refusal, UpstreamFailure
from gateway.exchange import Attempt, Exchange
from gateway.meter.account import Account
from gateway.relay.clock import Clock
from gateway.relay.connection import Connection
from gateway.relay.delivery import Delivery
from gateway.relay.stream import StreamDelivery
from gateway.relay.whole import WholeDelivery
from gateway.snapshot import Hop, Snapshot
from gateway.wire.answers import header_block, identity, own_words, type_of
from gateway.wire.openai import encode, error_event
from gateway.wire.stream import transform
from gateway.words import APIS, End

log = logging.getLogger("gateway.request")


COST_NOTHING = frozenset({"connect", "tls", "timeout_connect", "unsupported"})
"""Failures that no engine has worked for: what follows them needs no retry budget."""


SOON: Final = 1.0
"""Seconds a caller is asked to wait when engines are busy and none of them says for how long."""


class Live:
    """What changes while a worker runs: the present snapshot, whether it drains, whether it ends what is left."""

    def __init__(self) -> None:
        self.current: Snapshot | None = None
        self.draining = False
        self.stopping = False


class Pipeline:
    """Serves requests under whatever snapshot is current when they are accepted."""

    def __init__(self, live: Live, account: Account, loop: asyncio.AbstractEventLoop) -> None:
        self._live = live
        self._account = account
        self._journal = account.journal
        self._loop = loop
        self._clock = Clock(loop)
        self._memory = Memory()

    async def serve(self, caller: Caller, message: RawRequestMessage, payload: StreamReader) -> None:
        """One request from its head to its record."""
        snapshot = self._live.current
        path = message.path
        if snapshot is None or (path not in APIS and surface.is_health(path)):
            surface.answer_health(caller, message, self._live.draining, snapshot is not None)
            return
        x = accept(caller, message, snapshot)
        self._account.metrics.in_flight += 1
        try:
            if x.method == "OPTIONS" and surface.is_preflight(x):
                surface.answer_preflight(x, caller)
                return
            if caller.late:
                raise surface.shutting_down()
            if self._journal.refusing:
                raise surface.unrecorded()
            x.api = surface.api_of(x)
            x.key = snapshot.keyring.identify(x.headers.get("Authorization"))
            if x.api == "models":
                await self._answer(x, caller, surface.models(x))
                return
            await read_body(x, caller, payload, self._memory)
            read_call(x)
            x.virtual = snapshot.model(x.key, x.model)
            await self._deliver(x, caller)
        except Refusal as no:
            await self._refuse(x, caller, no)
        except UpstreamFailure as failure:
            await self._give_up(x, caller, failure)
        except (asyncio.CancelledError, ConnectionError):
            self._left(x, caller)
            raise
        except Exception:
            log.exception("request %s ended in a fault of ours", x.id)
            x.error = "internal_error"
            await self._refuse(
                x, caller, Refusal(500, "internal_error", "The gateway made a mistake; its log names this request."), End.BUG
            )
        finally:
            if not x.settled:
                self._account.settle(x, monotonic())  # never awaits: a cancel cannot skip it
            self._account.metrics.in_flight -= 1
            self._memory.used -= x.body_bytes

    async def refuse_parse(self, caller: Caller, no: Refusal) -> None:
        """Bytes that are no acceptable request: refused, and recorded like every other."""
        snapshot = self._live.current
        if snapshot is None:
            caller.write(caller.refused(no))
            return
        x = accept(caller, surface.NO_MESSAGE, snapshot)
        await self._refuse(x, caller, no)

    # -- adapt and relay, failing over until commit -------------------------------------------------------------

    async def _deliver(self, x: Exchange, caller: Caller) -> None:
        """Tries the plan's endpoints in order until one commits. Raises the failure that the caller is to be told."""
        model = x.virtual
        retry = model.config.retry
        x.policy = model.config.policy
        started = monotonic()
        model.budget.first_try()
        failure: UpstreamFailure | None = None
        for hop in model.plan(started):
            if failure is not None and not self._may_go_on(x, failure, started):
                break
            if x.api not in hop.dialect.paths:
                failure = failure or UpstreamFailure(
                    "unsupported", f"The model `{model.name}` does not serve this API.", 404, "unsupported_api", blame="caller"
                )
                continue
            try:
                await self._attempt(x, caller, hop, "first" if not x.attempts else "failover")
                return
            except UpstreamFailure as error:
                failure = _worth_telling(failure, error)
                log.info("request %s: attempt at channel %s failed: %s", x.id, hop.name, error.reason)
                if not error.retryable or not _listed(error, retry.on):
                    break
        raise failure or _resting(model.rest(started))

    def _may_go_on(self, x: Exchange, failure: UpstreamFailure, started: float) -> bool:
        """Another attempt? Within the model's attempts and time, and within what an ailing engine can bear."""
        retry = x.virtual.config.retry
        now = monotonic()
        if len(x.attempts) >= retry.attempts or now - started >= retry.within:
            return False
        return failure.reason in COST_NOTHING or bool(x.virtual.budget.spend(now))

    async def _attempt(self, x: Exchange, caller: Caller, hop: Hop, kind: str) -> None:
        """One attempt, with one silent repetition when a pooled connection turns out to be dead."""
        fields = dict(x.fields)
        x.rewrites = prepare(fields, model=hop.model, stream=x.stream, usage=hop.channel.usage, dialect=hop.dialect, api=x.api)
        request = _request(x, hop, encode(fields))
        begun = monotonic()
        attempt = Attempt(kind, hop.name, hop.at.endpoint.url, hop.model)
        x.attempts.append(attempt)
        x.channel, x.endpoint, x.upstream_model = hop.name, hop.at.endpoint.url, hop.model
        hop.at.breaker.begin(begun)
        load = hop.at.load
        load.in_flight += 1
        delivery: Delivery | None = None
        try:
            self._account.open(x)
            connection = hop.at.pool.take()
            try:
                if connection is None:
                    connection = await self._connect(x, hop)
                delivery = self._send(x, caller, hop, connection, request)
                await delivery.done
            except UpstreamFailure as failure:
                if not (connection is not None and connection.reused and connection.untouched and failure.reason == "reset"):
                    raise
                delivery = self._send(x, caller, hop, await self._connect(x, hop), request)
                await delivery.done
        except UpstreamFailure as failure:
            attempt.reason = failure.reason
            attempt.status = failure.upstream_status or 0
            hop.failed(failure)
            raise
        except BaseException:
            if delivery is not None:
                delivery.abandon()
            hop.at.breaker.abandoned()
            attempt.reason = "abandoned"
            raise
        finally:
            load.in_flight -= 1
            attempt.ms = attempt.ms or int((monotonic() - begun) * 1_000_000) / 1000

    async def _connect(self, x: Exchange, hop: Hop) -> Connection:
        self._account.metrics.connected(hop.name, 1)
        connection = await hop.at.pool.open()
        x.connected = monotonic()
        return connection

    def _send(self, x: Exchange, caller: Caller, hop: Hop, connection: Connection, request: bytes) -> Delivery:
        """Sends the request on its way; the answer comes by callback and ends in the delivery's `done`."""
        delivery: Delivery
        if x.stream:
            events = transform(
                hop.dialect.transform,
                model=x.virtual.name,
                wants_usage=x.wants_usage,
                wants_continuous=x.wants_continuous,
                reasoning=hop.channel.reasoning,
                event=hop.dialect.event,
            )
            delivery = StreamDelivery(x, caller, hop, self._account, self._clock, events, x.snapshot.http.sse_keepalive)
        else:
            delivery = WholeDelivery(x, caller, hop, self._account, self._clock)
        delivery.send(connection, request, monotonic())
        return delivery

    # -- the other ends -----------------------------------------------------------------------------------------

    async def _answer(self, x: Exchange, caller: Caller, body: bytes) -> None:
        """An answer of our own making."""
        x.status, x.end, x.out_bytes = 200, End.NORMAL, len(body)
        await self._end(x, caller, caller.ready(200, identity(x), body))

    async def _refuse(self, x: Exchange, caller: Caller, no: Refusal, who: str = End.GATEWAY) -> None:
        if x.settled:
            return
        x.status, x.end, x.error = no.status, who + no.phase, x.error or no.log or no.code
        if "Expect" in x.headers and not x.read:
            caller.close_after = True  # whether the body will still come, nobody knows
        if caller.streaming:
            end = self._last_event(caller, no.message, no.type or type_of(no.status), no.param, no.code)
        else:
            end = caller.refused(no, identity(x))
        await self._end(x, caller, end)

    async def _give_up(self, x: Exchange, caller: Caller, failure: UpstreamFailure) -> None:
        """Nobody could serve. The caller is told what the last meaningful failure was, without the engine's names."""
        message = own_words(failure.message, x)
        blame = End.CALLER if failure.blame == "caller" else End.UPSTREAM
        x.status, x.end, x.error = failure.status, blame + (End.WAIT if x.attempts else End.ROUTE), failure.reason
        kind = failure.type or type_of(failure.status)
        if caller.streaming:
            end = self._last_event(caller, message, kind, failure.param, failure.code)
        else:
            headers = {"x-should-retry": "false"} if failure.status >= 500 and not failure.retryable else {}
            wait = failure.retry_after or (SOON if failure.status in (429, 503) else None)
            no = Refusal(failure.status, failure.code, message, kind, failure.param, wait, headers=headers)
            end = caller.refused(no, identity(x))
        await self._end(x, caller, end)

    def _last_event(self, caller: Caller, message: str, kind: str, param: str | None, code: str | None) -> bytes:
        """Keep-alive comments went out already, so the refusal must be an event."""
        return caller.broken(error_event(message, kind, param, code))

    async def _end(self, x: Exchange, caller: Caller, end: bytes) -> None:
        """Settles, then releases the bytes that end the answer."""
        released = self._loop.create_future()

        def release() -> None:
            caller.write(end)
            if not released.done():
                released.set_result(None)

        self._account.settle(x, monotonic(), release)
        await released

    def _left(self, x: Exchange, caller: Caller) -> None:
        """The caller is gone (or this process must end, which the caller is told): whatever was used is recorded."""
        if not x.settled:
            phase = End.DATA if x.first else End.WAIT if x.attempts else End.ACCEPT
            if self._live.stopping:
                no = surface.shutting_down()
                x.status, x.end, x.error = no.status, End.OPERATOR + phase, "stopped"
                if caller.streaming:
                    caller.write(self._last_event(caller, no.message, type_of(no.status), None, no.code))
                elif not caller.head_sent:
                    caller.write(caller.refused(no, identity(x)))
            else:
                x.status, x.end, x.error = 499, End.CALLER + phase, "caller_gone"


def _request(x: Exchange, hop: Hop, body: bytes) -> bytes:
    """The bytes for the engine. Of the caller's headers only its trace goes on; its key, cookies and identity never do."""
    own = b"x-request-id: %b\r\n" % x.request_id.encode()
    trace = x.headers.get("traceparent")
    if trace and len(trace) == 55 and trace[3:35] == x.trace:  # `accept` read it there, so it is well formed
        own += header_block({"traceparent": trace})
        state = x.headers.get("tracestate")
        if state and state.isascii() and state.isprintable() and len(state) <= 512:
            own += header_block({"tracestate": state})
    return b"%b%bContent-Length: %d\r\n\r\n%b" % (hop.at.head(hop.dialect.paths[x.api]), own, len(body), body)


def _listed(failure: UpstreamFailure, reasons: tuple[str, ...]) -> bool:
    """Whether the model's `retry.on` names this kind of failure."""
    status = failure.upstream_status or 0
    if failure.reason in COST_NOTHING:
        return "connect" in reasons
    if failure.reason.startswith("timeout"):
        return "timeout" in reasons
    if not failure.reason.startswith("status_"):
        return "stream" in reasons
    return ("429" if status == 429 else "5xx") in reasons


def _resting(seconds: float) -> UpstreamFailure:
    """Every engine of the model asked to be left alone: none is asked, and the caller is told for how long."""
    message = "All engines of this model asked to be left alone for a while, please try again later"
    return UpstreamFailure("resting", message, 503, "upstream_overloaded", retry_after=seconds)


def _worth_telling(before: UpstreamFailure | None, now: UpstreamFailure) -> UpstreamFailure:
    """Of two failures, the one that helps the caller: an engine's answer says more than a missing connection."""
    if before is not None and before.upstream_status and not now.upstream_status and now.retryable:
        return before
    return now

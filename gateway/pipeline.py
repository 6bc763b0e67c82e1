"""ONE REQUEST. Read this first: accept → authenticate → read → shape → limit → dispatch (decide, relay, fail over) → account."""

import asyncio
import logging
from time import monotonic
from typing import Final

from multidict import CIMultiDictProxy

from gateway.accept import surface
from gateway.accept.caller import Caller
from gateway.accept.request import Memory, accept, facts, read_body, read_call
from gateway.auth.freezes import Frozen
from gateway.errors import Refusal, UpstreamFailure, forget_frames
from gateway.exchange import Exchange
from gateway.meter.account import Account
from gateway.referee.limits import Limiter
from gateway.route.parameters import APIS as SAMPLED
from gateway.serve.dispatch import Dispatch
from gateway.serve.snapshot import Snapshot
from gateway.wire.answers import identity, own_words, type_of
from gateway.wire.openai import error_event
from gateway.wire.outlet import Outlet
from gateway.words import APIS, End

log = logging.getLogger("gateway.request")


WHO: Final = {"caller": End.CALLER, "gateway": End.GATEWAY}
"""Who ended a request that failed, by who is to blame; anybody else: the engine."""
SOON: Final = 1.0
"""Seconds a caller is asked to wait when engines are busy and none of them says for how long."""


class Live:
    """What changes while a worker runs: the present snapshot, what is frozen (None = nothing), whether it drains, whether it ends
    what is left."""

    def __init__(self) -> None:
        self.current: Snapshot | None = None
        self.frozen: Frozen | None = None
        self.draining = False
        self.stopping = False


class Pipeline:
    """Serves requests under whatever snapshot is current when they are accepted."""

    def __init__(self, live: Live, account: Account, dispatch: Dispatch, limits: Limiter, loop: asyncio.AbstractEventLoop) -> None:
        self._live = live
        self._dispatch = dispatch
        self._limits = limits
        self._account = account
        self._journal = account.journal
        self._loop = loop
        self._memory = Memory()

    async def serve(self, caller: Caller) -> None:
        """One request from its head to its record."""
        x = self._accept(caller)
        if x is None:
            return
        outlet, snapshot = caller.outlet, x.snapshot
        self._account.metrics.in_flight += 1
        try:
            if x.method == "OPTIONS" and surface.is_preflight(x):
                surface.answer_preflight(x, outlet)
                return
            if caller.late:
                raise surface.shutting_down()
            if self._journal.refusing:
                raise surface.unrecorded()
            x.api = surface.api_of(x)
            snapshot.admit(x, caller.visitor)
            if self._live.frozen is not None:
                self._live.frozen.admit(x.key)
            if x.api == "models":
                await self._answer(x, outlet, surface.models(x))
                return
            reading = read_body(x, caller, self._memory)
            if reading is not None:
                await reading
                reading = None  # it knows the body, and a stream is long
            read_call(x)
            x.virtual = snapshot.model(x.permit, x.model, x.ts)
            if self._live.frozen is not None:
                self._live.frozen.allow(x.virtual.name)
            shape(x)
            if snapshot.limits is not None and (claim := self._limits.ask(x)) is not None and claim.waits:
                await self._limits.granted(x, claim)
            await self._dispatch.deliver(x, outlet)
        except Refusal as no:
            forget_frames(no)
            await self._refuse(x, outlet, no)
        except UpstreamFailure as failure:
            forget_frames(failure)
            await self._give_up(x, outlet, failure)
        except (asyncio.CancelledError, ConnectionError):
            if not self._is_cut(x, caller):
                self._left(x, outlet)
                raise
            await self._refuse(x, outlet, x.cut)
        except Exception:
            log.exception("request %s ended in a fault of ours", x.id)
            x.error = "internal_error"
            said = "The gateway made a mistake; its log names this request."
            await self._refuse(x, outlet, Refusal(500, "internal_error", said, who=End.BUG))
        finally:
            if not x.settled:
                self._account.settle(x, monotonic())  # never awaits: a cancel cannot skip it
            self._account.metrics.in_flight -= 1
            x.forget_body()

    def _accept(self, caller: Caller) -> Exchange | None:
        """The request that has come; None = it asked for our health, and has its answer. Nobody else keeps its head."""
        message, caller.message = caller.message, None
        snapshot = self._live.current
        path = message.path
        if snapshot is None or (path not in APIS and surface.is_health(path)):
            surface.answer_health(caller.outlet, message, self._live.draining, snapshot is not None)
            return None
        caller.exchange = accept(caller, message, snapshot)
        return caller.exchange

    async def refuse_parse(self, caller: Caller, no: Refusal, known: CIMultiDictProxy[str]) -> None:
        """Bytes that are no acceptable request: refused, and recorded like every other. known: what could be read of its head."""
        outlet = caller.outlet
        snapshot = self._live.current
        if snapshot is None:
            outlet.write(outlet.refused(no))
            return
        x = accept(caller, surface.no_message(known), snapshot)
        await self._refuse(x, outlet, no)

    # -- the other ends -----------------------------------------------------------------------------------------

    async def _answer(self, x: Exchange, outlet: Outlet, body: bytes) -> None:
        """An answer of our own making."""
        x.status, x.end, x.out_bytes = 200, End.NORMAL, len(body)
        await self._end(x, outlet, outlet.ready(200, identity(x), body))

    async def _refuse(self, x: Exchange, outlet: Outlet, no: Refusal) -> None:
        if x.settled:
            return
        x.status, x.end, x.error = no.status, no.who + no.phase, x.error or no.log or no.code
        if not x.read and "Expect" in x.headers:
            outlet.close_after = True  # whether the body will still come, nobody knows
        if outlet.streaming:
            end = self._last_event(x, outlet, no.message, no.type or type_of(no.status), no.param, no.code)
        else:
            end = outlet.refused(no, identity(x))
        await self._end(x, outlet, end)

    async def _give_up(self, x: Exchange, outlet: Outlet, failure: UpstreamFailure) -> None:
        """Nobody could serve. The caller is told what the last meaningful failure was, without the engine's names."""
        message = own_words(failure.message, x)
        x.error = failure.reason
        if x.first:  # in the middle of a stream that nobody could go on with
            x.end = End.UPSTREAM + End.DATA
        else:
            x.status, x.end = failure.status, WHO.get(failure.blame, End.UPSTREAM) + (End.WAIT if x.attempts else End.ROUTE)
        kind = failure.type or type_of(failure.status)
        if outlet.streaming:
            end = self._last_event(x, outlet, message, kind, failure.param, failure.code)
        else:
            headers = {"x-should-retry": "false"} if failure.status >= 500 and not failure.retryable else {}
            wait = failure.retry_after or (SOON if failure.status in (429, 503) else None)
            no = Refusal(failure.status, failure.code, message, kind, failure.param, wait, headers=headers)
            end = outlet.refused(no, identity(x))
        await self._end(x, outlet, end)

    def _last_event(self, x: Exchange, outlet: Outlet, message: str, kind: str, param: str | None, code: str | None) -> bytes:
        """Keep-alive comments or events went out already, so the refusal must be an event."""
        event = error_event(message, kind, param, code)
        x.out_bytes += len(event)
        return outlet.broken(event)

    async def _end(self, x: Exchange, outlet: Outlet, end: bytes) -> None:
        """Settles, then releases the bytes that end the answer."""
        released = self._loop.create_future()

        def release() -> None:
            outlet.write(end)
            if not released.done():
                released.set_result(None)

        self._account.settle(x, monotonic(), release)
        await released

    def _is_cut(self, x: Exchange, caller: Caller) -> bool:
        """Whether an operator ended this request (`Door.end`), and its caller is there to be told. Then this task is needed no less."""
        task = asyncio.current_task()
        if x.cut is None or x.settled or self._live.stopping or caller.gone() or task is None or task.uncancel():
            return False
        x.cut.phase = _phase(x)
        return True

    def _left(self, x: Exchange, outlet: Outlet) -> None:
        """The caller is gone (or this process must end, which the caller is told): whatever was used is recorded."""
        if not x.settled:
            phase = _phase(x)
            if x.cut is not None and not self._live.stopping:
                x.status, x.end, x.error = x.cut.status, End.OPERATOR + phase, x.cut.log or x.cut.code
            elif self._live.stopping:
                no = surface.shutting_down()
                x.status, x.end, x.error = no.status, End.OPERATOR + phase, "stopped"
                if outlet.streaming:
                    outlet.write(self._last_event(x, outlet, no.message, type_of(no.status), None, no.code))
                elif not outlet.head_sent:
                    outlet.write(outlet.refused(no, identity(x)))
            else:
                x.status, x.end, x.error = 499, End.CALLER + phase, "caller_gone"


def _phase(x: Exchange) -> str:
    """How far it came."""
    if x.lease is not None and x.lease.waits:
        return End.LIMIT
    return End.QUEUE if x.in_queue else End.DATA if x.first else End.WAIT if x.attempts else End.ACCEPT


def shape(x: Exchange) -> None:
    """The model's defaults and caps, once for all attempts."""
    parameters = x.virtual.parameters
    if parameters is not None and x.api in SAMPLED:
        x.shaped = parameters.apply(x.fields)
        x.facts = facts(x.fields)

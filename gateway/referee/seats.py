"""A worker's end: asks control for seats and tells it when they are free, everything of one turn of the loop in one frame.

Without control, or when control is silent, this worker decides for itself with its share of the limits. Control asks
each worker that comes which seats it holds; from then on it decides again.

worker → control: n, ops: [lease] given back, [lease, wishes, tenant, priority, otherwise, waited] asked for, in their
order; hold: [[lease, channel, endpoint, tenant, seconds]] all seats that it has, at the beginning.
control → worker: n of the last frame that was read, line: whether anybody waits, said: [lease, number of the wish]
or [lease, -1, seconds, why]; or tell: say what you hold.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from gateway.errors import Refusal
from gateway.referee.capacity import Answer, Capacity, Granted, Held
from gateway.referee.line import Limits
from gateway.referee.talk import Talk
from gateway.words import End

log = logging.getLogger("gateway.referee")

ROUNDING: Final = 0.001
"""Seconds by which a loop's timers may be early."""
WHY: Final = {
    "full": "too many requests wait for them already",
    "displaced": "too many requests wait for them already",
    "hopeless": "none will be free in time",
    "late": "none became free in time",
}
"""What a caller is told, by `Refused.why`."""


class Seat:
    """A place at an engine. number: which wish it is. Times are the loop's."""

    __slots__ = ("channel", "endpoint", "lease", "number", "since", "tenant")

    def __init__(self, lease: int, number: int, wish: tuple[str, str], tenant: str, since: float) -> None:
        self.lease = lease
        self.number = number
        self.channel, self.endpoint = wish
        self.tenant = tenant
        self.since = since


class _Asked(NamedTuple):
    """A question without an answer yet. useless: whether nobody is to be asked any more where it wants to go. since: the loop's time."""

    answer: asyncio.Future[Seat | Refusal | None]
    wishes: Sequence[tuple[str, str]]
    tenant: str
    priority: int
    otherwise: bool
    useless: Callable[[], bool] | None
    since: float


class Seats:
    """All seats that this worker's requests have and want."""

    def __init__(self, say: Callable[[dict[str, Any]], bool], loop: asyncio.AbstractEventLoop) -> None:
        """say: sends a frame of ours to control; False = control is away."""
        self._loop = loop
        self._talk = Talk(say, loop, self._met, self._lost)
        self._lease = 0
        self._asked: dict[int, _Asked] = {}
        self._held: dict[int, Seat] = {}
        self._line = False
        self._limits: Mapping[str, Limits] = {}
        self._own: Capacity | None = Capacity()
        self._timer: asyncio.TimerHandle | None = None

    def adopt(self, limits: Mapping[str, Limits], workers: int) -> None:
        """The limits of a new revision, for all workers together."""
        self._limits = {name: each.share(workers) for name, each in limits.items()}
        if self._own is not None:
            self._answer(self._own.adopt(self._limits, self._loop.time()))

    # -- requests -----------------------------------------------------------------------------------------------------

    async def take(
        self,
        wishes: Sequence[tuple[str, str]],
        *,
        tenant: str = "",
        priority: int = 0,
        otherwise: bool = False,
        useless: Callable[[], bool] | None = None,
    ) -> Seat | None:
        """A seat at one of the (channel, endpoint) of `wishes`, the sooner the better; to be given back, whatever happens.

        otherwise: None at once when there is none, instead of waiting. useless: None too, when that becomes true while it waits
        (see `look_again`). Raises Refusal 503 when waiting is of no use."""
        self._lease += 1
        lease, now = self._lease, self._loop.time()
        answer: asyncio.Future[Seat | Refusal | None] = self._loop.create_future()
        asked = self._asked[lease] = _Asked(answer, wishes, tenant, priority, otherwise, useless, now)
        if self._own is None:
            self._talk.note([lease, wishes, tenant, priority, otherwise, 0.0], asks=True)
        else:
            self._ask_own(self._own, lease, asked, now)
        try:
            found = await answer
        except asyncio.CancelledError:
            self._leave(lease)
            raise
        if isinstance(found, Refusal):
            raise found
        return found

    def give_back(self, seat: Seat) -> None:
        self._leave(seat.lease)

    def look_again(self) -> None:
        """Endpoints were taken out of service: who waits for nothing but them need not wait any longer."""
        for lease, asked in list(self._asked.items()):
            if asked.useless is not None and asked.useless() and not asked.answer.done():
                self._leave(lease)
                asked.answer.set_result(None)

    def _leave(self, lease: int) -> None:
        """Whether it has a seat, waits for one, or is being given one right now."""
        known = self._held.pop(lease, None) or self._asked.pop(lease, None)
        if known is None:
            return
        if self._own is None:
            self._talk.note([lease], asks=False, soon=self._line)
        else:
            self._answer(self._own.give_back(0, lease, self._loop.time()))

    # -- with control -------------------------------------------------------------------------------------------------

    def heard(self, frame: dict[str, Any]) -> None:
        """A frame from control."""
        if self._talk.heard(frame):
            self._line = frame["line"]
            for lease, number, *rest in frame["said"]:
                self._settle(lease, number, *rest)

    def lost(self) -> None:
        """The connection to control is lost."""
        self._talk.lost()

    def _met(self) -> tuple[dict[str, Any], list[list[Any]]]:
        """Control is here: tells it what there is and leaves deciding to it."""
        now = self._loop.time()
        self._own = None
        hold = [[s.lease, s.channel, s.endpoint, s.tenant, now - s.since] for s in self._held.values()]
        asks: list[list[Any]] = [[lease, a.wishes, a.tenant, a.priority, a.otherwise, now - a.since] for lease, a in self._asked.items()]
        return {"hold": hold}, asks

    def _lost(self, why: str) -> None:
        """From now on this worker decides for itself."""
        if why == "silent":
            log.warning("control does not answer; this worker goes on with its share of the engines")
        now = self._loop.time()
        own = self._own = Capacity()
        own.adopt(self._limits, now)
        own.reassert(0, [Held(s.lease, s.channel, s.endpoint, s.tenant, s.since) for s in self._held.values()], now)
        for lease, asked in list(self._asked.items()):
            self._ask_own(own, lease, asked, now)

    # -- without it ---------------------------------------------------------------------------------------------------

    def _ask_own(self, own: Capacity, lease: int, asked: _Asked, now: float) -> None:
        self._answer(
            own.ask(
                0,
                lease,
                asked.wishes,
                now,
                tenant=asked.tenant,
                priority=asked.priority,
                otherwise=asked.otherwise,
                waited=now - asked.since,
            )
        )
        if lease in self._asked:
            self._look_later(own)

    def _answer(self, answers: list[Answer]) -> None:
        for answer in answers:
            if isinstance(answer, Granted):
                self._settle(answer.lease, answer.number)
            else:
                self._settle(answer.lease, -1, answer.after, answer.why)

    # -- both ---------------------------------------------------------------------------------------------------------

    def _settle(self, lease: int, number: int, after: float = 0.0, why: str = "") -> None:
        """The answer to a question. One that nobody waits for any more needs none: its end was told."""
        asked = self._asked.pop(lease, None)
        if asked is None:
            return
        answer = asked.answer
        if number >= 0:
            seat = self._held[lease] = Seat(lease, number, asked.wishes[number], asked.tenant, self._loop.time())
            if answer.done():  # its caller left in this very turn; `take` gives it back
                return
            answer.set_result(seat)
        elif answer.done():
            return
        elif asked.otherwise:
            answer.set_result(None)
        else:
            # A result, not an exception: nobody fetches it when the caller leaves in this very turn.
            said = f"All engines of this model are busy and {WHY.get(why, WHY['full'])}, please try again later"
            answer.set_result(Refusal(503, "upstream_overloaded", said, retry_after=after, phase=End.QUEUE, log=f"queue_{why}"))

    def _look_later(self, own: Capacity) -> None:
        due = own.due()
        if due is None:
            return
        when = max(due + ROUNDING, self._loop.time())
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        """Of those who wait here, who has waited too long?"""
        self._timer = None
        if self._own is not None:
            self._answer(self._own.expire(self._loop.time()))
            self._look_later(self._own)

    def close(self) -> None:
        """At the worker's end."""
        self._talk.close()
        if self._timer is not None:
            self._timer.cancel()

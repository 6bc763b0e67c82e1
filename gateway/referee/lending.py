"""Control's end of loans: a worker that asks for the same kind of request again and again is lent as much as the next of them may use.

What is lent counts as used from the moment at which the loan ends, so that no stretch of a window holds more than its limit. Only a small
part of what is left is ever lent. A request that finds no room while something is lent waits until that is back: the last ones
are granted one by one, to the last request. Not lent: money, and what a schedule switches.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from gateway.referee.gauges import Gauge, Plan
from gateway.referee.moment import Moment
from gateway.referee.pace import SPAN
from gateway.referee.quotas import Quotas
from gateway.referee.rules import MEASURES, NONE, Amounts

SHARE: Final = 16
"""One loan is at most one of so many parts of what is left."""
LEAST: Final = 2
"""Requests in a span, from which on it is worth lending: each of them then goes on at once instead of half a millisecond later."""
PATIENCE: Final = 0.1
"""Seconds that a request waits for what is lent to come back."""


class Out(NamedTuple):
    """A loan whose worker may still hold some of it. until: monotonic seconds."""

    plan: Plan
    until: float


class Parked(NamedTuple):
    """A question that waits. until: monotonic seconds."""

    slot: int
    op: list[Any]
    plan: Plan
    until: float


Again = Callable[[list[Parked]], None]


class Lending:
    """What is lent now, and which questions wait for it. Loans have numbers below zero: those of questions are above."""

    def __init__(self, quotas: Quotas, recall: Callable[[int], object], again: Again, loop: asyncio.AbstractEventLoop) -> None:
        """recall: asks the worker of a slot for all that it has been lent. again: decides these questions once more."""
        self._quotas = quotas
        self._recall = recall
        self._again = again
        self._loop = loop
        self._number = 0
        self._out: dict[tuple[int, int], Out] = {}
        self._parked: list[Parked] = []
        self._recalled: set[int] = set()
        """Slots whose workers know that somebody waits."""
        self._timer: asyncio.TimerHandle | None = None

    # -- loans --------------------------------------------------------------------------------------------------------

    def offer(self, slot: int, plan: Plan, wanted: Amounts, now: Moment) -> list[Any] | None:
        """After a request was granted that would like a loan: what its worker is told of one. None: it asks too seldom, or too
        little is left."""
        pace, until = plan.pace.at(now.mono), now.ago(-SPAN)
        many = min(pace, self._room(plan, wanted, now, until)) if pace >= LEAST else 0
        if many < LEAST:
            return None
        took = (many, many * wanted[1], many * wanted[2], many * wanted[3], 0)
        self._number -= 1
        self._quotas.lend(slot, self._number, plan, took, until)
        self._out[slot, self._number] = Out(plan, until.mono)
        for gauge in plan.gauges:
            assert gauge is not None
            gauge.lent += 1
        tokens = self._quotas.tightest(plan, [None if gauge is None else gauge.window.used(now) for gauge in plan.gauges], NONE)[2]
        counts = 0 if tokens is None else MEASURES[tokens.rule.count]
        return [self._number, until.mono, *took[:3], counts, *self._quotas.figures(plan, now)]

    @staticmethod
    def _room(plan: Plan, wanted: Amounts, now: Moment, until: Moment) -> int:
        """Requests like this that may be lent; 0 when it is not to be."""
        most = 0
        for gauge in plan.gauges:
            if gauge is None or gauge.rule.count == "money" or gauge.rule.hours is not None:
                return 0
            window, rule = gauge.window, gauge.rule
            if rule.limit.per in ("day", "month") and window.place(now.wall) != window.place(until.wall):
                return 0
            amount = rule.of(wanted)
            if amount and rule.most is not None:
                room = (rule.most - window.used(now)) // (SHARE * amount)
                most = room if not most else min(most, room)
                if most <= 0:
                    return 0
        return most

    def back(self, slot: int, number: int) -> None:
        """The worker holds nothing more of it that is not in use. `resume` when all of its frame is read."""
        out = self._out.pop((slot, number), None)
        if out is not None:
            self._forget(out)

    def lost(self, slot: int) -> None:
        """The worker is gone, or says anew what it holds: its loans are over, and its questions are not asked any more."""
        self._parked = [one for one in self._parked if one.slot != slot]
        for place in [place for place in self._out if place[0] == slot]:
            self._forget(self._out.pop(place))
        self.resume()

    def recall(self) -> None:
        """Everything, because the limits are others now."""
        for slot in {slot for slot, _ in self._out}:
            self._recall(slot)

    @staticmethod
    def _forget(out: Out) -> None:
        for gauge in out.plan.gauges:
            if gauge is not None:
                gauge.lent -= 1

    # -- questions that wait ------------------------------------------------------------------------------------------

    def waits(self, slot: int, op: list[Any], plan: Plan, full: Gauge, now: Moment, until: float = 0.0) -> bool:
        """Of a question that found no room: whether it waits for what is lent. full: the counter without room. until: of one that has
        waited already."""
        if not full.lent or (until and until <= now.mono):
            return False
        for place, out in list(self._out.items()):  # who has not given back what was over long ago does not hold up others
            if out.until + PATIENCE > now.mono:
                break
            self._forget(self._out.pop(place))
        slots = {slot for (slot, _), out in self._out.items() if full in out.plan.gauges}
        if not slots:
            return False
        until = until or now.mono + PATIENCE
        if not self._parked:
            self._timer = self._loop.call_later(until - now.mono, self.resume)
        for one in slots - self._recalled:
            self._recall(one)
        self._recalled |= slots
        self._parked.append(Parked(slot, op, plan, until))
        return True

    def left(self, slot: int, lease: int) -> None:
        """A caller left, who may be among those that wait."""
        self._parked = [one for one in self._parked if one.slot != slot or one.op[1] != lease]

    def resume(self) -> None:
        """Something came back, or it has taken too long."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._recalled.clear()
        if self._parked:
            parked, self._parked = self._parked, []
            self._again(parked)

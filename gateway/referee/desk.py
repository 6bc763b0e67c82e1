"""Control's end: takes the workers' questions in their order, and answers those of one turn of the loop in one frame each.

When control begins it waits a moment until each worker has said which seats it holds, so that it never gives away
what is taken. The frames are described in `seats`.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from gateway.referee.capacity import Answer, Capacity, Granted, Held
from gateway.referee.line import Limits

GATHER: Final = 1.0
"""Seconds that control waits at most for workers to say what they hold."""
ROUNDING: Final = 0.001
"""Seconds by which a loop's timers may be early."""


class Desk:
    """Decides for all workers. Its timers need its loop; everything else is `Capacity`."""

    def __init__(self, say: Callable[[int, dict[str, Any]], object], loop: asyncio.AbstractEventLoop, workers: int) -> None:
        """say: sends a frame of ours to the worker of a slot. workers: how many are expected to say what they hold."""
        self._say = say
        self._loop = loop
        self._capacity = Capacity()
        self._pids: dict[int, int] = {}
        self._read: dict[int, int] = {}
        self._said: dict[int, list[list[Any]]] = {}
        self._flushing = False
        self._timer: asyncio.TimerHandle | None = None
        self._missing = workers
        self._early: dict[int, list[list[Any]]] | None = {}
        self._begins = loop.call_later(GATHER, self._begin)

    def adopt(self, limits: Mapping[str, Limits]) -> None:
        """The limits of a new revision."""
        self._post(self._capacity.adopt(limits, self._loop.time()))

    def bar(self, channel: str, endpoint: str, barred: bool) -> None:
        """No more seats are given at an endpoint, or they are again. Who waits keeps the place, for the others that it wishes."""
        self._post(self._capacity.bar(channel, endpoint, barred, self._loop.time()))

    def figures(self) -> dict[str, dict[str, object]]:
        """Per limited channel; see `Line.figures`."""
        return self._capacity.figures(self._loop.time())

    def queued(self) -> dict[str, Any]:
        """How many wait for each limited channel."""
        return {name: one["queued"] for name, one in self.figures().items()}

    def close(self) -> None:
        self._begins.cancel()
        if self._timer is not None:
            self._timer.cancel()

    # -- workers ------------------------------------------------------------------------------------------------------

    def greet(self, slot: int, pid: int) -> None:
        """A worker is here, for the first time or again. Until it has said what it holds, what was known of it stands."""
        if self._pids.get(slot, pid) != pid:
            self.lost(slot)
        self._pids[slot] = pid
        self._said.pop(slot, None)
        self._say(slot, {"n": 0, "tell": True})

    def lost(self, slot: int) -> None:
        """A worker is gone. If only its connection is, it says again what it holds; meanwhile others may take its seats."""
        self._pids.pop(slot, None)
        self._said.pop(slot, None)
        if self._early is not None:
            self._early.pop(slot, None)
        self._post(self._capacity.forget_slot(slot, self._loop.time()))

    def heard(self, slot: int, frame: dict[str, Any]) -> None:
        """A frame from a worker."""
        now = self._loop.time()
        self._read[slot] = frame["n"]
        ops: list[list[Any]] = frame["ops"]
        if "hold" in frame:
            self._said.pop(slot, None)  # answers to what it has forgotten
            leases = [Held(lease, channel, endpoint, tenant, now - age) for lease, channel, endpoint, tenant, age in frame["hold"]]
            self._post(self._capacity.reassert(slot, leases, now))
        if self._early is None:
            self._do(slot, ops, now)
        elif "hold" not in frame:
            self._early.setdefault(slot, []).extend(ops)
        else:
            self._missing -= slot not in self._early
            self._early[slot] = ops
            if self._missing <= 0:
                self._begin()
        if any(len(op) > 1 for op in ops):  # it wants to know that we are here
            self._said.setdefault(slot, [])
            self._answer_soon()

    def _begin(self) -> None:
        """From now on questions are answered."""
        self._begins.cancel()
        early, self._early = self._early or {}, None
        for slot, ops in early.items():
            self._do(slot, ops, self._loop.time())

    def _do(self, slot: int, ops: list[list[Any]], now: float) -> None:
        capacity = self._capacity
        for op in ops:
            if len(op) == 1:
                answers = capacity.give_back(slot, op[0], now)
            else:
                lease, wishes, tenant, priority, otherwise, waited = op
                answers = capacity.ask(slot, lease, wishes, now, tenant=tenant, priority=priority, otherwise=otherwise, waited=waited)
            if answers:
                self._post(answers)

    # -- answers ------------------------------------------------------------------------------------------------------

    def _post(self, answers: list[Answer]) -> None:
        for answer in answers:
            said = self._said.setdefault(answer.slot, [])
            if isinstance(answer, Granted):
                said.append([answer.lease, answer.number])
            else:
                said.append([answer.lease, -1, answer.after, answer.why])
        if answers:
            self._answer_soon()

    def _answer_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        said, self._said = self._said, {}
        line = self._capacity.due() is not None
        for slot, answers in said.items():
            self._say(slot, {"n": self._read.get(slot, 0), "line": line, "said": answers})
        self._expire_later()

    def _expire_later(self) -> None:
        due = self._capacity.due()
        if due is None:
            return
        when = due + ROUNDING
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._expire)

    def _expire(self) -> None:
        self._timer = None
        self._post(self._capacity.expire(self._loop.time()))
        self._expire_later()

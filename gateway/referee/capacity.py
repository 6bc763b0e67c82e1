"""The table of seats: which request holds which seat of a limited channel, and who waits for one. No clock, no I/O of its own.

Control has one for all workers; a worker without control has one for itself, with its share of the limits. A request
names every endpoint that may serve it, in its order of preference. The first with room gives it a seat. If none has,
it waits in the line of each of their channels that has a place, and takes the seat that is free first, so that no
seat stays empty while somebody waits who could use it.
"""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from gateway.referee.line import Limits, Line, Waiter

UNLIMITED = Limits(length=0)
"""A channel that this configuration does not limit, or does not know any more."""


class Granted(NamedTuple):
    """number: which of its wishes the request got."""

    slot: int
    lease: int
    number: int


class Refused(NamedTuple):
    """after: seconds to wait before asking again. why: `full`, `hopeless` (it would wait too long), `late` (it did), `displaced`
    (by a request of a tenant with fewer in the line)."""

    slot: int
    lease: int
    after: float
    why: str


Answer = Granted | Refused


class Held(NamedTuple):
    """A seat that is taken. lease: the worker's number for it. since: monotonic seconds."""

    lease: int
    channel: str
    endpoint: str
    tenant: str
    since: float


class Capacity:
    """All limited channels. Every method returns the answers that follow from it, to whomever they go. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._limits: Mapping[str, Limits] = {}
        self._lines: dict[str, Line] = {}
        self._barred: dict[str, set[str]] = {}
        self._held: dict[int, dict[int, Held]] = {}
        self._waiting: dict[int, dict[int, Waiter]] = {}
        self._deadlines: list[tuple[float, int, Waiter]] = []
        self._order = 0

    # -- the configuration --------------------------------------------------------------------------------------------

    def adopt(self, limits: Mapping[str, Limits], now: float) -> list[Answer]:
        """limits: of each limited channel. Nobody who has a seat or waits loses it by a change."""
        self._limits = limits
        for name in limits:
            self._line(name)
        answers: list[Answer] = []
        for name, line in list(self._lines.items()):
            line.limits = limits.get(name, UNLIMITED)
            self._fill(line, now, answers)
            if name not in limits and not line.in_flight and not line.queued:
                del self._lines[name]
        return answers

    def _line(self, channel: str) -> Line:
        line = self._lines.get(channel)
        if line is None:
            line = self._lines[channel] = Line(channel, self._limits.get(channel, UNLIMITED))
            line.barred = self._barred.get(channel, line.barred)
        return line

    def bar(self, channel: str, endpoint: str, barred: bool, now: float) -> list[Answer]:
        """Whether no more seats are given at an endpoint: it is drained, or nobody has seen it yet."""
        known = self._barred.get(channel, set())
        answers: list[Answer] = []
        if barred == (endpoint in known):
            return answers
        if barred:
            self._barred[channel] = known | {endpoint}
        else:
            self._barred[channel] = known - {endpoint}
        line = self._lines.get(channel)
        if line is not None:
            line.barred = self._barred[channel]
            self._fill(line, now, answers)
        return answers

    # -- a request ----------------------------------------------------------------------------------------------------

    def ask(
        self,
        slot: int,
        lease: int,
        wishes: Sequence[tuple[str, str]],
        now: float,
        *,
        tenant: str = "",
        priority: int = 0,
        otherwise: bool = False,
        waited: float = 0.0,
    ) -> list[Answer]:
        """wishes: (channel, endpoint) in order of preference. priority: higher comes first. otherwise: it has somewhere else to
        go, so it never waits. waited: seconds, when it asks again. No answer to it = it waits."""
        for number, (channel, endpoint) in enumerate(wishes):
            line = self._line(channel)
            if line.room(endpoint):
                self._seat(slot, Held(lease, channel, endpoint, tenant, now), line)
                return [Granted(slot, lease, number)]
        if otherwise or not wishes:
            return [Refused(slot, lease, 0.0, "full")]
        self._order += 1
        return self._queue(Waiter(slot, lease, tenant, priority, now - waited, self._order), wishes, now)

    def give_back(self, slot: int, lease: int, now: float) -> list[Answer]:
        """The request has ended, or its caller left while it waited. One that is not known any more was answered already."""
        answers: list[Answer] = []
        held = self._held.get(slot, {}).pop(lease, None)
        if held is not None:
            line = self._lines[held.channel]
            line.free(held.endpoint, held.tenant, now - held.since, now)
            self._fill(line, now, answers)
            return answers
        waiter = self._waiting.get(slot, {}).get(lease)
        if waiter is not None:
            self._withdraw(waiter, now)
        return answers

    def _seat(self, slot: int, held: Held, line: Line) -> None:
        line.take(held.endpoint, held.tenant)
        self._held.setdefault(slot, {})[held.lease] = held

    def _fill(self, line: Line, now: float, answers: list[Answer]) -> None:
        """Gives every seat that somebody waits for."""
        while line.queued:
            found = line.next()
            if found is None:
                return
            waiter, endpoint = found
            number = waiter.wants[line.name][endpoint]
            self._withdraw(waiter, now)
            self._seat(waiter.slot, Held(waiter.lease, line.name, endpoint, waiter.tenant, now), line)
            answers.append(Granted(waiter.slot, waiter.lease, number))

    # -- waiting ------------------------------------------------------------------------------------------------------

    def _queue(self, waiter: Waiter, wishes: Iterable[tuple[str, str]], now: float) -> list[Answer]:
        """Into each line that has a place and a hope. How long it may wait is what the first of them says."""
        answers: list[Answer] = []
        wanted: dict[str, dict[str, int]] = {}
        for number, (channel, endpoint) in enumerate(wishes):
            wanted.setdefault(channel, {}).setdefault(endpoint, number)
        why = "full"
        for channel, endpoints in wanted.items():
            line = self._lines[channel]
            if not line.limits.length:
                continue
            if now - waiter.since + line.expect(waiter.tenant, waiter.priority) > line.limits.wait:
                why = "hopeless"
                continue
            if line.queued >= line.limits.length:
                outcast = line.outcast(waiter.tenant, waiter.priority)
                if outcast is None:
                    continue
                if outcast.tenant == waiter.tenant or line.queued >= line.limits.length + line.limits.spare:
                    self._expel(outcast, line, now, answers)
            waiter.deadline = waiter.deadline or waiter.since + line.limits.wait
            waiter.wants[channel] = endpoints
            line.join(waiter, now)
        if not waiter.wants:
            return [*answers, self._refused(waiter, why, wanted)]
        self._waiting.setdefault(waiter.slot, {})[waiter.lease] = waiter
        heapq.heappush(self._deadlines, (waiter.deadline, waiter.order, waiter))
        return answers

    def _expel(self, waiter: Waiter, line: Line, now: float, answers: list[Answer]) -> None:
        """Out of this line; it waits on if it stands in others."""
        line.leave(waiter, now)
        del waiter.wants[line.name]
        if not waiter.wants:
            del self._waiting[waiter.slot][waiter.lease]
            answers.append(self._refused(waiter, "displaced", (line.name,)))

    def _withdraw(self, waiter: Waiter, now: float) -> None:
        del self._waiting[waiter.slot][waiter.lease]
        for channel in waiter.wants:
            self._lines[channel].leave(waiter, now)

    def _refused(self, waiter: Waiter, why: str, channels: Iterable[str]) -> Refused:
        lines = [self._lines[channel] for channel in channels]
        lines[0].shed += 1
        return Refused(waiter.slot, waiter.lease, min(line.retry_after() for line in lines), why)

    def _waits(self, waiter: Waiter) -> bool:
        return self._waiting.get(waiter.slot, {}).get(waiter.lease) is waiter

    def due(self) -> float | None:
        """When `expire` has something to do next; None = nobody waits."""
        while self._deadlines and not self._waits(self._deadlines[0][2]):
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def expire(self, now: float) -> list[Answer]:
        """Refuses those who have waited too long."""
        answers: list[Answer] = []
        while (due := self.due()) is not None and due <= now:
            waiter = heapq.heappop(self._deadlines)[2]
            self._withdraw(waiter, now)
            answers.append(self._refused(waiter, "late", list(waiter.wants)))
        return answers

    # -- workers ------------------------------------------------------------------------------------------------------

    def forget_slot(self, slot: int, now: float) -> list[Answer]:
        """Its worker is dead: with it died its connections to engines and its callers'."""
        return self.reassert(slot, [], now)

    def reassert(self, slot: int, leases: Iterable[Held], now: float) -> list[Answer]:
        """A worker says which seats it holds: these and no others, whatever was known of it. They count even beyond the limits;
        requests of it that waited are forgotten."""
        for waiter in list(self._waiting.pop(slot, {}).values()):
            for channel in waiter.wants:
                self._lines[channel].leave(waiter, now)
        before = self._held.pop(slot, {})
        for held in leases:
            self._seat(slot, held, self._line(held.channel))
        answers: list[Answer] = []
        for held in before.values():
            self._lines[held.channel].strike(held.endpoint, held.tenant)
        for name in {held.channel for held in before.values()}:
            self._fill(self._lines[name], now, answers)
        return answers

    def figures(self, now: float) -> dict[str, dict[str, object]]:
        """Per channel; see `Line.figures`."""
        return {name: line.figures(now) for name, line in self._lines.items()}

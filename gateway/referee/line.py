"""One limited channel: who has its seats, who waits for one, and whose turn it is. Time is an argument (monotonic seconds).

Deficit round robin over tenants, inside a tenant the higher priority first, then who came first. The deficit is
counted in seats: the waiting tenant that holds the fewest is furthest behind its share and comes next; equals take
turns. Counting requests instead would let a tenant whose answers take a minute hold sixty times as many seats as one
whose answers take a second, and would keep the second waiting while the debts of the first add up.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from gateway.config.resolved import Channel
from gateway.referee.drain import Drain

RETRY_LEAST: Final = 1.0
RETRY_MOST: Final = 60.0
"""Bounds, in seconds, of what refused callers are asked to wait."""


class Limits(NamedTuple):
    """What a channel may be asked. channel, endpoint: requests at the same time at all its endpoints together and at each,
    0 = any number. length: how many may wait, 0 = nobody. wait: for how many seconds."""

    channel: int = 0
    endpoint: int = 0
    length: int = 100
    wait: float = 30.0

    @property
    def spare(self) -> int:
        """Places beyond `length` for tenants with few in a line that others fill: so that seldom somebody who waits is sent away."""
        return self.length // 10

    def share(self, workers: int) -> "Limits":
        """What each of so many workers takes when nobody counts for all. At least one seat: without control a channel with
        fewer seats than workers is served a little beyond its limit rather than not at all."""
        channel, endpoint = (number and max(1, number // workers) for number in self[:2])
        return Limits(channel, endpoint, -(-self.length // workers), self.wait)


def limits_of(channels: Mapping[str, Channel]) -> dict[str, Limits]:
    """Of the channels that have some."""
    return {
        name: Limits(one.max_in_flight, one.endpoint_in_flight, one.queue_length, one.queue_wait)
        for name, one in channels.items()
        if one.max_in_flight or one.endpoint_in_flight
    }


class Waiter:
    """A request that waits. wants: channel → its endpoints there, each with its number in the wish list."""

    __slots__ = ("deadline", "lease", "order", "priority", "since", "slot", "tenant", "wants")

    def __init__(self, slot: int, lease: int, tenant: str, priority: int, since: float, order: int) -> None:
        self.slot = slot
        self.lease = lease
        self.tenant = tenant
        self.priority = priority
        self.since = since
        self.order = order
        self.deadline = 0.0
        self.wants: dict[str, dict[str, int]] = {}


class Queue:
    """One tenant's waiting requests in a line."""

    __slots__ = ("_levels", "_size")

    def __init__(self) -> None:
        self._levels: dict[int, OrderedDict[int, Waiter]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Waiter]:
        for level in sorted(self._levels, reverse=True):
            yield from self._levels[level].values()

    def add(self, waiter: Waiter) -> None:
        self._levels.setdefault(waiter.priority, OrderedDict())[waiter.order] = waiter
        self._size += 1

    def drop(self, waiter: Waiter) -> None:
        level = self._levels[waiter.priority]
        del level[waiter.order]
        self._size -= 1
        if not level:
            del self._levels[waiter.priority]

    def before(self, priority: int) -> int:
        """How many come before a newcomer of this priority."""
        return sum(len(level) for number, level in self._levels.items() if number >= priority)

    def oldest(self) -> float:
        """Since when somebody waits."""
        return min(next(iter(level.values())).since for level in self._levels.values())

    def last(self) -> Waiter:
        """The newest of the lowest priority."""
        return next(reversed(self._levels[min(self._levels)].values()))


class Line:
    """A channel's seats and its line."""

    __slots__ = ("_by", "_drain", "_queues", "_wanted", "at", "barred", "in_flight", "limits", "name", "queued", "shed")

    def __init__(self, name: str, limits: Limits) -> None:
        self.name = name
        self.limits = limits
        self.in_flight = 0
        self.at: dict[str, int] = {}
        self.barred: set[str] = set()
        self.queued = 0
        self.shed = 0
        self._by: dict[str, int] = {}
        self._queues: dict[str, Queue] = {}
        self._wanted: dict[str, int] = {}
        self._drain = Drain()

    # -- seats --------------------------------------------------------------------------------------------------------

    def room(self, endpoint: str) -> bool:
        most, each = self.limits.channel, self.limits.endpoint
        return endpoint not in self.barred and (not most or self.in_flight < most) and (not each or self.at.get(endpoint, 0) < each)

    def take(self, endpoint: str, tenant: str) -> None:
        self.in_flight += 1
        self.at[endpoint] = self.at.get(endpoint, 0) + 1
        self._by[tenant] = self._by.get(tenant, 0) + 1

    def free(self, endpoint: str, tenant: str, held: float, now: float) -> None:
        """A request has ended. held: for how many seconds it had the seat."""
        line = self.queued > 0
        self._drain.look(now, line=line)
        self._drain.freed(held, line=line)
        self.strike(endpoint, tenant)

    def strike(self, endpoint: str, tenant: str) -> None:
        """A seat is free that says nothing about how long requests take: its worker died, or told again what it holds."""
        self.in_flight -= 1
        for counts, name in ((self.at, endpoint), (self._by, tenant)):
            counts[name] -= 1
            if not counts[name]:
                del counts[name]

    # -- the line -----------------------------------------------------------------------------------------------------

    def join(self, waiter: Waiter, now: float) -> None:
        self._drain.look(now, line=self.queued > 0)
        self.queued += 1
        self._queues.setdefault(waiter.tenant, Queue()).add(waiter)
        for endpoint in waiter.wants[self.name]:
            self._wanted[endpoint] = self._wanted.get(endpoint, 0) + 1

    def leave(self, waiter: Waiter, now: float) -> None:
        self._drain.look(now, line=True)
        self.queued -= 1
        queue = self._queues[waiter.tenant]
        queue.drop(waiter)
        if not queue:
            del self._queues[waiter.tenant]
        for endpoint in waiter.wants[self.name]:
            self._wanted[endpoint] -= 1
            if not self._wanted[endpoint]:
                del self._wanted[endpoint]

    def next(self) -> tuple[Waiter, str] | None:
        """Who comes next, and the endpoint it gets. None: nobody, or nobody who can use what is free."""
        if not any(map(self.room, self._wanted)):
            return None
        found: tuple[Waiter, str] | None = None
        fewest = 0
        for tenant, queue in self._queues.items():
            held = self._by.get(tenant, 0)
            if found is None or held < fewest:
                fits = self._fits(queue)
                if fits is not None:
                    found, fewest = fits, held
        if found is not None:
            tenant = found[0].tenant
            self._queues[tenant] = self._queues.pop(tenant)  # behind its equals
        return found

    def _fits(self, queue: Queue) -> tuple[Waiter, str] | None:
        for waiter in queue:
            for endpoint in waiter.wants[self.name]:
                if self.room(endpoint):
                    return waiter, endpoint
        return None

    def outcast(self, tenant: str, priority: int) -> Waiter | None:
        """Who leaves a full line for a newcomer: the last of the tenant that fills it most, if that has more than twice as many
        in it; else the newcomer's own tenant's last, if that is of a lower priority. Twice: among tenants that all have some
        in the line nobody is sent away after having waited, since their turns are what is fair."""
        longest = max(self._queues.values(), key=len)
        own = self._queues.get(tenant)
        if len(longest) > 2 * (len(own) if own else 0) + 1:
            return longest.last()
        last = own.last() if own else None
        return last if last is not None and last.priority < priority else None

    # -- what can be expected -----------------------------------------------------------------------------------------

    def expect(self, tenant: str, priority: int) -> float:
        """Seconds that a newcomer would probably wait; 0.0 when nothing is known yet.

        Before it come its tenant's own, and of each other tenant those that get a seat before it holds as many."""
        rate = self._drain.rate(self.in_flight)
        if not rate:
            return 0.0
        queue = self._queues.get(tenant)
        ahead = queue.before(priority) if queue else 0
        level = self._by.get(tenant, 0) + ahead + 1
        for other, theirs in self._queues.items():
            if other != tenant:
                ahead += min(len(theirs), max(0, level - self._by.get(other, 0)))
        return (ahead + 1) / rate

    def retry_after(self) -> float:
        """Seconds until those who wait now have their seats, within bounds."""
        rate = self._drain.rate(self.in_flight)
        return min(RETRY_MOST, max(RETRY_LEAST, (self.queued + 1) / rate)) if rate else RETRY_LEAST

    def figures(self, now: float) -> dict[str, object]:
        """For people and metrics. oldest: seconds the longest waiting has waited. drain: seats per second, 0.0 = not known yet."""
        self._drain.look(now, line=self.queued > 0)
        oldest = min((queue.oldest() for queue in self._queues.values()), default=now)
        return {
            "in_flight": self.in_flight,
            "endpoints": dict(self.at),
            "max_in_flight": self.limits.channel,
            "max_per_endpoint": self.limits.endpoint,
            "queued": self.queued,
            "queue": self.limits.length,
            "oldest": round(now - oldest, 3),
            "drain": round(self._drain.rate(self.in_flight), 3),
            "shed": self.shed,
        }

"""All counters, and which request holds what of them. All matching limits or none. No clock, no I/O of its own.

Control has one for all workers; a worker without control has one for itself, with its share of the limits.

    ask       room in every limit: taken from each (a lease)        none in one: nothing is taken of any
    settle    what was not used goes back to where it was taken; what was used beyond counts from now on
    undo      the caller left before it knew: nothing was used, not even a request
    forget    a worker died: what is in flight and its tokens come free, its requests were made
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from gateway.referee.moment import Moment
from gateway.referee.rules import NONE, TOKENS, Amounts, Rule
from gateway.referee.users import Users
from gateway.referee.windows import window_of

NEVER: Final = -1.0
"""In place of seconds to wait: waiting is of no use."""

Seed = Callable[[str], Mapping[int, int]]
"""What is kept on disk of a counter."""


class Gauge:
    """One counter of one rule."""

    __slots__ = ("name", "plans", "rule", "users", "window")

    def __init__(self, name: str, rule: Rule) -> None:
        self.name = name
        self.rule = rule
        self.window = window_of(rule.limit.per, rule.limit.zone)
        self.users = Users()
        self.plans = 0


class Plan:
    """The counters of all requests of one key, model and address. key: whose."""

    __slots__ = ("asked", "gauges", "key", "missing")

    def __init__(self, key: str, asked: Sequence[tuple[str, str]], gauges: tuple[Gauge | None, ...]) -> None:
        self.key = key
        self.asked = asked
        self.gauges = gauges
        self.missing = None in gauges


class Lease(NamedTuple):
    """What one request took. marks: where, of each counter; None = nothing."""

    plan: Plan
    amounts: Amounts
    marks: tuple[int | None, ...]
    since: Moment


class Figures(NamedTuple):
    """The tightest limits of requests and of tokens: at most, left, seconds until all is free again. -1 = there is none."""

    requests: int = -1
    requests_left: int = -1
    requests_reset: float = 0.0
    tokens: int = -1
    tokens_left: int = -1
    tokens_reset: float = 0.0


class Verdict(NamedTuple):
    """number: which of the plan's limits refuses, -1 = granted. after: seconds until it might not, or NEVER. used: of it, now."""

    figures: Figures
    number: int = -1
    after: float = 0.0
    used: int = 0


class Contribution(NamedTuple):
    """What a request used in the end, for what is kept: reserved of it counts at `begun`, the rest at `ended` (clock on the wall)."""

    counter: Gauge
    reserved: int
    rest: int
    begun: float
    ended: float


class Quotas:
    """Everything that is limited. share: of how many equals this is one, when it counts for itself."""

    def __init__(self, seed: Seed, share: int = 1) -> None:
        self._seed = seed
        self._share = share
        self.gauges: dict[str, Gauge] = {}
        self.held: dict[int, dict[int, Lease]] = {}
        self._ghosts: dict[int, dict[int, Lease]] = {}

    def most(self, rule: Rule) -> int | None:
        """What a rule allows here."""
        most = rule.most
        return max(1, most // self._share) if most and self._share > 1 else most

    # -- counters -----------------------------------------------------------------------------------------------------

    def plan(self, key: str, asked: Sequence[tuple[str, str]], rules: Callable[[str], Rule | None], now: Moment) -> Plan:
        """asked: rule and counter of each limit that matches. A rule that is not known yet counts nothing (see `complete`)."""
        return Plan(key, asked, tuple(self._gauge(rules(rule), name, now) for rule, name in asked))

    def complete(self, plan: Plan, rules: Callable[[str], Rule | None], now: Moment) -> None:
        """Looks again for what was missing."""
        plan.gauges = tuple(
            gauge or self._gauge(rules(rule), name, now) for gauge, (rule, name) in zip(plan.gauges, plan.asked, strict=True)
        )
        plan.missing = None in plan.gauges

    def look_up(self, rule: Rule | None, name: str, now: Moment) -> None:
        """Makes a counter known that nobody has asked for yet."""
        gauge = self._gauge(rule, name, now)
        if gauge is not None:
            gauge.plans -= 1

    def _gauge(self, rule: Rule | None, name: str, now: Moment) -> Gauge | None:
        if rule is None:
            return None
        gauge = self.gauges.get(name)
        if gauge is None:
            gauge = self.gauges[name] = Gauge(name, rule)
            kept = self._seed(name)
            if kept:
                share = self._share
                gauge.window.seed({place: -(-amount // share) for place, amount in kept.items()} if share > 1 else kept, now)
        gauge.plans += 1
        return gauge

    def drop(self, plan: Plan) -> None:
        """Nobody asks by it any more."""
        for gauge in plan.gauges:
            if gauge is not None:
                gauge.plans -= 1

    def sweep(self, names: Iterable[str], now: Moment) -> None:
        """Forgets those of these counters that nobody asks for and nothing counts in."""
        for name in names:
            gauge = self.gauges.get(name)
            if gauge is not None and gauge.plans <= 0 and not gauge.window.used(now):
                del self.gauges[name]

    # -- requests -----------------------------------------------------------------------------------------------------

    def ask(self, slot: int, lease: int, plan: Plan, wanted: Amounts, now: Moment) -> Verdict:
        """Everything that the request may use is taken, or nothing."""
        free: list[bool] = []
        number, after, beyond = -1, 0.0, 0
        for place, gauge in enumerate(plan.gauges):
            take = gauge is not None and (gauge.rule.hours is None or gauge.rule.hours(now.wall))
            if take:
                assert gauge is not None
                rule = gauge.rule
                amount = wanted[rule.measure]
                most = rule.most if self._share == 1 else self.most(rule)
                if amount and most is not None and (used := gauge.window.used(now)) + amount > most:
                    if rule.shadow:
                        take = False
                    else:
                        wait = gauge.window.frees(used + amount - most, now) if amount <= most else NEVER
                        if number < 0 or (after != NEVER and (wait == NEVER or wait > after)):
                            number, after, beyond = place, wait, used
            free.append(take)
        if number >= 0:
            refusing = plan.gauges[number]
            assert refusing is not None
            refusing.rule.refused += 1
            return Verdict(self.figures(plan, now), number, after, beyond)
        self._take(slot, lease, plan, wanted, free, now)
        return Verdict(self.figures(plan, now))

    def _take(self, slot: int, lease: int, plan: Plan, wanted: Amounts, free: Sequence[bool], now: Moment) -> None:
        marks: list[int | None] = []
        for gauge, take in zip(plan.gauges, free, strict=True):
            if take and gauge is not None:
                amount = wanted[gauge.rule.measure]
                marks.append(gauge.window.add(amount, now))
                gauge.users.add(plan.key, amount, now.mono)
            else:
                if gauge is not None and gauge.rule.shadow and (gauge.rule.hours is None or gauge.rule.hours(now.wall)):
                    gauge.rule.shadowed += 1
                marks.append(None)
        held = self.held.get(slot)
        if held is None:
            held = self.held[slot] = {}
        held[lease] = Lease(plan, wanted, tuple(marks), now)

    def settle(self, slot: int, lease: int, used: Amounts, now: Moment) -> list[Contribution]:
        """The request is over and has used so much. Returns what is to be kept of it. One that is not known any more is over already."""
        held = self.held.get(slot)
        found = held.pop(lease, None) if held else None
        return self._settle(found, used, now) if found is not None else []

    def _settle(self, lease: Lease, used: Amounts, now: Moment) -> list[Contribution]:
        kept: list[Contribution] = []
        begun, ended, reserved = lease.since.wall, now.wall, lease.amounts
        for gauge, mark in zip(lease.plan.gauges, lease.marks, strict=True):
            if mark is None or gauge is None:
                continue
            rule = gauge.rule
            took, spent = reserved[rule.measure], used[rule.measure]
            if rule.count == "concurrency":
                gauge.window.change(mark, -took)
                continue
            if spent < took:
                gauge.window.change(mark, spent - took)
                gauge.users.add(lease.plan.key, spent - took, now.mono)
                took = spent
            elif spent > took:
                gauge.window.add(spent - took, now)
                gauge.users.add(lease.plan.key, spent - took, now.mono)
            if spent:
                kept.append(Contribution(gauge, took, spent - took, begun, ended))
        return kept

    def undo(self, slot: int, lease: int) -> None:
        """The caller left before it was told: as if it had never asked."""
        held = self.held.get(slot)
        found = held.pop(lease, None) if held else None
        if found is not None:
            self._settle(found, NONE, found.since)

    # -- workers ------------------------------------------------------------------------------------------------------

    def forget(self, slot: int) -> None:
        """Its worker is dead, or at least not to be heard. Its requests were made; the rest of what they took comes free."""
        for number, lease in self.held.pop(slot, {}).items():
            self._settle(lease, (lease.amounts[0], 0, 0, 0, 0), lease.since)
            self._ghosts.setdefault(slot, {})[number] = lease

    def bury(self, slot: int) -> None:
        """Its worker is dead for sure: it will not come and tell what it holds."""
        self.forget(slot)
        self._ghosts.pop(slot, None)

    def reassert(self, slot: int, told: Mapping[int, tuple[Plan, Amounts, Moment]]) -> None:
        """A worker says what it holds: this and nothing else, whatever was known of it. It counts even beyond the limits."""
        ghosts = self._ghosts.pop(slot, {})
        mine = self.held.setdefault(slot, {})
        for number in [number for number in mine if number not in told]:
            self.undo(slot, number)
        for number, (plan, wanted, since) in told.items():
            if number in mine:
                continue
            ghost = ghosts.pop(number, None)
            if ghost is not None:
                mine[number] = self._revive(ghost)
            else:
                self._take(slot, number, plan, wanted, [self._applies(gauge, since) for gauge in plan.gauges], since)

    @staticmethod
    def _applies(gauge: Gauge | None, at: Moment) -> bool:
        return gauge is not None and (gauge.rule.hours is None or gauge.rule.hours(at.wall))

    @staticmethod
    def _revive(ghost: Lease) -> Lease:
        """What was let go is taken again; that the request was made counts already."""
        for gauge, mark in zip(ghost.plan.gauges, ghost.marks, strict=True):
            if gauge is not None and mark is not None and gauge.rule.count != "requests":
                gauge.window.change(mark, ghost.amounts[gauge.rule.measure])
        return ghost

    # -- what is known ------------------------------------------------------------------------------------------------

    def figures(self, plan: Plan, now: Moment) -> Figures:
        """For the headers of an answer."""
        requests = tokens = (-1, -1, 0.0)
        for gauge in plan.gauges:
            if gauge is None or gauge.rule.most is None or gauge.rule.shadow:
                continue
            rule = gauge.rule
            if rule.hours is not None and not rule.hours(now.wall):
                continue
            if rule.count == "requests":
                left = self._left(gauge, now)
                if requests[0] < 0 or left < requests[1]:
                    requests = (self.most(rule) or 0, left, gauge.window.reset(now))
            elif rule.count in TOKENS:
                left = self._left(gauge, now)
                if tokens[0] < 0 or left < tokens[1]:
                    tokens = (self.most(rule) or 0, left, gauge.window.reset(now))
        return Figures(*requests, *tokens)

    def _left(self, gauge: Gauge, now: Moment) -> int:
        return max(0, (self.most(gauge.rule) or 0) - gauge.window.used(now))

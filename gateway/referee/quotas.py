"""All counters, and which request holds what of them. All matching limits or none. No clock, no I/O of its own.

Control has one for all workers; a worker without control has one for itself, with its share of the limits.

    ask       room in every limit: taken from each (a lease)        none in one: nothing is taken of any
    settle    what was not used goes back to where it was taken; what was used beyond counts from now on
    undo      the caller left before it knew: nothing was used, not even a request
    lend      a worker gets as much as several such requests may use, and decides about them itself (see `lending`)
    part      some of what was lent is settled, or comes back
    forget    a worker died: what is in flight and its tokens come free, its requests were made
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from gateway.referee.gauges import NEVER, Bucket, Figures, Gauge, Lease, Plan, Seed, Verdict, note
from gateway.referee.moment import Moment
from gateway.referee.rules import NONE, Amounts, Rule


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
        uses: list[int | None] = []
        shadows: list[Rule] = []
        number, after, beyond = -1, 0.0, 0
        for place, gauge in enumerate(plan.gauges):
            if gauge is None or (gauge.rule.hours is not None and not gauge.rule.hours(now.wall)):
                uses.append(None)
                continue
            rule = gauge.rule
            amount = rule.of(wanted)
            used: int | None = gauge.window.used(now)
            most = rule.most if self._share == 1 else self.most(rule)
            if amount and most is not None and used is not None and used + amount > most:
                if rule.shadow:
                    shadows.append(rule)
                    used = None
                else:
                    wait = gauge.window.frees(used + amount - most, now) if amount <= most else NEVER
                    if number < 0 or (after != NEVER and (wait == NEVER or wait > after)):
                        number, after, beyond = place, wait, used
            uses.append(used)
        if number >= 0:
            return Verdict(self._figures(plan, uses, NONE, now), number, after, beyond)
        for rule in shadows:
            rule.shadowed += 1
        self._take(slot, lease, plan, wanted, uses, now)
        return Verdict(self._figures(plan, uses, wanted, now))

    def _take(self, slot: int, lease: int, plan: Plan, wanted: Amounts, uses: Sequence[int | None], now: Moment) -> None:
        """uses: None = nothing is taken of this one."""
        marks: list[int | None] = []
        for gauge, used in zip(plan.gauges, uses, strict=True):
            if used is None or gauge is None:
                marks.append(None)
            else:
                amount = gauge.rule.of(wanted)
                marks.append(gauge.window.add(amount, now))
                gauge.users.add(plan.key, amount, now.mono)
        held = self.held.get(slot)
        if held is None:
            held = self.held[slot] = {}
        held[lease] = Lease(plan, wanted, marks, now)

    def settle(self, slot: int, lease: int, used: Amounts, now: Moment, bucket: Bucket | None = None) -> bool:
        """The request is over and has used so much. bucket: takes in what is to be kept. False: it is over already."""
        held = self.held.get(slot)
        found = held.pop(lease, None) if held else None
        if found is not None:
            self._settle(found, used, now, bucket)
        return found is not None

    def _settle(self, lease: Lease, used: Amounts, now: Moment, bucket: Bucket | None = None) -> None:
        plan, reserved, marks, since = lease
        for gauge, mark in zip(plan.gauges, marks, strict=True):
            if mark is None or gauge is None:
                continue
            rule, window = gauge.rule, gauge.window
            took, spent = rule.of(reserved), rule.of(used)
            if rule.count == "concurrency":
                window.change(mark, -took)
                continue
            if spent != took:
                gauge.users.add(plan.key, spent - took, now.mono)
                if spent < took:
                    window.change(mark, spent - took)
                    took = spent
                else:
                    window.add(spent - took, now)
            if spent and bucket is not None:
                note(bucket, gauge.name, window.place(since.wall), took)
                if spent > took:
                    note(bucket, gauge.name, window.place(now.wall), spent - took)

    def lend(self, slot: int, lease: int, plan: Plan, wanted: Amounts, now: Moment) -> None:
        """Takes from every limit what several requests may use together. The caller has seen that there is room."""
        self._take(slot, lease, plan, wanted, [self._applies(gauge, now) for gauge in plan.gauges], now)

    def part(self, slot: int, lease: int, took: Amounts, used: Amounts, now: Moment, bucket: Bucket | None = None) -> None:
        """Of what was lent so much is over: it had been taken for these requests, and they have used so much."""
        held = self.held.get(slot, {})
        found = held.get(lease)
        if found is None:
            return
        self._settle(found._replace(amounts=took), used, now, bucket)
        found.plan.pace.note(used[0], now.mono)
        (requests, input, output, total, _), (n, i, o, t, _) = found.amounts, took
        if requests > n or total > t:
            held[lease] = found._replace(amounts=(requests - n, input - i, output - o, total - t, 0))
        else:
            del held[lease]

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
        for number, ghost in ghosts.items():
            if number < 0:
                self._never_lent(ghost)

    @staticmethod
    def _never_lent(ghost: Lease) -> None:
        """`forget` took all requests of a loan as made. Those that were have been told one by one now."""
        for gauge, mark in zip(ghost.plan.gauges, ghost.marks, strict=True):
            if gauge is not None and mark is not None and gauge.rule.count == "requests":
                gauge.window.change(mark, -ghost.amounts[0])

    @staticmethod
    def _applies(gauge: Gauge | None, at: Moment) -> int | None:
        """None: it does not."""
        return 0 if gauge is not None and (gauge.rule.hours is None or gauge.rule.hours(at.wall)) else None

    @staticmethod
    def _revive(ghost: Lease) -> Lease:
        """What was let go is taken again; that the request was made counts already."""
        marks = list(ghost.marks)
        for place, gauge in enumerate(ghost.plan.gauges):
            if gauge is not None and marks[place] is not None and gauge.rule.count != "requests":
                marks[place] = gauge.window.add(gauge.rule.of(ghost.amounts), ghost.since)
        return ghost._replace(marks=marks)

    # -- what is known ------------------------------------------------------------------------------------------------

    def tightest(self, plan: Plan, uses: Sequence[int | None], took: Amounts) -> tuple[Gauge | None, int, Gauge | None, int]:
        """The limits of requests and of tokens with the least left, and what that is. uses: before this request took what it took."""
        requests = tokens = None
        requests_left = tokens_left = 0
        for gauge, used in zip(plan.gauges, uses, strict=True):
            if used is None or gauge is None or (sort := gauge.rule.sort) == 0:
                continue
            rule = gauge.rule
            most = rule.most if self._share == 1 else self.most(rule)
            if most is None or rule.shadow:
                continue
            left = most - used - rule.of(took)
            if sort == 1:
                if requests is None or left < requests_left:
                    requests, requests_left = gauge, left
            elif tokens is None or left < tokens_left:
                tokens, tokens_left = gauge, left
        return requests, requests_left, tokens, tokens_left

    def _figures(self, plan: Plan, uses: Sequence[int | None], took: Amounts, now: Moment) -> Figures:
        """For the headers of an answer. uses: before this request took what it took."""
        requests, requests_left, tokens, tokens_left = self.tightest(plan, uses, took)
        return Figures(*self._figure(requests, requests_left, now), *self._figure(tokens, tokens_left, now))

    def _figure(self, gauge: Gauge | None, left: int, now: Moment) -> tuple[int, int, float]:
        return (-1, -1, 0.0) if gauge is None else (self.most(gauge.rule) or 0, max(0, left), gauge.window.reset(now))

    def figures(self, plan: Plan, now: Moment) -> Figures:
        """For the headers of an answer, when nothing is asked for."""
        uses = [gauge.window.used(now) if gauge is not None and self._applies(gauge, now) is not None else None for gauge in plan.gauges]
        return self._figures(plan, uses, NONE, now)

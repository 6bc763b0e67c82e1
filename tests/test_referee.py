"""The table of seats: never over the limit, nobody starves, no seat is empty while somebody waits, and fair to small tenants."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.referee.capacity import Answer, Capacity, Granted, Held, Refused
from gateway.referee.drain import Drain
from gateway.referee.line import RETRY_MOST, Limits

A = [("a", "a1")]
BOTH = [("a", "a1"), ("a", "a2")]


def table(**limits: Limits) -> Capacity:
    made = Capacity()
    made.adopt(limits, 0.0)
    return made


def granted(answers: list[Answer]) -> list[tuple[int, int, int]]:
    assert all(isinstance(answer, Granted) for answer in answers), answers
    return [tuple(answer) for answer in answers]  # type: ignore[misc]


def refused(answers: list[Answer]) -> Refused:
    (answer,) = answers
    assert isinstance(answer, Refused), answer
    return answer


def figure(capacity: Capacity, channel: str, name: str, now: float = 0.0) -> Any:
    return capacity.figures(now)[channel][name]


# -- one channel ------------------------------------------------------------------------------------------------------


def test_seats_are_given_up_to_the_limit_then_in_the_order_of_arrival() -> None:
    capacity = table(a=Limits(channel=2))
    assert granted(capacity.ask(0, 1, A, 0.0)) == [(0, 1, 0)]
    assert granted(capacity.ask(1, 1, A, 0.0)) == [(1, 1, 0)]
    assert [capacity.ask(0, lease, A, 0.0) for lease in (2, 3)] == [[], []]
    assert (figure(capacity, "a", "in_flight"), figure(capacity, "a", "queued")) == (2, 2)
    assert granted(capacity.give_back(1, 1, 1.0)) == [(0, 2, 0)]
    assert granted(capacity.give_back(0, 1, 1.0)) == [(0, 3, 0)]
    assert capacity.give_back(0, 2, 1.0) == capacity.give_back(0, 3, 1.0) == []
    assert figure(capacity, "a", "in_flight") == 0


def test_an_endpoint_may_be_full_while_another_is_not() -> None:
    capacity = table(a=Limits(endpoint=1))
    assert granted(capacity.ask(0, 1, BOTH, 0.0)) == [(0, 1, 0)]
    assert granted(capacity.ask(0, 2, BOTH, 0.0)) == [(0, 2, 1)], "its second wish has room"
    assert capacity.ask(0, 3, [("a", "a2"), ("a", "a1")], 0.0) == []
    assert granted(capacity.give_back(0, 1, 1.0)) == [(0, 3, 1)], "the endpoint that is free, by its number in the wishes"
    assert figure(capacity, "a", "endpoints") == {"a1": 1, "a2": 1}


def test_who_cannot_use_what_is_free_does_not_hold_up_who_can() -> None:
    capacity = table(a=Limits(channel=3, endpoint=1))
    for lease, endpoint in enumerate(("a1", "a2", "a3")):
        granted(capacity.ask(0, lease, [("a", endpoint)], 0.0))
    assert capacity.ask(0, 10, [("a", "a1")], 0.0) == []
    assert capacity.ask(0, 11, [("a", "a2")], 0.0) == []
    assert capacity.give_back(0, 2, 0.0) == [], "nobody waits for a3"
    assert granted(capacity.give_back(0, 1, 0.0)) == [(0, 11, 0)]


def test_without_a_limit_everybody_gets_a_seat() -> None:
    capacity = table()
    for lease in range(1000):
        assert granted(capacity.ask(0, lease, [("gone", "x")], 0.0))


def test_who_waits_at_two_channels_takes_what_is_free_first() -> None:
    capacity = table(a=Limits(channel=1), b=Limits(channel=1))
    wishes = [("a", "a1"), ("b", "b1")]
    assert granted(capacity.ask(0, 1, wishes, 0.0)) == [(0, 1, 0)]
    assert granted(capacity.ask(0, 2, wishes, 0.0)) == [(0, 2, 1)]
    assert capacity.ask(0, 3, wishes, 0.0) == []
    assert granted(capacity.give_back(0, 2, 1.0)) == [(0, 3, 1)]
    assert [figure(capacity, name, "queued") for name in "ab"] == [0, 0], "it waits nowhere any more"
    assert capacity.give_back(0, 1, 1.0) == []


# -- who is refused ---------------------------------------------------------------------------------------------------


def test_who_has_somewhere_else_to_go_never_waits_and_is_not_counted_as_shed() -> None:
    capacity = table(a=Limits(channel=1))
    granted(capacity.ask(0, 1, A, 0.0))
    assert refused(capacity.ask(0, 2, A, 0.0, otherwise=True)).why == "full"
    assert (figure(capacity, "a", "queued"), figure(capacity, "a", "shed")) == (0, 0)


def test_a_full_line_refuses_with_the_time_that_it_needs_to_drain() -> None:
    capacity = table(a=Limits(channel=2, length=3, wait=100.0))
    for lease in range(2):
        granted(capacity.ask(0, lease, A, 0.0))
    for lease in range(2):  # one seat is held for 4 s: two seats drain at 0.5 a second
        capacity.give_back(0, lease, 4.0)
        granted(capacity.ask(0, 10 + lease, A, 4.0))
    for lease in range(3):
        assert capacity.ask(0, 20 + lease, A, 4.0) == []
    no = refused(capacity.ask(0, 30, A, 4.0))
    assert no.why == "full" and no.after == pytest.approx(8.0)
    assert figure(capacity, "a", "shed", 4.0) == 1


def test_who_would_wait_too_long_is_refused_at_once() -> None:
    capacity = table(a=Limits(channel=1, length=100, wait=10.0))
    granted(capacity.ask(0, 1, A, 0.0))
    capacity.give_back(0, 1, 4.0)
    granted(capacity.ask(0, 2, A, 4.0))
    assert capacity.ask(0, 3, A, 4.0) == capacity.ask(0, 4, A, 4.0) == [], "4 s and 8 s"
    no = refused(capacity.ask(0, 5, A, 4.0))
    assert no.why == "hopeless" and no.after == pytest.approx(12.0)
    assert capacity.ask(0, 6, A, 4.0, tenant="other") == [], "before it comes only one of each other tenant"


def test_who_waited_too_long_is_refused_then() -> None:
    capacity = table(a=Limits(channel=1, wait=10.0))
    granted(capacity.ask(0, 1, A, 0.0))
    assert capacity.ask(0, 2, A, 1.0) == capacity.ask(0, 3, A, 1.0, waited=4.0) == []
    assert capacity.due() == pytest.approx(7.0), "what it waited before counts"
    assert capacity.expire(6.9) == []
    assert refused(capacity.expire(7.0))[:2] == (0, 3)
    assert capacity.due() == pytest.approx(11.0)
    assert granted(capacity.give_back(0, 1, 8.0)) == [(0, 2, 0)]
    assert capacity.due() is None and capacity.expire(99.0) == []


def test_how_long_the_longest_has_waited_is_told() -> None:
    capacity = table(a=Limits(channel=1))
    granted(capacity.ask(0, 1, A, 0.0))
    assert figure(capacity, "a", "oldest", 1.0) == 0.0
    for lease, (tenant, priority) in enumerate((("x", 0), ("x", 9), ("y", 5)), 2):
        capacity.ask(0, lease, A, float(lease), tenant=tenant, priority=priority)
    assert figure(capacity, "a", "oldest", 10.0) == 8.0


def test_where_nobody_may_wait_the_next_is_refused() -> None:
    capacity = table(a=Limits(channel=1, length=0), b=Limits(channel=1, length=5))
    granted(capacity.ask(0, 1, [("b", "b1")], 0.0))
    granted(capacity.ask(0, 2, A, 0.0))
    assert refused(capacity.ask(0, 3, A, 0.0)).why == "full"
    assert capacity.ask(0, 4, [*A, ("b", "b1")], 0.0) == [], "at its other channel it may"
    assert capacity.give_back(0, 2, 0.0) == [] and figure(capacity, "a", "in_flight") == 0


def test_nothing_wished_is_nothing_got() -> None:
    assert refused(table().ask(0, 1, [], 0.0)).why == "full"


# -- order of operations ----------------------------------------------------------------------------------------------


def test_who_leaves_the_line_is_forgotten_and_who_leaves_twice_does_no_harm() -> None:
    capacity = table(a=Limits(channel=1))
    granted(capacity.ask(0, 1, A, 0.0))
    assert capacity.ask(0, 2, A, 0.0) == capacity.ask(0, 3, A, 0.0) == []
    assert capacity.give_back(0, 2, 0.0) == capacity.give_back(0, 2, 0.0) == capacity.give_back(7, 7, 0.0) == []
    assert granted(capacity.give_back(0, 1, 0.0)) == [(0, 3, 0)]
    assert capacity.give_back(0, 1, 0.0) == [], "given back before"
    assert figure(capacity, "a", "in_flight") == 1


def test_a_seat_given_back_while_its_grant_travels_goes_to_the_next() -> None:
    capacity = table(a=Limits(channel=1))
    granted(capacity.ask(0, 1, A, 0.0))
    assert capacity.ask(0, 2, A, 0.0) == capacity.ask(1, 2, A, 0.0) == []
    assert granted(capacity.give_back(0, 1, 0.0)) == [(0, 2, 0)]
    assert granted(capacity.give_back(0, 2, 0.0)) == [(1, 2, 0)], "the caller of 0/2 had left meanwhile"


# -- workers and revisions ----------------------------------------------------------------------------------------------


def test_a_dead_workers_seats_and_waiters_are_free() -> None:
    capacity = table(a=Limits(channel=2))
    for lease in range(2):
        granted(capacity.ask(0, lease, A, 0.0))
    assert capacity.ask(0, 5, A, 0.0) == capacity.ask(1, 6, A, 0.0) == capacity.ask(1, 7, A, 0.0) == []
    assert granted(capacity.forget_slot(0, 1.0)) == [(1, 6, 0), (1, 7, 0)]
    assert capacity.forget_slot(0, 1.0) == []


def test_what_workers_say_they_hold_counts_even_beyond_the_limit() -> None:
    capacity = table(a=Limits(channel=2))
    assert capacity.reassert(0, [Held(n, "a", "a1", "t", 0.0) for n in range(3)], 1.0) == []
    assert capacity.ask(1, 1, A, 1.0) == []
    assert capacity.give_back(0, 0, 2.0) == []
    assert granted(capacity.give_back(0, 1, 2.0)) == [(1, 1, 0)]


def test_what_a_worker_says_replaces_what_was_known_of_it() -> None:
    capacity = table(a=Limits(channel=2))
    granted(capacity.ask(0, 1, A, 0.0))
    granted(capacity.ask(0, 2, A, 0.0))
    assert capacity.ask(0, 3, A, 0.0) == capacity.ask(1, 9, A, 0.0) == []
    assert granted(capacity.reassert(0, [Held(2, "a", "a1", "", 0.0)], 1.0)) == [(1, 9, 0)], "0/3 will ask again, 0/1 is free"
    assert (figure(capacity, "a", "in_flight"), figure(capacity, "a", "queued")) == (2, 0)


def test_at_a_barred_endpoint_no_seat_is_given_and_who_waits_keeps_the_place() -> None:
    capacity = table(c=Limits(endpoint=1, wait=30))
    for lease, wish in ((1, "c1"), (2, "c2")):
        assert granted(capacity.ask(0, lease, [("c", wish)], 0.0))
    for lease in (3, 4):
        assert capacity.ask(0, lease, [("c", "c1"), ("c", "c2")], 1.0) == []
    assert capacity.bar("c", "c1", True, 2.0) == [] == capacity.bar("c", "c1", True, 2.0)
    assert capacity.give_back(0, 1, 3.0) == [], "it is drained"
    assert granted(capacity.give_back(0, 2, 4.0)) == [(0, 3, 1)]
    assert granted(capacity.bar("c", "c1", False, 5.0)) == [(0, 4, 0)]
    capacity.bar("new", "n1", True, 6.0)
    capacity.adopt({"new": Limits(channel=1)}, 7.0)
    assert granted(capacity.ask(0, 5, [("new", "n1"), ("new", "n2")], 8.0)) == [(0, 5, 1)]


def test_limits_change_live_and_nobody_loses_a_seat_or_a_place() -> None:
    capacity = table(a=Limits(channel=2))
    for lease in range(5):
        capacity.ask(0, lease, A, 0.0)
    assert capacity.adopt({"a": Limits(channel=1, length=1)}, 1.0) == []
    assert (figure(capacity, "a", "in_flight"), figure(capacity, "a", "queued")) == (2, 3)
    assert capacity.give_back(0, 0, 1.0) == []
    assert granted(capacity.adopt({"a": Limits(channel=3)}, 1.0)) == [(0, 2, 0), (0, 3, 0)]
    assert granted(capacity.adopt({}, 2.0)) == [(0, 4, 0)], "no limit any more"
    for lease in (1, 2, 3, 4):
        capacity.give_back(0, lease, 3.0)
    capacity.adopt({}, 4.0)
    assert capacity.figures(4.0) == {}


def test_a_workers_share_is_never_nothing() -> None:
    assert Limits(200, 64, 100, 30.0).share(3) == Limits(66, 21, 34, 30.0)
    assert Limits(1, 0, 0, 30.0).share(8) == Limits(1, 0, 0, 30.0)


# -- fairness ---------------------------------------------------------------------------------------------------------


class Engine:
    """A channel in simulated time: arrivals by tenant, each request holds its seat for so long."""

    def __init__(self, limits: Limits, holds: Callable[[str], float]) -> None:
        self.capacity = table(a=limits)
        self.holds = holds
        self.now = 0.0
        self.tenants: dict[int, str] = {}
        self.asked: dict[int, float] = {}
        self.ends: list[tuple[float, int]] = []
        self.served: Counter[str] = Counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.shed: dict[str, list[tuple[float, Refused]]] = {}
        self.waited: dict[str, list[float]] = {}

    def arrive(self, tenant: str, priority: int = 0) -> int:
        lease = len(self.tenants)
        self.tenants[lease], self.asked[lease] = tenant, self.now
        self._heard(self.capacity.ask(0, lease, A, self.now, tenant=tenant, priority=priority))
        return lease

    def run(self, until: float) -> None:
        while True:
            end = min(self.ends, default=(until, -1))
            due = self.capacity.due()
            if min(end[0], until if due is None else due) >= until:
                self.now = until
                return
            if due is not None and due < end[0]:
                self.now = due
                self._heard(self.capacity.expire(due))
                continue
            self.ends.remove(end)
            self.now = end[0]
            self._heard(self.capacity.give_back(0, end[1], self.now))

    def _heard(self, answers: list[Answer]) -> None:
        for answer in answers:
            tenant = self.tenants[answer.lease]
            since = self.now - self.asked[answer.lease]
            if isinstance(answer, Granted):
                held = self.holds(tenant)
                self.ends.append((self.now + held, answer.lease))
                self.served[tenant] += 1
                self.seconds[tenant] += held
                self.waited.setdefault(tenant, []).append(since)
            else:
                self.shed.setdefault(tenant, []).append((since, answer))


def overload(engine: Engine, rates: dict[str, float], seconds: float, seed: int = 1) -> None:
    """Poisson arrivals, requests per second by tenant."""
    luck = random.Random(seed)
    arrivals = []
    for tenant, rate in rates.items():
        moment = luck.expovariate(rate)
        while moment < seconds:
            arrivals.append((moment, tenant))
            moment += luck.expovariate(rate)
    for moment, tenant in sorted(arrivals):
        engine.run(moment)
        engine.arrive(tenant)
    engine.run(seconds)


@pytest.mark.hard
def test_a_tenant_with_a_hundred_times_the_load_gets_its_share_and_no_more() -> None:
    engine = Engine(Limits(channel=20, length=100, wait=30.0), lambda _: 1.0)
    overload(engine, {"loud": 800.0, "one": 8.0, "two": 8.0}, 200.0)  # 20 a second: each has 6.67, and wants more
    share = sum(engine.served.values()) / 3
    assert sum(engine.served.values()) > 0.99 * 20 * 200
    assert all(abs(served / share - 1) < 0.05 for served in engine.served.values()), engine.served


def test_tenants_below_their_share_get_all_they_want_while_a_loud_one_fills_the_line() -> None:
    engine = Engine(Limits(channel=20, length=100, wait=30.0), lambda _: 1.0)
    overload(engine, {"loud": 200.0, "one": 2.0, "two": 5.0}, 200.0)
    assert not engine.shed.keys() & {"one", "two"}
    assert max(engine.waited["one"] + engine.waited["two"]) < 2.0 < min(engine.waited["loud"][1000:])
    assert engine.served["loud"] > 0.95 * (20 - 7) * 200, "and what they leave is used"


def test_a_tenant_with_long_answers_does_not_take_the_seats_of_one_with_short_ones() -> None:
    engine = Engine(Limits(channel=20, length=100, wait=60.0), lambda tenant: 30.0 if tenant == "long" else 0.5)
    overload(engine, {"long": 10.0, "short": 60.0}, 600.0)
    assert engine.seconds["short"] / sum(engine.seconds.values()) == pytest.approx(0.5, abs=0.05)
    assert sorted(engine.waited["short"])[-100] < 20.0


def test_of_a_tenants_requests_the_higher_priority_comes_first_and_across_tenants_it_does_not_count() -> None:
    engine = Engine(Limits(channel=1), lambda _: 1.0)
    engine.arrive("x")
    low, high, other = engine.arrive("x"), engine.arrive("x", priority=5), engine.arrive("y")
    order = []
    for second in range(1, 5):
        order += [lease for _, lease in engine.ends]
        engine.run(second + 0.5)
    assert order == [0, high, other, low], "equals take turns; y came later"


def test_a_full_line_makes_room_for_a_tenant_with_fewer_in_it() -> None:
    engine = Engine(Limits(channel=1, length=4, wait=600.0), lambda _: 1.0)
    for _ in range(5):
        engine.arrive("loud")
    engine.arrive("loud")
    assert [no.why for _, no in engine.shed["loud"]] == ["full"]
    engine.arrive("small")
    assert engine.shed["loud"][-1][1][1:] == (4, 1.0, "displaced"), "the newest of the loud one"
    assert engine.shed["loud"][-1][1].lease == 4
    engine.arrive("small", 1)
    assert [no.lease for _, no in engine.shed["small"]] == [6], "3 to 1 is not unfair: only its own lower priority makes room"
    engine.arrive("small", 1)
    assert [no.lease for _, no in engine.shed["small"]] == [6, 8]


def test_a_long_line_has_spare_places_for_tenants_with_few_in_it() -> None:
    engine = Engine(Limits(channel=1, length=20, wait=600.0), lambda _: 1.0)
    for _ in range(22):
        engine.arrive("loud")
    assert [no.why for _, no in engine.shed["loud"]] == ["full"], "for who fills it the length is the length"
    engine.arrive("one"), engine.arrive("two")
    assert len(engine.shed["loud"]) == 1
    engine.arrive("three")
    assert [no.why for _, no in engine.shed["loud"]] == ["full", "displaced"]
    assert engine.shed.keys() == {"loud"} and figure(engine.capacity, "a", "queued") == 22


def test_work_of_no_waiter_is_lost_when_the_line_turns_over() -> None:
    """Nobody starves: with steady overload of two tenants each of those that were let into the line is served within the wait."""
    engine = Engine(Limits(channel=5, length=20, wait=30.0), lambda _: 1.0)
    overload(engine, {"x": 15.0, "y": 10.0}, 100.0)
    late = [no for refusals in engine.shed.values() for _, no in refusals if no.why == "late"]
    assert not late and max(map(max, engine.waited.values())) < 10.0


def test_five_times_the_load_keeps_the_capacity_busy_and_is_refused_at_once() -> None:
    luck = random.Random(2)
    engine = Engine(Limits(channel=50, length=100, wait=30.0), lambda _: luck.uniform(0.5, 1.5))
    overload(engine, {"x": 125.0, "y": 125.0}, 100.0)
    assert sum(engine.served.values()) > 0.97 * 50 * 100
    shed = sorted(after for refusals in engine.shed.values() for after, _ in refusals)
    assert len(shed) > 3.8 * 50 * 100
    assert shed[int(len(shed) * 0.99)] == 0.0, "at once; who makes room for another tenant came just before it"
    assert shed[-1] < 0.05
    asked = [no.after for refusals in engine.shed.values() for _, no in refusals[1000:]]
    assert min(asked) > 1.5 and max(asked) < 3.0, "a line of 100 drains at 50 a second"


# -- properties -------------------------------------------------------------------------------------------------------

CHANNELS = ("a", "b")
ENDPOINTS = ("1", "2")
wish = st.tuples(st.sampled_from(CHANNELS), st.sampled_from(ENDPOINTS))
limits = st.builds(Limits, st.integers(0, 3), st.integers(0, 2), st.integers(0, 4), st.sampled_from([0.5, 2.0, 100.0]))
slots = st.integers(0, 2)
wishes_of_one = st.lists(wish, min_size=1, max_size=4)
asks = st.tuples(st.just("ask"), slots, wishes_of_one, st.sampled_from("xyz"), st.integers(0, 2), st.sampled_from([False] * 9 + [True]))
backs = st.tuples(st.just("back"), st.integers(0, 50))
rest = st.one_of(
    st.tuples(st.just("pass"), st.sampled_from([0.0, 0.1, 1.0, 5.0])),
    st.tuples(st.just("forget"), slots),
    st.tuples(st.just("reassert"), slots, st.integers(0, 1)),
    st.tuples(st.just("adopt"), limits, limits),
)
op = st.one_of(asks, asks, asks, backs, backs, rest)


class Model:
    """What must be true of the table, kept by other means: every question is answered exactly once, and no grant exceeds a limit."""

    def __init__(self, first: Limits, second: Limits) -> None:
        self.capacity = table(a=first, b=second)
        self.limits = {"a": first, "b": second}
        self.now = 0.0
        self.count = 0
        self.wishes: dict[tuple[int, int], list[tuple[str, str]]] = {}
        self.held: dict[tuple[int, int], tuple[str, str]] = {}
        self.waiting: set[tuple[int, int]] = set()

    def hear(self, answers: list[Answer]) -> None:
        for answer in answers:
            who = (answer.slot, answer.lease)
            self.waiting.remove(who)
            if isinstance(answer, Granted):
                channel, endpoint = self.held[who] = self.wishes[who][answer.number]
                most, each = self.limits[channel][:2]
                assert not most or sum(at[0] == channel for at in self.held.values()) <= most
                assert not each or sum(at == (channel, endpoint) for at in self.held.values()) <= each
            else:
                assert 0.0 <= answer.after <= RETRY_MOST

    def do(self, what: str, *arguments: Any) -> None:
        getattr(self, f"do_{what}")(*arguments)
        self.check()

    def do_ask(self, slot: int, wishes: list[tuple[str, str]], tenant: str, priority: int, otherwise: bool) -> None:
        self.count += 1
        who = (slot, self.count)
        self.wishes[who] = wishes
        self.waiting.add(who)
        self.hear(self.capacity.ask(slot, self.count, wishes, self.now, tenant=tenant, priority=priority, otherwise=otherwise))
        assert not (otherwise and who in self.waiting)

    def do_back(self, number: int) -> None:
        everybody = sorted(self.held.keys() | self.waiting)
        if everybody:
            who = everybody[number % len(everybody)]
            self.held.pop(who, None)
            self.waiting.discard(who)
            self.hear(self.capacity.give_back(*who, self.now))

    def do_pass(self, seconds: float) -> None:
        self.now += seconds
        self.hear(self.capacity.expire(self.now))

    def do_forget(self, slot: int) -> None:
        self.held = {who: at for who, at in self.held.items() if who[0] != slot}
        self.waiting = {who for who in self.waiting if who[0] != slot}
        self.hear(self.capacity.forget_slot(slot, self.now))

    def do_reassert(self, slot: int, lost: int) -> None:
        """The worker has `lost` of its seats fewer than was known."""
        mine = sorted(who for who in self.held if who[0] == slot)
        for who in mine[:lost]:
            del self.held[who]
        self.waiting = {who for who in self.waiting if who[0] != slot}
        kept = [Held(who[1], *self.held[who], "x", self.now) for who in mine[lost:]]
        self.hear(self.capacity.reassert(slot, kept, self.now))

    def do_adopt(self, first: Limits, second: Limits) -> None:
        self.limits = {"a": first, "b": second}
        self.hear(self.capacity.adopt(self.limits, self.now))

    def check(self) -> None:
        figures = self.capacity.figures(self.now)
        for channel, line in figures.items():
            assert line["in_flight"] == sum(at[0] == channel for at in self.held.values())
        for who, waiter in [(w, self.capacity._waiting[w[0]][w[1]]) for w in self.waiting]:
            assert waiter.wants, who
            for channel, endpoints in waiter.wants.items():
                assert not any(self.capacity._lines[channel].room(endpoint) for endpoint in endpoints), "an empty seat"
        assert sum(len(waiting) for waiting in self.capacity._waiting.values()) == len(self.waiting)


@given(limits, limits, st.lists(op, max_size=60))
def test_whatever_happens_limits_hold_and_no_seat_is_empty_while_somebody_waits_for_it(
    first: Limits, second: Limits, ops: list[tuple[Any, ...]]
) -> None:
    model = Model(first, second)
    for step in ops:
        model.do(*step)
    while model.held:
        model.do("back", 0)
    model.do("pass", 1000.0)
    assert not model.waiting, "everybody was answered"
    figures = model.capacity.figures(model.now)
    assert all((line["in_flight"], line["queued"]) == (0, 0) for line in figures.values())


# -- the drain rate ---------------------------------------------------------------------------------------------------


def test_the_rate_of_a_quiet_channel_is_what_its_seats_could_do() -> None:
    drain = Drain()
    for at in range(10):
        drain.look(at * 100.0, line=False)
        drain.freed(2.0, line=False)
    assert drain.rate(8) == pytest.approx(4.0), "eight seats of two seconds, not one request in a hundred seconds"
    assert Drain().rate(8) == 0.0


def test_the_rate_with_a_line_is_measured_and_falls_when_engines_stand_still() -> None:
    drain = Drain()
    drain.look(0.0, line=False)
    drain.freed(1.0, line=False)
    assert drain.rate(10) == pytest.approx(10.0)
    for at in range(1, 201):  # in truth five a second
        drain.look(at / 5, line=True)
        drain.freed(1.0, line=True)
    assert drain.rate(10) == pytest.approx(5.0, rel=0.15)
    drain.look(60.0, line=True)
    assert drain.rate(10) < 1.8
    drain.look(1000.0, line=True)
    assert drain.rate(10) == pytest.approx(10 / 11, rel=0.01), "the guess keeps a little hope"


def test_failures_at_once_do_not_make_a_rate_without_end() -> None:
    drain = Drain()
    for _ in range(1000):
        drain.freed(0.0, line=False)
    assert drain.rate(10) == pytest.approx(10_000.0)

"""The counters of limits against a plain model: two workers, deaths, returns, callers who leave, clocks that jump."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.config.resolved_limits import Limit, Limits
from gateway.config.resolved_when import Hours as Span
from gateway.config.resolved_when import Schedule
from gateway.referee.gauges import NEVER, Plan
from gateway.referee.moment import Moment
from gateway.referee.quotas import Quotas
from gateway.referee.rules import Amounts, Hours, Money, Rule, amounts, rule_id
from gateway.referee.windows.rolling import PARTS, SECONDS

LIMITS = {
    "": Limit("requests", 6, "minute"),
    "tenants/a": Limit("total_tokens", 100, "minute"),
    "keys/k": Limit("concurrency", 3),
    "keys/j": Limit("output_tokens", 80, "day"),
    "models/m": Limit("money", 500, "month", currency="CNY"),
    "tenants/b": Limit("money", 900, "day", currency="USD"),
    "keys/l": Limit("money", 2**62, "month", name="budget", currency="CNY"),
    "models/n": Limit("input_tokens", 60, "second", shadow=True),
}
PLANS = {"k": ["", "tenants/a", "keys/k", "models/m", "keys/l"], "j": ["", "keys/j", "models/n", "models/m", "tenants/b"]}


def made(limits: dict[str, Limit]) -> dict[str, Rule]:
    hours = Hours(Limits(schedules={"morning": Schedule(zone="UTC", hours=(Span(0, 720, 127),))}))
    return {place: Rule(place, limit, hours) for place, limit in limits.items()}


class Model:
    """What quotas should do, in the plainest way: every use is an entry in a list, and every answer a sum over all of them."""

    def __init__(self, rules: dict[str, Rule]) -> None:
        self.rules = rules
        self.uses: dict[str, list[list[Any]]] = {place: [] for place in rules}
        self.held: dict[tuple[int, int], dict[str, list[Any]]] = {}

    def used(self, place: str, now: Moment) -> int:
        limit = self.rules[place].limit
        if limit.per in SECONDS:
            rate = PARTS / SECONDS[limit.per]
            return sum(n for at, n in self.uses[place] if int(at.mono * rate) >= int(now.mono * rate) - PARTS)
        if not limit.per:
            return sum(n for _, n in self.uses[place])
        form = "%Y-%m-%d" if limit.per == "day" else "%Y-%m"

        def period(at: Moment) -> str:
            return datetime.fromtimestamp(at.wall, UTC).strftime(form)

        return sum(n for at, n in self.uses[place] if period(at) == period(now))

    def ask(self, who: tuple[int, int], plan: str, wanted: Amounts, now: Moment) -> bool:
        full = set()
        for place in PLANS[plan]:
            amount, most = self.rules[place].of(wanted), self.rules[place].most
            if amount and most is not None and self.used(place, now) + amount > most:
                full.add(place)
        if any(not self.rules[place].shadow for place in full):
            return False
        self.take(who, [p for p in PLANS[plan] if p not in full], wanted, now)
        return True

    def take(self, who: tuple[int, int], places: list[str], wanted: Amounts, now: Moment) -> None:
        self.held[who] = {}
        for place in places:
            use = [now, self.rules[place].of(wanted)]
            self.uses[place].append(use)
            self.held[who][place] = use

    def settle(self, who: tuple[int, int], used: Amounts, now: Moment) -> None:
        for place, use in self.held.pop(who, {}).items():
            rule = self.rules[place]
            spent = 0 if rule.count == "concurrency" else rule.of(used)
            if spent > use[1]:
                self.uses[place].append([now, spent - use[1]])
            else:
                use[1] = spent


MONEY = st.one_of(st.just(0), st.fixed_dictionaries({}, optional={"CNY": st.integers(0, 200), "USD": st.integers(0, 300)}))
AMOUNTS = st.tuples(st.integers(0, 40), st.integers(0, 40), MONEY)
SLOTS = st.integers(0, 1)


class Machine(RuleBasedStateMachine):
    """Times are whole parts of a second, so that sums are exact."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = made(LIMITS)
        self.quotas = Quotas(lambda name: {})
        self.model = Model(self.limits)
        self.mono, self.wall = 1000.0, 1_800_000_000.0
        by_id = {rule.id: rule for rule in self.limits.values()}
        self.plans = {
            name: self.quotas.plan(name, [(self.limits[p].id, self.limits[p].id) for p in places], by_id.get, self.now)
            for name, places in PLANS.items()
        }
        self.lease = 0
        self.open: dict[tuple[int, int], tuple[str, Amounts, Moment]] = {}
        self.away: dict[int, dict[tuple[int, int], dict[str, list[Any]]]] = {}
        self.days = 0

    @property
    def now(self) -> Moment:
        return Moment(self.mono, self.wall)

    @initialize()
    def begin(self) -> None: ...

    @rule(slot=SLOTS, plan=st.sampled_from("kj"), wanted=AMOUNTS)
    def ask(self, slot, plan, wanted):
        if slot in self.away:
            return
        self.lease += 1
        amount = amounts(*wanted)
        expected = self.model.ask((slot, self.lease), plan, amount, self.now)
        verdict = self.quotas.ask(slot, self.lease, self.plans[plan], amount, self.now)
        assert (verdict.number < 0) == expected
        if expected:
            self.open[slot, self.lease] = (plan, amount, self.now)
        else:
            refusing = self.plans[plan].gauges[verdict.number]
            assert refusing is not None and not refusing.rule.shadow
            assert verdict.after == NEVER if refusing.rule.of(amount) > (refusing.rule.most or 0) else verdict.after > 0

    @rule(number=st.integers(0, 50), used=AMOUNTS)
    def settle(self, number, used):
        known = [who for who in self.open if who[0] not in self.away]
        if not known:
            return
        who = known[number % len(known)]
        del self.open[who]
        self.model.settle(who, amounts(*used), self.now)
        self.quotas.settle(who[0], who[1], amounts(*used), self.now)
        assert not self.quotas.settle(who[0], who[1], amounts(*used), self.now)  # again changes nothing

    @rule(number=st.integers(0, 50))
    def leave(self, number):
        known = [who for who in self.open if who[0] not in self.away]
        if not known:
            return
        who = known[number % len(known)]
        del self.open[who]
        self.model.settle(who, (0, 0, 0, 0, 0), self.now)
        self.quotas.undo(*who)
        self.quotas.undo(*who)

    @rule(slot=SLOTS)
    def die(self, slot):
        """Its requests were made; the rest comes free."""
        self.quotas.bury(slot)
        self.away.pop(slot, None)
        for who in [who for who in self.open if who[0] == slot]:
            del self.open[who]
            self.model.settle(who, (1, 0, 0, 0, 0), self.now)

    @rule(slot=SLOTS)
    def lose(self, slot):
        """The connection breaks; the worker lives."""
        if slot in self.away:
            return
        self.quotas.forget(slot)
        self.away[slot] = {}
        for who in [who for who in self.open if who[0] == slot]:
            self.away[slot][who] = {place: [use, use[1]] for place, use in self.model.held[who].items()}
            self.model.settle(who, (1, 0, 0, 0, 0), self.now)

    @rule(slot=SLOTS, gone=st.integers(0, 3), fresh=AMOUNTS)
    def come_back(self, slot, gone, fresh):
        """It holds what it held, but for some that it will never speak of again, and one that it admitted by itself."""
        if slot not in self.away:
            return
        kept = self.away.pop(slot)
        for who in list(kept)[:gone]:
            del self.open[who], kept[who]
        for who, places in kept.items():
            self.model.held[who] = {}
            for place, (use, amount) in places.items():
                if self.limits[place].count != "requests":
                    use[1] = amount
                self.model.held[who][place] = use
        self.lease += 1
        who = (slot, self.lease)
        self.open[who] = ("k", amounts(*fresh), self.now)
        self.model.take(who, PLANS["k"], amounts(*fresh), self.now)
        told: dict[int, tuple[Plan, Any, Moment]] = {
            lease: (self.plans[plan], amount, since) for (s, lease), (plan, amount, since) in self.open.items() if s == slot
        }
        self.quotas.reassert(slot, told)

    @rule(parts=st.integers(0, 4000))
    def wait(self, parts):
        self.mono += parts / 64
        self.wall += parts / 64

    @rule(days=st.sampled_from([-1, 1]))
    def clock_jumps(self, days):
        if abs(self.days + days) <= 1:  # further, and what was used then is forgotten: see test_limits_windows
            self.days += days
            self.wall += days * 86_400

    @invariant()
    def everything_is_counted_alike(self):
        for place, one in self.limits.items():
            gauge = self.quotas.gauges[one.id]
            assert gauge.window.used(self.now) == self.model.used(place, self.now), place
        assert sum(len(held) for held in self.quotas.held.values()) == sum(1 for slot, _ in self.open if slot not in self.away)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)


# -- one by one ------------------------------------------------------------------------------------------------------------

NOW = Moment(1000.0, 1_800_000_000.0)


def quotas(*limits: Limit, share: int = 1, kept: dict[str, dict[int, int]] | None = None) -> tuple[Quotas, Plan, dict[str, Rule]]:
    rules = made({f"keys/{number}": limit for number, limit in enumerate(limits)})
    by_id = {rule.id: rule for rule in rules.values()}
    found = Quotas(lambda name: (kept or {}).get(name, {}), share)
    return found, found.plan("k", [(id, id) for id in by_id], by_id.get, NOW), by_id


def admitted(found: Quotas, plan: Plan, wanted: tuple[int, int, Money] = (10, 10, 0), now: Moment = NOW) -> Iterator[bool]:
    for lease in range(1000):
        yield found.ask(0, lease, plan, amounts(*wanted), now).number < 0


@pytest.mark.parametrize("count", ["requests", "input_tokens", "output_tokens", "total_tokens", "concurrency", "money"])
@pytest.mark.parametrize("per", ["second", "minute", "hour", "day", "month"])
def test_exactly_n(count, per):
    found, plan, _ = quotas(Limit(count, 7, "" if count == "concurrency" else per, currency="CNY" if count == "money" else ""))
    took = [ok for _, ok in zip(range(20), admitted(found, plan, (1, 1, {"CNY": 1, "USD": 9})), strict=False)]
    expected = 3 if count == "total_tokens" else 7
    assert took == [True] * expected + [False] * (20 - expected)


def test_a_refused_request_uses_nothing_of_any_limit():
    found, plan, rules = quotas(Limit("requests", 100, "minute"), Limit("total_tokens", 10, "minute"))
    verdict = found.ask(0, 1, plan, amounts(5, 6, 0), NOW)
    assert (verdict.number, verdict.after) == (1, NEVER)
    assert [found.gauges[id].window.used(NOW) for id in rules] == [0, 0] and not found.held


def test_of_several_that_refuse_the_one_with_the_longest_wait_is_told():
    found, plan, _ = quotas(
        Limit("requests", 1, "second"), Limit("requests", 1, "hour", name="h"), Limit("requests", 1, "minute", name="m")
    )
    assert found.ask(0, 1, plan, amounts(1, 1, 0), NOW).number < 0
    verdict = found.ask(0, 2, plan, amounts(1, 1, 0), NOW)
    assert verdict.number == 1 and 3600 <= verdict.after <= 3661 and verdict.used == 1


def test_zero_is_a_closed_door():
    found, plan, _ = quotas(Limit("requests", 0, "day"))
    assert found.ask(0, 1, plan, amounts(1, 1, 0), NOW)[1:] == (0, NEVER, 0)


def test_who_uses_none_of_it_is_not_refused_by_a_limit_that_is_overdrawn():
    found, plan, _ = quotas(Limit("output_tokens", 10, "day"))
    found.ask(0, 1, plan, amounts(1, 10, 0), NOW)
    found.settle(0, 1, amounts(1, 25, 0), NOW)
    assert found.figures(plan, NOW).tokens_left == 0
    assert found.ask(0, 2, plan, amounts(1, 0, 0), NOW).number < 0
    assert found.ask(0, 3, plan, amounts(1, 1, 0), NOW).number == 0


def test_a_shadow_refuses_nobody_counts_as_if_it_did_and_says_how_often_it_would_have():
    found, plan, rules = quotas(Limit("requests", 2, "minute", shadow=True))
    took = [ok for _, ok in zip(range(5), admitted(found, plan), strict=False)]
    (shadow,) = rules.values()
    assert took == [True] * 5 and (shadow.shadowed, shadow.refused) == (3, 0)
    assert found.gauges[shadow.id].window.used(NOW) == 2
    assert found.figures(plan, NOW).requests == -1  # callers are not told of it
    for lease in range(5):
        found.settle(0, lease, amounts(1, 1, 0), NOW)
    assert found.gauges[shadow.id].window.used(NOW) == 2


def test_outside_its_hours_a_limit_neither_refuses_nor_counts():
    morning, evening = (
        Moment(1000.0, 1_800_000_000 // 86_400 * 86_400 + 3600.0),
        Moment(1001.0, 1_800_000_000 // 86_400 * 86_400 + 64_800.0),
    )
    found, plan, rules = quotas(Limit("requests", 1, "day", during="morning"), Limit("requests", 2, "day", name="n", outside="morning"))
    first, second = rules
    assert [found.ask(0, n, plan, amounts(1, 1, 0), morning).number for n in range(2)] == [-1, 0]
    assert [found.ask(0, n, plan, amounts(1, 1, 0), evening).number for n in range(2, 5)] == [-1, -1, 1]
    assert (found.gauges[first].window.used(evening), found.gauges[second].window.used(evening)) == (1, 2)


def test_its_maximum_changes_while_it_counts():
    found, plan, rules = quotas(Limit("requests", 2, "minute"))
    (one,) = rules.values()
    assert [ok for _, ok in zip(range(3), admitted(found, plan), strict=False)] == [True, True, False]
    one.adopt(Limit("requests", 3, "minute"), Hours(Limits()))
    assert [found.ask(0, n, plan, amounts(1, 1, 0), NOW).number for n in (10, 11)] == [-1, 0]
    one.vanish()
    assert found.ask(0, 12, plan, amounts(1, 1, 0), NOW).number < 0
    assert found.figures(plan, NOW).requests == -1


def test_a_limit_is_known_by_its_place_its_name_and_what_it_counts():
    one = Limit("requests", 5, "minute", name="n")
    assert rule_id("keys/k", one) == rule_id("keys/k", Limit("requests", 9, "minute", name="n", shadow=True, during="x"))
    others = [
        Limit("requests", 5, "hour", name="n"),
        Limit("requests", 5, "minute"),
        Limit("requests", 5, "minute", name="n", each="model"),
    ]
    assert len({rule_id("keys/k", one), rule_id("keys/j", one), *(rule_id("keys/k", other) for other in others)}) == 5


def test_a_share_is_at_least_one_and_counts_on_from_what_was_kept():
    limit = Limit("requests", 7, "day")
    day = int(NOW.wall // 86_400) + datetime(1970, 1, 1).toordinal()
    found, plan, _ = quotas(limit, share=3, kept={rule_id("keys/0", limit): {day: 4}})
    assert found.ask(0, 1, plan, amounts(1, 1, 0), NOW).number == 0  # a third of 7 is 2, and a third of 4 used is 2
    found, plan, _ = quotas(limit, share=3)
    assert [ok for _, ok in zip(range(3), admitted(found, plan), strict=False)] == [True, True, False]
    found, plan, _ = quotas(Limit("concurrency", 2), share=3)
    assert [ok for _, ok in zip(range(2), admitted(found, plan), strict=False)] == [True, False]


def test_a_counter_that_nobody_asks_for_and_that_is_empty_is_forgotten():
    found, plan, rules = quotas(Limit("requests", 7, "minute"), Limit("requests", 7, "day", name="d"))
    found.ask(0, 1, plan, amounts(1, 1, 0), NOW)
    later = Moment(NOW.mono + 100, NOW.wall + 100)
    found.sweep(list(rules), later)
    assert len(found.gauges) == 2
    found.drop(plan)
    found.sweep(list(rules), later)
    assert list(found.gauges) == [list(rules)[1]]

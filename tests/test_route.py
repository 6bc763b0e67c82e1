"""Decisions as tables: breaker, retry budget, shares. No I/O; time is an argument."""

import pytest

from gateway.route.breaker import COOLDOWN, FAILURES, REST_MOST, Breaker
from gateway.route.budget import RESERVE, RetryBudget
from gateway.route.proportional import Proportional

NOW = 1000.0


def broken(now: float = NOW) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES):
        breaker.failure(now, "reset")
    return breaker


# -- breaker -----------------------------------------------------------------------------------------------------------


def test_five_failures_in_a_row_eject():
    breaker = Breaker()
    assert [breaker.failure(NOW, "reset") for _ in range(FAILURES)] == [False] * (FAILURES - 1) + [True]
    assert not breaker.allows(NOW) and breaker.state(NOW) == "ejected" and breaker.reason == "reset" and breaker.since == NOW
    assert not breaker.well


def test_a_success_in_between_starts_the_count_again():
    breaker = Breaker()
    for _ in range(3):
        for _ in range(FAILURES - 1):
            assert not breaker.failure(NOW, "cut")
        breaker.success()
    assert breaker.allows(NOW) and breaker.state(NOW) == "up" and breaker.well


@pytest.mark.parametrize(
    ("after", "allowed", "state"), [(0, False, "ejected"), (COOLDOWN - 0.01, False, "ejected"), (COOLDOWN, True, "half-open")]
)
def test_after_the_cooldown_one_trial_is_allowed(after, allowed, state):
    breaker = broken()
    assert breaker.allows(NOW + after) is allowed and breaker.state(NOW + after) == state


def test_only_one_trial_at_a_time():
    breaker = broken()
    later = NOW + COOLDOWN
    breaker.begin(later)
    assert not breaker.allows(later)
    breaker.abandoned()  # its caller left: no verdict
    assert breaker.allows(later)
    breaker.begin(later)
    assert not breaker.failure(later, "connect"), "it was ejected already"
    assert not breaker.allows(later + COOLDOWN - 0.01) and breaker.allows(later + COOLDOWN)
    breaker.begin(later + COOLDOWN)
    breaker.success()
    assert breaker.allows(later + COOLDOWN) and breaker.state(later + COOLDOWN) == "up" and breaker.well


def test_the_engines_own_wish():
    breaker = Breaker()
    breaker.rest(NOW, 5.0)
    assert not breaker.allows(NOW) and breaker.state(NOW) == "busy" and breaker.rests(NOW) == 5.0
    breaker.success()  # another request, sent before, ended well: the wish stands
    assert not breaker.well and not breaker.allows(NOW + 4.9)
    breaker.rest(NOW, 2.0)
    assert breaker.rests(NOW) == 5.0, "a shorter wish does not shorten it"
    assert breaker.allows(NOW + 5) and breaker.well and breaker.rests(NOW + 5) == 0.0
    breaker.rest(NOW, 3600.0)
    assert breaker.rests(NOW) == REST_MOST


def test_a_trial_that_is_asked_to_wait_is_no_verdict():
    breaker = broken()
    later = NOW + COOLDOWN
    breaker.begin(later)
    breaker.rest(later, 1.0)
    assert not breaker.allows(later + 0.9) and breaker.allows(later + 1.0)


# -- budget ------------------------------------------------------------------------------------------------------------


def spent(budget: RetryBudget, now: float) -> int:
    count = 0
    while budget.spend(now):
        count += 1
    return count


def test_a_reserve_and_a_fifth_of_the_first_tries():
    budget = RetryBudget()
    assert spent(budget, NOW) == RESERVE
    for _ in range(100):
        budget.first_try()
    assert spent(budget, NOW) in (19, 20)  # a fifth is no binary fraction


def test_who_tries_seldom_may_always_try_again():
    budget = RetryBudget()
    spent(budget, NOW)
    for minute in range(1, 100):
        budget.first_try()
        assert budget.spend(NOW + 60 * minute)


def test_time_refills_the_reserve_and_no_more():
    budget = RetryBudget()
    spent(budget, NOW)
    assert spent(budget, NOW + 3) == 3
    assert spent(budget, NOW + 10_000) == RESERVE
    for _ in range(10_000):
        budget.first_try()
    assert 90 <= spent(budget, NOW + 10_000) <= 100, "what many first tries earn has an end as well"


# -- shares ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "picks"),
    [
        ((3, 1), "aaba"),
        ((1, 1), "abab"),
        ((5, 1, 1), "aabacaa"),
        ((1, 0), "aaaa"),
        ((0, 1), "bbbb"),
        ((300, 100), "aaba"),
        ((0, 0), "aaaa"),
        ((7,), "aaaa"),
    ],
)
def test_shares_are_exact_and_smooth(weights, picks):
    shares = Proportional(weights)
    for _ in range(3):
        seen = "".join("abc"[shares.order()[0]] for _ in picks)
        assert sorted(seen) == sorted(picks)
    period = sum(weights) or 1
    numbers = [shares.order()[0] for _ in range(period * 2)]
    for number, weight in enumerate(weights):
        assert numbers.count(number) == 2 * weight or not any(weights)


def test_everybody_follows_as_failover_and_weight_0_last():
    shares = Proportional((2, 0, 1))
    for _ in range(6):
        order = shares.order()
        assert sorted(order) == [0, 1, 2] and order[-1] == 1


def test_a_peek_takes_nothing():
    shares = Proportional((3, 1))
    for _ in range(9):
        assert shares.peek() == shares.peek() == shares.order()


def test_large_weights_are_worked_out_as_they_are_needed():
    shares = Proportional((10_000, 9_999, 1))
    picks = [shares.order()[0] for _ in range(20_000)]
    assert (picks.count(0), picks.count(1), picks.count(2)) == (10_000, 9_999, 1)
    assert [shares.order()[0] for _ in range(20_000)] == picks

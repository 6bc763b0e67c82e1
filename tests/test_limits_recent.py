"""What a worker's requests used lately (`referee.recent`): sums of a kind and second, whatever the number of requests."""

from gateway.config.resolved_limits import Limit, Limits
from gateway.referee.recent import RECENT, Recent
from gateway.referee.rules import NO_MONEY, amounts
from gateway.referee.terms import Table, Terms


def kind(key: str) -> Terms:
    found = Table(Limits(by={"": (Limit("requests", 5, "minute"),)})).terms(key, "t", "p", (), "m", "")
    assert found is not None
    return found


def told(recent: Recent) -> list[tuple[str, int, tuple[object, ...], float]]:
    return [(spent.terms.key, spent.second, spent.amounts(), spent.ended) for spent in recent]


def test_what_ends_in_one_second_is_one_sum_for_each_kind():
    recent, one, other = Recent(), kind("one"), kind("other")
    for _ in range(1000):
        recent.note(one, amounts(10, 3, NO_MONEY), 1000.5, 1.0)
        recent.note(other, amounts(1, 0, NO_MONEY), 1000.75, 1.0)
    assert told(recent) == [
        ("one", 1000, (1000, 10_000, 3000, 13_000, NO_MONEY), 1000.5),
        ("other", 1000, (1000, 1000, 0, 1000, NO_MONEY), 1000.75),
    ]


def test_each_second_has_its_own_sum_and_ends_with_its_last_request():
    recent, one = Recent(), kind("one")
    for ended in (1000.9, 1000.2, 1001.0, 1000.99, 1001.5):
        recent.note(one, amounts(1, 1, NO_MONEY), ended, 1.0)
    assert [(second, used[0], ended) for _, second, used, ended in told(recent)] == [
        (1000, 2, 1000.9), (1001, 1, 1001.0), (1000, 1, 1000.99), (1001, 1, 1001.5)
    ]  # fmt: skip


def test_money_is_summed_by_currency_and_what_was_told_stays_as_it_is():
    recent, one = Recent(), kind("one")
    first = {"CNY": 5}
    for money in (NO_MONEY, first, {"CNY": 2, "USD": 7}, NO_MONEY):
        recent.note(one, amounts(1, 0, money), 1000.0, 1.0)
    (spent,) = recent
    assert spent.money == {"CNY": 7, "USD": 7}
    assert first == {"CNY": 5}


def test_what_is_old_goes_when_something_new_comes():
    recent, one, other = Recent(), kind("one"), kind("other")
    recent.note(one, amounts(1, 0, NO_MONEY), 1000.0, 10.0)
    recent.note(one, amounts(1, 0, NO_MONEY), 1001.0, 11.0)
    recent.note(other, amounts(1, 0, NO_MONEY), 1006.0, 10.0 + RECENT + 0.5)
    assert [(key, second) for key, second, _, _ in told(recent)] == [("one", 1001), ("other", 1006)]

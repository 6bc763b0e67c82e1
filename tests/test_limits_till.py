"""What limits on money count: set aside before, settled afterwards, and found again in the journal; and how far budgets are spent."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.resolved import Http, Journal, Key, Resolved
from gateway.config.resolved_limits import UNBOUNDED, Limit, Limits
from gateway.config.resolved_prices import NANO, Currencies, Price
from gateway.exchange import Exchange, Tokens, encode_record
from gateway.referee.budgets import Spent, budgets_of, spent
from gateway.referee.moment import Moment
from gateway.referee.money import Guess, Till, currencies_of, till_of
from gateway.referee.quotas import Quotas
from gateway.referee.rules import Hours, Rule, amounts
from gateway.referee.terms import Table, Terms
from gateway.referee.view import counters

PRICES = (
    Price("m", "", "CNY", input=2 * NANO, cached=NANO, output=8 * NANO),
    Price("timed", "", "USD", second=NANO // 1000),
    Price("free", "", "CNY", input=0, output=0),
    Price("half", "", "CNY", input=NANO),
)


def config(*limits: Limit) -> Resolved:
    http: Any = msgspec.convert({name: 1 for name in Http.__struct_fields__[:8]}, Http)
    journal = Journal(segment=1, every=1.0, sync="none", reserve=0, on_failure="serve")
    return Resolved(
        node="n", workers=1, auth="none", data_dir="", http=http, journal=journal, listeners=(), channels={}, models={}, tenants={},
        prices=PRICES, currencies=Currencies(base="CNY", rates={"USD": 7 * NANO}), discounts={"t": 500_000}, limits={"": limits},
    )  # fmt: skip


TILL = Till(config(), ("CNY", "USD"))


def exchange(model: str, **more: Any) -> Exchange:
    found = Exchange("id", "rid", None, "POST", "/v1/chat/completions", {}, "", 10.0, 1_790_000_000.0)
    found.api, found.model, found.virtual, found.channel = "chat", model, SimpleNamespace(name=model), "c"
    found.status, found.source = 200, "final"
    found.key = SimpleNamespace(tenant="", project="", id="k")
    for word, value in more.items():
        setattr(found, word, value)
    return found


def test_without_limits_on_money_there_is_no_till():
    assert till_of(config(), currencies_of([Limit("requests", 1, "day")])) is None
    assert till_of(config(), currencies_of([Limit("money", 1, "day", currency="CNY")])) is not None


def test_before_is_rounded_up_in_each_currency():
    most = {"CNY": 10**9, "USD": 10**9}
    assert TILL.before(exchange("m"), Guess(1, 0, 1, 0), most) == {"CNY": 2, "USD": 1}
    assert TILL.before(exchange("m"), Guess(1000, 100, 1000, 100), {"CNY": 10**9}) == {"CNY": 2800}
    assert TILL.before(exchange("free"), Guess(9, 9, 9, 9), most) == 0 == TILL.before(exchange("half"), Guess(9, 9, 9, 9), most)
    assert TILL.before(exchange("timed"), Guess(9, 9, 9, 9), most) == {"CNY": 1, "USD": 1}


@pytest.mark.parametrize(
    ("guess", "most", "found"),
    [
        (Guess(1000, 1000, 0, 0), 5000, 5000),  # all of it is a guess
        (Guess(1000, 1000, 1000, 0), 5000, 5000),
        (Guess(1000, 1000, 0, 1000), 5000, 8000),  # `max_tokens` is taken at its word
        (Guess(1000, 1000, 1000, 1000), 5000, 10_000),
        (Guess(1000, 1000, 0, 0), 50_000, 10_000),
    ],
)
def test_a_guess_never_closes_a_door_for_good(guess, most, found):
    assert TILL.before(exchange("m"), guess, {"CNY": most}) == {"CNY": found}


@given(
    st.sampled_from(["m", "timed", "free", "half", "other"]),
    st.tuples(*[st.integers(0, 100_000)] * 3),
    st.floats(0, 5),
    st.floats(0, 5),
    st.floats(0, 100),
    st.sampled_from([200, 200, 429, 502]),
    st.sampled_from(["", "t"]),
)
def test_the_journal_says_what_the_worker_said(model, tokens, read, queued, rest, status, tenant):
    input, cached, output = tokens
    x = exchange(model, tokens=Tokens(input, cached, output), read=10.0 + read, queued=queued, status=status)
    x.key.tenant = tenant
    now = 10.0 + read + queued + rest
    said = TILL.after(x, now, TILL.currencies)
    record = msgspec.json.decode(encode_record(x.closing("n", 0, 1, now)))
    assert TILL.recorded(record) == (said or 0)
    paid = status == 200 or output > 0
    assert (said is None) == (paid and (model == "other" or (model == "half" and output > 0)))


def test_terms_know_in_which_currencies_they_count():
    limits = Limits(
        by={
            "": (Limit("money", 50, "day", currency="CNY"), Limit("money", 9, "day", "s", currency="CNY", shadow=True)),
            "models/m": (Limit("money", 7, "month", currency="USD"), Limit("money", 30, "month", "b", currency="CNY")),
        }
    )
    table = Table(limits, TILL)

    def most(model: str) -> dict[str, int]:
        found = table.terms("k", "t", "p", (), model, "")
        assert isinstance(found, Terms)
        return found.money_most

    assert (most("m"), most("other")) == ({"CNY": 30, "USD": 7}, {"CNY": 50})
    assert Terms("k", []).money_most == {}


# -- how far -----------------------------------------------------------------------------------------------------------

BUDGET = Limit("money", 900, "month", "budget", "Asia/Shanghai", currency="CNY", budget=1000, warn=(50, 80), stop=90)
WARNS = Limit("money", UNBOUNDED, "day", "budget", currency="CNY", budget=100, warn=(50,))
NOW = Moment(0.0, datetime(2026, 11, 10, 16, tzinfo=UTC).timestamp())  # ten of thirty days are over in Shanghai


def used(limit: Limit, amount: int) -> tuple[Quotas, Rule]:
    rule = Rule("tenants/t", limit, Hours(Limits()))
    quotas = Quotas(lambda name: {})
    plan = quotas.plan("k", [(rule.id, rule.id)], {rule.id: rule}.get, NOW)
    assert quotas.ask(0, 1, plan, amounts(1, 1, {"CNY": amount}), NOW).number < 0
    quotas.settle(0, 1, amounts(1, 1, {"CNY": amount}), NOW)
    return quotas, rule


@pytest.mark.parametrize(
    ("amount", "warned", "percent"), [(0, (), 0), (499, (), 49), (500, (50,), 50), (800, (50, 80), 80), (899, (50, 80), 89)]
)
def test_how_far_a_budget_is_spent(amount, warned, percent):
    quotas, rule = used(BUDGET, amount)
    (found,) = spent([("tenants/t", quotas.gauges[rule.id])], NOW)
    begin, end = (datetime(2026, month, day, 16, tzinfo=UTC).timestamp() for month, day in ((10, 31), (11, 30)))
    assert found == Spent("tenants/t", "CNY", "month", amount, 1000, warned, 90, amount * 3, begin, end) and found.percent == percent


def test_other_limits_are_no_budgets():
    quotas, rule = used(Limit("money", 900, "month", currency="CNY"), 5)
    assert list(spent([("", quotas.gauges[rule.id])], NOW)) == []


def test_every_budget_has_its_place():
    keys = [Key("k1", b"", "t", "p", limits=(WARNS,)), Key("k2", b"", "t", "p")]
    assert list(budgets_of(config(Limit("requests", 1, "day"), BUDGET), keys)) == [("", BUDGET), ("keys/k1", WARNS)]


async def test_people_see_it_beside_the_limits():
    quotas, rule = used(WARNS, 250)
    (found,) = await counters(quotas, [(("tenants/t", WARNS), rule)], NOW, "", "")
    assert (found["max"], found["used"], found["left"], found["percent"], found["stop"]) == ("0.0001", "0.00025", "0", 250, None)
    assert (found["forecast"], found["basis"]) == ("0.000375", "rate"), "two thirds of a day in UTC"
    (fresh,) = await counters(Quotas(lambda name: {}), [(("tenants/t", BUDGET), None)], NOW, "", "")
    assert (fresh["used"], fresh["percent"], fresh["forecast"], fresh["stop"], fresh["warn"]) == ("0", 0, "0", 90, [50, 80])

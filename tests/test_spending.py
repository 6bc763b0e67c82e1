"""Budgets and forecasts from the ledger: what they say is what reports say."""

import random
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import cast
from zoneinfo import ZoneInfo

import pytest

from gateway.config.resolved import Key, Resolved
from gateway.config.resolved_limits import UNBOUNDED, Limit
from gateway.config.resolved_prices import Currencies
from gateway.ledger.question import BadQuestion, Question
from gateway.record import Tokens
from gateway.report.spending import RATE, WEEK, ahead, bounds, budgets, forecasts
from tests.test_ledger_store import done
from tests.test_reports import RATES, asked, fill, store  # noqa: F401

NOW = datetime(2026, 11, 18, 12, tzinfo=UTC).timestamp()
MONTH = datetime(2026, 11, 1, tzinfo=UTC).timestamp()
DAY = 86400


def spend(at: float, **more):
    """Two CNY, of qwen; more tokens, more money."""
    return done(at, **{"model": "qwen", "tokens": Tokens(1_000_000, 0, 0), "source": "final", "tenant": "shop", "project": "p", **more})


def limit(whole: int, currency: str = "CNY", per: str = "month", zone: str = "UTC") -> Limit:
    return Limit(count="money", max=UNBOUNDED, per=per, name="budget", zone=zone, currency=currency, budget=whole * 10**6, warn=(80,))


def config(limits, rates: Currencies = RATES) -> Resolved:
    return cast(Resolved, SimpleNamespace(limits=limits, currencies=rates))


@pytest.fixture
def month(store):  # noqa: F811
    rows = [spend(MONTH + day * DAY + 100, key="k1") for day in range(18)]
    rows += [spend(MONTH - 100, key="k1"), spend(MONTH + 5, tenant="bank", key="k2", model="small-a"), spend(MONTH + 6, model="nobody")]
    fill(store, rows)
    return store


def test_budgets_are_what_the_month_cost(month):
    made = config({
        "tenants/shop": (limit(100),), "tenants/shop/projects/p": (limit(10),), "models/small": (limit(1, "USD"),),
        "tenants/bank": (limit(1),), "tenants/nobody": (limit(5),), "tenants/shop/projects/q": (limit(5, per="day", zone="Asia/Shanghai"),),
    })  # fmt: skip
    keys = [cast(Key, SimpleNamespace(id="k1", limits=(limit(50),)))]
    found = month.together(lambda ask: budgets(ask, made, keys, lambda name: name.removesuffix("-a"), NOW))
    by = {(one["scope"], one["owner"]): one for one in found}
    whole = asked(month, since=MONTH, until=NOW, where={"tenant": ("shop",)})["total"]
    assert by["tenant", "shop"]["spent"] == whole["amount"]["CNY"] == "36.000000018"
    assert (by["tenant", "shop"]["percent"], by["tenant", "shop"]["left"], by["tenant", "shop"]["unpriced"]) == (36, "63.999999982", 1)
    assert by["project", "shop/p"]["percent"] == 360 and by["project", "shop/p"]["left"] == "0" and found[0]["owner"] == "shop/p"
    assert by["key", "k1"]["spent"] == by["tenant", "shop"]["spent"]
    assert by["model", "small"]["spent"] == "0.100000003" and by["tenant", "bank"]["spent"] == "0.710000021"
    assert by["tenant", "nobody"]["spent"] == by["tenant", "nobody"]["forecast"] == "0"
    assert Decimal(by["tenant", "shop"]["forecast"]) > Decimal(by["tenant", "shop"]["spent"])


def test_without_a_rate_a_budget_says_which_currency_it_cannot_count(month):
    made = config({"tenants/bank": (limit(1),)}, Currencies())
    (found,) = month.together(lambda ask: budgets(ask, made, [], str, NOW))
    assert (found["spent"], found["unknown_currencies"]) == ("0", ["USD"])


def test_a_forecast_has_spent_what_the_report_says_with_and_without_groups(month):
    question = Question(since=0, until=NOW, by=("tenant",), top=1)
    found = month.together(lambda ask: forecasts(ask, question, RATES, NOW, "month"))
    whole = month.together(lambda ask: forecasts(ask, Question(since=0, until=NOW), RATES, NOW, "month"))
    assert found["total"] == whole["total"]
    assert found["total"]["spent"] == asked(month, since=MONTH, until=NOW)["total"]["amount"]
    for code, amount in found["total"]["spent"].items():
        parts = [*found["rows"], found["other"]]
        assert sum(Decimal(one["spent"].get(code, 0)) for one in parts) == Decimal(amount) <= Decimal(found["total"]["forecast"][code])
    with pytest.raises(BadQuestion):
        month.together(lambda ask: forecasts(ask, Question(since=0, until=NOW, by=("tenant", "key")), RATES, NOW, "month"))


def test_weekdays_weigh_and_months_are_those_of_the_zone():
    weeks = {datetime(2026, 11, day): 70 if datetime(2026, 11, day).weekday() < 5 else 0 for day in range(2, 16)}
    pattern = dict.fromkeys(range(5 * 24), 2 * 70)
    now = datetime(2026, 11, 16, tzinfo=UTC).timestamp()
    begin, end = bounds(now, "month", UTC)
    assert ahead(700, weeks, pattern, begin, end, now, UTC) == (700 + 70 * 11, WEEK)
    del weeks[datetime(2026, 11, 2)]
    assert ahead(700, weeks, pattern, begin, end, now, UTC) == (1400, RATE), "a day less than two weeks"
    assert bounds(NOW, "month", ZoneInfo("Asia/Shanghai"))[0] == MONTH - 8 * 3600
    assert bounds(NOW, "day", UTC) == (NOW - DAY / 2, NOW + DAY / 2)


def test_by_hours_of_the_week_a_month_with_quiet_weekends_is_foreseen_better(store):  # noqa: F811
    """Offices: busy from 8 to 18, Monday to Friday; a twentieth of it at any other time; a third more or less from hour to hour."""
    rng = random.Random(7)
    begin, end = MONTH, datetime(2026, 12, 1, tzinfo=UTC).timestamp()
    hours: dict[float, int] = {}
    for at in (begin - 28 * DAY + 3600 * number for number in range(58 * 24)):
        local = datetime.fromtimestamp(at, UTC)
        hours[at] = rng.randint(700, 1300) * (20 if local.weekday() < 5 and 8 <= local.hour < 18 else 1)
    fill(store, [spend(at + 60, tokens=Tokens(tokens * 100, 0, 0)) for at, tokens in hours.items() if at < MONTH + 21 * DAY])
    truth = sum(tokens for at, tokens in hours.items() if at >= begin)
    errors, plain = [], []
    for now in (begin + number * 31 * 3600 for number in range(1, 17)):
        (row,) = store.together(lambda ask: forecasts(ask, Question(since=0, until=now, by=("tenant",)), RATES, now, "month"))["rows"]  # noqa: B023
        assert row["basis"] == {"CNY": WEEK}
        errors.append(abs(float(row["forecast"]["CNY"]) / truth / 100 * 500_000 - 1))
        so_far = sum(tokens for at, tokens in hours.items() if begin <= at < now)
        plain.append(abs(so_far * (end - begin) / (now - begin) / truth - 1))
    assert sum(errors) < sum(plain) / 4 and max(errors[2:]) < 0.05, (errors, plain)
    budget = config({"tenants/shop": (limit(100),)})
    (found,) = store.together(lambda ask: budgets(ask, budget, [], str, now))
    assert (found["basis"], found["forecast"]) == (WEEK, row["forecast"]["CNY"])


def test_without_two_weeks_of_history_a_forecast_is_by_the_rate(store):  # noqa: F811
    fill(store, [spend(NOW - number * DAY - 60) for number in range(10)])
    found = store.together(lambda ask: forecasts(ask, Question(since=0, until=NOW), RATES, NOW, "month"))["total"]
    assert found["basis"] == {"CNY": RATE}
    assert abs(Decimal(found["forecast"]["CNY"]) - Decimal(found["spent"]["CNY"]) * 720 / 420) < Decimal("0.00000001")


@pytest.mark.parametrize("zone, day", [("America/Havana", "2026-11-01"), ("Atlantic/Azores", "2026-10-25"), ("Africa/Cairo", "2026-04-24")])
def test_a_day_begins_once_also_where_clocks_change_at_midnight(zone, day):
    """Midnight comes twice, or not at all: it is the first moment of the date."""
    tz = ZoneInfo(zone)
    noon = datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=tz).timestamp()
    begin, end = bounds(noon, "day", tz)
    for moment in range(int(begin), int(end), 600):
        assert bounds(moment, "day", tz) == (begin, end)
    dates = [datetime.fromtimestamp(moment, tz).date().isoformat() for moment in (begin - 1, begin, end - 1, end)]
    assert dates[0] < dates[1] == dates[2] == day < dates[3]

"""Hours of the ledger that are out of the ordinary: found with their baseline, and a gateway that was off is none."""

import pytest

from gateway.alert.anomaly import HOURS
from gateway.alert.facts import Facts
from gateway.alert.kinds import usage_anomaly
from gateway.config.resolved_alerts import rule_of
from gateway.ledger.duck import DuckStore
from gateway.ledger.series import hourly
from gateway.ledger.store import Increase, StoreFailure
from gateway.report.unusual import LATE, Hours, unusual
from gatewayctl.commands.anomalies import FIELDS

WEEKS = 4
END = 1_790_000_000 // 3600
"""The hour that goes on, counted from 1970."""


@pytest.fixture
def store(tmp_path):
    (tmp_path / "journal").mkdir()
    store = DuckStore(tmp_path / "ledger.duckdb", memory=128 * 1024**2, journal=tmp_path / "journal")
    store.open()
    yield store
    store.close()


def fill(
    store: DuckStore, first: int, last: int, *, tenant: str = "retail", tokens: int = 1000, requests: int = 30, **more: object
) -> None:
    """Requests in each of these hours, `first` to `last` before END."""
    row = {
        "tenant": tenant,
        "project": "bot",
        "key": f"{tenant}-1",
        "model": "qwen",
        "channel": "gpu",
        "currency": "CNY",
        "amount": 0.5,
        **more,
    }
    columns = ", ".join(f"? AS {name}" for name in row)
    store._db.run(
        f"INSERT INTO requests BY NAME SELECT gen_random_uuid() AS id, make_timestamp(CAST((hour * 3600 + n) * 1000000 AS BIGINT)) AS ts, "
        f"{tokens} AS tokens_in, 0 AS tokens_out, {columns} FROM range(?, ?) AS h(hour), range(?) AS r(n)",
        [*row.values(), END - first, END - last, requests],
    )


def found(store: DuckStore, days: float = 7, sensitivity: str = "normal") -> list[tuple]:
    """What, by, name, kind, hours ago."""
    now = END * 3600 + LATE + 1
    return [
        (one["what"], one["by"], one["name"], one["kind"], END - int(one["hour"] // 3600))
        for one in unusual(store, now - days * 86_400, now, sensitivity)
    ]


def total(seen: Hours) -> list[float | None]:
    series = seen.series("tokens", "total", HOURS)
    assert series is not None
    return list(series["total"])


def test_a_spike_is_listed_with_baseline_value_and_distance(store):
    fill(store, WEEKS * 168, 0)
    fill(store, WEEKS * 168, 0, tenant="lab")
    fill(store, 5, 4, tenant="lab", requests=300)
    one = next(
        each
        for each in unusual(store, (END - 24) * 3600, END * 3600 + LATE, "normal")
        if each["by"] == "tenant" and each["what"] == "tokens"
    )
    assert (one["name"], one["kind"], one["value"], one["baseline"], one["times"]) == ("lab", "spike", 330_000, 30_000, 11.0)
    assert one["hour"] == (END - 5) * 3600 and one["deviations"] > 4
    kinds = {(what, by, name) for what, by, name, kind, ago in found(store) if ago == 5 and kind == "spike"}
    names = {"tenant": "lab", "project": "lab/bot", "key": "lab-1", "model": "qwen", "channel": "gpu", "total": "total"}
    assert kinds == {(what, by, name) for what in ("tokens", "requests", "amount") for by, name in names.items()}
    assert {ago for *_, ago in found(store)} == {5}
    assert found(store, days=1 / 12) == []


def test_an_outage_of_the_gateway_is_none_and_one_of_a_tenant_is(store):
    fill(store, WEEKS * 168, 60)
    fill(store, 50, 0)
    assert found(store) == []
    hour = float(END - 55) * 3600
    store.note_counters([Increase(hour, "gpu", "u", 0, 0, 0, 3600.0, hour, hour + 3600)], [])
    assert hourly(store, "tokens", "total", END - 50, 12)["total"].count(None) == 9, "in one of these hours the gateway was there"


def test_history_begins_with_the_first_request_and_refused_requests_are_none(store):
    fill(store, 100, 0)
    fill(store, 10, 0, tenant="new", channel="", requests=1)
    fill(store, 5, 0, tenant="new", currency="USD")
    series = hourly(store, "requests", "tenant", END - 1, 100)
    assert series["new"] == [None] * 95 + [30.0] * 5 and series["retail"] == [30.0] * 100
    assert set(hourly(store, "cost", "tenant", END - 1, 100)) == {"retail", "new (USD)"}
    assert hourly(store, "tokens", "tenant", END - 1, 100).keys() == {"retail", "new"}


def test_alerts_get_whole_hours_once_an_hour_and_the_running_one_each_time(store):
    fill(store, WEEKS * 168, 0)
    fill(store, 0, -1, tokens=7, requests=1)
    now = [END * 3600 + LATE - 1]
    seen = Hours(lambda: store, lambda: now[0])
    assert total(seen)[-2:] == [30_000, 30_000], "the hour that was over just now is not whole yet"
    now[0] = END * 3600 + LATE + 60
    assert total(seen)[-2:] == [30_000, 7]
    fill(store, 0, -1, tokens=1, requests=1)
    fill(store, 1, 0, tokens=1, requests=1)
    series = total(seen)
    assert series[-2:] == [30_000, 8] and len(series) == HOURS


def test_what_the_ledger_cannot_say_now_is_as_it_was(store):
    fill(store, 300, 0)
    now = float(END * 3600 + LATE)
    seen = Hours(lambda: store, lambda: now)
    before = total(seen)
    store.close()
    with pytest.raises(StoreFailure):
        hourly(store, "tokens", "total", END, 5)
    assert total(seen) == [*before[:-1], None]
    assert seen.series("cost", "total", HOURS) is None, "it never said anything"
    assert Hours(lambda: None, lambda: now).series("tokens", "total", HOURS) is None


def test_a_rule_on_anomalies_is_not_sure_before_the_ledger_is_ready():
    """Otherwise what fires would be told as resolved whenever control is started again."""
    assert not usage_anomaly.found(rule_of("usage_anomaly"), Facts(now=0.0, series=Hours(lambda: None, lambda: 0.0))).sure


def test_the_running_hour_is_in_the_currency_of_those_before_it(store):
    """An hour in which dollars are the rule is compared with dollars, and its yuan with yuan."""
    fill(store, WEEKS * 168, 1, requests=30)
    fill(store, WEEKS * 168, 1, requests=3, currency="USD", amount=0.25)
    fill(store, 1, 0, requests=4)
    fill(store, 1, 0, requests=40, currency="USD", amount=0.25)
    seen = Hours(lambda: store, lambda: END * 3600 - 1000.0)
    series = seen.series("cost", "tenant", HOURS)
    assert series is not None
    assert series["retail"][-2:] == [15.0, 2.0] and series["retail (USD)"][-2:] == [0.75, 10.0]


def test_of_an_amount_the_currency_is_said(store):
    for currency in ("CNY", "USD"):
        fill(store, WEEKS * 168, 0, currency=currency, tenant=currency.lower(), requests=30 if currency == "CNY" else 20)
        fill(store, 5, 4, currency=currency, tenant=currency.lower(), requests=400)
    now = END * 3600 + LATE + 1
    found = unusual(store, now - 86_400, now, "normal")
    said = {(one["what"], one["by"], one["name"]): one["currency"] for one in found}
    assert all(list(one) == FIELDS for one in found), "the header of CSV where nothing is unusual"
    assert said["amount", "tenant", "cny"] == "CNY" and said["amount", "tenant", "usd (USD)"] == "USD"
    assert said["tokens", "tenant", "usd"] is None

"""`gatewayctl usage` and `gatewayctl cost`, with a gateway that runs and without: the same numbers, in every form."""

import csv
import io
import json
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pytest

from gateway.ledger.question import DIMENSIONS
from gateway.record import Millis, Tokens
from gatewayctl import charts
from gatewayctl.commands import asking
from gatewayctl.commands.asking import moment, span
from gatewayctl.commands.cost_looks import BUDGET_FIELDS, CHANGE_FIELDS
from gatewayctl.trouble import Trouble
from tests.harness import Rig
from tests.test_ledger_live import has
from tests.test_ledger_store import done, write

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC).timestamp()


@pytest.fixture
def ctl(rig, inside):
    async def run(*args: str, code: int = 0) -> str:
        status: int
        out: str
        err: str
        status, out, err = await inside(*args, "--config", str(rig.path))
        assert status == code, (args, out, err)
        return out if code == 0 else err

    return run


async def spent(rig: Rig) -> None:
    """Three answers of a priced model, two of one without a price, one refusal."""
    await rig.engine("a")
    for model in ("qwen", "dear"):
        rig.model(model)
    rig.config["prices"] = [{"model": "qwen", "currency": "CNY", "per": "1K", "input": "2", "output": "8"}]
    rig.config["currencies"] = {"base": "CNY", "rates": {"USD": "7"}}
    rig.config["channels"]["a"]["cost"] = {"per_hour": "36"}
    await rig.start()
    for model in ("qwen", "qwen", "qwen", "dear", "dear", "nobody"):
        await rig.chat(model, max_tokens=5)
    await has(rig, 6)


QUESTIONS = [
    ("usage", "top", "--by", "model,status"),
    ("usage", "timeline", "--bucket", "hour", "--by", "model", "--last", "3h"),
    ("usage", "show"),
    ("cost", "report", "--by", "model"),
    ("cost", "report", "--by", "channel", "--bucket", "day"),
    ("cost", "forecast", "--by", "model"),
    ("cost", "budgets"),
]
UNTIL = ("--since", "yesterday", "--until", f"{datetime.now(UTC) + timedelta(days=2):%Y-%m-%d}")


def still(said: str) -> Any:
    """Without the moments that pass between two calls."""
    found = json.loads(said)

    def clean(value):
        if isinstance(value, dict):
            return {
                word: clean(one)
                for word, one in value.items()
                if word not in ("since", "until", "before", "now", "trend", "begin", "forecast")
            }
        return [clean(one) for one in value] if isinstance(value, list) else value

    return clean(found)


@pytest.mark.hard
async def test_the_same_answers_while_it_runs_and_while_it_does_not(rig, ctl, tmp_path):
    await spent(rig)
    asked = [question + (UNTIL if question[1] in ("top", "show", "report") else ()) for question in QUESTIONS]
    online = [still(await ctl(*question, "-o", "json")) for question in asked]
    for form in ("csv", "json", "parquet"):
        await ctl("cost", "export", "--by", "tenant,model", "--format", form, "-f", str(tmp_path / f"online.{form}"))
    await rig.stop()
    assert [still(await ctl(*question, "-o", "json")) for question in asked] == online
    for form in ("csv", "json"):
        await ctl("cost", "export", "--by", "tenant,model", "--format", form, "-f", str(tmp_path / f"offline.{form}"))
        assert (tmp_path / f"offline.{form}").read_bytes() == (tmp_path / f"online.{form}").read_bytes()

    report = online[0]
    assert report["total"]["requests"] == 6 and report["total"]["amount"] == {"CNY": "0.144"}
    assert report["total"]["unpriced"] == 2 and {row["status"] for row in report["rows"]} == {"200", "404"}
    rows = list(csv.DictReader(io.StringIO(await ctl("cost", "report", "--by", "model", "-o", "csv"))))
    assert {row["model"]: row["amount_CNY"] for row in rows} == {"qwen": "0.144", "dear": "", "nobody": ""}
    assert sum(Decimal(row["amount_CNY"] or 0) for row in rows) == Decimal("0.144") and sum(int(row["requests"]) for row in rows) == 6
    file = tmp_path / "top.parquet"
    await ctl("usage", "top", "--by", "model", "--parquet", str(file))
    with duckdb.connect() as db:
        sums = db.execute(f"SELECT sum(requests), sum(amount), count(*) FILTER (NOT priced AND amount IS NULL) FROM '{file}'").fetchone()
    assert sums == (6, Decimal("0.144000000"), 1)


async def test_prices_that_come_later_reach_old_requests_by_reprice(rig, ctl):
    await spent(rig)
    rig.config["prices"] += [{"model": "dear", "currency": "CNY", "per": "1K", "input": "100", "output": "100"}]
    await rig.reload()
    dry = json.loads(await ctl("cost", "reprice", "--since", "1d", "--dry-run", "-o", "json"))
    assert (dry["requests"], dry["changed"], dry["dry"]) == (6, 2, True)
    assert [(one["model"], one["before"], one["after"]) for one in dry["changes"]] == [("dear", None, "1.8")]
    assert "1.80" not in await ctl("cost", "report", "--by", "model")
    assert "1.80 CNY" in await ctl("cost", "reprice", "--since", "1d", "--model", "de*")
    assert "1.80" in await ctl("cost", "report", "--by", "model")
    again = json.loads(await ctl("cost", "reprice", "--since", "1d", "-o", "json"))
    assert again["changed"] == 0
    acts = [one for one in (await rig.admin("GET", "/v1/audit"))["audit"] if one["what"].startswith("cost reprice")]
    assert [one["what"] for one in acts] == ["cost reprice --model de*", "cost reprice"]
    assert acts[0]["before"] == ["dear: 2 at no price, unknown"] and acts[0]["after"][0].endswith("1.8 CNY")


async def test_archives_are_priced_anew_too_and_named_before(rig, ctl, inside):
    await spent(rig)
    old = datetime.now(UTC) - timedelta(days=70)
    write(rig.data_dir / "journal", "9-old-000001", *(done(old.timestamp() + n, model="dear", source="final") for n in range(4)))
    await has(rig, 10)
    assert f"{old:%Y-%m}.parquet" in await ctl("ledger", "archive")
    rig.config["prices"] += [{"model": "dear", "currency": "CNY", "per": "1K", "input": "100", "output": "100"}]
    await rig.reload()
    _, _, err = await inside("cost", "reprice", "--since", "80d", "--dry-run", "--config", str(rig.path))
    assert f"would be written anew: {old:%Y-%m}.parquet" in err
    status, out, err = await inside("cost", "reprice", "--since", "80d", "--config", str(rig.path))
    assert status == 0 and f"were written anew: {old:%Y-%m}.parquet" in err and "7.80 CNY" in out
    assert "7.80" in await ctl("cost", "report", "--by", "model", "--last", "80d")
    assert (await ctl("ledger", "verify")) == "" and "r2.parquet" in await ctl("ledger", "status")


@pytest.mark.hard
async def test_a_report_says_of_which_archives_it_has_nothing(rig, ctl, inside):
    await spent(rig)
    old = datetime.now(UTC) - timedelta(days=70)
    write(rig.data_dir / "journal", "9-old-000001", *(done(old.timestamp() + n, model="dear", source="final") for n in range(4)))
    await has(rig, 10)
    await ctl("ledger", "archive")
    await rig.stop()
    name = f"{old:%Y-%m}.parquet"
    (rig.data_dir / "archive" / name).unlink()
    said = f"gatewayctl: missing or damaged, and in no figure: {name}\n"
    for question, wanted in (
        ("usage top --last 80d", True),
        ("cost report --last 80d -o csv", True),
        ("usage show --last 40d", True),  # which looks at the 40 days before, too
        ("usage timeline --last 40d", False),
        ("usage top --last 7d", False),
    ):
        status, out, err = await inside(*question.split(), "--config", str(rig.path))
        assert status == 0 and out and (said in err) is wanted, (question, err)


async def test_every_report_is_drawn(rig, ctl, inside):
    await spent(rig)
    top = await ctl("usage", "top", "--by", "model")
    assert "qwen" in top and "█" in top and top.splitlines()[-1].startswith("total")
    assert "TENANT" in await ctl("usage", "show") and "first token" not in await ctl("usage", "show"), "no stream, so nobody saw one"
    await rig.chat("qwen", stream=True, max_tokens=5)
    await has(rig, 7)
    assert "first token" in await ctl("usage", "show")
    capacity = await ctl("cost", "report", "--capacity")
    assert "(idle)" in capacity and "0.0 h" not in capacity and " s " in capacity
    assert (
        "nowhere does not say what it costs"
        in (await inside("cost", "report", "--capacity", "--channel", "nowhere", "--config", str(rig.path)))[2]
    )
    assert "NO PRICE" in await ctl("cost", "report")
    forecast = await ctl("cost", "forecast")
    assert "AT THE END  BY" in forecast and "rate" in forecast and "week" not in forecast
    assert await ctl("usage", "top", "--since", "2020-01", "--until", "2020-02") == ""
    for said, wrong in (
        (("--by", "password"), "not 'password'"),
        (("--by", "tenan"), 'did you mean "tenant"?'),
        (("--by", "tenant,key,model"), "two"),
        (("--by", "key,key"), "twice"),
        (("--status", "4444"), "--status wants a status such as 503"),
        (("--status", "abc"), "--status wants a status such as 503"),
        (("--since", "2020", "--last", "1d"), "--last and --since"),
        (("--since", "2999-01"), "--since is in the future"),
        (("--since", "2026-02", "--until", "2026-01"), "--since is after --until"),
        (("--zone", "Mars/Base"), "no time zone"),
    ):
        assert wrong in await ctl("usage", "top", *said, code=2)


async def test_who_is_mistyped_is_not_taken_for_one_who_used_nothing(rig, inside):
    await spent(rig)
    for asked, said in (
        (("usage", "top", "--tenant", "acmee"), 'no tenant "acmee"; did you mean "acme"?'),
        (("usage", "show", "--model", "qwn"), 'no model "qwn"; did you mean "qwen"?'),
        (("usage", "timeline", "--key", "zzz"), 'no key "zzz"'),
        (("cost", "report", "--channel", "b", "--project", "acme/nope"), 'no project "acme/nope"'),
    ):
        status, out, err = await inside(*asked, "--config", str(rig.path))
        assert (status, out) == (0, "") and "no requests" in err and f"the configuration has {said}" in err
    _, _, err = await inside("usage", "top", "--tenant", "acme", "--since", "2020-01", "--until", "2020-02", "--config", str(rig.path))
    assert "no requests" in err and "configuration" not in err
    assert list(DIMENSIONS) == asking.DIMENSIONS


async def test_cost_over_time_is_of_everything_or_of_each(rig, ctl):
    await spent(rig)
    rows = list(csv.DictReader(io.StringIO(await ctl("cost", "report", "--bucket", "day", "--by", "tenant", "--last", "1h", "-o", "csv"))))
    assert {row["tenant"] for row in rows} >= {"acme"} and sum(Decimal(row["amount_CNY"] or 0) for row in rows) == Decimal("0.144")
    whole = json.loads(await ctl("cost", "report", "--bucket", "day", "--last", "1h", "-o", "json"))
    assert whole["by"] == [] and sum(Decimal(one["amount"].get("CNY", "0")) for one in whole["buckets"]) == Decimal("0.144")


async def test_csv_of_budgets_and_of_new_prices_is_exact(rig, ctl):
    rig.config["tenants"]["acme"]["budget"] = {"amount": "5", "currency": "CNY", "warn": [50], "stop": 100}
    rig.config["tenants"]["acme"]["models"] = {"deny": ["dear"]}
    await spent(rig)
    (row,) = csv.DictReader(io.StringIO(await ctl("cost", "budgets", "-o", "csv")))
    assert (row["owner"], row["budget"], row["spent"], row["left"]) == ("acme", "5", "0.144", "4.856") and list(row) == BUDGET_FIELDS
    rig.config["prices"][0]["output"] = "8.123456"
    await rig.reload()
    (row,) = csv.DictReader(io.StringIO(await ctl("cost", "reprice", "--since", "1d", "--dry-run", "-o", "csv")))
    assert (row["model"], row["before"]) == ("qwen", "0.144") and len(row["after"]) > len("0.144") and list(row) == CHANGE_FIELDS


WITHOUT_A_ROW = (
    ("usage", "top", "--by", "model"),
    ("usage", "timeline", "--by", "tenant,model", "--bucket", "hour"),
    ("cost", "report"),
    ("cost", "report", "--by", "model", "--bucket", "day"),
    ("cost", "report", "--capacity"),
)


async def test_csv_has_its_header_also_without_a_row(rig, ctl):
    await spent(rig)
    for question in WITHOUT_A_ROW:
        filled, empty = [
            await ctl(*question, *when, "-o", "csv") for when in (("--last", "1h"), ("--since", "2020-01-01", "--until", "2020-01-02"))
        ]
        header = filled.splitlines()[0].split(",")
        assert len(filled.splitlines()) > 1, question
        wanted = [word for word in header if not word.startswith("amount_")]  # of no currency there is a sum
        assert empty.splitlines()[0].split(",") == wanted, question
        assert len(empty.splitlines()) == 1 or "--capacity" in question


async def test_csv_of_no_budgets_and_of_nothing_that_changes_price_has_its_header(rig, ctl, inside):
    await spent(rig)
    budgets = await ctl("cost", "budgets", "-o", "csv")
    changes = await ctl("cost", "reprice", "--since", "1d", "--dry-run", "-o", "csv")
    assert (budgets, changes) == (f"{','.join(BUDGET_FIELDS)}\n", f"{','.join(CHANGE_FIELDS)}\n")
    assert await ctl("cost", "forecast", "--by", "tenant", "--tenant", "nobody", "-o", "csv") == "tenant\n"
    assert await ctl("cost", "forecast", "--tenant", "nobody", "-o", "csv") == "", "neither is there an empty line"
    _, _, said = await inside("cost", "forecast", "--tenant", "nobody", "-o", "csv", "--config", str(rig.path))
    assert "nothing was spent yet" in said.splitlines()


@pytest.mark.parametrize(
    ("text", "zone", "wanted"),
    [
        ("2026-11", UTC, "2026-11-01T00:00+00:00"),
        ("2026-11-20", UTC, "2026-11-20T00:00+00:00"),
        ("2026-11-20T18:00+08:00", UTC, "2026-11-20T10:00+00:00"),
        ("2h", UTC, "2026-11-27T10:00+00:00"),
        ("1w", UTC, "2026-11-20T12:00+00:00"),
        ("yesterday", UTC, "2026-11-26T00:00+00:00"),
    ],
)
def test_times_as_people_say_them(text, zone, wanted):
    assert moment("--since", text, zone, NOON) == datetime.fromisoformat(wanted).timestamp()


def test_times_that_are_none():
    for text in ("soon", "99999999999999999999d", "2026-13", "", "10000-01-01"):
        with pytest.raises(Trouble):
            moment("--since", text, UTC, NOON)
    assert span(None, None, None, UTC, NOON) == (NOON - 7 * 86400, NOON)
    assert span(None, "2026-11-27", "1d", UTC, NOON) == (NOON - 43200 - 86400, NOON - 43200)


def test_charts_are_of_characters(monkeypatch):
    monkeypatch.setattr(charts, "blocks", lambda: True)
    assert charts.bar(1.0, 4) == "████" and charts.bar(0.5, 4) == "██" and charts.bar(1e-9, 4) == "▏" and charts.bar(None) == ""
    assert charts.spark([0, 1, 8, 4]) == " ▁█▄" and charts.spark([]) == charts.spark([0.0]) == ""
    monkeypatch.setattr(charts, "blocks", lambda: False)
    assert charts.bar(0.5, 4) == "##" and charts.spark([1, 8]).isascii()
    assert charts.money("1234.5678") == "1,234.57" and charts.money("0.004213") == "0.0042" and charts.money("0") == "0.00"
    assert charts.change(None) == "new" and charts.change(0.125) == "+12%" and charts.change(9.0) == "×10.0"


EVERY: tuple[tuple[str, ...], ...] = (
    ("usage", "top"), ("usage", "top", "--by", "tenant,model", "-n", "2"), ("usage", "top", "--by", "system", "-n", "3"),
    ("usage", "top", "--by", "status"), ("usage", "timeline", "--bucket", "day"),
    ("usage", "timeline", "--bucket", "hour", "--by", "model"), ("usage", "show"), ("cost", "report", "--by", "key"),
    ("cost", "report", "--by", "project", "--bucket", "month"), ("cost", "report", "--by", "channel,api"),
)  # fmt: skip
OTHERS: tuple[tuple[str, ...], ...] = (
    ("cost", "report", "--capacity"), ("cost", "budgets"), ("cost", "forecast", "--by", "tenant"), ("cost", "anomalies"),
    ("usage", "reconcile"), ("ledger", "status"),
)  # fmt: skip


@pytest.mark.hard
@pytest.mark.timeout(180)
async def test_a_month_of_traffic_in_every_report_and_every_form(rig, ctl, tmp_path):
    """Six weeks that a seed makes, some of it archived: each report is drawn, and says the same sums as every other."""
    await spent(rig)
    rng, until = random.Random(3), datetime.now(UTC).replace(minute=0, second=0, microsecond=0).timestamp()
    begin = until - 42 * 86400
    records = [
        done(at + rng.random() * 3600, tenant=tenant, project=rng.choice(["web", "bot"]), key=f"k{rng.randint(1, 9)}", channel="a",
             model=rng.choice(["qwen", "qwen", "dear"]), system=f"app-{rng.randint(1, 40)}", api=rng.choice(["chat", "embeddings"]),
             status=rng.choice([200] * 9 + [503]), tokens=Tokens(rng.randint(1, 9000), 0, rng.randint(0, 900)), source="final",
             ms=Millis(1.0, 0.0, 1.0, 200.0, 900.0))
        for at in (begin + 3600 * n for n in range(42 * 24)) for tenant in ("acme", "bank", "lab") for _ in range(rng.randint(0, 3))
    ]  # fmt: skip
    write(rig.data_dir / "journal", "9-old-000001", *records)
    await has(rig, len(records) + 6)
    await ctl("ledger", "archive")
    span = ("--since", f"{datetime.fromtimestamp(begin, UTC):%Y-%m-%d}", "--until", f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}")
    errors, tokens = sum(one.status == 503 for one in records), sum(one.tokens.input + one.tokens.output for one in records)
    totals = []
    for question in EVERY:
        found = json.loads(await ctl(*question, *span, "-o", "json"))
        totals += [one["total"] for one in found.values()] if question[1] == "show" else [found["total"]]
        table = (await ctl(*question, *span)).splitlines()
        assert len(table) >= 3, (question, table)
        assert len((await ctl(*question, *span, "-o", "csv")).splitlines()) >= 2, question
    keys = ("requests", "errors", "tokens_in", "tokens_out", "tokens", "amount", "unpriced")
    assert all({key: one[key] for key in keys} == {key: totals[0][key] for key in keys} for one in totals)
    assert (totals[0]["requests"], totals[0]["errors"]) == (len(records) + 6, errors + 1)
    assert 5 <= totals[0]["tokens"] - tokens < 200, "and five small answers"
    for question in OTHERS:
        assert (await ctl(*question)).strip() or question[1] in ("anomalies", "budgets", "reconcile"), question
    assert "week" in await ctl("cost", "forecast", "--by", "tenant")


def test_today_begins_once_where_midnight_comes_twice():
    tz = ZoneInfo("America/Havana")
    first = datetime(2026, 11, 1, tzinfo=tz).timestamp()
    for now in (first + 60, first + 3660, first + 7260):
        assert moment("--since", "today", tz, now) == first

"""Reports agree: whatever they are by, their sums are those of the records, to the token and to the nano."""

import itertools
import uuid
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.config.resolved_prices import Cost, Currencies, Price
from gateway.ledger import latency
from gateway.ledger.capacity import capacity
from gateway.ledger.duck import DuckStore
from gateway.ledger.question import BadQuestion, Question, period_before
from gateway.ledger.report import flat, report
from gateway.price.book import PriceBook
from gateway.record import Attempt, Millis, Tokens
from tests.test_ledger_store import done, write

PRICES = [
    Price("qwen", "", "CNY", input=2_000_000_001, output=8 * 10**9, cached=5 * 10**8),
    Price("small*", "", "USD", input=10**8, output=7, request=3),
    Price("free", "", "CNY", input=0, output=0),
    Price("", "gpu", "EUR", second=1_234_567),
]
RATES = Currencies(base="CNY", rates={"USD": 7_100_000_001, "EUR": 7_700_000_003})
BEGIN = datetime(2026, 10, 24, tzinfo=UTC).timestamp()
DAYS = 4
WORDS = ("tenant", "project", "key", "model", "channel", "system", "api", "status", "end")
SUMS = ("requests", "errors", "tokens_in", "tokens_cached", "tokens_out", "tokens_reasoning", "tokens", "unpriced", "unpriced_tokens")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    (folder / "journal").mkdir()
    made = DuckStore(folder / "ledger.duckdb", memory=128 * 1024**2, journal=folder / "journal", clock=lambda: BEGIN + 30 * 86400)
    made.open()
    made.book = PriceBook(PRICES, {}, {"retail": 100_000})
    yield made
    made.close()


def fill(store, records) -> None:
    """These records and no others."""
    store._db.run("DELETE FROM requests")
    source = write(store._journal, f"0-{uuid.uuid4().hex}-000001", *records)
    assert store.load([source]).rows == len(records)
    source.path.unlink()


def asked(store, *, since=BEGIN, until=BEGIN + DAYS * 86400, rates=RATES, **more):
    return store.together(lambda ask: report(ask, Question(since=since, until=until, **more), rates))


names = st.sampled_from(["", "retail", "shop", "it's; DROP", "ünï%_"])
counts = st.sampled_from([0, 1, 2, 999, 123_456, 2**40])
records = st.builds(
    lambda at, tenant, project, key, model, channel, system, api, status, end, input, output, first, stream: done(
        BEGIN + at, tenant=tenant, project=project, key=key, model=model, channel=channel, system=system, api=api, status=status, end=end,
        tokens=Tokens(input, input // 3, output, output // 2), ms=Millis(1.0, 0.5, 1.0, first, first + 100.25), source="final",
        tpot=12.5 if output > 1 else 0.0, stream=stream,
    ),
    st.integers(0, DAYS * 86400 * 1000 - 1).map(lambda n: n / 1000), names, names, names,
    st.sampled_from(["qwen", "small-a", "small-b", "free", "nobody"]), st.sampled_from(["gpu", "ascend", ""]), names,
    st.sampled_from(["chat", "embeddings"]), st.sampled_from([200, 200, 200, 429, 503]), st.sampled_from(["-D", "CD", "UD", "GL"]),
    counts, counts, st.sampled_from([0.0, 1.5, 250.125, 9000.0]), st.booleans(),
)  # fmt: skip


def money(figures, word="amount"):
    return {code: Decimal(amount) for code, amount in figures[word].items()}


def added(rows, word="amount"):
    found: dict[str, Decimal] = defaultdict(Decimal)
    for row in rows:
        for code, amount in money(row, word).items():
            found[code] += amount
    return dict(found)


def agree(rows, total) -> None:
    rows = [row for row in rows if row is not None]
    for word in SUMS:
        assert sum(row[word] for row in rows) == total[word], word
    if rows:
        assert added(rows) == money(total) and added(rows, "engine_cost") == money(total, "engine_cost")
        if total["base_amount"] is not None:
            assert sum(Decimal(row["base_amount"] or 0) for row in rows) == Decimal(total["base_amount"])


SLOW = settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@SLOW
@given(st.lists(records, min_size=0, max_size=40), st.integers(1, 4), st.sampled_from(["tokens", "amount", "requests", "engine_cost"]))
def test_every_partition_adds_up_to_the_whole(store, made, top, order):
    fill(store, made)
    whole = asked(store)["total"]
    assert whole["requests"] == len(made)
    assert whole["tokens"] == sum(one.tokens.input + one.tokens.output for one in made)
    groups = [(word,) for word in WORDS] + list(itertools.combinations(WORDS, 2))[len(made) % 4 :: 4]
    for by in groups:
        found = asked(store, by=by, top=top, order=order, trend=5, before=True, latency=False)
        assert found["total"].items() >= {word: whole[word] for word in (*SUMS, "amount", "base_amount", "engine_cost")}.items()
        assert len(found["rows"]) <= top and found["groups"] == len(found["rows"]) + ((found["other"] or {}).get("groups", 0))
        agree([*found["rows"], found["other"]], found["total"])
        assert len({tuple(row[word] for word in by) for row in found["rows"]}) == len(found["rows"])
        for row in found["rows"][:1]:
            alone = asked(store, latency=False, where={word: (row[word],) for word in by})["total"] if "*" not in str(row) else row
            assert {word: alone[word] for word in (*SUMS, "amount")} == {word: row[word] for word in (*SUMS, "amount")}


@SLOW
@given(
    st.lists(records, max_size=40), st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/New_York", "Australia/Lord_Howe"])
)
def test_every_bucket_adds_up_to_the_whole(store, made, zone):
    fill(store, made)
    for bucket, shift in (("hour", 3601), ("day", 0), ("month", 3601)):
        found = asked(store, latency=False, zone=zone, bucket=bucket, by=("model",), top=2, since=BEGIN + shift)
        agree(found["buckets"], found["total"])
        agree(found["series"], found["total"])
        labels = [one["label"] for one in found["buckets"]]
        assert len(set(labels)) == len(labels) and [one["begin"] for one in found["buckets"]] == sorted(
            one["begin"] for one in found["buckets"]
        )
        counted: dict[str, int] = defaultdict(int)
        for one in made:
            if one.ts >= BEGIN + shift:
                at = datetime.fromtimestamp(one.ts, ZoneInfo(zone))
                form = {"hour": at.replace(minute=0).isoformat(" ", "minutes"), "day": f"{at:%Y-%m-%d}", "month": f"{at:%Y-%m}"}
                counted[form[bucket]] += 1
        assert {one["label"]: one["requests"] for one in found["buckets"] if one["requests"]} == counted


@SLOW
@given(st.lists(records, min_size=1, max_size=30))
def test_the_time_to_the_first_token_is_exact(store, made):
    fill(store, made)
    firsts = sorted(one.ms.first for one in made if one.ms.first and one.stream)
    total = asked(store)["total"]
    assert total["ttft_p50"] == (firsts[(len(firsts) + 1) // 2 - 1] if firsts else None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "EXACT", 0)
        rough = asked(store, by=("model",), bucket="day")
    if firsts:
        assert rough["total"]["ttft_p50"] == pytest.approx(total["ttft_p50"], rel=0.011)
    for row in rough["rows"]:
        alone = asked(store, where={"model": (row["model"],)})["total"]["ttft_p95"]
        assert row["ttft_p95"] == (pytest.approx(alone, rel=0.011) if alone else None)


def test_an_empty_range_is_a_report_of_nothing(store):
    fill(store, [done(BEGIN + 5, model="qwen")])
    for since, until in ((BEGIN, BEGIN), (BEGIN - 86400, BEGIN), (0.0, 1.0)):
        for more in ({}, {"by": ("tenant", "model"), "before": True, "trend": 8}, {"bucket": "day", "by": ("key",)}):
            found = asked(store, since=since, until=until, **more)
            assert found["total"]["requests"] == found["total"]["tokens"] == 0 and found["rows"] == [] and found["total"]["amount"] == {}
            assert all(one["requests"] == 0 for one in found["buckets"])


def test_ends_are_half_open(store):
    fill(store, [done(BEGIN), done(BEGIN + 86400)])
    assert asked(store, until=BEGIN + 86400)["total"]["requests"] == 1
    assert asked(store, since=BEGIN + 86400)["total"]["requests"] == 1


def test_ten_thousand_systems_are_a_top_and_a_rest(store):
    fill(store, [done(BEGIN + n, system=f"system-{n}", tokens=Tokens(n, 0, 1), model="qwen", source="final") for n in range(10_000)])
    found = asked(store, by=("system",), top=3, before=True, trend=10)
    assert [row["system"] for row in found["rows"]] == ["system-9999", "system-9998", "system-9997"]
    assert found["groups"] == 10_000 and found["other"]["groups"] == 9_997
    agree([*found["rows"], found["other"]], found["total"])
    assert found["rows"][0]["before"]["requests"] == 0 and found["rows"][0]["change"] is None
    whole = asked(store, by=("system",), top=0)
    assert len(whole["rows"]) == 10_000 and whole["other"] is None


def test_days_are_those_of_the_zone_when_clocks_change(store):
    berlin = ZoneInfo("Europe/Berlin")
    since, until = datetime(2026, 10, 25, tzinfo=berlin).timestamp(), datetime(2026, 10, 26, tzinfo=berlin).timestamp()
    assert until - since == 25 * 3600
    fill(store, [done(since + 1800 + hour * 3600) for hour in range(25)])
    day = asked(store, since=since, until=until, zone="Europe/Berlin", bucket="day")
    assert [(one["label"], one["requests"]) for one in day["buckets"]] == [("2026-10-25", 25)]
    hours = asked(store, since=since, until=until, zone="Europe/Berlin", bucket="hour")["buckets"]
    assert [one["requests"] for one in hours] == [1] * 25
    assert [one["label"] for one in hours[2:4]] == ["2026-10-25 02:00+02:00", "2026-10-25 02:00+01:00"]
    assert period_before(since, until, berlin) == since - 86400
    first, last = (datetime(2026, month, 1, tzinfo=berlin).timestamp() for month in (10, 11))
    assert period_before(first, last, berlin) == datetime(2026, 9, 1, tzinfo=berlin).timestamp()
    assert period_before(100.0, 150.0, UTC) == 50.0


def test_amounts_of_two_currencies_are_added_only_by_a_rate(store):
    tokens = Tokens(1_000_000, 0, 0)
    fill(store, [done(BEGIN, model="qwen", tokens=tokens, source="final"), done(BEGIN, model="small-a", tokens=tokens, source="final")])
    found = asked(store, by=("model",), order="amount")
    assert found["total"]["amount"] == {"CNY": "2.000000001", "USD": "0.100000003"}
    assert found["total"]["base_amount"] == "2.710000022400000003"
    assert found["rows"][0]["share"] == 0.738007
    alone = asked(store, by=("model",), order="amount", rates=Currencies())
    assert alone["base"] == "" and alone["total"]["base_amount"] is None and alone["rows"][0]["share"] is None


def test_unknown_is_not_free(store):
    fill(store, [done(BEGIN, model=model, tokens=Tokens(7, 0, 5), source="final") for model in ("free", "nobody")])
    by = {row["model"]: row for row in asked(store, by=("model",))["rows"]}
    assert (by["free"]["unpriced"], by["free"]["amount"]) == (0, {"CNY": "0"})
    assert (by["nobody"]["unpriced"], by["nobody"]["unpriced_tokens"]) == (1, 12)
    assert by["nobody"]["amount"] == {} and by["nobody"]["base_amount"] is None and by["free"]["base_amount"] == "0"


def test_values_are_values_and_only_the_star_is_a_pattern(store):
    fill(store, [done(BEGIN, tenant=name, project="p", status=status) for name, status in (("a%b", 200), ("aXb", 404), ("it's", 503))])
    count = lambda **where: asked(store, where=where)["total"]["requests"]  # noqa: E731
    assert count(tenant=("a%b",)) == 1 and count(tenant=("a*b",)) == 2 and count(tenant=("a_b",)) == 0 and count(tenant=("it's",)) == 1
    assert count(project=("p",)) == 3 and count(project=("aXb/p",)) == 1 and count(project=("*/p",)) == 3
    assert count(status=("4xx",)) == 1 and count(status=("503", "404")) == 2 and count(tenant=()) == 0
    assert count(tenant=("' OR 1=1 --",)) == 0


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"by": ("password",)}, "not by 'password'"),
        ({"by": ("tenant", "key", "model")}, "two"),
        ({"by": ("tenant", "tenant")}, "differ"),
        ({"where": {"1=1 --": ("x",)}}, "not by '1=1 --'"),
        ({"order": "1; DROP TABLE requests"}, "in the order of"),
        ({"zone": "Mars/Base"}, "no time zone"),
        ({"top": -1}, "top"),
        ({"since": 2e9, "until": 1e9}, "since is after until"),
        ({"since": 0.0, "until": 4e9, "bucket": "hour"}, "buckets"),
        ({"by": ("key", "system"), "top": 0, "bucket": "hour"}, "fewer groups"),
        ({"until": 1e300}, "seconds since 1970"),
        ({"since": float("nan")}, "seconds since 1970"),
    ],
)
def test_a_bad_question_says_why(store, wrong, says):
    with pytest.raises(BadQuestion, match=says):
        asked(store, **wrong)


@SLOW
@given(st.lists(records, max_size=30))
def test_a_file_has_the_same_sums(store, made):
    fill(store, made)
    question = Question(since=BEGIN, until=BEGIN + DAYS * 86400, by=("tenant", "model"), bucket="day", zone="Europe/Berlin")
    whole = asked(store)["total"]
    for form in ("parquet", "csv", "json"):
        path = store.scratch / f"out.{form}"
        store.write(path, *flat(question, form), form)
        read = {"parquet": "read_parquet", "csv": "read_csv", "json": "read_json"}[form]
        if not made:
            continue
        amounts = "sum(amount::DECIMAL(38, 9))" if form == "parquet" else "0"
        rows = store.query(
            f"SELECT coalesce(CAST(currency AS VARCHAR), ''), sum(requests), sum(tokens_in), {amounts} FROM {read}('{path}') GROUP BY 1"
        ).rows
        assert sum(row[1] for row in rows) == whole["requests"] and sum(row[2] for row in rows) == whole["tokens_in"]
        if form == "parquet":
            assert {row[0]: row[3] for row in rows if row[0]} == {code: amount for code, amount in money(whole).items()}


@SLOW
@given(st.lists(records, max_size=30), st.integers(1, 3))
def test_capacity_is_shared_out_to_the_last_nano(store, made, top):
    fill(store, made)
    costs = {
        "gpu": Cost(per_hour=12_500_000_001, currency="CNY"),
        "ascend": Cost(per_hour=7, currency="CNY"),
        "spare": Cost(per_hour=10**9, currency="USD"),
    }
    question = Question(since=BEGIN, until=BEGIN + DAYS * 86400, top=top)
    found = store.together(lambda ask: capacity(ask, question, costs, BEGIN + 9 * 86400))
    by = {one["channel"]: one for one in found["channels"]}
    assert Decimal(by["gpu"]["amount"]) == Decimal("12.500000001") * 24 * DAYS and by["spare"]["idle"] == "96"
    for total in found["total"]:
        lines = [one for part in ("rows", "others", "idle") for one in found[part] if one["currency"] == total["currency"]]
        assert sum(Decimal(one["amount"]) for one in lines) == Decimal(total["amount"])
    served = [one for one in made if one.channel in costs]
    assert sum(one["tokens"] for one in found["channels"]) == sum(one.tokens.input + one.tokens.output for one in served)


def test_capacity_counts_overlapping_requests_once_and_each_attempt_where_it_was(store):
    hour = 3_600_000.0
    attempts = [
        Attempt("first", "ascend", "http://a", "m", "503", 503, hour / 2),
        Attempt("retry", "gpu", "http://b", "m", "ok", 200, hour),
    ]
    fill(
        store,
        [
            done(BEGIN, tenant="a", channel="gpu", ms=Millis(total=hour), tokens=Tokens(10**6, 0, 0)),
            done(BEGIN + 1800, tenant="b", channel="gpu", ms=Millis(total=hour), tokens=Tokens(10**6, 0, 0)),
            done(BEGIN + 7200, tenant="b", channel="gpu", ms=Millis(total=hour * 1.5), tokens=Tokens(5, 0, 0), attempts=attempts),
        ],
    )
    costs = {"gpu": Cost(per_hour=10**9, currency="CNY"), "ascend": Cost(per_hour=10**9, currency="CNY")}
    found = store.together(lambda ask: capacity(ask, Question(since=BEGIN, until=BEGIN + 36000), costs, BEGIN + 36000))
    by = {one["channel"]: one for one in found["channels"]}
    assert (by["gpu"]["used"], by["gpu"]["idle"]) == ("2.5", "7.5") and (by["ascend"]["used"], by["ascend"]["tokens"]) == ("0.5", 0)
    assert {row["tenant"]: row["amount"] for row in found["rows"]} == {"a": "0.833333333", "b": "2.166666667"}
    assert by["gpu"]["per_million"] == "4.9999875"
    assert (found["total"][0]["amount"], found["idle"][0]["amount"]) == ("20", "17")

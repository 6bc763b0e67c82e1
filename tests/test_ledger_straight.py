"""The short way into the ledger brings what the careful way brings, or nothing."""

import os
from typing import Any

import pytest

from gateway.config.resolved_prices import NANO, Tier
from gateway.ledger import loading, straight
from gateway.ledger.billed import billed
from gateway.ledger.database import Database
from gateway.ledger.duck import DuckStore
from gateway.ledger.ingest import Ingest
from gateway.ledger.keeper import STEP_EVERY, STEP_MOST, pause_after
from gateway.ledger.store import Source
from gateway.price.book import PriceBook
from gateway.record import Attempt, Bytes, Facts, Millis, Tokens, encode_record
from tests.test_ledger_store import NOW, OCTOBER, done, write
from tests.test_price import book, price


@pytest.fixture
def journal(tmp_path):
    folder = tmp_path / "journal"
    folder.mkdir()
    return folder


@pytest.fixture
def make(tmp_path, journal):
    made: list[DuckStore] = []

    def making(name: str, prices: PriceBook | None = None) -> DuckStore:
        store = DuckStore(tmp_path / name / "ledger.duckdb", memory=128 * 1024**2, journal=journal, clock=lambda: NOW)
        made.append(store)
        store.open()
        store.book = prices
        return store

    yield making
    for store in made:
        store.close()


def all_of(store: DuckStore) -> list[tuple[Any, ...]]:
    return store.query("SELECT * FROM usage ORDER BY id").rows


def prices() -> PriceBook:
    return book(
        price(model="qwen", input=2, cached="0.5", output=8, tiers=(Tier(1000, 4 * NANO, -1, 16 * NANO),), outside="night"),
        price(model="qwen", input=1, output=3, during="night"),
        price(model="later", input=5, output=5, begins=NOW - 90.5),
        price(model="timed", request="0.01", second="0.002", currency='5% "off"'),
        price(model="silent", input=1),
        price(model="mad", input=10_000_000, output=0, per=1),
        price(channel="gpu", input="0.3", output="0.7", currency="USD"),
        discounts={"acme": 125_000},
        night=lambda ts: int(ts // 3600) % 2 == 0,
    )


def everything() -> list[Any]:
    """Requests of every kind that prices know."""
    found = []
    for number in range(60):
        model = ("qwen", "later", "timed", "silent", "mad", "nobody")[number % 6]
        tokens = Tokens(number * 97 % 2500, number * 31 % 700, number * 53 % 900, number * 13 % 400)
        more: dict[str, Any] = {"channel": ("gpu", "", "npu")[number % 3], "tenant": ("acme", "other")[number % 2]}
        more |= {"status": (200, 200, 0, 503)[number // 6 % 4], "source": ("final", "none", "counted")[number // 6 % 3]}
        attempts = [Attempt("first", "gpu", "http://10.0.0.5:8000", "m", "ok", 200, 12.5)] if number % 2 else []
        if number % 7 == 0:  # an engine that died in the middle, and one that went on
            died = Attempt("first", "gpu", "http://10.0.0.5:8000", "m", "cut", 200, 40.0, Tokens(number * 90, 0, number * 11, 0))
            attempts = [died, Attempt("continue", ("gpu", "npu")[number % 2], "http://10.0.0.6:8000", "m", "ok", 200, 12.5, tokens)]
        found.append(
            done(
                NOW - number * 3.7, model=model, tokens=tokens, ms=Millis(0.3, 12.0, 1.2, 80.5, 1234.5 + number), bytes=Bytes(4, 5),
                facts=Facts(10, 1, "json"), attempts=attempts, trace=f'ü "{number}"', stream=number % 2 > 0, **more,
            )
        )  # fmt: skip
    return found


def test_it_brings_what_the_careful_way_brings(make, journal, monkeypatch):
    for name, known in (("plain", None), ("empty", book()), ("priced", prices())):
        records = everything()
        first, second = write(journal, f"{name}-1", *records[:25]), write(journal, f"{name}-2", *records[25:])
        short, careful = make(f"{name}-short", known), make(f"{name}-careful", known)
        assert straight.load(short._db, [first, second], NOW + 60, known).rows == 60
        assert loading._load(careful._db, [first, second], NOW + 60, known).rows == 60
        assert all_of(short) == all_of(careful)
        sums = "SELECT name, rows, duplicates, quarantined, bytes, digest, bundle FROM segments ORDER BY name"
        assert short.query(sums) == careful.query(sums)
        if name == "priced":
            assert short.query("SELECT count(*) FROM usage WHERE n_attempts > 1 AND engine_cost > 0").rows == [(4,)]
            assert not short.reprice(0.0, NOW + 60, [], dry=True).costs, "priced anew it costs the same"
        amounts = {row[-3] for row in all_of(short)}
        assert len(amounts) > 10 if name == "priced" else amounts <= {None, 0}
        assert not [path for path in os.listdir(short.scratch) if "billed" in path]


def test_without_prices_only_what_is_free_is_said():
    lines = encode_record(done(source="final")) * 3
    assert billed(book(), lines)[0] is lines and billed(book(), lines)[1] == lines.count(b"\n")
    assert b"bill" in billed(book(), lines + encode_record(done(status=503, tokens=Tokens())))[0]


def test_a_plain_segment_is_not_looked_at_line_by_line(make, journal, monkeypatch):
    monkeypatch.setattr(loading, "_load", None)
    store = make("short", prices())
    assert store.load([write(journal, "0-a-000001", *everything())]).rows == 60


TWICE = done()


@pytest.mark.parametrize(
    "lines",
    [
        [done(), b"rubbish\n"],
        [done(), b"\n"],
        [done(kind="open"), done()],
        [done(), encode_record(done())[:-1]],
        [done(), done(ts=NOW + 90_000)],
        [done(), done(v=2)],
        [done(), done(tokens=Tokens(input=2**53 + 1))],
        [done(), done(status=2**31)],
        [done(), done(tpot=-0.1)],
        [done(), encode_record(done())[:-2] + b',"status":"200"}\n'],
        [TWICE, TWICE],
        [done(), done(id="0" * 35 + "1")],
        [],
    ],
)
@pytest.mark.parametrize("known", [None, prices()])
def test_what_is_unusual_leaves_nothing(make, journal, lines, known):
    store = make("short")
    source, plain = write(journal, "0-a-000001", *lines), write(journal, "0-a-000002", done())
    store.load([write(journal, "0-a-000000", done(id="0" * 35 + "1"))])
    before = all_of(store)
    with pytest.raises(straight.Unusual):
        straight.load(store._db, [plain, source], NOW + 60, known)
    assert all_of(store) == before and store.known() == {"0-a-000000"} and os.listdir(store.scratch) == []


def test_bundles_and_what_is_too_large_for_memory_and_late_lines_of_an_archived_month_are_unusual(make, journal, monkeypatch):
    store = make("short")
    store.load([write(journal, "0-a-000001", done(OCTOBER))])
    store.archive("2026-10")
    late = write(journal, "0-a-000002", done(OCTOBER - 5))
    with pytest.raises(straight.Unusual):
        straight.load(store._db, [late], NOW, None)
    plain = write(journal, "0-a-000003", done())
    with pytest.raises(straight.Unusual):
        straight.load(store._db, [Source(plain.name, plain.path, True)], NOW, None)
    monkeypatch.setattr(straight, "MOST", 10)
    with pytest.raises(straight.Unusual):
        straight.load(store._db, [plain], NOW, None)


def test_new_rows_are_told_from_old_ones(make, journal):
    """By a number of DuckDB's; were it to change, all would go the careful way."""
    store: Database = make("short")._db
    store.run("INSERT INTO requests(id) VALUES (uuid())")
    with store.transaction():
        store.run("INSERT INTO requests(id) VALUES (uuid()), (uuid())")
        assert store.one(f"SELECT count(*) FROM requests WHERE rowid >= {straight._OURS}") == (2,)
    assert store.one(f"SELECT count(*) FROM requests WHERE rowid >= {straight._OURS}") == (0,)


def test_after_many_rows_the_file_is_settled(make, journal, monkeypatch):
    monkeypatch.setattr("gateway.ledger.ingest.SETTLE_ROWS", 3)
    store = make("short")
    settled: list[int] = []
    monkeypatch.setattr(store, "settle", lambda: settled.append(store.facts().rows))
    ingest = Ingest(store, journal, clock=lambda: NOW)
    for number in range(5):
        write(journal, f"0-a-{number:06d}", done(), done())
        ingest.step()
    assert settled == [4, 8]


def test_a_step_that_took_long_is_followed_by_a_longer_pause():
    assert [pause_after(took) for took in (0.0, 0.01, 0.1, 5.0)] == [STEP_EVERY, STEP_EVERY, 2.0, STEP_MOST]

"""Prices applied anew, archives included: there and back is the same to the nano, and killed anywhere it is all old or all new."""

import os
import random
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from gateway.config.resolved_prices import Price
from gateway.ledger.duck import DuckStore
from gateway.ledger.store import StoreFailure
from gateway.price.book import PriceBook
from gateway.record import Tokens
from tests.test_ledger_store import NOW, OCTOBER, archived, done, journal, reopen, store, write  # noqa: F401

ROOT = Path(__file__).parents[1]
DAY = 86400.0


def book(nanos: int, *more: Price) -> PriceBook:
    return PriceBook([Price("qwen", "", "CNY", input=nanos, output=8 * nanos), Price("", "gpu", "USD", request=nanos), *more], {}, {})


def amounts(store) -> list[tuple]:  # noqa: F811
    rows: list[tuple] = store.query("SELECT id, price_rev, currency, amount, engine_currency, engine_cost FROM usage ORDER BY id").rows
    return rows


def files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "archive").iterdir())


def three_months(store, journal) -> None:  # noqa: F811
    """Two archives, one of them of two parts, and a month that goes on; some without a price."""
    rng = random.Random(5)
    records = [
        done(at + rng.random() * 20 * DAY, model=rng.choice(["qwen", "qwen", "nobody"]), channel=rng.choice(["gpu", "ascend"]),
             tokens=Tokens(rng.randint(0, 10**6), 0, rng.randint(0, 10**5)), source="final")
        for at in (OCTOBER - 31 * DAY, OCTOBER, NOW - 25 * DAY) for _ in range(60)
    ]  # fmt: skip
    store.load([write(journal, "0-a-000001", *records)])
    for month in store.months(NOW):
        store.archive(month)
    store.load([write(journal, "0-a-000002", *(done(OCTOBER + n, source="final") for n in range(7)))])
    store.archive("2026-10")


def test_there_and_back_is_the_same_to_the_nano_archives_included(store, journal, tmp_path):  # noqa: F811
    store.book = book(1_234_567_891)
    three_months(store, journal)
    before = amounts(store)
    assert files(tmp_path) == ["2026-09.parquet", "2026-10-2.parquet", "2026-10.parquet"]
    store.book = book(987_654_321, Price("nobody", "", "EUR", input=3))
    dry = store.reprice(0, NOW + 1, [], dry=True)
    assert amounts(store) == before and files(tmp_path) == ["2026-09.parquet", "2026-10-2.parquet", "2026-10.parquet"]
    assert dry.archives == ["2026-09.parquet", "2026-10-2.parquet", "2026-10.parquet"]
    assert (dry.rows, dry.archived) == (187, 127) and sum(one.rows for one in dry.changes) == dry.changed
    there = store.reprice(0, NOW + 1, [], dry=False)
    assert (there.rows, there.changed, there.costs, there.changes) == (dry.rows, dry.changed, dry.costs, dry.changes)
    assert files(tmp_path) == ["2026-09.r2.parquet", "2026-10-2.r2.parquet", "2026-10.r2.parquet"]
    changed = amounts(store)
    assert len(changed) == 187 and all(new[3] != old[3] for new, old in zip(changed, before, strict=True) if new[3])
    assert sum(one.after for one in there.changes if one.currency == "CNY") == sum(row[3] for row in changed if row[2] == "CNY")
    assert store.verify() == [] and store.facts().absent == []
    reopen(store)
    assert amounts(store) == changed and store.verify() == []
    store.book = book(1_234_567_891)
    back = store.reprice(0, NOW + 1, [], dry=False)
    assert amounts(store) == before and back.changed == there.changed
    assert store.reprice(0, NOW + 1, [], dry=False).archives == [] and "2026-10.r3.parquet" in files(tmp_path)


def test_only_archives_and_models_that_are_meant_are_written_anew(store, journal, tmp_path):  # noqa: F811
    store.book = book(10**9)
    three_months(store, journal)
    store.book = book(2 * 10**9)
    found = store.reprice(OCTOBER, OCTOBER + 6, ["q*"], dry=False)
    assert (found.changed, found.archives) == (6, ["2026-10-2.parquet"])
    assert files(tmp_path) == ["2026-09.parquet", "2026-10-2.r2.parquet", "2026-10.parquet"]
    assert store.reprice(0, NOW + 1, ["other"], dry=False).rows == 0
    assert [(one.rev_before is None, one.after) for one in found.changes] == [(False, Decimal("0.0006"))]


def test_what_was_repriced_is_a_part_that_has_its_number(store, journal, tmp_path):  # noqa: F811
    archived(store, journal)
    store.book = book(10**9)
    assert store.reprice(0, NOW + 1, [], dry=False).archives == ["2026-10.parquet"]
    store.load([write(journal, "0-a-000009", done(OCTOBER))])
    assert store.archive("2026-10").name == "2026-10-2.parquet" and store.counts() == {"2026-10": 51, "2026-11": 5}


def test_an_archive_that_is_not_there_is_said_and_one_that_was_changed_is_not_written_anew(store, journal, tmp_path):  # noqa: F811
    path = tmp_path / "archive" / archived(store, journal)
    data = path.read_bytes()
    store.book = book(10**9)
    path.unlink()
    found = store.reprice(0, NOW + 1, [], dry=True)
    assert (found.rows, found.absent, found.archives) == (5, ["2026-10.parquet"], [])
    path.write_bytes(data[:100] + bytes([data[100] ^ 0x01]) + data[101:])
    with pytest.raises(StoreFailure):
        store.reprice(0, NOW + 1, [], dry=False)
    assert not list((tmp_path / "archive").glob("*.r2*")) and store.query("SELECT count(amount) FROM requests").rows == [(0,)]


def test_a_report_that_runs_keeps_the_file_that_it_reads(store, journal, tmp_path):  # noqa: F811
    archived(store, journal)
    store.book = book(10**9)

    def report(ask):
        before = ask("SELECT count(amount) FROM usage").rows
        store.reprice(0, NOW + 1, [], dry=False)
        return before, ask("SELECT count(amount), count(*) FROM usage").rows

    assert store.together(report) == ([(0,)], [(0, 55)])
    assert store.query("SELECT count(amount) FROM usage").rows == [(55,)]
    assert files(tmp_path) == ["2026-10.parquet", "2026-10.r2.parquet"]
    store.facts()
    assert files(tmp_path) == ["2026-10.r2.parquet"]


def test_a_new_ledger_takes_the_latest_revision_and_one_that_cannot_be_read_gives_way(store, journal, tmp_path):  # noqa: F811
    archived(store, journal)
    old = (tmp_path / "archive" / "2026-10.parquet").read_bytes()
    store.book = book(10**9)
    store.reprice(0, NOW + 1, [], dry=False)
    store.close()
    folder = tmp_path / "archive"
    (folder / "2026-10.parquet").write_bytes(old)
    for damaged in (False, True):
        (tmp_path / "ledger.duckdb").unlink()
        if damaged:
            (folder / "2026-10.parquet").write_bytes(old)
            (folder / "2026-10.r2.parquet").write_bytes(b"PAR1 no more")
        store.open()
        assert store.query("SELECT count(amount), count(*) FROM usage").rows == [(0 if damaged else 50, 50)]
        assert files(tmp_path) == (["2026-10.parquet"] if damaged else ["2026-10.r2.parquet"])
        store.close()


CHILD = """
import sys
from pathlib import Path
from gateway.ledger.duck import DuckStore
from tests.test_ledger_repricing import book
folder, now = Path(sys.argv[1]), float(sys.argv[2])
store = DuckStore(folder / "ledger.duckdb", memory=128 * 1024**2, journal=folder / "journal", clock=lambda: now)
store.open()
store.book = book(2 * 10**9)
store.reprice(0, now, [], dry=False)
"""


@pytest.mark.parametrize(
    "place", ["reprice.written", "reprice.renamed", "ledger.before-begin", "ledger.before-commit", "ledger.committed", "reprice.committed"]
)
def test_killed_anywhere_all_of_it_is_old_or_all_of_it_new(store, journal, tmp_path, place):  # noqa: F811
    store.book = book(10**9)
    three_months(store, journal)
    old = amounts(store)
    store.close()
    run = [sys.executable, "-c", CHILD, str(tmp_path), str(NOW)]
    killed = subprocess.run(run, cwd=ROOT, env={**os.environ, "GATEWAY_FAILPOINT": place}, capture_output=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    store.open()
    found = amounts(store)
    priced = [(new[3], before[3]) for new, before in zip(found, old, strict=True) if before[3]]
    times = 2 if place in ("ledger.committed", "reprice.committed") else 1
    assert len(priced) > 100 and all(new == times * before for new, before in priced)
    suffix = ".r2" if times == 2 else ""
    assert files(tmp_path) == [f"2026-09{suffix}.parquet", f"2026-10-2{suffix}.parquet", f"2026-10{suffix}.parquet"]
    assert store.verify() == [] and store.facts().absent == []
    assert store.counts() == {"2026-09": 60, "2026-10": 67, "2026-11": 60}


def test_without_prices_nothing_is_priced_anew(tmp_path):
    store = DuckStore(tmp_path / "ledger.duckdb", memory=128 * 1024**2, journal=tmp_path, clock=lambda: NOW)  # noqa: F811
    with pytest.raises(StoreFailure, match="no prices"):
        store.reprice(0, NOW + 1, [], dry=True)

"""What every ledger's store must do: each record once, whatever comes twice or is cut off; DuckDB's is the one there is."""

import asyncio
import csv
import gzip
import json
import os
import re
import shutil
import uuid
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest

from gateway.admin.desk import Misasked
from gateway.ledger.duck import DuckStore
from gateway.ledger.ingest import Ingest
from gateway.ledger.question import Question
from gateway.ledger.records import find, newest
from gateway.ledger.report import flat
from gateway.ledger.schema import COLUMNS
from gateway.ledger.store import Format, Source, Store, StoreFailure
from gateway.meter.records import Records
from gateway.record import Attempt, Bytes, Facts, Millis, Record, Tokens, encode_record
from gateway.report.books import Books

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC).timestamp()
OCTOBER = datetime(2026, 10, 5, tzinfo=UTC).timestamp()


def done(ts: float = NOW, **more) -> Record:
    more = {"tokens": Tokens(input=10, output=5), "status": 200, "end": "-D", "model": "qwen", **more}
    id = more.pop("id", None) or str(uuid.uuid4())
    return Record(more.pop("v", 1), more.pop("kind", "done"), id, "gw-a", 0, 3, ts, **more)


def write(folder: Path, name: str, *records: Record | bytes, at: float | None = None) -> Source:
    """A sealed segment. at: when it was written; None = now."""
    path = folder / f"{name}.ndjson"
    path.write_bytes(b"".join(one if isinstance(one, bytes) else encode_record(one) for one in records))
    if at is not None:
        os.utime(path, (at, at))
    return Source(name, path)


@pytest.fixture
def journal(tmp_path):
    folder = tmp_path / "journal"
    folder.mkdir()
    return folder


@pytest.fixture(params=["duckdb"])
def store(request, tmp_path, journal):
    store: Store = DuckStore(tmp_path / "ledger.duckdb", memory=128 * 1024**2, journal=journal, clock=lambda: NOW)
    store.open()
    yield store
    store.close()


def ids(store: Store) -> list[str]:
    return [row[0] for row in store.query("SELECT id FROM usage ORDER BY id").rows]


def reopen(store: Store) -> None:
    store.close()
    store.open()


# -- loading -----------------------------------------------------------------------------------------------------------


def test_a_record_becomes_a_row_with_every_column(store, journal):
    record = done(
        tenant="retail", project="bot", key="k1", ip="10.0.0.1", trace="mine", api="chat", rule="long", policy="proportional", stream=True,
        channel="gpu", endpoint="http://e", upstream_model="qwen3", error="oops", source="final", tpot=4.5, rewrites=["model"], via="small",
        attempts=[Attempt("first", "gpu", "http://e", "qwen3", "ok", 200, 12.5, Tokens(1, 0, 2))], tokens=Tokens(100, 20, 30, 4),
        ms=Millis(1.0, 2.0, 3.0, 4.0, 5.0), bytes=Bytes(7, 8), facts=Facts(512, 2, "json", 1, 99), reserved=Tokens(100, 0, 512),
        system="crm",
    )  # fmt: skip
    loaded = store.load([write(journal, "0-a-000001", record)])
    assert (loaded.rows, loaded.duplicates, loaded.quarantined) == (1, 0, 0)
    row = store.query("SELECT * FROM usage").dicts()[0]
    assert set(row) == {column.name for column in COLUMNS}
    assert row["id"] == record.id and row["ts"] == datetime(2026, 11, 27, 12) and row["end"] == "-D"
    assert (row["tokens_in"], row["tokens_cached"], row["tokens_out"], row["tokens_reasoning"]) == (100, 20, 30, 4)
    assert row["n_attempts"] == 1 and row["attempts"][0]["ms"] == 12.5 and row["rewrites"] == ["model"]
    assert row["amount"] is None and row["system"] == "crm"
    assert find(store, record.id, 10) == [json.loads(encode_record(record))]
    assert find(store, record.id[:18], 10) == find(store, "mine", 10) == find(store, record.id, 10)
    assert find(store, "' OR 1=1 --", 10) == []


async def test_what_several_ids_begin_with_is_nobodys_name(store, journal):
    """Ids begin with the time: all requests of a minute or so share their first eight characters."""
    ids = [f"01a223f3-7d4{n}-7093-a7e7-3553aec9319e" for n in range(3)]
    store.load([write(journal, "0-a-000001", done(id=ids[0], trace="mine"), done(id=ids[1]))])
    (journal / "0-a-000001.ndjson").unlink()
    write(journal, "0-a-000002", done(id=ids[2], model="old", trace="mine"), done(id=ids[2], model="new", trace="mine"))
    ledger: Any = SimpleNamespace(read=lambda work: asyncio.to_thread(work, store))
    records, books = Records(journal), Books(ledger, AsyncMock())

    async def found(id: str) -> Any:
        return await books.find(id, records.find(id))

    for one in ids:
        for asked in (one, one[:18]):
            assert (await found(asked))["id"] == one
    with pytest.raises(Misasked, match=f"3 requests begin with 01a223f3, .*: {', '.join(reversed(ids))}$"):
        await found(ids[0][:8])
    assert (await found("mine"))["model"] == "new", "the newest of those that a caller named alike"
    assert await found("01a223f4") is None and await found("01a223f") is None


def test_the_least_record_has_no_nulls_but_of_money(store, journal):
    store.load([write(journal, "0-a-000001", done(tokens=Tokens(), status=0, end="", model=""))])
    row = store.query("SELECT * FROM usage").dicts()[0]
    assert {name for name, value in row.items() if value is None} == {"price_rev", "currency", "amount", "engine_currency", "engine_cost"}


def test_a_source_is_loaded_once_even_after_a_restart(store, journal):
    source = write(journal, "0-a-000001", done(), done())
    assert store.load([source]).rows == 2
    assert store.load([source]).sources == 0
    reopen(store)
    assert store.known() == {"0-a-000001"} and store.load([source]).sources == 0
    assert len(ids(store)) == 2


def test_a_record_that_comes_again_in_another_file_is_one(store, journal):
    twice = done()
    assert store.load([write(journal, "0-a-000001", twice, done(), twice), write(journal, "0-a-000002", twice)]).rows == 2
    loaded = store.load([write(journal, "0-a-000003", twice, done())])
    assert (loaded.rows, loaded.duplicates) == (1, 1)
    assert len(set(ids(store))) == len(ids(store)) == 3


def test_open_lines_have_no_row(store, journal):
    assert store.load([write(journal, "0-a-000001", done(kind="open"), done(kind="open"))]).rows == 0
    assert store.known() == {"0-a-000001"}
    assert store.load([write(journal, "0-a-000002")]).sources == 1  # an empty one too


def test_bundles_are_read_like_segments(store, journal):
    record = done()
    path = journal / "b.ndjson.gz"
    path.write_bytes(gzip.compress(b'{"kind":"bundle","segments":["0-a-000001"]}\n' + encode_record(record)))
    loaded = store.load([Source("b", path, True)])
    assert (loaded.rows, loaded.quarantined) == (1, 0) and ids(store) == [record.id]


BAD = {
    b"{\n": "truncated",
    b"not json\n": "malformed",
    b'{"v":1,"kind":"done"}\n': "missing required field",
    encode_record(done())[:-9] + b"\n": "",
    b"\xff\xfe\n": "",
    encode_record(done(v=2)): "version 2",
    encode_record(done(kind="other")): "'other'",
    encode_record(done(id="abc")): "none",
    encode_record(done(NOW + 90_000)): "future",
    encode_record(done(1.0)): "before 2020",
    encode_record(done(tokens=Tokens(input=-5))): "tokens.input is -5",
    encode_record(done(tokens=Tokens(output=2**60))): "tokens.output",
    encode_record(done(ms=Millis(total=-0.5))): "ms.total",
    encode_record(done(tpot=1e300)): "tpot",
    encode_record(done(status=2**40)): "",
    encode_record(done()).replace(b'"rev":3', b'"rev":99999999999999999999999'): "",
    encode_record(done(attempts=[Attempt("first", "a", "b", "c", status=2**63 + 5)])): "DuckDB",
    encode_record(done()).replace(b'"ts":1795780800.0', b'"ts":NaN'): "malformed",
    b"\n": "",
    b'[1,2,3]\n': "",
}  # fmt: skip


@pytest.mark.parametrize("line", BAD, ids=[f"{number} {why}" for number, why in enumerate(BAD.values())])
def test_a_line_that_is_no_record_is_put_aside_and_its_neighbours_are_not(store, journal, line):
    before, after = done(), done()
    loaded = store.load([write(journal, "0-a-000001", before, line, after, at=NOW), write(journal, "0-a-000002", done(), at=NOW)])
    assert (loaded.rows, loaded.quarantined) == (3, 1)
    assert {before.id, after.id} < set(ids(store))
    aside = store.query("SELECT segment, reason, text FROM quarantine").rows
    assert len(aside) == 1 and aside[0][0] == "0-a-000001" and BAD[line] in aside[0][1]
    assert store.load([Source("0-a-000001", journal / "0-a-000001.ndjson")]).sources == 0
    assert list(store.scratch.iterdir()) == []


def test_zero_is_a_number_and_so_is_the_largest(store, journal):
    store.load([write(journal, "0-a-000001", done(tokens=Tokens()), done(tokens=Tokens(input=2**53)))])
    assert store.query("SELECT sum(tokens_in), count(*) FROM usage").rows == [(2**53, 2)]


def test_strange_texts_arrive_as_they_are(store, journal):
    texts = ["'; DROP TABLE requests; --", "中文 ünï 🙂", 'quote " and \\ back', "tab\tnewline\n", "null\0byte"]
    loaded = store.load([write(journal, "0-a-000001", *(done(model=text) for text in texts))])
    assert loaded.rows + loaded.quarantined == len(texts)
    assert {row[0] for row in store.query("SELECT model FROM usage").rows} >= set(texts[:4])


def test_every_column_is_in_the_docs():
    page = (Path(__file__).parents[1] / "docs/ledger.md").read_text()
    assert [column.name for column in COLUMNS if f"| `{column.name}` | " not in page or column.meaning not in page] == []


# -- bundles -----------------------------------------------------------------------------------------------------------


def test_a_bundle_takes_the_place_of_its_segments(store, journal):
    sources = [write(journal, f"0-a-00000{n}", done(), done()) for n in range(3)]
    store.load(sources)
    path = journal / "b.ndjson.gz"
    path.write_bytes(gzip.compress(b"".join(one.path.read_bytes() for one in sources)))
    bundle = Source("b", path, True)
    store.merged([one.name for one in sources], bundle)
    assert store.known() == {"b"} and store.load([bundle]).sources == 0
    assert store.altered([bundle]) == [] and store.missing([bundle]) == 0 and store.spent(0.0) == []
    path.write_bytes(path.read_bytes() + b"x")
    assert store.altered([bundle]) == ["b"]
    store.forget(["b"])
    assert store.known() == set()


def test_a_damaged_bundle_is_read_as_far_as_it_goes(store, journal):
    records = [done(trace=str(uuid.uuid4())) for _ in range(500)]
    data = gzip.compress(b"".join(map(encode_record, records)), 1)
    path = journal / "b.ndjson.gz"
    path.write_bytes(data[: len(data) // 2])
    loaded = store.load([Source("b", path, True), write(journal, "0-a-000001", done())])
    assert 100 < loaded.rows < 499 and loaded.quarantined in (1, 2)
    reasons = [row[0] for row in store.query("SELECT reason FROM quarantine WHERE text = ''").rows]
    assert len(reasons) == 1 and "the file is damaged" in reasons[0]
    path.write_bytes(b"no gzip at all")
    assert store.load([Source("c", path, True)]).quarantined == 1


def test_what_the_ledger_lacks_is_counted(store, journal):
    source = write(journal, "0-a-000001", done(), done(), b"rubbish\n")
    assert store.missing([source]) == 2
    store.load([source])
    assert store.missing([source]) == 0


# -- archives ----------------------------------------------------------------------------------------------------------


def archived(store: Store, journal: Path) -> str:
    store.load([write(journal, "0-a-000001", *(done(OCTOBER + n) for n in range(50)), *(done(NOW - n) for n in range(5)))])
    assert store.months(NOW) == ["2026-10"]
    made = store.archive("2026-10")
    assert made.rows == 50 and store.months(NOW) == []
    return made.name


def test_an_archived_month_stays_in_every_report(store, journal, tmp_path):
    name = archived(store, journal)
    assert (tmp_path / "archive" / name).exists()
    by_month = "SELECT strftime(ts, '%Y-%m'), count(*), sum(tokens_in)::BIGINT FROM usage GROUP BY 1 ORDER BY 1"
    wanted = [("2026-10", 50, 500), ("2026-11", 5, 50)]
    assert store.query(by_month).rows == wanted
    reopen(store)
    assert store.query(by_month).rows == wanted and store.facts().rows == 5 and store.counts() == {"2026-10": 50, "2026-11": 5}
    assert store.verify() == []


def test_late_requests_of_an_archived_month_become_its_second_part(store, journal):
    archived(store, journal)
    again = store.query("SELECT id FROM usage ORDER BY ts LIMIT 1").rows[0][0]
    loaded = store.load([write(journal, "0-a-000002", done(OCTOBER + 9), done(OCTOBER, id=again))])
    assert (loaded.rows, loaded.duplicates) == (1, 1)  # what is in an archive is known too
    assert store.archive("2026-10").name == "2026-10-2.parquet" and store.counts()["2026-10"] == 51


def test_an_archive_whose_rows_are_still_there_is_taken_in_once(store, journal, tmp_path):
    """We died after the rename, before the transaction."""
    name = archived(store, journal)
    store.close()
    for path in tmp_path.glob("ledger.duckdb*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (tmp_path / "archive" / "2026-09.parquet.new").write_bytes(b"half")
    store.open()
    assert store.counts() == {"2026-10": 50}
    assert store.load([Source("0-a-000001", journal / "0-a-000001.ndjson")]).rows == 5
    assert [one.name for one in store.facts().archives] == [name] and store.counts() == {"2026-10": 50, "2026-11": 5}
    assert not list((tmp_path / "archive").glob("*.new"))


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
def test_a_damaged_archive_is_said_and_reports_do_without_it(store, journal, tmp_path, damage):
    path = tmp_path / "archive" / archived(store, journal)
    data = path.read_bytes()
    match damage:
        case "missing":
            path.unlink()
        case "cut":
            path.write_bytes(data[: len(data) // 2])
        case "flipped":
            path.write_bytes(data[:100] + bytes([data[100] ^ 0xFF]) + data[101:])
    assert any(path.name in line for line in store.verify())
    assert store.facts().absent == [path.name] and store.counts() == {"2026-11": 5}
    reopen(store)
    if damage == "missing":
        path.write_bytes(data)
        assert store.facts().absent == [] and store.counts() == {"2026-10": 50, "2026-11": 5}


def test_a_copy_of_an_archive_under_another_name_is_neither_counted_nor_deleted(store, journal, tmp_path):
    folder, name = tmp_path / "archive", archived(store, journal)
    for copy in ("2026-10-billed.parquet", "2026-10.billed.parquet", "copy.parquet"):
        shutil.copy(folder / name, folder / copy)
    reopen(store)
    assert store.counts() == {"2026-10": 50, "2026-11": 5} and store.verify() == [] and store.facts().absent == []
    assert len(list(folder.iterdir())) == 4


@pytest.mark.parametrize(
    "copy, why", [("2026-09.parquet", "not of 2026-09"), ("2026-10-7.parquet", "50 request.s. that 2026-10.parquet has")]
)
def test_an_archive_that_would_count_requests_twice_is_not_taken_in(store, journal, tmp_path, copy, why):
    folder, name = tmp_path / "archive", archived(store, journal)
    shutil.copy(folder / name, folder / copy)
    reopen(store)
    assert store.counts() == {"2026-10": 50, "2026-11": 5} and store.facts().absent == [copy]
    (line,) = store.verify()
    assert copy in line and re.search(why, line)
    (folder / copy).unlink()
    reopen(store)
    assert store.verify() == [] and store.facts().absent == []


def test_what_an_absent_archive_has_is_not_forgotten(store, journal, tmp_path):
    path = tmp_path / "archive" / archived(store, journal)
    data = path.read_bytes()
    path.unlink()
    assert store.facts().absent == [path.name]
    assert store.counts() == {"2026-11": 5} and store.counts(absent=True) == {"2026-10": 50, "2026-11": 5}
    refill = write(journal, "0-a-000002", *(done(NOW - n, id=id) for n, id in enumerate(ids(store))))
    assert store.rebuild(lambda fresh: fresh.load([refill])) == {"2026-10": 50}
    assert store.facts().absent == [path.name]  # nothing was changed
    path.write_bytes(data)
    assert store.rebuild(lambda fresh: fresh.load([refill])) == {} and store.counts() == {"2026-10": 50, "2026-11": 5}


def test_what_was_deleted_on_purpose_is_not_missed(store, journal, tmp_path):
    name = archived(store, journal)
    source = Source("0-a-000001", journal / "0-a-000001.ndjson")
    store.expire(name)
    assert store.missing([source]) == 0
    assert store.drop(NOW - 2) == 2 and store.missing([source]) == 0
    reopen(store)
    store.compact()
    assert store.missing([source]) == 0 and store.missing([write(journal, "0-a-000002", done(NOW))]) == 1
    store.rebuild(lambda fresh: fresh.load([source]))
    assert store.counts() == {"2026-10": 50, "2026-11": 5} and store.missing([source]) == 0


def test_an_expired_archive_is_gone_with_its_file(store, journal, tmp_path):
    name = archived(store, journal)
    store.expire(name)
    assert store.counts() == {"2026-11": 5} and not (tmp_path / "archive" / name).exists() and store.facts().archives == []
    assert store.drop(NOW - 2) == 2 and store.counts() == {"2026-11": 3}


# -- questions ---------------------------------------------------------------------------------------------------------


def test_a_query_may_not_take_too_long_or_give_too_much_or_change_anything(store, journal):
    store.load([write(journal, "0-a-000001", *(done() for _ in range(20)))])
    found = store.query("SELECT id FROM usage", most=7)
    assert len(found.rows) == 7 and found.cut
    with pytest.raises(StoreFailure, match="too long"):
        store.query("SELECT count(*) FROM range(100000000) a, range(100000) b WHERE a.range * b.range % 7 = 3", seconds=0.2)
    for wrong in ("DELETE FROM requests", "SELECT nonsense", "SELECT * FROM read_csv('/etc/passwd')", "SET memory_limit = '1GB'"):
        with pytest.raises(StoreFailure) as failure:
            store.query(wrong)
        assert failure.value.kind == "refused"
    assert len(ids(store)) == 20


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_an_export_has_what_began_in_time(store, journal, form):
    archived(store, journal)
    path = store.scratch / f"out.{form}"
    assert store.export(path, OCTOBER + 10, NOW, form) == 40 + 4
    assert path.stat().st_size > 0
    if form == "json":
        assert len({json.loads(line)["id"] for line in path.read_text().splitlines()}) == 44


def test_a_spreadsheet_gets_no_formula_that_a_caller_wrote(store, journal):
    models = ["=1+1", "@x", "+1", "-1", "\t=1", "plain", "", "'=1", "x\r=1"]
    store.load([write(journal, "0-a-000001", *(done(NOW - 10, model=model, end="--") for model in models))])
    store.settle()

    def read(sql_or_none: tuple[str, list[object]] | None, form: Format) -> list[str]:
        path = store.scratch / f"out.{form}"
        if sql_or_none is None:
            store.export(path, NOW - 60, NOW, form)
        else:
            store.write(path, *sql_or_none, form)
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file)) if form == "csv" else [json.loads(line) for line in file]
        assert all(row.get("end", "--") == "--" for row in rows)
        return sorted(row["model"] for row in rows)

    guarded = sorted("'" + model if model[:1] in ("=", "@", "+", "-", "\t") else model for model in models)
    assert read(None, "csv") == guarded and read(None, "json") == sorted(models)
    question = Question(since=NOW - 60, until=NOW, by=("model", "end"))
    assert sorted({*read(flat(question, "csv"), "csv")}) == sorted({*guarded}) and read(flat(question, "json"), "json") == sorted(models)


def test_the_newest_come_from_everywhere(store, journal):
    archived(store, journal)
    found = newest(store, 7, NOW)
    assert len(found) == 7 and [one["ts"] for one in found] == sorted(one["ts"] for one in found)
    assert newest(store, 3, OCTOBER + 2)[-1]["ts"] == OCTOBER + 1


# -- keeping it in shape -----------------------------------------------------------------------------------------------


def test_compacting_gives_space_back_and_loses_nothing(store, journal):
    store.load([write(journal, "0-a-000001", *(done(trace=str(uuid.uuid4())) for _ in range(30_000)))])
    store.settle()
    store.load([write(journal, "0-a-000002", done(), done())])
    store.drop(NOW + 1)
    store.load([write(journal, "0-a-000003", done())])
    before, after = store.compact()
    assert after < before and store.known() == {"0-a-000001", "0-a-000002", "0-a-000003"} and len(ids(store)) == 1
    reopen(store)
    assert len(ids(store)) == 1


def test_a_rebuilt_store_has_the_same(store, journal):
    source = Source("0-a-000001", journal / "0-a-000001.ndjson")
    archived(store, journal)
    assert store.rebuild(lambda fresh: fresh.load([source])) == {}
    assert store.counts() == {"2026-10": 50, "2026-11": 5} and store.known() == {"0-a-000001"}


def test_what_was_taken_in_while_the_clock_was_ahead_is_there_after_rebuilding(journal, tmp_path):
    """And what came when it had been put back is what it was: too far ahead of a file of its own time."""
    year, clock = 366 * 86_400, [NOW + 366 * 86_400]
    store = DuckStore(tmp_path / "ledger.duckdb", memory=128 * 1024**2, journal=journal, clock=lambda: clock[0])
    store.open()
    write(journal, "0-a-000001", done(NOW + year), done(NOW), at=NOW + year)
    assert Ingest(store, journal, clock=lambda: clock[0]).catch_up().rows == 2
    clock[0] = NOW + 60
    write(journal, "0-a-000002", done(NOW + year), done(NOW + 50), at=NOW + 50)
    ingest = Ingest(store, journal, clock=lambda: clock[0])
    assert (loaded := ingest.catch_up()).rows == 1 and loaded.quarantined == 1
    for _ in range(2):
        assert [one for one in ingest.verify() if "put aside" not in one] == []
        assert ingest.rebuild() == {} and len(ids(store)) == 3 and store.facts().quarantined == 1
    store.close()


def test_a_rebuilding_that_would_lose_something_changes_nothing_unless_forced(store, journal):
    archived(store, journal)
    assert store.rebuild(lambda fresh: None) == {"2026-11": 5}
    assert store.counts() == {"2026-10": 50, "2026-11": 5}
    assert store.rebuild(lambda fresh: None, force=True) == {"2026-11": 5}
    assert store.counts() == {"2026-10": 50}

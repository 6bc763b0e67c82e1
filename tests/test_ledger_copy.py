"""A copy of a ledger is of one moment, takes no harm from what goes on meanwhile, and what the journal has too is there once."""

import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.ledger.copying import copy_file, copy_into
from gateway.ledger.duck import DuckStore
from gateway.ledger.ingest import Ingest
from gateway.ledger.store import StoreFailure
from tests.test_ledger_ingest import aged, flipped
from tests.test_ledger_store import NOW, OCTOBER, done, ids, write


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "journal"
    folder.mkdir(parents=True)
    return folder


def opened(data: Path) -> DuckStore:
    store = DuckStore(data / "ledger.duckdb", memory=128 * 1024**2, journal=data / "journal", clock=lambda: NOW)
    store.open()
    return store


@pytest.fixture
def store(journal):
    store = opened(journal.parent)
    yield store
    store.close()


def restored(tmp_path: Path, copy: Path, journal: Path, archives: Path) -> DuckStore:
    """A data_dir of this copy, and of the journal and the archives as they are now."""
    data = tmp_path / "again"
    shutil.copytree(journal, data / "journal")
    shutil.copytree(archives, data / "archive")
    shutil.copy(copy, data / "ledger.duckdb")
    return opened(data)


def test_what_was_bundled_and_archived_meanwhile_is_there_once(store, journal, tmp_path):
    ingest = Ingest(store, journal, clock=lambda: NOW)
    for number in range(1, 5):
        write(journal, f"0-a-00000{number}", done(OCTOBER), done(NOW))
    ingest.catch_up()
    copy = store.scratch / "copy.duckdb"
    store.copy(copy)
    write(journal, "0-a-000005", done(NOW))
    aged(journal)
    ingest.catch_up()
    assert ingest.archive() and ingest.bundle() == 5 and not list(journal.glob("*.ndjson"))

    again = restored(tmp_path, copy, journal, store.scratch.with_name("archive"))
    try:
        loaded = Ingest(again, again.scratch.with_name("journal"), clock=lambda: NOW).catch_up()
        assert (loaded.rows, loaded.duplicates) == (1, 8), "the bundle has eight that the copy has, and one that it has not"
        assert ids(again) == ids(store) and len(ids(store)) == len(set(ids(store))) == 9
        assert again.counts() == store.counts() and again.verify() == []
        assert len(again.facts().archives) == 1
    finally:
        again.close()


def test_it_is_of_one_moment_while_segments_come(store, journal, tmp_path):
    stop = threading.Event()
    copies = [store.scratch / f"{number}.duckdb" for number in range(3)]

    def load() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            store.load([write(journal, f"0-a-{number:06}", *(done() for _ in range(50)))])
            if number % 3 == 0:
                store.settle()

    loading = threading.Thread(target=load)
    loading.start()
    try:
        for copy in copies:
            store.copy(copy)
    finally:
        stop.set()
        loading.join()
    found = []
    for copy in copies:
        one = DuckStore(copy, memory=128 * 1024**2, journal=journal, clock=lambda: NOW)
        one.open()
        (rows,), (sources,) = one.query("SELECT count(*) FROM requests").rows[0], one.query("SELECT count(*) FROM segments").rows[0]
        assert rows == 50 * sources
        found.append(rows)
        one.close()
    assert found == sorted(found) and found[-1] > 0


def test_without_room_it_is_refused_and_the_ledger_is_well(store, journal, monkeypatch):
    store.load([write(journal, "0-a-000001", done())])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100 << 30, 96 << 30, 4 << 30))
    with pytest.raises(StoreFailure, match="are free") as caught:
        store.copy(store.scratch / "copy.duckdb")
    assert caught.value.kind == "refused" and not list(store.scratch.iterdir()) and len(ids(store)) == 1


def test_it_is_made_beside_a_compacting_one(store, journal):
    """By threads of their own. Swapping the compacted file in ends whatever reads, which may be the copy."""
    store.load([write(journal, "0-a-000001", *(done() for _ in range(500)))])
    said: list[str] = []

    def copying() -> None:
        (store.scratch / "copy.duckdb").unlink(missing_ok=True)
        try:
            store.copy(store.scratch / "copy.duckdb")
        except StoreFailure as failure:
            said.append(str(failure))

    for _ in range(5):
        beside = threading.Thread(target=copying)
        beside.start()
        store.compact()
        beside.join()
    assert len(ids(store)) == 500 and not [one for one in said if "already" in one or "exist" in one], said


def test_one_that_takes_too_long_ends_and_can_be_tried_again(store, journal):
    store.load([write(journal, "0-a-000001", *(done() for _ in range(2000)))])
    with pytest.raises(StoreFailure, match="too long"):
        store.copy(store.scratch / "copy.duckdb", seconds=0.0)
    store.copy(store.scratch / "second.duckdb")
    assert store.facts().rows == 2000


def test_a_file_that_nobody_has_open_is_copied_with_its_log_of_changes(store, journal, tmp_path):
    store.load([write(journal, "0-a-000001", done())])
    store.settle()
    store.load([write(journal, "0-a-000002", done())])
    crashed = tmp_path / "crashed.duckdb"
    for end in ("", ".wal"):
        shutil.copy(f"{journal.parent}/ledger.duckdb{end}", f"{crashed}{end}")
    before = {path.name: path.read_bytes() for path in tmp_path.glob("crashed*")}
    copy_file(crashed, tmp_path / "it's.duckdb")
    assert {path.name: path.read_bytes() for path in tmp_path.glob("crashed*")} == before and len(before) == 2
    (tmp_path / "it's.duckdb").rename(tmp_path / "its.duckdb")
    again = DuckStore(tmp_path / "its.duckdb", memory=128 * 1024**2, journal=journal, clock=lambda: NOW)
    again.open()
    assert ids(again) == ids(store)
    again.close()


def test_a_damaged_one_and_one_that_somebody_has_give_no_copy(store, journal, tmp_path):
    store.load([write(journal, "0-a-000001", *(done() for _ in range(3000)))])
    store.close()
    path = journal.parent / "ledger.duckdb"
    hold = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('mine', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", hold, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin and holder.stdout and holder.stdout.readline()
        with pytest.raises(StoreFailure) as caught:
            copy_file(path, tmp_path / "copy.duckdb")
        assert caught.value.kind == "locked"
        holder.stdin.close()
    flipped(path)
    with pytest.raises(StoreFailure) as caught:
        copy_file(path, tmp_path / "copy.duckdb")
    assert caught.value.kind == "damaged"


@pytest.mark.parametrize("at", ["INSERT", "COMMIT"])
def test_why_a_copy_failed_is_said_and_not_what_failed_after_it(tmp_path, at):
    """On a full disk letting go of the copy fails too."""

    def run(sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        if sql.startswith((at, "ROLLBACK", "DETACH")):
            raise StoreFailure("unusable", "no space left" if sql.startswith(at) else f"{sql} failed")
        return [("requests",)]

    with pytest.raises(StoreFailure, match="no space left"):
        copy_into(run, tmp_path / "new.duckdb")

"""The ledger's work on the journal: segments in once, bundles, archives; and the ledger as control keeps it, whatever breaks."""

import asyncio
import gzip
import itertools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import UUID

import pytest

from gateway.config.resolved import Ledger as Settings
from gateway.failpoint import PLACES
from gateway.ledger import bundles
from gateway.ledger.duck import DuckStore
from gateway.ledger.ingest import Ingest, Step
from gateway.ledger.keeper import Ledger
from gateway.ledger.store import Facts, Raw, StoreFailure
from gateway.meter.records import Records
from gateway.record import Attempt, encode_record
from tests.harness import eventually
from tests.test_ledger_store import NOW, OCTOBER, done, ids, write

ROOT = Path(__file__).parents[1]
SETTINGS = Settings(memory=128 * 1024**2)


@pytest.fixture
def journal(tmp_path):
    folder = tmp_path / "journal"
    folder.mkdir()
    return folder


@pytest.fixture
def store(tmp_path, journal):
    store = DuckStore(tmp_path / "ledger.duckdb", memory=128 * 1024**2, journal=journal, clock=lambda: NOW)
    store.open()
    yield store
    store.close()


@pytest.fixture
def ingest(store, journal):
    return Ingest(store, journal, clock=lambda: NOW)


def aged(journal: Path, seconds: float = 1000.0) -> None:
    for path in journal.glob("*.ndjson"):
        os.utime(path, (NOW - seconds, NOW - seconds))


# -- segments and bundles ----------------------------------------------------------------------------------------------


def test_sealed_segments_are_loaded_and_open_ones_are_not(ingest, store, journal):
    write(journal, "0-a-000001", done(), done())
    (journal / "0-a-000002.open").write_bytes(b'{"v":1')
    assert ingest.backlog()[0] == 1
    step = ingest.step()
    assert (step.loaded.rows, step.waiting) == (2, 0)
    assert ingest.step().loaded.sources == 0 and len(ids(store)) == 2


def test_a_journal_that_did_not_change_is_not_looked_through(ingest, store, journal, monkeypatch):
    def changed(seconds_ago: float) -> None:
        os.utime(journal, ns=(then := time.time_ns() - int(seconds_ago * 1e9), then))

    asked: list[set[str]] = []

    def known() -> set[str]:
        asked.append(DuckStore.known(store))
        return asked[-1]

    monkeypatch.setattr(store, "known", known)
    write(journal, "0-a-000001", done())
    assert ingest.step().loaded.rows == 1
    assert ingest.step().loaded.rows == 0 and len(asked) == 2, "another segment may have come in the same moment"
    changed(5)
    ingest.step()
    assert ingest.step() == ingest.step() == Step() and len(asked) == 3
    write(journal, "0-a-000002", done())
    assert ingest.step().loaded.rows == 1
    write(journal, "0-a-000003", done())
    changed(5)
    ingest.step()
    write(journal, "0-a-000004", done())
    changed(5)  # as a clock that was set back may have it
    monkeypatch.setattr("gateway.ledger.ingest.ANYWAY", 0.0)
    assert ingest.step().loaded.rows == 1 and len(ids(store)) == 4


def test_what_waits_is_loaded_in_batches(ingest, journal, monkeypatch):
    monkeypatch.setattr("gateway.ledger.ingest.BATCH", 3000)
    for number in range(12):
        write(journal, f"0-a-{number:06d}", done(trace="x" * 700))
    step = ingest.step()
    assert 0 < step.loaded.sources < 12 and step.waiting == 12 - step.loaded.sources and step.oldest
    assert step.loaded.add(ingest.catch_up()) is None and step.loaded.rows == 12


def test_loaded_segments_are_bundled_once_they_are_old(ingest, store, journal):
    records = [done() for _ in range(6)]
    for number in range(3):
        write(journal, f"0-a-{number:06d}", *records[number * 2 : number * 2 + 2])
    aged(journal)
    assert ingest.bundle() == 0  # not loaded yet
    ingest.step()
    write(journal, "0-a-000003", done())  # waits
    assert ingest.bundle() == 3
    assert [one.name for one in bundles.segments(journal)] == ["0-a-000003"]
    (bundle,) = bundles.bundles(journal)
    assert bundles.members(bundle.path) == ["0-a-000000", "0-a-000001", "0-a-000002"]
    assert len(gzip.decompress(bundle.path.read_bytes()).splitlines()) == 7
    ingest.step()
    assert ingest.verify() == [] and len(ids(store)) == 7 and ingest.bundle() == 0
    found = {record["id"] for record, _ in Records(journal).since(0.0)}
    assert found == set(ids(store))  # who counts limits anew reads bundles too


def test_bundles_are_made_one_at_a_time_while_there_are_more(ingest, store, journal, monkeypatch):
    monkeypatch.setattr("gateway.ledger.bundles.BUNDLE_MOST", 1)
    for number in range(3):
        write(journal, f"0-a-{number:06d}", done())
    aged(journal)
    ingest.step()
    assert not ingest.due() and ingest.bundle(most=2) == 2 and len(bundles.bundles(journal)) == 2
    assert ingest.due() and ingest.bundle(most=2) == 1
    assert not ingest.due() and ingest.verify() == [] and len(ids(store)) == 3


def test_a_rebuilt_ledger_has_what_bundles_and_segments_have(ingest, store, journal):
    write(journal, "0-a-000001", *(done() for _ in range(5)))
    aged(journal)
    ingest.step()
    ingest.bundle()
    write(journal, "0-a-000002", done(), b"rubbish\n")
    ingest.step()
    assert ingest.rebuild() == {} and len(ids(store)) == 6 and store.facts().quarantined == 1
    assert ingest.step().loaded.sources == 0


def test_a_segment_that_was_changed_or_is_missing_is_found(ingest, store, journal):
    source = write(journal, "0-a-000001", done(), done())
    ingest.step()
    source.path.write_bytes(source.path.read_bytes() + encode_record(done()))
    assert len(ingest.verify()) == 2  # another file, and a request that is not in the ledger


@pytest.mark.hard
@pytest.mark.parametrize("memory", [128, 256, 512])
def test_a_full_bundle_goes_in_whatever_memory_there_is(memory, journal, tmp_path, monkeypatch):
    """Also into the half of it that a rebuild has, on a machine with many CPUs."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    line, number = encode_record(done(attempts=[Attempt("first", "gpu", "http://e", "qwen3", "ok", 200, 12.5)] * 3)), itertools.count(1)
    fresh = [
        re.sub(rb"[0-9a-f]{8}-[0-9a-f-]{27}", str(UUID(int=next(number))).encode(), line) for _ in range(bundles.BUNDLE_MOST // len(line))
    ]
    bundles.make(journal, [write(journal, "0-a-000001", *fresh)])
    (journal / "0-a-000001.ndjson").unlink()
    store = DuckStore(tmp_path / "ledger.duckdb", memory=memory * 1024**2, journal=journal, clock=lambda: NOW)
    store.open()
    ingest = Ingest(store, journal, clock=lambda: NOW)
    assert ingest.catch_up().rows == len(fresh) and ingest.rebuild() == {} and store.facts().rows == len(fresh)
    store.close()


def test_what_waits_is_loaded_before_the_ledger_is_verified(ingest, store, journal, monkeypatch):
    write(journal, "0-a-000001", done(), done())
    assert ingest.verify() == [] and len(ids(store)) == 2
    write(journal, "0-a-000002", done())
    monkeypatch.setattr(store, "load", lambda sources: (_ for _ in ()).throw(StoreFailure("refused", "no memory")))
    with pytest.raises(StoreFailure, match="no memory"):
        ingest.verify()


# -- months ------------------------------------------------------------------------------------------------------------


def test_what_is_over_is_archived_and_what_is_old_goes(ingest, store, journal, tmp_path):
    write(journal, "0-a-000001", *(done(OCTOBER + n) for n in range(10)))
    aged(journal)
    ingest.step()
    ingest.bundle()
    write(journal, "0-a-000002", *(done() for _ in range(5)))
    ingest.step()
    ingest.keep(SETTINGS)
    assert store.counts() == {"2026-10": 10, "2026-11": 5} and store.facts().rows == 5
    assert bundles.bundles(journal) == []  # its every request is in the archive
    ingest.keep(Settings(keep=20 * 86400.0))
    assert store.counts() == {"2026-11": 5} and not list((tmp_path / "archive").iterdir())
    ingest.keep(Settings(keep=86400.0))
    assert store.counts() == {"2026-11": 5}
    assert ingest.verify() == []


def test_above_its_size_the_oldest_archives_go(ingest, store, journal, monkeypatch):
    write(journal, "0-a-000001", *(done(OCTOBER - 30 * 86400 + n) for n in range(500)), *(done(OCTOBER + n) for n in range(500)))
    write(journal, "0-a-000002", done())
    ingest.step()
    ingest.keep(SETTINGS)
    assert [one.month for one in store.facts().archives] == ["2026-09", "2026-10"]
    assert ingest.taken() > sum(one.bytes for one in store.facts().archives)
    monkeypatch.setattr(ingest, "taken", lambda: 10**9)
    ingest.keep(Settings(size=10**9 - 1))
    assert [one.month for one in store.facts().archives] == ["2026-10"] and ingest.full == ""
    ingest.keep(Settings(size=1))
    assert store.counts() == {"2026-11": 1} and "ledger.size" in ingest.full


def test_what_compacting_gives_back_costs_no_archive(ingest, store, journal):
    """Of a group of rows that has one left nothing is unused, as the file says it."""
    for number in (0, 1):
        write(journal, f"0-a-{number:06d}", *(done(OCTOBER - 30 * 86400 * number + n) for n in range(20_000)))
    write(journal, "0-a-000009", done())
    ingest.catch_up()
    ingest.archive()
    facts = store.facts()
    assert facts.unused <= ingest.taken() // 20, "it shows"
    ingest.keep(Settings(size=ingest.taken() - 1))
    assert [one.month for one in store.facts().archives] == ["2026-09", "2026-10"] and ingest.full == ""
    assert store.facts().bytes < facts.bytes - 500_000 and ingest.verify() == []


def test_above_its_size_the_file_is_compacted_once_and_again_when_a_month_has_left_it(ingest, store, journal, monkeypatch):
    done_to, compact = [], store.compact

    def noted() -> tuple[int, int]:
        done_to.append(store.counts())
        found: tuple[int, int] = compact()
        return found

    monkeypatch.setattr(store, "compact", noted)
    write(journal, "0-a-000001", done())
    ingest.step()
    for _ in range(3):
        ingest.keep(Settings(size=1))
    assert len(done_to) == 1, "each hour it would copy all of it for nothing"
    write(journal, "0-a-000002", done(OCTOBER))
    ingest.step()
    for _ in range(3):
        ingest.keep(Settings(size=1))
    assert done_to[1:2] == [{"2026-10": 1, "2026-11": 1}], "the archive is there yet"
    so_far = len(done_to)
    ingest.keep(Settings(size=1))
    assert len(done_to) == so_far


# -- killed at each place ----------------------------------------------------------------------------------------------

CHILD = """
import sys
from pathlib import Path
from gateway.config.resolved import Ledger as Settings
from gateway.ledger.duck import DuckStore
from gateway.ledger.ingest import Ingest, Step
from gateway.ledger.store import Increase, Raw
folder, now = Path(sys.argv[1]), float(sys.argv[2])
store = DuckStore(folder / "ledger.duckdb", memory=128 * 1024**2, journal=folder / "journal", clock=lambda: now)
store.open()
ingest = Ingest(store, folder / "journal", clock=lambda: now)
ingest.catch_up()
ingest.bundle()
ingest.keep(Settings())
store.note_counters([Increase(now // 3600 * 3600, "gpu", "u", 1, 2, 0, 1.0, now, now + 1)], [Raw("gpu", "u", 1, 2, now)])
store.compact()
print("alive")
"""


@pytest.mark.parametrize("place", [one for one in PLACES if not one.startswith(("journal.", "reprice."))])
def test_killed_anywhere_each_request_is_there_once(tmp_path, journal, place):
    records = [*(done(OCTOBER + n) for n in range(20)), *(done(NOW - n) for n in range(10))]
    for number in range(3):
        write(journal, f"0-a-{number:06d}", *records[number * 10 : number * 10 + 10])
    aged(journal)
    run = [sys.executable, "-c", CHILD, str(tmp_path), str(NOW)]
    killed = subprocess.run(run, cwd=ROOT, env={**os.environ, "GATEWAY_FAILPOINT": place}, capture_output=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    store = DuckStore(tmp_path / "ledger.duckdb", memory=128 * 1024**2, journal=journal, clock=lambda: NOW)
    store.open()
    ingest = Ingest(store, journal, clock=lambda: NOW)
    try:
        ingest.catch_up()
        ingest.bundle()
        ingest.keep(SETTINGS)
        assert store.last_counters() == ([Raw("gpu", "u", 1, 2, NOW)] if place == "engines.noted" or place.startswith("compact.") else [])
        assert sorted(ids(store)) == sorted(one.id for one in records)
        assert store.counts() == {"2026-10": 20, "2026-11": 10} and ingest.verify() == []
        assert bundles.segments(journal) == [] and not list(journal.glob("kept/*.new")) and not list(tmp_path.glob("*.duckdb.new*"))
    finally:
        store.close()


def test_each_failpoint_is_somewhere_and_no_other():
    said = {name for file in (ROOT / "gateway").rglob("*.py") for name in re.findall(r'failpoint\("([^"]+)"\)', file.read_text())}
    assert said == set(PLACES)


def test_a_failpoint_in_a_file_kills_once(tmp_path):
    wanted = tmp_path / "place"
    code = "from gateway.failpoint import failpoint\nfailpoint('b')\nfailpoint('a')\nprint('alive')"
    for place, status in (("a", -9), ("c", 0)):
        wanted.write_text(place)
        for _ in range(2):
            env = {**os.environ, "GATEWAY_FAILPOINT": str(wanted)}
            done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, timeout=30)
            assert done.returncode == status
            status = 0


# -- as control keeps it -----------------------------------------------------------------------------------------------


@pytest.fixture
async def kept(tmp_path, journal):
    """Starts ledgers that are closed at the end."""
    running: list[tuple[Ledger, asyncio.Task]] = []

    async def start() -> Ledger:
        ledger = Ledger(tmp_path, SETTINGS, clock=lambda: NOW)
        running.append((ledger, asyncio.create_task(ledger.run())))
        return ledger

    async def stop() -> None:
        while running:
            ledger, task = running.pop()
            await ledger.close()
            await task

    start.stop = stop  # type: ignore[attr-defined]
    yield start
    await stop()


async def rows(ledger: Ledger, count: int) -> None:
    def enough() -> bool:
        return ledger.told()["rows"] == count and not ledger.trouble

    await eventually(enough, within=20)


async def test_what_it_holds_is_known_without_a_look_at_all_of_it(kept, journal, monkeypatch):
    monkeypatch.setattr("gateway.ledger.keeper.FACTS_EVERY", 3600.0)
    looks = []
    look = DuckStore.facts

    def looked(store: DuckStore) -> Facts:
        looks.append(store)
        return look(store)

    monkeypatch.setattr(DuckStore, "facts", looked)
    ledger = await kept()
    await eventually(lambda: ledger.told()["state"] == "ok", within=20)
    before = len(looks)
    write(journal, "0-a-000001", done(), b"rubbish\n", done())
    await rows(ledger, 2)
    write(journal, "0-a-000002", done())
    await rows(ledger, 3)
    await eventually(lambda: (ledger.told()["quarantined"], ledger.facts.sources) == (1, 2))
    assert len(looks) == before == 1


async def test_it_loads_what_comes_and_says_how_it_is(kept, journal):
    ledger = await kept()
    assert ledger.told()["state"] == "opening" and ledger.trouble == ""
    write(journal, "0-a-000001", done(), b"rubbish\n", done())
    await rows(ledger, 2)
    told = ledger.told()
    assert (told["state"], told["loaded"], told["quarantined"], told["waiting"], told["lag"]) == ("ok", 2, 1, 0, 0.0)
    assert (await ledger.query("SELECT count(*) FROM usage")).rows == [(2,)]


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for at in range(12_288, len(data), 4096):
        data[at + 100] ^= 0xFF
    path.write_bytes(bytes(data))


DAMAGES = {
    "zero header": lambda path: path.write_bytes(bytes(4096) + path.read_bytes()[4096:]),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "rubbish": lambda path: path.write_bytes(os.urandom(20_000)),
    "flipped": flipped,
    "missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_file_is_set_aside_and_built_anew(kept, tmp_path, journal, damage):
    write(journal, "0-a-000001", *(done(OCTOBER + n) for n in range(200)), *(done() for _ in range(200)))
    ledger = await kept()
    await rows(ledger, 400)
    await ledger.act(lambda store, ingest: (ingest.archive(late=0.0), store.settle()))
    await kept.stop()
    DAMAGES[damage](tmp_path / "ledger.duckdb")
    write(journal, "0-a-000002", done())
    ledger = await kept()
    await rows(ledger, 401)
    assert ledger.repairs == 1 and ledger.lost == [] and ledger.told()["repaired"]["why"]
    assert len(list(tmp_path.glob("ledger.duckdb.corrupt-*"))) == (0 if damage == "missing" else 1)
    assert await ledger.act(lambda store, ingest: ingest.verify()) == []


async def test_what_cannot_be_brought_back_is_said(kept, tmp_path, journal):
    write(journal, "0-a-000001", *(done() for _ in range(30)))
    aged(journal)
    ledger = await kept()
    await rows(ledger, 30)
    await ledger.act(lambda store, ingest: ingest.bundle())
    await eventually(lambda: (tmp_path / "ledger.duckdb.counts").exists(), within=10)
    await kept.stop()
    for bundle in bundles.bundles(journal):
        bundle.path.unlink()
    (tmp_path / "ledger.duckdb").write_bytes(b"x" * 5000)
    ledger = await kept()
    await eventually(lambda: ledger.lost, within=10)
    assert "30 request(s) of 2026-11" in ledger.lost[0]


@pytest.mark.parametrize("torn", [True, False])
async def test_a_damaged_log_of_changes_costs_nothing(kept, tmp_path, journal, torn):
    write(journal, "0-a-000001", *(done() for _ in range(100)))
    code = CHILD[: CHILD.index("ingest.catch_up()")] + "ingest.step()\nimport os\nos.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path), str(NOW)], cwd=ROOT, timeout=60)
    wal = tmp_path / "ledger.duckdb.wal"
    data = wal.read_bytes()
    wal.write_bytes(data[:-7] if torn else data[: len(data) // 2] + bytes(8) + data[len(data) // 2 + 8 :])
    ledger = await kept()
    await rows(ledger, 100)
    assert await ledger.act(lambda store, ingest: ingest.verify()) == []


async def test_one_that_another_process_has_is_waited_for(kept, tmp_path, journal):
    write(journal, "0-a-000001", done())
    code = f"import duckdb, sys; c = duckdb.connect({str(tmp_path / 'ledger.duckdb')!r}); print('mine', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout and holder.stdin and holder.stdout.readline()
        ledger = await kept()
        await eventually(lambda: "lock" in ledger.trouble, within=10)
        assert ledger.told()["waiting"] == 1 and ledger.told()["state"] == "failing"
        with pytest.raises(StoreFailure):
            await ledger.query("SELECT 1")
        holder.stdin.close()
        holder.wait(10)
    await rows(ledger, 1)
    assert not list(tmp_path.glob("*.corrupt-*"))


async def test_one_that_kills_whoever_opens_it_is_set_aside(kept, tmp_path, journal):
    write(journal, "0-a-000001", done())
    ledger = await kept()
    await rows(ledger, 1)
    await kept.stop()
    (tmp_path / "ledger.duckdb.opening").write_text("3")
    ledger = await kept()
    await rows(ledger, 1)
    assert "died" in ledger.told()["repaired"]["why"] and list(tmp_path.glob("*.corrupt-*"))


async def test_one_that_is_removed_or_replaced_while_it_is_open_is_opened_again(kept, tmp_path, journal):
    write(journal, "0-a-000001", done())
    ledger = await kept()
    await rows(ledger, 1)
    (tmp_path / "ledger.duckdb").unlink()
    write(journal, "0-a-000002", done())
    await rows(ledger, 2)
    assert (tmp_path / "ledger.duckdb").exists()


async def test_a_directory_that_cannot_be_used_is_said(tmp_path, journal):
    (tmp_path / "file").write_text("")
    ledger = Ledger(tmp_path, Settings(url="duckdb:file/ledger.duckdb", memory=128 * 1024**2), clock=lambda: NOW)
    task = asyncio.create_task(ledger.run())
    await eventually(lambda: "file" in ledger.trouble, within=10)
    ledger.adopt(SETTINGS)  # a reload with a better place
    write(journal, "0-a-000001", done())
    await rows(ledger, 1)
    await ledger.close()
    await task


async def test_a_report_holds_no_loading_up(kept, journal):
    ledger = await kept()
    write(journal, "0-a-000001", done())
    await rows(ledger, 1)
    slow = "SELECT count(*) FROM range(30000) a, range(20000) b WHERE (a.range * b.range) % 7 = 3"
    report = asyncio.create_task(ledger.query(slow, seconds=60))
    await asyncio.sleep(0.3)
    for number in range(3):
        write(journal, f"0-a-1{number:05d}", *(done() for _ in range(500)))
        await asyncio.sleep(0.2)
    if not report.done():
        await eventually(lambda: ledger.told()["rows"] > 1, within=5)
    ledger._store.stop()
    await asyncio.gather(report, return_exceptions=True)
    await rows(ledger, 1501)


def test_an_empty_journal_and_no_folder(ingest, journal, tmp_path):
    assert ingest.step().waiting == 0 and ingest.bundle() == 0 and ingest.verify() == []
    assert bundles.bundles(journal) == []


def test_a_long_report_delays_what_is_kept_and_nothing_fails(ingest, store, journal):
    write(journal, "0-a-000001", *(done(OCTOBER + n) for n in range(20)))
    aged(journal)
    ingest.catch_up()
    ingest.bundle()

    def report(ask):
        ask("SELECT count(*) FROM usage")
        ingest.keep(SETTINGS)
        return ask("SELECT count(*) FROM usage").rows

    assert store.together(report) == [(20,)]
    assert [one.month for one in store.facts().archives] == ["2026-10"] and len(bundles.bundles(journal)) == 1
    ingest.keep(SETTINGS)
    assert bundles.bundles(journal) == [] and store.counts() == {"2026-10": 20}


async def test_who_only_looks_archives_and_deletes_nothing(journal, tmp_path):
    """Whatever `gatewayctl` asks while no gateway runs: a restored backup may be older than `keep`."""
    write(journal, "0-a-000001", *(done(OCTOBER + n) for n in range(10)), *(done(NOW - n * 86400) for n in range(20)))
    ledger = Ledger(tmp_path, Settings(memory=128 * 1024**2, keep=10 * 86400.0), clock=lambda: NOW)
    await ledger.mend(keeping=False)
    found = await ledger.query("SELECT count(*) FROM usage")
    assert found.rows == [(30,)] and ledger.facts.archives == []
    await ledger.act(lambda store, ingest: ingest.keep(ledger.settings))
    assert (await ledger.query("SELECT count(*) FROM usage")).rows == [(11,)]
    await ledger.close()

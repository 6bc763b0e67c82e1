"""The ledger in a backup: rows before are rows after, nothing twice; one that cannot be copied is said, and fails nothing."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from gateway.ledger.duck import DuckStore
from gateway.ledger.ingest import Ingest
from tests.fixtures.cli import actl, ctl
from tests.harness import Rig, eventually
from tests.test_backup import config as _config
from tests.test_backup import names
from tests.test_ledger_ingest import flipped
from tests.test_ledger_store import NOW, OCTOBER, done, ids, write

config = _config
LEDGER = "data/ledger.duckdb"
MEMORY = 128 * 1024**2


def store_in(data: Path, file: Path | None = None) -> DuckStore:
    store = DuckStore(file or data / "ledger.duckdb", memory=MEMORY, journal=data / "journal", clock=lambda: NOW)
    store.open()
    return store


@pytest.fixture
def data(config: Path, tmp_path: Path) -> Path:
    """With a ledger of six requests, two of them in an archive, four still in a segment of the journal; and a segment that waits."""
    data = tmp_path / "data"
    shutil.rmtree(data / "archive")
    for left in (*data.glob("ledger*"), *data.glob("journal/0-a*")):
        left.unlink()
    write(data / "journal", "0-a-000001", done(OCTOBER), done(OCTOBER), *(done(NOW) for _ in range(4)))
    store = store_in(data)
    with contextlib.closing(store):
        ingest = Ingest(store, data / "journal", clock=lambda: NOW)
        ingest.catch_up()
        assert ingest.archive()
    write(data / "journal", "0-a-000002", done(NOW))
    return data


def ids_of(data: Path, file: Path | None = None) -> list[str]:
    """All requests, once what waits is loaded."""
    with contextlib.closing(store_in(data, file)) as store:
        Ingest(store, data / "journal", clock=lambda: NOW).catch_up()
        assert store.verify() == []
        return ids(store)


def test_rows_before_are_rows_after_and_the_copy_alone_has_them(config, data, tmp_path):
    target = tmp_path / "b.tar"
    ran = ctl("backup", target, "-c", config)
    assert ran.code == 0 and "ledger" not in ran.err and LEDGER in names(target)
    assert not list(tmp_path.glob(".*")), "nothing is left of the copy"
    before = ids_of(data)
    assert len(before) == 7
    shutil.rmtree(data)
    assert ctl("restore", target, "--yes").code == 0
    assert ids_of(data) == before
    for path in data.glob("journal/*.ndjson"):
        path.unlink()
    assert ctl("restore", target, "--into", tmp_path / "there").code == 0
    there = tmp_path / "there/data"
    for path in there.glob("journal/*.ndjson"):
        path.unlink()
    assert len(ids_of(there)) == 6, "without a journal the copy and the archive have what was loaded"


def test_it_may_be_left_out_and_is_made_anew(config, data, tmp_path):
    target = tmp_path / "b.tar"
    ran = ctl("backup", target, "--without-ledger", "-c", config)
    assert ran.code == 0 and LEDGER not in names(target)
    assert f"not in it: {data}/ledger.duckdb (--without-ledger; it is made anew from the journal and the archives)" in ran.err
    before = ids_of(data)
    assert ctl("restore", target, "--yes").code == 0 and not (data / "ledger.duckdb").exists()
    assert ids_of(data) == before


def test_a_damaged_one_is_said_and_fails_nothing(config, data, tmp_path):
    target, before = tmp_path / "b.tar", ids_of(data)
    flipped(data / "ledger.duckdb")
    ran = ctl("backup", target, "-c", config)
    assert ran.code == 0 and "the ledger is not in the backup: " in ran.err and LEDGER not in names(target)
    assert "it could not be copied; it is made anew" in ran.err and not list(tmp_path.glob(".*"))
    assert ctl("restore", target, "--yes").code == 0
    assert ids_of(data) == before


def test_one_that_another_process_has_is_said(config, data, tmp_path):
    hold = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('mine', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(data / "ledger.duckdb")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdin and holder.stdout and holder.stdout.readline()
        ran = ctl("backup", tmp_path / "b.tar", "-c", config, "-o", "json")
        holder.stdin.close()
    left = json.loads(ran.out)["left_out"]
    assert ran.code == 0 and "Could not set lock" in ran.err and any(one["path"].endswith("ledger.duckdb") for one in left)


def test_one_outside_data_dir_comes_with_its_archives(config, data, tmp_path):
    """And a log of changes that belongs to a later state of the file does not spoil the restored one."""
    books = tmp_path / "books"
    books.mkdir()
    for name in ("ledger.duckdb", "archive"):
        (data / name).rename(books / name)
    file, target = books / "ledger.duckdb", tmp_path / "b.tar"
    config.write_text(config.read_text() + f"ledger: {{url: 'duckdb:{file}'}}\n")
    assert ctl("backup", target, "-c", config).code == 0
    before = ids_of(data, file)
    assert f"config{file}" in names(target) and f"config{books}/archive/2026-10.parquet" in names(target)
    store = store_in(data, file)
    store.load([write(data / "journal", "0-a-000003", done(NOW))])
    shutil.copy(f"{file}.wal", tmp_path / "later.wal")
    store.close()
    shutil.rmtree(books / "archive")
    (tmp_path / "later.wal").rename(f"{file}.wal")
    assert ctl("restore", target, "--yes").code == 0
    assert ids_of(data, file) == before


def test_a_data_dir_behind_a_link_is_still_the_ledgers(config, data, tmp_path):
    data.rename(tmp_path / "real")
    data.symlink_to(tmp_path / "real")
    target = tmp_path / "b.tar"
    config.write_text(config.read_text() + f"ledger: {{url: 'duckdb:{tmp_path}/real/ledger.duckdb'}}\n")
    assert ctl("backup", target, "-c", config).code == 0
    assert [name for name in names(target) if "ledger" in name] == [LEDGER]


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_its_owner_is_that_of_the_original(config, data, tmp_path):
    os.chown(data / "ledger.duckdb", 65534, 65534)
    (data / "ledger.duckdb").chmod(0o640)
    assert ctl("backup", tmp_path / "b.tar", "-c", config).code == ctl("restore", tmp_path / "b.tar", "--yes").code == 0
    facts = (data / "ledger.duckdb").stat()
    assert (facts.st_uid, facts.st_gid, facts.st_mode & 0o777) == (65534, 65534, 0o640)


async def test_from_a_gateway_that_serves_and_back(rig: Rig, tmp_path: Path) -> None:
    await rig.engine("a")
    rig.model("qwen")
    await rig.start()
    for _ in range(5):
        await rig.chat("qwen", max_tokens=2)

    async def loaded() -> int:
        return int((await rig.admin("GET", "/v1/ledger"))["ledger"]["rows"])

    async def enough() -> bool:
        return await loaded() == 5

    await eventually(enough, 15)
    target = tmp_path / "b.tar"
    ran = await actl("backup", target, "-c", rig.path)
    assert ran.code == 0 and "ledger" not in ran.err, ran.err
    await rig.stop()
    with tarfile.open(target) as tar:
        assert LEDGER in tar.getnames()
    shutil.rmtree(rig.data_dir)
    assert (await actl("restore", target, "--yes")).code == 0
    for path in (rig.data_dir / "journal").rglob("*.ndjson*"):
        path.unlink()
    rig.log_path.unlink()
    await rig.start()
    await eventually(enough)
    told = (await rig.admin("GET", "/v1/ledger"))["ledger"]
    assert told["state"] == "ok" and told["repairs"] == 0
    ran = await actl("ledger", "verify", "-c", rig.path)
    assert ran.code == 0, ran.err

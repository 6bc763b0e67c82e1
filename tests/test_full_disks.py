"""Disks that are full, each of them by itself: serving goes on, everybody says so, and with room again nothing is missing."""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.config.resolved import Ledger as Settings
from gateway.ledger.ingest import KEEP_EVERY
from gateway.ledger.keeper import RETRY_MOST, Ledger
from gateway.meter.journal import RESERVE
from tests.harness import Rig, eventually
from tests.test_alert_live import Ears, ears  # noqa: F401
from tests.test_ledger_live import has
from tests.test_ledger_store import NOW, OCTOBER, done, write

MANY = 30


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@contextlib.contextmanager
def full(folder: Path, spare: int = 0) -> Iterator[None]:
    """To the last byte, or so many before it."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (65_536, 4096):
            with contextlib.suppress(OSError):
                while file.write(b"x" * size) == size:
                    pass
    os.truncate(ballast, ballast.stat().st_size - spare)
    yield
    ballast.unlink()


async def begun(rig: Rig, ears: Ears) -> None:  # noqa: F811
    await rig.engine("a")
    for name in ("qwen", *(f"m{number}" for number in range(MANY))):
        rig.model(name)
    rig.config["alerts"] = {
        "sinks": {"ops": f"json://127.0.0.1:{ears.port}/canaryhook"},
        "rules": [{"on": "ledger", "for": "0s"}, {"on": "journal_lost", "for": "0s", "within": "10s"}],
    }
    await rig.start()
    assert (await rig.chat("qwen")).status == 200
    await has(rig, 1)


async def begun_without_reserve(rig: Rig, ears: Ears) -> None:  # noqa: F811
    """A full disk is felt at once."""
    await begun(rig, ears)
    (rig.data_dir / "journal" / RESERVE).unlink(missing_ok=True)


async def asked(rig: Rig) -> None:
    """Each of a model that was never asked before: new labels, new lines."""
    worker = rig.pid_of("worker-0")
    for number in range(MANY):
        answer = await rig.chat(f"m{number}", stream=number % 2 == 0, max_tokens=3)
        assert answer.status == 200, answer
    assert rig.pid_of("worker-0") == worker, "nobody was killed by it"


async def told(rig: Rig, inside, *command: str, word: str) -> str:
    async def failing() -> str:
        code, out, err = await inside(*command, "--config", str(rig.path))
        return str(out + err) if code == 6 and word in out + err else ""

    text: str = await eventually(failing, within=30, every=0.3)
    return text


async def well(rig: Rig, inside, rows: int) -> None:
    await has(rig, rows)

    async def quiet() -> bool:
        return bool((await inside("status", "--config", str(rig.path)))[0] == 0)

    await eventually(quiet, within=40, every=0.3)
    assert (await inside("ledger", "verify", "--config", str(rig.path)))[0] == 0
    records = rig.records()
    assert len({one["id"] for one in records}) == rows and not any(one.get("error") == "lost" for one in records)


@pytest.mark.hard
async def test_the_whole_data_directory(rig: Rig, ears: Ears, inside) -> None:  # noqa: F811
    with small_disk(rig.data_dir, "48m"):
        try:
            await begun_without_reserve(rig, ears)
            with full(rig.data_dir):
                await asked(rig)
                assert "journal" in await told(rig, inside, "status", word="the journal cannot be written")
                await eventually(lambda: ears.of("FIRING", "the disk refuses records"), within=30)
                assert "gateway_journal_failing 1.0" in await rig.metrics()
                await told(rig, inside, "status", word="what is known of alerts cannot be written down")
            await well(rig, inside, 1 + MANY)
            await eventually(lambda: ears.of("RESOLVED"), within=40)
        finally:
            await rig.stop()


@pytest.mark.hard
async def test_a_start_on_a_full_disk(rig: Rig, ears: Ears, inside) -> None:  # noqa: F811
    """As after a reboot: who served on while it filled up must not stay down for it."""
    with small_disk(rig.data_dir, "48m"):
        try:
            await begun_without_reserve(rig, ears)
            assert rig.process is not None
            rig.process.kill()
            await asyncio.to_thread(rig.process.wait)
            with full(rig.data_dir):
                await rig.start()
                await eventually(lambda: rig.log().count("ready:") == 2, within=30)
                await asked(rig)
            await well(rig, inside, 1 + MANY)
        finally:
            await rig.stop()


@pytest.mark.hard
async def test_a_worker_that_dies_while_no_file_can_be_made(rig: Rig, ears: Ears, inside) -> None:  # noqa: F811
    """Inodes are used up, or a full XFS has no room for more of them: its successor serves, and its records come later."""
    journal = rig.data_dir / "journal"

    def taken() -> bool:
        with contextlib.suppress(OSError):
            for number in range(1000):
                (journal / f"ballast-{time.monotonic_ns()}-{number}").touch()
        return "it is in memory, and a kill would lose it" in rig.log()

    with small_disk(journal, "48m,nr_inodes=300"):
        try:
            await begun(rig, ears)
            taken()
            os.kill(rig.pid_of("worker-0"), signal.SIGKILL)
            await eventually(taken, within=30)
            await asked(rig)
            for ballast in journal.glob("ballast-*"):
                ballast.unlink()
            await well(rig, inside, 1 + MANY)
        finally:
            await rig.stop()


@pytest.mark.hard
async def test_the_ledgers_own(rig: Rig, ears: Ears, inside) -> None:  # noqa: F811
    rig.config["ledger"] = {"url": "duckdb:db/ledger.duckdb"}
    with small_disk(rig.data_dir / "db", "4m"):
        try:
            await begun(rig, ears)
            with full(rig.data_dir / "db"):
                await asked(rig)
                for command in (("status",), ("ledger", "status")):
                    assert "No space left" in await told(rig, inside, *command, word="the ledger is not well")
                assert "gateway_ledger_failing 1.0" in await rig.metrics()
                await eventually(lambda: ears.of("FIRING", "No space left"), within=30)
            await well(rig, inside, 1 + MANY)
            await eventually(lambda: ears.of("RESOLVED"), within=40)
            assert "gateway_ledger_repairs_total 0.0" in await rig.metrics()
        finally:
            await rig.stop()


@pytest.mark.hard
async def test_that_of_the_metrics(rig: Rig, ears: Ears, inside) -> None:  # noqa: F811
    with small_disk(rig.data_dir / "metrics", "4m"):
        try:
            await begun(rig, ears)
            with full(rig.data_dir / "metrics"):
                worker = rig.pid_of("worker-0")
                await asked(rig)
                await has(rig, 1 + MANY)
                await asyncio.sleep(2.5)
                assert rig.pid_of("worker-0") == worker, rig.log()
                await told(rig, inside, "status", word="metrics/ has no room or may not be written")
                text = await rig.metrics()
                assert "gateway_metrics_failing 1.0" in text and 'channel="a",model="m29"' not in text
            await well(rig, inside, 1 + MANY)
            requests = [line for line in (await rig.metrics()).splitlines() if line.startswith("gateway_requests_total{")]
            assert sum(float(line.rpartition(" ")[2]) for line in requests) == 1 + MANY
        finally:
            await rig.stop()


async def test_an_archive_that_is_being_written(tmp_path: Path) -> None:
    """It is said, tried again, and leaves nothing half; what comes meanwhile is loaded."""
    journal = tmp_path / "journal"
    journal.mkdir()
    with small_disk(tmp_path / "db", "24m"):
        settings = Settings(url="duckdb:db/ledger.duckdb", memory=128 * 1024**2)
        ledger = Ledger(tmp_path, settings, clock=lambda: NOW)
        ledger._kept = time.monotonic()
        write(journal, "0-a-000001", *(done(OCTOBER + n, trace=os.urandom(200).hex()) for n in range(6000)))
        await ledger.mend()
        assert ledger.told()["rows"] == 6000
        await ledger.act(lambda store, ingest: store.settle())
        with full(tmp_path / "db", spare=600_000):
            ledger._kept -= KEEP_EVERY
            await ledger.mend()
            assert "cannot be archived" in ledger.trouble and "No space left" in ledger.trouble and ledger.told()["state"] == "failing"
            assert list((tmp_path / "db/archive").iterdir()) == [] and ledger.told()["rows"] == 6000
            write(journal, "0-a-000002", done())
            await ledger.mend()
            assert ledger.told()["rows"] == 6001 and "cannot be archived" in ledger.trouble, "it is said until it works"
        ledger._kept -= RETRY_MOST
        await ledger.mend()
        assert ledger.trouble == "" and [one["rows"] for one in ledger.told()["archives"]] == [6000]
        assert await ledger.act(lambda store, ingest: ingest.verify()) == [] and ledger.repairs == 0
        await ledger.close()

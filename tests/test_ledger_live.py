"""The ledger in a running gateway: it has what callers got, whoever is killed; what breaks it stops nobody; the command line says it."""

import asyncio
import contextlib
import csv
import io
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import pytest

from gateway.config.resolved import Ledger as Settings
from gateway.failpoint import PLACES
from gateway.ledger.keeper import Ledger
from gateway.meter.orphans import close_orphans
from gateway.upgrade import formats
from tests.harness import Rig, eventually
from tests.test_ledger_store import NOW, OCTOBER, done, write


async def ledger_of(rig: Rig) -> dict:
    found: dict = (await rig.admin("GET", "/v1/ledger"))["ledger"]
    return found


async def has(rig: Rig, count: int) -> None:
    async def enough() -> bool:
        return bool((await ledger_of(rig))["rows"] == count)

    deadline = time.monotonic() + 15
    while not await enough():
        assert time.monotonic() < deadline, await ledger_of(rig)
        await asyncio.sleep(0.1)


@pytest.fixture
def ctl(rig, inside):
    async def run(*args: str) -> tuple[int, str, str]:
        code, out, err = await inside(*args, "--config", str(rig.path))
        return code, out, err

    return run


async def test_from_a_call_to_a_row_while_it_runs_and_while_it_does_not(rig, ctl, tmp_path):
    await rig.engine("a")
    rig.model("qwen")
    await rig.start()
    for _ in range(3):
        await rig.chat("qwen", max_tokens=5)
    await rig.chat("nobody")
    await has(rig, 4)
    code, out, _ = await ctl("status")
    assert code == 0 and "ledger     ok, 4 requests" in out
    metrics = await rig.metrics()
    assert "gateway_ledger_rows_total 4.0" in metrics and "gateway_ledger_failing 0.0" in metrics
    for act in ("verify", "compact", "archive", "rebuild"):
        code, _, err = await ctl("ledger", act)
        assert code == 0, err
    assert {line["what"] for line in (await rig.admin("GET", "/v1/audit"))["audit"]} >= {
        "ledger compact",
        "ledger archive",
        "ledger rebuild",
    }
    code, out, _ = await ctl("ledger", "export")
    before = list(csv.DictReader(io.StringIO(out)))
    assert [row["tokens_out"] for row in before] == ["5", "5", "5", "0"] and before[3]["status"] == "404"

    # the ledger stands in for segments that are gone
    for path in [*(rig.data_dir / "journal").glob("*.ndjson"), *(rig.data_dir / "journal/kept").glob("*.gz")]:
        path.unlink()
    assert (await rig.admin("GET", f"/v1/requests/{before[0]['id'][:18]}"))["request"]["tokens"] == {"in": 4, "out": 5}
    assert [one["id"] for one in (await rig.admin("GET", "/v1/requests"))["requests"]] == [row["id"] for row in before]

    code, _, err = await ctl("ledger", "rebuild")
    assert code == 1 and "4 requests of" in err and len(await rows_of(ctl)) == 4
    await rig.stop()
    assert len(await rows_of(ctl)) == 4
    for act in ("status", "verify"):
        code, out, err = await ctl("ledger", act, "-o", "json")
        assert code == 0 and "not running" in err and json.loads(out) is not None
    target = tmp_path / "all.parquet"
    assert (await ctl("ledger", "export", "--format", "parquet", "--to", str(target)))[0] == 0 and target.read_bytes()[:4] == b"PAR1"
    assert (await ctl("ledger", "rebuild", "--force", "--yes"))[0] == 0 and await rows_of(ctl) == []


@pytest.mark.hard
async def test_what_a_newer_version_has_written_is_left_alone_while_it_does_not_run_too(rig, ctl, inside):
    await rig.engine("a")
    rig.model("qwen")
    await rig.start()
    await rig.chat("qwen", max_tokens=5)
    await has(rig, 1)
    await rig.stop()
    stamp = rig.data_dir / formats.STAMP
    stamp.write_text(json.dumps({"version": "9.9.9", "formats": {**formats.FORMATS, "ledger": 99}}))
    before = {path: path.read_bytes() for path in rig.data_dir.rglob("*") if path.is_file()}
    for act in (("ledger", "rebuild"), ("ledger", "verify"), ("usage", "top"), ("cost", "reprice", "--since", "7d"), ("ledger", "export")):
        code, _, err = await ctl(*act)
        assert code == formats.UNREADABLE and "was written by version 9.9.9" in err, (act, code, err)
    assert {path: path.read_bytes() for path in rig.data_dir.rglob("*") if path.is_file()} == before
    code, out, _ = await ctl("doctor", "--only", "files", "--bad")
    assert code == 6 and "was written by version 9.9.9" in out


async def rows_of(ctl) -> list[dict[str, str]]:
    code, out, err = await ctl("ledger", "export")
    assert code == 0, err
    return list(csv.DictReader(io.StringIO(out)))


@pytest.mark.hard
async def test_a_damaged_and_a_locked_ledger_stop_nobody_and_status_says_so(rig, ctl):
    await rig.engine("a")
    rig.model("qwen")
    await rig.start()
    await rig.chat("qwen")
    await has(rig, 1)
    await rig.stop()
    path = rig.data_dir / "ledger.duckdb"
    path.write_bytes(bytes(4096) + path.read_bytes()[4096:])
    code = f"import duckdb, sys; c = duckdb.connect({str(path) + '.other'!r}); print('mine', flush=True); sys.stdin.read()"
    rig.log_path.unlink()
    await rig.start()
    await rig.chat("qwen")
    await has(rig, 2)
    _, out, _ = await ctl("status")
    assert "built anew" in out and "corrupt-" in out

    await rig.stop()
    with subprocess.Popen([sys.executable, "-c", code.replace(".other", "")], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin and holder.stdout and holder.stdout.readline()
        rig.log_path.unlink()
        await rig.start()
        assert (await rig.chat("qwen")).status == 200
        await eventually(lambda: "ledger: IO Error" in rig.log(), within=10)
        code, out, err = await ctl("status")
        assert code == 6 and "the ledger is not well" in err and "failing" in out
        assert (await ctl("ledger", "compact"))[0] == 1
        for asked in (("usage", "top"), ("cost", "report"), ("usage", "reconcile")):
            code, _, err = await ctl(*asked)
            assert code == 1 and "it cannot be read now: IO Error" in err and str(holder.pid) in err, "why, and who has it"
            assert "http" not in err
        assert "gateway_ledger_failing 1.0" in await rig.metrics()
        holder.stdin.close()
        holder.wait(10)
    await has(rig, 3)
    assert (await ctl("status"))[0] == 0


@pytest.mark.hard
async def test_a_full_disk_loses_nothing(tmp_path):
    """No file may become larger than it is: that is a full disk without one."""
    journal = tmp_path / "journal"
    journal.mkdir()
    ledger = Ledger(tmp_path, Settings(memory=128 * 1024**2), clock=lambda: NOW)
    task = asyncio.create_task(ledger.run())
    write(journal, "0-a-000001", *(done() for _ in range(10)))
    await eventually(lambda: ledger.told()["rows"] == 10, within=10)
    for number in range(8):
        write(journal, f"0-b-{number:06d}", *(done(trace=os.urandom(40).hex()) for _ in range(2000)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, hard))
    try:
        await eventually(lambda: ledger.trouble and ledger.told()["waiting"], within=20)
        assert ledger.told()["state"] == "failing"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await eventually(lambda: ledger.told()["rows"] == 16_010 and not ledger.trouble, within=40)
    assert await ledger.act(lambda store, ingest: ingest.verify()) == [] and ledger.repairs == 0
    await ledger.close()
    await task


# -- two hundred kills -------------------------------------------------------------------------------------------------

KILLS = int(os.environ.get("LEDGER_KILLS", "200"))


class Callers:
    """Callers that never stop, and what they got: answers that they saw whole, by their own ids."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.got: dict[str, tuple[int, int]] = {}
        self.sent: set[str] = set()
        self._over = asyncio.Event()

    async def call(self, number: int) -> None:
        rng = random.Random(number)
        for turn in range(1_000_000):
            if self._over.is_set():
                return
            id = f"caller-{number}-{turn}"
            self.sent.add(id)
            try:
                stream = rng.random() < 0.5
                more = {"stream_options": {"include_usage": True}} if stream else {}
                headers = {"x-request-id": id}
                answer = await self._rig.chat(
                    "qwen", "hi " * rng.randint(1, 30), stream=stream, max_tokens=rng.randint(1, 20), headers=headers, **more
                )
                if answer.status == 200 and (not stream or answer.events[-1:] == ["[DONE]"]):
                    usage = json.loads(answer.events[-2] if stream else answer.body)["usage"]
                    self.got[id] = (usage["prompt_tokens"], usage["completion_tokens"])
            except (aiohttp.ClientError, OSError, TimeoutError):
                await asyncio.sleep(0.05)
            await asyncio.sleep(rng.random() * 0.05)

    def stop(self) -> None:
        self._over.set()


@pytest.mark.hard
@pytest.mark.timeout(3600)
async def test_two_hundred_kills_and_the_ledger_is_what_callers_got(rig):
    await rig.engine("a")
    rig.model("qwen")
    rig.config["workers"] = 2
    rig.config["journal"] = {"reserve": "1MiB", "every": "200ms", "segment": "64KiB"}
    wanted = rig.tmp / "place"
    await rig.start(env={"GATEWAY_FAILPOINT": str(wanted)})
    callers = Callers(rig)
    old: list[str] = []
    tasks = [asyncio.create_task(callers.call(number)) for number in range(8)]
    keeping = asyncio.create_task(_archive_all_the_time(rig, old))
    rng = random.Random(int(os.environ.get("LEDGER_SEED", "1")))
    hit: dict[str, int] = {}
    while sum(hit.values()) < KILLS:
        await asyncio.sleep(rng.random() * 0.3)
        place = rng.choice([*PLACES, "control", "worker-0", "worker-1"])
        if await _kill(rig, place, wanted):
            hit[place] = hit.get(place, 0) + 1
    keeping.cancel()
    callers.stop()
    await asyncio.gather(keeping, *tasks, return_exceptions=True)
    await eventually(lambda: _at_rest(rig), within=30)
    await rig.stop(within=30)
    ledger = Ledger(rig.data_dir, Settings(memory=128 * 1024**2))
    await asyncio.to_thread(close_orphans, rig.data_dir / "journal")
    await ledger.mend()
    wrong = await ledger.act(lambda store, ingest: ingest.verify())
    found = (await ledger.query('SELECT trace, id, tokens_in, tokens_out, status, "end" FROM usage', most=10**7)).rows
    await ledger.close()
    closed = sum(row[5].startswith("K") for row in found)
    print(f"\n{sum(hit.values())} kills: {hit}")
    print(f"{len(callers.got)} answers seen whole, {len(callers.sent)} calls, {len(found)} rows, {closed} of them closed for a dead worker")
    assert wrong == []
    assert len({row[1] for row in found}) == len(found), "an id is there twice"
    whole = {row[0]: (row[2], row[3]) for row in found if row[4] == 200 and not row[5].startswith("K")}
    assert {id: whole.get(id) for id in callers.got} == callers.got, "an answer that was seen is not in the ledger as it was"
    assert {row[0] for row in found} <= callers.sent | {"old"}
    assert sorted(row[1] for row in found if row[0] == "old") == sorted(old)
    traces = [row[0] for row in found if row[0] != "old"]
    assert len(set(traces)) == len(traces), "a call has two rows"


async def _archive_all_the_time(rig: Rig, old: list[str]) -> None:
    """Requests of months ago come, and are archived and bundled, and the file is compacted."""
    for number in range(1_000_000):
        records = [done(OCTOBER - 86_400 * 40 * (number % 3) + n, trace="old") for n in range(20)]
        source = write(rig.tmp, f"9-old-{number:06d}", *records)
        old.extend(one.id for one in records)
        os.rename(source.path, rig.data_dir / "journal" / source.path.name)
        for act in ("archive", "compact"):
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                await asyncio.wait_for(rig.admin("POST", f"/v1/ledger/{act}"), 20)
        await asyncio.sleep(0.5)


async def _at_rest(rig: Rig) -> bool:
    """Whoever was killed last is back, and the ledger has taken in what is sealed."""
    try:
        ledger, processes = await ledger_of(rig), (await rig.admin("GET", "/v1/status"))["processes"]
    except (aiohttp.ClientError, OSError, KeyError):  # control is not back, or its ledger is not yet
        return False
    return ledger["state"] == "ok" and ledger["waiting"] == 0 and all(one["state"] == "up" for one in processes)


async def _kill(rig: Rig, place: str, wanted: Path) -> bool:
    """At a failpoint, or anywhere."""
    if place not in PLACES:
        with contextlib.suppress(AssertionError, ProcessLookupError):
            os.kill(rig.pid_of(place), signal.SIGKILL)
            return True
        return False
    wanted.write_text(place)
    for _ in range(60):
        await asyncio.sleep(0.1)
        if not wanted.exists():
            return True
    wanted.unlink(missing_ok=True)
    return False

"""The journal: segments, torn lines, the progress table, dead workers, full disks. What an answer was, is written down once."""

import asyncio
import contextlib
import fcntl
import json
import os
import resource
import signal
import subprocess
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from gateway.config.resolved import Journal as Settings
from gateway.exchange import Exchange
from gateway.meter.account import Account
from gateway.meter.journal import RESERVE, Journal
from gateway.meter.metrics import Metrics
from gateway.meter.orphans import close_orphans
from gateway.meter.progress import CAPACITY, ENTRY, OPEN_MOST, Progress, left_open
from gateway.meter.records import Records
from gateway.meter.reserve import keep_reserve
from gateway.record import Attempt, Record, Tokens, decode_record, encode_record
from tests.harness import KEY, Rig, eventually, script


def settings(**more) -> Settings:
    return Settings(**{"segment": 65_536, "every": 2.0, "sync": "none", "reserve": 0, "on_failure": "serve", **more})


def record(id: str, kind: str = "done", **more) -> Record:
    return Record(1, kind, id, "n", 0, 1, 1000.0, **more)


def line(id: str, kind: str = "done", **more) -> bytes:
    return encode_record(record(id, kind, **more))


def lines(directory: Path, pattern: str = "*.ndjson") -> list[dict]:
    return [json.loads(text) for path in sorted(directory.glob(pattern)) for text in path.read_bytes().splitlines()]


@pytest.fixture
async def journal(tmp_path):
    journal = Journal(tmp_path, 0, "abc", settings())
    yield journal
    if journal.progress.path.exists():
        journal.close()


# -- segments ----------------------------------------------------------------------------------------------------------


async def test_lines_of_one_turn_are_written_together_before_the_answers_go(journal, tmp_path):
    told = []
    for number in range(3):
        journal.write(line(str(number)), lambda number=number: told.append((number, len(lines(tmp_path, "*.open")))))
    assert told == [] and lines(tmp_path, "*.open") == []
    await asyncio.sleep(0)
    assert told == [(0, 3), (1, 3), (2, 3)]


async def test_an_answer_that_cannot_be_ended_holds_up_no_other(journal):
    told = []
    journal.write(line("1"), lambda: 1 / 0)
    journal.write(line("2"), lambda: told.append(2))
    await asyncio.sleep(0)
    assert told == [2]


async def test_segments_are_sealed_by_age_and_by_size(journal, tmp_path):
    journal.tick(0.5)
    journal.write(line("1"))
    await asyncio.sleep(0)
    for now, sealed in ((1.0, 0), (2.9, 0), (3.1, 1), (9.0, 1)):  # an empty one is never sealed
        journal.tick(now)
        assert len(list(tmp_path.glob("*.ndjson"))) == sealed, now
    for number in range(2000):
        journal.write(line(str(number), model="m" * 50))
    await asyncio.sleep(0)
    journal.tick(9.1)
    journal.tick(9.2)
    assert len(list(tmp_path.glob("*.ndjson"))) == 2
    journal.close()
    assert len(lines(tmp_path)) == 2001
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".ndjson"] * 2, "an orderly end leaves nothing open"


async def test_an_open_segment_is_locked_for_as_long_as_it_is_written(journal, tmp_path):
    journal.write(line("1"))
    await asyncio.sleep(0)
    [path] = tmp_path.glob("*.open")
    with path.open("rb") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert close_orphans(tmp_path) == 0 and path.exists(), "a living worker's files are left alone"


async def test_group_sync_reaches_sealed_segments_too(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr("gateway.meter.journal.SYNC_EVERY", 0.01)
    monkeypatch.setattr(os, "fdatasync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    for sync, expected in (("none", 0), ("group", 2)):
        synced.clear()
        journal = Journal(tmp_path, 0, sync, settings(sync=sync))
        task = asyncio.create_task(journal.sync_for_ever())
        journal.write(line("1"))
        await asyncio.sleep(0)
        journal.tick(1.0)
        journal.tick(9.0)  # sealed before it was synced
        journal.write(line("2"))
        await asyncio.sleep(0.05)
        task.cancel()
        journal.close()
        assert len(synced) == expected, (sync, synced)
        assert len({path for path in synced if sync in path}) == expected


# -- the progress table ------------------------------------------------------------------------------------------------


async def test_an_open_request_stands_in_the_table_and_in_the_journal_only_when_the_table_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr("gateway.meter.progress.CAPACITY", 1)
    journal = Journal(tmp_path, 0, "abc", settings())
    account = Account(journal, Metrics(CollectorRegistry()), "n", 0)
    asked = [Exchange(id, id, SimpleNamespace(rev=7), "POST", "/v1/completions", {}, "10.0.0.9", 100.0, 1.7e9) for id in ("a", "b")]
    for x in asked:
        x.channel = "gpu"
    for x in (*asked, *asked):  # a second attempt opens nothing again
        account.open(x)
    journal.flush()
    assert [decode_record(open_line).id for open_line, _ in left_open(journal.progress.path)] == ["a"]
    assert [(entry["id"], entry["kind"], entry["channel"]) for entry in lines(tmp_path, "*.open")] == [("b", "open", "gpu")]
    for x in asked:
        account.settle(x, 101.0)
    journal.flush()
    assert left_open(journal.progress.path) == []
    journal.close()
    assert [(entry["id"], entry["kind"]) for entry in lines(tmp_path)] == [("b", "open"), ("a", "done"), ("b", "done")]


def test_the_table_keeps_what_is_open(tmp_path):
    table = Progress(tmp_path / "0-a.progress")
    one, two, three = table.take(b'{"id":1}\n'), table.take(b'{"id":2}\n'), table.take(b"x" * (OPEN_MOST - 1) + b"\n")
    table.usage(one, b'{"completion_tokens":5}')
    table.usage(one, b'{"completion_tokens":17}')
    table.usage(two, b"y" * 2000)  # does not fit: not noted
    table.usage(three, b'{"completion_tokens":1}')
    table.free(two)
    table.free(-1)
    table.usage(-1, b"{}")
    assert left_open(table.path) == [
        (b'{"id":1}\n', b'{"completion_tokens":17}'),
        (b"x" * (OPEN_MOST - 1) + b"\n", b'{"completion_tokens":1}'),
    ]
    assert table.take(b'{"id":4}\n') // ENTRY == two // ENTRY, "a free entry is used again"
    assert (b'{"id":4}\n', b"") in left_open(table.path), "and nothing of its last use is left"
    table.close()
    assert left_open(tmp_path / "0-a.progress") == []


def test_a_full_table_is_no_disaster(tmp_path, monkeypatch):
    monkeypatch.setattr("gateway.meter.progress.CAPACITY", 2)
    table = Progress(tmp_path / "0-a.progress")
    assert [table.take(b"{}\n") >= 0 for _ in range(3)] == [True, True, False]
    table.close()
    assert CAPACITY > 10_000


def _no_space(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_table_on_a_full_disk_takes_nothing_more(tmp_path, monkeypatch):
    """Writing into a map whose page has no place on the disk would kill the worker."""
    table = Progress(tmp_path / "0-a.progress")
    with monkeypatch.context() as full:
        full.setattr(os, "posix_fallocate", _no_space)
        assert table.take(b"{}\n") == -1
    places = [table.take(b"{}\n") for _ in range(100)]
    assert min(places) > 0 and len(set(places)) == 100
    table.close()


def test_a_table_that_the_disk_refuses_is_in_memory_until_it_does_not(tmp_path):
    with file_size_limit(8_000):
        table = Progress(tmp_path / "0-a.progress")
        one, two = table.take(b'{"id":1}\n'), table.take(b'{"id":2}\n')
        assert table.trouble and not table.keep()
        table.free(one)
    assert left_open(table.path) == []
    assert table.keep() and not table.trouble
    table.usage(two, b'{"completion_tokens":5}')
    assert left_open(table.path) == [(b'{"id":2}\n', b'{"completion_tokens":5}')]
    assert table.take(b'{"id":3}\n') // ENTRY == one // ENTRY
    table.close()
    assert list(tmp_path.iterdir()) == []


async def test_a_worker_that_begins_while_the_disk_refuses_every_file_serves(tmp_path, caplog):
    """One that was killed then must come back: a disk that is full, read-only or without inodes stops no traffic."""
    folder = tmp_path / "disk" / "journal"
    folder.parent.touch()
    journal = Journal(folder, 0, "abc", settings())
    assert journal.failing and "it is in memory, and a kill would lose it" in caplog.text
    told: list[int] = []
    place = journal.progress.take(line("1", "open"))
    journal.write(line("0"), partial(told.append, 0))
    journal.write(line("1"), partial(told.append, 1), place)
    await asyncio.sleep(0)
    journal.tick(1.0)
    assert told == [0, 1] and journal.failing
    folder.parent.unlink()
    place = journal.progress.take(line("2", "open"))
    journal.tick(1.1)
    assert not journal.failing and journal.lost == 0
    assert [open_line for open_line, _ in left_open(journal.progress.path)] == [line("2", "open")]
    journal.write(line("2"), None, place)
    await asyncio.sleep(0)
    journal.close()
    assert [entry["id"] for entry in lines(folder)] == ["0", "1", "2"]


# -- dead workers ------------------------------------------------------------------------------------------------------


def dies(directory: Path, what: str) -> None:
    """A worker incarnation that is killed after `what`. In a process of its own, as locks belong to processes."""
    code = f"""
import asyncio, os, signal
from pathlib import Path
from tests.test_journal import Journal, settings, line
async def main():
    journal = Journal(Path({str(directory)!r}), 0, "dead", settings())
    def put(*written):
        for one in written: journal.write(one)
        journal.flush()
{what}
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    done = subprocess.run(
        [".venv/bin/python" if Path(".venv").exists() else "python3", "-c", code], cwd=Path(__file__).parents[1], check=False
    )
    assert done.returncode == -signal.SIGKILL


def test_what_a_killed_worker_left_open_is_closed_with_its_counts(tmp_path):
    usage = '{"prompt_tokens":7,"completion_tokens":41,"prompt_tokens_details":{"cached_tokens":2}}'
    dies(
        tmp_path,
        f"""
    put(line("one", "open", tenant="acme"), line("two", "open"), line("three", "open"))
    places = [journal.progress.take(line(name, "open", tenant="acme")) for name in ("one", "two", "three")]
    journal.progress.usage(places[0], b'{usage}')
    put(line("two"))
    journal.progress.free(places[1])
    put(line("three"))  # killed between its line and the freeing of its entry
    os.write(journal._fd, b'{{"v":1,"kind":"do')
""",
    )
    assert close_orphans(tmp_path) == 1
    found = lines(tmp_path)
    done = {entry["id"]: entry for entry in found if entry["kind"] == "done"}
    assert len([entry for entry in found if entry["kind"] == "done"]) == 3 and set(done) == {"one", "two", "three"}
    killed = done["one"]
    assert (killed["end"], killed["error"], killed["source"], killed["tenant"]) == ("KD", "worker_killed", "continuous", "acme")
    assert killed["tokens"] == {"in": 7, "cached": 2, "out": 41}
    assert [path.suffix for path in tmp_path.iterdir()] == [".ndjson"]
    assert close_orphans(tmp_path) == 0 and lines(tmp_path) == found, "done again, it changes nothing"


@pytest.mark.parametrize("crash", ["after the lines", "after the seal"])
def test_closing_that_is_killed_itself_closes_nothing_twice(tmp_path, monkeypatch, crash):
    dies(tmp_path, """    put(line("one", "open"))\n    journal.progress.take(line("one", "open"))""")
    import gateway.meter.orphans as orphans

    with monkeypatch.context() as patch:
        if crash == "after the lines":
            patch.setattr(orphans, "_seal", lambda path: 1 / 0)
        else:
            patch.setattr(Path, "unlink", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            close_orphans(tmp_path)
    close_orphans(tmp_path)
    assert [entry["kind"] for entry in lines(tmp_path)] == ["open", "done"]


def test_one_dead_worker_whose_files_may_not_be_touched_keeps_no_other_open(tmp_path):
    dies(tmp_path, """    journal.progress.take(line("one", "open"))""")
    (tmp_path / "0-000.progress").mkdir()  # as one of another owner: nobody can open it for writing
    closed: list[bytes] = []
    with pytest.raises(OSError, match=r"0-000\.progress"):
        close_orphans(tmp_path, closed.append)
    assert len(closed) == 1 and [entry["kind"] for entry in lines(tmp_path)] == ["done"]


def test_a_worker_that_was_killed_before_it_wrote(tmp_path):
    dies(tmp_path, "    pass")
    assert close_orphans(tmp_path) == 0 and list(tmp_path.iterdir()) == []


def test_rubbish_in_a_table_or_a_segment_stops_nothing(tmp_path):
    dies(
        tmp_path,
        """
    put(b"not json\\n", line("one", "open"), b'{"kind":"done","id":5}\\n')
    journal.progress.take(b"rubbish\\n")
    journal.progress.usage(journal.progress.take(line("one", "open")), b'{"completion_tok')
""",
    )
    assert close_orphans(tmp_path) == 1
    last = lines_of_id(tmp_path, "one")[-1]
    assert last["end"] == "KD" and last["source"] == "none"


def lines_of_id(directory: Path, id: str) -> list[dict]:
    texts = [text for path in directory.glob("*.ndjson") for text in path.read_bytes().splitlines() if b'"%b"' % id.encode() in text]
    return [json.loads(text) for text in texts]


def test_a_record_is_what_it_was():
    before = record("1", tokens=Tokens(1, 2, 3, 4), attempts=[Attempt("first", "a", "http://x", "m", "ok", 200, 1.5)], end="--")
    assert decode_record(encode_record(before)) == before
    assert encode_record(before).count(b"\n") == 1


@pytest.mark.parametrize("limit", [1, 3, 4, 9])
def test_what_a_clock_showed_before_it_was_put_back_is_not_the_newest(tmp_path, limit):
    """It was a year ahead for the second and the third request, which fill a segment of their own."""
    now, year = 1.8e9, 366 * 86_400
    for name, written, *times in (("0-a-1", now - 40, -60, -50), ("0-a-2", now + year, year - 1, year), ("1-b-1", now, -30, -20, -10)):
        path = tmp_path / f"{name}.ndjson"
        path.write_bytes(b"".join(encode_record(Record(1, "done", f"{at}", "n", 0, 1, now + at)) for at in times))
        os.utime(path, (written, written))
    found = [int(one["id"]) for one in Records(tmp_path, clock=lambda: now).newest(limit)]
    assert found == [year - 1, year, -60, -50, -30, -20, -10][-limit:]


# -- a disk that is full ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def file_size_limit(size: int):
    """No file of this process may grow beyond `size`: the kernel's EFBIG stands for a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("on_failure", ["serve", "refuse"])
async def test_a_full_disk_loses_no_line_and_tears_none(tmp_path, on_failure):
    journal = Journal(tmp_path, 0, "abc", settings(on_failure=on_failure))
    told: list[int] = []
    place = journal.progress.take(line("299", "open"))
    with file_size_limit(8_000):
        for number in range(300):
            journal.write(line(str(number)), partial(told.append, number), place if number == 299 else -1)
            await asyncio.sleep(0)
        assert journal.failing and journal.refusing is (on_failure == "refuse")
        assert told == list(range(300)), "answers go on"
        [path] = tmp_path.glob("*.open")
        assert path.read_bytes().endswith(b"\n") and path.stat().st_size <= 8_000
        assert left_open(journal.progress.path), "until its line is in the file, the table keeps it"
        journal.tick(1.0)
        assert journal.failing
    journal.tick(2.0)
    assert not journal.failing and journal.lost == 0
    assert not journal.refusing or journal.tick(2.1) is None
    assert not journal.refusing and left_open(journal.progress.path) == []
    journal.close()
    assert [entry["id"] for entry in lines(tmp_path)] == [str(number) for number in range(300)]


async def test_what_waits_too_long_is_given_up_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("gateway.meter.journal.WAITING_MOST", 50)
    journal = Journal(tmp_path, 0, "abc", settings())
    with file_size_limit(0):
        for number in range(80):
            journal.write(line(str(number)))
        await asyncio.sleep(0)
        assert journal.failing and journal.lost == 30
    journal.close()
    assert [entry["id"] for entry in lines(tmp_path)] == [str(number) for number in range(30, 80)]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False).returncode
    ):
        pytest.skip("this user may not mount a small file system")
    yield disk
    subprocess.run(["umount", disk], check=True)


async def test_the_reserve_is_for_those_in_flight(small_disk):
    """Full disk, `refuse`: the reserve takes the lines of what is in flight, new requests wait until it can be made again."""
    size = 200_000
    assert keep_reserve(small_disk, size)
    journal = Journal(small_disk, 0, "abc", settings(reserve=size, on_failure="refuse", segment=10_000_000))
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096) == 4096:
            pass
    for number in range(1000):
        journal.write(line(str(number)))
        await asyncio.sleep(0)
    assert journal.refusing and not journal.failing, "new requests are refused, lines go into what the reserve left"
    assert not (small_disk / RESERVE).exists() and not keep_reserve(small_disk, size)
    journal.tick(1.0)
    assert journal.refusing
    ballast.unlink()
    assert keep_reserve(small_disk, size)
    journal.tick(1.1)
    assert not journal.refusing and journal.lost == 0
    journal.close()
    assert len(lines(small_disk)) == 1000


async def test_while_records_cannot_be_written_new_requests_are_refused(tmp_path):
    """The whole gateway, `on_failure: refuse`: its journal's disk fills up under it, and empties again."""
    if os.geteuid():
        pytest.skip("this user may not mount a small file system")
    async with Rig(tmp_path) as rig:
        await rig.engine("a", "vllm")
        rig.model("qwen")
        rig.config["journal"] = {"reserve": "0B", "every": "500ms", "on_failure": "refuse"}
        directory = rig.data_dir / "journal"
        directory.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", directory], capture_output=True, check=False).returncode:
            pytest.skip("this user may not mount a small file system")
        try:
            await rig.start()
            assert (await rig.chat("qwen")).status == 200
            ballast = directory / "ballast"
            with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while file.write(b"x" * 4096):
                    pass

            async def refused() -> bool:
                answer = await rig.chat("qwen")
                return answer.status == 503 and answer.json["error"]["code"] == "journal_unavailable"

            await eventually(refused)
            async with rig.session.get(rig.url + "/healthz") as answer:
                assert answer.status == 200
            ballast.unlink()

            async def served() -> bool:
                return (await rig.chat("qwen")).status == 200

            await eventually(served)
            assert "lost" not in {entry["error"] for entry in rig.records() if "error" in entry}
        finally:
            await rig.stop()
            subprocess.run(["umount", directory], check=True)


# -- kill -9, the whole gateway ------------------------------------------------------------------------------------------------


async def keeps_asking(rig: Rig, number: int, acked: set[str], until: float) -> None:
    """A caller that notes the id of each answer it saw whole."""
    count = 0
    while time.monotonic() < until:
        count += 1
        id = f"kill-{number}-{count}"
        with contextlib.suppress(OSError, aiohttp.ClientError, TimeoutError):
            answer = await rig.chat("qwen", stream=count % 2 == 0, max_tokens=6, headers={"x-request-id": id}, key=KEY)
            if answer.status == 200 and (answer.done or not answer.events):
                acked.add(id)


def worker_of(rig: Rig) -> int:
    """0 while its successor is on its way: one that keeps dying is started ever more slowly."""
    with contextlib.suppress(AssertionError):
        return rig.pid_of("worker-0")
    return 0


async def survives(rig: Rig, kills: int, callers: int) -> None:
    await rig.engine("a", "vllm", tps=200)
    rig.engines["a"].script = script()
    rig.model("qwen")
    await rig.start()
    acked: set[str] = set()
    until = time.monotonic() + kills * 1.2 + 0.5
    tasks = [asyncio.create_task(keeps_asking(rig, number, acked, until)) for number in range(callers)]
    for _ in range(kills):
        await asyncio.sleep(0.8)
        pid = await eventually(lambda: worker_of(rig))
        os.kill(pid, signal.SIGKILL)
    await asyncio.gather(*tasks, return_exceptions=True)

    def all_closed() -> bool:
        return not any(left_open(table) for table in (rig.data_dir / "journal").glob("*.progress"))

    await eventually(all_closed, within=15)
    await rig.stop()
    assert all_closed()
    raw = [json.loads(text) for path in (rig.data_dir / "journal").glob("*.ndjson") for text in path.read_bytes().splitlines()]
    done = [entry for entry in raw if entry["kind"] == "done"]
    ids = [entry["id"] for entry in done]
    assert len(ids) == len(set(ids)), "a request was recorded twice"
    good = {entry.get("trace") for entry in done if entry["end"] == "--"}
    assert len(acked) > kills * 5 and acked <= good, f"seen whole, but not recorded: {sorted(acked - good)[:5]}"
    killed = [entry for entry in done if entry["end"] == "KD"]
    assert killed and all(entry["error"] == "worker_killed" for entry in killed)


@pytest.mark.hard
async def test_a_killed_worker_loses_no_answer_that_was_seen_whole(rig: Rig) -> None:
    await survives(rig, 2, 12)


@pytest.mark.hard
@pytest.mark.timeout(300)
async def test_many_kills_under_load(rig: Rig) -> None:
    await survives(rig, 40, 40)

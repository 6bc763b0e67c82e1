"""The bus and the leash: all workers change or none, late comers are brought up to date, strangers are sent away."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.bus import client as bus_client
from gateway.bus import server as bus_server
from gateway.bus.client import BusClient
from gateway.bus.frames import VERSION, BusError, Parcel, frame, read_frame
from gateway.bus.leash import Leash
from gateway.bus.memory import to_memfd
from gateway.bus.server import BusServer
from gateway.config.load import load
from gateway.config.resolve import resolve
from gateway.config.resolved import FORMAT, Key, Resolved
from tests.harness import eventually


class Worker:
    """A worker as the bus sees it (bus.client.Swapper), and its client."""

    def __init__(self, path: Path, slot: int, rev: int = 1) -> None:
        self.rev = rev
        self.prepared: Parcel | None = None
        self.trouble = ""
        self.hangs = False
        self.aborts = 0
        self.keys = 0
        self.task = asyncio.create_task(BusClient(path, slot, self).run())

    async def prepare(self, parcel: Parcel) -> None:
        if self.hangs:
            await asyncio.sleep(60)
        if self.trouble:
            raise OSError(self.trouble)
        self.keys = sum(len(Parcel.keys(part)) for part in parcel.slices)
        self.prepared = parcel

    def commit(self, rev: int, spared: Sequence[str]) -> None:
        if self.prepared is not None and self.prepared.rev == rev:
            self.rev, self.prepared = rev, None

    def abort(self) -> None:
        self.aborts += 1
        self.prepared = None

    def health(self) -> dict[str, Any]:
        return {"in_flight": 3}

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


class Bus:
    """A server, its workers, and the pids that it killed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.server = BusServer(path)
        self.workers: list[Worker] = []
        self.killed: list[int] = []

    async def worker(self, slot: int, rev: int = 1) -> Worker:
        worker = Worker(self.path, slot, rev)
        self.workers.append(worker)
        await eventually(lambda: slot in self.server.links)
        return worker


@pytest.fixture
async def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bus]:
    made = Bus(tmp_path / "bus.sock")
    monkeypatch.setattr(made.server, "_kill", lambda link: made.killed.append(link.slot))
    await made.server.open()
    yield made
    for worker in made.workers:
        await worker.stop()
    await made.server.close()


def parcel(rev: int, keys: int = 0) -> Parcel:
    return Parcel.pack(rev, CONFIG, [Key(f"k{n}", bytes(32), "t", "p") for n in range(keys)])


@pytest.fixture(scope="module", autouse=True)
def _config(tmp_path_factory: pytest.TempPathFactory) -> None:
    global CONFIG
    path = tmp_path_factory.mktemp("bus") / "gateway.yaml"
    path.write_text('version: 1\nlisteners: {api: {bind: "127.0.0.1:1", serves: api}}\n')
    CONFIG = resolve(load(path))[0]


CONFIG: Resolved


async def test_all_workers_change_together(bus: Bus) -> None:
    workers = [await bus.worker(0), await bus.worker(1)]
    assert await bus.server.prepare(parcel(2, keys=4_500)) == {}
    assert [worker.rev for worker in workers] == [1, 1], "nobody swaps before the commit"
    await bus.server.commit(parcel(2, keys=4_500))
    assert [worker.rev for worker in workers] == [2, 2]
    assert [link.rev for link in bus.server.links.values()] == [2, 2]
    assert workers[0].keys == 4_500
    assert not bus.killed


async def test_one_that_cannot_keeps_all_from_changing_and_says_why(bus: Bus) -> None:
    good, bad = await bus.worker(0), await bus.worker(1)
    bad.trouble = "the certificate is gone"
    assert await bus.server.prepare(parcel(2)) == {1: "the certificate is gone"}
    bus.server.abort()
    await eventually(lambda: good.aborts)
    bad.trouble = ""
    assert await bus.server.prepare(parcel(2)) == {}, "the number was never used, so it is given again"
    await bus.server.commit(parcel(2))
    assert (good.rev, bad.rev, bus.killed) == (2, 2, [])


async def test_one_that_does_not_answer_is_replaced_and_holds_nobody_up(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_server, "PREPARE_PATIENCE", 0.2)
    good, hung = await bus.worker(0), await bus.worker(1)
    hung.hangs = True
    assert await bus.server.prepare(parcel(2)) == {}
    await bus.server.commit(parcel(2))
    assert good.rev == 2 and bus.killed[0] == 1


async def test_one_that_leaves_in_the_middle_holds_nobody_up(bus: Bus) -> None:
    good, leaver = await bus.worker(0), await bus.worker(1)
    leaver.hangs = True
    preparing = asyncio.create_task(bus.server.prepare(parcel(2)))
    await asyncio.sleep(0)
    await leaver.stop()
    assert await asyncio.wait_for(preparing, 2) == {}
    await bus.server.commit(parcel(2))
    assert good.rev == 2


async def test_late_comers_are_brought_to_the_current_revision(bus: Bus) -> None:
    bus.server.current = parcel(3)
    late = await bus.worker(0, rev=1)
    await eventually(lambda: late.rev == 3)
    same = await bus.worker(1, rev=3)
    assert same.prepared is None


async def test_one_that_comes_between_the_phases_is_shipped_at_the_commit(bus: Bus) -> None:
    bus.server.current = parcel(1)
    first = await bus.worker(0)
    await bus.server.prepare(parcel(2))
    second = await bus.worker(1)
    await bus.server.commit(parcel(2))
    assert (first.rev, second.rev, bus.killed) == (2, 2, []), "a healthy worker must not be killed for coming late"


async def test_one_that_cannot_take_what_everybody_serves_is_replaced(bus: Bus) -> None:
    bus.server.current = parcel(2)
    worker = Worker(bus.path, 0)
    worker.trouble = "no"
    bus.workers.append(worker)
    await eventually(lambda: bus.killed == [0])


async def test_workers_reconnect_and_forget_what_was_not_committed(bus: Bus) -> None:
    worker = await bus.worker(0)
    await bus.server.prepare(parcel(2))
    assert worker.prepared is not None
    await bus.server.close()
    await eventually(lambda: worker.prepared is None)
    bus.server = BusServer(bus.path)
    bus.server.current = parcel(2)
    await bus.server.open()
    await eventually(lambda: worker.rev == 2)


async def test_health_is_reported(bus: Bus) -> None:
    await bus.worker(0)
    await eventually(lambda: bus.server.links[0].health.get("in_flight") == 3)


@pytest.mark.parametrize(
    ("hello", "said"),
    [
        ({"v": VERSION + 1}, "speaks bus version"),
        ({"v": VERSION, "slot": 0, "pid": 4711, "parent": 1, "rev": 1}, "belongs to a gateway that has ended"),
    ],
)
async def test_strangers_are_sent_away_and_named_once(bus: Bus, caplog: pytest.LogCaptureFixture, hello: dict[str, Any], said: str) -> None:
    for _ in range(3):
        reader, writer = await asyncio.open_unix_connection(str(bus.path))
        writer.write(frame("hello", **hello))
        assert await asyncio.wait_for(reader.read(), 2) == b""
        writer.close()
    assert caplog.text.count(said) == 1
    assert not bus.server.links


async def test_a_worker_that_is_sent_away_asks_less_and_less_and_says_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bus_client, "RECONNECT", 0.01)
    caplog.set_level("INFO", "gateway.bus")
    visits: list[float] = []

    def send_away(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.append(asyncio.get_running_loop().time())
        writer.close()

    async with await asyncio.start_unix_server(send_away, str(tmp_path / "bus.sock")):
        worker = Worker(tmp_path / "bus.sock", 0)
        await eventually(lambda: len(visits) >= 5)
        await worker.stop()
    assert visits[4] - visits[0] >= 0.14, "0.01 + 0.02 + 0.04 + 0.08 s"
    assert caplog.text.count("control is away") == 1


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\x01\x00\x00\x00\xc1", b"\x01\x00\x00\x00\x80", b"\x03\x00\x00\x00\x93\x01\x02"])
async def test_what_is_no_frame_is_refused(data: bytes) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    with pytest.raises((BusError, asyncio.IncompleteReadError)):
        await read_frame(reader)


def test_a_parcel_survives_the_memfd_and_another_format_is_refused() -> None:
    fd = to_memfd(parcel(7, keys=2_001).to_bytes())
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        data = file.read()
    found = Parcel.from_bytes(data)
    assert (found.rev, found.config(), [len(Parcel.keys(part)) for part in found.slices]) == (7, CONFIG, [2_000, 1])
    for bad in (b"", b"\xc1", data[:-5], data.replace(b"format" + bytes([FORMAT]), b"format\x63")):
        with pytest.raises(BusError):
            Parcel.from_bytes(bad)


async def test_the_leash_carries_descriptors_and_tells_each_end_of_the_others_death() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    heard: list[tuple[dict[str, Any], list[int]]] = []
    lost: list[str] = []
    one = Leash(ours, lambda message, fds: heard.append((message, fds)), lambda: lost.append("one"))
    other = Leash(theirs, lambda message, fds: None, lambda: lost.append("other"))
    read, write = os.pipe()
    assert other.say({"say": "listen"}, [write])
    await eventually(lambda: heard)
    os.write(heard[0][1][0], b"x")
    assert os.read(read, 1) == b"x"
    for fd in (read, write, *heard[0][1]):
        os.close(fd)
    other.close()
    await eventually(lambda: lost == ["one"])
    assert not one.say({"say": "beat"}), "said to nobody, and no error"
    one.close()


async def test_a_leash_whose_other_end_does_not_read_does_not_hold_us_up() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    leash = Leash(ours, lambda message, fds: None, lambda: None)
    while leash.say({"say": "x" * 1000}):
        pass
    leash.close()
    theirs.close()

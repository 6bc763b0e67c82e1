"""Workers and control talk about seats over a real bus: exact together, usable without control, and never a seat lost on the way."""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.bus.client import BusClient
from gateway.bus.frames import Parcel, frame
from gateway.bus.server import BusServer, Link
from gateway.errors import Refusal
from gateway.referee import desk as desk_module
from gateway.referee import talk as talk_module
from gateway.referee.desk import Desk
from gateway.referee.line import Limits
from gateway.referee.seats import Seat, Seats
from tests.harness import eventually

WISHES = (("c", "c1"), ("c", "c2"))
TWO = {"c": Limits(channel=2)}


class Worker:
    """A worker's end: its bus client (which needs somebody that takes revisions) and its seats."""

    rev = 1

    def __init__(self, path: Path, slot: int, limits: dict[str, Limits], workers: int) -> None:
        self.slot = slot
        self.frames: list[dict[str, Any]] = []
        self.bus = BusClient(path, slot, self)
        self.seats = Seats(self.say, asyncio.get_running_loop())
        self.seats.adopt(limits, workers)
        self.bus.on("seats", self.seats.heard)
        self.bus.on_lost(self.seats.lost)
        self.task = asyncio.create_task(self.bus.run())

    def say(self, fields: dict[str, Any]) -> bool:
        self.frames.append(fields)
        return self.bus.say(frame("seats", **fields))

    async def prepare(self, parcel: Parcel) -> None: ...
    def commit(self, rev: int, spared: Sequence[str]) -> None: ...
    def abort(self) -> None: ...
    def health(self) -> dict[str, Any]:
        return {}

    @property
    def alone(self) -> bool:
        return self.seats._own is not None

    def ask(self, **more: Any) -> asyncio.Task[Seat | None]:
        return asyncio.create_task(self.seats.take(WISHES, **more))

    async def take(self, wishes: Sequence[tuple[str, str]] = WISHES, **more: Any) -> Seat:
        seat = await asyncio.wait_for(self.seats.take(wishes, **more), 5)
        assert seat is not None
        return seat

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self.seats.close()


class House:
    """Control's end, which can go and come back, and its workers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.workers: list[Worker] = []
        self.limits = TWO
        self.expected = 2

    async def open(self) -> None:
        self.bus = BusServer(self.path)
        self.frames: list[dict[str, Any]] = []
        self.deaf: list[tuple[Link, dict[str, Any]]] | None = None
        self.desk = Desk(self.say, asyncio.get_running_loop(), self.expected)
        self.desk.adopt(self.limits)
        self.bus.on("seats", self.heard)
        self.bus.greet(lambda link: self.desk.greet(link.slot, link.pid))
        self.bus.mourn(lambda link: self.desk.lost(link.slot))
        await self.bus.open()

    def say(self, slot: int, fields: dict[str, Any]) -> None:
        self.frames.append(fields)
        self.bus.links[slot].send(frame("seats", **fields))

    def heard(self, link: Link, message: dict[str, Any]) -> None:
        if self.deaf is not None:
            self.deaf.append((link, message))
        else:
            self.desk.heard(link.slot, message)

    async def close(self) -> None:
        self.desk.close()
        await self.bus.close()

    async def worker(self, slot: int) -> Worker:
        worker = Worker(self.path, slot, self.limits, self.expected)
        self.workers.append(worker)
        await eventually(lambda: not worker.alone)
        return worker

    def figure(self, name: str) -> Any:
        return self.desk.figures()["c"][name]

    async def settled(self) -> None:
        """No seat is taken and nobody waits."""
        await eventually(lambda: (self.figure("in_flight"), self.figure("queued")) == (0, 0))


@pytest.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.setattr(desk_module, "GATHER", 0.3)
    made = House(tmp_path / "bus.sock")
    await made.open()
    yield made
    for worker in made.workers:
        await worker.stop()
    await made.close()


@pytest.fixture
async def pair(house: House) -> tuple[Worker, Worker]:
    return await house.worker(0), await house.worker(1)


async def nobody(*tasks: asyncio.Task[Seat | None]) -> None:
    """None of these has an answer, though there was time for one."""
    await asyncio.sleep(0.05)
    assert not [task for task in tasks if task.done()]


async def test_two_workers_share_a_channel_exactly(house: House, pair: tuple[Worker, Worker]) -> None:
    one, two = pair
    first, second = await one.take(), await two.take()
    assert (first.channel, first.endpoint, first.number) == ("c", "c1", 0)
    waiting = [one.ask(), two.ask()]
    await nobody(*waiting)
    assert house.figure("queued") == 2
    two.seats.give_back(second)
    third = await asyncio.wait_for(waiting[0], 5)
    one.seats.give_back(first)
    fourth = await asyncio.wait_for(waiting[1], 5)
    assert third and fourth
    one.seats.give_back(third)
    two.seats.give_back(fourth)
    await house.settled()


async def test_everything_of_one_turn_travels_in_one_frame_each_way(house: House, pair: tuple[Worker, Worker]) -> None:
    house.desk.adopt({"c": Limits(channel=100)})
    one, _ = pair
    del one.frames[:], house.frames[:]
    seats = await asyncio.gather(*(one.take() for _ in range(64)))
    assert (len(one.frames), len(house.frames)) == (1, 1)
    for seat in seats:
        one.seats.give_back(seat)
    await house.settled()
    assert (len(one.frames), len(house.frames)) == (2, 1), "what is given back needs no answer"


async def test_an_endpoints_limit_is_kept_and_the_grant_names_the_wish(house: House, pair: tuple[Worker, Worker]) -> None:
    house.desk.adopt({"c": Limits(endpoint=1)})
    one, two = pair
    assert [(await worker.take()).endpoint for worker in (one, two)] == ["c1", "c2"]


async def test_who_has_somewhere_else_to_go_is_told_at_once(pair: tuple[Worker, Worker]) -> None:
    one, two = pair
    await one.take(), await one.take()
    assert await asyncio.wait_for(two.seats.take(WISHES, otherwise=True), 5) is None


async def test_a_full_line_is_told_as_an_overload_with_the_time_to_come_back(house: House, pair: tuple[Worker, Worker]) -> None:
    house.desk.adopt({"c": Limits(channel=1, length=0)})
    one, two = pair
    await one.take()
    begun = time.monotonic()
    with pytest.raises(Refusal) as no:
        await two.take()
    assert time.monotonic() - begun < 1.0, "or it would wait for 30 s"
    assert (no.value.status, no.value.code, no.value.log, no.value.phase) == (503, "upstream_overloaded", "queue_full", "Q")
    assert no.value.retry_after == 1.0
    assert no.value.message == "All engines of this model are busy and too many requests wait for them already, please try again later"


@pytest.mark.parametrize("control", [True, False])
async def test_who_waits_too_long_is_told_then(house: House, pair: tuple[Worker, Worker], control: bool) -> None:
    limits = {"c": Limits(channel=2, wait=0.1)}
    house.desk.adopt(limits)
    one, _ = pair
    one.seats.adopt(limits, 2)
    if not control:
        one.seats.lost()
    await one.take()
    if control:
        await one.take()
    begun = time.monotonic()
    with pytest.raises(Refusal) as no:
        await one.take()
    assert 0.09 < time.monotonic() - begun < 5
    assert no.value.log == "queue_late"
    assert no.value.message == "All engines of this model are busy and none became free in time, please try again later"


async def test_callers_that_leave_at_any_moment_lose_no_seat(house: House, pair: tuple[Worker, Worker]) -> None:
    """In the line; in the turn in which they asked; while the grant travels; in the turn in which it arrives."""
    one, two = pair
    held = [await one.take(), await one.take()]
    waiting, at_once = two.ask(), two.ask()
    await asyncio.sleep(0)
    at_once.cancel()
    await nobody(waiting)
    assert house.figure("queued") == 1
    waiting.cancel()
    await eventually(lambda: house.figure("queued") == 0)

    waiting = two.ask()
    await nobody(waiting)
    one.seats.give_back(held[0])
    await eventually(lambda: not house.figure("queued"), every=0)
    waiting.cancel()
    await eventually(lambda: house.figure("in_flight") == 1)

    waiting = two.ask()
    await eventually(lambda: two.seats._held, every=0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    one.seats.give_back(held[1])
    await house.settled()
    assert not two.seats._asked and not two.seats._held


@pytest.mark.parametrize("seed", range(3))
async def test_hundreds_of_callers_that_come_go_and_leave_never_exceed_the_limit(
    house: House, pair: tuple[Worker, Worker], seed: int
) -> None:
    luck = random.Random(seed)
    house.desk.adopt({"c": Limits(channel=5, endpoint=3, length=1000)})
    at = {"c1": 0, "c2": 0}
    most = {"c1": 0, "c2": 0, "both": 0}

    async def caller(worker: Worker) -> None:
        await asyncio.sleep(luck.random() * 0.2)
        seat = await worker.take(luck.sample(WISHES, 2), tenant=luck.choice("xyz"), priority=luck.randrange(3))
        at[seat.endpoint] += 1
        most[seat.endpoint] = max(most[seat.endpoint], at[seat.endpoint])
        most["both"] = max(most["both"], sum(at.values()))
        try:
            await asyncio.sleep(luck.random() * 0.004)
        finally:
            at[seat.endpoint] -= 1
            worker.seats.give_back(seat)

    tasks = [asyncio.create_task(caller(worker)) for worker in pair for _ in range(200)]
    for task in luck.sample(tasks, 100):
        asyncio.get_running_loop().call_later(luck.random() * 0.3, task.cancel)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert not [task for task in tasks if not task.cancelled() and task.exception()]
    assert most == {"c1": 3, "c2": 3, "both": 5}
    await house.settled()


# -- who dies and comes back --------------------------------------------------------------------------------------------


async def test_a_dead_workers_seats_go_to_the_others(house: House, pair: tuple[Worker, Worker]) -> None:
    one, two = pair
    await one.take(), await one.take()
    lost = one.ask()
    await nobody(lost)
    waiting = two.ask()
    await nobody(waiting)
    one.task.cancel()
    assert await asyncio.wait_for(waiting, 5)
    await two.take()
    assert (house.figure("in_flight"), house.figure("queued")) == (2, 0)
    lost.cancel()


async def test_a_successor_that_comes_before_the_death_is_noticed_holds_nothing(house: House, pair: tuple[Worker, Worker]) -> None:
    one, _ = pair
    await one.take(), await one.take()
    house.desk.greet(0, os.getpid())
    assert house.figure("in_flight") == 2, "the same worker: it will say what it holds"
    house.desk.greet(0, os.getpid() + 1)
    assert house.figure("in_flight") == 0


async def test_without_control_each_worker_takes_its_share_and_says_what_it_holds_when_control_is_back(
    house: House, pair: tuple[Worker, Worker]
) -> None:
    one, two = pair
    held = await one.take()
    hers = await two.take()
    waiting = one.ask()
    await nobody(waiting)
    await house.close()
    await eventually(lambda: one.alone and two.alone)
    await nobody(waiting)
    one.seats.give_back(held)
    again = await asyncio.wait_for(waiting, 5)
    waiting = one.ask()
    two.seats.give_back(hers)
    hers = await two.take()
    await nobody(waiting)

    await house.open()
    await eventually(lambda: not one.alone and not two.alone)
    await eventually(lambda: (house.figure("in_flight"), house.figure("queued")) == (2, 1))
    two.seats.give_back(hers)
    seat = await asyncio.wait_for(waiting, 5)
    assert again and seat
    for each in (again, seat):
        one.seats.give_back(each)
    await house.settled()


async def test_control_that_is_new_gives_nothing_away_until_it_knows_what_is_taken(
    house: House, pair: tuple[Worker, Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk_module, "GATHER", 30.0)  # however long a busy machine takes to bring the second worker back
    one, two = pair
    held = await one.take(), await one.take()
    await house.close()
    await one.stop()
    await house.open()
    await eventually(lambda: not two.alone)
    waiting = two.ask()
    await nobody(waiting)
    one.task = asyncio.create_task(one.bus.run())
    await eventually(lambda: house.figure("queued") == 1)
    await nobody(waiting)
    one.seats.give_back(held[0])
    assert await asyncio.wait_for(waiting, 5)


async def test_control_does_not_wait_for_workers_that_never_come(house: House) -> None:
    one = await house.worker(0)
    begun = time.monotonic()
    await one.take()
    assert time.monotonic() - begun < 1.0


async def test_when_control_is_silent_a_worker_goes_on_alone_and_comes_back_when_it_speaks(
    house: House, pair: tuple[Worker, Worker], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(talk_module, "PATIENCE", 0.1)
    one, two = pair
    held = await one.take()
    house.deaf = []
    waiting = [one.ask() for _ in range(2)]
    await eventually(lambda: one.alone)
    assert "control does not answer" in caplog.text
    await nobody(*waiting)
    one.seats.give_back(held)
    first = await asyncio.wait_for(waiting[0], 5)
    assert first is not None

    deaf, house.deaf = house.deaf, None
    for link, message in deaf:
        house.desk.heard(link.slot, message)
    await eventually(lambda: not one.alone)
    second = await asyncio.wait_for(waiting[1], 5)
    assert second is not None and house.figure("in_flight") == 2
    await nobody(last := two.ask())
    for seat in (first, second):
        one.seats.give_back(seat)
    assert await asyncio.wait_for(last, 5)
    await eventually(lambda: house.figure("in_flight") == 1)


async def test_control_that_has_read_the_question_is_not_silent(
    house: House, pair: tuple[Worker, Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talk_module, "PATIENCE", 0.05)
    one, two = pair
    await one.take(), await two.take()
    waiting = two.ask()
    await asyncio.sleep(0.2)
    assert not two.alone and not waiting.done()
    waiting.cancel()


async def test_what_was_never_heard_of_control_is_decided_alone(tmp_path: Path) -> None:
    worker = Worker(tmp_path / "nobody.sock", 0, {"c": Limits(channel=4, length=2)}, 4)
    seat = await worker.take()
    waiting = worker.ask()
    await nobody(waiting)
    with pytest.raises(Refusal) as no:
        await worker.take()
    assert no.value.log == "queue_full"
    worker.seats.adopt({"c": Limits(channel=8, length=2)}, 4)
    assert await asyncio.wait_for(waiting, 5)
    worker.seats.give_back(seat)
    await worker.stop()


# -- overload -----------------------------------------------------------------------------------------------------------


async def test_at_five_times_the_load_only_who_sends_too_much_is_shed(house: House, pair: tuple[Worker, Worker]) -> None:
    """How much is served, and how soon who is shed knows, `bench/seats.py` and the simulations in test_referee.py say."""
    house.desk.adopt({"c": Limits(channel=20, length=40, wait=5.0)})
    luck = random.Random(1)
    hold, seconds = 0.05, 1.5  # 400 a second
    served: dict[str, int] = {"loud": 0, "small": 0}
    shed: dict[str, int] = {"loud": 0, "small": 0}
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds

    async def caller(worker: Worker, tenant: str) -> None:
        try:
            seat = await worker.take(tenant=tenant)
        except Refusal:
            shed[tenant] += 1
            return
        await asyncio.sleep(hold)
        worker.seats.give_back(seat)
        served[tenant] += loop.time() < end

    tasks: set[asyncio.Task[None]] = set()
    while loop.time() < end:
        for _ in range(20):
            tasks.add(asyncio.create_task(caller(luck.choice(pair), "small" if luck.random() < 0.02 else "loud")))
        await asyncio.sleep(0.01)
    await asyncio.gather(*tasks)
    assert served["small"] and served["loud"] and shed["loud"] and not shed["small"]
    await house.settled()

"""All workers act on the same states: control and two workers, talking over a real bus, before endpoints that nobody asks."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.admin.desk import NoSuch
from gateway.bus import hearing, server
from gateway.bus.client import BusClient
from gateway.bus.frames import Parcel, frame
from gateway.bus.server import BusServer
from gateway.config.resolved import Channel
from gateway.discover.drains import Drains
from gateway.discover.endpoints import Endpoints
from gateway.discover.finding import ModelSeen, Probe
from gateway.engine.base import Load as Figures
from gateway.govern import agreement as module
from gateway.govern.agreement import Agreement
from gateway.govern.survey import survey
from gateway.route.breaker import OTHERS_MOST, TURN, Breaker, BreakerSettings
from gateway.route.load import Load
from gateway.serve.watch import Watch
from tests.harness import eventually
from tests.test_discover_endpoints import by_name, channel

A, B, C = "http://10.0.0.1:1", "http://10.0.0.2:1", "http://10.0.0.3:1"
WELL = Probe(url="u", reachable=True, status=200, engine="vllm", models=[ModelSeen(id="qwen3", context_length=4096)])
GONE = Probe(url="u", trouble="refused", error="connection refused")


def live(*urls: str, kept: dict[str, Any] | None = None) -> dict[str, Any]:
    """Channel `gpu` as a worker has it."""
    endpoints = [(kept or {}).get(url) or SimpleNamespace(url=url, breaker=Breaker(), load=Load(), lengths={}) for url in urls]
    return {"gpu": SimpleNamespace(endpoints=endpoints)}


class Worker:
    """A worker, as far as it watches."""

    rev = 1

    def __init__(self, path: Path, slot: int, *urls: str) -> None:
        self.path, self.slot = path, slot
        self.channels = live(*urls)
        self.reported: list[dict[str, Any]] = []
        self.watch = Watch(lambda: self.channels)
        self.task: asyncio.Task[None] | None = None

    def connect(self) -> None:
        bus = BusClient(self.path, self.slot, self)
        self.watch.connect(bus)
        self.task = asyncio.create_task(bus.run())

    async def leave(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    def at(self, url: str) -> Any:
        return next(one for one in self.channels["gpu"].endpoints if one.url == url)

    def state(self, url: str = A) -> str:
        return str(self.at(url).breaker.state(time.monotonic()))

    def fails(self, url: str = A, times: int = 5, reason: str = "status_503") -> None:
        """As a hop does it."""
        breaker, now = self.at(url).breaker, time.monotonic()
        for _ in range(times):
            if breaker.failure(now, reason):
                self.watch.notice("gpu", url, "ejected", reason, breaker.remaining(now))

    def serves(self, url: str = A) -> None:
        """A request is sent and succeeds."""
        breaker, now = self.at(url).breaker, time.monotonic()
        breaker.begin(now)
        if breaker.success(now):
            self.watch.notice("gpu", url, "recovered", "", 0.0)

    async def prepare(self, parcel: Parcel) -> None: ...
    def commit(self, rev: int, spared: Sequence[str]) -> None: ...
    def abort(self) -> None: ...

    def health(self) -> dict[str, Any]:
        return {"endpoints": self.reported}


class Control:
    """Control, as far as workers and it agree."""

    def __init__(self, folder: Path, *urls: str) -> None:
        self.folder = folder
        self.endpoints = Endpoints()
        self.adopt(*urls)
        self.bus = BusServer(folder / "bus.sock")
        self.expected = 0
        self.agreement = Agreement(self.endpoints, Drains.of_file(folder / "drains.json"), self.bus, lambda: self.expected)

    @property
    def channel(self) -> Channel:
        return next(iter(self.endpoints.looks().values())).channel

    def adopt(self, *urls: str) -> None:
        self.endpoints.adopt(by_name(channel("gpu", *urls)) if urls else {})

    def finds(self, url: str, found: Probe) -> None:
        self.endpoints._learn(self.endpoints.looks()["gpu", url], found, whole=False)

    def measures(self, url: str, running: float, waiting: float, kv_use: float) -> None:
        look = self.endpoints.looks()["gpu", url]
        look.vitals.load, look.vitals.at = Figures(running, waiting, kv_use), time.monotonic()
        self.endpoints._seen(look, False, True)

    def seen(self, url: str = A) -> dict[str, Any]:
        found = survey(self.endpoints, self.agreement, self.bus.links.values(), by_name(self.channel))
        return next(one for one in found if one["endpoint"] == url)


class House:
    """One control, its workers, and their ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workers: list[Worker] = []
        self.control = Control(folder, A, B)

    async def open(self, workers: int = 2) -> list[Worker]:
        await self.control.bus.open()
        return [await self.worker(slot) for slot in range(workers)]

    async def worker(self, slot: int) -> Worker:
        worker = Worker(self.folder / "bus.sock", slot, A, B)
        self.workers.append(worker)
        worker.connect()
        await asyncio.wait_for(worker.watch._greeted.wait(), 5)
        return worker

    async def restart(self) -> None:
        """Another control in the place of the first."""
        await self.control.bus.close()
        self.control = Control(self.folder, A, B)
        await self.control.bus.open()
        await eventually(lambda: len(self.control.bus.links) == len(self.workers))


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(tmp_path)
    yield made
    for worker in made.workers:
        await worker.leave()
    await made.control.bus.close()


async def everywhere(workers: list[Worker], state: str, url: str = A) -> None:
    """All workers are of one mind, within the second that is promised."""
    await eventually(lambda: {worker.state(url) for worker in workers} == {state}, within=1.0)


# -- what workers meet ------------------------------------------------------------------------------------------------


async def test_what_one_worker_ejects_all_eject_and_what_one_recovers_all_recover(house):
    one, two = await house.open()
    one.fails()
    await everywhere([one, two], "ejected")
    assert two.state(B) == "up" and 9 < two.at(A).breaker.remaining(time.monotonic()) <= 10
    assert house.control.seen()["ejections"] == {"status_503": 1}
    assert (house.control.seen()["state"], house.control.seen()["why"]) == ("ejected", "status_503")
    two.serves()
    await everywhere([one, two], "up")
    assert house.control.seen()["state"] == "up" and house.control.agreement.ejection("gpu", A) is None


async def test_a_clock_that_is_put_forward_makes_no_state_older(house):
    """As on a machine that begins in 1970 and is told the time a minute later."""
    one, _ = await house.open()
    control = house.control
    one.fails()
    await eventually(lambda: control.agreement.ejection("gpu", A) is not None)
    control.endpoints.looks()["gpu", B].since, since = 100.0, control.agreement.ejection("gpu", A).since
    await control.agreement.drain(control.channel, B, by="me", seconds=60.0)
    until = control.seen(B)["drained"]["until"]
    await control.agreement.keep_pace(time.time() + 0.3)
    assert control.endpoints.looks()["gpu", B].since == 100.0
    await control.agreement.keep_pace(time.time() + 1_000_000)
    control.endpoints.looks()["gpu", B].since -= 1_000_000
    for drains in (control.agreement.drains, Drains.of_file(house.folder / "drains.json")):
        assert [round(one.until - until - 1_000_000) for one in drains.of_channel("gpu") if one.until] == [0]
    assert control.endpoints.looks()["gpu", B].since == pytest.approx(100, abs=2)
    assert control.agreement.ejection("gpu", A).since - since - 1_000_000 == pytest.approx(0, abs=2)


async def test_two_that_meet_the_same_at_once_count_once(house):
    one, two = await house.open()
    one.fails()
    two.fails()
    await everywhere([one, two], "ejected")
    await eventually(lambda: house.control.agreement._number >= 2)
    assert house.control.seen()["ejections"] == {"status_503": 1}


async def test_of_two_ejected_in_the_same_moment_one_stays_in(house):
    """Each worker sees half of the channel; together they would eject all of it."""
    one, two = await house.open()
    one.fails(A)
    two.fails(B)
    await eventually(lambda: len({(w.state(A) == "ejected", w.state(B) == "ejected") for w in (one, two)}) == 1, within=1.0)
    assert sum(one.state(url) == "ejected" for url in (A, B)) == len(house.control.agreement._ejections) == 1


async def test_opposite_words_at_the_same_time_end_in_one_mind(house):
    """One worker's trial succeeds, the other's fails, and each hears of the other afterwards."""
    one, two = await house.open()
    one.fails()
    await everywhere([one, two], "ejected")
    one.serves()
    breaker, now = two.at(A).breaker, time.monotonic()
    breaker._until, breaker._others = now - 1, 0.0  # its cooldown is over, and so is the turn of the other one
    breaker.begin(now)
    assert breaker.failure(now, "reset")
    two.watch.notice("gpu", A, "ejected", "reset", breaker.remaining(now))
    await eventually(lambda: house.control.agreement._number >= 3)
    await eventually(lambda: one.state() == two.state(), within=1.0)
    assert (house.control.agreement.ejection("gpu", A) is not None) == (one.state() == "ejected")


async def test_after_the_cooldown_one_trial_is_made_for_all(house):
    workers = one, two, three = await house.open(3)  # slots 0, 1, 2
    two.fails()
    await everywhere(workers, "ejected")

    def due(later: float = 0.0) -> list[int]:
        """Whose next request would be a trial, when the cooldown is over."""
        now = time.monotonic() + later
        return [worker.slot for worker in workers if worker.at(A).breaker.due(now)]

    cooldown = BreakerSettings().cooldown
    assert due(cooldown - 1) == [] and due(cooldown + 0.1) == [1] and due(cooldown + TURN + 0.1) == [0, 1, 2]
    now = time.monotonic() + cooldown + TURN + 0.1
    one.at(A).breaker.begin(now)  # worker 1 had no request in that time
    one.watch.notice("gpu", A, "trial", "", 0.0)
    await eventually(lambda: two.at(A).breaker._others and three.at(A).breaker._others > time.monotonic() + OTHERS_MOST - 2, within=1.0)
    assert due(cooldown + TURN + 0.2) == []


async def test_an_engine_that_asks_one_worker_for_rest_gets_it_from_all(house):
    one, two = await house.open()
    one.watch.notice("gpu", A, "rests", "", 30.0)
    await eventually(lambda: two.state() == "busy", within=1.0)
    assert 29 < two.at(A).breaker.rests(time.monotonic()) <= 30 and two.state(B) == "up"
    assert one.state() == "up", "what is ours is not told us"


async def test_an_ejection_whose_time_is_over_is_on_trial(house):
    (one,) = await house.open(1)
    one.watch.notice("gpu", A, "ejected", "reset", 0.0)
    seen = await eventually(lambda: house.control.seen() if house.control.seen()["state"] == "ejected" else None)
    assert seen["why"] == "reset; on trial"
    two = await house.worker(1)
    assert two.state() == "ejected", "who comes later tries it first, too"


async def test_an_ejection_that_no_worker_knows_of_is_forgotten(house, monkeypatch):
    """Half of the channel was out already, so each serves on; nobody recovers what he has not ejected."""
    monkeypatch.setattr(module, "FORGOTTEN", 0.0)
    one, two = await house.open()
    agreement = house.control.agreement
    one.fails()
    await everywhere([one, two], "ejected")
    out = {"channel": "gpu", "endpoint": A, "why": "", "in_flight": 0, "errors": 0, "ttft": 0, "handshakes": 0, "for": 1.0}
    one.reported = [{**out, "state": "degraded"}]
    two.reported = [{**out, "state": "ejected"}]
    await eventually(lambda: all(link.health.get("endpoints") for link in house.control.bus.links.values()))
    agreement.settle()
    assert agreement.ejection("gpu", A), "its cooldown goes on"
    agreement.ejection("gpu", A).until = time.monotonic() - 1
    agreement.settle()
    assert agreement.ejection("gpu", A), "one worker still says so"
    two.reported = []
    await eventually(lambda: not house.control.bus.links[1].health["endpoints"])
    agreement.settle()
    assert agreement.ejection("gpu", A) is None
    await everywhere([one, two], "up")


async def test_events_of_endpoints_that_are_gone_are_passed_over(house):
    one, two = await house.open()
    one.watch.notice("gpu", C, "ejected", "reset", 10.0)
    one.watch.notice("gpu", B, "recovered", "", 0.0)
    one.fails(B)
    await everywhere([one, two], "ejected", B)
    assert house.control.agreement.ejection("gpu", C) is None


# -- what control finds -----------------------------------------------------------------------------------------------


async def test_what_control_finds_is_told_and_taken_back(house):
    workers = await house.open()
    house.control.finds(A, GONE)
    await everywhere(workers, "down")
    assert workers[0].at(A).breaker.why == "connection refused" and workers[0].state(B) == "up"
    house.control.finds(A, WELL)
    await everywhere(workers, "up")


async def test_who_was_down_since_it_was_ejected_begins_anew(house):
    """Nobody may come for hours whose request would try it: meanwhile it would be said to be ejected, with an alert."""
    workers = await house.open()
    house.control.finds(A, WELL)
    workers[0].fails()
    await everywhere(workers, "ejected")
    house.control.finds(A, GONE)
    await everywhere(workers, "down")
    house.control.finds(A, WELL)
    await everywhere(workers, "up")
    assert house.control.agreement.ejection("gpu", A) is None and house.control.seen()["state"] == "up"
    for worker in workers:
        assert "coming back slowly" in worker.at(A).breaker.why
    workers[0].fails()
    await everywhere(workers, "ejected")
    house.control.finds(A, WELL)
    assert workers[1].state() == "ejected", "a look that was no other than before it proves nothing"


@pytest.mark.parametrize(("reason", "after"), [("connect", "up"), ("timeout_connect", "up"), ("status_503", "ejected")])
async def test_a_look_tries_what_nobody_could_connect_to(house, reason, after):
    workers = await house.open()
    house.control.finds(A, WELL)
    workers[0].fails(reason=reason)
    await everywhere(workers, "ejected")
    house.control.finds(A, WELL)
    assert house.control.agreement.ejection("gpu", A), "its cooldown goes on"
    house.control.agreement.ejection("gpu", A).until = time.monotonic()
    house.control.finds(A, Probe(url="u", trouble="timeout", error="no answer in time"))
    assert house.control.agreement.ejection("gpu", A), "this look did not reach it"
    house.control.finds(A, WELL)
    await everywhere(workers, after)


async def test_a_worker_that_comes_later_is_told_everything(house):
    one, _ = await house.open()
    house.control.finds(A, GONE)
    house.control.finds(B, WELL)
    house.control.measures(B, 3, 2, 0.5)
    one.fails(B)
    await eventually(lambda: house.control.agreement.ejection("gpu", B))
    late = await house.worker(2)
    assert (late.state(A), late.state(B)) == ("down", "ejected")
    await eventually(lambda: late.at(B).lengths == {"qwen3": 4096})
    assert (late.at(B).load.running, late.at(B).load.waiting, late.at(B).load.kv_use) == (3, 2, 0.5)
    assert late.at(A).load.scraped == 0.0


async def test_figures_and_context_lengths_reach_workers(house):
    one, two = await house.open()
    measured: list[bool] = []
    two.watch.measured = lambda: measured.append(True)
    house.control.finds(A, WELL)
    house.control.measures(A, 7, 0, 0.25)
    lengths = one.at(A).lengths
    await eventually(lambda: two.at(A).load.running == 7 and lengths == {"qwen3": 4096})
    assert two.at(A).load.fresh(time.monotonic()) and measured == [True]
    house.control.measures(A, 8, 0, 0.25)
    await eventually(lambda: two.at(A).load.running == 8)
    assert measured == [True], "lengths are told when they change"


# -- what outlives what -----------------------------------------------------------------------------------------------


async def test_a_swap_keeps_states_and_new_endpoints_begin_with_theirs(house):
    (one,) = await house.open(1)
    house.control.finds(A, GONE)
    await everywhere([one], "down")
    house.control.adopt(A, B, C)
    house.control.finds(C, GONE)
    await eventually(lambda: ("gpu", C) in one.watch._told)
    kept = {A: one.at(A)}
    coming = live(A, C, kept=kept)
    one.watch.adopt(coming)
    one.channels = coming
    assert (one.state(A), one.state(C)) == ("down", "down")
    house.control.adopt(A)
    await eventually(lambda: ("gpu", C) not in one.watch._told)
    assert house.control.agreement._words.keys() == {("gpu", A)}


async def test_a_control_that_was_started_again_is_told_what_is_ejected(house):
    workers = await house.open()
    house.control.finds(A, GONE)
    house.control.finds(B, WELL)
    workers[0].fails(B)
    await everywhere(workers, "ejected", B)
    await house.restart()
    await eventually(lambda: house.control.agreement.ejection("gpu", B))
    await everywhere(workers, "ejected", B)
    assert [worker.state(A) for worker in workers] == ["down", "down"], "until it was looked at, the old word counts"
    house.control.finds(A, WELL)
    await everywhere(workers, "up")


async def test_what_happened_while_control_was_away_is_told_afterwards(house):
    one, two = await house.open()
    two.fails(B)
    await everywhere([one, two], "ejected", B)
    await house.control.bus.close()
    await eventually(lambda: not one.watch._say(frame("nothing")) and not two.watch._say(frame("nothing")))
    one.fails()
    two.serves(B)
    assert (one.state(A), two.state(A), one.state(B), two.state(B)) == ("ejected", "up", "ejected", "up")
    await house.control.bus.open()
    await everywhere([one, two], "ejected", A)
    await everywhere([one, two], "up", B)


async def test_what_others_recovered_meanwhile_counts_for_one_that_was_away(house):
    one, two = await house.open()
    one.fails()
    await everywhere([one, two], "ejected")
    await two.leave()
    await eventually(lambda: len(house.control.bus.links) == 1)
    one.serves()
    await eventually(lambda: house.control.agreement.ejection("gpu", A) is None)
    two.connect()
    await everywhere([one, two], "up")


async def test_a_worker_waits_for_control_only_for_a_moment(tmp_path):
    worker = Worker(tmp_path / "nobody.sock", 0, A)
    worker.connect()
    began = time.monotonic()
    await worker.watch.greeted(0.05)
    assert 0.05 <= time.monotonic() - began < 5
    await worker.leave()


# -- drains -----------------------------------------------------------------------------------------------------------


async def test_a_drain_is_told_before_it_is_answered_and_survives(house):
    workers = await house.open()
    assert await house.control.agreement.drain(house.control.channel, A, by="ann", seconds=None) == []
    assert [worker.state(url) for worker in workers for url in (A, B)] == ["draining", "up"] * 2
    assert all(worker.at(A).breaker.barred for worker in workers)
    assert house.control.seen()["drained"]["by"] == "ann" and house.control.seen()["why"] == "drained by ann"
    await house.restart()
    assert house.control.seen()["state"] == "draining"
    late = await house.worker(2)
    assert late.state() == "draining"
    assert await house.control.agreement.undrain(house.control.channel, A, by="ann") == (True, [])
    assert {worker.state() for worker in house.workers} == {"up"}
    assert await house.control.agreement.undrain(house.control.channel, None, by="ann") == (False, [])
    assert json.loads((house.folder / "drains.json").read_text()) == {"format": 1, "drains": []}


async def test_a_drained_channel_is_drained_with_all_that_comes(house):
    (one,) = await house.open(1)
    control = house.control
    await control.agreement.drain(control.channel, None, by="ann", seconds=3600)
    assert (one.state(A), one.state(B)) == ("draining", "draining")
    assert re.fullmatch(r"drained by ann until 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d", control.seen()["why"])
    control.adopt(A, B, C)
    await eventually(lambda: ("gpu", C) in one.watch._told)
    one.channels = live(A, B, C)
    one.watch.adopt(one.channels)
    assert one.state(C) == "draining"
    with pytest.raises(NoSuch, match="as a whole"):
        await control.agreement.undrain(control.channel, A, by="ann")
    assert await control.agreement.undrain(control.channel, None, by="ann") == (True, [])
    assert one.state(C) == "up"


async def test_a_drain_ends_by_itself(house):
    (one,) = await house.open(1)
    task = asyncio.create_task(house.control.agreement.keep())
    await house.control.agreement.drain(house.control.channel, A, by="ann", seconds=0.2)
    assert one.state() == "draining"
    await eventually(lambda: one.state() == "up")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_who_is_drained_and_down_is_not_asked_even_when_nobody_else_is_left(house):
    (one,) = await house.open(1)
    control = house.control
    one.fails(A, 5)
    await eventually(lambda: control.agreement.ejection("gpu", A))
    await control.agreement.drain(control.channel, A, by="ann", seconds=None)
    control.finds(A, GONE)
    assert (control.seen()["state"], control.seen()["why"]) == ("down", "connection refused; drained by ann")
    await control.agreement.undrain(control.channel, B, by="ann")  # the worker has heard of all that was before
    assert one.state() == "draining" and one.at(A).breaker.barred
    control.finds(A, WELL)
    assert control.agreement.ejection("gpu", A) is None, "it begins anew"
    await control.agreement.undrain(control.channel, A, by="ann")
    await everywhere([one], "up")


async def test_what_a_registry_lists_no_longer_or_not_yet_for_workers_is_drained_and_undrained(house):
    await house.open(0)
    control = house.control
    before = control.channel
    control.adopt(A, B, C)  # listed; the workers have A and B
    assert await control.agreement.drain(before, C, by="ann", seconds=None) == []
    assert control.seen(C)["drained"]["by"] == "ann"
    control.adopt(A, B)
    with pytest.raises(NoSuch):
        await control.agreement.undrain(before, "http://10.0.0.9:1", by="ann")
    assert await control.agreement.undrain(before, C.removeprefix("http://"), by="ann") == (True, [])
    assert not control.agreement.drains.of_channel("gpu")


@pytest.mark.parametrize("named", [A, A + "/", "10.0.0.1:1"])
async def test_how_an_endpoint_is_named(house, named):
    await house.open(0)
    assert module.url_of(house.control.channel, named) == A
    with pytest.raises(NoSuch, match=r"has no endpoint 'http://x'; it has http://10\.0\.0\.1:1, "):
        module.url_of(house.control.channel, "http://x")


async def test_a_worker_that_hears_nothing_is_named(house, monkeypatch):
    monkeypatch.setattr(hearing, "HEARD_PATIENCE", 0.1)
    one, two = await house.open()
    two.watch._say = lambda data: True  # its answers are lost
    assert await house.control.agreement.drain(house.control.channel, A, by="ann", seconds=None) == [1]
    assert one.state() == "draining"


async def test_a_drain_right_after_controls_start_waits_for_the_workers_that_have_not_met_it(house, monkeypatch):
    workers = await house.open()
    await house.control.bus.close()
    house.control = Control(house.folder, A, B)
    house.control.expected = 2
    await house.control.bus.open()
    assert not house.control.bus.links
    assert await house.control.agreement.drain(house.control.channel, A, by="ann", seconds=None) == []
    assert [worker.state() for worker in workers] == ["draining"] * 2
    house.control.expected = 3
    monkeypatch.setattr(server, "GATHER_PATIENCE", 0.1)
    assert await house.control.agreement.undrain(house.control.channel, A, by="ann") == (True, [2])


async def test_what_workers_report_is_merged_and_the_worst_counts(house):
    one, two = await house.open()
    told = {"channel": "gpu", "endpoint": A, "why": "", "in_flight": 2, "errors": 1, "ttft": 0.1, "handshakes": 3, "for": 5.0}
    one.reported = [{**told, "state": "up"}]
    two.reported = [{**told, "state": "busy", "why": "asked to be left alone", "ttft": 0.2}]
    seen = await eventually(lambda: house.control.seen() if house.control.seen()["in_flight"] == 4 else None)
    assert (seen["state"], seen["why"]) == ("busy", "asked to be left alone") and time.time() - seen["since"] < 7
    assert (seen["errors"], seen["handshakes"], seen["ttft"]) == (2, 6, 200.0)
    two.reported = [{**told, "state": "down", "why": "an old word of control"}]
    await eventually(lambda: house.control.seen()["state"] == "up")


async def test_up_is_up_since_workers_found_it_so(house):
    """What control's looks say is older: they never saw anything wrong with an endpoint that requests ejected."""
    one, two = await house.open()
    house.control.finds(A, WELL)
    house.control.endpoints.looks()["gpu", A].since = time.time() - 3600
    told = {"channel": "gpu", "endpoint": A, "state": "up", "why": "", "in_flight": 0, "errors": 5, "ttft": None, "handshakes": 3}
    one.reported, two.reported = [{**told, "for": 9.0}], [{**told, "for": 0.0}]  # the second was never told anything else
    await eventually(lambda: all(link.health.get("endpoints") for link in house.control.bus.links.values()))
    assert 8 < time.time() - house.control.seen()["since"] < 12
    one.reported = [{**told, "for": 0.0}]
    await eventually(lambda: time.time() - house.control.seen()["since"] > 3000)

"""What registries find reaches workers without a new revision: the frame, the parcel for those that come later, the memory."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from gateway.bus.frames import Parcel
from gateway.bus.server import BusServer
from gateway.config.resolved import Endpoint, Resolved
from gateway.config.revisions import Revisions
from gateway.discover import endpoints as probing
from gateway.discover.endpoints import Endpoints
from gateway.discover.registries import file as file_kind
from gateway.discover.registries.registries import Registries
from gateway.govern.rollout import Rollout
from gateway.simulate.simulator import Simulator, start
from tests.harness import eventually

KEYS = 'tenants: {t: {projects: {p: {}}}}\nkeys: [{id: k, hash: "sha256:' + "0f" * 32 + '", tenant: t, project: p, models: ["*"]}]\n'
TEXT = """\
version: 1
registries: {{lab: {{type: file, path: list.json}}}}
channels: {{gpu: {{engine: {engine}, model: qwen3, endpoints: {{registry: lab}}}}}}
models: {{qwen: {{targets: [{{channel: gpu}}]}}}}
"""


class Bus:
    """bus.server.BusServer, as far as a rollout uses it. `sent`: the frames for all workers."""

    def __init__(self) -> None:
        self.current: Parcel | None = None
        self.sent: list[dict[str, Any]] = []

    def broadcast(self, data: bytes) -> None:
        self.sent.append(msgspec.msgpack.decode(data[4:]))

    async def gathered(self, workers: int) -> None: ...
    async def commit(self, parcel: Parcel) -> None: ...
    def abort(self) -> None: ...

    async def prepare(self, parcel: Parcel) -> dict[int, str]:
        return {0: "no room"} if parcel.rev > 2 else {}


class Play:
    """Control without its processes. `committed`: what the supervisor keeps for new workers."""

    def __init__(self, folder: Path, engine: str = "vllm") -> None:
        self.folder = folder
        self.bus = Bus()
        self.committed: list[Parcel] = []
        self.write(TEXT.format(engine=engine))
        self.rollout = Rollout(folder / "gateway.yaml", Endpoints(), Registries())

    def write(self, text: str) -> None:
        (self.folder / "gateway.yaml").write_text(f"data_dir: {self.folder}\n{KEYS}{text}")

    def lists(self, *urls: str) -> None:
        (self.folder / "new").write_text(json.dumps([{"targets": urls}]))
        (self.folder / "new").replace(self.folder / "list.json")

    @contextlib.asynccontextmanager
    async def running(self, *, again: bool = False) -> AsyncIterator["Play"]:
        rollout, revisions = self.rollout, Revisions(self.folder)
        tasks = [asyncio.create_task(work) for work in (rollout.registries.run(), rollout.endpoints.run())]
        try:
            if again:
                assert rollout.recall(revisions)
            else:
                rollout.read()
            self.bus.current = await rollout.settle_in(revisions, again=again)
            yield self
        finally:
            for task in tasks:
                assert not task.done()
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def refill(self) -> list[str]:
        return await self.rollout.refill(cast(BusServer, self.bus), self)

    async def prepare(self, config: Resolved) -> None: ...
    def abort(self) -> None: ...

    async def commit(self, config: Resolved, parcel: Parcel) -> None:
        assert parcel.config() == config
        self.committed.append(parcel)

    def served(self) -> list[str]:
        """What a worker that starts now begins with."""
        assert self.bus.current is not None
        return urls(self.bus.current.config().channels["gpu"].endpoints)


def urls(endpoints: Any) -> list[str]:
    return [one["url"] if isinstance(one, dict) else one.url for one in endpoints]


@pytest.fixture
def play(tmp_path, monkeypatch) -> Play:
    monkeypatch.setattr(file_kind, "EVERY", 0.02)
    monkeypatch.setattr(probing, "EVERY", 0.1)
    monkeypatch.setattr(probing, "TICK", 0.01)
    return Play(tmp_path)


@pytest.fixture
async def engines() -> AsyncIterator[list[Simulator]]:
    async with contextlib.AsyncExitStack() as stack:
        found = [await stack.enter_async_context(await start("vllm")) for _ in range(3)]
        yield sorted(found, key=lambda engine: engine.url)


async def test_a_revision_begins_with_what_answers_in_time(play, engines):
    one, two, _ = (engine.url for engine in engines)
    play.lists(two, one, "http://127.0.0.1:1")
    async with play.running():
        assert play.served() == [one, two] and play.rollout.rev == 1
        listed = [state["endpoint"] for state in play.rollout.endpoints.states()]
        assert sorted(listed) == sorted([one, two, "http://127.0.0.1:1"])  # shown, though nobody is sent there
        assert await play.refill() == [] and play.committed == [] and play.bus.sent == []


async def test_what_comes_and_goes_reaches_workers_without_a_revision(play, engines):
    one, two, three = (engine.url for engine in engines)
    play.lists(one, two)
    async with play.running():
        keys = play.bus.current.slices
        play.lists(two, three)
        await eventually(play.refill)  # what is gone is gone at once
        await eventually(lambda: refilled(play, [two, three]))
        assert play.rollout.rev == 1 and [parcel.rev for parcel in play.committed] == [1] * len(play.committed)
        assert play.bus.current is play.committed[-1] and play.bus.current.slices is keys and len(keys) == 1
        assert [frame["kind"] for frame in play.bus.sent] == ["endpoints"] * len(play.committed)
        assert urls(play.bus.sent[-1]["channels"]["gpu"]) == [two, three]
        found = [msgspec.convert(one, Endpoint) for one in play.bus.sent[-1]["channels"]["gpu"]]
        assert tuple(found) == play.rollout.config.channels["gpu"].endpoints
        frame = msgspec.msgpack.decode(play.rollout.endpoints_frame()[4:])
        assert frame == {"kind": "endpoints", "channels": play.bus.sent[-1]["channels"]}
        assert [told.rev for told in Revisions(play.folder).list()] == [1]


async def test_a_new_one_is_looked_at_before_it_serves(play, engines):
    one, two, three = engines
    await two.down()
    play.lists(one.url, two.url)
    async with play.running():
        assert play.served() == [one.url]
        await two.up()
        await eventually(lambda: refilled(play, [one.url, two.url]))
        await two.down()  # that is for breakers: it stays, as a written one would
        await eventually(lambda: any(state["state"] == "down" for state in play.rollout.endpoints.states()))
        assert await play.refill() == []
        async with await start("vllm", model="other") as stranger:
            play.lists(one.url, three.url, stranger.url)
            await eventually(lambda: refilled(play, [one.url, three.url]))
            await eventually(lambda: len([s for s in play.rollout.endpoints.states() if s["state"] != "up"]) == 1)
            assert await play.refill() == [] and play.served() == [one.url, three.url]


async def refilled(play: Play, wanted: list[str]) -> bool:
    await play.refill()
    return play.served() == wanted


async def test_a_registry_without_an_answer_leaves_its_channel_empty_until_it_has_one(play, engines):
    async with play.running():
        assert play.served() == []
        play.lists(engines[0].url)
        await eventually(lambda: refilled(play, [engines[0].url]))


async def test_an_auto_channel_learns_its_engine_from_what_is_listed(tmp_path, play, engines):
    play = Play(tmp_path, "auto")
    play.lists(engines[0].url)
    async with play.running():
        channel = play.rollout.config.channels["gpu"]
        assert (channel.engine, urls(channel.endpoints)) == ("vllm", [engines[0].url])


async def test_control_that_is_started_again_serves_what_workers_have(play, engines, monkeypatch):
    one, two, _ = (engine.url for engine in engines)
    play.lists(one)
    async with play.running():
        play.lists(one, two)
        await eventually(lambda: refilled(play, [one, two]))
    (play.folder / "list.json").unlink()
    after = Play(play.folder)
    async with after.running(again=True):
        assert after.served() == [one, two] and after.rollout.rev == 1
        assert await after.refill() == []
        after.lists(two)
        await eventually(lambda: refilled(after, [two]))
    third = Play(play.folder)
    (play.folder / "list.json").unlink()
    async with third.running():  # a whole restart: what was handed out last serves, not what the revision was saved with
        assert third.served() == [two]


async def test_a_reload_takes_the_newest_and_a_refused_one_changes_nothing(play, engines):
    one, two, three = (engine.url for engine in engines)
    play.lists(one)
    async with play.running():
        play.write(TEXT.format(engine="vllm").replace("models: {", "models: {small: {targets: [{channel: gpu}]}, "))
        play.lists(one, two)
        await eventually(lambda: refilled(play, [one, two]))
        outcome = await play.rollout.reload(cast(BusServer, play.bus), play, by="test", why="test")
        assert (outcome.ok, outcome.rev, play.served()) == (True, 2, [one, two]), outcome
        (play.folder / "other.json").write_text(json.dumps([{"targets": [three]}]))
        play.write(TEXT.format(engine="vllm").replace("list.json", "other.json"))
        outcome = await play.rollout.reload(cast(BusServer, play.bus), play, by="test", why="test")
        assert (outcome.ok, outcome.message) == (False, "worker-0 cannot serve it: no room")
        assert await play.refill() == [] and play.served() == [one, two]
        play.lists(two)
        await eventually(lambda: refilled(play, [two]))

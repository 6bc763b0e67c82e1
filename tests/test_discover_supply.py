"""Between a registry and the workers: who lists, who has been seen well, and what is remembered."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from gateway.config.load import load
from gateway.config.resolve import resolve
from gateway.config.resolved import Resolved
from gateway.config.resolved_registries import Registry
from gateway.discover import supply as module
from gateway.discover.endpoints import Endpoints
from gateway.discover.look import BUSY, DEGRADED, DOWN, UP
from gateway.discover.registries.known import endpoint_at
from gateway.discover.registries.registries import Registries
from gateway.discover.supply import Supply, moved

ONE, TWO, OLD = "http://10.0.0.1:8000", "http://10.0.0.2:8000", "http://10.0.0.9:8000"


class Stage:
    """A channel `gpu` of registry `lab`, whose watcher is the test, and one with an endpoint of its own."""

    def __init__(self, folder: Path, engine: str = "vllm") -> None:
        (folder / "gateway.yaml").write_text(
            "version: 1\nregistries: {lab: {type: file, path: list.json}}\nchannels:\n"
            f"  gpu: {{engine: {engine}, endpoints: {{registry: lab}}}}\n  old: {{engine: vllm, endpoints: [{OLD!r}]}}\n"
        )
        self.config: Resolved = resolve(load(folder / "gateway.yaml", {}))[0]
        self.path = folder / "endpoints.json"
        self.restart()

    def restart(self) -> None:
        self.registries = Registries()
        self.registries.adopt(self.config.registries)
        self.endpoints = Endpoints()
        self.supply = Supply(self.registries, self.endpoints)

    def lists(self, *urls: str) -> None:
        self.registries._names["lab"].found([endpoint_at(url) for url in urls])
        self.endpoints.adopt(self.supply.listed(self.config))

    def sees(self, url: str, state: str, channel: str = "gpu") -> None:
        look = self.endpoints.looks()[channel, url]
        look.state, look.listed = state, (state, "seen")

    def handed(self) -> list[str]:
        return [one.url for one in self.supply.handed(self.config).channels["gpu"].endpoints]

    def keep(self) -> bool:
        self.config = self.supply.handed(self.config)
        return self.supply.keep(self.config)


@pytest.fixture
def stage(tmp_path) -> Stage:
    return Stage(tmp_path)


def test_nobody_serves_before_a_look_found_it_well(stage):
    stage.lists(ONE, TWO)
    assert [one.url for one in stage.supply.listed(stage.config)["gpu"].endpoints] == [ONE, TWO]
    assert stage.handed() == []
    assert [one.url for one in stage.supply.handed(stage.config).channels["old"].endpoints] == [OLD]
    for state, serves in ((DOWN, False), (DEGRADED, False), (BUSY, True), (UP, True)):
        stage.sees(TWO, state)
        assert stage.handed() == ([TWO] if serves else []), state
    assert moved(stage.config.channels, stage.supply.handed(stage.config).channels) == {"gpu": (endpoint_at(TWO),)}


def test_behind_a_generic_server_a_model_list_proves_nothing(tmp_path):
    stage = Stage(tmp_path, "openai")
    stage.lists(ONE)
    stage.sees(ONE, DEGRADED)
    assert stage.handed() == [ONE]


def test_who_was_handed_out_stays_while_listed_and_is_looked_at_anew_when_it_comes_back(stage):
    stage.lists(ONE, TWO)
    stage.sees(ONE, UP)
    stage.sees(TWO, UP)
    assert stage.keep() and not stage.keep()
    stage.sees(ONE, DOWN)
    assert stage.handed() == [ONE, TWO]  # workers have breakers for that
    stage.lists(TWO)
    assert stage.handed() == [TWO] and stage.keep()
    stage.lists(ONE, TWO)
    assert stage.handed() == [TWO]
    stage.sees(ONE, UP)
    assert stage.handed() == [ONE, TWO]
    stage.lists()
    assert stage.handed() == [] and stage.keep()


def test_another_weight_needs_no_look(stage):
    stage.lists(ONE)
    stage.sees(ONE, UP)
    stage.keep()
    stage.registries._names["lab"].found([endpoint_at(ONE, weight=3)])
    (one,) = stage.supply.handed(stage.config).channels["gpu"].endpoints
    assert one.weight == 3


def test_after_a_restart_what_was_handed_out_serves_until_the_registry_answers(stage):
    stage.lists(ONE, TWO)
    stage.sees(ONE, UP)
    stage.keep()
    stage.supply.write(stage.path)
    stage.restart()
    assert stage.handed() == []
    stage.supply.recall(stage.path)
    assert stage.handed() == [ONE] and [one.url for one in stage.supply.listed(stage.config)["gpu"].endpoints] == [ONE]
    stage.registries._names["lab"].failed("no answer in time")
    assert stage.handed() == [ONE]
    stage.lists(ONE, TWO)
    assert stage.handed() == [ONE]
    stage.lists(TWO)
    assert stage.handed() == [ONE], "until TWO was looked at"
    stage.sees(TWO, DOWN)
    assert stage.handed() == []


def test_when_all_are_replaced_those_before_serve_until_one_of_the_others_does(stage):
    stage.lists(ONE)
    stage.sees(ONE, UP)
    stage.keep()
    stage.lists(TWO, OLD)
    assert stage.handed() == [ONE] and not stage.keep()
    stage.sees(OLD, DOWN)
    assert stage.handed() == [ONE]
    stage.sees(TWO, UP)
    assert stage.handed() == [TWO] and stage.keep()
    stage.lists()
    assert stage.handed() == [], "an empty list is meant"


def test_what_another_place_listed_is_not_remembered(stage):
    stage.lists(ONE)
    stage.sees(ONE, UP)
    stage.keep()
    stage.supply.write(stage.path)
    elsewhere: Registry = msgspec.structs.replace(stage.config.registries["lab"], path="/elsewhere.json")
    stage.config = msgspec.structs.replace(stage.config, registries={"lab": elsewhere})
    stage.restart()
    stage.supply.recall(stage.path)
    assert stage.handed() == []


@pytest.mark.parametrize("text", ["", "{", '{"gpu": 1}', '{"gpu": {"place": {}, "endpoints": []}}'])
def test_a_memory_that_cannot_be_read_is_none(stage, text, caplog):
    stage.path.write_text(text)
    stage.supply.recall(stage.path)
    assert stage.handed() == []
    assert "cannot be read" in caplog.text


def test_a_memory_that_cannot_be_written_is_told(stage, caplog):
    stage.supply.write(stage.path.parent / "nowhere" / "endpoints.json")
    assert "cannot be remembered" in caplog.text
    stage.supply.recall(stage.path)  # there is none yet: nothing to tell
    assert len(caplog.records) == 1


async def test_a_channel_without_endpoints_waits_for_the_looks_and_one_with_some_does_not(stage, monkeypatch):
    stage.lists(ONE, TWO)
    waiting = asyncio.create_task(stage.supply.seen(stage.config, 30))
    stage.sees(ONE, UP)
    await asyncio.sleep(2 * module.LOOK_EVERY)
    assert not waiting.done()
    stage.endpoints.looks()["gpu", TWO].failures = 1  # it was looked at, and did not answer
    await waiting
    stage.keep()
    stage.lists(ONE, "http://10.0.0.3:8000")
    await asyncio.wait_for(stage.supply.seen(stage.config, 30), 5)
    stage.restart()
    stage.lists(ONE)
    await asyncio.wait_for(stage.supply.seen(stage.config, 0.1), 5)  # patience has an end

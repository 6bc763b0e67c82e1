"""What control knows of one endpoint, as a table: what looks find, one after another, and the state that follows."""

import pytest

from gateway.discover.finding import ModelSeen, Probe
from gateway.discover.look import NEW, NOT_YET, STATES, Look, worst
from gateway.discover.vitals import Vitals
from gateway.engine.base import Load
from tests.test_discover_endpoints import channel

WELL = Probe(url="u", reachable=True, status=200, engine="vllm", models=[ModelSeen(id="qwen3", context_length=4096)])
OTHER = Probe(url="u", reachable=True, status=200, engine="vllm", models=[ModelSeen(id="llama")])
REFUSED = Probe(url="u", error="connection refused: nothing listens on u", trouble="refused")
SILENT = Probe(url="u", error="timeout", trouble="timeout")
PROXY = Probe(url="u", reachable=True, status=502, error="a proxy before the engine cannot reach it (502)")
BROKEN = Probe(url="u", reachable=True, status=500, error="the model list is answered with 500")
FORBIDDEN = Probe(url="u", reachable=True, status=401, error="the engine refuses the credential (401)")


def look(wanted=("qwen3",), engine="vllm") -> Look:
    at = channel("gpu", "http://127.0.0.1:1", engine=engine)
    return Look(at, at.endpoints[0], wanted, 0.0)


def states(one: Look, *found: Probe | tuple[Probe, str]) -> list[str]:
    """The state after each look; with a health path's word where one is given."""
    seen = []
    for number, each in enumerate(found):
        probe, one.vitals.health = each if isinstance(each, tuple) else (each, "good")
        one.vitals.health_why = f"health {one.vitals.health}"
        one.learn(probe, float(number), lambda: one.channel.engine)
        seen.append(one.state)
    return seen


@pytest.mark.parametrize(
    ("found", "then"),
    [
        ([WELL, REFUSED, WELL], "up down up"),
        ([WELL, SILENT, WELL, SILENT], "up up up up"),
        ([WELL, SILENT, SILENT, WELL], "up up down up"),
        ([WELL, SILENT, PROXY], "up up down"),
        ([WELL, BROKEN, FORBIDDEN], "up degraded degraded"),
        ([BROKEN, SILENT, SILENT, BROKEN], "degraded degraded down degraded"),
        ([WELL, OTHER, WELL], "up down up"),
        ([(WELL, "bad"), (WELL, "good")], "up up"),
        ([(WELL, "bad"), (WELL, "bad"), (WELL, "unknown")], "up down up"),
        ([(WELL, "bad"), SILENT], "up down"),
        ([(WELL, "busy"), (BROKEN, "busy"), WELL], "busy busy up"),
        ([(WELL, "busy"), REFUSED], "busy down"),
    ],
)
def test_one_look_after_another(found, then):
    assert states(look(), *found) == then.split()


def test_since_is_when_the_state_began():
    one = look()
    states(one, WELL, REFUSED, REFUSED, SILENT)
    assert (one.state, one.since, one.why) == ("down", 1.0, "timeout")


def test_workers_are_told_of_what_must_not_be_used_and_of_nothing_else():
    verdicts = []
    for found in (WELL, BROKEN, REFUSED, (WELL, "busy")):
        one = look()
        states(one, found)
        verdicts.append(one.verdict)
    assert verdicts == ["", "", "down", ""]


@pytest.mark.parametrize(
    ("wanted", "engine", "state"),
    [
        (("qwen3",), "vllm", "up"),
        (("qwen3", "poet"), "vllm", "degraded"),
        (("poet",), "vllm", "down"),
        (("poet", "small"), "vllm", "down"),
        (("poet",), "openai", "degraded"),  # a generic server's names need not be those that it takes
        ((), "vllm", "up"),
    ],
)
def test_models_that_the_engine_does_not_list(wanted, engine, state):
    one = look(wanted, engine)
    found = Probe(url="u", reachable=True, status=200, engine=engine, models=WELL.models)
    assert states(one, found) == [state]
    missing = [name for name in wanted if name != "qwen3"]
    assert one.why == (f"model missing: {', '.join(missing)} (the engine lists qwen3)" if missing else "")


def feel(one: Look, pulses, step=10.0) -> list[str]:
    seen = []
    for number, (running, pulse) in enumerate(pulses):
        one.vitals.load = Load(running=running)
        one.vitals.stuck.see(running, pulse, one.channel.wedged_after, number * step)
        one.feel(number * step)
        seen.append(one.state)
    return seen


def test_a_wedged_engine_and_how_it_ends():
    one = look()
    states(one, WELL)
    assert feel(one, [(1, 7)] * 8) == ["up"] * 6 + ["wedged"] * 2
    assert one.verdict == "wedged" and one.since == 60.0 and one.wedgings == 1
    assert one.why == "requests run in it, and no token came for 60 s"
    one.vitals.health = "busy"
    one.learn(BROKEN, 80.0, lambda: "vllm")
    assert one.state == "wedged", "worse than degraded and busy"
    one.learn(REFUSED, 90.0, lambda: "vllm")
    assert one.state == "down"
    one.learn(WELL, 95.0, lambda: "vllm")
    assert one.state == "up", "another process stands there: what was counted is forgotten"


def test_an_endpoint_that_a_registry_has_just_named():
    one = look()
    one.new = True
    assert one.known and one.verdict == NEW and one.shown[0] == "degraded"
    states(one, SILENT)
    assert one.verdict == NEW, "one failing look is no look yet"
    states(one, WELL)
    assert (one.verdict, one.shown) == ("", ("up", ""))


def test_of_what_was_not_looked_at_nothing_is_told():
    one = look()
    assert not one.known and (one.state, one.why) == ("up", NOT_YET)
    states(one, SILENT)
    assert not one.known
    states(one, SILENT)
    assert one.known and one.state == "down"


def test_context_lengths_of_the_models_that_are_asked_of_it():
    one = look(("qwen3:poet", "qwen3", "other"), "sglang")
    states(one, Probe(url="u", reachable=True, status=200, engine="sglang", models=WELL.models))
    assert one.context_lengths == {"qwen3:poet": 4096, "qwen3": 4096}
    assert one.told(0.0)["context_length"] == 4096 and one.told(0.0)["models"] == ["qwen3"]


def test_figures_grow_old():
    vitals = Vitals()
    vitals.load, vitals.at = Load(running=3.0), 100.0
    assert vitals.figures(110.0).running == 3.0 and vitals.figures(140.0).running is None


def test_the_worst_of_several():
    assert worst([("up", ""), ("busy", "b"), ("degraded", "d")]) == ("busy", "b")
    assert worst([("down", "first"), ("down", "second")]) == ("down", "first")
    assert worst([]) == ("up", "") and STATES[-1] == "down"

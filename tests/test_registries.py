"""Registries: what DNS and files say becomes endpoints, and what they fail to say takes none away."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.config.resolved_registries import Registry
from gateway.discover.registries import dns as dns_kind
from gateway.discover.registries import file as file_kind
from gateway.discover.registries import known as known_kind
from gateway.discover.registries.known import MOST, endpoint_at
from gateway.discover.registries.registries import Registries
from tests.dns_server import (
    EMPTY,
    GARBAGE,
    NXDOMAIN,
    REFUSED,
    SERVFAIL,
    SILENCE,
    DnsServer,
    Step,
    a,
    cname,
    records,
    srv,
)
from tests.harness import eventually


@pytest.fixture
async def dns() -> AsyncIterator[DnsServer]:
    async with DnsServer() as server:
        yield server


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(dns_kind, "PATIENCE", 0.1)
    monkeypatch.setattr(dns_kind, "FIRST", 0.02)
    monkeypatch.setattr(file_kind, "EVERY", 0.02)


def hosts(server: DnsServer, name: str = "lab", **more: Any) -> Registry:
    """Addresses of gpu.lab."""
    return Registry(name=name, type="dns", **{"host": "gpu.lab", "port": 8000, "ttl_min": 0.02, "servers": (server.address,), **more})


def services(server: DnsServer, name: str = "lab", **more: Any) -> Registry:
    """Services of _llm._tcp.lab."""
    return Registry(name=name, type="dns", servers=(server.address,), **{"srv": "_llm._tcp.lab", "ttl_min": 0.02, **more})


class Running:
    """Registries that are watched. `changes`: the names that on_change told."""

    def __init__(self) -> None:
        self.changes: list[str] = []
        self.registries = Registries(self.changes.append)

    def urls(self, name: str = "lab") -> list[str]:
        return [one.url for one in self.registries.endpoints(name)]

    def state(self, name: str = "lab") -> dict[str, Any]:
        return next(one for one in self.registries.states() if one["name"] == name)


@contextlib.asynccontextmanager
async def watching(*configs: Registry) -> AsyncIterator[Running]:
    running = Running()
    running.registries.adopt({config.name: config for config in configs})
    task = asyncio.create_task(running.registries.run())
    try:
        await running.registries.settled(10)
        yield running
    finally:
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def looked(server: DnsServer, times: int, name: str = "gpu.lab", kind: str = "A") -> Callable[[], bool]:
    """Whether `times` more questions came from now on. The answer to the last but one has arrived then."""
    before = server.count(name, kind)
    return lambda: server.count(name, kind) >= before + times


# -- dns: addresses ---------------------------------------------------------------------------------------------------


async def test_addresses_of_both_families_become_endpoints(dns):
    dns.say("gpu.lab", "A", a("10.0.0.2"), a("10.0.0.1"))
    dns.say("gpu.lab", "AAAA", a("fd00::1"))
    four = hosts(dns, "four", family="ipv4", scheme="https", base="/a")
    async with watching(hosts(dns), four, hosts(dns, "six", family="ipv6")) as running:
        assert running.urls() == ["http://10.0.0.1:8000", "http://10.0.0.2:8000", "http://[fd00::1]:8000"]
        assert running.urls("four") == ["https://10.0.0.1:8000/a", "https://10.0.0.2:8000/a"]
        assert running.registries.endpoints("four")[0].base == "/a"
        assert running.urls("six") == ["http://[fd00::1]:8000"]
        state = running.state()
        assert (state["type"], state["endpoints"], state["state"], state["why"]) == ("dns", 3, "up", "")
        assert state["success"] is not None and running.registries.answered("lab")


async def test_an_alias_is_followed_and_its_life_counts(dns):
    dns.say("gpu.lab", "A", cname("real.lab", ttl=1), a("10.0.0.1", ttl=600), ttl=600)
    look = dns_kind.Look(hosts(dns, family="ipv4"), {})
    assert [one.host for one in await look.run()] == ["10.0.0.1"]
    assert look.ttl == 1


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (NXDOMAIN, "there is no such name (NXDOMAIN)"),
        (SERVFAIL, "the server failed (SERVFAIL)"),
        (REFUSED, "the server refuses to answer (REFUSED)"),
        (EMPTY, "the name has no such records"),
        (GARBAGE, "the answer is no DNS"),
        (SILENCE, "no answer in time"),
    ],
    ids=["nxdomain", "servfail", "refused", "empty", "garbage", "silence"],
)
async def test_what_is_known_stays_for_as_long_as_dns_fails(dns, step, why, caplog):
    caplog.set_level("INFO", "gateway.registries")
    dns.say("gpu.lab", "A", a("10.0.0.1"))
    async with watching(hosts(dns, family="ipv4")) as running:
        good = running.state()
        dns.script("gpu.lab", "A", step)
        await eventually(lambda: running.state()["why"])
        first = running.state()
        assert first["why"] == f"gpu.lab A: {why}" and first["state"] == "degraded"
        await eventually(looked(dns, 4))
        now = running.state()
        assert running.urls() == ["http://10.0.0.1:8000"] and running.changes == ["lab"]
        assert (now["since"], now["success"]) == (first["since"], first["success"]) and now["since"] > good["since"]
        dns.say("gpu.lab", "A", a("10.0.0.2"))
        await eventually(lambda: running.urls() == ["http://10.0.0.2:8000"])
        assert running.state()["why"] == "" and running.changes == ["lab", "lab"]
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said == [f"registry lab: gpu.lab A: {why}; the last 1 endpoint(s) stay"]


async def test_a_name_that_flaps_with_every_question_changes_nothing(dns, caplog):
    good = records(a("10.0.0.1"), a("10.0.0.2"))
    dns.script("gpu.lab", "A", good, NXDOMAIN, good, SERVFAIL, SERVFAIL, EMPTY)
    async with watching(hosts(dns, family="ipv4")) as running:
        await eventually(looked(dns, 12))
        assert running.urls() == ["http://10.0.0.1:8000", "http://10.0.0.2:8000"] and running.changes == ["lab"]
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1  # not one for each flap


async def test_a_registry_that_never_answered_is_down_and_looked_at_soon_again(dns):
    dns.script("gpu.lab", "A", NXDOMAIN)
    async with watching(hosts(dns, family="ipv4", ttl_min=60.0)) as running:
        state = running.state()
        assert running.urls() == [] and (state["state"], state["success"]) == ("down", None)
        assert not running.registries.answered("lab") and running.changes == []
        dns.say("gpu.lab", "A", a("10.0.0.1"))
        await eventually(running.urls)


async def test_one_family_that_fails_takes_only_its_own_news_away(dns):
    dns.say("gpu.lab", "A", a("10.0.0.1"))
    dns.say("gpu.lab", "AAAA", a("fd00::1"))
    async with watching(hosts(dns)) as running:
        dns.script("gpu.lab", "AAAA", SERVFAIL)
        dns.say("gpu.lab", "A", a("10.0.0.2"))
        await eventually(lambda: running.urls() == ["http://10.0.0.2:8000", "http://[fd00::1]:8000"])
        assert running.state()["why"] == "gpu.lab AAAA: the server failed (SERVFAIL)"
        dns.script("gpu.lab", "AAAA", EMPTY)  # that is an answer: it has none any more
        await eventually(lambda: running.urls() == ["http://10.0.0.2:8000"])
        assert running.state()["why"] == ""


@pytest.mark.parametrize("cut", [False, True], ids=["too large for UDP", "cut off on purpose"])
async def test_thousands_of_addresses_are_bounded_and_said_once(dns, cut, caplog):
    many = [a(f"10.0.{number // 250}.{number % 250}") for number in range(3000)]
    dns.play("gpu.lab", "A", lambda number: records(*many[number:], *many[:number], cut=cut))
    async with watching(hosts(dns, family="ipv4")) as running:
        assert len(running.urls()) == MOST and running.urls()[0] == "http://10.0.0.0:8000"
        assert running.state()["left_out"] == 3000 - MOST
        await eventually(looked(dns, 3))
        assert running.changes == ["lab"]  # another order is no change
    assert ("gpu.lab", "A", "tcp") in dns.asked
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said == [f"registry lab lists 3000 endpoints; the first {MOST} are used"]


async def test_an_answer_that_differs_with_every_question_is_handed_on_once_in_ttl_min(dns):
    loop = asyncio.get_running_loop()
    dns.play("gpu.lab", "A", lambda number: records(a(f"10.0.0.{number % 250}"), ttl=0))
    async with watching(hosts(dns, family="ipv4", ttl_min=0.2)) as running:
        start, before = loop.time(), len(running.changes)
        await eventually(lambda: len(running.changes) >= before + 4)
        took = loop.time() - start
        assert took >= 3 * 0.2 and len(running.urls()) == 1
        assert dns.count("gpu.lab", "A") <= len(running.changes) + 1


@pytest.mark.parametrize(("ttl", "ttl_min", "ttl_max"), [(600, 0.02, 0.1), (0, 0.1, 600.0)], ids=["ttl_max", "ttl_min"])
async def test_the_time_to_live_is_kept_within_its_bounds(dns, ttl, ttl_min, ttl_max):
    loop = asyncio.get_running_loop()
    dns.say("gpu.lab", "A", a("10.0.0.1"), ttl=ttl)
    async with watching(hosts(dns, family="ipv4", ttl_min=ttl_min, ttl_max=ttl_max)):
        await eventually(looked(dns, 1))
        start = loop.time()
        await eventually(looked(dns, 2), within=5)
        assert loop.time() - start >= 0.1


async def test_records_that_live_long_are_not_asked_for_again(dns):
    dns.say("gpu.lab", "A", a("10.0.0.1"), ttl=600)
    dns.say("other.lab", "A", a("10.0.0.1"), ttl=0)
    async with watching(hosts(dns, family="ipv4"), hosts(dns, "other", host="other.lab", family="ipv4")):
        await eventually(looked(dns, 5, "other.lab"))
        assert dns.count("gpu.lab", "A") == 1


async def test_a_look_has_an_end_however_many_names_are_silent(dns, monkeypatch):
    monkeypatch.setattr(dns_kind, "ROUND", 0.3)
    monkeypatch.setattr(dns_kind, "PATIENCE", 5.0)
    dns.say("_llm._tcp.lab", "SRV", *(srv(f"n{number}.lab", 1) for number in range(40)))
    for number in range(40):
        dns.script(f"n{number}.lab", "A", SILENCE)
    async with watching(services(dns, family="ipv4")) as running:
        assert running.state()["why"] == "_llm._tcp.lab: not all answers came within 0.3 s"
    assert len({name for name, kind, _ in dns.asked if kind == "A"}) == dns_kind.AT_ONCE  # no storm of questions


async def test_a_second_server_is_asked_when_the_first_is_not_there(dns):
    dns.say("gpu.lab", "A", a("10.0.0.1"))
    async with DnsServer() as gone:
        pass
    async with watching(hosts(dns, family="ipv4", servers=(gone.address, dns.address))) as running:
        assert running.urls() == ["http://10.0.0.1:8000"]


# -- dns: services ----------------------------------------------------------------------------------------------------


async def test_srv_brings_ports_weights_and_priorities_best_first(dns):
    dns.say(
        "_llm._tcp.lab",
        "SRV",
        srv("c.lab", 8003, priority=10, weight=5),
        srv("b.lab", 8002, weight=1),
        srv("a.lab.", 8001, weight=3),
        srv("a.lab", 8009, weight=0),
    )
    for number, name in enumerate("abc", 1):
        dns.say(f"{name}.lab", "A", a(f"10.0.0.{number}"))
    dns.say("a.lab", "AAAA", a("fd00::1"))
    async with watching(services(dns, base="/x")) as running:
        found = [(one.url, one.priority, one.weight) for one in running.registries.endpoints("lab")]
        assert found == [
            ("http://10.0.0.1:8001/x", 0, 3),
            ("http://[fd00::1]:8001/x", 0, 3),
            ("http://10.0.0.1:8009/x", 0, 1),  # 0 is "nearly never" in SRV: the least share
            ("http://10.0.0.2:8002/x", 0, 1),
            ("http://[fd00::1]:8009/x", 0, 1),
            ("http://10.0.0.3:8003/x", 10, 5),
        ]
        dns.say("_llm._tcp.lab", "SRV", srv("b.lab", 8002, weight=7))
        await eventually(lambda: [(one.url, one.weight) for one in running.registries.endpoints("lab")] == [("http://10.0.0.2:8002/x", 7)])


async def test_a_target_that_cannot_be_asked_keeps_its_last_addresses(dns):
    dns.say("_llm._tcp.lab", "SRV", srv("a.lab", 1), srv("b.lab", 2))
    dns.say("a.lab", "A", a("10.0.0.1"))
    dns.say("b.lab", "A", a("10.0.0.2"))
    async with watching(services(dns, family="ipv4")) as running:
        dns.script("b.lab", "A", NXDOMAIN)
        dns.say("a.lab", "A", a("10.0.0.3"))
        await eventually(lambda: running.urls() == ["http://10.0.0.2:2", "http://10.0.0.3:1"])
        assert running.state()["why"] == "b.lab A: there is no such name (NXDOMAIN)"
        dns.script("a.lab", "A", SERVFAIL)
        await eventually(looked(dns, 4, "a.lab"))
        assert running.urls() == ["http://10.0.0.2:2", "http://10.0.0.3:1"]
        dns.say("_llm._tcp.lab", "SRV", srv("a.lab", 1))  # b is no target any more: nothing of it is kept
        await eventually(looked(dns, 2, "a.lab"))
        dns.say("a.lab", "A", a("10.0.0.4"))
        await eventually(lambda: running.urls() == ["http://10.0.0.4:1"])


@pytest.mark.parametrize(
    "step", [NXDOMAIN, SERVFAIL, EMPTY, records(srv(".", 0))], ids=["nxdomain", "servfail", "empty", "no such service"]
)
async def test_services_stay_while_srv_fails(dns, step):
    dns.say("_llm._tcp.lab", "SRV", srv("a.lab", 1))
    dns.say("a.lab", "A", a("10.0.0.1"))
    async with watching(services(dns, family="ipv4")) as running:
        dns.script("_llm._tcp.lab", "SRV", step)
        await eventually(lambda: running.state()["why"].startswith("_llm._tcp.lab SRV: "))
        assert running.urls() == ["http://10.0.0.1:1"]


async def test_thousands_of_services_cost_no_thousands_of_questions(dns):
    dns.say("_llm._tcp.lab", "SRV", *(srv(f"n{number:04}.lab", 1, priority=number) for number in range(1000)))
    for number in range(1000):
        dns.say(f"n{number:04}.lab", "A", a(f"10.0.{number // 250}.{number % 250}"), ttl=600)
    async with watching(services(dns, family="ipv4", ttl_min=60.0)) as running:
        assert len(running.urls()) == MOST and running.urls()[-1] == "http://10.0.1.5:1"
        assert len({name for name, kind, _ in dns.asked if kind == "A"}) == MOST


# -- files ------------------------------------------------------------------------------------------------------------

ONE, TWO = "http://10.0.0.1:8000", "http://10.0.0.2:8000"


def listing(path: Path) -> Registry:
    return Registry(name="lab", type="file", path=str(path))


def put(path: Path, text: Any) -> None:
    """As a good writer does: another file, then a rename."""
    temporary = path.with_name("new")
    temporary.write_text(text if isinstance(text, str) else json.dumps(text))
    os.replace(temporary, path)


async def test_a_list_is_watched(tmp_path):
    path = tmp_path / "engines.json"
    put(path, [{"targets": ["10.0.0.1:8000"]}])
    async with watching(listing(path)) as running:
        assert running.urls() == [ONE]
        put(path, [{"targets": ["10.0.0.2:8000", "10.0.0.1:8000"], "labels": {"job": "x"}}])
        await eventually(lambda: running.urls() == [ONE, TWO])
        put(path, [{"targets": ["10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.2:8000"]}])
        put(path, [])  # meant: nothing is left
        await eventually(lambda: running.urls() == [])
        assert running.state()["state"] == "up" and running.changes == ["lab"] * 3


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("e.yaml", "- targets: [10.0.0.1:8000]\n  labels: {__scheme__: https, weight: 3, priority: 2}\n- targets: ['http://h/x']\n"),
        (
            "e.json",
            '[\n\t{"targets": ["10.0.0.1:8000"],\n\t "labels": {"__scheme__": "https", "weight": "3", "priority": "2"}},\n'
            '\t{"targets": ["http:\\/\\/h\\/x"]}]',
        ),
    ],
)
async def test_labels_say_scheme_weight_and_priority(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    async with watching(listing(tmp_path / name)) as running:
        found = [(one.url, one.base, one.weight, one.priority) for one in running.registries.endpoints("lab")]
        assert found == [("http://h/x", "/x", 1, 0), ("https://10.0.0.1:8000", "", 3, 2)], running.state()


@pytest.mark.parametrize("label", [r"\ud83d\ude80", r"\ud83d", r"\\ud83d\ude80"])
async def test_a_label_may_hold_what_json_escapes_in_two_halves(tmp_path, label):
    (tmp_path / "e.json").write_text(f'[{{"targets": ["10.0.0.1:8000"], "labels": {{"team": "{label}", "weight": "3"}}}}]')
    async with watching(listing(tmp_path / "e.json")) as running:
        assert [one.weight for one in running.registries.endpoints("lab")] == [3], running.state()


async def test_an_address_counts_once_however_it_is_written(tmp_path):
    (tmp_path / "e.json").write_text('[{"targets": ["10.0.0.1:8000", "10.0.0.1:8000/", "HTTP://10.0.0.1:8000/v1"], "labels": null}]')
    async with watching(listing(tmp_path / "e.json")) as running:
        assert len(running.urls()) == 1 and not running.state()["why"]


@pytest.mark.parametrize(
    ("name", "text", "line", "why"),
    [
        ("e.json", '[\n{"targets": ["10.0.0.2:8000"', 2, "it is not JSON"),
        ("e.json", "", 0, "the file is empty"),
        ("e.json", "[" * 5000 + "]" * 5000, 0, "it is nested too deep"),
        ("e.json", '[\n{"targets":\n[7, {}]}]', 3, "this is not text"),
        ("e.json", '{"targets": []}', 1, "the file is not a list of groups"),
        ("e.json", '[{"target": ["10.0.0.2:8000"]}]', 1, "`targets` is missing"),
        ("e.json", '[{"targets": "10.0.0.2:8000"}]', 1, "`targets` is not a list"),
        ("e.json", '[\n"10.0.0.2:8000"]', 2, "this is not a group of targets and labels"),
        ("e.json", '[{"targets": ["10.0.0.2:80000"]}]', 1, "a target needs a port from 1 to 65535"),
        ("e.json", '[{"targets": ["ftp://10.0.0.2"]}]', 1, "a target does not begin with http:// or https://"),
        ("e.json", '[{"targets": [],\n"labels": []}]', 2, "labels are not a group"),
        ("e.yaml", "- targets: []\n  labels:\n    weight: 0\n", 3, "the weight is not a whole number from 1 to 65535"),
        ("e.yaml", "- targets: []\n  labels:\n    priority: -1\n", 3, "the priority is not a whole number from 0 to 65535"),
        ("e.yaml", "- targets: [10.0.0.2:8000\n", 1, "the file ends inside this ["),
        ("e.yaml", "# nothing\n", 0, "the file is empty"),
        ("e.yaml", "- &a targets: []\n", 1, "& makes this an anchor"),
    ],
)
async def test_a_list_that_cannot_be_used_changes_nothing_and_its_line_is_told(tmp_path, name, text, line, why):
    path = tmp_path / name
    put(path, '[{"targets": ["10.0.0.1:8000"]}]')
    async with watching(listing(path)) as running:
        put(path, text)
        await eventually(lambda: running.state()["why"])
        assert running.state()["why"].startswith(f"{path}:{line}: {why}" if line else f"{path}: {why}")
        assert running.urls() == [ONE] and running.state()["state"] == "degraded"
        put(path, '[{"targets": ["10.0.0.2:8000"]}]')
        await eventually(lambda: running.urls() == [TWO])
        assert running.state()["why"] == ""


async def test_another_mistake_within_a_minute_is_told_when_the_minute_is_over(tmp_path, monkeypatch, caplog):
    path = tmp_path / "e.json"
    monkeypatch.setattr(known_kind, "QUIET", 0.5)
    put(path, "{")
    async with watching(listing(path)) as running:
        put(path, [{"targets": ["10.0.0.1:8000"]}])
        await eventually(lambda: running.urls() == [ONE])
        put(path, [{"targets": ["a b"]}])
        await eventually(lambda: "a URL cannot have" in running.state()["why"])
        await eventually(lambda: "a URL cannot have" in caplog.text)
        await eventually(lambda: "1 endpoint(s) stay" in caplog.text)
        assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 2


async def test_a_file_that_is_not_there_lists_nothing_until_it_is(tmp_path):
    path = tmp_path / "later" / "e.json"
    async with watching(listing(path)) as running:
        assert running.urls() == [] and running.state()["state"] == "down"
        assert running.state()["why"] == f"{path}: the file cannot be read: there is no such file"
        path.parent.mkdir()
        put(path, [{"targets": ["10.0.0.1:8000"]}])
        await eventually(lambda: running.urls() == [ONE])
        path.unlink()
        await eventually(lambda: running.state()["why"])
        assert running.urls() == [ONE]


async def test_a_list_that_is_being_written_counts_when_it_has_come_to_rest(tmp_path, monkeypatch):
    """The beginning of a YAML list is a good, shorter list."""
    path = tmp_path / "e.yaml"
    lines = [f"- targets: [10.0.0.{number}:8000]\n" for number in (1, 2, 3, 4)]
    path.write_text("".join(lines[:3]))
    looks = iter(range(1_000_000))

    def writing(paths: list[Path]) -> Any:
        number = min(next(looks), 4)
        path.write_text("".join(lines[:number]))
        return {paths[0]: (number,)}

    async with watching(listing(path)) as running:
        lengths: list[int] = []
        running.registries._on_change = lambda name: lengths.append(len(running.urls()))
        monkeypatch.setattr(file_kind, "marks", writing)
        await eventually(lambda: lengths)
        assert lengths == [4] and next(looks) >= 5


async def test_a_list_that_never_rests_is_read_all_the_same(tmp_path, monkeypatch):
    path = tmp_path / "e.json"
    path.write_text('[{"targets": ["10.0.0.1:8000"]}]')
    async with watching(listing(path)) as running:
        ticks = iter(range(1_000_000))
        monkeypatch.setattr(file_kind, "marks", lambda paths: {paths[0]: (next(ticks),)})
        path.write_text('[{"targets": ["10.0.0.2:8000"]}]')
        await eventually(lambda: running.urls() == [TWO])


# -- all of them ------------------------------------------------------------------------------------------------------


def fixed(*urls: str, name: str = "lab") -> Registry:
    return Registry(name=name, type="static", urls=urls)


async def test_a_static_registry_lists_what_is_written():
    async with watching(fixed(TWO, ONE + "/v1")) as running:
        assert [(one.url, one.host, one.base) for one in running.registries.endpoints("lab")] == [
            (ONE + "/v1", "10.0.0.1", ""),
            (TWO, "10.0.0.2", ""),
        ]
        assert running.state()["state"] == "up"
    with pytest.raises(KeyError):
        running.registries.endpoints("nobody")


async def test_a_revision_keeps_what_did_not_change_and_forgets_what_is_gone(dns):
    dns.say("gpu.lab", "A", a("10.0.0.1"), ttl=600)
    same, other = hosts(dns, "same", family="ipv4"), fixed(ONE, name="other")
    async with watching(same, other) as running:
        asked = dns.count("gpu.lab", "A")
        running.registries.adopt({"same": msgspec.structs.replace(same), "third": fixed(TWO, name="third")})
        await running.registries.settled(10)
        assert running.urls("same") == [ONE] and running.urls("third") == [TWO] and dns.count("gpu.lab", "A") == asked
        assert [one["name"] for one in running.registries.states()] == ["same", "third"]


async def test_what_is_asked_otherwise_keeps_what_was_known_and_what_is_asked_elsewhere_does_not(dns):
    dns.say("gpu.lab", "A", a("10.0.0.1"))
    config = hosts(dns, family="ipv4")
    async with watching(config) as running:
        dns.script("gpu.lab", "A", SERVFAIL)
        running.registries.adopt({"lab": msgspec.structs.replace(config, ttl_min=0.05)})
        assert running.urls() == [ONE]
        await eventually(lambda: running.state()["why"])
        assert running.urls() == [ONE] and running.registries.answered("lab")
        running.registries.adopt({"lab": msgspec.structs.replace(config, host="other.lab")})
        assert running.urls() == [] and not running.registries.answered("lab")


async def test_settling_waits_for_the_slowest_but_not_for_ever(dns):
    dns.script("gpu.lab", "A", SILENCE)
    registries = Registries()
    registries.adopt({"lab": hosts(dns, family="ipv4"), "fix": fixed(ONE, name="fix")})
    task = asyncio.create_task(registries.run())
    await registries.settled(0.05)
    assert [one["why"] for one in registries.states()] == ["not looked at yet", ""]
    await registries.settled(10)
    assert registries.states()[0]["why"] == "gpu.lab A: no answer in time"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_fault_of_ours_ends_neither_the_watching_nor_what_is_known(monkeypatch, caplog):
    from gateway.discover.registries import registries as module

    monkeypatch.setattr(module, "AGAIN", 0.01)
    steps = iter([ONE, "", TWO])

    async def watch(known: Any) -> None:
        step = next(steps)
        if step:
            known.found([endpoint_at(step)])
        if step != TWO:
            raise RuntimeError("oops")

    monkeypatch.setattr(module, "KINDS", {"static": watch})
    async with watching(fixed()) as running:
        await eventually(lambda: running.urls() == [TWO])
        assert running.changes == ["lab", "lab"] and running.state()["state"] == "up"
    assert sum(record.levelname == "ERROR" for record in caplog.records) == 2


def test_the_servers_script_repeats_its_steps():
    server = DnsServer()
    server.script("x", "A", Step(code=1), Step(code=2))
    assert [server._step(("x", "A"), "udp").code for _ in range(4)] == [1, 2, 1, 2]

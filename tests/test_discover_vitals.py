"""How engines feel: their health paths and figures over real sockets, at which addresses, and what is never asked."""

import asyncio

import msgspec
import pytest

from gateway.config.resolved import Channel, Tls
from gateway.discover import endpoints as module
from gateway.discover import vitals as vitals_module
from gateway.discover.endpoints import Endpoints
from gateway.discover.planes import BUSINESS, address
from gateway.discover.trouble import Trouble
from gateway.discover.vitals import Vitals, health_of, health_path
from gateway.engine.base import Load
from gateway.engine.family import DIALECTS
from gateway.simulate import script
from gateway.simulate.engine import Work
from gateway.simulate.simulator import Simulator, start
from tests.test_discover_endpoints import by_name, channel, quick, running, state, until

assert quick is not None  # a fixture


async def look(vitals: Vitals, at: Channel, *, health: bool = True, keep: bool = False) -> bool:
    return await vitals.look(at, at.endpoints[0], at.engine, health=health, keep=keep, total=2.0)


def paths(engine: Simulator) -> list[str]:
    return [request.path for request in engine.requests]


# -- what answers mean ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "health"),
    [
        ((200, {}, b""), "good"),
        ((200, {}, b'{"message":"Service is alive but busy"}'), "good"),
        ((503, {}, b'{"message":"Service is alive but busy. Consider reducing request frequency"}'), "busy"),
        ((503, {}, b""), "bad"),
        ((500, {}, b'{"message":"Service is abnormal"}'), "bad"),
        ((404, {}, b""), "unknown"),
        ((401, {}, b""), "unknown"),
        (Trouble("timeout", "it is silent"), "silent"),
    ],
)
def test_what_a_health_path_says(answer, health):
    assert health_of(answer, "/health")[0] == health


def test_only_health_paths_that_cost_nothing_are_asked():
    found = {name: health_path(dialect.planes) for name, dialect in DIALECTS.items()}
    assert found == {"openai": None, "vllm": "/health", "sglang": None, "mindie": "/v2/health/ready"}


# -- where -----------------------------------------------------------------------------------------------------------


def at(plane: str, number: int, planes: dict[str, str], *urls: str) -> str | None:
    one = channel("x", *urls, planes=planes)
    found = address(one, one.endpoints[number], plane)
    return found[0].url if found else None


def test_where_a_plane_answers():
    urls = ("https://10.0.0.5:1025", "https://10.0.0.6:1025")
    metrics = {"metrics": "https://10.0.0.5:1027"}
    assert at(BUSINESS, 0, metrics, *urls) == at("management", 0, metrics, *urls) == urls[0]
    assert at("metrics", 0, metrics, urls[0]) == "https://10.0.0.5:1027"
    assert at("metrics", 0, {"metrics": "http://127.0.0.2:9"}, urls[0]) == "http://127.0.0.2:9", "one endpoint: as it is written"
    assert [at("metrics", n, metrics, *urls) for n in (0, 1)] == ["https://10.0.0.5:1027", "https://10.0.0.6:1027"]
    assert at("metrics", 1, {"metrics": "https://[fd00::1]:1027"}, "https://[fd00::1]:1", "https://[fd00::2]:1") == "https://[fd00::2]:1027"
    assert at("metrics", 0, {"metrics": "https://10.9.9.9:1027"}, *urls) is None, "whose figures they are nobody can tell"
    assert at("metrics", 0, metrics, urls[0], "https://10.0.0.5:2025") is None


def test_a_plane_has_its_own_tls_and_the_business_one_the_channels():
    plane, own = Tls(ca="plane.pem"), Tls(ca="own.pem")
    one = channel("x", "https://h:1", planes={"metrics": "https://h:2"}, plane_tls={"metrics": plane}, tls=own)
    found = [address(one, one.endpoints[0], name) for name in ("metrics", "management")]
    assert [at[1] for at in found if at] == [plane, own]


# -- engines ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "asked"), [("vllm", ["/health", "/metrics"]), ("sglang", ["/metrics"])])
async def test_figures_and_health_of_an_engine(kind, asked):
    async with await start(kind) as engine:
        engine.engine.waiting = 3
        vitals = Vitals()
        assert await look(vitals, channel("gpu", engine.url, engine=kind))
        assert paths(engine) == asked
        assert vitals.load == Load(running=0, waiting=3, kv_use=0, prompt_tokens=0, generation_tokens=0)
        assert vitals.health == ("good" if kind == "vllm" else "unknown")


async def test_mindies_planes_each_at_its_own_address():
    async with await start("mindie", management_port=0, metrics_port=0) as engine:
        planes = {"management": engine.management_url, "metrics": engine.metrics_url}
        one = channel("npu", engine.url, engine="mindie", planes=planes, credential="secret", headers={"X-Team": "x"})
        vitals = Vitals()
        assert await look(vitals, one) and vitals.health == "good"
        engine.health = "busy"
        await look(vitals, one)
        assert (vitals.health, vitals.health_why) == ("busy", "the engine says that it is busy")
        engine.health = "down"
        await look(vitals, one)
        assert vitals.health == "bad" and "/v2/health/ready is answered with 500" in vitals.health_why
        assert {(request.plane, request.path) for request in engine.requests} == {
            ("management", "/v2/health/ready"),
            ("metrics", "/metrics"),
        }
        assert not [request for request in engine.requests if "authorization" in request.headers or "x-team" in request.headers]
        assert not engine.touched


async def test_missing_metrics_are_no_fault_and_are_not_asked_for_again_at_once(monkeypatch):
    async with await start("mindie", monitor=False) as engine:
        vitals, one = Vitals(), channel("npu", engine.url, engine="mindie")
        vitals.load = Load(running=5.0)
        for _ in range(3):
            assert not await look(vitals, one, health=False)
        assert paths(engine) == ["/metrics"] and vitals.load == Load()
        monkeypatch.setattr(vitals_module, "ABSENT", 0.0)
        vitals = Vitals()
        for _ in range(3):
            await look(vitals, one, health=False)
        assert len(paths(engine)) == 4


async def test_a_health_path_that_is_not_there():
    async with await start("vllm") as engine:
        engine.script = script.of({"path": "/health", "do": "status", "status": 404})
        vitals, one = Vitals(), channel("gpu", engine.url)
        for _ in range(3):
            await look(vitals, one)
        assert paths(engine).count("/health") == 1 and vitals.health == "unknown"
        assert paths(engine).count("/metrics") == 3
        vitals.forget()
        await look(vitals, one)
        assert paths(engine).count("/health") == 2


async def test_an_engine_that_is_silent_or_gone_leaves_the_figures_as_they_were():
    async with await start("vllm") as engine:
        vitals, one = Vitals(), channel("gpu", engine.url)
        engine.engine.waiting = 2
        await look(vitals, one)
        engine.script = script.of({"path": "/metrics", "do": "reset"})
        assert not await look(vitals, one) and vitals.load.waiting == 2
        await engine.down()
        assert not await look(vitals, one) and vitals.load.waiting == 2


async def test_a_plane_whose_tls_cannot_be_used_is_no_fault(tmp_path):
    async with await start("vllm") as engine:
        plane = {"metrics": "https://127.0.0.1:9"}
        one = channel("npu", engine.url, engine="mindie", planes=plane, plane_tls={"metrics": Tls(ca=str(tmp_path / "none.pem"))})
        assert not await look(Vitals(), one, health=False)


async def test_connections_are_kept_for_the_next_look_when_it_is_soon():
    ports = []

    async def serve(reader, writer):
        ports.append(writer.get_extra_info("peername")[1])
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nx 1\n")
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    one = channel("gpu", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    vitals = Vitals()
    for _ in range(3):
        await look(vitals, one, keep=True)
    assert len(ports) == 1
    await look(vitals, one)
    await look(vitals, one)
    assert len(ports) == 2, "the kept one was used once more, and closed"
    await vitals.close()
    server.close()
    await server.wait_closed()


# -- in the round of looks --------------------------------------------------------------------------------------------


async def test_states_that_engines_tell_themselves(quick):
    async with await start("mindie") as engine, await start("vllm") as other:
        endpoints = Endpoints()
        endpoints.adopt(by_name(channel("npu", engine.url, engine="mindie"), channel("gpu", other.url)))
        async with running(endpoints):
            await until(lambda: all(one["models"] for one in endpoints.states()))
            engine.health, other.health = "busy", "down"
            await until(lambda: (state(endpoints, 0), state(endpoints, 1)) == ("busy", "down"))
            assert endpoints.states()[1]["why"] == "the engine says that it is not well: /health is answered with 503"
            engine.health = other.health = "ready"
            await until(lambda: (state(endpoints, 0), state(endpoints, 1)) == ("up", "up"))


async def test_an_engine_that_stalls_is_found_wedged_and_found_well_again(quick):
    async with await start("vllm") as engine:
        endpoints = Endpoints()
        endpoints.adopt(by_name(channel("gpu", engine.url, wedged_after=0.3)))
        async with running(endpoints):
            await until(lambda: endpoints.states()[0]["running"] == 0)
            asked = len(engine.requests)
            work = Work(prompt_tokens=5)
            engine.engine.begin(work, 0.0, 0.0)
            await until(lambda: state(endpoints) == "wedged")
            (one,) = endpoints.states()
            assert (one["running"], one["wedgings"]) == (1, 1) and one["why"].startswith("requests run in it")
            engine.engine.token(work, 1, 0.0)
            await until(lambda: state(endpoints) == "up")
            await until(lambda: state(endpoints) == "wedged")
            engine.engine.end(work, 0.0, how="aborted")
            await until(lambda: state(endpoints) == "up")
        assert not [request for request in engine.requests[asked:] if request.number], "not a token was spent"


async def test_figures_are_read_often_where_engines_are_wedged_after_a_short_time(quick, monkeypatch):
    monkeypatch.setattr(module, "EVERY", 30.0)
    monkeypatch.setattr(module, "CLOSELY", 0.05)
    async with await start("vllm") as engine, await start("vllm") as other:
        endpoints = Endpoints()
        endpoints.adopt(by_name(channel("gpu", engine.url, wedged_after=29.0), channel("idle", other.url)))
        async with running(endpoints):
            await until(lambda: paths(engine).count("/metrics") >= 5)
        assert paths(engine).count("/v1/models") == 1 and paths(other).count("/metrics") == 1


async def test_figures_are_read_often_where_they_decide(quick, monkeypatch):
    monkeypatch.setattr(module, "EVERY", 30.0)
    monkeypatch.setattr(module, "CLOSELY", 0.05)
    seen = []
    async with await start("vllm") as engine, await start("vllm") as other:
        endpoints = Endpoints()
        endpoints.on_seen = lambda look, figures: seen.append((look.channel.name, figures))
        endpoints.adopt(by_name(channel("gpu", engine.url), channel("idle", other.url)))
        async with running(endpoints):
            await until(lambda: len(seen) == 2)
            endpoints.watch_closely({"gpu"})
            await until(lambda: paths(engine).count("/metrics") >= 5)
            assert paths(engine).count("/v1/models") == 1 and paths(other).count("/metrics") == 1
            endpoints.watch_closely(())
            many = paths(engine).count("/metrics")
            endpoints.adopt({})
            assert endpoints.looks() == {}
        assert set(seen) == {("gpu", True), ("idle", True)}
        assert paths(engine).count("/metrics") <= many + 1


async def test_a_lost_packet_is_no_outage_but_silence_is(quick, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    async with await start("vllm") as engine:
        endpoints = Endpoints()
        endpoints.adopt(by_name(channel("gpu", engine.url)))
        states = []
        endpoints.on_seen = lambda look, figures: states.append((look.failures, look.state))
        async with running(endpoints):
            await until(lambda: states)
            engine.script = script.of({"path": "/v1/models", "on": 1, "do": "stall", "for": "1s"})
            await until(lambda: any(failures for failures, _ in states))
            await until(lambda: states[-1][0] == 0)
            assert {one for _, one in states} == {"up"}
            engine.script = script.of({"path": "/v1/models", "do": "stall"})
            await until(lambda: states[-1][1] == "down")
            assert states[-1][0] == 2


async def test_other_models_are_wanted_and_looked_for_at_once(quick, monkeypatch):
    monkeypatch.setattr(module, "EVERY", 30.0)
    async with await start("vllm", model="qwen3") as engine:
        endpoints = Endpoints()
        endpoints.adopt(by_name(channel("gpu", engine.url)))
        async with running(endpoints):
            await until(lambda: endpoints.states()[0]["models"])
            endpoints.adopt(by_name(channel("gpu", engine.url, model="llama")))
            await until(lambda: state(endpoints) == "down")
            assert endpoints.states()[0]["why"].startswith("model missing: llama")


async def test_what_a_registry_adds_waits_for_its_first_look(quick):
    async with await start("vllm") as engine, await start("vllm") as other:
        endpoints = Endpoints()
        first = channel("gpu", engine.url, registry="lab")
        endpoints.adopt(by_name(first))
        assert not endpoints.looks()["gpu", engine.url].new, "nobody else could serve meanwhile"
        endpoints.adopt(by_name(channel("gpu", engine.url, other.url, registry="lab")))
        assert [look.verdict for look in endpoints.looks().values()] == ["", "new"]
        assert endpoints.states()[1]["state"] == "degraded"
        async with running(endpoints):
            await until(lambda: [look.verdict for look in endpoints.looks().values()] == ["", ""])
            weighted = tuple(msgspec.structs.replace(one, weight=7) for one in first.endpoints)
            before = endpoints.looks()["gpu", engine.url]
            endpoints.adopt(by_name(msgspec.structs.replace(first, endpoints=weighted)))
            assert endpoints.looks()["gpu", engine.url] is before and before.endpoint.weight == 7

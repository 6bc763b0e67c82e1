"""What control knows of its endpoints: looked at in the background, resolved when `auto`, kept over revisions."""

import asyncio
import contextlib

import msgspec
import pytest

from gateway.config.fields import url_of
from gateway.config.resolved import Channel, Endpoint, Model, Retry, Target, Timeouts
from gateway.discover import endpoints as module
from gateway.discover.endpoints import Endpoints
from gateway.discover.finding import ModelSeen, Probe
from gateway.discover.look import judge
from gateway.discover.probe import probe
from gateway.simulate import script
from gateway.simulate.simulator import start


def channel(name: str, *urls: str, engine: str = "vllm", model: str | None = "qwen3", **options) -> Channel:
    found = []
    for url in urls:
        scheme, host, port, base = url_of(url)
        found.append(Endpoint(url=url, scheme=scheme, host=host, port=port, base=base))
    fields = {
        "credential": None,
        "headers": {},
        "tls": None,
        "usage": "final",
        "reasoning": "reasoning_content",
        "timeouts": Timeouts(connect=3, first_event=60, idle=60, total=600),
        "keepalive": 4.0,
        "planes": {},
        "plane_tls": {},
        "auto": engine == "auto",
    } | options
    return Channel(name=name, engine="openai" if engine == "auto" else engine, model=model, endpoints=tuple(found), **fields)


def by_name(*channels: Channel) -> dict[str, Channel]:
    return {one.name: one for one in channels}


def model(name: str, **targets: str) -> Model:
    found = tuple(Target(channel=where, model=what, weight=1) for where, what in targets.items())
    return Model(name=name, aliases=(), policy="proportional", targets=found, retry=Retry(on=(), attempts=1, within=1))


async def until(condition):
    """A change that comes by itself: the test fails by its time limit when it does not."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - it is other people's state
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running(endpoints: Endpoints):
    task = asyncio.create_task(endpoints.run())
    try:
        yield
    finally:
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(module, "EVERY", 0.1)
    monkeypatch.setattr(module, "SOON", 0.05)
    monkeypatch.setattr(module, "TICK", 0.01)


def state(endpoints: Endpoints, number: int = 0) -> str:
    return str(endpoints.states()[number]["state"])


async def test_before_the_first_look_nothing_is_held_against_an_endpoint():
    endpoints = Endpoints()
    endpoints.adopt(by_name(channel("gpu", "http://127.0.0.1:1")))
    (one,) = endpoints.states()
    assert (one["channel"], one["endpoint"], one["engine"]) == ("gpu", "http://127.0.0.1:1", "vllm")
    assert (one["state"], one["why"], one["models"], one["tls"]) == ("up", "not looked at yet", [], None)
    assert endpoints.engine_of("gpu") is None and endpoints.engine_of("nothing") is None


async def test_an_endpoint_goes_and_comes_back(quick, caplog):
    caplog.set_level("INFO", "gateway.endpoints")
    async with await start("vllm", max_model_len=4096) as engine:
        endpoints = Endpoints()
        endpoints.adopt(by_name(channel("gpu", engine.url)))
        async with running(endpoints):
            await until(lambda: endpoints.states()[0]["models"])
            (one,) = endpoints.states()
            assert (one["state"], one["why"], one["engine"]) == ("up", "", "vllm")
            assert (one["models"], one["context_length"], one["version"]) == (["qwen3"], 4096, "0.33.0")
            await engine.down()
            await until(lambda: state(endpoints) == "down")
            (one,) = endpoints.states()
            assert one["why"].startswith("connection refused") and one["models"] == ["qwen3"]
            await engine.up()
            await until(lambda: state(endpoints) == "up")
            assert endpoints.states()[0]["since"] > one["since"]
    said = [record.getMessage() for record in caplog.records]
    assert (
        said[0].startswith(f"channel gpu: {engine.url} is down: connection refused") and said[1] == f"channel gpu: {engine.url} is up again"
    )


async def test_who_comes_later_waits_for_nobody_who_is_looked_at_seldom(monkeypatch):
    monkeypatch.setattr(module, "EVERY", 600.0)
    async with await start("vllm") as engine:
        endpoints = Endpoints()
        async with running(endpoints):
            await asyncio.sleep(0)  # it waits, for nothing so far
            endpoints.adopt(by_name(channel("first", engine.url)))
            await until(lambda: endpoints.states()[0]["models"])
            endpoints.adopt(by_name(channel("first", engine.url), channel("second", engine.url)))
            await until(lambda: len(endpoints.states()) == 2 and all(one["models"] for one in endpoints.states()))


@pytest.mark.parametrize(
    ("failures", "many", "period"), [(0, 1, 10), (1, 1, 1), (2, 1, 3), (99, 1, 3), (0, 2000, 20), (1, 2000, 1), (2, 2000, 20), (2, 600, 6)]
)
def test_who_fails_is_looked_at_sooner_but_not_all_of_thousands_at_once(failures, many, period):
    endpoints = Endpoints()
    endpoints.adopt(by_name(channel("gpu", *(f"http://127.0.0.1:{1 + at}" for at in range(many)))))
    look = next(iter(endpoints.looks().values()))
    look.failures = failures
    assert endpoints._period(look) == pytest.approx(period, rel=0.11)


async def test_between_two_whole_probes_only_what_is_cheap_is_asked_for(quick):
    async with await start("mindie", model=("qwen3", "lora"), max_model_len=2560) as engine:
        endpoints = Endpoints()
        endpoints.adopt(by_name(channel("ascend", engine.url, engine="mindie")))
        async with running(endpoints):
            await until(lambda: len(engine.requests) >= 11)
            (one,) = endpoints.states()
        paths = [request.path for request in engine.requests]
        assert paths[:4] == ["/v1/models", "/v2", "/v2/models/qwen3/config", "/v2/models/lora/config"]
        assert paths[4:10] == ["/v2/health/ready", "/metrics", "/v1/models"] * 2
        assert not engine.touched
        assert (one["state"], one["context_length"], one["version"]) == ("up", 2560, "3.0.0")


async def test_a_model_that_the_engine_does_not_list():
    async with await start("vllm", model="qwen3") as engine:
        endpoints = Endpoints()
        channels = by_name(channel("gpu", engine.url, model=None))
        endpoints.adopt(channels, {"big": model("big", gpu="qwen3"), "small": model("small", gpu="qwen3-small", other="x")})
        await endpoints.probe_channel("gpu")
        (one,) = endpoints.states()
        assert one["state"] == "degraded" and one["why"] == "model missing: qwen3-small (the engine lists qwen3)"
        endpoints.adopt(channels, {"big": model("big", gpu="qwen3")})
        await endpoints.probe_channel("gpu")
        assert state(endpoints) == "up"


@pytest.mark.parametrize(
    ("status", "state_then", "why"),
    [
        (401, "degraded", "the engine refuses the credential (401)"),
        (503, "degraded", "the model list is answered with 503"),
        (502, "down", "a proxy before the engine cannot reach it (502)"),
    ],
)
async def test_an_endpoint_that_answers_otherwise(quick, status, state_then, why):
    async with await start("vllm") as engine:
        endpoints = Endpoints()
        endpoints.adopt(by_name(channel("gpu", engine.url)))
        async with running(endpoints):
            await until(lambda: endpoints.states()[0]["models"])
            engine.script = script.of({"path": "/v1/models", "do": "status", "status": status})
            await until(lambda: state(endpoints) != "up")
            assert (state(endpoints), endpoints.states()[0]["why"]) == (state_then, why)
            engine.script = script.of({"path": "/v1/models", "do": "garbage"})
            await until(lambda: endpoints.states()[0]["why"] == "the answer to /v1/models is no model list")
            assert state(endpoints) == "degraded"


async def test_a_channel_whose_engine_is_another_one():
    async with await start("sglang") as engine:
        endpoints = Endpoints()
        endpoints.adopt(by_name(channel("gpu", engine.url, engine="vllm"), channel("any", engine.url, engine="openai")))
        await endpoints.probe_channel("gpu")
        await endpoints.probe_channel("any")
    assert [(one["state"], one["why"]) for one in endpoints.states()] == [
        ("degraded", "it answers as sglang, its channel is vllm"),
        ("up", ""),
    ]


async def test_auto_channels_are_resolved_at_once_and_not_told(quick):
    told = []
    async with await start("vllm") as a, await start("sglang") as b, await start("mindie") as c:
        endpoints = Endpoints(on_detected=lambda *what: told.append(what))
        endpoints.adopt(by_name(*(channel(name, one.url, engine="auto") for name, one in (("a", a), ("b", b), ("c", c)))))
        await endpoints.detect_all(3.0)
        assert [endpoints.engine_of(name) for name in "abc"] == ["vllm", "sglang", "mindie"]
        async with running(endpoints):
            asked = len(a.requests)
            await until(lambda: len(a.requests) > asked + 1)
        assert not told
        before = len(b.requests)
        await endpoints.detect_all(3.0)
        assert len(b.requests) == before


async def test_detection_waits_no_longer_than_it_may(unused_tcp_port):
    async def silent(reader, writer):
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with await start("vllm") as engine:
        endpoints = Endpoints()
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        endpoints.adopt(
            by_name(channel("deaf", address, engine="auto"), channel("gone", f"http://127.0.0.1:{unused_tcp_port}", engine="auto"))
            | by_name(channel("gpu", engine.url, engine="auto"))
        )
        began = asyncio.get_running_loop().time()
        await endpoints.detect_all(0.5)
        assert asyncio.get_running_loop().time() - began < 3
    assert [endpoints.engine_of(name) for name in ("deaf", "gone", "gpu")] == [None, None, "vllm"]
    assert [one["state"] for one in endpoints.states()][1:] == ["down", "up"]
    server.close()
    await server.wait_closed()
    assert len(asyncio.all_tasks()) <= 2


async def test_an_engine_that_comes_later_or_is_replaced_is_told(quick):
    told: list[tuple[str, str]] = []

    def on_detected(name, engine):
        told.append((name, engine))
        raise RuntimeError("control is busy")

    async with await start("vllm") as engine:
        await engine.down()
        endpoints = Endpoints(on_detected=on_detected)
        endpoints.adopt(by_name(channel("lab", engine.url, engine="auto")))
        await endpoints.detect_all(1.0)
        async with running(endpoints):
            assert endpoints.engine_of("lab") is None and endpoints.states()[0]["engine"] == ""
            await engine.up()
            await until(lambda: told)
            assert told == [("lab", "vllm")]
            port = engine.port
            await engine.stop()
            async with await start("sglang", port=port):
                await until(lambda: len(told) > 1)
            assert told == [("lab", "vllm"), ("lab", "sglang")]
            assert endpoints.engine_of("lab") == "sglang"


async def test_what_is_known_outlives_a_revision_unless_the_endpoint_changed(quick):
    async with await start("vllm") as engine:
        endpoints = Endpoints()
        first = channel("gpu", engine.url)
        endpoints.adopt(by_name(first, channel("other", engine.url)))
        await endpoints.probe_channel("gpu")
        await endpoints.probe_channel("other")
        await endpoints.detect_all(1.0)
        endpoints.adopt(by_name(msgspec.structs.replace(first, usage="count")))
        (one,) = endpoints.states()
        assert one["models"] == ["qwen3"]
        endpoints.adopt(by_name(msgspec.structs.replace(first, credential="new")))
        (one,) = endpoints.states()
        assert (one["models"], one["why"]) == ([], "not looked at yet")
        with pytest.raises(KeyError):
            await endpoints.probe_channel("other")
        async with running(endpoints):
            await until(lambda: endpoints.states()[0]["models"])
            endpoints.adopt({})
            assert endpoints.states() == []


async def test_a_fresh_probe_of_a_channel(unused_tcp_port):
    async with await start("sglang") as engine:
        endpoints = Endpoints()
        endpoints.adopt(by_name(channel("lab", engine.url, f"http://127.0.0.1:{unused_tcp_port}", engine="auto")))
        found = await endpoints.probe_channel("lab")
    assert (found["channel"], found["engine"], found["detected"]) == ("lab", "auto", "sglang")
    assert [one["reachable"] for one in found["endpoints"]] == [True, False]
    assert found["endpoints"][0]["models"] == [{"id": "qwen3", "context_length": 32768}]
    assert [one["state"] for one in endpoints.states()] == ["up", "down"]


async def test_many_endpoints_are_looked_at_a_few_at_a_time(quick, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 4)
    at_once = most = seen = 0

    async def peek(endpoint, *_, **__):
        nonlocal at_once, most, seen
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.001)
        at_once -= 1
        seen += 1
        return Probe(url=endpoint.url, reachable=True, status=200, models=[ModelSeen(id="qwen3")])

    monkeypatch.setattr(module, "probe", peek)
    monkeypatch.setattr(module, "peek", peek)
    endpoints = Endpoints()
    endpoints.adopt(by_name(*(channel(f"c{number}", f"http://10.0.0.1:{number + 1}") for number in range(200))))
    async with running(endpoints):
        await until(lambda: all(one["models"] for one in endpoints.states()))
    assert seen >= 200 and most == 4


async def test_a_fault_of_ours_ends_no_looking(quick, monkeypatch, caplog):
    async with await start("vllm") as engine:
        endpoints = Endpoints()
        endpoints.adopt(by_name(channel("gpu", engine.url)))
        real = probe

        async def broken(*arguments, **named):
            monkeypatch.setattr(module, "probe", real)
            raise TypeError("a fault")

        monkeypatch.setattr(module, "probe", broken)
        async with running(endpoints):
            await until(lambda: endpoints.states()[0]["models"])
    assert f"looking at {engine.url} ended in a fault of ours" in caplog.text


def test_an_adapter_of_sglang_is_there_when_its_base_is():
    found = Probe(url="u", reachable=True, status=200, models=[ModelSeen(id="qwen3")])
    assert judge(found, ("qwen3:poet",), "sglang", "sglang") == ("up", "")
    assert judge(found, ("qwen3:poet",), "vllm", "vllm")[0] == "down"


async def test_a_fault_of_ours_while_detecting_is_logged(monkeypatch, caplog):
    async def broken(*_, **__):
        raise TypeError("a fault")

    monkeypatch.setattr(module, "probe", broken)
    endpoints = Endpoints()
    endpoints.adopt(by_name(channel("lab", "http://127.0.0.1:1", "http://127.0.0.1:1", engine="auto")))
    await endpoints.detect_all(1.0)
    assert endpoints.engine_of("lab") is None and len(endpoints.states()) == 1
    assert "asking an endpoint ended in a fault of ours" in caplog.text

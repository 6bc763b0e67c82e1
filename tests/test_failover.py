"""Who is tried next, when, and what the caller is told when nobody can serve."""

import asyncio
import json
import resource
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.harness import KEY, Rig, eventually, free_port, script

pytestmark = pytest.mark.asyncio(loop_scope="module")

ODD = "zebra-7b-internal"
"""The engines' own name for their model: it must never be seen outside."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """Each test uses channels of its own, since a breaker remembers."""
    async with Rig(tmp_path_factory.mktemp("failover")) as rig:
        for name in ("a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m"):
            channel = {"credential": "engine-secret-42", "timeouts": {**SHORT}, "breaker": {"share": 100, "slow_start": "0s"}}
            await rig.engine(name, "sglang" if name in "cd" else "vllm", model=ODD, channel=channel)
        dead = {"engine": "vllm", "model": ODD, "endpoints": [f"http://127.0.0.1:{free_port()}"]}
        rig.config["channels"] |= {"dead": dead, "notls": {**dead, "endpoints": [rig.engines["a"].url.replace("http:", "https:")]}}
        rig.config["channels"]["two"] = {**dead, "endpoints": [rig.engines["j"].url, rig.engines["k"].url]}
        for name in "abcdefghijklm":
            rig.model(f"only-{name}", {name: 1})
        rig.model("ab", {"a": 1, "b": 0})
        for n in range(len(FAULTS)):
            rig.model(f"ab{n}", {"a": 1, "b": 0})  # each its own retry budget
        rig.model("cd", {"c": 1, "d": 0})
        rig.model("dead-b", {"dead": 1, "b": 0})
        rig.model("l-b", {"l": 1, "b": 0})
        rig.model("notls-b", {"notls": 1, "b": 0})
        rig.model("dead", {"dead": 1})
        rig.model("dead-or-b", {"dead": 1}, fallback=["only-b"])
        rig.model("picky", {"j": 1, "b": 0}, retry={"on": ["connect"]})
        rig.model("once", {"j": 1, "b": 0}, retry={"attempts": 1})
        rig.model("hasty", {"k": 1, "b": 0}, retry={"within": "100ms"})
        rig.model("shares", {"f": 3, "g": 1})
        rig.model("budget", {"h": 1, "b": 0})
        rig.model("two", {"two": 1})
        rig.model("embeds", {"i": 1})
        await rig.start()
        yield rig


SHORT = {"connect": "1s", "first_event": "500ms", "idle": "500ms", "total": "5s"}


@pytest.fixture
async def rig(gateway):
    for engine in gateway.engines.values():
        engine.script = script()
        engine.requests.clear()
    return gateway


def tries(record) -> list[tuple[str, str, str]]:
    return [(attempt["kind"], attempt["channel"], attempt["reason"]) for attempt in record["attempts"]]


def calls(rig: Rig, name: str) -> int:
    return sum(1 for request in rig.engines[name].requests if request.number)


FAULTS = [
    ({"do": "status", "status": 500}, "status_500"),
    ({"do": "status", "status": 503}, "status_503"),
    ({"do": "status", "status": 429}, "status_429"),
    ({"do": "status", "status": 401}, "status_401"),
    ({"do": "status", "status": 403}, "status_403"),
    ({"do": "status", "status": 404}, "status_404"),
    ({"do": "queue_full"}, "status_503"),
    ({"do": "reset"}, "reset"),
    ({"do": "refuse"}, "reset"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("number", range(9))
async def test_a_failure_before_commit_is_somebody_elses_chance(rig, number, stream):
    fault, reason = FAULTS[number]
    rig.engines["a"].script = script(fault)
    answer = await rig.chat(f"ab{number}", stream=stream)
    assert answer.status == 200 and answer.error is None and (answer.done or not stream)
    assert (answer.headers["x-gateway-channel"], answer.headers["x-gateway-attempts"]) == ("b", "2")
    record = await rig.record(model=f"ab{number}", stream=True) if stream else await rig.record(model=f"ab{number}")
    assert tries(record) == [("first", "a", reason), ("failover", "b", "ok")]
    assert (record["end"], record["channel"], record["status"]) == ("--", "b", 200)
    rig.engines["a"].script = script()
    assert (await rig.chat("only-a")).status == 200  # well again, before its breaker opens


async def test_no_connection_is_somebody_elses_chance(rig):
    await rig.engines["l"].stop()
    answer = await rig.chat("l-b")
    assert answer.headers["x-gateway-channel"] == "b"
    assert tries(await rig.record(model="l-b")) == [("first", "l", "connect"), ("failover", "b", "ok")]


@pytest.mark.parametrize(("model", "reason"), [("dead-b", "connect"), ("notls-b", "tls")])
async def test_what_control_found_down_is_tried_last(rig, model, reason):
    async def down() -> bool:
        endpoints = (await rig.admin("GET", "/v1/health"))["endpoints"]
        return any(one["channel"] == model[:-2] and one["state"] == "down" for one in endpoints)

    await eventually(down, within=15)
    assert (await rig.chat(model)).headers["x-gateway-attempts"] == "1"
    rig.engines["b"].script = script({"do": "status", "status": 500})
    await rig.chat(model)
    assert tries(await rig.record(model=model, status=502)) == [("first", "b", "status_500"), ("failover", model[:-2], reason)]


async def test_an_error_as_the_first_event_is_somebody_elses_chance(rig):
    for fault, reason in (({"do": "error_event"}, "stream_error"), ({"do": "queue_full"}, "stream_error"), ({"do": "garbage"}, "garbage"),
                          ({"do": "bare_text", "after": 0}, "garbage"), ({"do": "cut", "after": 1}, "cut"),
                          ({"do": "stall", "at": "first_event"}, "timeout_first_event")):  # fmt: skip
        rig.engines["c"].script = script(fault)
        answer = await rig.chat("cd", stream=True)
        assert answer.done and answer.error is None and answer.headers["x-gateway-channel"] == "d"
        record = await rig.record(model="cd")
        assert tries(record)[0] in (("first", "c", reason), ("first", "c", "reset")), fault
        rig.engines["c"].script = script()
        await rig.chat("only-c")


async def test_the_callers_own_fault_is_told_at_once(rig):
    for status in (400, 422):
        body = {"error": {"message": f"{ODD}: temperature is wrong", "type": "BadRequestError", "code": status, "param": "temperature"}}
        rig.engines["a"].script = script({"do": "status", "status": status, "body": body})
        answer = await rig.chat("ab")
        assert answer.status == 400 and answer.error["type"] == "invalid_request_error" and answer.error["param"] == "temperature"
        assert answer.error["message"] == "ab: temperature is wrong"
        record = await rig.record(model="ab", status=400)
        assert record["end"] == "CW" and len(record["attempts"]) == 1
    assert calls(rig, "b") == 0
    assert await state(rig, "a") == "up", "an engine that says what is wrong is well"


async def test_nobody_to_turn_to(rig):
    answer = await rig.chat("dead")
    assert (answer.status, answer.error["code"]) == (502, "upstream_error") and "127.0.0.1" not in answer.error["message"]
    assert (await rig.record(model="dead"))["end"] == "UW"
    for status, told in ((401, 502), (403, 502), (404, 502), (500, 502), (503, 503), (429, 429), (504, 504)):
        rig.engines["e"].script = script({"do": "status", "status": status})
        answer = await rig.chat("only-e")
        assert answer.status == told and answer.error["code"].startswith("upstream_"), status
        assert answer.headers["x-gateway-channel"] == "e" and answer.headers["x-gateway-attempts"] == "1"


def resident(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.parametrize(("model", "status"), [("dead", 502), ("dead-or-b", 400), ("only-e", 502)])
async def test_what_failed_leaves_no_body_behind(rig, model, status):
    rig.engines["e"].script = script({"do": "status", "status": 500})
    pid = rig.pid_of("worker-0")
    assert (await rig.chat(model, "x" * 1_000_000)).status == status
    before = resident(pid)
    for _ in range(60):
        assert (await rig.chat(model, "x" * 1_000_000)).status == status
    assert resident(pid) - before < 40_000_000  # of 120 million bytes that were read and sent on


async def test_what_may_be_retried_is_the_models_choice(rig):
    rig.engines["j"].script = script({"do": "status", "status": 500})
    for model in ("picky", "once"):
        answer = await rig.chat(model)
        assert answer.status == 502 and len((await rig.record(model=model))["attempts"]) == 1
    rig.engines["k"].script = script({"do": "stall", "at": "headers"})  # the first event is not waited for so long
    answer = await rig.chat("hasty", stream=True)
    assert answer.status == 504 and len((await rig.record(model="hasty"))["attempts"]) == 1


async def test_shares_are_exact(rig):
    seen = [(await rig.chat("shares")).headers["x-gateway-channel"] for _ in range(16)]
    assert seen.count("f") == 12 and seen.count("g") == 4
    assert all(seen[n : n + 4].count("g") == 1 for n in range(0, 16, 4))


async def test_endpoints_take_turns(rig):
    for _ in range(6):
        assert (await rig.chat("two")).status == 200
    assert calls(rig, "j") == calls(rig, "k") == 3


async def state(rig: Rig, channel: str) -> str:
    """The endpoint as the worker's breaker sees it."""
    health = await rig.admin("GET", "/v1/health")
    return next((one["state"] for one in health["endpoints"] if one["channel"] == channel), "up")


async def test_the_engines_wish_to_be_left_alone_is_honoured(rig):
    rig.engines["i"].script = script({"do": "status", "status": 503, "headers": {"Retry-After": "1"}})
    answer = await rig.chat("only-i")
    assert answer.status == 503 and answer.headers["retry-after"] == "1" and answer.headers["retry-after-ms"] == "1000"
    rig.engines["i"].script = script()
    answer = await rig.chat("only-i")
    assert (answer.status, answer.error["code"]) == (503, "upstream_overloaded") and 0 < int(answer.headers["retry-after-ms"]) <= 1000
    assert calls(rig, "i") == 1, "it was left alone"
    record = await rig.record(model="only-i", error="resting")
    assert record["end"] == "UR" and "attempts" not in record
    await asyncio.sleep(int(answer.headers["retry-after-ms"]) / 1000 + 0.05)
    assert (await rig.chat("only-i")).status == 200


async def test_a_retry_budget_keeps_a_dying_engine_from_doubling_the_load(rig):
    """h fails every other time, so that its breaker never opens: b takes the reserve and a fifth, the rest fails honestly."""
    rig.engines["h"].script = script({"every": 2, "do": "status", "status": 500})
    answers = [await rig.chat("budget") for _ in range(100)]
    failed = sum(answer.status != 200 for answer in answers)
    assert calls(rig, "h") == 100 and calls(rig, "b") == 50 - failed
    assert 28 <= calls(rig, "b") <= 33, "10 in reserve, a fifth of 100, and one a second"


async def test_a_broken_engine_is_ejected_and_comes_back_by_a_trial(rig):
    rig.engines["g"].script = script({"do": "reset"})
    for _ in range(5):
        assert (await rig.chat("only-g")).status == 502
    seen = calls(rig, "g")
    for _ in range(8):
        answer = await rig.chat("shares")
        assert answer.status == 200 and answer.headers["x-gateway-channel"] == "f"
    assert calls(rig, "g") == seen, "ejected"
    await rig.chat("only-g")
    assert calls(rig, "g") == seen + 1, "when nobody else can serve, it is tried all the same"
    rig.engines["g"].script = script()
    assert (await rig.chat("only-g")).status == 200
    assert {(await rig.chat("shares")).headers["x-gateway-channel"] for _ in range(4)} == {"f", "g"}, "a success brings it back"


async def test_descriptors_that_are_gone_are_no_fault_of_the_engine(rig):
    """Ten failures would open its breaker twice over."""
    pid = rig.pid_of("worker-0")
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    body = json.dumps({"model": "only-m", "messages": [{"role": "user", "content": "hello"}]}).encode()
    call = f"POST /v1/chat/completions HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: gw\r\n\r\n")  # this connection stands before there are none left
    await reader.readuntil(b'"ok"}')
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (5, before[1]))
    try:
        for _ in range(10):
            writer.write(call.encode() + body)
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            assert head.startswith("http/1.1 503 ") and "retry-after: 1\r\n" in head
            assert json.loads(await reader.readuntil(b"}}"))["error"]["code"] == "overloaded"
        await eventually(lambda: "no file descriptors are left (5 may be open)" in rig.log())
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        writer.close()
    record = await rig.record(model="only-m")
    assert record["end"] == "GW" and tries(record) == [("first", "m", "exhausted")]
    assert await state(rig, "m") == "up" and (await rig.chat("only-m")).status == 200


async def test_an_api_that_no_engine_has(rig):
    answer = await rig.post("/v1/score", {"model": "only-i", "text_1": "a", "text_2": "b"})
    assert answer.status in (200, 404, 502)


async def test_engine_names_addresses_and_secrets_are_never_seen(rig):
    """Every error that an engine can word, with its own name, host and credential in it; then every output is searched."""
    url = rig.engines["e"].url
    host = url.partition("://")[2]
    text = f"model {ODD} at {url}/v1 ({host}) key engine-secret-42 in /opt/{ODD}/serve.py failed"
    outputs: list[str] = []
    for status in (400, 401, 404, 422, 429, 500, 503):
        for body in ({"error": {"message": text, "type": text, "param": None, "code": text}}, {"detail": text}, text):
            rig.engines["e"].script = script({"do": "status", "status": status, "body": body})
            for stream in (False, True):
                answer = await rig.chat("only-e", stream=stream)
                outputs.append(f"{answer.headers} {answer.body!r}")
    rig.engines["e"].script = script({"do": "error_event", "text": text, "after": 3})
    outputs.append(repr((await rig.chat("only-e", stream=True)).body))
    rig.engines["e"].script = script({"do": "bare_text", "text": text, "after": 3})
    outputs.append(repr((await rig.chat("only-e", stream=True)).body))
    rig.engines["e"].script = script()
    for stream in (False, True):
        outputs.append(repr((await rig.chat("only-e", stream=stream)).body))
    for output in outputs:
        assert ODD not in output and host not in output, output
    journal = json.dumps(rig.journal_lines())
    everything = [*outputs, rig.log(), journal, await rig.metrics(), json.dumps(await rig.admin("GET", "/v1/health"))]
    for output in everything:
        assert KEY not in output
    for output in (rig.log(), journal, await rig.metrics()):
        assert "engine-secret-42" not in output
    assert all("engine-secret-42" not in output for output in outputs if "key engine-secret-42" not in output)

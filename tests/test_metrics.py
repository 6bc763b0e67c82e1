"""/metrics: what is counted, under which labels, through the death of a worker; and that Prometheus' own judge accepts it."""

import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway.exchange import Exchange
from gateway.meter.metrics import Metrics
from gateway.record import Attempt, Tokens
from tests.harness import Rig, eventually, script

pytestmark = pytest.mark.asyncio(loop_scope="module")

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(samples: Samples, name: str, **labels: str) -> float:
    return sum(value for (found, has), value in samples.items() if found == name and labels.items() <= dict(has).items())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with Rig(tmp_path_factory.mktemp("metrics")) as rig:
        await rig.engine("a", "vllm", tps=200)
        await rig.engine("b", "vllm")
        rig.model("qwen", {"a": 1, "b": 0})
        await rig.start()
        yield rig


async def settled(rig: Rig, requests: float) -> Samples:
    """The metrics once so many requests are in them; workers hand theirs over about once a second."""

    async def look() -> Samples | None:
        samples = parsed(await rig.metrics())
        return samples if total(samples, "gateway_requests_total") >= requests else None

    found: Samples = await eventually(look)
    return found


async def test_what_is_counted(rig):
    whole = await rig.chat("qwen", max_tokens=5)
    stream = await rig.chat("qwen", stream=True, max_tokens=7)
    rig.engines["a"].script = script({"on": 1, "do": "status", "status": 503})
    moved = await rig.chat("qwen", max_tokens=2)
    await rig.chat("nope")
    await rig.post("/v1/nothing", {})
    assert stream.done and moved.headers["x-gateway-channel"] == "b"
    samples = await settled(rig, 5)
    labels = {"api": "chat", "model": "qwen"}
    assert total(samples, "gateway_requests_total", status="200", end="--", channel="a", **labels) == 2
    assert total(samples, "gateway_requests_total", status="200", channel="b", **labels) == 1
    assert total(samples, "gateway_requests_total", status="404", end="GR", api="chat", model="", channel="") == 1
    assert total(samples, "gateway_requests_total", status="404", end="GA", api="") == 1
    assert total(samples, "gateway_request_duration_seconds_count", **labels) == 3
    assert total(samples, "gateway_time_to_first_token_seconds_count", **labels) == 1
    assert total(samples, "gateway_time_per_output_token_seconds_count", **labels) == 1
    assert 0.003 < total(samples, "gateway_time_per_output_token_seconds_sum", **labels) < 0.05
    assert total(samples, "gateway_tokens_total", model="qwen", kind="output") == 5 + 7 + 2
    assert total(samples, "gateway_tokens_total", model="qwen", kind="input") == 3 * whole.json["usage"]["prompt_tokens"]
    assert total(samples, "gateway_upstream_errors_total", channel="a", reason="status_503") == 1
    assert total(samples, "gateway_attempts_total", channel="b", kind="failover", reason="ok") == 1
    assert total(samples, "gateway_upstream_connections_total", channel="a") >= 1
    assert total(samples, "gateway_requests_in_flight") == 0
    assert total(samples, "gateway_process_up") == 3 and total(samples, "gateway_process_resident_memory_bytes", process="worker-0") > 1e7
    assert total(samples, "gateway_config_last_reload_successful") == 1


async def test_a_request_that_is_open_is_in_flight(rig):
    async with rig.open_stream("qwen", max_tokens=500, ignore_eos=True) as answer:
        await answer.content.readany()

        async def one() -> bool:
            return total(parsed(await rig.metrics()), "gateway_requests_in_flight") == 1

        await eventually(one)

    async def none() -> bool:
        return total(parsed(await rig.metrics()), "gateway_requests_in_flight") == 0

    await eventually(none)


async def test_labels_are_never_what_a_caller_wrote(rig):
    for canary in ("canary-model", "canary\n{x}"):
        await rig.chat(canary)
    await rig.post("/canary-path", {})
    await settled(rig, 5)
    assert "canary" not in await rig.metrics()


async def test_the_judge_of_prometheus_has_no_objection(rig):
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed here")
    text = await rig.metrics()
    judged = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert judged.returncode == 0 and not judged.stdout and not judged.stderr, judged.stdout + judged.stderr


async def test_every_metric_has_its_help_and_our_prefix(rig):
    for family in text_string_to_metric_families(await rig.metrics()):
        assert family.name.startswith("gateway_") and family.documentation.endswith("."), family.name


async def test_counters_go_on_when_a_worker_is_replaced(rig):
    before = total(await settled(rig, 1), "gateway_requests_total", status="200")
    pid = rig.pid_of("worker-0")
    os.kill(pid, signal.SIGKILL)

    async def served() -> bool:
        try:
            return bool((await rig.chat("qwen", max_tokens=1)).status == 200)
        except (OSError, aiohttp.ClientError):
            return False

    await eventually(served)

    async def more() -> bool:
        return total(parsed(await rig.metrics()), "gateway_requests_total", status="200") > before

    await eventually(more)
    assert len(list((rig.data_dir / "metrics").glob("counter_*.db"))) == 1, "one file per slot, however often its worker died"
    assert total(parsed(await rig.metrics()), "gateway_requests_in_flight") <= 0


# -- the arithmetic ---------------------------------------------------------------------------------------------------------


class Named:
    name = "qwen"


def exchange(**more) -> Exchange:
    found = Exchange("1", "1", None, "POST", "/", {}, "", 100.0, 1.0)
    for name, value in {"api": "chat", "virtual": Named(), "channel": "a", "status": 200, "end": "--", **more}.items():
        setattr(found, name, value)
    return found


async def test_sums_and_buckets():
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    ok = [Attempt("first", "a", "u", "m", "ok")]
    for took in (0.001, 0.03, 700.0):
        metrics.account(exchange(attempts=ok), 100.0 + took)
    failed = [Attempt("first", "a", "u", "m", "reset"), Attempt("failover", "b", "u", "m", "ok")]
    stream = exchange(stream=True, first=100.1, tokens=Tokens(10, 4, 11, 3), attempts=failed, channel="b")
    metrics.account(stream, 100.6)
    metrics.journal(True, 3)
    metrics.journal(True, 0)
    metrics.connected("a", 2)
    metrics.flush()
    metrics.flush()
    samples = parsed(generate_latest(registry).decode())
    assert total(samples, "gateway_request_duration_seconds_bucket", le="0.005", channel="a") == 1
    assert total(samples, "gateway_request_duration_seconds_bucket", le="0.05", channel="a") == 2
    assert total(samples, "gateway_request_duration_seconds_bucket", le="600.0", channel="a") == 2
    assert total(samples, "gateway_request_duration_seconds_bucket", le="+Inf", channel="a") == 3
    assert round(total(samples, "gateway_request_duration_seconds_sum", channel="a"), 3) == 700.031
    assert total(samples, "gateway_time_to_first_token_seconds_bucket", le="0.25") == 1
    assert round(total(samples, "gateway_time_per_output_token_seconds_sum"), 4) == 0.05
    for kind, count in (("input", 10), ("cached", 4), ("output", 11), ("reasoning", 3)):
        assert total(samples, "gateway_tokens_total", kind=kind, channel="b") == count
    assert total(samples, "gateway_attempts_total", reason="ok", channel="a") == 3
    assert total(samples, "gateway_upstream_errors_total", reason="reset", channel="a") == 1
    assert total(samples, "gateway_journal_lost_lines_total") == 3 and total(samples, "gateway_journal_failing") == 1
    assert total(samples, "gateway_upstream_connections_total", channel="a") == 2

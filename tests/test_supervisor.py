"""The supervisor: what is lost when a process dies (next to nothing), how the service ends, and when it does not start."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.bus.child import LONG, NEVER_UP, SHORT_LIVED, Adopted, Child, cpu_ticks
from gateway.bus.leash import BUSY_AFTER, HUNG_AFTER
from gateway.meter.exposition import process_facts
from gateway.meter.progress import left_open
from gateway.supervisor import LOOK_EVERY
from tests.harness import KEY, Rig, eventually, free_port

ROOT = Path(__file__).parents[1]
BODY = json.dumps({"model": "qwen", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}).encode()
ASK = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\nContent-Type: application/json\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%b"
)
REQUEST = ASK % (KEY.encode(), len(BODY), BODY)
READY = b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


async def one_request(port: int, host: str = "127.0.0.1") -> tuple[bytes, float]:
    """A request on a connection of its own: what came back (b"" = a reset or nothing), and when it was begun."""
    begun = time.monotonic()
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(REQUEST)
        return await reader.read(), begun
    except ConnectionError:
        return b"", begun
    finally:
        writer.close()


def serve(config: Path, *more: str, cwd: Path = ROOT, within: float = 20.0) -> subprocess.CompletedProcess[str]:
    """`gateway serve` that is expected to end by itself."""
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(config), *more]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=within)


# -- children that die ------------------------------------------------------------------------------------------------


async def test_connections_that_a_killed_worker_had_not_accepted_are_answered_by_its_successor(rig: Rig) -> None:
    await rig.engine("a")
    rig.model("qwen")
    await rig.start()
    worker = rig.pid_of("worker-0")
    os.kill(worker, signal.SIGSTOP)
    waiting = [asyncio.create_task(one_request(rig.port)) for _ in range(200)]
    await eventually(lambda: queued(rig.port) == 200)
    os.kill(worker, signal.SIGKILL)
    begun = time.monotonic()
    answers = [answer for answer, _ in await asyncio.gather(*waiting)]
    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
    assert time.monotonic() - begun < 4.0, "2 s are meant; this machine runs other tests as well"


def queued(port: int) -> int:
    """Connections in the accept queues of a listening port: established, but nobody's yet."""
    found = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and int(fields[1].split(":")[1], 16) == port:
            found += int(fields[4].split(":")[1], 16)
    return found


async def test_a_worker_killed_in_the_middle_of_streams_leaves_a_closed_journal(rig: Rig) -> None:
    await rig.engine("a", "vllm", tps=50, reply_tokens=2000)
    rig.model("qwen")
    await rig.start()
    async with contextlib.AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(rig.open_stream("qwen", max_tokens=500)) for _ in range(5)]
        for stream in streams:
            for _ in range(20):
                await stream.content.readline()
        os.kill(rig.pid_of("worker-0"), signal.SIGKILL)
        records = await eventually(lambda: len(rig.records()) == 5 and rig.records())
    assert {record["end"] for record in records} == {"KD"}
    assert {record["error"] for record in records} == {"worker_killed"}
    assert all(0 < record["tokens"]["out"] < 500 and record["source"] == "continuous" for record in records)
    assert (await rig.chat("qwen", max_tokens=2)).status == 200
    journal = rig.data_dir / "journal"
    assert len(list(journal.glob("*.progress"))) == 1, "the dead worker's table is gone"


async def test_a_dead_control_is_started_again_while_workers_serve_on(rig: Rig) -> None:
    await rig.engine("a")
    rig.model("qwen")
    await rig.start()
    control, worker = rig.pid_of("control"), rig.pid_of("worker-0")
    os.kill(control, signal.SIGKILL)
    for _ in range(20):
        assert (await rig.chat("qwen", max_tokens=2)).status == 200
    await eventually(lambda: replaced(rig, "control", control))
    rig.model("other")
    answer = await eventually(lambda: reloaded(rig))
    assert answer["ok"], "by this reload or by the look at the file that control takes when it is back"
    assert (await rig.chat("other", max_tokens=2)).status == 200
    assert rig.pid_of("worker-0") == worker
    status = await rig.admin("GET", "/v1/status")
    assert {p["name"]: p["restarts"] for p in status["processes"]} == {"supervisor": 0, "control": 1, "worker-0": 0}
    assert 'gateway_process_restarts_total{process="control"} 1.0' in await rig.metrics()


async def reloaded(rig: Rig) -> dict[str, Any] | None:
    """The outcome of a reload, None while control cannot be asked."""
    try:
        return await rig.reload()
    except (OSError, aiohttp.ClientError):
        return None


@pytest.mark.hard
async def test_children_of_a_killed_supervisor_end_and_the_service_can_start_at_once(rig: Rig) -> None:
    await rig.engine("a", tps=50, reply_tokens=2000)
    rig.model("qwen")
    rig.config["workers"] = 2
    await rig.start()
    children = [rig.pid_of("control"), rig.pid_of("worker-0"), rig.pid_of("worker-1")]
    async with rig.open_stream("qwen", max_tokens=500) as stream:
        await stream.content.readline()
        assert rig.process is not None
        rig.process.kill()
        rig.process.wait()
        rig.log_path.unlink()
        await rig.start()
    await eventually(lambda: not any(alive(pid) for pid in children))
    assert (await rig.chat("qwen", max_tokens=2)).status == 200
    record = await rig.record(stream=True)
    assert record["end"] == "OD", "the orphaned worker recorded what it had to cut off"


async def test_a_second_serve_on_the_same_data_directory_is_refused(rig: Rig) -> None:
    await rig.engine("a")
    rig.model("qwen")
    await rig.start()
    done = await asyncio.to_thread(serve, rig.path)
    assert done.returncode == 1
    assert rig.process is not None
    assert f"is in use by another gateway (pid {rig.process.pid})" in done.stderr
    assert "Traceback" not in done.stderr
    assert (await rig.chat("qwen", max_tokens=2)).status == 200


def test_a_child_that_dies_again_and_again_is_started_ever_later() -> None:
    child = Child("worker-0", 0)
    assert [child.pause() for _ in range(6)] == [*NEVER_UP, NEVER_UP[-1]]
    child.turn("up")
    child.started = time.monotonic()
    assert child.pause() == SHORT_LIVED, "it was up: whoever waits for it does not wait long"
    child.started = time.monotonic() - LONG - 1
    assert child.pause() == 0.0
    child.was_up = False
    assert child.pause() == NEVER_UP[0], "what it was up to before is forgotten"


@pytest.mark.parametrize(("working", "patience"), [(True, BUSY_AFTER), (False, HUNG_AFTER)])
def test_a_silent_child_that_works_has_more_time_than_one_that_is_stopped(
    working: bool, patience: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    spent = 700
    monkeypatch.setattr("gateway.bus.child.cpu_ticks", lambda pid: spent)
    child = Child("worker-0", 0, process=Adopted(os.getpid()), state="up", beat=1000.0)
    now = child.beat
    while not child.hung(now) and now < child.beat + 100:
        now += LOOK_EVERY
        spent += working
        child.watch(now)
    assert patience < now - child.beat <= patience + 2 * LOOK_EVERY


def test_the_cpu_time_of_a_process_is_known() -> None:
    before, end = cpu_ticks(os.getpid()), time.process_time() + 0.1
    while time.process_time() < end:
        pass
    assert cpu_ticks(os.getpid()) >= before + 5
    assert cpu_ticks(2**22 + 1) == 0, "there is none with this number"


async def test_the_supervisor_stays_small(rig: Rig) -> None:
    await rig.engine("a")
    rig.model("qwen")
    await rig.start()
    for number in range(5):
        rig.model(f"more-{number}")
        assert (await rig.reload())["ok"]
    assert rig.process is not None
    facts = process_facts(rig.process.pid)
    assert facts["rss_bytes"] < 32 * 1024 * 1024
    assert facts["open_fds"] < 30


# -- how it ends ------------------------------------------------------------------------------------------------------


@pytest.mark.hard
async def test_a_drain_lets_what_is_open_finish_and_refuses_what_comes_later(rig: Rig) -> None:
    await rig.engine("a", tps=40, reply_tokens=2000)
    rig.model("qwen")
    await rig.start()
    assert rig.process is not None
    process = rig.process
    early_reader, early = await asyncio.open_connection("127.0.0.1", rig.port)
    idle_reader, idle = await asyncio.open_connection("127.0.0.1", rig.port)
    idle.write(READY.replace(b"Connection: close\r\n", b""))
    assert (await idle_reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    async with rig.open_stream("qwen", max_tokens=80) as stream:
        await stream.content.readline()
        process.send_signal(signal.SIGTERM)
        await eventually(lambda: "draining" in rig.log())
        assert b"shutting_down" not in await asyncio.wait_for(idle_reader.read(), 5), "idle connections are closed in silence"
        idle.close()
        late = await rig.raw(REQUEST)
        assert (
            late.startswith(b"HTTP/1.1 503 ")
            and b"shutting_down" in late
            and b"\r\nRetry-After: " in late.replace(b"retry-after", b"Retry-After")
        )
        assert (await rig.raw(READY)).startswith(b"HTTP/1.1 503 ")
        early.write(REQUEST.replace(b"Connection: close\r\n", b""))
        answer = await early_reader.read()
        assert answer.startswith(b"HTTP/1.1 200 ") and b"connection: close" in answer.lower()
        early.close()
        process.send_signal(signal.SIGHUP)
        assert b"data: [DONE]" in await stream.read()
    assert await asyncio.to_thread(process.wait, 10) == 0
    assert "is served by all workers" not in rig.log(), "SIGHUP means nothing any more"
    assert (await rig.record(stream=True))["end"] == "--"
    assert not list((rig.data_dir / "journal").glob("*.open"))
    rig.process = None


async def test_a_second_sigterm_ends_open_streams_at_once_and_honestly(rig: Rig) -> None:
    await rig.engine("a", tps=20, reply_tokens=2000)
    rig.model("qwen")
    await rig.start()
    assert rig.process is not None
    async with rig.open_stream("qwen", max_tokens=2000) as stream:
        await stream.content.readline()
        rig.process.send_signal(signal.SIGINT)  # Ctrl-C means the same
        await eventually(lambda: "draining" in rig.log())
        begun = time.monotonic()
        rig.process.send_signal(signal.SIGTERM)
        rest = b""
        with contextlib.suppress(aiohttp.ClientPayloadError):  # a stream that was cut off must not look complete
            async for piece in stream.content.iter_any():
                rest += piece
        assert await asyncio.to_thread(rig.process.wait, 10) == 0
    assert time.monotonic() - begun < 3.0
    last = json.loads(rest.split(b"\n\n")[-2].removeprefix(b"data: "))
    assert last["error"]["code"] == "shutting_down" and b"[DONE]" not in rest
    record = await rig.record(stream=True)
    assert (record["end"], record["error"]) == ("OD", "stopped")
    assert record["tokens"]["out"] > 0


@pytest.mark.hard
async def test_a_drain_ends_when_its_time_is_over(rig: Rig) -> None:
    await rig.engine("a", ttft=60.0)
    rig.model("qwen")
    rig.config["http"] = {"drain_timeout": "1s"}
    await rig.start()
    asked = asyncio.create_task(rig.chat("qwen"))
    await eventually(lambda: [request for request in rig.engines["a"].requests if request.number])
    begun = time.monotonic()
    assert await rig.stop() == 0
    assert 0.9 < time.monotonic() - begun < 6.0
    answer = await asked
    assert (answer.status, answer.json["error"]["code"]) == (503, "shutting_down")
    assert rig.records()[-1]["end"] == "OW"


# -- how it does not start ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "status", "said"),
    [
        ("missing", 78, "there is no such file"),
        ("directory", 78, "directory"),
        ("nonsense", 78, "gateway.yaml:1:"),
        ("data_dir", 1, "cannot be used: Not a directory"),
        ("long", 1, "choose a shorter data_dir"),
        ("port", 1, "Address already in use (`gatewayctl doctor --only ports` says by whom)"),
        ("file", 1, "data cannot be used: it is no folder"),
        ("link", 1, "data cannot be used: it is a link to disk/data, which is not there"),
    ],
)
async def test_it_says_why_it_does_not_start(tmp_path: Path, what: str, status: int, said: str) -> None:
    path = tmp_path / "gateway.yaml"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1] if what == "port" else free_port()
        folder = {"data_dir": "/dev/null/data", "long": str(tmp_path / ("x" * 100))}.get(what, str(tmp_path / "data"))
        path.write_text(f'version: 1\ndata_dir: {folder}\nlisteners: {{api: {{bind: "127.0.0.1:{port}", serves: api}}}}\n')
        match what:
            case "missing":
                path.unlink()
            case "directory":
                path.unlink()
                path.mkdir()
            case "nonsense":
                path.write_text("liseners: {}\n")
            case "file":
                (tmp_path / "data").touch()
            case "link":
                (tmp_path / "data").symlink_to("disk/data")
        done = await asyncio.to_thread(serve, path)
    assert (done.returncode, "Traceback" in done.stderr) == (status, False), done.stderr
    assert said in done.stderr


async def test_from_any_directory_through_a_symlink_and_on_ipv6(rig: Rig, tmp_path: Path) -> None:
    await rig.engine("a")
    rig.model("qwen")
    rig.config["listeners"]["six"] = {"bind": f"[::1]:{rig.port}", "serves": "api"}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "gateway.py").write_text("raise SystemExit('imported from the working directory')")
    (elsewhere / "link.yaml").symlink_to(rig.path)
    rig.write()
    command = [sys.executable, "-P", "-m", "gateway", "serve", "--config", "link.yaml"]
    with rig.log_path.open("ab") as out:
        rig.process = subprocess.Popen(command, cwd=elsewhere, stdout=out, stderr=out, env={**os.environ, "PYTHONPATH": str(ROOT)})
    await eventually(rig._is_ready, within=20)
    assert (await one_request(rig.port, "::1"))[0].startswith(b"HTTP/1.1 200 ")
    assert (await one_request(rig.port))[0].startswith(b"HTTP/1.1 200 ")
    status = await rig.admin("GET", "/v1/status")
    assert f"[::1]:{rig.port}" in [one["bind"] for one in status["listeners"]]
    rig.model("other")
    rig.write()
    await eventually(lambda: "revision 2 is served by all workers" in rig.log())


async def test_logs_and_status_hold_no_secrets(rig: Rig) -> None:
    secret = "sk-canary-0123456789"
    await rig.engine("a", channel={"credential": secret, "headers": {"X-Token": secret}})
    rig.model("qwen")
    await rig.start(env={"GATEWAY_LOG_LEVEL": "debug"})
    assert (await rig.chat("qwen", "my very private prompt", max_tokens=2)).status == 200
    rig.config["channels"]["a"]["credential"] = secret + "-2"
    assert (await rig.reload())["ok"]
    rig.config["channels"]["a"] |= {"credential": secret, "oops": secret}
    assert not (await rig.reload())["ok"]
    os.kill(rig.pid_of("worker-0"), signal.SIGKILL)
    await eventually(lambda: rig.log().count(" listens") == 2)
    told = rig.log() + json.dumps(await rig.admin("GET", "/v1/status")) + await rig.metrics()
    assert "sk-canary" not in told and "private prompt" not in told and KEY not in told


# -- longer ones ----------------------------------------------------------------------------------------------------------


@pytest.mark.hard
async def test_a_supervisor_that_stood_still_replaces_nobody(rig: Rig) -> None:
    """As when a virtual machine is paused: it has heard nobody, but nobody was silent."""
    await rig.engine("a")
    rig.model("qwen")
    await rig.start()
    assert rig.process is not None
    rig.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(HUNG_AFTER + 1)
    rig.process.send_signal(signal.SIGCONT)
    await asyncio.sleep(2 * LOOK_EVERY)
    assert "is killed" not in rig.log() and (await rig.chat("qwen", max_tokens=2)).status == 200
    status = await rig.admin("GET", "/v1/status")
    assert not any(process["restarts"] for process in status["processes"])


@pytest.mark.hard
@pytest.mark.timeout(90)
@pytest.mark.parametrize("name", ["worker-0", "control"])
async def test_a_hung_process_is_replaced(rig: Rig, name: str) -> None:
    await rig.engine("a")
    rig.model("qwen")
    rig.config["workers"] = 2
    await rig.start()
    hung = rig.pid_of(name)
    os.kill(hung, signal.SIGSTOP)
    await eventually(lambda: not alive(hung), within=15)
    await eventually(lambda: replaced(rig, name, hung), within=5)
    for _ in range(20):
        assert (await one_request(rig.port))[0].startswith(b"HTTP/1.1 200 ")
    assert "has not beaten for" in rig.log()


def replaced(rig: Rig, name: str, before: int) -> bool:
    try:
        return rig.pid_of(name) != before
    except AssertionError:
        return False


@pytest.mark.hard
@pytest.mark.timeout(180)
async def test_workers_are_killed_again_and_again_under_load(rig: Rig) -> None:
    """A request fails only when its connection stood before the kill; each that was accepted is closed in the journal."""
    await rig.engine("a", tps=200)
    rig.model("qwen")
    rig.config["workers"] = 2
    await rig.start()
    kills: list[float] = []
    failed: list[tuple[float, float, bytes]] = []
    served = 0
    running = True

    async def caller() -> None:
        nonlocal served
        while running:
            answer, begun = await one_request(rig.port)
            if answer.startswith(b"HTTP/1.1 200 "):
                served += 1
            else:
                failed.append((begun, time.monotonic(), answer))

    callers = [asyncio.create_task(caller()) for _ in range(20)]
    for number in range(12):
        await asyncio.sleep(1.5)
        victim = rig.pid_of(f"worker-{number % 2}")
        os.kill(victim, signal.SIGSTOP)  # from here on it accepts nothing
        kills.append(time.monotonic())
        await asyncio.sleep(0.05)
        os.kill(victim, signal.SIGKILL)
    await asyncio.sleep(2)
    running = False
    await asyncio.gather(*callers)
    assert served > 500
    for begun, ended, answer in failed:
        assert not answer, "cut off by the death of its worker, or served"
        cause = min((abs(ended - kill), kill) for kill in kills)[1]
        assert begun < cause, "a connection that the worker had not accepted was lost"
    await eventually(lambda: not any(left_open(table) for table in (rig.data_dir / "journal").glob("*.progress")))
    ids = [record["id"] for record in rig.records()]
    assert len(ids) == len(set(ids))
    killed = [record for record in rig.records() if record["end"] == "KD"]
    assert len(killed) <= len(failed), "an answer that was seen whole is recorded as such"
    print(f"\n{served} served, {len(failed)} cut off with their worker, {len(killed)} closed in the journal")

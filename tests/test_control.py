"""Control: the file that is watched, the revision that survives, and what its own death costs (nothing)."""

import asyncio
import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from gateway.config.load import load
from gateway.config.resolve import resolve
from gateway.config.revisions import Revisions
from tests.harness import Rig, eventually, free_port

ROOT = Path(__file__).parents[1]


async def status(rig: Rig) -> dict[str, Any]:
    with contextlib.suppress(OSError, aiohttp.ClientError):
        return await rig.admin("GET", "/v1/status")
    return {"config": {"last_reload": {"ok": None}}, "revision": {"rev": 0}}


def cli(rig: Rig, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gatewayctl", *words]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=30, env={**os.environ, "GATEWAY_CONFIG": str(rig.path)}
    )


async def serves(rig: Rig, model: str) -> bool:
    try:
        return (await rig.chat(model, max_tokens=2)).status == 200
    except (OSError, aiohttp.ClientError):  # a kept connection to a worker that was killed
        return False


async def test_editors_symlink_swaps_and_included_files_are_noticed(rig: Rig, tmp_path: Path) -> None:
    await rig.engine("a")
    rig.model("qwen")
    for number in (1, 2):
        folder = tmp_path / "mount" / f"..{number}"
        folder.mkdir(parents=True)
        targets = {"models": {f"mounted-{number}": {"targets": [{"channel": "a"}]}}}
        (folder / "models.yaml").write_text(yaml.safe_dump(targets))
    (tmp_path / "mount" / "..data").symlink_to("..1")
    (tmp_path / "mount" / "models.yaml").symlink_to("..data/models.yaml")
    rig.config["include"] = ["mount/models.yaml"]
    await rig.start()
    assert await serves(rig, "mounted-1")
    rig.model("renamed")
    rig.write()  # as an editor does: another file, then a rename
    await eventually(lambda: serves(rig, "renamed"))
    (tmp_path / "mount" / "..new").symlink_to("..2")  # as Kubernetes does
    os.replace(tmp_path / "mount" / "..new", tmp_path / "mount" / "..data")
    await eventually(lambda: serves(rig, "mounted-2"))
    assert (await rig.chat("mounted-1")).status == 404


async def test_an_included_folder_may_come_go_and_come_back(rig: Rig, tmp_path: Path) -> None:
    await rig.engine("a")
    rig.model("qwen")
    rig.config["include"] = ["conf.d/*.yaml"]
    await rig.start()
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "models.yaml").write_text(yaml.safe_dump({"models": {"new": {"targets": [{"channel": "a"}]}}}))
    await eventually(lambda: serves(rig, "new"))
    (tmp_path / "conf.d").rename(tmp_path / "away")

    async def gone() -> bool:
        return (await rig.chat("new")).status == 404

    await eventually(gone)
    (tmp_path / "away").rename(tmp_path / "conf.d")
    await eventually(lambda: serves(rig, "new"))


async def test_a_bad_file_changes_nothing_and_is_reported_everywhere(rig: Rig) -> None:
    await rig.engine("a")
    rig.model("qwen")
    await rig.start()
    rig.config["models"]["qwen"]["targets"] = [{"channel": "nobody"}]
    answer = await rig.reload()
    assert not answer["ok"] and "nobody" in answer["mistakes"][0]["message"]
    assert await serves(rig, "qwen")
    seen = await status(rig)
    last = seen["config"]["last_reload"]
    assert (last["ok"], seen["revision"]["rev"]) == (False, 1)
    assert last["message"].startswith(str(rig.path) + ":") and "nobody" in last["message"]
    assert "configuration refused, revision 1 stays" in rig.log()
    text = await rig.metrics()
    assert "gateway_config_last_reload_successful 0.0" in text and 'gateway_config_reloads_total{result="refused"}' in text
    done = await asyncio.to_thread(cli, rig, "reload", "--wait")
    assert done.returncode == 78 and "nobody" in done.stderr
    rig.model("qwen", {"a": 1})
    rig.write()
    assert (await asyncio.to_thread(cli, rig, "reload", "--wait")).returncode == 0
    assert (await status(rig))["config"]["last_reload"]["ok"]
    assert "gateway_config_last_reload_successful 1.0" in await rig.metrics()


async def test_an_edit_that_a_command_takes_back_is_no_refused_configuration(rig: Rig) -> None:
    """A slip of the fingers in a command wakes nobody up: no alert, no error in the log, nothing in the status."""
    await rig.engine("a")
    rig.model("qwen")
    rig.config["alerts"] = {"rules": [{"on": "config_refused", "for": "0s"}]}
    await rig.start()
    before = rig.path.read_text()
    done = await asyncio.to_thread(cli, rig, "tenants", "set", "acme", "priorty=3")
    assert done.returncode == 78 and "priorty" in done.stderr and rig.path.read_text() == before
    assert "an edit is refused and taken back, revision 1 stays" in rig.log() and "configuration refused" not in rig.log()
    told = (await status(rig))["config"]
    assert told["last_reload"]["ok"] and told["reloads"]["refused"] == 0
    assert (await asyncio.to_thread(cli, rig, "status")).returncode == 0
    assert "tenants set acme priorty=3" in (await asyncio.to_thread(cli, rig, "audit", "list")).stdout, "that it was tried"
    await asyncio.sleep(2.5)  # two looks of the alerts
    assert "FIRING" not in rig.log()
    assert (await asyncio.to_thread(cli, rig, "tenants", "set", "acme", "priority=3")).returncode == 0
    assert (await status(rig))["revision"]["rev"] == 2


async def test_sighup_reloads(rig: Rig) -> None:
    await rig.engine("a")
    rig.model("qwen")
    await rig.start()
    assert rig.process is not None
    rig.process.send_signal(signal.SIGHUP)
    rig.model("other")
    rig.write()
    rig.process.send_signal(signal.SIGHUP)
    await eventually(lambda: serves(rig, "other"))
    rig.process.send_signal(signal.SIGHUP)
    await eventually(lambda: "nothing changed, revision 2 stays" in rig.log())


@pytest.mark.hard
async def test_the_last_good_revision_is_resumed_while_the_file_is_bad(rig: Rig) -> None:
    await rig.engine("a")
    rig.model("qwen")
    await rig.start()
    rig.model("second")
    assert (await rig.reload())["ok"]
    assert await rig.stop() == 0
    models = rig.config["models"]
    rig.config["models"] = {"qwen": {"targets": "nonsense"}}
    await rig.start(wait=False)
    assert rig.process is not None
    process, rig.process = rig.process, None
    assert await asyncio.to_thread(process.wait, 20) == 78, "without --resume a bad file is no start"
    rig.log_path.unlink()
    await rig.start("--resume")
    assert await serves(rig, "second")
    seen = await status(rig)
    assert (seen["revision"]["rev"], seen["config"]["last_reload"]["ok"]) == (2, False)
    assert seen["config"]["reloads"]["refused"] == 1
    rig.config["models"] = models
    rig.model("third")
    rig.write()
    await eventually(lambda: serves(rig, "third"))
    assert (await status(rig))["config"]["last_reload"]["ok"]


@pytest.mark.hard
async def test_listeners_and_workers_change_without_a_failed_request(rig: Rig) -> None:
    await rig.engine("a")
    rig.model("qwen")
    rig.config["workers"] = 2
    await rig.start()
    running, wrong = True, []

    async def caller() -> int:
        served = 0
        while running:
            reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = b""
            with contextlib.suppress(ConnectionError):
                answer = await reader.read()
            writer.close()
            served += 1
            if not answer.startswith(b"HTTP/1.1 200 "):
                wrong.append(answer)
        return served

    callers = [asyncio.create_task(caller()) for _ in range(8)]
    more, metrics = free_port(), free_port()
    for workers in (3, 1, 2):
        rig.config["workers"] = workers
        assert (await rig.reload())["ok"]
        await eventually(functools.partial(up, rig, workers))
    rig.config["listeners"]["more"] = {"bind": f"127.0.0.1:{more}", "serves": "api"}
    rig.config["listeners"]["metrics"]["bind"] = f"127.0.0.1:{metrics}"
    assert (await rig.reload())["ok"]
    assert await answers(more, "/healthz") and await answers(metrics, "/metrics")
    await eventually(lambda: refuses(rig.metrics_port))
    del rig.config["listeners"]["more"]
    assert (await rig.reload())["ok"]
    await eventually(lambda: refuses(more))
    running = False
    assert sum(await asyncio.gather(*callers)) > 100
    assert not wrong, f"{len(wrong)} connections were lost"


async def up(rig: Rig, count: int) -> bool:
    workers = [one for one in (await status(rig)).get("processes", []) if one["name"].startswith("worker-")]
    return len(workers) == count and all(one["state"] == "up" for one in workers)


async def answers(port: int, path: str) -> bool:
    async def ask() -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        return answer.startswith(b"HTTP/1.1 200 ")

    return bool(await eventually(ask))


async def refuses(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    writer.close()
    return False


async def test_an_address_that_cannot_be_had_changes_nothing(rig: Rig) -> None:
    await rig.engine("a")
    rig.model("qwen")
    await rig.start()
    stranger = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    taken, free = stranger.sockets[0].getsockname()[1], free_port()
    rig.config["listeners"]["free"] = {"bind": f"127.0.0.1:{free}", "serves": "api"}
    rig.config["listeners"]["more"] = {"bind": f"127.0.0.1:{taken}", "serves": "api"}
    rig.config["workers"] = 3
    rig.model("other")
    answer = await rig.reload()
    assert not answer["ok"] and f"cannot listen on 127.0.0.1:{taken}: Address already in use" in answer["message"]
    assert await refuses(free) and (await rig.chat("other")).status == 404
    assert await up(rig, 1)
    stranger.close()
    await stranger.wait_closed()
    assert (await rig.reload())["ok"]
    assert await answers(free, "/healthz") and await answers(taken, "/healthz")
    rig.config["listeners"]["api"]["bind"] = f"0.0.0.0:{rig.port}"  # overlaps with what we have ourselves
    assert (await rig.reload())["ok"]
    assert await serves(rig, "other")


async def test_what_cannot_change_while_running_is_refused(rig: Rig) -> None:
    await rig.engine("a")
    rig.model("qwen")
    await rig.start()
    rig.config["node"] = "another"
    answer = await rig.reload()
    assert not answer["ok"] and "restart" in answer["message"]


@pytest.mark.hard
async def test_control_killed_before_the_commit_leaves_the_old_revision(rig: Rig) -> None:
    await rig.engine("a")
    rig.model("qwen")
    rig.config["workers"] = 2
    await rig.start()
    control, worker = rig.pid_of("control"), rig.pid_of("worker-1")
    os.kill(worker, signal.SIGSTOP)  # so that the reload hangs in its first phase
    rig.model("other")
    rig.config["listeners"]["more"] = {"bind": f"127.0.0.1:{free_port()}", "serves": "api"}
    reload = asyncio.create_task(rig.reload())
    await asyncio.sleep(1.0)
    os.kill(control, signal.SIGKILL)
    os.kill(worker, signal.SIGCONT)
    with contextlib.suppress(OSError, aiohttp.ClientError):
        await reload
    assert (rig.data_dir / "revisions" / "current").read_text() == "1\n"
    await eventually(lambda: serves(rig, "other"))  # the successor looks at the file, and this time all say yes
    assert await up(rig, 2)
    assert rig.pid_of("worker-1") == worker, "nobody had to die for it"


@pytest.mark.hard
async def test_control_killed_after_the_commit_brings_everybody_to_the_new_revision(rig: Rig) -> None:
    await rig.engine("a")
    rig.model("qwen")
    rig.config["workers"] = 2
    await rig.start()
    assert rig.process is not None
    worker, more = rig.pid_of("worker-0"), free_port()
    os.kill(rig.process.pid, signal.SIGSTOP)
    os.kill(rig.pid_of("control"), signal.SIGKILL)
    rig.model("other")
    rig.config["listeners"]["more"] = {"bind": f"127.0.0.1:{more}", "serves": "api"}
    rig.write()
    loaded = load(rig.path)
    config, keys = resolve(loaded)
    revisions = Revisions(rig.data_dir)
    revisions.commit(revisions.save(digest=loaded.digest, files=loaded.files, resolved=config, keys=keys, by="test", why="test"))
    os.kill(rig.process.pid, signal.SIGCONT)
    await eventually(lambda: serves(rig, "other"))
    assert await answers(more, "/healthz")
    seen = await eventually(lambda: rev_is(rig, 2))
    assert seen and rig.pid_of("worker-0") == worker


async def rev_is(rig: Rig, rev: int) -> bool:
    return bool((await status(rig))["revision"]["rev"] == rev)


@pytest.mark.hard
async def test_a_control_that_was_killed_goes_on_watching_included_files(rig: Rig, tmp_path: Path) -> None:
    await rig.engine("a")
    rig.model("qwen")
    rig.config["include"] = ["more.yaml"]
    more = tmp_path / "more.yaml"
    more.write_text("models: {}\n")
    await rig.start()
    control = rig.pid_of("control")
    os.kill(control, signal.SIGKILL)

    async def looked() -> bool:
        with contextlib.suppress(OSError, aiohttp.ClientError):
            status = await rig.admin("GET", "/v1/status")
            return bool(rig.pid_of("control") != control and status["config"]["reloads"]["unchanged"])
        return False

    await eventually(looked)
    more.write_text("models: {more: {targets: [{channel: a}]}}\n")
    await eventually(lambda: serves(rig, "more"))


@pytest.mark.hard
async def test_a_restarted_control_still_says_that_the_file_is_bad(rig: Rig) -> None:
    await rig.engine("a")
    rig.model("qwen")
    await rig.start()
    started = (await status(rig))["started"]
    rig.config["oops"] = 1
    assert not (await rig.reload())["ok"]
    control = rig.pid_of("control")
    os.kill(control, signal.SIGKILL)
    await eventually(lambda: rig.log().count("configuration refused") >= 2)
    seen = await eventually(lambda: last_refused(rig))
    assert "oops" in json.dumps(seen["config"]["last_reload"]) and seen["started"] == started
    assert await serves(rig, "qwen")
    os.kill(rig.pid_of("worker-0"), signal.SIGKILL)
    await eventually(lambda: serves(rig, "qwen"))


async def last_refused(rig: Rig) -> dict[str, Any] | None:
    seen = await status(rig)
    return seen if seen["config"]["last_reload"]["ok"] is False else None


async def test_a_data_dir_that_is_removed_is_told_in_plain_words_and_callers_are_served_on(rig: Rig) -> None:
    await rig.engine("a")
    rig.model("qwen")
    await rig.start()
    await asyncio.to_thread(shutil.rmtree, rig.data_dir)

    async def told() -> bool:
        ran = await asyncio.to_thread(cli, rig, "status")
        return ran.returncode == 6 and "was removed, emptied or unmounted" in ran.stderr and "systemctl restart gateway" in ran.stderr

    await eventually(told, within=20)
    assert (await rig.chat("qwen")).status == 200
    assert rig.log().count("was removed, emptied or unmounted") == 1
    await eventually(lambda: "journal: No such file" in rig.log(), within=10)
    assert "Traceback" not in rig.log()
    assert (rig.data_dir / "admin.sock").stat().st_mode & 0o777 == 0o660 and rig.data_dir.stat().st_mode & 0o777 == 0o750

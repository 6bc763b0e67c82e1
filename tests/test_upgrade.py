"""An upgrade under load: the supervisor becomes the new version, everybody else is replaced, and no caller notices."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway import __version__
from gateway.upgrade import formats
from gateway.upgrade.handover import CannotUpgrade, command_of
from tests.harness import Rig, eventually, free_port
from tests.test_gate import certificate
from tests.test_supervisor import serve
from tests.test_systemd import Notices

ROOT = Path(__file__).parents[1]


class Installed(Rig):
    """A gateway that runs from a copy of its own, so that there can be another version of it."""

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-P", "-m", "gateway", *arguments]

    async def start(self, *arguments: str, env: dict[str, str] | None = None, wait: bool = True) -> None:
        await super().start(*arguments, env={"PYTHONPATH": str(self.tmp), **(env or {})}, wait=wait)

    def install(self, version: str, journal: int = 1) -> None:
        """Another version in the place of the present one, as a package would put it there."""
        if not (self.tmp / "gateway").exists():
            shutil.copytree(ROOT / "gateway", self.tmp / "gateway", ignore=shutil.ignore_patterns("*.tiktoken", "__pycache__"))
            for library in ROOT.glob("*.so"):  # of compiled modules
                shutil.copy(library, self.tmp)
        place = self.tmp / "gateway"
        (place / "__init__.py").write_text(f'"""The gateway."""\n__version__ = "{version}"\n')
        text = (ROOT / "gateway/upgrade/formats.py").read_text()
        (place / "upgrade/formats.py").write_text(text.replace('"journal": 1', f'"journal": {journal}'))

    async def gatewayctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-m", "gatewayctl", *arguments, "--config", str(self.path)]
        return await asyncio.to_thread(subprocess.run, command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)

    async def processes(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.admin("GET", "/v1/status"))["processes"]
        return found

    async def upgraded(self, times: int = 1, notices: Notices | None = None) -> list[dict[str, Any]]:
        """The processes when all of them are of the new version and up. notices: read meanwhile, or the socket would be full."""

        async def look() -> list[dict[str, Any]] | None:
            if notices is not None:
                notices.all()
            try:
                found = await self.processes()
            except (OSError, aiohttp.ClientError):
                return None
            own = found[0]
            assert not own["upgrade"].startswith("stopped"), own["upgrade"]
            return found if own["upgrades"] == times and not own["upgrade"] else None

        result: list[dict[str, Any]] = await eventually(look, within=40)
        return result


@pytest.fixture
def notices(installed: Installed) -> Iterator[Notices]:
    made = Notices(installed.data_dir / "notify")
    yield made
    made.sock.close()


@pytest.fixture
async def installed(tmp_path: Path) -> AsyncIterator[Installed]:
    rig = Installed(tmp_path)
    async with rig:
        rig.install(__version__)
        yield rig


class Load:
    """Callers that never rest: half keep their connections, half take a new one for each request."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._running = True
        self.served = 0
        self.failed: list[str] = []
        self._callers = [asyncio.create_task(self._call(number)) for number in range(16)]

    async def _call(self, number: int) -> None:
        keep = number % 2 == 0
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=not keep)) as session:
            while self._running:
                try:
                    await self._once(session, stream=number % 3 == 0)
                except (OSError, aiohttp.ClientError, AssertionError) as error:
                    self.failed.append(f"{'kept' if keep else 'new'}: {type(error).__name__}: {error}")

    async def _once(self, session: aiohttp.ClientSession, stream: bool) -> None:
        body = {"model": "qwen", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4, "stream": stream}
        headers = {"Authorization": "Bearer sk-test-0123456789abcdef0123456789abcdef"}
        async with session.post(f"{self._url}/v1/chat/completions", json=body, headers=headers, ssl=False) as answer:
            text = await answer.text()
            assert answer.status == 200, f"{answer.status} {text}"
            assert not stream or text.rstrip().endswith("[DONE]"), text
        self.served += 1

    async def stop(self) -> None:
        self._running = False
        await asyncio.gather(*self._callers)


async def busy(rig: Installed, workers: int = 2) -> None:
    await rig.engine("a", tps=200, reply_tokens=4000)
    rig.model("qwen")
    rig.config["workers"] = workers
    await rig.start()


@pytest.mark.hard
@pytest.mark.timeout(120)
@pytest.mark.parametrize("scheme", ["http", pytest.param("https", marks=pytest.mark.hard)])
async def test_an_upgrade_under_load_drops_no_request_and_breaks_no_stream(installed: Installed, scheme: str) -> None:
    port = installed.port
    if scheme == "https":
        port = free_port()
        tls = certificate(installed.tmp, "localhost")
        installed.config["listeners"]["tls"] = {"bind": f"127.0.0.1:{port}", "serves": "api", "tls": tls}
    await busy(installed)
    before = {one["name"]: one["pid"] for one in await installed.processes()}
    load = Load(f"{scheme}://127.0.0.1:{port}")
    async with installed.open_stream("qwen", max_tokens=4000) as stream:
        await stream.content.readline()
        installed.install("9.9.9")
        told = await installed.admin("POST", "/v1/upgrade", {})
        assert told["upgrade"] == {"version": __version__, "upgrades": 0}
        after = await installed.upgraded()
        await asyncio.sleep(0.5)
        await load.stop()
        assert (await stream.read()).rstrip().endswith(b"[DONE]"), "it goes on in the worker that it began in"
    assert not load.failed and load.served > 50, f"{load.served} served; {load.failed[:5]}"
    new = {one["name"]: one for one in after if one["state"] == "up"}
    assert new["supervisor"]["pid"] == before["supervisor"], "for systemd it is the same process"
    assert {"control", "worker-2", "worker-3"} <= new.keys() and new["control"]["pid"] != before["control"]
    assert {one["version"] for one in new.values()} == {"9.9.9"}
    assert (await installed.admin("GET", "/v1/status"))["version"] == "9.9.9"
    await eventually(lambda: len(installed._children(before["supervisor"])) == 3, within=20)
    records = installed.records()
    assert len(records) >= load.served and {record["end"] for record in records} == {"--"}
    assert {line["what"] for line in (await installed.admin("GET", "/v1/audit?last=10"))["audit"]} >= {"upgrade"}
    assert json.loads((installed.data_dir / formats.STAMP).read_text())["version"] == "9.9.9"


@pytest.mark.hard
@pytest.mark.timeout(120)
async def test_back_and_forth_by_signal_and_systemd_sees_one_service(installed: Installed, notices: Notices) -> None:
    await installed.engine("a")
    installed.model("qwen")
    await installed.start(env={"NOTIFY_SOCKET": str(notices.path), "WATCHDOG_USEC": "2000000"})
    assert installed.process is not None
    for times, version in enumerate(("9.9.9", __version__), 1):
        installed.install(version)
        installed.process.send_signal(signal.SIGUSR2)
        after = await installed.upgraded(times, notices)
        assert {one["version"] for one in after if one["state"] == "up"} == {version}
        assert (await installed.chat("qwen", max_tokens=2)).status == 200
    await eventually(lambda: installed.pid_of("worker-0"), within=20)
    assert await installed.reload(), "the gateway can be changed as before"
    assert await installed.stop() == 0
    assert notices.words()[0] == "READY" and notices.words()[-1] == "STOPPING" and notices.words().count("STOPPING") == 1
    assert notices.all().count("WATCHDOG=1") >= 1


@pytest.mark.hard
async def test_a_version_that_cannot_read_the_data_is_not_begun(installed: Installed) -> None:
    await busy(installed, workers=1)
    installed.install("9.9.9", journal=2)
    done = await installed.gatewayctl("upgrade")
    assert done.returncode == 0 and "version 9.9.9 serves" in done.stderr, done.stderr
    installed.install("9.9.8")
    done = await installed.gatewayctl("upgrade", "-o", "json")
    assert done.returncode == 1
    assert "its journal has format 2, and this version (9.9.8) reads up to 1. Nothing was changed." in done.stderr
    assert (await installed.processes())[0]["version"] == "9.9.9"
    assert (await installed.chat("qwen", max_tokens=2)).status == 200
    await installed.stop()
    done = await asyncio.to_thread(serve, installed.path)
    assert done.returncode == formats.UNREADABLE and "was written by version 9.9.9" in done.stderr
    assert json.loads((installed.data_dir / formats.STAMP).read_text())["version"] == "9.9.9", "nothing was changed"


async def test_a_version_that_does_not_start_changes_nothing(installed: Installed) -> None:
    await busy(installed, workers=1)
    before = await installed.processes()
    (installed.tmp / "gateway/upgrade/fitness.py").write_text("raise RuntimeError('half copied')")
    told = await installed.admin("POST", "/v1/upgrade", {})
    assert told["error"]["message"] == "RuntimeError: half copied"
    assert [one["pid"] for one in await installed.processes()] == [one["pid"] for one in before]
    audit = (await installed.admin("GET", "/v1/audit?last=1"))["audit"]
    assert audit[0]["what"] == "upgrade" and not audit[0]["ok"]


async def test_what_is_no_gateway_is_not_become(installed: Installed) -> None:
    """Whatever it is, it ends with 0 when it is asked."""
    await busy(installed, workers=1)
    before = await installed.processes()
    (installed.tmp / "gateway/upgrade/fitness.py").write_text("def main(arguments):\n    return 0\n")
    told = await installed.admin("POST", "/v1/upgrade", {})
    assert "is no gateway" in told["error"]["message"]
    assert [one["pid"] for one in await installed.processes()] == [one["pid"] for one in before]


@pytest.mark.hard
@pytest.mark.timeout(120)
async def test_a_new_version_whose_workers_do_not_start_leaves_the_old_ones_serving(installed: Installed) -> None:
    await busy(installed, workers=1)
    installed.install("9.9.9")
    (installed.tmp / "gateway/worker.py").write_text("raise RuntimeError('no worker')")
    succession = installed.tmp / "gateway/upgrade/succession.py"
    succession.write_text(succession.read_text().replace("WORKER_PATIENCE: Final = 60.0", "WORKER_PATIENCE: Final = 2.0"))
    await installed.admin("POST", "/v1/upgrade", {})
    await eventually(lambda: "the upgrade to version 9.9.9 stopped: worker-1 did not listen" in installed.log(), within=30)
    found = await installed.processes()
    assert found[0]["upgrade"].startswith("stopped: ")
    status = await installed.gatewayctl("status")
    assert status.returncode == 6 and "the upgrade to version 9.9.9 stopped: worker-1 did not listen" in status.stderr
    assert [one["name"] for one in found if one["state"] == "up"] == ["supervisor", "control", "worker-0"]
    assert (await installed.chat("qwen", max_tokens=2)).status == 200


@pytest.mark.hard
@pytest.mark.timeout(120)
async def test_a_stop_during_an_upgrade_is_a_stop(installed: Installed) -> None:
    await busy(installed)
    await installed.admin("POST", "/v1/upgrade", {})
    await eventually(lambda: "has taken over" in installed.log())
    assert installed.process is not None
    children = [one["pid"] for one in installed._children(installed.process.pid)]
    assert await installed.stop(within=25) == 0
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 0)
            raise AssertionError(f"{pid} is left")


def test_only_an_executable_that_nobody_else_can_change_is_become(tmp_path: Path) -> None:
    path = tmp_path / "gatewayctl"
    path.write_text("")
    path.chmod(0o755)
    tmp_path.chmod(0o755)
    assert command_of(str(path)) == [os.path.realpath(path), "-m", "gateway"]
    path.chmod(0o775)
    with pytest.raises(CannotUpgrade, match="could be changed by others"):
        command_of(str(path))
    path.chmod(0o755)
    tmp_path.chmod(0o777)
    with pytest.raises(CannotUpgrade, match="could be changed by others"):
        command_of(str(path))
    with pytest.raises(CannotUpgrade, match="No such file"):
        command_of(str(tmp_path / "none"))
    assert command_of("")[-2:] == ["-m", "gateway"]

"""What systemd is told, and when: a fake $NOTIFY_SOCKET listens."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.bus.leash import HUNG_AFTER
from gateway.log.systemd import Systemd
from gatewayctl.app import load
from tests.fixtures.cli import ROOT
from tests.harness import Rig, eventually


class Notices:
    """The socket and every message that came."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(str(path))
        self.sock.setblocking(False)
        self._seen: list[str] = []

    def all(self) -> list[str]:
        while True:
            try:
                self._seen.append(self.sock.recv(65_536).decode())
            except BlockingIOError:
                return self._seen

    def words(self) -> list[str]:
        """The first word of each message, without what repeats."""
        found: list[str] = []
        for message in self.all():
            word = message.split("=", 1)[0]
            if word not in ("WATCHDOG", "EXTEND_TIMEOUT_USEC", "STATUS") and found[-1:] != [word]:
                found.append(word)
        return found


@pytest.fixture
def notices(rig: Rig) -> Iterator[Notices]:
    made = Notices(rig.data_dir / "notify")
    yield made
    made.sock.close()


async def test_the_whole_life_in_order(rig: Rig, notices: Notices) -> None:
    await rig.engine("a")
    rig.model("qwen")
    rig.config["workers"] = 2
    await rig.start(env={"NOTIFY_SOCKET": str(notices.path)})
    first = next(message for message in notices.all() if "READY=1" in message)
    assert rig.log().count(" listens") == 2, "READY only after all workers listen"
    assert "serving with 2 worker(s)" in first
    rig.model("other")
    assert (await rig.reload())["ok"]
    await eventually(lambda: notices.words() == ["READY", "RELOADING", "READY"])
    reloading = next(message for message in notices.all() if "RELOADING=1" in message)
    assert re.search(r"^MONOTONIC_USEC=\d+$", reloading, re.M), "both in one message: systemd refuses them apart"
    rig.config["models"]["other"]["targets"] = []
    assert not (await rig.reload())["ok"]
    twice = ["READY", "RELOADING"] * 2 + ["READY"]
    await eventually(lambda: notices.words()[:5] == twice and notices.words()[-1] == "READY")
    assert "last reload refused" in notices.all()[-1]
    assert await rig.stop() == 0
    words = notices.words()
    assert words[-2:] == ["READY", "STOPPING"] and words[:-1] in (twice, [*twice, "RELOADING", "READY"]), "the watcher may look as well"


async def test_a_bad_file_at_the_start_is_said_in_the_status(rig: Rig, notices: Notices) -> None:
    await rig.engine("a")
    rig.model("qwen")
    await rig.start()
    await rig.stop()
    rig.config["models"]["qwen"]["targets"] = []
    await rig.start("--resume", env={"NOTIFY_SOCKET": str(notices.path)})
    await eventually(lambda: notices.words() == ["READY"])
    first = next(message for message in notices.all() if "READY=1" in message)
    assert re.search(r"^STATUS=serving with 1 worker\(s\); revision 1; last reload refused: \S+:\d+:\d+: ", first, re.M), first


async def test_a_start_that_fails_is_never_ready(rig: Rig, notices: Notices) -> None:
    rig.config["oops"] = 1
    await rig.start(env={"NOTIFY_SOCKET": str(notices.path)}, wait=False)
    assert rig.process is not None
    process = rig.process
    await eventually(lambda: process.poll() is not None)
    assert process.returncode == 78
    rig.process = None
    assert not notices.all()


@pytest.mark.hard
async def test_the_watchdog_is_fed_only_while_all_children_beat(rig: Rig, notices: Notices) -> None:
    await rig.engine("a")
    rig.model("qwen")
    await rig.start(env={"NOTIFY_SOCKET": str(notices.path), "WATCHDOG_USEC": "1000000"})
    await eventually(lambda: notices.all().count("WATCHDOG=1") >= 2)
    control = rig.pid_of("control")
    os.kill(control, signal.SIGSTOP)
    before = notices.all().count("WATCHDOG=1")
    await eventually(lambda: "control" in rig.log() and "has not beaten" in rig.log(), within=12)
    seen = notices.all().count("WATCHDOG=1")
    assert seen <= before + 12, "none between the last beat and the kill"
    await eventually(lambda: notices.all().count("WATCHDOG=1") > seen + 1)


@pytest.mark.hard
async def test_a_worker_that_hangs_while_it_starts_does_not_cost_the_service(rig: Rig, notices: Notices) -> None:
    """It has a minute; a watchdog that went without its food meanwhile would end the others' requests too."""
    await rig.engine("a")
    rig.model("qwen")
    rig.config["workers"] = 2
    await rig.start(env={"NOTIFY_SOCKET": str(notices.path), "WATCHDOG_USEC": "1000000"})
    killed = rig.pid_of("worker-0")
    os.kill(killed, signal.SIGKILL)

    def successor() -> int:
        with contextlib.suppress(AssertionError):  # there may be none for a moment
            return pid if (pid := rig.pid_of("worker-0")) != killed else 0
        return 0

    starting = await eventually(successor)
    os.kill(starting, signal.SIGSTOP)
    end = time.monotonic() + HUNG_AFTER + 1.0
    await eventually(lambda: time.monotonic() > end, within=HUNG_AFTER + 5.0)
    assert successor() == starting, "it hangs, and has not been replaced yet"
    fed = notices.all().count("WATCHDOG=1")
    await eventually(lambda: notices.all().count("WATCHDOG=1") >= fed + 3, within=5)
    os.kill(starting, signal.SIGCONT)
    await eventually(lambda: f"worker-0 (pid {starting}) listens" in rig.log())


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """Ours, with a program that is there."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here")
    made = tmp_path / "gateway.service"
    made.write_text((ROOT / "systemd/gateway.service").read_text().replace("/usr/bin/gatewayctl", "/bin/true"))
    return made


def test_the_unit_is_understood_without_a_complaint(unit: Path) -> None:
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and str(unit) not in done.stderr, done.stderr


def test_the_unit_is_hardened(unit: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_unit_says_nothing_that_systemd_249_does_not_know() -> None:
    """What came later, of what such units say."""
    later = "RestartSteps RestartMaxDelaySec RestartMode ReloadSignal ImportCredential PrivatePIDs MemoryZSwapMax NFTSet OpenFile".split()
    text = (ROOT / "systemd/gateway.service").read_text()
    assert not [word for word in later if f"{word}=" in text] and "notify-reload" not in text


def test_no_systemd_is_no_error_and_a_lost_one_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Systemd().ready("ok")
    path = tmp_path / "notify"
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    systemd = Systemd()
    systemd.ready("nobody there")
    notices = Notices(path)
    systemd.watchdog()
    assert notices.all() == ["WATCHDOG=1"], "systemd was executing itself anew, it is back"
    notices.sock.close()


@pytest.mark.parametrize(
    ("usec", "pid", "every"),
    [
        ("", "", 0.0),
        ("30000000", "", 15.0),
        ("30000000", "1", 0.0),
        ("nonsense", "", 0.0),
        pytest.param("30000000", str(os.getpid()), 15.0, id="its own"),
    ],
)
def test_who_is_watched_and_how_often(monkeypatch: pytest.MonkeyPatch, usec: str, pid: str, every: float) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("WATCHDOG_PID", pid)
    assert Systemd().watchdog_every == every


# -- the units ---------------------------------------------------------------------------------------------------------

SYSTEMD = ROOT / "systemd"
UNITS = ["gateway-backup.service", "gateway-backup.timer"]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not here")
@pytest.mark.parametrize("name", UNITS)
def test_systemd_has_nothing_to_complain_about(name: str, tmp_path: Path) -> None:
    for unit in UNITS:  # as if it were installed
        (tmp_path / unit).write_text((SYSTEMD / unit).read_text().replace("/usr/bin/gatewayctl", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", str(tmp_path / name)], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not here")
def test_the_backup_may_do_little() -> None:
    argv = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(SYSTEMD / "gateway-backup.service")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout[-200:]


def test_what_units_start_is_a_command_line_that_there_is() -> None:
    for file in SYSTEMD.glob("*.service"):
        for line in re.findall(r"^Exec\w+=/usr/bin/gatewayctl (.*)$", file.read_text(), re.M):
            noun, *words = line.split()
            known = {option for parameter in load(noun).params for option in parameter.opts}
            assert all(word in known for word in words if word.startswith("--")), f"{file.name}: {line}"

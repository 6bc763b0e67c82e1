"""`gatewayctl doctor`: each family says what is well, what is wrong and what to type; with and without a gateway; nothing is changed."""

import datetime
import json
import os
import shlex
import shutil
import socket
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from gateway.config.compose import BadFile
from gateway.simulate import simulator
from gatewayctl.doctor import case as cases
from gatewayctl.doctor import clock, disk, engines, files, kernel, leftovers, limits, names, ports, service, tls
from gatewayctl.doctor.case import Case
from gatewayctl.doctor.families import FAMILIES
from gatewayctl.doctor.host import User
from gatewayctl.session import Session
from tests.fixtures.cli import ROOT, actl, ctl
from tests.fixtures.desk import write_config
from tests.harness import Rig, free_port
from tests.test_discover_tls import Authority


def told(found: Any) -> list[tuple[str, str]]:
    return [(one.state, one.what) for one in found]


def states(found: Any) -> set[str]:
    return {one.state for one in found}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = write_config(tmp_path)
    file.write_text(file.read_text().replace(":8080", f":{free_port()}"))
    for path in (file, tmp_path / "keys.yaml"):
        path.chmod(0o640)
    (tmp_path / "data").chmod(0o750)
    return file


def case_of(config: Path) -> Case:
    return Case.of(Session(config))


def test_each_family_is_in_the_list():
    there = {file.stem for file in (ROOT / "gatewayctl/doctor").glob("*.py") if "\ndef look(" in file.read_text()}
    assert there == set(FAMILIES), "a line in gatewayctl/doctor/families.py"
    told = (ROOT / "docs/care.md").read_text()
    assert not [name for name in FAMILIES if f"| `{name}` |" not in told], "a line in docs/care.md"


def test_a_finding_that_is_not_well_says_what_to_do(config):
    ran = ctl("doctor", "-c", config, "-o", "json")
    found = json.loads(ran.out)["findings"]
    assert {one["check"] for one in found} >= set(FAMILIES) - {"tls", "leftovers", "names"}
    assert not [one for one in found if one["state"] == "wrong" and not one["remedy"]]
    assert ran.code == 6, "no engine is there"
    assert any(one["check"] == "engines" and one["state"] == "wrong" and "refused" in one["what"] for one in found)


def test_nothing_is_changed(config, tmp_path):
    def look() -> dict[str, tuple[int, int]]:
        return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(tmp_path.rglob("*"))}

    before = look()
    ctl("doctor", "-c", config)
    assert {path: facts for path, facts in look().items() if Path(path).is_file()} == {p: f for p, f in before.items() if Path(p).is_file()}
    assert before.keys() == look().keys()


def test_forms_and_options(config):
    ran = ctl("doctor", "-c", config, "--only", "kernel", "--only", "disk")
    assert ran.code == 0 and "→" not in ran.out.replace("→ put", "") and "SO_REUSEPORT" in ran.out and "engines" not in ran.out
    assert ctl("doctor", "-c", config, "--only", "disk", "-o", "csv").out.startswith("state,check,what,where,remedy\nok,disk,")
    assert ctl("doctor", "-c", config, "--only", "kernel", "--bad", "-o", "json").out.count('"ok"') == 1
    ran = ctl("doctor", "-c", config.with_name("none.yaml"), "--only", "tls")
    assert ran.code == 6 and "wrong" in ran.out and "none.yaml" in ran.out, "why nothing is found"
    ran = ctl("doctor", "--only", "soup")
    assert ran.code == 2 and "Checks: configuration, service" in ran.err


def test_mistakes_in_the_configuration(config):
    config.write_text(config.read_text().replace("engine:", "motor:"))
    ran = ctl("doctor", "-c", config, "--only", "configuration", "-o", "json")
    found = json.loads(ran.out)["findings"]
    assert ran.code == 6 and found[0]["state"] == "wrong" and f"{config}:" in found[0]["where"] and "motor" in ran.out
    ran = ctl("doctor", "-c", config.with_name("none.yaml"))
    assert ran.code == 6 and "none.yaml" in ran.out and "Traceback" not in ran.err


def test_who_may_not_read_the_configuration_is_told_so(config, monkeypatch):
    monkeypatch.setattr("gateway.config.read.read_text", denied)
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    from gatewayctl.doctor.rounds import rounds

    found = rounds(Session(config))
    assert [one.state for one in found if one.check == "configuration"] == ["note"] and "sudo" in found[0].remedy
    assert not [one for one in found if one.state == "wrong" or one.check in ("files", "disk", "leftovers")]


def denied(path: Path, most: int) -> str:
    raise BadFile("the file cannot be read: permission denied")


def test_a_family_that_fails_stops_no_other(config, monkeypatch):
    def broken(case: Case) -> Any:
        raise PermissionError(13, "Permission denied", "/secret")
        yield

    monkeypatch.setitem(dict(FAMILIES), "disk", broken)
    monkeypatch.setattr("gatewayctl.doctor.rounds.FAMILIES", {"disk": broken, "kernel": kernel.look})
    from gatewayctl.doctor.rounds import rounds

    found = rounds(Session(config))
    assert found[0].state == "note" and "could not be looked at" in found[0].what and "sudo" in found[0].remedy
    assert found[-1].check == "kernel"


async def test_before_a_gateway_that_runs(rig: Rig) -> None:
    await rig.engine("a", "vllm")
    rig.model("qwen")
    rig.config["channels"]["a"]["credential"] = "${env:DOCTOR_KEY}"
    await rig.start(env={"DOCTOR_KEY": "sk-doctor-canary"})
    rig.path.chmod(0o640)
    ran = await actl("doctor", "-c", rig.path, "-o", "json")
    found = json.loads(ran.out)["findings"]
    assert ran.code == 0 and json.loads(ran.out)["ok"], ran.out
    said = [one["what"] for one in found]
    assert f"the gateway listens on 127.0.0.1:{rig.port}" in said
    assert any("the configuration loads" in one for one in said), "its environment is the gateway's, not the shell's"
    assert any("runs with 3 processes" in one for one in said)
    assert any(one.startswith(rig.engines["a"].url) and "vllm" in one for one in said)
    assert any("in the gateway that runs" in one for one in said)
    assert "canary" not in ran.out
    rig.config["oops"] = 1
    assert not (await rig.reload())["ok"]
    await rig.engines["a"].stop()
    ran = await actl("doctor", "-c", rig.path)
    assert ran.code == 6 and "the last reload was refused" in ran.out and "connection refused" in ran.out
    assert "everything below is about revision 1" in ran.out


# -- one family after another ------------------------------------------------------------------------------------------


def test_ports(config):
    port = yaml.safe_load(config.read_text())["listeners"]["api"]["bind"].rpartition(":")[2]
    assert told(ports.look(case_of(config))) == [("ok", f"127.0.0.1:{port} is free")]
    with socket.create_server(("127.0.0.1", int(port))):
        [found] = ports.look(case_of(config))
        assert found.state == "wrong" and f"(pid {os.getpid()})" in found.what and "ss -ltnp" in found.remedy
        stranger = case_of(config)
        stranger.config = SimpleNamespace(listeners=[SimpleNamespace(name="x", host="0.0.0.0", port=int(port))])  # type: ignore[assignment]
        assert states(ports.look(stranger)) == {"wrong"}, "an address of all would meet it"
    config.write_text(config.read_text().replace(f"127.0.0.1:{port}", "203.0.113.7:9999"))
    [found] = ports.look(case_of(config))
    assert found.state == "wrong" and "cannot be had" in found.what


def test_the_kernels_addresses(tmp_path):
    listed = tmp_path / "tcp6"
    row = "0: {} 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4711 1\n"
    listed.write_text("head\n" + row.format("0100007F:1F90") + row.format("00000000000000000000000001000000:0050"))
    assert [(one.host, one.port, one.inode) for one in ports.listening(listed)] == [("127.0.0.1", 8080, 4711), ("::1", 80, 4711)]


def test_files(config, tmp_path):
    assert states(files.look(case_of(config))) == {"ok"}
    config.chmod(0o644)
    (tmp_path / "data").chmod(0o755)
    found = told(files.look(case_of(config)))
    assert ("wrong", "data_dir is open to everybody (mode 0755)") in found
    assert ("wrong", "it holds a secret and is readable by everybody (mode 0644)") in found
    config.chmod(0o666)
    assert ("wrong", "everybody may write it (mode 0666)") in told(files.look(case_of(config)))
    (tmp_path / "data").rmdir()
    assert next(one.state for one in files.look(case_of(config))) == "note"


def test_the_users_rights_go_by_the_modes(tmp_path):
    nobody, file = User(65534, frozenset({65534}), "nobody"), tmp_path / "f"
    file.write_text("x")
    file.chmod(0o640)
    assert not nobody._may(file, 4) and User(0, frozenset(), "root").may(file, 7)
    file.chmod(0o644)
    assert nobody._may(file, 4) and not nobody._may(file, 2)
    tmp_path.chmod(0o700)
    assert nobody.uid == os.geteuid() or not nobody.may(file, 4), "the folder above is closed"


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_what_the_service_cannot_read(config, tmp_path):
    (tmp_path / "data/journal").mkdir()
    os.chown(tmp_path / "data", 65534, 65534)
    found = told(files.look(case_of(config)))
    assert any("cannot read it" in what for _, what in found) and any("do not belong to nobody" in what for _, what in found)


def test_a_remedy_can_be_copied_into_a_shell(config, tmp_path):
    """One word of the shell for one path: `chown -R` of half a path, by root, would be worse than what it is to cure."""
    (tmp_path / "data").rename(tmp_path / "my data")
    config.write_text(config.read_text().replace("data_dir: data", 'data_dir: "my data"'))
    (tmp_path / "my data").chmod(0o757)
    [remedy] = [one.remedy for one in files.look(case_of(config)) if "open to everybody" in one.what]
    assert shlex.split(remedy) == ["sudo", "chmod", "o-rwx", str(tmp_path / "my data")]
    (tmp_path / "my data/drains.bad").write_text("")
    [remedy] = [one.remedy for one in leftovers.look(case_of(config)) if "put aside" in one.what]
    assert shlex.split(remedy.partition("; ")[2]) == ["rm", str(tmp_path / "my data/drains.bad")]


def test_a_data_dir_whose_disk_is_not_mounted(config, tmp_path):
    (tmp_path / "data").rename(tmp_path / "other")
    (tmp_path / "data").symlink_to("disk/data")
    [found] = [one for one in files.look(case_of(config)) if one.where == str(tmp_path / "data")]
    assert found.state == "wrong" and f"a link to {tmp_path}/disk/data, which is not there" in found.what and "mount" in found.remedy


@pytest.mark.parametrize(("version", "state"), [("243 (v243-18.oe1)", "note"), ("247 (247.3-7)", "ok"), ("252 (252.39-1)", "ok")])
def test_a_systemd_that_hands_over_no_secrets_is_told_of(version, state, monkeypatch):
    monkeypatch.setattr(service, "said_by", lambda *argv: f"systemd {version}\n+PAM")
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    [found] = service._systemd()
    assert found.state == state and ("LoadCredential" in found.what and "640" in found.remedy) == (state == "note")


def test_disk(config, monkeypatch):
    found = told(disk.look(case_of(config)))
    assert ("ok", f"its file system is {disk.mounted(config.parent)[0]}") in found or "note" in {state for state, _ in found}
    assert any("goes through to the disk" in what for _, what in found)
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(
        f_bavail=10, f_frsize=4096, f_blocks=10**9, f_files=100, f_favail=1, f_flag=os.ST_RDONLY))  # fmt: skip
    said = told(disk.look(case_of(config)))
    assert (
        [state for state, _ in said[:3]] == ["wrong"] * 3 and "too little for journal.reserve" in said[0][1] and "read-only" in said[2][1]
    )
    monkeypatch.setattr(disk, "mounted", lambda folder: ("nfs4", "/mnt"))
    assert ("note", "data_dir is on nfs4 (/mnt): locks and writes there are as good as the network") in told(disk.look(case_of(config)))


def test_limits(config, monkeypatch):
    monkeypatch.setattr("resource.getrlimit", lambda which: (1024, 4096))
    found = list(limits.look(case_of(config)))
    assert found[0].state == "note" and "1024 files may be open (4096 at most)" in found[0].what
    config.write_text(config.read_text().replace("{engine: vllm,", "{engine: vllm, max_in_flight: 5000,"))
    found = list(limits.look(case_of(config)))
    assert found[0].state == "wrong" and "need 11124" in found[0].what and "ulimit -n" in found[0].remedy
    monkeypatch.setattr(limits, "number", lambda path: 128)
    assert "sysctl -w net.core.somaxconn=4096" in " ".join(one.remedy for one in limits.look(case_of(config)))


def test_kernel(config, monkeypatch):
    assert states(kernel.look(case_of(config))) <= {"ok", "note"}
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(release="4.17.3-generic", machine="x86_64", nodename="h"))
    monkeypatch.setattr(kernel, "cpus", lambda: 1)
    monkeypatch.setattr(kernel, "allowed", lambda pid: (200 << 20, "/sys/fs/cgroup/gateway"))
    found = told(kernel.look(case_of(config)))
    assert found[0] == ("wrong", "Linux 4.17.3-generic is older than 4.18")
    assert found[2][0] == "note" and "2 workers on 1 CPU" in found[2][1]
    assert found[3][0] == "wrong" and "by the cgroup" in found[3][1]


@pytest.mark.parametrize(
    ("unit", "state", "said"),
    [
        ({"LoadState": "not-found"}, "note", "the unit gateway.service is not-found"),
        (
            {"LoadState": "loaded", "ActiveState": "failed", "SubState": "failed", "Result": "exit-code"},
            "wrong",
            "the unit is failed (failed)",
        ),
        ({"LoadState": "loaded", "ActiveState": "activating", "SubState": "auto-restart", "Result": "exit-code"}, "wrong", "auto-restart"),
        ({"LoadState": "loaded", "ActiveState": "inactive", "SubState": "dead"}, "note", "inactive"),
        ({"LoadState": "loaded", "ActiveState": "active", "SubState": "running"}, "ok", "the unit is active (running)"),
        ({"LoadState": "loaded", "ActiveState": "active", "SubState": "running", "NRestarts": "9"}, "note", "started it again 9 times"),
    ],
)
def test_service(config, unit, state, said):
    case = case_of(config)
    case.unit = unit
    assert any(found == state and said in what for found, what in told(service.look(case)))


def test_clock(config, tmp_path, monkeypatch):
    journal = tmp_path / "data/journal"
    journal.mkdir()
    (journal / "0-a-000001.ndjson").write_text(json.dumps({"kind": "done", "ts": time.time() + 4000}) + "\n")
    found = told(clock.look(case_of(config)))
    assert any(state == "wrong" and "66 min ahead of the clock" in what for state, what in found)
    monkeypatch.setattr("time.time", lambda: 1_000_000_000.0)
    assert any(state == "wrong" and "it cannot be 2001" in what for state, what in told(clock.look(case_of(config))))
    monkeypatch.undo()
    for said, state in (("yes", "ok"), ("no", "note")):
        monkeypatch.setattr(clock, "said_by", lambda *argv, said=said: said)
        assert told(clock.look(case_of(config)))[0][0] == state
    case = case_of(config)
    case.config = SimpleNamespace(schedules={"a": SimpleNamespace(zone="Asia/Shanghai"), "b": SimpleNamespace(zone="Mars/Base")}, limits={})  # type: ignore[assignment]
    zones = [one for one in clock.look(case) if "time zone" in one.what]
    assert [one.state for one in zones] == ["ok", "wrong"]


@pytest.mark.parametrize(
    ("days", "state", "said"), [(400, "ok", "is good until"), (20, "note", "expires on"), (-1, "wrong", "has expired on")]
)
def test_tls(config, tmp_path, days, state, said):
    authority = Authority(tmp_path)
    cert, key = authority.issue("gateway.lab", days=days)
    config.write_text(config.read_text().replace("serves: api}", f"serves: api, tls: {{cert: {cert}, key: {key}}}}}"))
    found = list(tls.look(case_of(config)))
    assert any(one.state == state and said in one.what and "gateway.lab" in one.what for one in found)
    Path(cert).write_text(Path(cert).read_text() + Path(cert).read_text())
    assert any(one.state == "wrong" and "has not signed number 1" in one.what for one in tls.look(case_of(config)))


def test_a_certificate_of_tomorrow():
    now = datetime.datetime.now(datetime.UTC).timestamp()
    assert tls.until("it", now + 90_000, now + 10**7, "f").state == "wrong"


async def test_names_and_engines(config):
    engine = await simulator.start("vllm", model="qwen3")
    try:
        text = config.read_text().replace("http://127.0.0.1:8000", engine.url)
        config.write_text(text.replace("models:", "  two: {engine: vllm, endpoints: ['http://no-such-host.invalid:1'], model: x}\nmodels:"))
        ran = await actl("doctor", "-c", config, "--only", "engines", "--only", "names", "-o", "json")
    finally:
        await engine.stop()
    found = json.loads(ran.out)["findings"]
    assert any(one["check"] == "names" and one["state"] == "wrong" and "no-such-host.invalid" in one["what"] for one in found)
    assert any(one["check"] == "engines" and engine.url in one["what"] and "model missing" in one["what"] for one in found), found


def test_what_the_child_said_becomes_findings(config):
    case = case_of(config)
    case.__dict__["outside"] = {
        "registries": [
            {"name": "lab", "asked": "_x SRV", "endpoints": 0, "why": "no answer in time", "ms": 3000.0},
            {"name": "old", "asked": "_y SRV", "endpoints": 2, "why": "half of it", "ms": 1.0},
            {"name": "fine", "asked": "_z SRV", "endpoints": 2, "why": "", "ms": 1.0},
        ],
        "names": [{"name": "slow", "addresses": ["::2"], "why": "", "ms": 900}, {"name": "q", "addresses": ["::1"], "why": "", "ms": 1}],
        "endpoints": [
            {"channel": "gpu", "state": "up", "why": "", "ms": 2000.0,
             "found": {"url": "https://h", "engine": "vllm", "version": "1", "models": [{"id": "m"}], "reachable": True,
                       "tls": {"not_after": "2027-01-01T00:00:00Z", "days_left": 3, "verified": False}}},
            {"channel": "gpu", "state": "up", "why": "", "ms": 1.0,
             "found": {"url": "https://i", "tls": {"not_after": "2020-01-01T00:00:00Z", "days_left": -3, "verified": True}}},
            {"channel": "gpu", "state": "down", "why": "its certificate comes from a CA that is not trusted here", "ms": 1.0,
             "found": {"url": "https://j", "reachable": False,
                       "tls": {"not_after": "2036-01-01T00:00:00Z", "days_left": 3000, "verified": False}}},
        ],
    }  # fmt: skip
    assert [one.state for one in names.look(case)] == ["wrong", "note", "ok", "note", "ok"]
    said = [(one.state, one.what) for one in engines.look(case)]
    assert [state for state, _ in said] == ["note", "note", "note", "ok", "wrong", "wrong"]
    assert sum("nobody checks" in what for _, what in said) == 1, "only of one that was let in unchecked"


def test_leftovers(config, tmp_path):
    data = tmp_path / "data"
    (data / "journal").mkdir()
    (data / "drains.bad").write_text("x")
    (data / "half.tmp").write_text("x")
    os.utime(data / "half.tmp", (1, 1))
    (data / "revisions").mkdir()
    (data / "revisions/000001.rev").write_bytes(b"torn")
    case = case_of(config)
    case.status = {"frozen": [{"kind": "tenant", "name": "retail", "by": "ann", "since": 1.0}]}
    found = list(leftovers.look(case))
    assert found[-1].remedy == "gatewayctl unfreeze --tenant retail"
    said = " ".join(one.what for one in found)
    assert (
        [one.state for one in found].count("wrong") == 3
        and "tenant retail was frozen" in said
        and "half-made" in said
        and "revision 1 is damaged" in said
    )


def test_a_processs_environment_is_read_where_one_may():
    from gatewayctl.place import environ_of

    assert environ_of(0) == {} and "PATH" in environ_of(os.getpid()) and environ_of(2**22 + 1) == {}
    assert cases.PATIENCE > 60

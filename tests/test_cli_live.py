"""Commands that ask control: what people see, what programs get, and the exit codes."""

import asyncio
import csv
import io
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.admin.server import serve_admin
from gateway.config.load import load
from gateway.config.resolve import resolve
from gateway.config.revisions import Revisions
from tests.fixtures.cli import GATEWAYCTL, actl, environment
from tests.fixtures.desk import FakeDesk, record, write_config
from tests.harness import Rig, eventually

MOMENT = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d"


@pytest.fixture
def config(tmp_path):
    return write_config(tmp_path)


@pytest.fixture
async def desk(config, monkeypatch):
    """A running control; GATEWAY_CONFIG leads to it."""
    desk = FakeDesk(config)
    server = await serve_admin(desk, config.parent / "data/admin.sock")
    monkeypatch.setenv("GATEWAY_CONFIG", str(config))
    monkeypatch.delenv("NO_COLOR", raising=False)
    yield desk
    await server.close()


async def test_status_at_a_glance(desk, config):
    ran = await actl("status", GATEWAY_CONFIG=str(config))
    assert ran.code == 0 and ran.err == "" and "\x1b" not in ran.out
    assert "gateway 0.1.0 on gw-a: serving" in ran.out and "started 2 h ago" in ran.out
    assert f"{config}" in ran.out and "3 segments, 1.2 MiB" in ran.out
    assert "1 channel, 1 model, 1 key" in ran.out and "5 requests" in ran.out
    assert "worker-1" in ran.out and "47.7 MiB" in ran.out and "127.0.0.1:8080" in ran.out


@pytest.mark.parametrize("before", [True, False])
async def test_shared_options_stand_before_or_after_the_command(desk, config, before, monkeypatch, inside):
    monkeypatch.delenv("GATEWAY_CONFIG")
    options = ["-o", "json", "--config", str(config)]
    code, out, _ = await inside(*([*options, "status"] if before else ["status", *options]))
    assert code == 0 and json.loads(out)["node"] == "gw-a"


async def test_color_only_where_it_is_wanted(desk, inside, monkeypatch):
    assert "\x1b" not in (await inside("status"))[1]
    assert "\x1b[32mserving\x1b[0m" in (await inside("status", "--color", "always"))[1]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert "\x1b" in (await inside("health"))[1]
    assert "\x1b" not in (await inside("health", "--color", "never"))[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in (await inside("health"))[1]


async def test_status_is_6_when_something_is_wrong_and_says_what(desk, inside):
    desk.states[1] = "down"
    desk.last_reload = {"ok": False, "ts": 1.0, "message": "2 mistakes", "mistakes": []}
    code, out, err = await inside("status", "-o", "json")
    assert code == 6 and json.loads(out)["processes"][3]["state"] == "down"
    assert "worker-1 is down" in err and "last reload was refused" in err and "2 mistakes" in err
    assert (await inside("status", "-q"))[0] == 6


async def test_health_is_6_when_an_endpoint_is_down(desk, inside):
    assert (await inside("health"))[0] == 0
    desk.states[0] = "ejected"
    code, out, err = await inside("health")
    assert code == 6 and "ejected" in out and "1 endpoint of 1 down" in err


@pytest.mark.parametrize(
    "command", ["status", "health", "channels", "models", "requests", "config history", "channels probe gpu", "reload"]
)
async def test_json_yaml_and_csv_parse_and_stdout_holds_nothing_else(desk, command, inside):
    _, out, _ = await inside(*command.split(), "-o", "json")
    as_json = json.loads(out)
    _, out, _ = await inside(*command.split(), "-o", "yaml")
    assert type(yaml.safe_load(out)) is type(as_json)
    _, out, _ = await inside(*command.split(), "-o", "csv")
    header, *rows = list(csv.reader(io.StringIO(out)))
    assert header and rows and all(len(row) == len(header) for row in rows)


async def test_an_empty_list_is_a_list(desk, inside):
    desk.told = []
    assert (await inside("requests", "-o", "json"))[:2] == (0, "[]\n")
    assert (await inside("requests"))[:2] == (0, "")
    assert "no requests yet" in (await inside("requests"))[2]
    assert (await inside("requests", "-q"))[2] == ""


async def test_a_reload_of_hundreds_of_changes_shows_the_first_of_them(desk, inside, monkeypatch):
    changes = [f"keys.k{place}: added" for place in range(120)]

    async def reloaded(*_: object, **__: object) -> dict[str, Any]:
        return {"ok": True, "changed": True, "rev": 7, "changes": changes}

    monkeypatch.setattr(desk, "reload", reloaded)
    code, out, err = await inside("reload")
    assert (code, out.splitlines()) == (0, changes[:50]) and "and 70 more changes" in err and "revision 7" in err
    assert json.loads((await inside("reload", "-o", "json"))[1])["changes"] == changes


async def test_lists_for_people(desk, inside, monkeypatch):
    _, out, _ = await inside("channels")
    assert "gpu" in out and "1/1" in out and "http://127.0.0.1:8000" in out
    _, out, _ = await inside("models", "list")
    assert "gpu:qwen3 ×3" in out and "gpt-4o*" in out
    assert "proportional(gpu:qwen3 ×2, gpu:small ×1) ×1" in out, "targets of targets are shown too"
    monkeypatch.setattr(desk, "models", lambda: [{**FakeDesk.models(desk)[0], "policy": "primary-backup"}])
    _, out, _ = await inside("models", "list", "-o", "csv")
    assert '"gpu:qwen3;proportional(gpu:qwen3 ×2, gpu:small ×1)"' in out, "weights mean nothing there"
    _, out, _ = await inside("channels", "probe", "gpu")
    assert "vllm 0.11.0" in out and "32768" in out and "endpoints:\n- http://127.0.0.1:8000" in out
    code, _, err = await inside("channels", "probe", "none")
    assert code == 1 and "no channel 'none'" in err


async def test_reload_says_what_changed_and_refusals_are_78_with_the_mistakes(desk, config, inside):
    assert "nothing has changed" in (await inside("reload"))[2]
    config.write_text(config.read_text().replace("qwen:", "qwen2:"))
    code, out, err = await inside("reload", "--wait")
    assert (code, out) == (0, "a change\n") and "revision 4 is live in every worker" in err
    config.write_text(config.read_text().replace("models:", "modles:"))
    ran = await actl("reload", GATEWAY_CONFIG=str(config))
    assert ran.code == 78 and ran.out == "" and "modles" in ran.err and f"{config}:8:1" in ran.err
    config.write_text(config.read_text().replace("modles:", "models:"))
    desk.refuse = "worker-1: no memory"
    code, _, err = await inside("reload")
    assert code == 1 and "worker-1: no memory" in err and "stays live" in err


@pytest.mark.parametrize("state", ["starting", "down"])
@pytest.mark.parametrize("starts", [True, False])
async def test_reload_waits_for_workers_that_are_new(desk, config, inside, monkeypatch, starts, state):
    monkeypatch.setattr("gatewayctl.commands.reload.STARTING", 10.0 if starts else 0.2)
    desk.states = ["up", state]
    asked = asyncio.Event()
    status = desk.status

    def noted() -> Any:
        asked.set()
        return status()

    monkeypatch.setattr(desk, "status", noted)
    reloaded = asyncio.create_task(inside("reload"))
    if starts:
        async with asyncio.timeout(10):
            await asked.wait()
        assert not reloaded.done()
        desk.states = ["up", "up"]
    code, _, err = await reloaded
    assert code == 0 and ("only 1 of 2 workers have started" in err) != starts


@pytest.mark.parametrize("command", ["reload", "config diff", "config rollback 2 --yes"])
async def test_whoever_names_another_file_than_the_gateways_is_told(desk, config, inside, command):
    other = config.with_name("new.yaml")
    other.write_text(config.read_text() + "# new\n")
    code, _, err = await inside("-c", str(other), *command.split())
    assert code == 0 and f"the gateway runs with {config}, not with {other}; this is about {config}" in err
    socket = str(config.parent / "data/admin.sock")
    assert "runs with" not in (await inside("-c", str(other), "--socket", socket, *command.split()))[2]
    assert "runs with" not in (await inside(*command.split()))[2]


@pytest.mark.parametrize(
    "command", ["requests show", "channels show", "unfreeze --tenant", "freeze --tenant x --reason", "audit list --by"]
)
async def test_bytes_that_are_no_text_are_no_bug(desk, inside, command):
    """As from a terminal in GBK while the locale says UTF-8."""
    code, out, err = await inside(*command.split(), b"\xb1\xb8".decode("utf-8", "surrogateescape"))
    assert (code, out) == (2, "") and "'\\udcb1\\udcb8' is no text in utf-8" in err and "`locale`" in err
    assert desk.calls == []


async def test_a_real_second_worker_serves_when_reload_returns(rig: Rig):
    await rig.engine("a")
    rig.model("qwen")
    await rig.start()
    rig.config["workers"] = 2
    rig.write()
    ran = await actl("reload", "--config", rig.path)
    assert ran.code == 0, ran  # whether this reload has brought it, or the change had been noticed already
    states = {one["name"]: one["state"] for one in (await rig.admin("GET", "/v1/status"))["processes"]}
    assert states["worker-0"] == states["worker-1"] == "up"


async def test_config_diff_history_rollback_and_running(desk, config, inside):
    assert (await inside("config", "diff"))[0] == 0
    assert (await inside("config", "diff", "-o", "csv"))[:2] == (0, "change\n")
    assert (await inside("config", "diff", "-o", "json"))[:2] == (0, "[]\n")
    config.write_text(config.read_text().replace("qwen:", "qwen2:"))
    code, out, _ = await inside("config", "diff")
    assert code == 1 and "qwen2" in out
    here = config.read_text()
    config.write_text(here + "node: another\n" if "node:" not in here else re.sub("node: .*", "node: another", here))
    code, out, err = await inside("config", "diff")
    assert code == 1 and "node" in out and "node and data_dir change with a restart alone" in err
    config.write_text(here)
    config.write_text(config.read_text() + "nonsense: 1\n")
    assert (await inside("config", "diff"))[0] == 78
    _, out, _ = await inside("config", "history")
    assert "root (uid 0, pid 1)" in out
    assert "revision 1 is damaged: remove it" in (await inside("config", "history"))[2]
    assert (await inside("config", "rollback", "2", "--yes"))[:2] == (0, "models.qwen is gone\n")
    assert "the files are those of revision 2 again" in (await inside("config", "rollback", "2", "--yes"))[2]
    code, _, err = await inside("config", "rollback", "7", "--yes")
    assert code == 1 and "no revision 7" in err
    for args in (["rollback"], ["rollback", "2"]):
        code, _, err = await inside("config", *args)
        assert code == 2 and "needs --yes" in err
    _, out, _ = await inside("config", "show", "--running")
    assert yaml.safe_load(out)["config"]["channels"]["gpu"]["credential"] == "(hidden)"


async def two_revisions(rig: Rig) -> None:
    """A gateway that serves its second."""
    await rig.engine("a")
    rig.model("qwen")
    await rig.start()
    rig.model("other")
    rig.write()
    assert (await actl("reload", "-c", rig.path)).code == 0


async def test_a_rollback_after_a_refused_edit_takes_that_edit_back(rig: Rig):
    await two_revisions(rig)
    live = rig.path.read_text()
    rig.path.write_text(live + "chanels: {}\n")
    assert (await actl("reload", "-c", rig.path)).code == 78
    ran = await actl("config", "rollback", "--yes", "-c", rig.path)
    assert ran.code == 0 and "is not what is live: back to revision 2, which is live" in ran.err and "revision 2 stays" in ran.err
    assert rig.path.read_text() == live
    ran = await actl("config", "rollback", "--yes", "-c", rig.path)
    assert ran.code == 0 and "back to the one before, revision 1" in ran.err and "revision 3 is live" in ran.err


async def test_a_rollback_is_written_by_who_may(desk, config, inside, monkeypatch):
    """/etc/gateway is root's, and the unit shows it to the gateway as read-only: root's gatewayctl writes, as `keys create` does."""
    loaded = load(config)
    resolved, keys = resolve(loaded)
    revisions = Revisions(config.parent / "data")
    for text in (loaded.files[str(config)], "version: 1\n"):
        revisions.commit(revisions.save(digest="", files={str(config): text}, resolved=resolved, keys=keys, by="", why=""))
    config.write_text(loaded.files[str(config)] + "# of today\n")
    assert (await inside("config", "rollback", "2", "--yes"))[0] == 0
    assert config.read_text() == "version: 1\n" and [what for what, _ in desk.calls] == ["reload for rollback 2"]
    desk.calls.clear()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert (await inside("config", "rollback", "2", "--yes"))[0] == 0
    assert [what for what, _ in desk.calls] == ["rollback 2"], "it may be the gateway's own file"


async def test_a_gateway_that_may_not_write_its_files_says_who_may(rig: Rig):
    await two_revisions(rig)
    lock = rig.path.with_name(rig.path.name + ".lock")
    lock.unlink(missing_ok=True)
    lock.symlink_to("nowhere")  # refused to root too
    said = (await rig.admin("POST", "/v1/config/rollback", {"rev": 1}))["error"]
    assert said["code"] == "failed" and f"cannot write {lock}" in said["message"] and "sudo gatewayctl config rollback" in said["message"]


async def test_nobody_is_asked_about_a_revision_that_is_not_there(desk, inside, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdin.readline", lambda: pytest.fail("it asked"))
    code, _, err = await inside("config", "rollback", "99")
    assert code == 1 and "no revision 99" in err and "config history" in err and "[y/N]" not in err
    code, _, err = await inside("config", "rollback", "1")
    assert code == 1 and "revision 1 is damaged: remove it" in err and "[y/N]" not in err
    history = desk.history
    monkeypatch.setattr(desk, "history", lambda: history()[1:])
    code, _, err = await inside("config", "rollback")
    assert code == 1 and "no earlier revision" in err and "[y/N]" not in err
    assert not [what for what, _ in desk.calls if what.startswith("rollback")]


async def test_requests_tail_shows_the_newest_and_filters(desk, inside):
    desk.told[1].update(key="bob", status=503, end="UW", model="small")
    _, out, _ = await inside("requests", "tail")
    lines = out.splitlines()
    assert len(lines) == 4 and lines[0].split()[:3] == ["TIME", "ID", "KEY"]
    assert lines[2].split()[1:] == "019a2b3c-4d5e-7f60 bob small gpu 503 UW 12/34 41 ms 950 ms 2".split()
    for options in (["--key", "bob"], ["--model", "sm*"], ["--status", "5xx"], ["--status", "503"]):
        _, out, _ = await inside("requests", *options, "-o", "json")
        assert [found["key"] for found in json.loads(out)] == ["bob"]
    assert json.loads((await inside("requests", "--since", "1ms", "-o", "json"))[1]) == []
    assert (await inside("requests", "--key", "nobody"))[1:] == ("", "no such requests\n"), "there are others"
    assert len(json.loads((await inside("requests", "-n", "2", "--since", "1h", "-o", "json"))[1])) == 2


@pytest.mark.parametrize(
    ("command", "column", "form"),
    [
        ("health", "since", MOMENT),
        ("health", "kv", r"0\.\d+|"),
        ("health", "ttft", r"[\d.]+|"),
        ("status", "since", MOMENT),
        ("status", "memory", r"\d+"),
        ("alerts list", "when", MOMENT),
        ("limits show", "used", r"[\d.]+"),
        ("limits show", "refused", r"\d+"),
        ("config history", "live", "true|false"),
        ("requests tail", "ttft_ms", r"[\d.]*[1-9][\d.]*|"),
    ],
)
async def test_csv_has_plain_values(desk, inside, command, column, form):
    """What a table says in words, `3 min ago`, `22.8 MiB`, `41.5 (83%)`, no program can reckon with."""
    desk.told[1].update(status=503, end="GQ", ms={"first": 0.0, "total": 0.2})
    desk.alerting = {"alerts": [{"state": "firing", "fired": 1.0, "since": 1.0}], "silences": [], "sinks": [], "rules": [], "unwritten": ""}
    out = (await inside(*command.split(), "-o", "csv"))[1]
    rows = list(csv.DictReader(io.StringIO(out)))
    assert rows and [row[column] for row in rows if not re.fullmatch(form, row[column])] == []


@pytest.mark.parametrize(
    ("status", "end", "said"),
    [
        (400, "CW", "the caller's own mistake before the first event"),
        (404, "CR", "the caller's own mistake while its route was chosen"),
        (503, "UR", "no engine could be asked"),
    ],
)
async def test_who_waited_for_a_refusal_did_not_leave(desk, inside, status, end, said):
    desk.told[2].update(trace="my-request", status=status, end=end)
    code, out, _ = await inside("requests", "show", "my-request")
    assert code == 0 and f"{end}: {said}\n" in out and "the caller left" not in out


async def test_requests_show_tells_all_of_one(desk, inside):
    desk.told[2].update(trace="my-request", end="CD", surprise={"new": 1}, reserved={"in": 37, "out": 257})
    desk.told[2]["attempts"] = [{**attempt, "tokens": {"in": 4, "out": 15}} for attempt in desk.told[2]["attempts"]]
    code, out, _ = await inside("requests", "show", "my-request")
    assert code == 0 and desk.told[2]["id"] in out
    assert "CD: the caller left while the answer went out" in out
    assert "failover" in out and "status_503" in out and "120 ms" in out and "surprise" in out
    assert "4/15" in out, "what one engine had of an answer that two have made"
    assert "reserved\n  in   37\n  out  257\n" in out
    assert json.loads((await inside("requests", "show", "my-request", "-o", "json"))[1])["surprise"] == {"new": 1}
    assert (await inside("requests", "show", "zzz"))[0] == 1


async def test_follow_prints_what_is_there_and_what_comes_once_each(desk, config):
    child = await asyncio.create_subprocess_exec(
        *GATEWAYCTL, "requests", "tail", "-f", "-n", "1", "-o", "json",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment(GATEWAY_CONFIG=str(config)),
    )  # fmt: skip
    assert child.stdout is not None
    async with asyncio.timeout(20):
        assert json.loads(await child.stdout.readline())["id"] == desk.told[-1]["id"]
        desk.coming.put_nowait(desk.told[-1])
        desk.coming.put_nowait(record("new"))
        assert json.loads(await child.stdout.readline())["id"] == "new"
        child.send_signal(2)
        out, err = await child.communicate()
    assert child.returncode == 130 and out == b"" and b"Traceback" not in err


@pytest.mark.parametrize("first", [True, False], ids=["reads the first", "reads nothing"])
@pytest.mark.parametrize("command", ["requests tail -f", "health --watch"])
async def test_who_follows_ends_when_nobody_reads_any_more_though_nothing_comes(desk, config, command, first):
    """As in `gatewayctl requests tail -f | head -1`, which would stay until the next request."""
    reader, writer = os.pipe()
    child = await asyncio.create_subprocess_exec(
        *GATEWAYCTL, *command.split(), "-o", "json",
        stdout=writer, stderr=asyncio.subprocess.PIPE, env=environment(GATEWAY_CONFIG=str(config)),
    )  # fmt: skip
    os.close(writer)
    async with asyncio.timeout(20):
        with os.fdopen(reader, "rb") as lines:
            if first:
                await asyncio.to_thread(lines.readline)
        _, err = await child.communicate()
    assert (child.returncode, err) == (141, b"")
    await eventually(lambda: not desk.following)


async def test_follow_ends_with_5_when_the_gateway_stops(config):
    server = await serve_admin(FakeDesk(config), config.parent / "data/admin.sock")
    child = await asyncio.create_subprocess_exec(
        *GATEWAYCTL, "requests", "tail", "-f",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment(GATEWAY_CONFIG=str(config)),
    )  # fmt: skip
    assert child.stdout is not None
    async with asyncio.timeout(20):
        assert b"TIME" in await child.stdout.readline()
        await server.close()
        _, err = await child.communicate()
    assert child.returncode == 5 and b"the gateway stopped" in err


async def test_what_is_no_gateway_is_said_to_be_none(tmp_path, inside):
    async def other(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answers.pop(0))
        writer.close()

    ok = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b"
    server = await asyncio.start_unix_server(other, tmp_path / "s")
    answers = [ok % (2, b"hi"), ok % (10, b'{"api": 9}'), ok % (99, b'{"api'), b""]
    said = ["not a gateway", "another admin API", "broke off", "broke off"]
    for sentence in said:
        code, _, err = await inside("status", "--socket", str(tmp_path / "s"))
        assert code == 1 and sentence in err
    server.close()
    await server.wait_closed()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_who_may_not_use_the_socket_is_told_so_and_gets_4(desk):
    """The child asks once as root, so that everything is loaded, and once as somebody else."""
    code = (
        "import grp, os, sys, gateway.config.report\nfrom gatewayctl import app\n"
        "sys.stdout = open(os.devnull, 'w')\nassert app.run(sys.argv[1:]) == 0\n"
        "sys.stdout = sys.__stdout__\nos.setgroups([]); os.setgid(54321); os.setuid(54321)\nsys.exit(app.run(sys.argv[1:]))"
    )
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        server = await serve_admin(desk, Path(folder) / "s")
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-Wignore", "-c", code, "models", "--socket", f"{folder}/s",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment(),
        )  # fmt: skip
        out, err = await asyncio.wait_for(child.communicate(), 20)
        await server.close()
    assert (child.returncode, out) == (4, b""), err
    assert b"you may not use the admin socket" in err and b"member of group" in err

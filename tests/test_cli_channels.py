"""`gatewayctl health --watch` and `gatewayctl channels show|drain|undrain`: what people see, what programs get, and the exit codes."""

import asyncio
import json
import os
import pty
import re
import shutil
from typing import Any

import pytest

from gateway.admin.server import serve_admin
from gatewayctl.commands import drain as drain_module
from gatewayctl.commands.health import changes
from gatewayctl.redraw import Redraw
from tests.fixtures.cli import GATEWAYCTL, environment
from tests.fixtures.desk import FakeDesk, write_config

URL = "http://127.0.0.1:8000"


@pytest.fixture
def config(tmp_path):
    return write_config(tmp_path)


@pytest.fixture
async def desk(config, monkeypatch):
    desk = FakeDesk(config)
    server = await serve_admin(desk, config.parent / "data/admin.sock")
    monkeypatch.setenv("GATEWAY_CONFIG", str(config))
    yield desk
    await server.close()


class Child:
    """`gatewayctl ARGS` that goes on; its stdout is a pipe, or a terminal of ours."""

    def __init__(self, config, *args):
        self.config, self.args = config, args

    async def __aenter__(self):
        pipe = asyncio.subprocess.PIPE
        env = environment(GATEWAY_CONFIG=str(self.config))
        self.process = await asyncio.create_subprocess_exec(*GATEWAYCTL, *self.args, stdout=pipe, stderr=pipe, env=env)
        return self

    async def line(self) -> str:
        assert self.process.stdout is not None
        found: bytes = await asyncio.wait_for(self.process.stdout.readline(), 20)
        return found.decode()

    async def interrupt(self) -> tuple[str, str]:
        self.process.send_signal(2)
        out, err = await asyncio.wait_for(self.process.communicate(), 20)
        return out.decode(), err.decode()

    async def __aexit__(self, *_):
        if self.process.returncode is None:
            self.process.kill()
            await self.process.communicate()


async def on_terminal(config, *args, until: str, act=lambda: None) -> tuple[int, str]:
    """Runs on a terminal until `until` was drawn, then `act`s and interrupts it unless it ends by itself."""
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *GATEWAYCTL, *args, stdout=theirs, stderr=theirs, stdin=theirs, env=environment(GATEWAY_CONFIG=str(config), TERM="xterm")
    )
    os.close(theirs)
    seen = b""
    loop = asyncio.get_running_loop()
    acted = False
    while True:
        try:
            seen += await asyncio.wait_for(loop.run_in_executor(None, os.read, ours, 65536), 20)
        except OSError:  # the child has closed it
            break
        if until.encode() in seen and not acted:
            acted = True
            if act() is None:
                process.send_signal(2)
    os.close(ours)
    return await asyncio.wait_for(process.wait(), 20), seen.decode()


# -- health -----------------------------------------------------------------------------------------------------------


async def test_health_shows_figures_and_counts_what_does_not_serve(desk, inside):
    code, out, _ = await inside("health")
    assert code == 0
    assert re.search(r"gpu +http://127.0.0.1:8000 +up .* 2 +4 +1 +50% ", out)
    for state, expected in {"wedged": 6, "ejected": 6, "down": 6, "draining": 0, "busy": 0, "degraded": 0}.items():
        desk.states[0] = state
        assert (await inside("health"))[0] == expected, state


async def test_watching_into_a_pipe_prints_a_line_for_each_change(desk, config):
    async with Child(config, "health", "--watch") as child:
        assert (await child.line()).split() == ["TIME", "CHANNEL", "ENDPOINT", "STATE", "WHY"]
        assert (await child.line()).split()[1:] == ["gpu", URL, "up", "-"]
        desk.states[0], desk.why = "wedged", "no token came"
        assert (await child.line()).split()[1:] == ["gpu", URL, "wedged", "no", "token", "came"]
        out, err = await child.interrupt()
        assert (child.process.returncode, out) == (130, "") and "Traceback" not in err


async def test_watching_as_json_is_one_object_for_each_change(desk, config):
    async with Child(config, "health", "--watch", "-o", "json") as child:
        first = json.loads(await child.line())
        assert (first["state"], first["running"], first["ts"] > 1e9) == ("up", 4.0, True)
        desk.in_flight = 9  # figures are no change
        desk.states[0] = "down"
        second = json.loads(await child.line())
        assert (second["state"], second["in_flight"]) == ("down", 9)


async def test_watching_goes_on_while_control_is_started_again(config):
    desk = FakeDesk(config)
    server = await serve_admin(desk, config.parent / "data/admin.sock")
    async with Child(config, "health", "-w", "-o", "json") as child:
        assert json.loads(await child.line())["state"] == "up"
        await server.close()
        assert b"not running" in await asyncio.wait_for(child.process.stderr.readline(), 20)
        desk.states[0] = "down"
        server = await serve_admin(desk, config.parent / "data/admin.sock")
        assert json.loads(await child.line())["state"] == "down"
    await server.close()


async def test_watching_begins_with_5_when_there_is_nobody(tmp_path, inside):
    (tmp_path / "g.yaml").write_text("version: 1\ndata_dir: d\n")
    code, out, err = await inside("health", "--watch", "--config", str(tmp_path / "g.yaml"))
    assert (code, out) == (5, "") and "not running" in err


async def test_watching_on_a_terminal_draws_in_place(desk, config):
    desk.states[0] = "busy"
    code, seen = await on_terminal(config, "health", "--watch", until="A\r\x1b[J")
    assert code == 130 and seen.count("CHANNEL") == 2 and "1 endpoint: 1 busy" in seen and "\x1b[33mbusy" in seen


def test_what_is_a_change():
    before: dict[Any, Any] = {}
    a = {"channel": "gpu", "endpoint": "a", "state": "up", "why": "", "in_flight": 1}
    b = {**a, "endpoint": "b"}
    assert list(changes(before, [a, b])) == [a, b]
    assert list(changes(before, [{**a, "in_flight": 5}, b])) == []
    down = {**b, "state": "down", "why": "refused"}
    assert list(changes(before, [a, down])) == [down]
    assert list(changes(before, [a, {**down, "why": "timeout"}])) == [{**down, "why": "timeout"}]
    assert [(one["endpoint"], one["state"]) for one in changes(before, [a])] == [("b", "gone")]


def test_what_does_not_fit_on_the_screen_is_cut_off(capsys, monkeypatch):
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((80, 5)))
    screen = Redraw()
    screen.draw("\n".join("abcdefgh"))
    assert capsys.readouterr().out == "\r\x1b[Ja\nb\nc\n… and 5 more\n"
    screen.draw("a\nb")
    assert capsys.readouterr().out == "\x1b[4A\r\x1b[Ja\nb\n"


# -- channels ---------------------------------------------------------------------------------------------------------


async def test_what_serves_nobody_yet_is_not_up(desk, inside, monkeypatch):
    listed = [*desk.endpoints(), {**desk.endpoints()[0], "state": "degraded", "serves": False}]
    monkeypatch.setattr(desk, "endpoints", lambda: listed)
    code, out, _ = await inside("channels", "list", "-o", "csv")
    assert code == 0 and out.splitlines()[1].split(",")[3] == "1"
    assert " 1/2 " in (await inside("channels", "list"))[1]


@pytest.mark.parametrize(("many", "said"), [(5, "http://e4"), (6, "http://e3, and 2 more"), (256, "http://e3, and 252 more")])
async def test_people_are_told_a_few_of_many_endpoints_and_programs_all(desk, inside, monkeypatch, many, said):
    first = desk.endpoints()[0]
    monkeypatch.setattr(desk, "endpoints", lambda: [{**first, "endpoint": f"http://e{at}"} for at in range(many)])
    _, out, _ = await inside("channels", "list")
    assert said in out and out.count("http://") == min(many, 4 + (many == 5))
    _, out, _ = await inside("channels", "list", "-o", "csv")
    assert out.count("http://") == many


async def test_showing_one_channel(desk, inside):
    desk.drained = True
    code, out, _ = await inside("channels", "show", "gpu")
    assert code == 0
    for said in ("gpu", "vllm", "used by   qwen", "drained   by ann", "200 in flight, then 100 wait for up to 30 s", "0.33.0", "32768"):
        assert said in out
    assert "unlisted  http://10.0.0.9:8000, drained by bob\n" in out
    assert "0 places taken, 3 wait" in out and "lab, degraded since 1970-" in out and ": gpu.lab A: SERVFAIL" in out
    assert json.loads((await inside("channels", "show", "gpu", "-o", "json"))[1])["breaker"] == {"failures": 5}
    code, _, err = await inside("channels", "show", "none")
    assert code == 1 and "no channel 'none'" in err


async def test_draining(desk, inside):
    code, out, err = await inside("channels", "drain", "gpu", "--endpoint", URL, "--for", "1h30m")
    assert (code, out) == (0, "") and desk.calls[0][0] == f"drain gpu {URL} 5400.0"
    assert f"endpoint {URL} of channel gpu is drained for 1h30m" in err
    assert "model qwen has no endpoint left that is not drained" in err
    _, out, err = await inside("channels", "undrain", "gpu")
    assert "channel gpu is back" in err and desk.calls[1][0] == "undrain gpu None"
    code, out, err = await inside("channels", "undrain", "gpu", "-o", "json")
    assert code == 0 and "was not drained" in err and json.loads(out)["changed"] is False
    assert json.loads((await inside("channels", "drain", "gpu", "-o", "json", "-q"))[1])["left"] == ["qwen"]


@pytest.mark.parametrize("lasting", ["soon", "0s", "2027-01-01", "5"])
async def test_a_drain_lasts_for_a_duration(desk, inside, lasting):
    code, _, err = await inside("channels", "drain", "gpu", "--for", lasting)
    assert code == 2 and "such as 30m" in err and not desk.calls


async def test_a_drain_that_not_everybody_heard_of_is_6(desk, inside):
    desk.deaf = [1]
    for verb in ("drain", "undrain"):
        code, _, err = await inside("channels", verb, "gpu")
        assert code == 6 and "no answer from worker-1" in err


async def test_what_cannot_be_drained(desk, inside):
    code, _, err = await inside("channels", "drain", "none")
    assert code == 1 and "no channel 'none'" in err
    desk.full = True
    code, _, err = await inside("channels", "drain", "gpu")
    assert code == 1 and "cannot be written down" in err


async def test_waiting_until_nothing_is_in_flight(desk, config):
    async with Child(config, "channels", "drain", "gpu", "--wait") as child:
        assert "IN FLIGHT" in await child.line()
        assert (await child.line()).split()[1:] == ["2", URL]
        desk.in_flight = 1
        assert (await child.line()).split()[1:] == ["1", URL]
        desk.in_flight = 0
        assert (await child.line()).split()[1:] == ["0", "-"]
        _, err = await asyncio.wait_for(child.process.communicate(), 20)
        assert child.process.returncode == 0 and b"nothing is in flight there any more" in err


async def test_nothing_in_flight_is_believed_when_workers_had_time_to_say_so(desk, inside, monkeypatch):
    monkeypatch.setattr(drain_module, "SETTLED", 0.3)
    desk.in_flight = 0
    monkeypatch.setattr(drain_module, "EVERY", 0.1)
    looks, real = [], desk.channel

    def channel(name):
        looks.append(name)
        return real(name)

    monkeypatch.setattr(desk, "channel", channel)
    code, out, _ = await inside("channels", "drain", "gpu", "--wait", "-o", "json")
    assert code == 0 and [json.loads(line)["in_flight"] for line in out.splitlines()] == [0]
    assert len(looks) >= 4


async def test_control_c_leaves_it_drained(desk, config):
    async with Child(config, "channels", "drain", "gpu", "--endpoint", URL, "--wait", "-o", "json") as child:
        assert json.loads(await child.line())["in_flight"] == 2
        out, err = await child.interrupt()
        assert (child.process.returncode, out) == (130, "") and "Traceback" not in err
    assert desk.drained and [call for call, _ in desk.calls] == [f"drain gpu {URL} None"]


async def test_waiting_on_a_terminal(desk, config):
    def act():
        desk.in_flight = 0
        return True

    code, seen = await on_terminal(config, "channels", "drain", "gpu", "--wait", until="2 requests in flight at 1 endpoint", act=act)
    assert code == 0 and "0 requests in flight" in seen and "nothing is in flight" in seen

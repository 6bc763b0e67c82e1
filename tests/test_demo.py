"""The demonstration runs, shows what it promises, and leaves nothing behind, however it ends."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from gatewayctl.commands.demo import Demo, run
from gatewayctl.commands.stage import Broken, Stage, free_ports
from gatewayctl.trouble import Trouble

ROOT = Path(__file__).parents[1]
DEMO = [sys.executable, "-m", "gatewayctl", "demo"]
WITHOUT = "import sys; sys.modules.update(openai=None, xllamacpp=None); from gatewayctl.app import main; main()"
"""As in the packaged binary, which carries neither."""


def left_of(folder: str) -> list[str]:
    """Processes that work in or for this folder."""
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if folder in command.read_text():
                found.append(command.read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def read_until(process: subprocess.Popen[str], word: str) -> str:
    """Its output up to the line that holds `word`."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if word in line:
            return said
    raise AssertionError(f"{word!r} was not said:\n{said}")


def folder_in(said: str) -> str:
    found = re.search(r"(/\S+/gw-\w+)/gateway\.yaml", said)
    assert found, said
    return found[1]


def test_the_demonstration_keeps_its_promises():
    began = time.monotonic()
    done = subprocess.run(DEMO, capture_output=True, text=True, timeout=55, cwd=ROOT)
    said = done.stdout
    assert done.returncode == 0, said + done.stderr
    assert not done.stderr
    assert "a real llama.cpp server" in said and "This answer comes from llama.cpp itself" in said
    assert "the official openai client" in said
    assert re.search(r"so vllm \d, mindie \d", said), "the weighted model"
    assert "+      - {channel: llama, weight: 3}" in said and "revision 2 is live" in said
    went_on = re.search(r"the open stream went on meanwhile: (\d+) of its 200 words came after the change, all of them from vllm", said)
    assert went_on and int(went_on[1]) > 0
    assert "mindie connect → llama ok" in said, "the failover, in the records"
    assert re.search(r"vllm cut +UD +\d+ +\d+ +continuous", said), "the broken stream, in the records"
    assert re.search(r"All as promised: \d\d+ checks", said)
    assert "\x1b" not in said, "no colours into a pipe"
    assert not Path(folder_in(said)).exists() and not left_of(folder_in(said))
    assert time.monotonic() - began < 40


@pytest.mark.hard
def test_ctrl_c_leaves_nothing_behind():
    with subprocess.Popen(DEMO, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        folder = folder_in(read_until(process, "ready after"))
        assert left_of(folder)
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 130
    assert not Path(folder).exists() and not left_of(folder)


@pytest.mark.hard
def test_its_processes_die_with_it_even_when_it_is_killed():
    with subprocess.Popen(DEMO, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        folder = folder_in(read_until(process, "ready after"))
        process.kill()
        process.wait(5)
    end = time.monotonic() + 10
    while left_of(folder) and time.monotonic() < end:
        time.sleep(0.05)
    assert not left_of(folder)
    subprocess.run(["rm", "-r", folder], check=True)  # nobody was left to remove it


def test_a_broken_promise_is_said_and_cleared_up(monkeypatch):
    folders = []

    def play(demo: Demo) -> None:
        folders.append(demo.stage.folder)
        demo.check(False, "the earth is flat")

    monkeypatch.setattr(Demo, "play", play)
    with pytest.raises(Trouble, match="the earth is flat") as trouble:
        run(keep=False)
    assert trouble.value.code == 1
    assert folders and not folders[0].exists()


def test_a_child_that_cannot_start_says_why():
    with Stage() as stage, pytest.raises(Broken, match="exit code 3:\nno cards"):
        stage.start("engine", [sys.executable, "-c", "import sys; print('no cards'); sys.exit(3)"], "ready")


def test_free_ports_are_different_ones():
    assert len(set(free_ports(20))) == 20


@pytest.mark.hard
def test_without_the_development_packages_and_left_running():
    environment = {**os.environ, "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    command = [sys.executable, "-c", WITHOUT, "demo", "--keep"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as process:
        said = read_until(process, "$EDITOR")
        assert "a simulated SGLang instead" in said and "plain HTTP" in said and "All as promised" in said
        found = re.search(r"base URL +(\S+)\n +API key +(\S+)", said)
        assert found, said
        call = urllib.request.Request(f"{found[1]}/models", headers={"Authorization": f"Bearer {found[2]}"})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(call, timeout=5) as answer:
            assert "team" in [model["id"] for model in json.load(answer)["data"]]
        folder = folder_in(said)
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
    assert not Path(folder).exists() and not left_of(folder)

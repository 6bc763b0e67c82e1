"""`gatewayctl upgrade` before a control that comes and goes."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gatewayctl import app
from gatewayctl.client import Client
from gatewayctl.trouble import FAILED, FORBIDDEN, UNREACHABLE, Trouble


def own(upgrade: str, upgrades: int, version: str = "2.0.0") -> dict[str, Any]:
    worker = {"name": "worker-1", "state": "draining"}
    return {"processes": [{"name": "supervisor", "version": version, "upgrade": upgrade, "upgrades": upgrades}, worker]}


@pytest.fixture
def running() -> Iterator["subprocess.Popen[bytes]"]:
    """The supervisor."""
    child = subprocess.Popen(["sleep", "60"])
    yield child
    child.kill()
    child.wait()


@pytest.fixture
def said(running: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What control says to each look; an exception is raised."""
    answers: list[Any] = []

    asked = []

    def get(client: Client, path: str, timeout: float = 0.0) -> Any:
        asked.append(path)
        if len(asked) == 1:
            return {"pid": running.pid}
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(Client, "get", get)
    monkeypatch.setattr(Client, "post", lambda *_, **__: {"upgrade": {"version": "1.0.0", "upgrades": 4}})
    monkeypatch.setattr("time.sleep", lambda _: None)
    return answers


def test_it_waits_while_control_is_replaced(said: list[Any], tmp_path: Path, capsys: Any) -> None:
    broken, away = Trouble("broke off", code=FAILED), Trouble("nobody", code=UNREACHABLE)
    said += [own("", 4, "1.0.0"), own("control is being replaced", 5), broken, away, own("worker-0 is being replaced", 5), own("", 5)]
    assert app.run(["upgrade", "-c", str(tmp_path / "gateway.yaml")]) == 0
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "version 1.0.0 hands over",
        "control is being replaced",
        "worker-0 is being replaced",
        "version 2.0.0 serves; 1 worker(s) of the one before finish what they have",
    ]


def test_it_says_why_an_upgrade_stopped(said: list[Any], tmp_path: Path, capsys: Any) -> None:
    said += [own("stopped: worker-1 did not listen within 60 s", 5)]
    assert app.run(["upgrade", "-c", str(tmp_path / "gateway.yaml")]) == 1
    assert "the upgrade stopped: worker-1 did not listen within 60 s" in capsys.readouterr().err


def test_a_gateway_that_ends_meanwhile_is_not_waited_for(
    running: "subprocess.Popen[bytes]", said: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    def post(*_: Any, **__: Any) -> Any:
        running.kill()
        running.wait()
        return {"upgrade": {"version": "1.0.0", "upgrades": 4}}

    monkeypatch.setattr(Client, "post", post)
    said += [Trouble("nobody", code=UNREACHABLE)]
    assert app.run(["upgrade", "-c", str(tmp_path / "gateway.yaml")]) == UNREACHABLE
    assert "the gateway has ended in the middle of the upgrade" in capsys.readouterr().err


def test_who_may_not_is_told_at_once(said: list[Any], tmp_path: Path) -> None:
    said += [Trouble("you may not", code=FORBIDDEN)]
    assert app.run(["upgrade", "-c", str(tmp_path / "gateway.yaml")]) == FORBIDDEN

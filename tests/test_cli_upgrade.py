"""`gatewayctl upgrade` before a control that comes and goes."""

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
def said(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What control says to each look; an exception is raised."""
    answers: list[Any] = []

    def get(client: Client, path: str, timeout: float = 0.0) -> Any:
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


def test_who_may_not_is_told_at_once(said: list[Any], tmp_path: Path) -> None:
    said += [Trouble("you may not", code=FORBIDDEN)]
    assert app.run(["upgrade", "-c", str(tmp_path / "gateway.yaml")]) == FORBIDDEN

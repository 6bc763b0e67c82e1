"""The executable's roles, from outside."""

import os
import subprocess
import sys
from pathlib import Path


def gateway(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gateway", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, env={**os.environ, **env})


def test_an_unknown_role_says_how_it_is_used() -> None:
    for arguments in ((), ("dance",)):
        ended = gateway(*arguments)
        assert ended.returncode == 2 and ended.stdout == ""
        assert "usage: gateway serve" in ended.stderr


def test_without_aiohttps_c_extensions_it_does_not_start(tmp_path: Path) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text(f"version: 1\ndata_dir: {tmp_path}/data\nauth: none\n")
    ended = gateway("serve", "--config", str(config), AIOHTTP_NO_EXTENSIONS="1")
    assert ended.returncode == 1
    assert "C extensions" in ended.stderr and "Traceback" not in ended.stderr
    assert not (tmp_path / "data").exists()


def test_closed_streams_are_no_failure(tmp_path: Path) -> None:
    """As a shell's `>&-` leaves them, and daemons of old."""
    good, bad, out = tmp_path / "good.yaml", tmp_path / "bad.yaml", tmp_path / "out"
    good.write_text("version: 1\nauth: none\n")
    bad.write_text("version: 2\n")
    for line, code, said in (
        (f"gatewayctl config check -c {good} >&-", 0, ""),
        (f"gatewayctl config check -c {good} <&- >&- 2>&-", 0, ""),
        (f"gatewayctl config check -c {bad} 2>&-", 78, ""),
        (f"gatewayctl config check -c {bad} >&-", 78, "this has to be 1"),
        ("gateway dance <&- >&- 2>&-", 2, ""),
    ):
        with open(out, "w") as file:
            ended = subprocess.run(["sh", "-c", f"exec {sys.executable} -m {line}"], stdout=file, stderr=file, timeout=30)
        told = out.read_text()
        assert ended.returncode == code and said in told and bool(told) is bool(said), (line, told)

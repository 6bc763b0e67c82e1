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

"""Fixtures that many tests share."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import settings

from gateway.admin.server import serve_admin
from gatewayctl import app
from tests.fixtures.desk import FakeDesk, write_config
from tests.harness import Rig

settings.register_profile("ci", derandomize=True)
"""In CI the same examples each time: what is found by chance is found while developing, and then stands as a test of its own."""
if os.environ.get("CI"):
    settings.load_profile("ci")
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # Started with `nohup` or `&`: what tests start would ignore it as well, and they end some of it by Control-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A gateway that the test configures and starts; stopped with its engines at the end."""
    async with Rig(tmp_path) as rig:
        yield rig


@pytest.fixture
def inside(capsys: pytest.CaptureFixture[str]) -> Callable[..., Awaitable[tuple[int, str, str]]]:
    """The command line in this process, which is quicker than a child: (code, stdout, stderr)."""

    async def run(*args: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(app.run, list(args))
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration that gatewayctl finds."""
    monkeypatch.setenv("GATEWAY_CONFIG", str(write_config(tmp_path)))
    return tmp_path / "gateway.yaml"


@pytest.fixture
async def desk(config: Path) -> AsyncIterator[FakeDesk]:
    """A control that answers for it."""
    desk = FakeDesk(config)
    server = await serve_admin(desk, config.parent / "data/admin.sock")
    yield desk
    await server.close()

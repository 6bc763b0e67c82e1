"""Starts the gateway's own programs: commands that need the server's code hand over to them instead of importing it."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

from gatewayctl.trouble import BAD_CONFIG, FAILED, UNREADABLE, USAGE, Trouble

PIECE: Final = 256 * 1024
PROBE_PATIENCE: Final = 60.0
"""Seconds."""


def gateway_command(role: str, *args: str) -> list[str]:
    """The command line of one of the gateway's programs: serve, simulate, probe, tariff."""
    return [sys.executable, "-m", "gateway", role, *args]


def become(role: str, *args: str) -> NoReturn:
    """Replace this process, so that signals and exit codes are the program's own."""
    argv = gateway_command(role, *args)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(argv[0], argv)


def tariff(config: Path, model: str, tenant: str, at: float) -> dict[str, Any]:
    """What a model costs at a moment by the files, found out by a child that knows schedules. They are without mistakes."""
    return _tariff(config, at, "--model", model, "--tenant", tenant)


def open_schedules(config: Path, at: float) -> dict[str, bool]:
    """Of each schedule whether it is open at a moment."""
    return _tariff(config, at)


def _tariff(config: Path, at: float, *more: str) -> dict[str, Any]:
    argv = gateway_command("tariff", "--config", str(config), "--at", repr(at), *more)
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PROBE_PATIENCE, check=False)
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        said = done.stderr.strip().splitlines()
        raise Trouble(f"the prices cannot be told: {said[-1] if said else f'exit code {done.returncode}'}") from error
    return found


def right_url(url: str) -> None:
    """Raises Trouble when it cannot be an engine's. Asked before anything is said about it: it may hold a password."""
    from gateway.config.fields import url_of

    try:
        url_of(url)
    except ValueError as error:
        raise Trouble(f"an engine's URL is wrong: it {error}", code=USAGE) from error


def ledger_act(config: Path, act: str, *more: str) -> dict[str, Any]:
    """Something done to the ledger by a child, while no gateway runs. Raises Trouble with its reason."""
    argv = gateway_command("ledger", act, "--config", str(config), *more)
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise _child_failed(done.returncode, done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def ledger_bytes(config: Path, options: list[str], act: str = "export") -> Iterator[bytes]:
    """A file made by a child. Raises Trouble when it fails, wherever it is."""
    argv = gateway_command("ledger", act, "--config", str(config), *options)
    with tempfile.TemporaryFile() as said, subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=said) as child:
        assert child.stdout is not None
        while piece := child.stdout.read(PIECE):
            yield piece
        if child.wait():
            said.seek(0)
            raise _child_failed(child.returncode, said.read().decode(errors="replace"))


def ledger_copy(config: Path, to: Path, seconds: float) -> None:
    """A copy of the ledger into the file `to`, by a child that changes nothing, while no gateway runs. Raises Trouble."""
    argv = gateway_command("ledger", "copy", "--config", str(config), "--to", str(to))
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise Trouble(f"it could not be copied within {seconds:.0f} s") from error
    if done.returncode:
        raise _child_failed(done.returncode, done.stderr)


def _child_failed(status: int, said: str) -> Trouble:
    lines = said.strip().splitlines()
    if status == BAD_CONFIG:
        return Trouble("the configuration has mistakes", said.strip(), BAD_CONFIG)
    code = UNREADABLE if status == UNREADABLE else FAILED
    return Trouble(lines[-1].removeprefix("gateway: ") if lines else f"exit code {status}", code=code)


def unfit(config: Path, data_dir: Path) -> str:
    """Why this version cannot read what is in `data_dir`, a sentence from a child that changes nothing. Empty: it can."""
    argv = gateway_command("fit", "--config", str(config), "--data-dir", str(data_dir))
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return done.stderr.strip() if done.returncode else ""


def probe(url: str) -> dict[str, Any]:
    """What answers at `url`, found out by a child. Raises Trouble when the child itself fails, not when nothing answers."""
    argv = gateway_command("probe", "--json", url)
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PROBE_PATIENCE, check=False)
    except subprocess.TimeoutExpired as error:
        raise Trouble(f"{url} did not let itself be probed within {PROBE_PATIENCE:.0f} s") from error
    try:
        found = json.loads(done.stdout)
    except ValueError as error:
        said = done.stderr.strip().splitlines()
        raise Trouble(f"cannot probe {url}: {said[-1] if said else f'exit code {done.returncode}'}", code=FAILED) from error
    if not isinstance(found, dict):
        raise Trouble(f"cannot probe {url}: the answer makes no sense")
    return found

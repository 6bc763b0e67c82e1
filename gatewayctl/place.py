"""Where a gateway lives, whether it runs or not: its data_dir, its node's name, and the environment that its configuration is read with."""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.config.load import load
from gateway.config.locate import data_dir_of
from gateway.config.report import ConfigError
from gateway.config.resolve import host_name
from gatewayctl.session import Session
from gatewayctl.trouble import UNREACHABLE, Trouble

LEDGER: Final = "ledger.duckdb"
QUICK: Final = 5.0
"""Seconds for one answer of a gateway that runs."""


@dataclass(frozen=True, slots=True)
class Place:
    """status: what control says; None: it says nothing, and `silent` why ("": none runs). environ: with that of the process that runs."""

    data_dir: Path
    environ: Mapping[str, str]
    status: dict[str, Any] | None
    silent: str

    @property
    def serving(self) -> bool:
        """A gateway that may not be asked runs as well."""
        return self.status is not None or bool(self.silent)

    def node(self, config: Path) -> str:
        """The node's name, as far as anybody says it."""
        if self.status is not None:
            return str(self.status["node"])
        try:
            return load(config, self.environ).config.node or host_name()
        except ConfigError:
            return host_name()

    def ledger(self, session: Session) -> Path:
        """The ledger's file, as far as anybody says where it is."""
        if self.status is not None:
            with contextlib.suppress(Trouble):
                return Path(session.client().get("/v1/ledger", QUICK)["ledger"]["path"])
        try:
            url = load(session.config, self.environ).config.ledger.url
        except ConfigError:
            url = LEDGER
        return Path(os.path.abspath(self.data_dir / url.removeprefix("duckdb:")))


def place_of(session: Session) -> Place:
    """Asks the gateway that runs, if there is one."""
    status, silent, data_dir = None, "", data_dir_of(session.config)
    try:
        client = session.client()
        status = client.get("/v1/status", QUICK)
        if client.path.name == "admin.sock":
            data_dir = client.path.parent.absolute()  # the file may name another one by now
    except Trouble as trouble:
        silent = "" if trouble.code == UNREACHABLE else trouble.message
    environ = {**os.environ, **environ_of(int((status or {}).get("pid") or 0))}
    return Place(data_dir, environ, status, silent)


def environ_of(pid: int) -> dict[str, str]:
    """The environment that a process was started with: `${env:NAME}` is set there, and seldom in a shell. Empty when it may not be read."""
    try:
        lines = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") if pid else []
    except OSError:
        return {}
    return {os.fsdecode(name): os.fsdecode(value) for name, sign, value in (line.partition(b"=") for line in lines) if sign}

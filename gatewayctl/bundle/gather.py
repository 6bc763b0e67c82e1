"""Where the parts of a bundle get what they tell: the gateway that runs, the files, the host. Asked once each."""

import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from gateway.config.named import Named, named
from gatewayctl.bundle.cover import Cover
from gatewayctl.bundle.known import secrets_of
from gatewayctl.bundle.records import Clean
from gatewayctl.doctor.case import Case
from gatewayctl.programs import gateway_command
from gatewayctl.session import Session
from gatewayctl.trouble import Trouble

PATIENCE: Final = 30.0
"""Seconds for one program."""


class Missing(Exception):
    """A part has nothing to tell. Its text says why."""


@dataclass
class Gather:
    """records: how many. log: a file in place of journald."""

    session: Session
    case: Case
    records: int
    log: Path | None

    @cached_property
    def named(self) -> Named:
        return named(self.session.config, self.case.environ)

    @cached_property
    def cover(self) -> Cover:
        return Cover(secrets_of(self.named, self.case.environ, self.case.data_dir), self.named.names)

    @cached_property
    def clean(self) -> Clean:
        config = self.case.config
        names: set[str] = set()
        for model in config.models.values() if config else ():
            names |= {model.name, *model.aliases, *(leaf.model for leaf in model.leaves())}
        names |= {channel.model or "" for channel in config.channels.values()} if config else set()
        return Clean(self.cover, frozenset(names))

    def admin(self, path: str) -> Any:
        """An answer of the gateway that runs. Raises Missing."""
        if self.case.status is None:
            raise Missing(self.case.silent or "the gateway is not running")
        try:
            found = self.session.client().get(path)
        except Trouble as trouble:
            raise Missing(trouble.message) from trouble
        return {name: value for name, value in found.items() if name != "api"}

    def said_by(self, *argv: str) -> str:
        """What a program of the host prints. Raises Missing."""
        try:
            done = subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=PATIENCE, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Missing(f"{argv[0]}: {error}") from error
        if done.returncode:
            said = done.stderr.strip().splitlines()
            raise Missing(f"{argv[0]}: {said[-1] if said else f'exit code {done.returncode}'}")
        return done.stdout

    def program(self, role: str, *arguments: str) -> str:
        return self.said_by(*gateway_command(role, *arguments))

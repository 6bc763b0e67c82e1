"""What the checks look at, gathered once: the configuration, the gateway that runs, its user, and what a child found outside."""

import contextlib
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import msgspec

from gateway.config.load import load
from gateway.config.report import ConfigError, Mistake
from gateway.config.resolve import resolve
from gateway.config.resolved import Resolved
from gateway.config.revisions import Revisions
from gatewayctl.doctor.host import User, owner_of, unit, user_named
from gatewayctl.place import QUICK, place_of
from gatewayctl.programs import gateway_command
from gatewayctl.session import Session
from gatewayctl.trouble import Trouble

PATIENCE: Final = 90.0
"""Seconds for the child that looks outside; it ends by itself before that."""


@dataclass
class Case:
    """config: of the files, or of the last good revision when they have mistakes; None when there is neither.

    loaded_from: which of them. mistakes: those of the files. status: what control says, None when it says nothing, and `silent` why.
    """

    session: Session
    data_dir: Path
    environ: Mapping[str, str]
    config: Resolved | None = None
    loaded_from: str = ""
    files: tuple[Path, ...] = ()
    mistakes: Sequence[Mistake] = ()
    status: dict[str, Any] | None = None
    silent: str = ""
    unit: dict[str, str] = field(default_factory=dict)
    _child: "subprocess.Popen[bytes] | None" = None

    @classmethod
    def of(cls, session: Session) -> "Case":
        """Everything but what the child finds; `begin` starts that."""
        at = place_of(session)
        case = cls(session, at.data_dir, at.environ, status=at.status, silent=at.silent, unit=unit())
        try:
            loaded = load(session.config, at.environ)
            case.config, case.files = resolve(loaded)[0], tuple(Path(file) for file in loaded.files)
            case.loaded_from = "the files"
        except ConfigError as error:
            case.mistakes = error.mistakes
            _fall_back(case)
        if case.config is not None and at.status is None:
            case.data_dir = Path(case.config.data_dir)
        return case

    @property
    def path(self) -> Path:
        """The main file, absolute."""
        return self.session.config.absolute()

    @property
    def blind(self) -> bool:
        """Whether we may not even read the main file, and so do not know where anything is."""
        return self.config is None and self.status is None and not os.access(self.path, os.R_OK) and _there(self.path)

    @property
    def pids(self) -> set[int]:
        """Processes of the gateway that runs."""
        return {int(one["pid"]) for one in (self.status or {}).get("processes") or [] if one.get("pid")}

    @cached_property
    def user(self) -> User:
        """Whom the gateway runs as, or would: of its process, its unit, its data_dir; else whoever asks."""
        running = owner_of(int((self.status or {}).get("pid") or 0)) if self.status else None
        named = user_named(self.unit.get("User") or "") if self.unit.get("LoadState") == "loaded" else None
        if running or named:
            return running or named or User.of(os.geteuid())
        try:
            return User.of(self.data_dir.stat().st_uid)
        except OSError:
            return User.of(os.geteuid())

    def ask(self, path: str) -> dict[str, Any] | None:
        """An answer of the gateway that runs; None when there is none."""
        if self.status is None:
            return None
        try:
            return self.session.client().get(path, QUICK)
        except (Trouble, ConfigError):
            return None

    def begin(self) -> None:
        """Starts looking at engines, registries and names, while the other checks go on."""
        if self.config is None:
            return
        self._child = subprocess.Popen(
            gateway_command("examine"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ}
        )
        assert self._child.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # what it has not read it cannot answer, which is said then
            self._child.stdin.write(msgspec.msgpack.encode(self.config))
            self._child.stdin.close()
        self._child.stdin = None

    def end(self) -> None:
        """No child is left behind, whatever happened."""
        if self._child is not None and self._child.poll() is None:
            self._child.kill()
            self._child.communicate()

    @cached_property
    def outside(self) -> dict[str, Any]:
        """What the child found: registries, names, endpoints. Raises Trouble when it found nothing at all."""
        if self._child is None:
            return {"registries": [], "names": [], "endpoints": []}
        try:
            out, _ = self._child.communicate(timeout=PATIENCE)
            found: dict[str, Any] = json.loads(out)
        except (subprocess.TimeoutExpired, ValueError) as error:
            raise Trouble("engines and names could not be looked at: the program that does so failed") from error
        return found


def _there(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:
        return True


def _fall_back(case: Case) -> None:
    """With mistakes in the files the rest is still looked at, with what was served last."""
    try:
        revision = Revisions(case.data_dir).current()
    except OSError:
        return
    if revision is not None:
        case.config, case.loaded_from = revision.resolved, f"revision {revision.rev}"
        case.files = tuple(Path(file) for file in revision.files)

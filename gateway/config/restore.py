"""Bringing old YAML files back without bringing old keys back: a key that was revoked since must stay revoked."""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.config import files
from gateway.config.surgery import keys_only, with_keys_of
from gateway.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Restored:
    """What a rollback did to each file.

    written: as it was. kept: holds only keys, left as it is. mixed: written, but with the keys of today.
    extra: exists today but was not part of that revision; left as it is, and still read if an include names it.
    """

    written: tuple[str, ...]
    kept: tuple[str, ...]
    mixed: tuple[str, ...]
    extra: tuple[str, ...]

    @property
    def said(self) -> str:
        """One line for the operator."""
        parts = [f"{len(self.written) + len(self.mixed)} file(s) restored"]
        if self.kept or self.mixed:
            parts.append(f"keys stay as they are today ({', '.join((*self.kept, *self.mixed))}): a rollback brings no revoked key back")
        if self.extra:
            parts.append(f"not part of that revision, left in place: {', '.join(self.extra)}")
        return "; ".join(parts)


def restore(old: Mapping[str, str], now: Mapping[str, str]) -> Restored:
    """Writes the old files. now: the files in force, to name those that are extra. Raises ConfigError, OSError."""
    plan, restored = _planned(old, now)
    for path, text in plan:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.locked(path):
            new = not path.exists()
            files.write(path, text.encode(), 0o640)
            if new:
                with contextlib.suppress(PermissionError):
                    os.chown(path, -1, path.parent.stat().st_gid)  # whom the folder is open to may read what root has written
    return restored


def differing(old: Mapping[str, str]) -> list[str]:
    """The files that bringing the old ones back would write; keys make no difference, since they stay. Raises ConfigError, OSError."""
    return [str(path) for path, _ in _planned(old, old)[0]]


def _planned(old: Mapping[str, str], now: Mapping[str, str]) -> tuple[list[tuple[Path, str]], Restored]:
    """What is to be written, and what is to be said of it."""
    plan: list[tuple[Path, str]] = []
    written: list[str] = []
    kept: list[str] = []
    mixed: list[str] = []
    for name, text in old.items():
        path = Path(name)
        today = _text(path)
        if keys_only(text, path):
            kept.append(name)
            if today is None:
                plan.append((path, "keys: []\n"))
            continue
        without = _without_old_keys(text, [today, now.get(name), ""], path)
        (written if without == text else mixed).append(name)
        if without != today:
            plan.append((path, without))
    extra = tuple(name for name in now if name not in old and Path(name).exists())
    return plan, Restored(tuple(written), tuple(kept), tuple(mixed), extra)


def _without_old_keys(text: str, newer: list[str | None], path: Path) -> str:
    """The text with the keys of the first of the newer texts that can be read: a rollback may be needed because the file is broken."""
    for other in newer:
        if other is not None:
            with contextlib.suppress(ConfigError):
                return with_keys_of(text, other, path)
    raise AssertionError("the empty text can be read")


def _text(path: Path) -> str | None:
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        return None

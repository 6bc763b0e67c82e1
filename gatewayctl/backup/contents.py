"""What belongs in a backup, where each file goes in it, and what is left out and why. Reads names; the files are copied by writing.py.

The order matters, because the gateway serves on: of two files the one that refers to the other comes first (`current` before the
revisions, how far limits have counted before what they counted, both before the journal), so that what is referred to is there.
"""

import fnmatch
import glob
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.config.expand import CREDENTIALS
from gateway.config.named import named
from gateway.config.revisions import Damaged, Revisions

CONFIG, DATA = "config", "data"
"""The two folders in a backup."""

FIRST: Final = ("revisions/current", "revisions/*", "limits/upto.json", "limits/*", "[!j]*")
"""The order of data_dir's files: by the first pattern that fits; the journal comes last."""

NEVER: Final = ("lock", "*.sock", "metrics/*", "journal/reserve", "*.making", "*.tmp", "*.new", "*.table", "*.partial", "*.partial.work*")
"""Made anew by the gateway: locks, sockets, counters since the start, half-made files."""

PACKED: Final = (".tar", ".tar.gz", ".tgz")
"""Backups and support bundles that somebody puts into data_dir; the gateway makes no such file. Each backup would have all before it, and
be twice as large as the last one."""

WHILE_SERVING: Final = ("journal/*.open", "journal/*.progress")
"""Not whole while a worker writes them; its next segment is at most `journal.every` away."""


@dataclass(frozen=True, slots=True)
class Item:
    """name: in the backup. path: on this host. data: in place of the file's bytes. bytes_of: a file that has them, in place of it."""

    name: str
    path: Path
    data: bytes | None = field(default=None, repr=False)
    bytes_of: Path | None = None


@dataclass(frozen=True, slots=True)
class Left:
    """What is not in the backup, and why."""

    path: str
    why: str


def of_configuration(path: Path, environ: Mapping[str, str], with_secrets: bool) -> tuple[list[Item], list[Left], list[Path]]:
    """The files of the configuration; what is left out; YAML files that hold a secret in plain text, which is then in the backup."""
    found = named(path, environ)
    items, left = [], []
    for file, kind in found.files.items():
        if str(file).startswith(CREDENTIALS):
            left.append(Left(str(file), "systemd makes it from what LoadCredential= of the unit names; keep that"))
        elif kind == "secret" and not with_secrets:  # it may lie where we may not look
            left.append(Left(str(file), "a secret: --with-secrets takes it along"))
        elif not file.exists():
            left.append(Left(str(file), "it is not there"))
        else:
            items.append(Item(f"{CONFIG}{file}", file))
    left += [Left(f"${{env:{name}}}", "a variable of the service's environment") for name in found.variables]
    return items, left, list(found.literal)


def of_data(data_dir: Path, ledger: Path, serving: bool, with_secrets: bool, known: set[str]) -> Iterator[Item | Left]:
    """The files of data_dir that are not in `known` (names in the backup) yet. What is in a revision is resolved: without secrets
    only its texts are taken. The ledger's own file is for ledger.py, because one that is being written cannot be copied."""
    never = NEVER + (WHILE_SERVING if serving else ())
    if (place := within(data_dir, ledger)) is not None:
        never += (f"{glob.escape(str(place))}*",)
    else:
        yield from of_archives(ledger, known)
    for link in sorted(set(_links(data_dir)) - {ledger}):
        yield Left(str(link), f"a link to {os.path.realpath(link)}, which is not followed: copy that as well")
    revisions = Revisions(data_dir)
    for name in sorted(_names(data_dir), key=_order):
        if f"{DATA}/{name}" in known or any(fnmatch.fnmatchcase(name, pattern) for pattern in never):
            continue
        if name.endswith(PACKED):
            yield Left(str((data_dir / name).with_name("*.tar*")), "backups and the like are not backed up again")
            continue
        item = Item(f"{DATA}/{name}", data_dir / name)
        if with_secrets or not name.startswith("revisions/"):
            yield item
        elif name.endswith(".rev"):
            try:
                yield Item(item.name, item.path, revisions.without_secrets(int(Path(name).stem)))
            except (Damaged, ValueError) as error:
                yield Left(str(item.path), str(error))


def within(data_dir: Path, ledger: Path) -> Path | None:
    """Where the ledger is in data_dir, whichever links either is named by; None: elsewhere."""
    real, file = Path(os.path.realpath(data_dir)), Path(os.path.realpath(ledger))
    return file.relative_to(real) if file.is_relative_to(real) else None


def of_archives(ledger: Path, known: set[str]) -> Iterator[Item]:
    """Months of a ledger that lies outside data_dir; they lie beside it."""
    for path in sorted(ledger.with_name("archive").glob("*.parquet")):
        if f"{CONFIG}{path}" not in known:
            yield Item(f"{CONFIG}{path}", path)


def _names(data_dir: Path) -> Iterator[str]:
    """Regular files below data_dir, relative to it."""
    for folder, _, names in os.walk(data_dir, onerror=_raise):
        for name in names:
            path = Path(folder) / name
            if path.is_file() and not path.is_symlink():
                yield str(path.relative_to(data_dir))


def _links(data_dir: Path) -> Iterator[Path]:
    """Symbolic links below data_dir: somebody has put their archives or their journal on another disk."""
    for folder, folders, names in os.walk(data_dir, onerror=_raise):
        yield from (path for name in (*folders, *names) if (path := Path(folder) / name).is_symlink())


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _order(name: str) -> tuple[int, str]:
    place = next((number for number, pattern in enumerate(FIRST) if fnmatch.fnmatchcase(name, pattern)), len(FIRST))
    return place, name

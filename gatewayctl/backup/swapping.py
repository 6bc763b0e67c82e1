"""Puts what is ready into its place: what was there steps aside as `*.before-restore`, and comes back when anything fails."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from gateway.config.files import sync_folder
from gatewayctl.trouble import FAILED, FORBIDDEN, Trouble

BEFORE: Final = "before-restore"
Pair = tuple[Path, Path]
"""What is ready, and its place."""


@contextlib.contextmanager
def unused(data_dir: Path) -> Iterator[None]:
    """Holds the lock of a data_dir, so that no gateway starts on it meanwhile. Raises Trouble when one runs."""
    if not data_dir.exists():
        yield
        return
    try:
        handle = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except PermissionError as error:
        raise Trouble(f"{data_dir}: you may not use it", "sudo, or as the gateway's user", FORBIDDEN) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        pid = os.pread(handle, 32, 0).decode(errors="replace").strip()
        said = f"a gateway (pid {pid}) runs on {data_dir}"
        raise Trouble(said, "systemctl stop gateway, or restore elsewhere: --into DIR", FAILED) from error
    finally:
        os.close(handle)


def swap(pairs: Iterable[Pair]) -> list[Path]:
    """Renames all or none. Returns where that which was there is now. Raises Trouble."""
    done: list[tuple[Path, Path | None]] = []
    try:
        for ready, place in pairs:
            aside = _aside(place) if _there(place) else None
            if aside is not None:
                os.rename(place, aside)
            done.append((place, aside))
            os.rename(ready, place)
    except OSError as error:
        for place, aside in reversed(done):
            _undo(place, aside)
        hint = "A mount point cannot be replaced: --into DIR on that disk, then move." if error.errno == errno.EBUSY else ""
        raise Trouble(f"{error.filename}: {error.strerror}; everything is as it was", hint, FAILED) from error
    for folder in {place.parent for place, _ in done}:
        sync_folder(folder)
    return [aside for _, aside in done if aside is not None]


def _undo(place: Path, aside: Path | None) -> None:
    """Whatever was put there goes back to where nobody looks, and what was there before returns."""
    with contextlib.suppress(OSError):
        if _there(place):
            os.rename(place, _free(place, "not-restored"))
        if aside is not None:
            os.rename(aside, place)


def _aside(place: Path) -> Path:
    return _free(place, BEFORE)


def _free(place: Path, word: str) -> Path:
    """`PLACE.WORD`, or with a number when that is taken."""
    number, found = 1, place.with_name(f"{place.name}.{word}")
    while _there(found):
        number += 1
        found = place.with_name(f"{place.name}.{word}-{number}")
    return found


def _there(path: Path) -> bool:
    return os.path.lexists(path)

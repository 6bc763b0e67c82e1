"""Writing files so that a reader sees the old or the new one, whole, and a power cut leaves one of them."""

import contextlib
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path


def write(path: Path, data: bytes, mode: int | None = None) -> None:
    """Replaces `path`: temporary file, fsync, rename, fsync of the folder. Keeps mode and owner of what was there; follows a symlink.

    mode: for a file that does not exist yet (default 0600). Raises OSError; then the old file is as it was.
    """
    target = Path(os.path.realpath(path))
    try:
        before: os.stat_result | None = os.stat(target)
    except FileNotFoundError:
        before = None
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        error.filename = str(path)  # the name that people know
        raise
    try:
        with open(handle, "wb") as file:
            file.write(data)
            file.flush()
            if before is not None:
                with contextlib.suppress(PermissionError):
                    os.fchown(handle, before.st_uid, before.st_gid)
            os.fchmod(handle, stat.S_IMODE(before.st_mode) if before is not None else 0o600 if mode is None else mode)
            os.fsync(handle)
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            error.filename = str(path)  # a disk that is full names none
        raise
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Makes a rename in `folder` last through a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the advisory lock `<path>.lock`, so that two commands that edit one file wait for each other."""
    target = Path(os.path.realpath(path))
    lock = target.with_name(target.name + ".lock")
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        if not os.path.lexists(lock):
            error.filename = str(path)  # the name that people know
        raise
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)

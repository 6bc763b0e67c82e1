"""One gateway per data directory: the lock that says which."""

import contextlib
import fcntl
import os
from pathlib import Path


class Claimed(Exception):
    """Another gateway owns this data directory."""


def claim(data_dir: Path) -> int:
    """Locks the data directory for this process's lifetime. Raises Claimed, or OSError when it cannot be written."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
        fd = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        why = error.strerror
        if isinstance(error, FileExistsError):
            why = f"it is a link to {os.readlink(data_dir)}, which is not there" if data_dir.is_symlink() else "it is no folder"
        raise OSError(error.errno, f"data_dir {data_dir} cannot be used: {why}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(fd, 32).decode(errors="replace").strip() or "unknown"
        os.close(fd)
        raise Claimed(f"{data_dir} is in use by another gateway (pid {owner}); stop it first or give this one its own data_dir") from None
    said = f"{os.getpid()}\n".encode()
    with contextlib.suppress(OSError):  # it is for people; the lock is held on a full disk too
        os.pwrite(fd, said, 0)
        os.ftruncate(fd, len(said))
    return fd

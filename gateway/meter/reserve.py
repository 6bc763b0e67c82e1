"""The reserve file: room kept free beside the journal, given up by a worker whose disk is full, made again when there is room."""

import errno
import logging
import os
import shutil
from pathlib import Path

from gateway.meter.journal import RESERVE

log = logging.getLogger("gateway.journal")


def keep_reserve(directory: Path, size: int) -> bool:
    """Makes sure that the reserve stands, as far as the disk allows. size: bytes. False = it does not stand."""
    path = directory / RESERVE
    try:
        if path.exists() and path.stat().st_size == size:
            return True
        if not size:
            path.unlink(missing_ok=True)
            return True
        if shutil.disk_usage(directory).free < 2 * size:
            return False
        temporary = directory / f"{RESERVE}.making"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, size)
        finally:
            os.close(fd)
        os.rename(temporary, path)
        return True
    except OSError as error:
        if error.errno != errno.ENOSPC:
            log.error("journal: the reserve cannot be made: %s", error.strerror)
        (directory / f"{RESERVE}.making").unlink(missing_ok=True)
        return False

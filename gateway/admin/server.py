"""The admin socket: a Unix socket with mode 0660 where the kernel tells us who asks. Never on TCP, never on the data port."""

import contextlib
import errno
import logging
import os
import socket
import stat
from pathlib import Path
from typing import Final

from aiohttp import web

from gateway.admin.desk import Desk
from gateway.admin.routes import application

log = logging.getLogger("gateway.admin")

MODE: Final = 0o660
LONGEST_PATH: Final = 107
"""Bytes: sun_path has 108, the last one is NUL."""
PATIENCE: Final = 2.0
"""Seconds that calls in progress get when the server closes."""


class AdminServer:
    """A listening admin socket."""

    def __init__(self, runner: web.AppRunner, path: Path) -> None:
        self.path = path
        self._runner = runner
        self._inode = os.stat(path).st_ino

    async def close(self) -> None:
        """Stop listening, end the streams, remove the socket file unless a successor already put its own there."""
        await self._runner.cleanup()
        with contextlib.suppress(OSError):
            if os.stat(self.path).st_ino == self._inode:
                os.unlink(self.path)


async def serve_admin(desk: Desk, socket_path: Path) -> AdminServer:
    """Listen. Takes the place of a stale socket file; raises OSError when the path is too long or taken by another file."""
    listening = _listen(socket_path)
    runner = web.AppRunner(application(desk, socket_path), handle_signals=False, access_log=None, shutdown_timeout=PATIENCE)
    try:
        await runner.setup()
        await web.SockSite(runner, listening).start()
    except BaseException:
        await runner.cleanup()
        listening.close()
        raise
    return AdminServer(runner, socket_path)


def _listen(path: Path) -> socket.socket:
    length = len(os.fsencode(path))
    if length > LONGEST_PATH:
        why = f"a Unix socket's path has at most {LONGEST_PATH} bytes, this one has {length}: choose a shorter data_dir"
        raise OSError(errno.ENAMETOOLONG, why, str(path))
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.EEXIST, "this is not a socket, so the admin socket cannot take its place", str(path))
        os.unlink(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o777 & ~MODE)
    try:
        listening.bind(str(path))
        os.chmod(path, MODE)
    except OSError as error:
        listening.close()
        raise OSError(error.errno, f"the admin socket cannot be made: {error.strerror}", str(path)) from error
    finally:
        os.umask(mask)
    listening.setblocking(False)
    return listening

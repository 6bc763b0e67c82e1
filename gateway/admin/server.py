"""The admin socket: a Unix socket with mode 0660 where the kernel tells us who asks. Never on TCP, never on the data port.

Its file is also how it is noticed that somebody has removed `data_dir` under a running gateway: it is made anew, so that this can be told.
"""

import asyncio
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
from gateway.moment import stroke

log = logging.getLogger("gateway.admin")

MODE: Final = 0o660
LONGEST_PATH: Final = 107
"""Bytes: sun_path has 108, the last one is NUL."""
LOOK_EVERY: Final = 2.0
PATIENCE: Final = 2.0
"""Seconds that calls in progress get when the server closes."""


class AdminServer:
    """A listening admin socket. trouble: what an operator has to know of the folder that it is in; empty: nothing."""

    def __init__(self, runner: web.AppRunner, path: Path) -> None:
        self.path = path
        self.trouble = ""
        self._runner = runner
        self._inode = os.stat(path).st_ino
        self._missing = False
        self._staying = asyncio.get_running_loop().create_task(self._stay())

    async def _stay(self) -> None:
        while True:
            await stroke(LOOK_EVERY)
            try:
                await self._look()
            except Exception:
                log.exception("the admin socket could not be looked after")

    async def _look(self) -> None:
        """It is gone when it is missing twice: a successor takes its place in two steps."""
        was, self._missing = self._missing, not await asyncio.to_thread(os.path.lexists, self.path)
        if not (was and self._missing):
            return
        if not self.trouble:
            self.trouble = (
                f"{self.path.parent} was removed, emptied or unmounted under the running gateway: callers are served on, but what was in"
                " it is gone, and no new worker can join. To begin anew: systemctl restart gateway. To have it back: stop the gateway,"
                " mount the disk or gatewayctl restore, and start it"
            )
            log.error("%s", self.trouble)
        with contextlib.suppress(OSError):  # it is tried again
            self.path.parent.mkdir(mode=0o750, exist_ok=True)
            if stat.S_IMODE(self.path.parent.stat().st_mode) == 0o700:  # another part of us came first, and made it for itself
                self.path.parent.chmod(0o750)
            await web.SockSite(self._runner, _listen(self.path)).start()
            self._inode, self._missing = os.stat(self.path).st_ino, False

    async def close(self) -> None:
        """Stop listening, end the streams, remove the socket file unless a successor already put its own there."""
        self._staying.cancel()
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

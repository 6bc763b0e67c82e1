"""Has this process file descriptors left? Only looks, and says: without them libuv drops new connections of a plain address in silence."""

import asyncio
import errno
import logging
import os
import resource
from time import monotonic
from typing import Final

from gateway.moment import until_stroke

log = logging.getLogger("gateway.accept")

EVERY: Final = 1.0
"""Seconds between two looks."""
QUIET: Final = 60.0
"""Seconds from a complaint to the next look."""


class Descriptors:
    """Looks from now on, until `rest`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._next = loop.call_later(until_stroke(EVERY, monotonic()), self._look)

    def rest(self) -> None:
        self._next.cancel()

    def _look(self) -> None:
        self._next = self._loop.call_later(until_stroke(EVERY if self._left() else QUIET, monotonic()), self._look)

    @staticmethod
    def _left() -> bool:
        """Complains when there are none."""
        try:
            os.close(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                return True
            most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            log.error(
                "no file descriptors are left (%d may be open): new connections are dropped, engines cannot be reached; "
                "`gatewayctl doctor --only limits` says how to allow more",
                most,
            )
            return False
        return True

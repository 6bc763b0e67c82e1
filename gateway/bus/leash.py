"""The private line between the supervisor and each child: small JSON messages, with file descriptors when needed.

A SOCK_SEQPACKET pair made by the supervisor and inherited by the child. It carries beats and orders, never
configuration; its end-of-file tells either side that the other is dead.
"""

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any, Final

MESSAGE_MOST: Final = 65_536
FDS_MOST: Final = 253
"""The kernel's own limit for one message."""
BEAT_EVERY: Final = 1.0
"""Seconds between two beats of a child."""
HUNG_AFTER: Final = 5.0
"""Seconds without a beat after which a child is taken for hung."""
BUSY_AFTER: Final = 30.0
"""The same for one that works all the while: huge bodies on a loaded machine hold up a loop, and its callers should not pay for it."""
IDLE_AFTER: Final = 3.0
"""Seconds without a hundredth of CPU time after which a silent child does not work any more."""

Heard = Callable[[dict[str, Any], list[int]], None]


class Leash:
    """One end. `heard` gets each message and the descriptors that came with it (its to close); `lost` is called once."""

    def __init__(self, sock: socket.socket, heard: Heard, lost: Callable[[], None]) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._heard = heard
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._read)

    def say(self, message: dict[str, Any], fds: list[int] | None = None) -> bool:
        """False when the other side is gone or does not read (a hung child): the caller need not wait for it."""
        try:
            data = json.dumps(message).encode()
            socket.send_fds(self._sock, [data], fds or [])
        except OSError:
            return False
        return True

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()

    def _read(self) -> None:
        while self._sock.fileno() >= 0:
            try:
                data, fds, _, _ = socket.recv_fds(self._sock, MESSAGE_MOST, FDS_MOST)
            except BlockingIOError:
                return
            except OSError:
                data, fds = b"", []
            if not data:
                self.close()
                self._lost()
                return
            self._heard(json.loads(data), fds)

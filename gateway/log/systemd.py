"""Telling systemd how we are (sd_notify(3)): a datagram to $NOTIFY_SOCKET. Without it, every call is a no-op.

The protocol is one `sendto`; the packages that wrap it are not kept up, so these lines are ours.
"""

import logging
import os
import socket
import time
from typing import Final

log = logging.getLogger("gateway.systemd")

PATIENCE: Final = 1.0
"""Seconds that a busy systemd may hold us up."""


class Systemd:
    """The notification socket of this service, if systemd gave us one."""

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        usec = os.environ.get("WATCHDOG_USEC", "")
        mine = os.environ.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
        self.watchdog_every = int(usec) / 2_000_000 if usec.isdigit() and mine else 0.0
        """Seconds between two WATCHDOG=1; 0.0 = nobody watches."""

    def ready(self, status: str) -> None:
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """RELOADING and the time must be one message (systemd 253 refuses them apart)."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str) -> None:
        self._send(f"STOPPING=1\nSTATUS={status}")

    def status(self, status: str) -> None:
        self._send(f"STATUS={status}")

    def watchdog(self) -> None:
        self._send("WATCHDOG=1")

    def more_time(self, seconds: float) -> None:
        """While draining: the stop timeout is extended step by step."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.settimeout(PATIENCE)
                sock.sendto(message.encode(), self._address)
        except OSError as error:
            log.debug("systemd was not reached: %s", error)  # it may be executing itself anew; the next message will tell

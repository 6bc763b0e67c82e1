"""Who is at the other end of the Unix socket, and may it ask? The kernel says who; nothing that the caller sends is believed."""

import os
import pwd
import re
import socket
import struct
from dataclasses import dataclass
from typing import Final

_CREDENTIALS: Final = struct.Struct("3i")
_PEERGROUPS: Final = 59
"""SO_PEERGROUPS of <asm-generic/socket.h>, Linux 4.13: all groups of the peer; Python has no name for it."""
_MOST_GROUPS: Final = 256
"""Python's getsockopt takes 1024 bytes at most, and refuses to ask for more."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A connected process, as it was when it connected."""

    pid: int
    uid: int
    groups: frozenset[int]

    def __str__(self) -> str:
        try:
            name = pwd.getpwuid(self.uid).pw_name
        except KeyError:
            name = "unknown"
        return f"{name} (uid {self.uid}, pid {self.pid})"


_told = re.compile(r" \(uid (\d+), pid \d+\)\Z")


def uid_of(by: str) -> int | None:
    """The user in what `str(peer)` says; None: it was no caller (the gateway itself, a signal)."""
    found = _told.search(by)
    return int(found[1]) if found else None


def peer_of(connection: socket.socket) -> Peer:
    """Raises OSError when the kernel will not say."""
    pid, uid, gid = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return Peer(pid, uid, frozenset({gid, *_groups(connection)}))


def may_ask(peer: Peer, own_uid: int, socket_gid: int, socket_mode: int) -> bool:
    """Root, the gateway's own user, and, if the socket's mode says so, members of the socket file's group."""
    return peer.uid in (0, own_uid) or (bool(socket_mode & 0o020) and socket_gid in peer.groups)


def may_ask_at(peer: Peer, path: str | os.PathLike[str]) -> bool:
    """The same for the socket file as it is now, so that `chgrp` and `chmod` take effect at once."""
    try:
        found = os.stat(path)
    except OSError:
        return peer.uid in (0, os.geteuid())
    return may_ask(peer, os.geteuid(), found.st_gid, found.st_mode)


def _groups(connection: socket.socket) -> tuple[int, ...]:
    """Supplementary groups. An old kernel that cannot say, or a peer with more than fit, leaves the primary one."""
    size = struct.calcsize("I")
    try:
        found = connection.getsockopt(socket.SOL_SOCKET, _PEERGROUPS, size * _MOST_GROUPS)
    except OSError:
        return ()
    return struct.unpack(f"{len(found) // size}I", found)

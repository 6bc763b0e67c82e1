"""Finds the gateway that runs with a configuration whose file no longer says where: emptied, deleted, or with another data_dir by now.

The kernel's own list of Unix sockets is asked, so that there is nothing to write, to go stale or to clean up.
"""

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

LISTED: Final = Path("/proc/net/unix")
NAME: Final = b"/admin.sock"
ACCEPTS: Final = 0x10000
"""The flag of a socket that listens."""
PATIENCE: Final = 2.0
"""Seconds that one candidate may take to say which configuration it runs with."""
_credentials: Final = struct.Struct("3i")


def socket_of(config: Path) -> Path | None:
    """The admin socket of the gateway that runs with `config`; None when there is none that may be asked and believed."""
    from gatewayctl.client import Client
    from gatewayctl.trouble import Trouble

    wanted = os.path.realpath(config)
    for path in candidates(LISTED):
        with contextlib.suppress(Trouble, OSError):
            if not believed(path, config):
                continue
            theirs = (Client(path, config, told=True).get("/v1/status", PATIENCE).get("config") or {}).get("path")
            if theirs and os.path.realpath(theirs) == wanted:
                return path
    return None


def candidates(listed: Path) -> Iterator[Path]:
    """Paths of listening sockets with our name, each once. Empty where the kernel keeps no such list."""
    try:
        lines = listed.read_bytes().splitlines()[1:]
    except OSError:
        return
    found = set()
    for line in lines:  # Num RefCount Protocol Flags Type St Inode Path
        columns = line.split(maxsplit=7)
        if len(columns) == 8 and columns[7].startswith(b"/") and columns[7].endswith(NAME) and int(columns[3], 16) & ACCEPTS:
            found.add(columns[7])
    yield from (Path(os.fsdecode(path)) for path in sorted(found))


def believed(path: Path, config: Path) -> bool:
    """Anybody may make a socket of this name. Believed are root, ourselves, and the owner and group of the configuration's folder.

    Raises OSError when nobody may be asked there.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
        asked.settimeout(PATIENCE)
        asked.connect(os.fsencode(path))
        uid: int
        gid: int
        _, uid, gid = _credentials.unpack(asked.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _credentials.size))
    if uid in (0, os.geteuid()):
        return True
    folder = config.parent.stat()
    return uid == folder.st_uid or gid == folder.st_gid

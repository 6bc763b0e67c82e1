"""Small questions to the host: systemd's unit, a process's user, numbers of the kernel. What cannot be read is None or empty."""

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

UNIT: Final = "gateway.service"
PATIENCE: Final = 3.0
"""Seconds for one program of the host."""
_PROPERTIES: Final = (
    "LoadState,ActiveState,SubState,NRestarts,User,MainPID,FragmentPath,LimitNOFILE,LimitNOFILESoft,Result,AmbientCapabilities"
)


@dataclass(frozen=True, slots=True)
class User:
    """Whom the gateway runs as."""

    uid: int
    gids: frozenset[int]
    name: str

    @classmethod
    def of(cls, uid: int) -> "User":
        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            return cls(uid, frozenset(), str(uid))
        return cls(uid, frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid)), entry.pw_name)

    def may(self, path: Path, bits: int) -> bool:
        """By the mode's bits, `bits` of 4 = read, 2 = write, 1 = pass, the folders above included. Raises OSError."""
        above = all(self._may(folder, 1) for folder in reversed(path.resolve().parents))
        return above and self._may(path, bits)

    def _may(self, path: Path, bits: int) -> bool:
        if self.uid == 0:
            return True
        facts = path.stat()
        shift = 6 if facts.st_uid == self.uid else 3 if facts.st_gid in self.gids else 0
        return (facts.st_mode >> shift) & bits == bits


def said_by(*argv: str) -> str:
    """What a program prints; "" when it is not there, fails or takes too long."""
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return ""
    return done.stdout if done.returncode == 0 else ""


def unit() -> dict[str, str]:
    """What systemd says of our unit; empty where systemd does not run."""
    if not Path("/run/systemd/system").exists():
        return {}
    lines = said_by("systemctl", "show", UNIT, "--property", _PROPERTIES).splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def number(path: str) -> int | None:
    """The first number in a small file, such as those in /proc/sys."""
    try:
        return int(Path(path).read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def memory() -> dict[str, int]:
    """/proc/meminfo in bytes."""
    found = {}
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            name, _, rest = line.partition(":")
            found[name] = int(rest.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return found


def user_named(name: str) -> User | None:
    try:
        return User.of(pwd.getpwnam(name).pw_uid)
    except KeyError:
        return None


def owner_of(pid: int) -> User | None:
    """Whom a process runs as."""
    try:
        return User.of(os.stat(f"/proc/{pid}").st_uid)
    except OSError:
        return None

"""The open requests of one worker incarnation, in a memory-mapped table that survives its death.

An entry holds the `open` line and the latest usage the engine reported, as raw JSON; control closes what a dead
worker left open from here alone. Layout of an entry (1,024 bytes): state u8, pad u8, open length u16, open line (up to
760), usage (up to 260, its NUL included). The state byte is written last and cleared after the `done` line.
The file is locked for as long as its worker lives, and has its name only once it is locked: whoever can lock a table
knows that its worker is dead.
"""

import fcntl
import mmap
import os
import struct
from pathlib import Path

ENTRY = 1024
CAPACITY = 65_536
"""Entries; the file is sparse, so only pages that were used take memory."""
OPEN_MOST, USAGE_MOST = 760, 260
_HEAD = struct.Struct("<BxH")
_OPEN_AT = _HEAD.size
_USAGE_AT = _OPEN_AT + OPEN_MOST


class Progress:
    """The writing side, one per worker incarnation. `take` gives an entry number, -1 when the table is full."""

    def __init__(self, path: Path) -> None:
        temporary = path.with_suffix(".table")
        self._fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._fd, ENTRY * CAPACITY)
        self._map = mmap.mmap(self._fd, ENTRY * CAPACITY)
        fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(temporary, path)
        self.path = path
        self._free: list[int] = []
        self._next = 0

    def take(self, open_line: bytes) -> int:
        """Notes an open request. The line must not be longer than OPEN_MOST."""
        if self._free:
            number = self._free.pop()
        elif self._next < CAPACITY:
            number = self._next
            self._next += 1
        else:
            return -1
        at = number * ENTRY
        self._map[at + _OPEN_AT : at + _OPEN_AT + len(open_line)] = open_line
        _HEAD.pack_into(self._map, at, 0, len(open_line))
        self._map[at + _USAGE_AT] = 0
        self._map[at] = 1
        return number

    def usage(self, number: int, usage: bytes) -> None:
        """The running counts of an open request, as the engine's own JSON object."""
        end = len(usage) + 1
        if number < 0 or end > USAGE_MOST:
            return
        start = number * ENTRY + _USAGE_AT
        self._map[start : start + end] = usage + b"\0"

    def free(self, number: int) -> None:
        if number >= 0:
            self._map[number * ENTRY] = 0
            self._free.append(number)

    def close(self) -> None:
        """The incarnation ends in order: nothing is open any more."""
        self._map.close()
        self.path.unlink(missing_ok=True)
        os.close(self._fd)


def left_open(path: Path) -> list[tuple[bytes, bytes]]:
    """What a dead incarnation left open: (open line, usage JSON or b""). A damaged entry is given with what can be read."""
    found: list[tuple[bytes, bytes]] = []
    try:
        with path.open("rb") as file:
            while head := file.read(ENTRY):
                if len(head) < ENTRY or head[:_OPEN_AT] == bytes(_OPEN_AT):
                    break  # entries are handed out in order: the first that was never used ends the table
                state, opened = _HEAD.unpack_from(head)
                if state == 1:
                    line = head[_OPEN_AT : _OPEN_AT + min(opened, OPEN_MOST)]
                    found.append((line, head[_USAGE_AT:].partition(b"\0")[0]))
    except FileNotFoundError:
        return []
    return found

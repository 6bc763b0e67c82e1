"""The open requests of one worker incarnation, in a memory-mapped table that survives its death.

An entry holds the `open` line and the latest usage the engine reported, as raw JSON; control closes what a dead
worker left open from here alone. Layout of an entry (1,024 bytes): state u8 (1 = open), the open line with its
newline, the usage, NUL. The state is written last, and cleared after the `done` line stands in the journal.
The file is locked for as long as its worker lives, and has its name only once it is locked: whoever can lock a table
knows that its worker is dead. While the disk refuses the file, the table is in the worker's memory alone: it serves on, and a
kill loses what was open.
"""

import fcntl
import mmap
import os
from pathlib import Path
from typing import Final

ENTRY: Final = 1024
CAPACITY = 65_536
"""Entries; the file is sparse, so only pages that were used take memory."""
GROWTH: Final = 64
"""Entries that get their disk space together."""
OPEN_MOST: Final = 760
_WHERE: Final = ENTRY - 1  # mask: an entry's start from any place within it


class Progress:
    """The writing side, one per worker incarnation. A request is known by the place of its usage in the table."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.trouble = ""
        """Why it is in memory alone; "" = it is in its file."""
        self._fd = -1
        self._free: list[int] = []
        self._next = self._room = 0
        self._map = mmap.mmap(-1, ENTRY * CAPACITY)
        self.keep()

    def keep(self) -> bool:
        """Puts it into its file, with what is open; False when the disk refuses. What is there already stays."""
        if self._fd >= 0:
            return True
        try:
            self._fd = self._made()
        except OSError as error:
            self.trouble = error.strerror or str(error)
            return False
        before, self._map = self._map, mmap.mmap(self._fd, ENTRY * CAPACITY)
        self._map[: self._next] = before[: self._next]
        before.close()
        self.trouble = ""
        return True

    def _made(self) -> int:
        """Its file, locked and with room for what was handed out so far."""
        temporary = self.path.with_suffix(".table")
        temporary.unlink(missing_ok=True)  # of an attempt that the disk refused
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, ENTRY * CAPACITY)
            if self._room:
                os.posix_fallocate(fd, 0, self._room)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rename(temporary, self.path)
        except OSError:
            os.close(fd)
            raise
        return fd

    def take(self, open_line: bytes) -> int:
        """Notes an open request and gives its place; -1 when the table or its disk is full. The line is at most OPEN_MOST bytes."""
        if self._free:
            at = self._free.pop()
        elif self._next < ENTRY * CAPACITY and (self._next < self._room or self._grown()):
            at = self._next
            self._next += ENTRY
        else:
            return -1
        place = at + 1 + len(open_line)
        self._map[at + 1 : place + 1] = open_line + b"\0"
        self._map[at] = 1
        return place

    def _grown(self) -> bool:
        """Disk space for further entries. Without it, writing into the map would kill us (SIGBUS)."""
        try:
            if self._fd >= 0:
                os.posix_fallocate(self._fd, self._room, ENTRY * GROWTH)
        except OSError:
            return False
        self._room += ENTRY * GROWTH
        return True

    def usage(self, place: int, usage: bytes) -> None:
        """The running counts of an open request, as the engine's own JSON object. What does not fit is not noted."""
        end = place + len(usage) + 1
        if place >= 0 and end <= (place | _WHERE) + 1:
            self._map[place:end] = usage + b"\0"

    def free(self, place: int) -> None:
        if place >= 0:
            at = place & ~_WHERE
            self._map[at] = 0
            self._free.append(at)

    def close(self) -> None:
        """The incarnation ends in order: nothing is open any more."""
        self._map.close()
        if self._fd >= 0:
            self.path.unlink(missing_ok=True)
            os.close(self._fd)


def left_open(path: Path) -> list[tuple[bytes, bytes]]:
    """What a dead incarnation left open: (open line, usage JSON or b""). A damaged entry is given with what can be read."""
    found: list[tuple[bytes, bytes]] = []
    try:
        with path.open("rb") as file:
            while (entry := file.read(ENTRY)) and entry[1]:  # handed out in order: the first never used one ends the table
                if entry[0] == 1:
                    line, _, rest = entry[1:].partition(b"\n")
                    found.append((line + b"\n", rest.partition(b"\0")[0]))
    except FileNotFoundError:
        return []
    return found

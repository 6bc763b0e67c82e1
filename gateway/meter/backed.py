"""The files behind a worker's metrics, with room on the disk for every page before it is written: one that a full disk refuses is a SIGBUS,
and a dead worker. What there is no room for is counted in memory, and comes into the file as soon as there is."""

import contextlib
import mmap
import os
from typing import Any, ClassVar, Final

from prometheus_client.mmap_dict import MmapedDict

FIRST: Final = 1 << 16
"""Bytes of a new file."""
_FRAME: Final = 28
"""Bytes that an entry takes beside its key, at most."""


class Backed(MmapedDict):
    """prometheus-client's dict of doubles in a file (see `MmapedDict` for the format)."""

    spilled: ClassVar[set["Backed"]] = set()
    """Those that have no room now."""

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        self._path = filename
        file = _with_room(filename, FIRST)
        if file is not None:
            file.close()
            super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]
            return
        self._f: Any = None
        self._fname, self._capacity, self._used = filename, FIRST, 8
        self._m: Any = mmap.mmap(-1, FIRST)
        self._positions: dict[str, int] = {}
        self._m[:4] = self._used.to_bytes(4, "little")
        self.spilled.add(self)

    def _init_value(self, key: str) -> None:
        needed = self._used + len(key.encode()) + _FRAME
        if needed > self._capacity:
            self._grow(max(2 * self._capacity, needed))
        super()._init_value(key)  # type: ignore[no-untyped-call]

    def _grow(self, capacity: int) -> None:
        before, self._capacity = self._m, capacity
        if not self._into_file():
            self._m = mmap.mmap(-1, capacity)
            self._m[: len(before)] = before[:]
            self.spilled.add(self)

    def _into_file(self) -> bool:
        """Whether everything is in the file now."""
        file = _with_room(self._path, self._capacity)
        if file is None:
            return False
        made = mmap.mmap(file.fileno(), self._capacity)
        made[8 : self._used] = self._m[8 : self._used]
        made[:8] = self._m[:8]
        if self._f is not None:
            self._f.close()
        self._f, self._m = file, made
        self.spilled.discard(self)
        return True

    @classmethod
    def catch_up(cls) -> bool:
        """Whether all that was counted is in files now."""
        return all([one._into_file() for one in list(cls.spilled)])


def _with_room(path: str, size: int) -> Any:
    """The file, open, at least so large and without a hole; None when the disk refuses. An empty one is not left there, as nobody
    can read it."""
    file = None
    try:
        file = open(path, "a+b")  # noqa: SIM115
        os.posix_fallocate(file.fileno(), 0, max(size, os.fstat(file.fileno()).st_size))
    except OSError:
        if file is not None:
            with contextlib.suppress(OSError):
                if not os.fstat(file.fileno()).st_size:
                    os.unlink(path)
            file.close()
        return None
    return file

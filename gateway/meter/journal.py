"""A worker's own journal: NDJSON segments, locked while written, sealed by size or age. The truth about usage.

Names: `<slot>-<incarnation>-<number>.open` while written, `.ndjson` once sealed, `<slot>-<incarnation>.progress` beside
them. A segment is created under a temporary name, locked, then renamed, so that an `.open` file with a free lock
belongs to a dead writer. A failing disk never stops traffic by itself: lines wait in memory while the
reserve file is given up, and `journal.on_failure` says whether new requests are still served.
"""

import asyncio
import errno
import fcntl
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from gateway.config.resolved import Journal as Settings
from gateway.failpoint import failpoint
from gateway.meter.progress import Progress
from gateway.moment import stroke

log = logging.getLogger("gateway.journal")

SYNC_EVERY = 0.25
"""Seconds between group syncs: what a power failure may cost. A killed process costs nothing: the page cache stays."""

WAITING_MOST = 100_000
"""Lines kept in memory while the disk refuses them; beyond it the oldest are lost, counted and logged."""

RESERVE: Final = "reserve"

Release = Callable[[], None]


class Journal:
    """Appends lines. `failing`: the disk refuses them; `lost` counts those given up. `refusing`: no new request is to be
    served, since `on_failure` is `refuse` and what is left of the disk belongs to those in flight."""

    def __init__(self, directory: Path, slot: int, incarnation: str, settings: Settings) -> None:
        self.directory = directory
        self.name = f"{slot}-{incarnation}"
        self.settings = settings
        self.failing = self.refusing = False
        self.lost = 0
        self._spent = False
        self._unsynced: list[int] = []
        self._number = 0
        self._fd = -1
        self._path = directory
        self._size = 0
        self._started = 0.0
        self._dirty = False
        self._waiting: deque[bytes] = deque()
        self._lines: list[bytes] = []
        self._releases: list[Release] = []
        self._settled: list[int] = []
        self._loop = asyncio.get_running_loop()
        try:
            self._open_segment()
        except OSError as error:
            self._trouble(error, ())
        self.progress = Progress(directory / f"{self.name}.progress")
        if self.progress.trouble:
            log.error("journal: no file for what is open (%s): it is in memory, and a kill would lose it", self.progress.trouble)

    def write(self, line: bytes, release: Release | None = None, place: int = -1) -> None:
        """One whole line; `release` is called once it is in the file (or waits in memory because the disk refuses it), and
        only then the entry of the progress table at `place` is freed.

        The lines of one turn of the loop go down in one system call: that call, not the formatting, is what a record
        costs. Until `release` the end of an answer is held back, so an answer that was seen whole is always recorded.
        """
        if not self._lines:
            self._loop.call_soon(self.flush)
        self._lines.append(line)
        if release is not None:
            self._releases.append(release)
        if place >= 0:
            self._settled.append(place)

    def flush(self) -> None:
        """Writes what this turn gathered, then lets go of the answers that waited for it. Never raises."""
        lines, self._lines = self._lines, []
        releases, self._releases = self._releases, []
        if lines:
            if self._waiting:
                self._wait(lines)
            else:
                try:
                    self._append(lines[0] if len(lines) == 1 else b"".join(lines))
                except OSError as error:
                    self._trouble(error, lines)
        if self._settled and not self._waiting:
            self._free()
        for release in releases:
            try:
                release()
            except Exception:  # one caller's trouble must not hold up the answers of the others
                log.exception("an answer could not be ended")

    def tick(self, now: float) -> None:
        """Called a few times a second: retries what waits, rotates by size and age. now: monotonic seconds."""
        if self._waiting or self._fd < 0:
            self._retry()
        if self.progress.trouble and self.progress.keep():
            log.warning("journal: what is open is in its file now")
        if self.refusing and not self.failing and not (self._spent and self._reserve_is_missing()):
            self.refusing = self._spent = False
            log.warning("journal: there is room again, requests are served")
        if self._fd >= 0 and self._size:
            if not self._started:
                self._started = now
            elif self._size >= self.settings.segment or now - self._started >= self.settings.every:
                self._rotate()

    async def sync_for_ever(self) -> None:
        """Makes written lines durable in groups, off the loop."""
        loop = asyncio.get_running_loop()
        while True:
            await stroke(SYNC_EVERY)
            sealed, self._unsynced = self._unsynced, []
            if self._dirty and self._fd >= 0:
                self._dirty = False
                if self.settings.sync == "group":
                    sealed.append(os.dup(self._fd))
            for fd in sealed:
                await loop.run_in_executor(None, _sync, fd)

    def close(self) -> None:
        """Orderly end: the last segment is sealed, the progress table removed."""
        self.flush()
        if self._waiting:
            self._retry()
        self._give_up(len(self._waiting))
        self._seal()
        self.progress.close()
        for fd in self._unsynced:
            _sync(fd)
        self._unsynced.clear()

    # -- inside -------------------------------------------------------------------------------------------------

    def _append(self, line: bytes) -> None:
        if self._fd < 0:
            self._open_segment()
        failpoint("journal.before-write")
        written = os.write(self._fd, line)
        failpoint("journal.written")
        if written < len(line):  # a nearly full disk took a part of it: take that back, so that no torn line stands
            try:
                os.ftruncate(self._fd, self._size)
            except OSError:
                self._leave()
            raise OSError(errno.ENOSPC, "no space left on device")
        self._size += written
        self._dirty = True

    def _open_segment(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._number += 1
        path = self.directory / f"{self.name}-{self._number:06d}.open"
        temporary = path.with_suffix(".new")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rename(temporary, path)
        except OSError:
            os.close(fd)
            raise
        self._fd, self._path, self._size, self._started = fd, path, 0, 0.0

    def _rotate(self) -> None:
        self._seal()
        try:
            self._open_segment()
        except OSError as error:
            self._trouble(error, ())

    def _seal(self) -> None:
        if self._fd < 0:
            return
        try:
            if self._size:
                failpoint("journal.before-seal")
                os.rename(self._path, self._path.with_suffix(".ndjson"))
                failpoint("journal.sealed")
            else:
                self._path.unlink()
        except OSError as error:
            log.error("journal: cannot seal %s: %s", self._path.name, error.strerror)
        if self._dirty and self.settings.sync == "group":
            self._unsynced.append(self._fd)
        else:
            os.close(self._fd)
        self._fd, self._dirty = -1, False

    def _leave(self) -> None:
        """A torn line that cannot be taken back: the segment stays as it is, whoever closes this incarnation cuts it off."""
        os.close(self._fd)
        self._fd, self._dirty = -1, False

    def _trouble(self, error: OSError, lines: Iterable[bytes]) -> None:
        if not self.failing:
            self.failing = True
            log.error("journal: cannot write (%s); lines wait in memory, the reserve is released", error.strerror)
        if self.settings.on_failure == "refuse" and not self.refusing:
            self.refusing = True
            log.error("journal: new requests are refused until records can be written again")
        self._spend_reserve()
        self._wait(lines)
        self._retry()

    def _spend_reserve(self) -> None:
        try:
            (self.directory / RESERVE).unlink()
            self._spent = True
        except FileNotFoundError:
            pass
        except OSError as error:
            log.error("journal: the reserve cannot be released: %s", error.strerror)

    def _reserve_is_missing(self) -> bool:
        """Released for what was in flight, and not made again by control yet, since there is no room for it."""
        return self.settings.reserve > 0 and not (self.directory / RESERVE).exists()

    def _wait(self, lines: Iterable[bytes]) -> None:
        self._waiting.extend(lines)
        over = len(self._waiting) - WAITING_MOST
        for _ in range(over):
            self._waiting.popleft()
        self._give_up(max(0, over))

    def _retry(self) -> None:
        waiting = self._waiting
        try:
            while waiting:
                self._append(waiting[0])
                waiting.popleft()
            if self._fd < 0:
                self._open_segment()
        except OSError:
            return
        self._free()
        if self.failing:
            self.failing = False
            log.warning("journal: writing again, %d line(s) lost so far", self.lost)

    def _free(self) -> None:
        """Entries of the table whose `done` lines stand in the file: until then a kill would leave no other trace of them."""
        for number in self._settled:
            self.progress.free(number)
        self._settled.clear()

    def _give_up(self, lines: int) -> None:
        if lines:
            self.lost += lines
            log.error("journal: %d line(s) lost, %d in all", lines, self.lost)


def _sync(fd: int) -> None:
    """Makes what was written there durable, and closes it."""
    try:
        os.fdatasync(fd)
    except OSError as error:
        log.error("journal: sync failed: %s", error.strerror)
    finally:
        os.close(fd)

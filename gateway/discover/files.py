"""Has a file of the configuration changed? A directory watch only wakes us; the files' marks decide, so that nothing is missed
where no watch works (NFS), and nothing is reported for files that do not matter. Never reads a file.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any, Final

from watchfiles import awatch

from gateway.moment import comes

log = logging.getLogger("gateway.files")

QUIET: Final = 0.2
"""Seconds without a further event before we look: editors and copies come in several steps."""
RESTLESS: Final = 2.0
"""Seconds after which we look although events go on."""
SLOW: Final = 10.0
"""Seconds that a file may take to be written. One that goes on changing for longer is read as it is then."""
RETRY: Final = 2.0
"""Seconds between two looks while a watched directory is missing."""
STEP_MS: Final = 250
"""How often the watching thread looks what has come and whether it is to stop, in milliseconds. Each look is a waking."""
MOST_LINKS: Final = 40
"""Symlinks followed for one path; more is a loop."""

CLOCK: Final = 10_000_000
"""Nanoseconds by which a file system's clock may be behind."""

Mark = tuple[int, ...] | tuple[str, ...] | None
"""Of a file: inode, size, modified and changed in ns. Of a directory: the names in it. None: there is nothing."""
Marks = dict[Path, Mark]
Folders = dict[Path, tuple[int, int]]
"""Directories that exist, and who they are (device, inode)."""


async def changes(watch: Callable[[], Iterable[Path]], *, poll: float = 30.0, since: float | None = None) -> AsyncIterator[str]:
    """Yields `watch` or `poll` (how it was noticed) whenever a watched file is another one, appeared or went.

    A directory among them stands for the visible names in it.
    watch: the files; asked anew after each change. poll: seconds between looks that need no event. since: when the files were
    read, wall clock; what changed after that is reported at once. Errors: none; trouble is logged.
    """
    known: Marks = {}
    given = None if since is None else int(since * 1e9)
    complaints: set[str] = set()
    while True:
        paths = _absolute(watch())
        now = await asyncio.to_thread(marks, paths)
        if given is not None and _moved_on(known, now, given):
            why, now = "poll", await _still(paths, now)  # while the caller was busy
        else:
            why, now = await _next(paths, now, poll, complaints)
        known, given = now, time.time_ns()
        yield why


def _absolute(paths: Iterable[Path]) -> list[Path]:
    return sorted({Path(os.path.abspath(path)) for path in paths})


def marks(paths: Iterable[Path]) -> Marks:
    """What is there now. A symlink's mark is its target's."""
    return {path: _mark(path) for path in paths}


def _mark(path: Path) -> Mark:
    try:
        if path.is_dir():
            return tuple(sorted(name for name in os.listdir(path) if name[:1] != "."))
        facts = path.stat()
    except OSError:
        return None
    return (facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)


def _moved_on(known: Marks, now: Marks, given: int) -> bool:
    """Did something change since the marks `known`? Of files not known then: since `given`, wall clock in ns."""
    for path, mark in now.items():
        if path in known:
            if mark != known[path]:
                return True
        elif mark and isinstance(mark[0], int) and max(int(stamp) for stamp in mark[2:]) >= given - CLOCK:
            return True
    return False


async def _next(paths: list[Path], known: Marks, poll: float, complaints: set[str]) -> tuple[str, Marks]:
    """Waits for the next change; how it was noticed, and the marks then."""
    watcher = _Watcher(complaints)
    try:
        while True:
            folders, missing = await asyncio.to_thread(_folders, paths)
            await watcher.over(folders)
            why = await watcher.wait(min(poll, RETRY) if missing else poll)
            now = await asyncio.to_thread(marks, paths)
            if now != known:
                return why, await _still(paths, now)
    finally:
        await watcher.stop()


async def _still(paths: list[Path], now: Marks) -> Marks:
    """The marks when nothing changes any more, which events alone do not tell: they may come late. Half a file may be right as well, with
    half of the keys, and the callers of the other half would be cut off."""
    for _ in range(int(SLOW / QUIET)):
        before = now
        await asyncio.sleep(QUIET)
        now = await asyncio.to_thread(marks, paths)
        if now == before:
            break
    return now


class _Watcher:
    """Listens to directories, in one thread that ends with it. Trouble is logged once and tried again at the next look."""

    def __init__(self, complaints: set[str]) -> None:
        self._complaints = complaints
        self._folders: Folders = {}
        self._woken = asyncio.Event()
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def over(self, folders: Folders) -> None:
        """Makes sure that exactly these are listened to."""
        if self._task is not None and not self._task.done() and folders == self._folders:
            return
        await self.stop()
        self._folders, self._stop = folders, asyncio.Event()
        if folders:
            self._task = asyncio.create_task(self._listen(list(folders), self._stop))

    async def wait(self, longest: float) -> str:
        """Until events came and calm returned, or `longest` seconds are over."""
        if not await comes(self._woken, longest):
            return "poll"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RESTLESS):
                while self._woken.is_set():
                    self._woken.clear()
                    await comes(self._woken, QUIET)
        self._woken.clear()
        return "watch"

    async def stop(self) -> None:
        self._stop.set()
        if self._task is not None:
            await asyncio.wait([self._task])
            self._task = None

    async def _listen(self, folders: list[Path], stop: asyncio.Event) -> None:
        try:
            options: dict[str, Any] = {"watch_filter": None, "recursive": False, "force_polling": False, "ignore_permission_denied": True}
            events = awatch(*folders, step=STEP_MS, stop_event=stop, **options)
            first = asyncio.ensure_future(anext(events, None))
            await asyncio.sleep(0)
            if not first.done():
                self._complaints.clear()
                self._woken.set()  # what changed before the watch was in place is looked for at once
            if await first is not None:
                self._woken.set()
                async for _ in events:
                    self._woken.set()
        except (OSError, RuntimeError) as error:  # directories gone meanwhile, or no inotify watches left
            text = f"{type(error).__name__}: {error}"
            if text not in self._complaints:
                self._complaints.add(text)
                log.warning("directories cannot be watched, files are looked at every now and then instead (%s)", text)


def _folders(paths: Iterable[Path]) -> tuple[Folders, bool]:
    """The directories in which a change can make a path another file; and whether one of them is missing."""
    found: Folders = {}
    missing = False
    for folder in {folder for path in paths for folder in _on_the_way(path)}:
        try:
            facts = folder.stat()
        except OSError:
            missing = True
        else:
            found[folder] = (facts.st_dev, facts.st_ino)
    return found, missing


def _on_the_way(path: Path) -> set[Path]:
    """The real directory of a path, and that of each symlink that leads to it (Kubernetes swaps `..data`). Of a directory it
    is both: names come and go in it, and it may make way for a file."""
    found: set[Path] = set()
    here, rest, links = Path("/"), list(reversed(path.parts[1:])), 0
    while rest and links <= MOST_LINKS:
        part = rest.pop()
        if part == "..":
            here = here.parent
            continue
        try:
            target = Path(os.readlink(here / part))
        except OSError:  # no link, or nothing at all
            here /= part
            continue
        links += 1
        found.add(here)
        here = Path("/") if target.is_absolute() else here
        rest += reversed(target.parts[1:] if target.is_absolute() else target.parts)
    found.add(here.parent)
    if here.is_dir():
        found.add(here)
    return found

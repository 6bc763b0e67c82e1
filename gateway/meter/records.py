"""Reading records back from the journal: the newest, one by id, or as they come. Only `done` lines are records."""

import asyncio
import contextlib
import gzip
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

FOLLOW_EVERY = 0.2
BLOCK = 256 * 1024
MOST_ALIKE = 10
"""Requests that are named when the beginning of an id fits several: its first eight characters are the same for 65 seconds."""
AHEAD = 1.0
"""Seconds by which what ended just now may seem to be still to come."""
Found = dict[str, Any]


class Records:
    """The journal directory as a list of records."""

    def __init__(self, directory: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._directory = directory
        self._clock = clock

    def newest(self, limit: int) -> list[Found]:
        """Up to `limit` records, the oldest of them first. What is still to come was before the clock was put back: it comes before all
        others."""
        if limit <= 0:
            return []
        now = self._clock() + AHEAD

        def by_age(moment: float) -> tuple[bool, float]:
            return moment <= now, moment

        found: list[Found] = []
        # Segments of several workers overlap by a rotation period: enough are read that the newest are surely among them.
        for written, path in sorted(self._written(), key=lambda one: by_age(one[0] / 1e9), reverse=True):
            found.sort(key=lambda record: by_age(_settled(record)))
            if len(found) >= limit and by_age(written / 1e9) < by_age(_settled(found[-limit])):
                break
            found.extend(_last_of(path, limit))
        return sorted(found, key=lambda record: by_age(_settled(record)))[-limit:]

    def find(self, id: str) -> list[Found]:
        """The newest that has this id, or whose caller named it so (`trace`). Else those whose id begins so (8 characters or more), the
        newest first, MOST_ALIKE at most."""
        wanted, alike = id.encode(), list[Found]()
        for path in reversed(self._segments()):
            for line in reversed(_whole(path).splitlines()):
                record = _record(line) if wanted in line else None
                if record is None:
                    continue
                if id in (record["id"], record.get("trace")):
                    return [record]
                if len(id) >= 8 and record["id"].startswith(id) and len(alike) < MOST_ALIKE:
                    alike.append(record)
        return alike

    def since(self, unix: float) -> Iterator[tuple[Found, float]]:
        """Records that ended later than `unix`, each with when it did. Those that a dead worker left open ended when that was found."""
        bundles = sorted((self._directory / "kept").glob("*.ndjson.gz"))
        for path in (*bundles, *self._segments()):
            try:
                written = path.stat().st_mtime
                data = _whole(path) if written >= unix else b""
            except FileNotFoundError:  # sealed meanwhile
                path = path.with_suffix(".ndjson")
                written, data = path.stat().st_mtime, _whole(path)
            for line in data.splitlines():
                if (record := _record(line)) is not None:
                    ended = written if record.get("end", "").startswith("K") else _settled(record)
                    if ended > unix:
                        yield record, ended

    async def follow(self) -> AsyncIterator[Found]:
        """Records that are settled from now on, until the reader stops."""
        places = {path.stem: path.stat().st_size for path in self._segments()}
        while True:
            await asyncio.sleep(FOLLOW_EVERY)
            for path in self._segments():
                start = places.get(path.stem, 0)
                try:
                    data = _from(path, start)
                except FileNotFoundError:  # sealed between our two looks: it is found under its other name next time
                    continue
                places[path.stem] = start + len(data)
                for line in data.splitlines():
                    if (record := _record(line)) is not None:
                        yield record

    def size(self) -> tuple[int, int]:
        """Segments and bytes of the journal."""
        sizes = []
        for path in self._segments():
            with contextlib.suppress(FileNotFoundError):
                sizes.append(path.stat().st_size)
        return len(sizes), sum(sizes)

    def _segments(self) -> list[Path]:
        """All segments, the least recently written first."""
        return [path for _, path in sorted(self._written())]

    def _written(self) -> list[tuple[int, Path]]:
        """All segments, with when each was written last, in nanoseconds."""
        found: list[tuple[int, Path]] = []
        with contextlib.suppress(FileNotFoundError), os.scandir(self._directory) as entries:  # the folder, too, may be taken away
            for entry in entries:
                if entry.name.endswith((".ndjson", ".open")):
                    with contextlib.suppress(FileNotFoundError):
                        found.append((entry.stat().st_mtime_ns, Path(entry.path)))
        return found


def _settled(record: Found) -> float:
    """Unix seconds at which it was settled."""
    return float(record.get("ts", 0)) + float(record.get("ms", {}).get("total", 0)) / 1000


def _from(path: Path, start: int) -> bytes:
    """Whole lines from `start` on."""
    with path.open("rb") as file:
        file.seek(start)
        data = file.read()
    return data[: data.rfind(b"\n") + 1]


def _whole(path: Path) -> bytes:
    """A segment, or a bundle of them. One that was sealed, or bundled, or is damaged meanwhile is read as far as it goes."""
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rb") as file:
                return file.read()
        return path.read_bytes()
    except FileNotFoundError:
        sealed = path.with_suffix(".ndjson")
        return sealed.read_bytes() if path.suffix == ".open" and sealed.exists() else b""
    except (OSError, EOFError):
        return b""


def _last_of(path: Path, limit: int) -> Iterator[Found]:
    """Up to `limit` records from the end of a segment, read backwards in blocks."""
    try:
        with path.open("rb") as file:
            at = file.seek(0, os.SEEK_END)
            rest = b""
            given = 0
            while at > 0 and given < limit:
                start = max(0, at - BLOCK)
                file.seek(start)
                lines = (file.read(at - start) + rest).split(b"\n")
                rest = lines.pop(0) if start > 0 else b""
                at = start
                for line in reversed(lines):
                    if given < limit and (record := _record(line)) is not None:
                        given += 1
                        yield record
    except FileNotFoundError:
        return


def _record(line: bytes) -> Found | None:
    if b'"kind":"done"' not in line:
        return None
    try:
        record: Found = json.loads(line)
    except ValueError:
        return None
    return record if record.get("kind") == "done" else None

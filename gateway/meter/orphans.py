"""Closing what dead workers left open. Runs in control, on files whose lock is free, and nowhere else.

A worker incarnation lives as long as its progress table is locked. Of a dead one, a torn last line is cut off, each
request of the table that has no `done` line gets one (`end: KD`, with the counts of the table), and the segment is
sealed. Done again after a crash in the middle, it changes nothing twice.
"""

import fcntl
import logging
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from gateway.failpoint import failpoint
from gateway.meter.progress import left_open
from gateway.record import Record, decode_record, encode_record
from gateway.wire.usage import tokens_of
from gateway.words import End

log = logging.getLogger("gateway.journal")


Told = Callable[[bytes], object]
"""Is told of each line that closes a request."""


def close_orphans(directory: Path, told: Told = id) -> int:
    """Closes every dead incarnation in `directory`; returns how many requests were closed. Raises OSError for files that may not be
    touched, once all others are closed."""
    closed = 0
    troubles: list[OSError] = []
    for table in sorted(directory.glob("*.progress")):
        closed += _if_dead(table, lambda path: _close_incarnation(path, told), troubles)
    for path in sorted(directory.glob("*.open")):  # a worker that ended in order but could not seal its last segment
        if not _table_of(path).exists():
            _if_dead(path, _seal, troubles)
    for path in [*directory.glob("*.new"), *directory.glob("*.table")]:
        _if_dead(path, _remove, troubles)
    if troubles:
        raise troubles[0]
    return closed


def _if_dead(path: Path, act: Callable[[Path], int], troubles: list[OSError]) -> int:
    """Runs `act` while holding the lock of a dead writer's file; a live writer's file is left alone. What goes wrong is added to
    `troubles`."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    except OSError as error:
        troubles.append(error)
        return 0
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return act(path) if path.exists() else 0
    except BlockingIOError:
        return 0
    except OSError as error:
        troubles.append(error)
        return 0
    finally:
        os.close(fd)


def _close_incarnation(table: Path, told: Told) -> int:
    directory, name = table.parent, table.stem
    sealed = sorted(directory.glob(f"{name}-*.ndjson"))
    unsealed = sorted(directory.glob(f"{name}-*.open"))
    for path in unsealed:
        _cut_torn_line(path)
    lines = _closing_lines(table, [*sealed[-3:], *unsealed])
    if lines:
        last = unsealed[-1] if unsealed else directory / f"{name}-closed.open"  # a name that no segment of it has had
        failpoint("journal.closing-orphan")
        _append(last, b"".join(lines))
        log.warning("journal: %d request(s) of a dead worker closed (%s)", len(lines), name)
        for line in lines:
            told(line)
    for path in directory.glob(f"{name}-*.open"):
        _seal(path)
    table.unlink(missing_ok=True)
    return len(lines)


def _table_of(segment: Path) -> Path:
    return segment.parent / f"{segment.stem.rsplit('-', 1)[0]}.progress"


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)
        file.flush()
        os.fdatasync(file.fileno())


def _seal(path: Path) -> int:
    _cut_torn_line(path)
    if path.stat().st_size:
        os.rename(path, path.with_suffix(".ndjson"))
    else:
        path.unlink()
    return 0


def _remove(path: Path) -> int:
    path.unlink(missing_ok=True)
    return 0


def _cut_torn_line(path: Path) -> None:
    """A line that was being written when its writer died has no newline."""
    with path.open("r+b") as file:
        data = file.read()
        keep = data.rfind(b"\n") + 1
        if keep < len(data):
            log.warning("journal: a torn line of %d byte(s) was cut off %s", len(data) - keep, path.name)
            file.truncate(keep)


def _closing_lines(table: Path, segments: list[Path]) -> list[bytes]:
    opened = left_open(table)
    done = _done_ids(segments) if opened else set()
    lines: list[bytes] = []
    for line, usage in opened:
        try:
            record = decode_record(line)
        except msgspec.MsgspecError:
            log.error("journal: an entry of %s cannot be read; its request stays open", table.name)
            continue
        if record.id not in done:
            lines.append(encode_record(_killed(record, usage)))
    return lines


def _killed(record: Record, usage: bytes) -> Record:
    record.kind, record.end, record.error, record.source = "done", End.KILLED + End.DATA, "worker_killed", "none"
    tokens = tokens_of(usage)
    if tokens is not None:
        record.source, record.tokens = "continuous", tokens
    return record


def _done_ids(segments: list[Path]) -> set[str]:
    found: set[str] = set()
    for path in segments:
        for line in path.read_bytes().splitlines():
            if b'"kind":"done"' in line:
                try:
                    found.add(decode_record(line).id)
                except msgspec.MsgspecError:
                    log.error("journal: a line of %s cannot be read", path.name)
    return found

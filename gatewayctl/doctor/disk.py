"""Is there room for the journal, on a disk that keeps what it is given, and how fast? Measures with a file that has no name."""

import os
import statistics
import time
from pathlib import Path
from typing import Final

from gatewayctl.doctor.case import Case
from gatewayctl.doctor.finding import Finding, Findings, note, ok, typed, wrong
from gatewayctl.words import size

LEAST: Final = 1 << 30
SCARCE, LOW = 0.05, 0.10
"""Shares of space or inodes that are left."""
SLOW: Final = 0.05
"""Seconds for one write through to the disk."""
TRIES: Final = 8
REMOTE: Final = {"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs", "fuse.glusterfs", "fuse.sshfs", "lustre", "gpfs"}
FLEETING: Final = {"tmpfs": "is gone after a reboot", "ramfs": "is gone after a reboot", "overlay": "is gone with its container"}


def look(case: Case) -> Findings:
    folder = case.data_dir
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    yield from _room(case, folder)
    yield _kind(folder)
    if folder == case.data_dir:
        yield _speed(folder)


def _room(case: Case, folder: Path) -> Findings:
    try:
        facts = os.statvfs(folder)
    except OSError as error:
        yield note(f"its disk cannot be looked at: {error.strerror}", str(folder), "sudo gatewayctl doctor --only disk")
        return
    free, whole = facts.f_bavail * facts.f_frsize, max(1, facts.f_blocks * facts.f_frsize)
    reserve = case.config.journal.reserve if case.config else 0
    said, remedy = (
        f"{size(free)} of {size(whole)} are free",
        f"df -h {typed(folder)}; move old journal/*.ndjson away, or give the disk more room",
    )
    if free < 2 * reserve:
        yield wrong(f"{said}, too little for journal.reserve ({size(reserve)})", str(folder), remedy)
    elif free / whole < SCARCE and free < 20 * LEAST:
        yield wrong(said, str(folder), remedy)
    elif (free / whole < LOW and free < 20 * LEAST) or free < LEAST:
        yield note(said, str(folder), remedy)
    else:
        yield ok(said, str(folder))
    if facts.f_files:
        left = facts.f_favail / facts.f_files
        said = f"{facts.f_favail} of {facts.f_files} inodes are free"
        yield wrong(said, str(folder), f"df -i {typed(folder)}") if left < SCARCE else ok(said, str(folder))
    if facts.f_flag & os.ST_RDONLY:
        yield wrong("its disk is mounted read-only", str(folder), "findmnt, then dmesg: a disk that fails is often mounted so")


def mounted(folder: Path) -> tuple[str, str]:
    """(file system, mount point) of a folder; ("", "") where the kernel does not say."""
    wanted, best = os.path.realpath(folder), ("", "")
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return best
    for line in lines:
        before, _, after = line.partition(" - ")
        point = before.split()[4].replace("\\040", " ")
        inside = wanted == point or wanted.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best[1]):
            best = (after.split()[0], point)
    return best


def _kind(folder: Path) -> Finding:
    kind, point = mounted(folder)
    if kind in REMOTE:
        remedy = "put data_dir on a local disk"
        return note(f"data_dir is on {kind} ({point}): locks and writes there are as good as the network", str(folder), remedy)
    if kind in FLEETING:
        return note(
            f"data_dir is on {kind} ({point}), which {FLEETING[kind]}", str(folder), "put data_dir on a disk, or mount a volume there"
        )
    return ok(f"its file system is {kind or 'unknown'}", point or str(folder))


def _speed(folder: Path) -> Finding:
    try:
        handle = os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except OSError as error:
        why = "you may not write there" if isinstance(error, PermissionError) else error.strerror
        return note(f"how fast it writes cannot be measured: {why}", str(folder), "sudo gatewayctl doctor --only disk")
    took = []
    try:
        for _ in range(TRIES):
            began = time.monotonic()
            os.write(handle, b"\0" * 4096)
            os.fdatasync(handle)
            took.append(time.monotonic() - began)
    except OSError as error:
        return wrong(f"it cannot be written: {error.strerror}", str(folder), "df -h; dmesg")
    finally:
        os.close(handle)
    said = f"a write goes through to the disk in {statistics.median(took) * 1000:.1f} ms"
    return (
        note(said, str(folder), "put data_dir on a faster disk; journal.sync: none does not wait")
        if statistics.median(took) > SLOW
        else ok(said, str(folder))
    )

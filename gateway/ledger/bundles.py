"""Loaded segments, many in one compressed file: what the ledger can be rebuilt from until its month is in an archive.

`journal/kept/<time>-<first segment>.ndjson.gz`; its first line names the segments that are in it. A bundle is written under another
name, synced, renamed, made known to the store, and only when that is settled do its segments go.
"""

import gzip
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from gateway.failpoint import failpoint
from gateway.ledger.database import sync
from gateway.ledger.store import Source

FOLDER: Final = "kept"
BUNDLE_MOST: Final = 64 * 1024 * 1024
"""Bytes of segments in one bundle."""
LEVEL: Final = 2
"""Of compression: about a tenth of the size, at the speed of a disk."""


def segments(journal: Path) -> list[Source]:
    """Sealed segments, the least recently written first."""
    found: list[tuple[int, Source]] = []
    with os.scandir(journal) as entries:
        for entry in entries:
            if entry.name.endswith(".ndjson"):
                try:
                    found.append((entry.stat().st_mtime_ns, Source(entry.name.removesuffix(".ndjson"), Path(entry.path))))
                except FileNotFoundError:
                    continue
    return [source for _, source in sorted(found, key=lambda one: (one[0], one[1].name))]


def bundles(journal: Path) -> list[Source]:
    """All of them, the oldest first."""
    return [Source(path.name.removesuffix(".ndjson.gz"), path, True) for path in sorted((journal / FOLDER).glob("*.ndjson.gz"))]


def members(bundle: Path) -> list[str]:
    """Names of the segments in it. A bundle that cannot be read has none."""
    try:
        with gzip.open(bundle, "rb") as lines:
            names = json.loads(lines.readline())["segments"]
    except (OSError, EOFError, ValueError, KeyError):
        return []
    return [str(name) for name in names]


def make(journal: Path, sources: Sequence[Source]) -> Source:
    """One bundle of these segments, through to the disk."""
    folder = journal / FOLDER
    folder.mkdir(exist_ok=True, mode=0o700)
    newest = max(source.path.stat().st_mtime_ns for source in sources)
    name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(newest / 1e9))}-{sources[0].name}"
    path, new = folder / f"{name}.ndjson.gz", folder / f"{name}.new"
    try:
        with new.open("wb") as raw, gzip.GzipFile("", "wb", LEVEL, raw, mtime=0) as out:
            out.write(json.dumps({"kind": "bundle", "segments": [one.name for one in sources]}, separators=(",", ":")).encode() + b"\n")
            for source in sources:
                data = source.path.read_bytes()
                out.write(data if data.endswith(b"\n") or not data else data + b"\n")
        os.utime(new, ns=(newest, newest))
        sync(new)
        failpoint("bundle.written")
        new.rename(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    sync(folder)
    failpoint("bundle.renamed")
    return Source(name, path, True)


def remove(sources: Sequence[Source]) -> None:
    failpoint("bundle.before-delete")
    for source in sources:
        source.path.unlink(missing_ok=True)
        failpoint("bundle.deleted")


def portions(sources: Sequence[Source], most: int, *, squeezed: int = 8) -> Iterator[list[Source]]:
    """In groups of at most so many bytes, a single file may be larger. squeezed: how much larger a bundle is than its file."""
    group: list[Source] = []
    size = 0
    for source in sources:
        try:
            bytes_ = source.path.stat().st_size * (squeezed if source.bundle else 1)
        except FileNotFoundError:
            continue
        if group and size + bytes_ > most:
            yield group
            group, size = [], 0
        group.append(source)
        size += bytes_
    if group:
        yield group

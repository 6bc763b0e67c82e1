"""Months that are over, as Parquet files beside the database. A file counts once the table of archives names it.

Written under another name, checked against the table, renamed; then, in one transaction, its rows go and its name comes. A file that
is there without its name (we died in between, or the database is a new one) is taken in the same way: rows that it holds go.
"""

import contextlib
import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

from gateway.failpoint import failpoint
from gateway.ledger.database import Database, sync, translated
from gateway.ledger.schema import SUMMED, names, usage_view
from gateway.ledger.store import DAMAGED, REFUSED, Archive, StoreFailure

ROW_GROUP: Final = 61_440
_SUMS: Final = ", ".join(f"coalesce(sum({name}), 0)::HUGEINT" for name in SUMMED)
_CHECK: Final = f"count(*), {_SUMS}, coalesce(bit_xor(hash(id, ts, status, amount)), 0)"
"""How we know that two sets of rows are the same: number, sums, and a hash over all ids."""
_SPAN: Final = "coalesce(epoch(min(ts)), 0), coalesce(epoch(max(ts)), 0)"


def month_bounds(month: str) -> tuple[datetime, datetime]:
    """Naive, in UTC."""
    year, number = map(int, month.split("-"))
    return datetime(year, number, 1), datetime(year + number // 12, number % 12 + 1, 1)


def months(db: Database, before: float) -> list[str]:
    over = datetime.fromtimestamp(before, UTC).strftime("%Y-%m")
    found = db.run("SELECT DISTINCT strftime(ts, '%Y-%m') FROM requests WHERE ts < ? ORDER BY 1", [month_bounds(over)[0]])
    return [month for (month,) in found]


def archive(db: Database, month: str) -> Archive:
    stretch = list(month_bounds(month))
    wanted = db.one(f"SELECT {_CHECK} FROM requests WHERE ts >= ? AND ts < ?", stretch)
    if not wanted[0]:
        raise StoreFailure(REFUSED, f"there is no request of {month} outside archives")
    path = _free_name(db.archives, month)
    new = path.with_name(f"{path.name}.new")
    # Not sorted: they came nearly in order, and sorting ten million wide rows takes minutes and more memory than there is.
    rows = f"SELECT {names()} FROM requests WHERE ts >= TIMESTAMP '{stretch[0]}' AND ts < TIMESTAMP '{stretch[1]}'"
    try:
        db.run(f"COPY ({rows}) TO '{new}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP})")
        failpoint("archive.written")
        with translated():
            sync(new)
        if db.one(f"SELECT {_CHECK} FROM read_parquet('{new}')") != wanted:
            raise StoreFailure(REFUSED, f"the archive of {month} is not what the ledger has; nothing was changed")
        with translated():
            new.rename(path)
            sync(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise
    failpoint("archive.renamed")
    return adopt(db, path)


def adopt(db: Database, path: Path) -> Archive:
    """Takes a whole archive in: what the table has of it goes. Raises StoreFailure when it cannot be read."""
    found = described(db, path)
    good = [str(db.archives / name) for (name,) in db.run("SELECT name FROM archives") if (db.archives / name).exists()]
    first, last = (datetime.fromtimestamp(stamp, UTC).replace(tzinfo=None) for stamp in (found.first, found.last))
    with db.transaction():
        db.run(
            f"DELETE FROM requests WHERE ts >= ? - INTERVAL 1 SECOND AND ts <= ? + INTERVAL 1 SECOND "
            f"AND id IN (SELECT id FROM read_parquet('{path}'))",
            [first, last],
        )
        failpoint("archive.rows-deleted")
        marks = ", ".join("?" * (5 + len(SUMMED) + 2))
        values = [found.name, found.month, found.rows, found.bytes, found.digest, *found.sums, first, last]
        db.run(f"INSERT INTO archives VALUES ({marks}, now() AT TIME ZONE 'UTC')", values)
        db.run(usage_view([*good, str(path)]))
    failpoint("archive.committed")
    return found


def described(db: Database, path: Path) -> Archive:
    """An archive as its file says."""
    with translated():
        digest, size = digest_of(path), path.stat().st_size
    try:
        rows, *sums, first, last = db.one(f"SELECT count(*), {_SUMS}, {_SPAN} FROM read_parquet('{path}')")
    except StoreFailure as failure:
        raise StoreFailure(DAMAGED, f"the archive {path.name} cannot be read: {failure}") from failure
    return Archive(path.name, path.name[:7], rows, size, digest, tuple(map(int, sums)), float(first), float(last))


def listed(db: Database) -> list[Archive]:
    """Archives that are known."""
    columns = f"name, month, rows, bytes, digest, {', '.join(SUMMED)}, epoch(first_ts), epoch(last_ts)"
    found = db.run(f"SELECT {columns} FROM archives ORDER BY month, name")
    return [
        Archive(name, month, rows, size, digest, tuple(map(int, sums)), float(first), float(last))
        for name, month, rows, size, digest, *sums, first, last in found
    ]


def unknown(db: Database) -> list[Path]:
    """Whole files that no table names."""
    known = {one.name for one in listed(db)}
    with translated():
        return sorted(path for path in db.archives.glob("*.parquet") if path.name not in known)


def expire(db: Database, name: str) -> None:
    with db.transaction():
        db.run("DELETE FROM archives WHERE name = ?", [name])
        good = [str(db.archives / one.name) for one in listed(db) if (db.archives / one.name).exists()]
        db.run(usage_view(good))
    with translated():
        (db.archives / name).unlink(missing_ok=True)


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(cast(Any, file), "sha256").hexdigest()


def _free_name(directory: Path, month: str) -> Path:
    """A later part of a month that has an archive already gets a number."""
    number = 1
    while (path := directory / f"{month}{f'-{number}' if number > 1 else ''}.parquet").exists():
        number += 1
    return path

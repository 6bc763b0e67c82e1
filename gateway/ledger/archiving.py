"""Months that are over, as Parquet files beside the database. A file counts once the table of archives names it.

Written under another name, checked against the table, renamed; then, in one transaction, its rows go and its name comes. A file that
is there without its name (we died in between, or the database is a new one) is taken in the same way: rows that it holds go.

A file never changes. Priced anew it is another one beside it, `2026-10.r2.parquet`, and of such revisions one counts. Files with other
names are not ours: they are neither read nor deleted.
"""

import contextlib
import hashlib
import logging
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

from gateway.failpoint import failpoint
from gateway.ledger import forgetting
from gateway.ledger.database import Database, sync, translated
from gateway.ledger.schema import SUMMED, names, usage_view
from gateway.ledger.store import DAMAGED, REFUSED, Archive, StoreFailure

log = logging.getLogger("gateway.ledger")

ROW_GROUP: Final = 61_440
_SUMS: Final = ", ".join(f"coalesce(sum({name}), 0)::HUGEINT" for name in SUMMED)
_CHECK: Final = f"count(*), {_SUMS}, coalesce(bit_xor(hash(id, ts, status, amount)), 0)"
"""How we know that two sets of rows are the same: number, sums, and a hash over all ids."""
_SPAN: Final = "coalesce(epoch(min(ts)), 0), coalesce(epoch(max(ts)), 0)"
_OURS: Final = re.compile(r"([0-9]{4}-(?:0[1-9]|1[0-2])(?:-[0-9]{1,9})?)(?:\.r([0-9]{1,9}))?\.parquet")
"""Names of archives: the part, and which revision of it."""


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
    path = _free_name(db, month)
    new = path.with_name(f"{path.name}.new")
    # Not sorted: they came nearly in order, and sorting ten million wide rows takes minutes and more memory than there is.
    rows = f"SELECT {names()} FROM requests WHERE ts >= TIMESTAMP '{stretch[0]}' AND ts < TIMESTAMP '{stretch[1]}'"
    try:
        checks = write(db, rows, new)
        failpoint("archive.written")
        if checks != wanted:
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


def write(db: Database, rows: str, path: Path) -> tuple[Any, ...]:
    """Rows as a file, through to the disk; returns what is in it, by `_CHECK`. Raises StoreFailure when that is not what it was to be."""
    wanted = db.one(f"SELECT {_CHECK} FROM ({rows})")
    db.run(f"COPY ({rows}) TO '{path}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP})")
    with translated():
        sync(path)
    found = db.one(f"SELECT {_CHECK} FROM read_parquet('{path}')")
    if found != wanted:
        raise StoreFailure(REFUSED, f"{path.name} is not what the ledger has; nothing was changed")
    return found


def adopt(db: Database, path: Path) -> Archive:
    """Takes a whole archive in: what the table has of it goes, and so does another revision's name. Raises StoreFailure when it cannot be
    read, or would count requests that are not its month's or that another archive has."""
    found = acceptable(db, path)
    others = [one.name for one in listed(db) if part_of(one.name) == part_of(path.name)]
    first, last = (datetime.fromtimestamp(stamp, UTC).replace(tzinfo=None) for stamp in (found.first, found.last))
    with db.transaction():
        db.run(
            f"DELETE FROM requests WHERE ts >= ? - INTERVAL 1 SECOND AND ts <= ? + INTERVAL 1 SECOND "
            f"AND id IN (SELECT id FROM read_parquet('{path}'))",
            [first, last],
        )
        failpoint("archive.rows-deleted")
        _name(db, found, others)
        _show(db)
    failpoint("archive.committed")
    return found


def acceptable(db: Database, path: Path) -> Archive:
    """An archive that may count. Raises StoreFailure: who copies or renames one must not have its requests twice."""
    found = described(db, path)
    begin, end = (bound.replace(tzinfo=UTC).timestamp() for bound in month_bounds(found.month))
    if not (begin <= found.first and found.last < end):
        raise StoreFailure(DAMAGED, f"the archive {path.name} has requests that are not of {found.month}")
    for other in listed(db):
        if other.month == found.month and part_of(other.name) != part_of(path.name) and _stands(db, other):
            both = f"read_parquet('{path}') SEMI JOIN read_parquet('{db.archives / other.name}') USING (id)"
            (twice,) = db.one(f"SELECT count(*) FROM {both}")
            if twice:
                raise StoreFailure(DAMAGED, f"the archive {path.name} has {twice} request(s) that {other.name} has")
    return found


def _name(db: Database, one: Archive, instead_of: Sequence[str]) -> None:
    db.run("DELETE FROM archives WHERE name IN (SELECT unnest(?))", [list(instead_of)])
    marks = ", ".join("?" * (5 + len(SUMMED) + 2))
    first, last = (datetime.fromtimestamp(stamp, UTC).replace(tzinfo=None) for stamp in (one.first, one.last))
    values = [one.name, one.month, one.rows, one.bytes, one.digest, *one.sums, first, last]
    db.run(f"INSERT INTO archives VALUES ({marks}, now() AT TIME ZONE 'UTC')", values)


def _show(db: Database) -> None:
    db.run(usage_view([str(db.archives / one.name) for one in listed(db) if (db.archives / one.name).exists()]))


def replace(db: Database, made: Sequence[tuple[Archive, Path]], also: Callable[[], object]) -> None:
    """Whole files in the place of those archives, in one transaction with what else is to be done in it."""
    found = [(old, described(db, path)) for old, path in made]
    with db.transaction():
        for old, new in found:
            _name(db, new, [old.name])
        _show(db)
        also()
    failpoint("reprice.committed")


def take_in(db: Database) -> set[str]:
    """Of each part of a month one file counts: the one that the table names, or else the latest that can be read, which is taken in. The
    others go. Returns the names of those that nobody can read, or that may not count."""
    known, damaged = {part_of(one.name): one for one in listed(db)}, set[str]()
    for part, paths in _files(db).items():
        one = known.get(part)
        if one is not None and _stands(db, one):
            continue
        for path in paths:
            if one is not None and path.name == one.name:
                continue
            try:
                adopt(db, path)
                log.info("ledger: the archive %s was taken in", path.name)
                break
            except StoreFailure as failure:
                if failure.kind != DAMAGED:
                    raise
                damaged.add(path.name)
                log.error("ledger: %s", failure)
    sweep(db)
    return damaged


def sweep(db: Database) -> None:
    """Other revisions of what the table names go, once no report reads any more."""
    if db.reading:
        return
    known = {part_of(one.name): one for one in listed(db)}
    for part, paths in _files(db).items():
        one = known.get(part)
        for path in paths:
            if one is not None and path.name != one.name and _stands(db, one):
                with translated():
                    path.unlink(missing_ok=True)


def _files(db: Database) -> dict[str, list[Path]]:
    """By part, the latest revision first."""
    found = defaultdict[str, list[Path]](list)
    with translated():
        ours = [path for path in db.archives.glob("*.parquet") if _OURS.fullmatch(path.name)]
    for path in sorted(ours, key=lambda path: -_revision(path.name)):
        found[part_of(path.name)].append(path)
    return dict(sorted(found.items()))


def _stands(db: Database, one: Archive) -> bool:
    try:
        return (db.archives / one.name).stat().st_size == one.bytes
    except FileNotFoundError:
        return False


def described(db: Database, path: Path) -> Archive:
    """An archive as its file says."""
    with translated():
        digest, size = digest_of(path), path.stat().st_size
    try:
        rows, *sums, first, last = db.one(f"SELECT count(*), {_SUMS}, {_SPAN} FROM (SELECT {names()} FROM read_parquet('{path}'))")
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


def expire(db: Database, name: str) -> None:
    with db.transaction():
        for (last,) in db.run("DELETE FROM archives WHERE name = ? RETURNING epoch(last_ts)", [name]):
            forgetting.note(db, float(last))
        _show(db)
    with translated():
        (db.archives / name).unlink(missing_ok=True)


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(cast(Any, file), "sha256").hexdigest()


def part_of(name: str) -> str:
    """`2026-10-2` of `2026-10-2.r3.parquet`."""
    return name.partition(".")[0]


def _revision(name: str) -> int:
    found = _OURS.fullmatch(name)
    return int(found[2] or 1) if found else 1


def next_name(directory: Path, name: str) -> Path:
    """Of the next revision of an archive."""
    number = _revision(name) + 1
    while (path := directory / f"{part_of(name)}.r{number}.parquet").exists():
        number += 1
    return path


def _free_name(db: Database, month: str) -> Path:
    """A later part of a month that has an archive already gets a number."""
    taken = {*_files(db), *(part_of(one.name) for one in listed(db))}
    number = 1
    while (part := f"{month}{f'-{number}' if number > 1 else ''}") in taken:
        number += 1
    return db.archives / f"{part}.parquet"

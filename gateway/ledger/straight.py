"""The short way into the table: files in which nothing is unusual go from their text into rows in one statement.

Unusual is a line that is no record of a settled request, a number that nobody can have counted, an id that is there already. Then all
of it is taken back, and `loading` goes the careful way.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import duckdb
import msgspec

from gateway.failpoint import failpoint
from gateway.ledger.billed import billed
from gateway.ledger.database import Database, translated
from gateway.ledger.schema import absurd, read_lines, rows_of
from gateway.ledger.store import Loaded, Source, StoreFailure
from gateway.price.book import PriceBook

MOST: Final = 16 * 1024 * 1024
"""Bytes of a file that is held in memory as a whole; larger ones go the careful way."""
_OURS: Final = 36_028_797_018_960_000
"""DuckDB's row ids of rows that are not committed yet begin here. Were it another number, everything would be unusual."""


class Unusual(Exception):
    """Nothing of it was loaded."""


class _File(NamedTuple):
    """path: what DuckDB reads, the source's own file or its lines with their prices."""

    source: Source
    path: Path
    lines: int
    bytes: int
    digest: str


class Row(NamedTuple):
    """A source in the table `segments`. first, last: what DuckDB takes for a TIMESTAMP."""

    source: str
    rows: int
    duplicates: int
    quarantined: int
    bytes: int
    digest: str
    first: Any
    last: Any
    bundle: bool


def load(db: Database, sources: Sequence[Source], latest: float, book: PriceBook | None) -> Loaded:
    """As `loading.load`, of sources that are not known. Raises Unusual."""
    with translated():
        if any(one.bundle or one.path.stat().st_size > MOST for one in sources):
            raise Unusual
    files: list[_File] = []
    try:
        for source in sources:
            files.append(_look(db, source, book))
        return _commit(db, files, latest)
    except StoreFailure as failure:
        if isinstance(failure.__cause__, duckdb.InvalidInputException | duckdb.DataError):
            raise Unusual from failure
        raise
    finally:
        for file in files:
            if file.path != file.source.path:
                file.path.unlink(missing_ok=True)


def _look(db: Database, source: Source, book: PriceBook | None) -> _File:
    with translated():
        data = source.path.read_bytes()
        if not data.endswith(b"\n"):
            raise Unusual
        path, count = source.path, 0
        if book is not None:
            try:
                said, count = billed(book, data)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise Unusual from error
            if said is not data:
                path = db.scratch / f"{source.name}.billed.ndjson"
                path.write_bytes(said)
    return _File(source, path, count or data.count(b"\n"), len(data), hashlib.sha256(data).hexdigest())


def _commit(db: Database, files: list[_File], latest: float) -> Loaded:
    priced = any(file.path != file.source.path for file in files)
    with db.transaction():
        lines = read_lines("filename = false", billed=priced)
        only = f"CASE WHEN kind = 'done' AND NOT ({absurd()}) THEN true ELSE error('unusual') END"
        (rows,) = db.one(f"INSERT INTO requests {rows_of(lines, priced)} WHERE {only}", [[str(file.path) for file in files], latest])
        if rows != sum(file.lines for file in files):
            raise Unusual
        first, last = _only_new(db, rows)
        note(db, [Row(one.source.name, one.lines, 0, 0, one.bytes, one.digest, first, last, False) for one in files])
    return Loaded(len(files), rows)


def _only_new(db: Database, rows: int) -> tuple[Any, Any]:
    """When the first and the last of the new rows began. Raises Unusual when an id is not new."""
    count, different, first, last = db.one(f"SELECT count(*), count(DISTINCT id), min(ts), max(ts) FROM requests WHERE rowid >= {_OURS}")
    if (count, different) != (rows, rows):
        raise Unusual
    near = "BETWEEN CAST(? AS TIMESTAMP) - INTERVAL 1 MILLISECOND AND CAST(? AS TIMESTAMP) + INTERVAL 1 MILLISECOND"
    (known,) = db.one(
        "SELECT (SELECT count(*) FROM archives WHERE last_ts >= CAST(? AS TIMESTAMP) - INTERVAL 1 MILLISECOND) + (SELECT count(*) FROM "
        f"requests WHERE rowid >= {_OURS} AND id IN (SELECT id FROM requests WHERE rowid < {_OURS} AND ts {near}))",
        [first, first, last],
    )
    if known:
        raise Unusual
    return first, last


def note(db: Database, sources: Sequence[Row]) -> None:
    """That these are loaded: in the transaction that brings their rows."""
    failpoint("ledger.rows-inserted")
    row = "(?, ?, ?, ?, ?, ?, ?, ?, ?, now() AT TIME ZONE 'UTC')"
    for begin in range(0, len(sources), 100):
        some = sources[begin : begin + 100]
        db.run(f"INSERT INTO segments VALUES {', '.join([row] * len(some))}", [cell for one in some for cell in one])

"""Journal files into the table, each exactly once: `straight` when it can; else by way of a table of their lines, and a file with a line
that is no record goes line by line.

The rows, the file's name and what was put aside are one transaction. A record whose id is there already is left out, so that a file
that comes again in another form (a bundle) brings nothing twice.
"""

import contextlib
import gzip
import hashlib
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import duckdb

from gateway.ledger import straight
from gateway.ledger.database import Database, translated
from gateway.ledger.objection import objection
from gateway.ledger.pricing import price_staged
from gateway.ledger.schema import AHEAD, absurd, flat, read_lines
from gateway.ledger.store import Loaded, Source, StoreFailure
from gateway.price.book import PriceBook

BLOCK: Final = 1024 * 1024
_TORN: Final = (EOFError, gzip.BadGzipFile, zlib.error)
TEXT_MOST: Final = 64 * 1024
"""Characters of a bad line that are put aside; the file itself stays."""

Bad = tuple[str, int, str, str]
"""Source, line, reason, text."""


@dataclass(slots=True)
class _File:
    """A source on its way in. path: what DuckDB reads, the source's own file or its good lines."""

    source: Source
    path: Path
    lines: int
    bytes: int
    digest: str
    whole: bool = True
    """False: it cannot be decompressed to its end."""
    quarantined: int = 0


class Unreadable(Exception):
    """DuckDB cannot parse a line of it."""


def by_clock(sources: Sequence[Source], now: float) -> Iterator[tuple[float, list[Source]]]:
    """Sources with the latest time, in Unix seconds, that a record of theirs may have. When a file was written says what the clock showed
    then: what was taken in while it was ahead is taken in again when the ledger is built anew."""
    written = {source.name: _written(source) for source in sources}
    ahead = [source for source in sources if written[source.name] > now + AHEAD]
    usual = [source for source in sources if source not in ahead]
    if usual:
        yield now + AHEAD, usual
    if ahead:
        yield max(written[source.name] for source in ahead) + AHEAD, ahead


def _written(source: Source) -> float:
    with contextlib.suppress(FileNotFoundError):
        return source.path.stat().st_mtime
    return 0.0


def load(db: Database, sources: Sequence[Source], latest: float, book: PriceBook | None = None) -> Loaded:
    """latest: Unix seconds; a record that claims to be later is none. book: says what the records come to."""
    known = {name for (name,) in db.run("SELECT name FROM segments")}
    new = [source for source in sources if source.name not in known]
    if not new:
        return Loaded()
    try:
        return straight.load(db, new, latest, book)
    except straight.Unusual:
        return _load(db, new, latest, book)


def _load(db: Database, sources: Sequence[Source], latest: float, book: PriceBook | None) -> Loaded:
    """With a look at each line."""
    files = [_look(source) for source in sources]
    bad: list[Bad] = []
    try:
        _stage(db, files, latest, bad)
        return _commit(db, files, bad, book)
    finally:
        for file in files:
            if file.path != file.source.path:
                for made in db.scratch.glob(f"{file.source.name}.*"):
                    made.unlink()


def _look(source: Source) -> _File:
    with translated():
        with source.path.open("rb") as file:
            digest = hashlib.file_digest(cast(Any, file), "sha256").hexdigest()
            size = file.tell()
        count, last, whole = 0, b"\n", True
        try:
            with _open(source.path) as lines:
                while block := lines.read(BLOCK):
                    count, last = count + block.count(b"\n"), block[-1:]
        except _TORN:
            whole = False
    return _File(source, source.path, count + (last != b"\n"), size, digest, whole)


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


# -- reading -----------------------------------------------------------------------------------------------------------


def _stage(db: Database, files: list[_File], latest: float, bad: list[Bad]) -> None:
    """Everything into the temporary table `staged`, with only good lines in it."""
    for file in files:
        if not file.whole:
            _sift(db, file, latest, bad)
    for _ in range(2):
        try:
            _read(db, files)
            doubtful = _doubtful(db, files, latest)
        except Unreadable:
            doubtful = [file for file in files if not _readable(db, file)]
        if not doubtful:
            return
        for file in doubtful:
            _sift(db, file, latest, bad)
    try:
        _read(db, files)
    except Unreadable:
        for file in files:
            _halve(db, file, bad)
        _read(db, files)
    _put_aside_the_rest(db, files, latest, bad)


def _read(db: Database, files: list[_File]) -> None:
    try:
        db.run(f"CREATE OR REPLACE TEMP TABLE staged AS SELECT * FROM {read_lines()}", [[str(file.path) for file in files]])
    except StoreFailure as failure:
        if isinstance(failure.__cause__, duckdb.InvalidInputException | duckdb.ConversionException):
            raise Unreadable(str(failure)) from failure
        raise


def _readable(db: Database, file: _File) -> bool:
    try:
        _read(db, [file])
    except Unreadable:
        return False
    return True


def _doubtful(db: Database, files: list[_File], latest: float) -> list[_File]:
    """Files with fewer rows than lines, or with a number that nobody can have counted."""
    found = db.run(
        "SELECT filename, count(*), count(*) FILTER (kind IS NULL OR kind NOT IN ('done', 'open', 'bundle')), "
        f"count(*) FILTER (kind = 'done' AND ({absurd()})) FROM staged GROUP BY filename",
        [latest],
    )
    counts = {path: (rows, strange + wild) for path, rows, strange, wild in found}
    return [file for file in files if counts.get(str(file.path), (0, 0)) != (file.lines, 0)]


def _put_aside_the_rest(db: Database, files: list[_File], latest: float, bad: list[Bad]) -> None:
    """Lines that only DuckDB objects to."""
    names = {str(file.path): file for file in files}
    wild = f"kind = 'done' AND ({absurd()})"
    for path, text in db.run(f"SELECT filename, CAST(to_json(staged) AS VARCHAR) FROM staged WHERE {wild}", [latest]):
        names[path].quarantined += 1
        bad.append((names[path].source.name, 0, "a value that makes no sense", text[:TEXT_MOST]))
    db.run(f"DELETE FROM staged WHERE {wild}", [latest])


def _sift(db: Database, file: _File, latest: float, bad: list[Bad]) -> None:
    """The good lines of a file into another, which is read in its place; the bad ones with their reasons into `bad`."""
    if file.path != file.source.path:
        return
    good = db.scratch / f"{file.source.name}.sifted.ndjson"
    count = 0
    with translated(), _lines(file, bad) as lines, good.open("wb") as out:
        for number, line in enumerate(lines, 1):
            reason = objection(line, latest)
            if reason is None:
                out.write(line if line.endswith(b"\n") else line + b"\n")
                count += 1
            elif reason:
                bad.append((file.source.name, number, reason, line.decode(errors="replace").rstrip("\n")[:TEXT_MOST]))
                file.quarantined += 1
    file.path, file.lines = good, count


@contextlib.contextmanager
def _lines(file: _File, bad: list[Bad]) -> Iterator[Iterator[bytes]]:
    """Lines of a source, as far as they can be read; that there are more is put aside as one."""

    def readable(lines: BinaryIO) -> Iterator[bytes]:
        try:
            yield from lines
        except _TORN as error:
            bad.append((file.source.name, 0, f"the file is damaged, what follows cannot be read: {error}", ""))
            file.quarantined += 1

    with _open(file.source.path) as lines:
        yield readable(lines)


def _halve(db: Database, file: _File, bad: list[Bad]) -> None:
    """Finds the lines that DuckDB cannot parse though we can, and puts them aside."""
    with translated():
        parts = [file.path.read_bytes().splitlines(keepends=True)]
    trial, good = replace(file, path=db.scratch / f"{file.source.name}.trial.ndjson"), []
    while parts:
        lines = parts.pop()
        trial.path.write_bytes(b"".join(lines))
        if _readable(db, trial):
            good += lines
        elif len(lines) == 1:
            bad.append((file.source.name, 0, "DuckDB cannot read it", lines[0].decode(errors="replace").rstrip("\n")[:TEXT_MOST]))
            file.quarantined += 1
        else:
            parts += [lines[: len(lines) // 2], lines[len(lines) // 2 :]]
    trial.path.unlink(missing_ok=True)
    file.path, file.lines = db.scratch / f"{file.source.name}.good.ndjson", len(good)
    file.path.write_bytes(b"".join(good))


# -- writing -----------------------------------------------------------------------------------------------------------


def _commit(db: Database, files: list[_File], bad: list[Bad], book: PriceBook | None) -> Loaded:
    with db.transaction():
        settled = _settled(db)
        db.run("DELETE FROM staged WHERE kind <> 'done'")
        _leave_out_known(db)
        kept = {path: (rows, first, last) for path, rows, first, last in db.run(_KEPT)}
        db.run(f"INSERT INTO requests BY NAME {flat('staged', price_staged(db, book))}")
        loaded, noted = Loaded(sources=len(files)), []
        for file in files:
            rows, first, last = kept.get(str(file.path), (0, None, None))
            twice = settled.get(str(file.path), 0) - rows
            row = straight.Row(file.source.name, rows, twice, file.quarantined, file.bytes, file.digest, first, last, file.source.bundle)
            noted.append(row)
            loaded.add(Loaded(0, rows, twice, file.quarantined))
        straight.note(db, noted)
        for line in bad:
            db.run("INSERT INTO quarantine VALUES (?, ?, ?, ?, now() AT TIME ZONE 'UTC')", line)
    db.run("DROP TABLE staged")
    db.run("DROP TABLE bills")
    return loaded


_KEPT: Final = (
    "SELECT filename, count(*), make_timestamp(CAST(min(ts) * 1000000 AS BIGINT)), make_timestamp(CAST(max(ts) * 1000000 AS BIGINT)) "
    "FROM staged GROUP BY filename"
)


def _settled(db: Database) -> dict[str, int]:
    return dict(db.run("SELECT filename, count(*) FROM staged WHERE kind = 'done' GROUP BY filename"))


def _leave_out_known(db: Database) -> None:
    """Of each id one record, and none that has a row. Rows of the same time are looked at: a record's time never changes."""
    total, different, first, last = db.one("SELECT count(*), count(DISTINCT id), min(ts), max(ts) FROM staged")
    if not total:
        return
    if total != different:
        db.run("DELETE FROM staged WHERE rowid NOT IN (SELECT min(rowid) FROM staged GROUP BY id)")
    between = [first - 0.001, last + 0.001]
    stretch = "ts BETWEEN make_timestamp(CAST(? * 1000000 AS BIGINT)) AND make_timestamp(CAST(? * 1000000 AS BIGINT))"
    (archived,) = db.one("SELECT count(*) FROM archives WHERE last_ts >= make_timestamp(CAST(? * 1000000 AS BIGINT))", between[:1])
    table = "usage" if archived else "requests"
    db.run(f"DELETE FROM staged WHERE id IN (SELECT id FROM {table} WHERE {stretch})", between)

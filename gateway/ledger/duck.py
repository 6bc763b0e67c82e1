"""The ledger in a DuckDB file (see `store.Store`)."""

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from gateway.failpoint import failpoint
from gateway.ledger import archiving, counters, loading, pricing
from gateway.ledger.database import Database, sync, translated
from gateway.ledger.schema import AHEAD, FORMAT, absurd, names, read_lines, tables, usage_view
from gateway.ledger.store import (
    DAMAGED,
    REFUSED,
    UNUSABLE,
    Archive,
    Ask,
    Facts,
    Format,
    Increase,
    Loaded,
    Raw,
    Repriced,
    Rows,
    Source,
    Store,
    StoreFailure,
)
from gateway.price.book import PriceBook

log = logging.getLogger("gateway.ledger")
T = TypeVar("T")

_FORMATS: Final = {"csv": "FORMAT csv, HEADER", "json": "FORMAT json", "parquet": "FORMAT parquet, COMPRESSION zstd"}
_STAMP: Final = "make_timestamp(CAST(? * 1000000 AS BIGINT))"


ASIDE_TOLD: Final = 5
LEAST: Final = 128 * 1024 * 1024
"""Bytes of memory without which a ledger cannot be filled."""


class DuckStore:
    """One ledger."""

    def __init__(self, path: Path, *, memory: int, journal: Path, clock: Callable[[], float] = time.time) -> None:
        """memory: bytes. journal: where sources are. clock: Unix seconds."""
        self._db = Database(path, memory, [journal])
        self._memory, self._journal, self._clock = memory, journal, clock
        self._shown: list[str] | None = None
        """Archives that the view has."""
        self._damaged: set[str] = set()
        self.book: PriceBook | None = None

    # -- opening -----------------------------------------------------------------------------------------------------

    def open(self) -> None:
        db = self._db
        db.open()
        try:
            self._prepare()
        except BaseException:
            db.close()
            raise

    def _prepare(self) -> None:
        db = self._db
        for statement in tables():
            db.run(statement)
        found = db.run("SELECT format FROM meta")
        if not found:
            db.run("INSERT INTO meta VALUES (?)", [FORMAT])
        elif found[0][0] != FORMAT:
            raise StoreFailure(UNUSABLE, f"{db.path} is a ledger of format {found[0][0]}, and this gateway knows {FORMAT}")
        self._shown = None
        self._damaged.clear()
        self._show()
        for path in archiving.unknown(db):
            try:
                archiving.adopt(db, path)
                log.info("ledger: the archive %s was taken in", path.name)
            except StoreFailure as failure:
                if failure.kind != DAMAGED:
                    raise
                self._damaged.add(path.name)
                log.error("ledger: %s", failure)
        self._show()

    def _show(self) -> None:
        """The view has every archive that can be read."""
        good = []
        for one in archiving.listed(self._db):
            path = self._db.archives / one.name
            if self._readable(path, one):
                good.append(str(path))
        if good != self._shown:
            self._db.run(usage_view(good))
            self._shown = good

    def _readable(self, path: Path, one: Archive) -> bool:
        if one.name in self._damaged:
            return False
        try:
            if path.stat().st_size != one.bytes:
                raise StoreFailure(DAMAGED, "its size is another")
            if self._shown is None and self._db.one(f"SELECT count(*) FROM read_parquet('{path}')")[0] != one.rows:
                raise StoreFailure(DAMAGED, "its rows are others")
        except FileNotFoundError:
            return False
        except (StoreFailure, OSError) as failure:
            log.error("ledger: the archive %s is damaged: %s", one.name, failure)
            self._damaged.add(one.name)
            return False
        return True

    def close(self) -> None:
        self._db.close()

    @property
    def scratch(self) -> Path:
        return self._db.scratch

    # -- what comes --------------------------------------------------------------------------------------------------

    def known(self) -> set[str]:
        if self._db.replaced():
            raise StoreFailure(UNUSABLE, f"{self._db.path} was removed or replaced")
        return {name for (name,) in self._db.run("SELECT name FROM segments")}

    def load(self, sources: Sequence[Source]) -> Loaded:
        return loading.load(self._db, sources, self._clock() + AHEAD, self.book)

    def settle(self) -> None:
        failpoint("ledger.before-settle")
        self._db.run("CHECKPOINT")
        failpoint("ledger.settled")

    def merged(self, names: Iterable[str], bundle: Source) -> None:
        members = list(names)
        with translated():
            size, digest = bundle.path.stat().st_size, archiving.digest_of(bundle.path)
        with self._db.transaction():
            sums = "coalesce(sum(rows), 0), coalesce(sum(duplicates), 0), coalesce(sum(quarantined), 0), ?, ?, min(first_ts), max(last_ts)"
            self._db.run(
                f"INSERT INTO segments SELECT ?, {sums}, true, now() AT TIME ZONE 'UTC' FROM segments WHERE name IN (SELECT unnest(?))",
                [bundle.name, size, digest, members],
            )
            self._db.run("DELETE FROM segments WHERE name IN (SELECT unnest(?))", [members])

    def forget(self, names: Iterable[str]) -> None:
        self._db.run("DELETE FROM segments WHERE name IN (SELECT unnest(?))", [list(names)])

    def spent(self, before: float) -> list[str]:
        if self.facts().absent:
            return []
        found = self._db.run(
            "SELECT name FROM segments WHERE bundle AND (coalesce(last_ts, loaded_at) < make_timestamp(CAST(? * 1000000 AS BIGINT)) OR "
            "quarantined = 0 AND coalesce(last_ts, loaded_at) < "
            "(SELECT coalesce(min(ts), (SELECT max(last_ts) FROM archives) + INTERVAL 1 SECOND, TIMESTAMP '2000-01-01') FROM requests))",
            [before],
        )
        return [name for (name,) in found]

    # -- what is asked -----------------------------------------------------------------------------------------------

    def query(self, sql: str, params: Sequence[Any] = (), *, seconds: float = 30.0, most: int = 10_000) -> Rows:
        return self._db.read(sql, params, seconds, most)

    def together(self, work: Callable[[Ask], T], *, seconds: float = 30.0) -> T:
        return self._db.together(work, seconds)

    def write(self, path: Path, sql: str, params: Sequence[Any], form: Format, *, seconds: float = 600.0) -> int:
        target = str(path).replace("'", "''")
        found = self._db.read(f"COPY ({sql}) TO '{target}' ({_FORMATS[form]})", params, seconds, 1)
        return int(found.rows[0][0])

    def reprice(self, since: float, until: float, globs: Sequence[str], *, dry: bool) -> Repriced:
        if self.book is None:
            raise StoreFailure(REFUSED, "no prices are known")
        return pricing.reprice(self._db, self.book, since, until, globs, dry=dry)

    def export(self, path: Path, since: float, until: float, form: Format, *, seconds: float = 3600.0) -> int:
        rows = f"SELECT {names()} FROM usage WHERE ts >= {_STAMP} AND ts < {_STAMP} ORDER BY ts, id"
        return self.write(path, rows, [since, until], form, seconds=seconds)

    def altered(self, sources: Sequence[Source]) -> list[str]:
        digests = dict(self._db.run("SELECT name, digest FROM segments"))
        found = []
        for source in sources:
            try:
                if digests.get(source.name) not in (None, archiving.digest_of(source.path)):
                    found.append(source.name)
            except FileNotFoundError:
                continue
        return found

    def counts(self) -> dict[str, int]:
        return dict(self._db.run("SELECT strftime(ts, '%Y-%m'), count(*) FROM usage GROUP BY 1 ORDER BY 1"))

    def note_counters(self, increases: Sequence[Increase], last: Sequence[Raw]) -> None:
        counters.note(self._db, increases, last)

    def last_counters(self) -> list[Raw]:
        return counters.last(self._db)

    def facts(self) -> Facts:
        db = self._db
        rows, unpriced, first, last = db.one(
            "SELECT count(*), count(*) - count(amount), coalesce(epoch(min(ts)), 0), coalesce(epoch(max(ts)), 0) FROM requests"
        )
        (sources,), (aside,) = db.one("SELECT count(*) FROM segments"), db.one("SELECT count(*) FROM quarantine")
        (unused,) = db.one("SELECT coalesce(sum(free_blocks * block_size), 0) FROM pragma_database_size()")
        (memory,) = db.one("SELECT coalesce(sum(memory_usage_bytes), 0) FROM duckdb_memory()")
        self._show()
        archives = archiving.listed(db)
        shown = {Path(path).name for path in self._shown or ()}
        absent = sorted({one.name for one in archives if one.name not in shown} | self._damaged)
        size = sum(path.stat().st_size for path in (db.path, _wal(db.path)) if path.exists())
        first = min([first or float("inf"), *(one.first for one in archives)])
        return Facts(
            rows, sources, aside, size, int(unused), int(memory), 0.0 if first == float("inf") else first,
            max([float(last), *(one.last for one in archives)]), archives, absent, unpriced,
        )  # fmt: skip

    def stop(self) -> None:
        self._db.interrupt()

    # -- what is kept ------------------------------------------------------------------------------------------------

    def months(self, before: float) -> list[str]:
        return archiving.months(self._db, before)

    def archive(self, month: str) -> Archive:
        done = archiving.archive(self._db, month)
        self._shown = None
        self._show()
        self.settle()
        return done

    def expire(self, name: str) -> None:
        archiving.expire(self._db, name)
        self._shown = None
        self._show()

    def drop(self, before: float) -> int:
        (count,) = self._db.one(f"SELECT count(*) FROM requests WHERE ts < {_STAMP}", [before])
        if count:
            self._db.run(f"DELETE FROM requests WHERE ts < {_STAMP}", [before])
        counters.drop(self._db, before)
        return int(count)

    def compact(self) -> tuple[int, int]:
        db = self._db
        self.settle()
        before = db.path.stat().st_size
        new = db.path.with_name(f"{db.path.name}.new")
        new.unlink(missing_ok=True)
        (ours,) = db.one("SELECT current_database()")
        db.run(f"ATTACH '{new}' AS compacted")
        try:
            db.run("USE compacted")
            for statement in tables():
                db.run(statement)
            db.run(f'USE "{ours}"')
            for (table,) in db.run("SELECT table_name FROM duckdb_tables() WHERE database_name = ?", [ours]):
                db.run(f'INSERT INTO compacted.main."{table}" SELECT * FROM "{ours}".main."{table}"')
            db.run("CHECKPOINT compacted")
        finally:
            db.run(f'USE "{ours}"')
            db.run("DETACH compacted")
        failpoint("compact.written")
        self._swap(new)
        return before, db.path.stat().st_size

    def rebuild(self, fill: Callable[[Store], object], *, force: bool = False) -> dict[str, int]:
        path = self._db.path.with_name(f"{self._db.path.name}.building")
        for old in (path, _wal(path)):
            old.unlink(missing_ok=True)
        fresh = DuckStore(path, memory=max(LEAST, self._memory // 2), journal=self._journal, clock=self._clock)
        fresh.book = self.book
        try:
            fresh.open()
            fill(fresh)
            counters.copy(self._db, fresh._db)
            before, after = self.counts(), fresh.counts()
            lost = {month: number - after.get(month, 0) for month, number in before.items() if number > after.get(month, 0)}
            fresh.settle()
            fresh.close()
            if not lost or force:
                self._swap(path)
            return lost
        finally:
            fresh.close()
            for old in (path, _wal(path)):
                old.unlink(missing_ok=True)
            shutil.rmtree(fresh.scratch, ignore_errors=True)

    def _swap(self, new: Path) -> None:
        """The compacted file in place of ours. Whatever happens, the ledger is open afterwards or says why not."""
        db = self._db
        db.close()
        with translated():
            if _wal(db.path).exists():
                raise StoreFailure(UNUSABLE, "the log of changes could not be emptied; nothing was changed")
            sync(new)
            os.replace(new, db.path)
            sync(db.path.parent)
        failpoint("compact.renamed")
        self.open()

    # -- is it right? ------------------------------------------------------------------------------------------------

    def verify(self) -> list[str]:
        db, wrong = self._db, []
        db.run("SELECT bit_xor(hash(requests)) FROM requests")
        for one in archiving.listed(db):
            wrong += self._verify_archive(one)
        wrong += [f"the archive {name} cannot be read" for name in self._damaged if not any(name in line for line in wrong)]
        self._show()
        (twice,) = db.one("SELECT count(*) FROM (SELECT id FROM usage GROUP BY id HAVING count(*) > 1)")
        if twice:
            wrong.append(f"{twice} request(s) are there twice")
        (aside,) = db.one("SELECT count(*) FROM quarantine")
        if aside:
            wrong.append(f"{aside} line(s) of the journal are no records and were put aside")
            some = db.run(f"SELECT segment, line, reason FROM quarantine ORDER BY noted_at DESC, line LIMIT {ASIDE_TOLD}")
            wrong += [f"put aside: {segment}{f' line {line}' if line else ''}: {reason}" for segment, line, reason in some]
        return wrong

    def _verify_archive(self, one: Archive) -> list[str]:
        path = self._db.archives / one.name
        if not path.exists():
            return [f"the archive {one.name} with {one.rows} request(s) is missing"]
        try:
            with translated():
                same = archiving.digest_of(path) == one.digest
            found = archiving.described(self._db, path) if same else None
        except StoreFailure as failure:
            self._damaged.add(one.name)
            return [str(failure)]
        if found is None or (found.rows, found.sums) != (one.rows, one.sums):
            self._damaged.add(one.name)
            return [f"the archive {one.name} with {one.rows} request(s) is not the file that was written"]
        return []

    def missing(self, sources: Sequence[Source]) -> int:
        if not sources:
            return 0
        lines = read_lines("ignore_errors = true")
        (count,) = self._db.one(
            f"SELECT count(*) FROM {lines} lines ANTI JOIN usage USING (id) WHERE kind = 'done' AND id IS NOT NULL AND NOT ({absurd()})",
            [[str(source.path) for source in sources], self._clock() + AHEAD],
        )
        return int(count)


def _wal(path: Path) -> Path:
    return path.with_name(f"{path.name}.wal")

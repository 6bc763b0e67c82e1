"""The ledger in a DuckDB file (see `store.Store`)."""

import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from gateway.failpoint import failpoint
from gateway.ledger import archiving, checking, counters, forgetting, loading, repricing
from gateway.ledger.copying import BUSY, copy_into
from gateway.ledger.database import Database, sync, translated
from gateway.ledger.remembered import Remembered
from gateway.ledger.schema import FORMAT, cells, names, tables, usage_view
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


SPARED: Final = 0.05
"""Of a disk: what a copy must leave free for the journal."""
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
        self._remembered: Remembered | None = Remembered(journal)
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
        self._damaged |= archiving.take_in(db)
        self._show()
        if self._remembered is not None:
            self._remembered.agree(db)

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

    def _absent(self) -> list[Archive]:
        """Archives that are known and that the view has not."""
        shown = {Path(path).name for path in self._shown or ()}
        return [one for one in archiving.listed(self._db) if one.name not in shown]

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
        loaded = Loaded()
        for latest, some in loading.by_clock(sources, self._clock()):
            loaded.add(loading.load(self._db, some, latest, self.book))
        return loaded

    def settle(self) -> None:
        failpoint("ledger.before-settle")
        try:
            self._db.run("CHECKPOINT")
        except StoreFailure as failure:
            if BUSY in str(failure):
                raise StoreFailure(REFUSED, "a report runs that began before the last archive was written") from failure
            raise
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
        self._show()
        gone = self._absent()
        there = [one for one in archiving.listed(self._db) if one not in gone]
        found = repricing.reprice(self._db, self.book, there, since, until, globs, dry=dry)
        found.absent = [one.name for one in gone if one.first < until and one.last >= since]
        if found.archives and not dry:
            self._shown = None
            self._show()
            archiving.sweep(self._db)
        return found

    def export(self, path: Path, since: float, until: float, form: Format, *, seconds: float = 3600.0) -> int:
        rows = f"SELECT {cells() if form == 'csv' else names()} FROM usage WHERE ts >= {_STAMP} AND ts < {_STAMP} ORDER BY ts, id"
        return self.write(path, rows, [since, until], form, seconds=seconds)

    def copy(self, path: Path, *, seconds: float = 600.0) -> None:
        with translated():
            wanted, disk = self._db.path.stat().st_size, shutil.disk_usage(path.parent)
        if disk.free - wanted < disk.total * SPARED:
            raise StoreFailure(REFUSED, f"a copy takes up to {wanted} bytes for a moment, and {disk.free} are free")
        end = time.monotonic() + seconds
        self._db.apart(lambda run: copy_into(run, path, lambda: time.monotonic() >= end), seconds)

    def altered(self, sources: Sequence[Source]) -> list[str]:
        return checking.altered(self._db, sources)

    def counts(self, *, absent: bool = False) -> dict[str, int]:
        found = Counter[str](dict(self._db.run("SELECT strftime(ts, '%Y-%m'), count(*) FROM usage GROUP BY 1")))
        if absent:
            for one in self._absent():
                found[one.month] += one.rows
        return dict(sorted(found.items()))

    def note_counters(self, increases: Sequence[Increase], last: Sequence[Raw]) -> None:
        counters.note(self._db, increases, last)
        failpoint("engines.noted")
        if self._remembered is not None:
            self._remembered.add(self._db, increases, last)

    def last_counters(self) -> list[Raw]:
        return counters.last(self._db)

    def facts(self) -> Facts:
        db = self._db
        rows, unpriced, first, last = db.one(
            "SELECT count(*), count(*) - count(amount), coalesce(epoch(min(ts)), 0), coalesce(epoch(max(ts)), 0) FROM requests"
        )
        (sources,), (aside,) = db.one("SELECT count(*) FROM segments"), db.one("SELECT count(*) FROM quarantine")
        ours = "database_name = current_database()"
        (unused,) = db.one(f"SELECT coalesce(sum(free_blocks * block_size), 0) FROM pragma_database_size() WHERE {ours}")
        (memory,) = db.one("SELECT coalesce(sum(memory_usage_bytes), 0) FROM duckdb_memory()")
        self._show()
        archiving.sweep(db)
        archives = archiving.listed(db)
        absent = sorted({one.name for one in self._absent()} | self._damaged)
        size = sum(path.stat().st_size for path in (db.path, _wal(db.path)) if path.exists())
        first = min([first or float("inf"), *(one.first for one in archives)])
        return Facts(
            rows, sources, aside, size, int(unused), int(memory), 0.0 if first == float("inf") else first,
            max([float(last), *(one.last for one in archives)]), archives, absent, unpriced,
            self._remembered.unwritten if self._remembered is not None else "",
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
        return done

    def expire(self, name: str) -> None:
        archiving.expire(self._db, name)
        self._shown = None
        self._show()

    def drop(self, before: float) -> int:
        count = forgetting.drop(self._db, before)
        counters.drop(self._db, before)
        if self._remembered is not None:
            self._remembered.tidy(self._db)
        return count

    def compact(self) -> tuple[int, int]:
        db = self._db
        self.settle()
        before = db.path.stat().st_size
        new = db.path.with_name(f"{db.path.name}.new")
        new.unlink(missing_ok=True)
        copy_into(db.run, new)
        failpoint("compact.written")
        self._swap(new)
        return before, db.path.stat().st_size

    def rebuild(self, fill: Callable[[Store], object], *, force: bool = False) -> dict[str, int]:
        path = self._db.path.with_name(f"{self._db.path.name}.building")
        for old in (path, _wal(path)):
            old.unlink(missing_ok=True)
        fresh = DuckStore(path, memory=max(LEAST, self._memory // 2), journal=self._journal, clock=self._clock)
        fresh.book, fresh._remembered = self.book, None
        try:
            fresh.open()
            fill(fresh)
            counters.copy(self._db, fresh._db)
            before, after = self.counts(absent=True), fresh.counts()
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
        checking.read(self._db)
        wrong = checking.archives(self._db, self._damaged)
        self._show()
        return wrong + checking.contents(self._db)

    def missing(self, sources: Sequence[Source]) -> int:
        return sum(checking.missing(self._db, some, latest) for latest, some in loading.by_clock(sources, self._clock()))


def _wal(path: Path) -> Path:
    return path.with_name(f"{path.name}.wal")

"""A DuckDB file: opened with all that is not needed locked away, written by one thread, read by many. Its errors become ours here."""

import contextlib
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar, cast
from uuid import UUID

import duckdb

from gateway.failpoint import failpoint
from gateway.ledger.store import DAMAGED, LOCKED, REFUSED, UNUSABLE, Ask, Kind, Rows, StoreFailure

T = TypeVar("T")
sys.modules.setdefault("pandas", cast(Any, None))
"""Not to be found: DuckDB looks for it twice with each parameter, and Python would go through all its folders each time (0.1 ms)."""


class Run(Protocol):
    """Statements of one connection: rows."""

    def __call__(self, sql: str, params: Sequence[Any] = (), /) -> list[tuple[Any, ...]]: ...


THREADS_MOST: Final = 4
CHECKPOINT: Final = "128MiB"
"""Of changes: writing them into the file at each 16 MiB, as it comes, is half of what loading costs."""
SHARE: Final = 0.6
"""Of the memory that DuckDB is told it may use: what its buffers hold beyond it, and its threads, take the rest."""
LEAST: Final = 96 * 1024 * 1024
"""Bytes that DuckDB needs of each thread to take in a whole bundle: with two thirds of it two threads run out of memory."""
READERS_PATIENCE: Final = 10.0
"""Seconds that a closing database waits for its readers, which are interrupted."""

_LOCK: Final = ("Could not set lock",)
_DAMAGE: Final = ("not a valid DuckDB", "Corrupt", "Could not read enough bytes", "replaying WAL", "checksum", "Failed to deserialize")
_OTHERS: Final = (".parquet", ".ndjson")
"""Files beside the database: that they are damaged says nothing of it."""
_BROKEN: Final = ("database has been invalidated", "INTERNAL Error", "FATAL Error")


class Database:
    """One file. `inode` tells whether it is still the one that was opened."""

    def __init__(self, path: Path, memory: int, reach: Sequence[Path]) -> None:
        """memory: bytes. reach: directories that may be read and written, besides the file's own."""
        self.path = path
        self.scratch = path.with_name(f"{path.name}.tmp")
        self.archives = path.with_name("archive")
        self._memory = memory
        self._reach = reach
        self._writer: duckdb.DuckDBPyConnection | None = None
        self._readers: set[duckdb.DuckDBPyConnection] = set()
        self._change = threading.Condition()
        self._inode = 0

    # -- opening -----------------------------------------------------------------------------------------------------

    def open(self) -> None:
        with translated():
            try:
                self._make_room()
                self._writer = duckdb.connect(str(self.path), config=self._settings())
                self._lock_away(self._writer)
                self._inode = self.path.stat().st_ino
            except BaseException:
                self._drop()
                raise

    def _make_room(self) -> None:
        """Directories, and no scratch of an earlier life."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.archives.mkdir(exist_ok=True, mode=0o700)
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(mode=0o700)
        with os.scandir(self.archives) as entries:
            for entry in entries:
                if entry.name.endswith(".new"):
                    os.unlink(entry.path)
        self.path.with_name(f"{self.path.name}.new").unlink(missing_ok=True)
        self.path.with_name(f"{self.path.name}.new.wal").unlink(missing_ok=True)

    def _settings(self) -> dict[str, str | bool | int | float | list[str]]:
        limit = max(LEAST, int(self._memory * SHARE))
        return {
            "memory_limit": f"{limit // 1024}KiB",
            "threads": min(THREADS_MOST, len(os.sched_getaffinity(0)), limit // LEAST),
            "temp_directory": str(self.scratch),
            "checkpoint_threshold": CHECKPOINT,
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "allow_community_extensions": False,
        }

    def _lock_away(self, connection: duckdb.DuckDBPyConnection) -> None:
        reach = ", ".join(f"'{str(one.absolute()).rstrip('/')}/'" for one in (self.path.parent, *self._reach))
        connection.execute(f"SET allowed_directories = [{reach}]")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")

    @property
    def opened(self) -> bool:
        return self._writer is not None

    @property
    def reading(self) -> bool:
        """Whether a report runs."""
        return bool(self._readers)

    def replaced(self) -> bool:
        """Whether the file that is open is no longer the one that stands there."""
        try:
            return self.path.stat().st_ino != self._inode
        except OSError:
            return True

    def close(self) -> None:
        """Interrupts readers and waits for them, then lets go of the file."""
        with self._change:
            writer, self._writer = self._writer, None
            for reader in self._readers:
                reader.interrupt()
            self._change.wait_for(lambda: not self._readers, READERS_PATIENCE)
        if writer is not None:
            with contextlib.suppress(duckdb.Error):
                writer.close()

    def _drop(self) -> None:
        if self._writer is not None:
            with contextlib.suppress(duckdb.Error):
                self._writer.close()
            self._writer = None

    # -- the writer --------------------------------------------------------------------------------------------------

    def run(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """By the writer's thread alone."""
        if self._writer is None:
            raise StoreFailure(UNUSABLE, "the ledger is not open")
        with translated():
            return self._writer.execute(sql, list(params)).fetchall()

    def one(self, sql: str, params: Sequence[Any] = ()) -> tuple[Any, ...]:
        return self.run(sql, params)[0]

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing."""
        failpoint("ledger.before-begin")
        self.run("BEGIN TRANSACTION")
        try:
            yield
            failpoint("ledger.before-commit")
            self.run("COMMIT")
        except BaseException:
            with contextlib.suppress(StoreFailure):
                self.run("ROLLBACK")
            raise
        failpoint("ledger.committed")

    # -- readers -----------------------------------------------------------------------------------------------------

    def read(self, sql: str, params: Sequence[Any], seconds: float, most: int) -> Rows:
        """By any thread."""
        return self.together(lambda ask: ask(sql, params, most), seconds)

    def together(self, work: Callable[[Ask], T], seconds: float) -> T:
        """By any thread: several queries of one moment. seconds: for all of them."""
        with self._reader(seconds) as reader, translated(reading=True):

            def ask(sql: str, params: Sequence[Any] = (), most: int = 10_000) -> Rows:
                found = reader.execute(sql, list(params))
                columns = tuple(str(one[0]) for one in found.description or ())
                rows = found.fetchmany(most + 1)
                return Rows(columns, [_plain(row) for row in rows[:most]], len(rows) > most)

            reader.execute("BEGIN TRANSACTION READ ONLY")
            try:
                return work(ask)
            finally:
                with contextlib.suppress(duckdb.Error):
                    reader.execute("ROLLBACK")

    def apart(self, work: Callable[[Run], T], seconds: float) -> T:
        """By any thread: statements of a connection of its own, which may also write into another file."""
        with self._reader(seconds) as reader, translated(reading=True):
            return work(lambda sql, params=(): reader.execute(sql, list(params)).fetchall())

    @contextlib.contextmanager
    def _reader(self, seconds: float) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._change:
            if self._writer is None:
                raise StoreFailure(UNUSABLE, "the ledger is not open")
            reader = self._writer.cursor()
            self._readers.add(reader)
        timer = threading.Timer(seconds, reader.interrupt)
        timer.daemon = True
        timer.start()
        try:
            yield reader
        finally:
            timer.cancel()
            with self._change:
                self._readers.discard(reader)
                self._change.notify_all()
            reader.close()

    def interrupt(self) -> None:
        with self._change:
            if self._writer is not None:
                self._writer.interrupt()
            for reader in self._readers:
                reader.interrupt()


def _plain(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(str(value) if isinstance(value, UUID) else value for value in row)


@contextlib.contextmanager
def translated(reading: bool = False) -> Iterator[None]:
    """DuckDB's errors and the disk's, as StoreFailure. reading: a mistake is the question's, not the ledger's."""
    try:
        yield
    except duckdb.InterruptException as error:
        raise StoreFailure(REFUSED, "it took too long and was stopped") from error
    except duckdb.Error as error:
        text = str(error).splitlines()[0].partition(" See also http")[0] if str(error) else type(error).__name__
        raise StoreFailure(_kind(error, text, reading), text) from error
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        raise StoreFailure(UNUSABLE, f"{named}{error.strerror or error}") from error


def _kind(error: duckdb.Error, text: str, reading: bool) -> Kind:
    if any(sign in text for sign in _LOCK):
        return LOCKED
    if any(other in text for other in _OTHERS):
        return REFUSED
    if any(sign in text for sign in _DAMAGE) or isinstance(error, duckdb.SerializationException):
        return DAMAGED
    if isinstance(error, duckdb.FatalException | duckdb.InternalException | duckdb.IOException) or any(sign in text for sign in _BROKEN):
        return UNUSABLE
    return REFUSED if reading or isinstance(error, duckdb.OutOfMemoryException) else UNUSABLE


def sync(path: Path) -> None:
    """A file, or a directory's entries, through to the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

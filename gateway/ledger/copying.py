"""A whole copy of a ledger, of one moment, while it is read and written on. Every block is read, so a damaged ledger gives none."""

import contextlib
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final

import duckdb

from gateway.ledger.database import Run, translated
from gateway.ledger.schema import tables
from gateway.ledger.store import REFUSED, StoreFailure

BUSY: Final = "Cannot CHECKPOINT"
_numbers: Final = count(1)
"""Compacting and a backup's copy may go on at once, in one database."""
MEMORY: Final = 256 * 1024 * 1024
"""Bytes for a copy that nobody's ledger pays for."""


def copy_into(run: Run, new: Path, late: Callable[[], bool] = lambda: False) -> None:
    """The database that `run` asks, into the file `new`, which is not there; what was deleted takes no room in it. late: whether to give
    up, asked before each table; what runs is stopped by whoever owns the connection."""
    ((ours,),) = run("SELECT current_database()")
    alias = f"copy_{next(_numbers)}"
    run(f"ATTACH {_quoted(new)} AS {alias}")
    try:
        run(f"USE {alias}")
        for statement in tables():
            run(statement)
        run(f'USE "{ours}"')
        # Asked before the transaction: whoever asks for all tables holds every database, other copies too, until its end.
        names = run("SELECT table_name FROM duckdb_tables() WHERE database_name = ?", [ours])
        run("BEGIN TRANSACTION")
        try:
            for (table,) in names:
                if late():
                    raise StoreFailure(REFUSED, "it took too long and was stopped")
                run(f'INSERT INTO {alias}.main."{table}" SELECT * FROM "{ours}".main."{table}"')
        except BaseException:
            with contextlib.suppress(duckdb.Error, StoreFailure):
                run("ROLLBACK")
            raise
        run("COMMIT")
        _checkpoint(run, alias)
    except BaseException:
        with contextlib.suppress(duckdb.Error, StoreFailure):  # it fails for the same reason, and says it less well
            _let_go(run, ours, alias)
        raise
    _let_go(run, ours, alias)


def _let_go(run: Run, ours: str, alias: str) -> None:
    run(f'USE "{ours}"')
    run(f"DETACH {alias}")


def _checkpoint(run: Run, alias: str, patience: float = 5.0) -> None:
    """Another copy may be asking for all tables just now."""
    end = time.monotonic() + patience
    while True:
        try:
            run(f"CHECKPOINT {alias}")
            return
        except (duckdb.Error, StoreFailure) as failure:
            if BUSY not in str(failure) or time.monotonic() >= end:
                raise
            time.sleep(0.01)


def copy_file(path: Path, new: Path) -> None:
    """A ledger that nobody has open: nothing of it is changed, and nobody opens it meanwhile. Raises StoreFailure."""
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": f"{MEMORY // 1024}KiB",
        "threads": 2,
        "temp_directory": f"{new}.tmp",
        "preserve_insertion_order": False,
        "autoload_known_extensions": False,
    }
    with translated(reading=True):
        connection = duckdb.connect(":memory:", config=settings)

        def run(sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
            return connection.execute(sql, list(params)).fetchall()

        try:
            run(f"ATTACH {_quoted(path)} AS ledger (READ_ONLY)")
            run("USE ledger")
            copy_into(run, new)
        finally:
            connection.close()


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"

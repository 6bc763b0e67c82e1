"""Old rows priced anew by the price book that is live: those of the table, and those of archives, whose files are written anew.

All or nothing: each new file is whole, compared and named before one transaction puts them in the place of the old ones and changes the
table. What a death leaves of either goes when the ledger is opened (`archiving.take_in`).
"""

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from gateway.config.globs import matches
from gateway.failpoint import failpoint
from gateway.ledger import archiving
from gateway.ledger.database import Database, sync, translated
from gateway.ledger.pricing import ATTEMPTS, CHUNK, COLUMNS, cells, keep, price_staged
from gateway.ledger.schema import COLUMNS as EVERY
from gateway.ledger.store import REFUSED, Archive, Change, Repriced, StoreFailure
from gateway.price.bill import Fact, bill
from gateway.price.book import PriceBook

_FACT: Final = (
    "api, model, channel, tenant, status, source, tokens_in, tokens_cached, tokens_out, tokens_reasoning, ms_read, ms_queue, ms_total, "
    f"epoch(ts), {ATTEMPTS}"
)
_STRETCH: Final = "ts >= make_timestamp(CAST(? * 1000000 AS BIGINT)) AND ts < make_timestamp(CAST(? * 1000000 AS BIGINT))"
_OTHER: Final = "(r.price_rev, r.currency, r.amount) IS DISTINCT FROM (b.price_rev, b.currency, b.amount)"
_OTHER_COST: Final = "(r.engine_currency, r.engine_cost) IS DISTINCT FROM (b.engine_currency, b.engine_cost)"


class _Place(NamedTuple):
    """Where rows are. rows: SQL of a table. number: its column that tells them apart."""

    rows: str
    number: str


class _Wanted(NamedTuple):
    """Which rows are looked at, in SQL."""

    where: str
    params: list[Any]


_TABLE: Final = _Place("requests", "rowid")


def reprice(
    db: Database, book: PriceBook, archives: Sequence[Archive], since: float, until: float, globs: Iterable[str], *, dry: bool
) -> Repriced:
    """Requests from `since` until before `until` (Unix seconds), of models that match any of the globs. archives: those whose files are
    there. dry: only says what it would change."""
    wanted, found, made = _wanted(db, since, until, list(globs) or ["*"]), Repriced(), list[tuple[Archive, Path]]()
    try:
        for one in archives:
            if one.first < until and one.last >= since:
                place = _of_archive(db.archives / one.name)
                rows = _bill(db, book, place, wanted)
                found.archived += rows
                if _count(db, place, rows, found):
                    found.archives.append(one.name)
                    if not dry:
                        made.append((one, _written(db, place, one)))
        differ = _count(db, _TABLE, _bill(db, book, _TABLE, wanted), found)
        found.changes.sort(key=lambda change: [("" if part is None else str(part)) for part in change])
        if not dry and (made or differ):
            archiving.replace(db, made, lambda: db.run(_update()))
    finally:
        db.run("DROP TABLE IF EXISTS bills")
    return found


def _wanted(db: Database, since: float, until: float, globs: list[str]) -> _Wanted:
    models = [model for (model,) in db.run(f"SELECT DISTINCT model FROM usage WHERE {_STRETCH}", [since, until])]
    models = [model for model in models if any(matches(glob, model) for glob in globs)]
    where = f"{_STRETCH} AND model IN (SELECT unnest(CAST(CAST(? AS JSON) AS VARCHAR[])))"
    return _Wanted(where, [since, until, msgspec.json.encode(models).decode()])


def _of_archive(path: Path) -> _Place:
    return _Place(f"read_parquet('{path}', file_row_number = true)", "file_row_number")


def _bill(db: Database, book: PriceBook, place: _Place, wanted: _Wanted) -> int:
    """Leaves those bills in the table `bills` that differ from what stands there; returns how many rows were looked at."""
    price_staged(db, None)
    looked, (where, params) = 0, wanted
    for days in db.run(f"SELECT DISTINCT CAST(ts AS DATE) FROM {place.rows} WHERE {where} ORDER BY 1", params):
        asked = f"SELECT {place.number}, {_FACT} FROM {place.rows} WHERE {where} AND CAST(ts AS DATE) = ? ORDER BY ts"
        rows = db.run(asked, [*params, *days])
        looked += len(rows)
        for begin in range(0, len(rows), CHUNK):
            keep(db, [cells(row[0], bill(book, Fact(*row[1:]))) for row in rows[begin : begin + CHUNK]])
    differ = f"SELECT b.number FROM bills b JOIN {place.rows} r ON r.{place.number} = b.number WHERE {_OTHER} OR {_OTHER_COST}"
    db.run(f"DELETE FROM bills WHERE number NOT IN ({differ})")
    return looked


def _count(db: Database, place: _Place, rows: int, found: Repriced) -> bool:
    """Adds what is in `bills`; returns whether there is anything."""
    joined = f"FROM bills b JOIN {place.rows} r ON r.{place.number} = b.number"
    changed, costs = db.one(f"SELECT count(*) FILTER ({_OTHER}), count(*) FILTER ({_OTHER_COST}) {joined}")
    found.rows, found.changed, found.costs = found.rows + rows, found.changed + changed, found.costs + costs
    asked = (
        "SELECT r.model, count(*), r.price_rev, r.currency, sum(r.amount), b.price_rev, b.currency, sum(b.amount) "
        f"{joined} WHERE {_OTHER} GROUP BY ALL"
    )
    for row in db.run(asked):
        _add(found.changes, Change(*row))
    return bool(changed or costs)


def _add(changes: list[Change], new: Change) -> None:
    """The same change in another place is one."""
    for number, old in enumerate(changes):
        if _what(old) == _what(new):
            before = None if old.before is None or new.before is None else old.before + new.before
            after = None if old.after is None or new.after is None else old.after + new.after
            changes[number] = old._replace(rows=old.rows + new.rows, before=before, after=after)
            return
    changes.append(new)


def _what(change: Change) -> tuple[object, ...]:
    return change.model, change.rev_before, change.currency_before, change.rev, change.currency


def _update() -> str:
    changed = ", ".join(f"{name} = b.{name}" for name in COLUMNS)
    return f"UPDATE requests SET {changed} FROM bills b WHERE requests.rowid = b.number"


def _written(db: Database, place: _Place, one: Archive) -> Path:
    """The archive with what is in `bills`, as a new file beside it that nobody knows yet."""
    with translated():
        if archiving.digest_of(db.archives / one.name) != one.digest:
            raise StoreFailure(REFUSED, f"the archive {one.name} is not the file that was written: gatewayctl ledger verify")
    path = archiving.next_name(db.archives, one.name)
    new = path.with_name(f"{path.name}.new")
    columns = ", ".join(
        f"CASE WHEN b.number IS NULL THEN r.{name} ELSE b.{name} END AS {name}" if name in COLUMNS else f'r."{name}"'
        for name in (column.name for column in EVERY)
    )
    rows = f"SELECT {columns} FROM {place.rows} r LEFT JOIN bills b ON b.number = r.{place.number}"
    try:
        checks = archiving.write(db, rows, new)
        failpoint("reprice.written")
        if (checks[0], tuple(map(int, checks[1:-1]))) != (one.rows, one.sums):
            raise StoreFailure(REFUSED, f"the archive {one.name} would not have the same requests; nothing was changed")
        with translated():
            new.rename(path)
            sync(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise
    failpoint("reprice.renamed")
    return path

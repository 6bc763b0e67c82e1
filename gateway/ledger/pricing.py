"""What rows come to, by the price book that is live: new ones in the transaction that brings them, old ones when that is asked for.

Rows go out in the order of time, are priced in a plain loop, and come back as one JSON text: lists as parameters take DuckDB minutes.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from gateway.config.globs import matches
from gateway.ledger.database import Database
from gateway.ledger.store import Change, Repriced
from gateway.price.bill import Bill, Fact, bill
from gateway.price.book import PriceBook

LARGEST: Final = 10**18
"""Nanos: from here on an amount is no money of anybody, and unknown."""
COLUMNS: Final = ("price_rev", "currency", "amount", "engine_currency", "engine_cost")
CHUNK: Final = 100_000
"""Rows that are priced at once."""

_FACTS: Final = (
    *("coalesce(api, '')", "coalesce(model, '')", "coalesce(channel, '')", "coalesce(tenant, '')", "coalesce(status, 0)"),
    "coalesce(source, '')",
)
_STAGED: Final = ", ".join(
    (
        *_FACTS,
        *('coalesce(tokens."in", 0)', "coalesce(tokens.cached, 0)", 'coalesce(tokens."out", 0)', "coalesce(tokens.reasoning, 0)"),
        *('coalesce(ms."read", 0)', "coalesce(ms.queue, 0)", "coalesce(ms.total, 0)", "ts"),
    )
)
_ROWS: Final = (
    "api, model, channel, tenant, status, source, tokens_in, tokens_cached, tokens_out, tokens_reasoning, ms_read, ms_queue, ms_total, "
    "epoch(ts)"
)
_NANOS: Final = "CAST({} AS DECIMAL(18, 0)) * 0.000000001::DECIMAL(10, 9)"
_MADE: Final = (
    "SELECT one[1] AS number, one[2] AS price_rev, one[3] AS currency, CAST({amount} AS DECIMAL(18, 9)) AS amount, "
    "one[5] AS engine_currency, CAST({cost} AS DECIMAL(18, 9)) AS engine_cost "
    "FROM (SELECT CAST(unnest(CAST(? AS JSON[])) AS VARCHAR[]) AS one)"
).format(amount=_NANOS.format("one[4]"), cost=_NANOS.format("one[6]"))

Cells = tuple[int, str | None, str | None, int | None, str | None, int | None]


def price_staged(db: Database, book: PriceBook | None) -> str:
    """SQL of a table (number = rowid of `staged`, and `COLUMNS`) that says what new records come to. No book: nobody knows."""
    db.run("CREATE OR REPLACE TEMP TABLE bills(number BIGINT, price_rev VARCHAR, currency VARCHAR, amount DECIMAL(18, 9), "
           "engine_currency VARCHAR, engine_cost DECIMAL(18, 9))")  # fmt: skip
    if book is not None:
        rows = db.run(f"SELECT rowid, {_STAGED} FROM staged ORDER BY ts")
        for begin in range(0, len(rows), CHUNK):
            _keep(db, [_cells(row[0], bill(book, Fact(*row[1:]))) for row in rows[begin : begin + CHUNK]])
    return "bills"


def _cells(number: int, found: Bill) -> Cells:
    price, cost = found
    known, ours = price is not None and price.nanos < LARGEST, cost is not None and cost.nanos < LARGEST
    return (
        number,
        price.rev if price and known else None,
        price.currency if price and known else None,
        price.nanos if price and known else None,
        cost.currency if cost and ours else None,
        cost.nanos if cost and ours else None,
    )


def _keep(db: Database, cells: Sequence[Cells]) -> None:
    if cells:
        db.run(f"INSERT INTO bills {_MADE}", [msgspec.json.encode(cells).decode()])


# -- again -------------------------------------------------------------------------------------------------------------


def reprice(db: Database, book: PriceBook, since: float, until: float, globs: Iterable[str], *, dry: bool) -> Repriced:
    """Prices requests outside archives anew, from `since` until before `until` (Unix seconds), of models that match any of the globs."""
    stretch = "ts >= make_timestamp(CAST(? * 1000000 AS BIGINT)) AND ts < make_timestamp(CAST(? * 1000000 AS BIGINT))"
    wanted = list(globs) or ["*"]
    models = [model for (model,) in db.run(f"SELECT DISTINCT model FROM usage WHERE {stretch}", [since, until])]
    models = [model for model in models if any(matches(glob, model) for glob in wanted)]
    where = f"{stretch} AND model IN (SELECT unnest(CAST(CAST(? AS JSON) AS VARCHAR[])))"
    params: list[Any] = [since, until, msgspec.json.encode(models).decode()]
    found = Repriced()
    price_staged(db, None)
    for days in db.run(f"SELECT DISTINCT CAST(ts AS DATE) FROM requests WHERE {where} ORDER BY 1", params):
        rows = db.run(f"SELECT rowid, {_ROWS} FROM requests WHERE {where} AND CAST(ts AS DATE) = ? ORDER BY ts", [*params, *days])
        found.rows += len(rows)
        for begin in range(0, len(rows), CHUNK):
            _keep(db, [_cells(row[0], bill(book, Fact(*row[1:]))) for row in rows[begin : begin + CHUNK]])
    differs = " OR ".join(f"r.{name} IS DISTINCT FROM b.{name}" for name in COLUMNS)
    db.run(f"DELETE FROM bills WHERE number NOT IN (SELECT b.number FROM bills b JOIN requests r ON r.rowid = b.number WHERE {differs})")
    _count(db, found)
    (whole,) = db.one(f"SELECT count(*) FROM usage WHERE {where}", params)
    found.archived = whole - found.rows
    if not dry and (found.changed or found.costs):
        with db.transaction():
            changed = ", ".join(f"{name} = b.{name}" for name in COLUMNS)
            db.run(f"UPDATE requests SET {changed} FROM bills b WHERE requests.rowid = b.number")
    db.run("DROP TABLE bills")
    return found


def _count(db: Database, found: Repriced) -> None:
    other = "(r.price_rev, r.currency, r.amount) IS DISTINCT FROM (b.price_rev, b.currency, b.amount)"
    joined = "FROM bills b JOIN requests r ON r.rowid = b.number"
    found.changed, found.costs = db.one(
        f"SELECT count(*) FILTER ({other}), count(*) FILTER ((r.engine_currency, r.engine_cost) IS DISTINCT FROM "
        f"(b.engine_currency, b.engine_cost)) {joined}"
    )
    found.changes = [
        Change(*row)
        for row in db.run(
            "SELECT r.model, count(*), r.price_rev, r.currency, sum(r.amount), b.price_rev, b.currency, sum(b.amount) "
            f"{joined} WHERE {other} GROUP BY ALL ORDER BY ALL NULLS FIRST"
        )
    ]

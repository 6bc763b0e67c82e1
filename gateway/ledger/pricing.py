"""What new rows come to, by the price book that is live, in the transaction that brings them. Old ones: `repricing.py`.

Rows go out in the order of time, are priced in a plain loop, and come back as one JSON text: lists as parameters take DuckDB minutes.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from gateway.ledger.database import Database
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
ATTEMPTS: Final = "CASE WHEN len(attempts) > 1 THEN CAST(to_json(attempts) AS VARCHAR) END"
_STAGED: Final = ", ".join(
    (
        *_FACTS,
        *('coalesce(tokens."in", 0)', "coalesce(tokens.cached, 0)", 'coalesce(tokens."out", 0)', "coalesce(tokens.reasoning, 0)"),
        *('coalesce(ms."read", 0)', "coalesce(ms.queue, 0)", "coalesce(ms.total, 0)", "ts", ATTEMPTS),
    )
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
            keep(db, [cells(row[0], bill(book, Fact(*row[1:]))) for row in rows[begin : begin + CHUNK]])
    return "bills"


def cells(number: int, found: Bill) -> Cells:
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


def keep(db: Database, made: Sequence[Cells]) -> None:
    if made:
        db.run(f"INSERT INTO bills {_MADE}", [msgspec.json.encode(made).decode()])

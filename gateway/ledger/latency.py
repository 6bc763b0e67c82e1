"""How long callers of streams wait for the first token: the median and the 95th percentile, of the whole, of each group, of each bucket.
Of a whole answer nobody sees the first token: all of it comes at once, and would make a time of its length.

Counted in classes, so that millions of requests need no memory and every run says the same: each microsecond is one, and above
`EXACT` requests classes of 2 %, whose middle is told.
"""

import math
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from gateway.ledger.store import Ask

EXACT: Final = 100_000
SHARES: Final = (0.5, 0.95)
_PER_FOLD: Final = 50
"""Classes of one e-fold: 1/50 is 2 %."""

Name = tuple[str, ...] | None
Found = dict[tuple[bool, Name, Any], list[float]]


def latencies(
    ask: Ask, where: str, params: Sequence[Any], dims: Sequence[str], names: Sequence[Name], part: str, requests: int, most: int
) -> Found:
    """{(whether of one group, its name, its bucket): [median, 95th percentile]}, in milliseconds.

    dims: SQL of what groups are by. names: groups; the others are None together. part: SQL of buckets, "" = none."""
    exact = requests <= EXACT
    kind = "CAST(ms_first * 1000 AS BIGINT)" if exact else f"CAST(floor(ln(ms_first) * {_PER_FOLD}) AS BIGINT)"
    columns = ", ".join(f"{sql} AS d{number}" for number, sql in enumerate(dims))
    rows = f"SELECT {kind} AS h{f', {columns}' if dims else ''}, {part or '0'} AS part FROM usage WHERE {where} AND stream AND ms_first > 0"
    given = list(params)
    place, join = "0", ""
    if dims:
        cells = ", ".join(f"one[{number + 1}] AS d{number}" for number in range(len(dims)))
        same = " AND ".join(f"r.d{number} = k.d{number}" for number in range(len(dims)))
        listed = "SELECT unnest(list) AS one, unnest(range(len(list))) AS place FROM (SELECT CAST(CAST(? AS JSON) AS VARCHAR[][]) AS list)"
        join = f" LEFT JOIN (SELECT place, {cells} FROM ({listed})) k ON {same}"
        place = "k.place"
        given.append(msgspec.json.encode([name for name in names if name is not None]).decode())
    counted = f"SELECT {place} AS place, part, h, count(*) AS c FROM ({rows}) r{join} GROUP BY ALL"
    levels = [(grouped, sliced) for grouped in {False, bool(dims)} for sliced in {False, bool(part)}]
    sql = f"WITH h AS MATERIALIZED ({counted}) {' UNION ALL '.join(_level(*level) for level in levels)}"
    known = [name for name in names if name is not None]
    found: Found = {}
    for grouped, number, slot, *classes in ask(sql, given, most).rows:
        found[grouped, known[number] if grouped and number is not None else None, slot] = [_value(one, exact) for one in classes]
    return found


def _level(grouped: bool, sliced: bool) -> str:
    """Smallest classes that at least these shares of the requests do not exceed."""
    summed = f"SELECT {'place' if grouped else '0'} AS place, {'part' if sliced else '0'} AS slot, h, sum(c) AS n FROM h GROUP BY ALL"
    window = "PARTITION BY place, slot"
    run = f"SELECT *, sum(n) OVER ({window} ORDER BY h) AS so_far, sum(n) OVER ({window}) AS whole FROM ({summed})"
    shares = ", ".join(f"min(h) FILTER (so_far >= {share} * whole)" for share in SHARES)
    slot = "slot" if sliced else "NULL"
    return f"SELECT {str(grouped).lower()}, place, {slot}, {shares} FROM ({run}) GROUP BY ALL"


def _value(number: int, exact: bool) -> float:
    return number / 1000 if exact else round(math.exp((number + 0.5) / _PER_FOLD), 3)

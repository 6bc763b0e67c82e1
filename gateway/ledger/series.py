"""The ledger by the hour, for who compares an hour with those before it. An hour of which nothing is known is None, not 0.

Nothing is known of an hour in which the ledger has no request at all and no engine was looked at: the gateway was off. And of what is
before a tenant's (a model's, …) first request.
"""

from collections.abc import Mapping
from typing import Any, Final

from gateway.ledger.store import Store

HOUR: Final = 3600
MOST: Final = 500
"""Names that are looked at, those with the most."""
KINDS: Final = {"tokens": "sum(tokens_in + tokens_out)", "requests": "count(*)", "cost": "sum(amount)"}
_PROJECT: Final = "tenant || '/' || project"
BY: Final = {"total": "'total'", "project": _PROJECT, **{name: f'"{name}"' for name in ("tenant", "key", "model", "channel")}}

Series = dict[str, list[float | None]]


def main_currency(store: Store, last: int, hours: int) -> str:
    """The one with the most requests in these hours, "" when nothing has an amount. Raises StoreFailure."""
    found = store.query(
        f"SELECT currency FROM usage WHERE channel <> '' AND ts >= {_moment('$1')} AND ts < {_moment('$2')} AND currency <> '' "
        "GROUP BY currency ORDER BY count(*) DESC, currency LIMIT 1",
        [float((last - hours + 1) * HOUR), float((last + 1) * HOUR)],
        seconds=120.0,
    ).rows
    return str(found[0][0]) if found else ""


def hourly(store: Store, kind: str, by: str, last: int, hours: int, main: str | None = None) -> Series:
    """kind: of KINDS; see `hourly_of_all`."""
    return hourly_of_all(store, by, last, hours, main)[kind]


def hourly_of_all(store: Store, by: str, last: int, hours: int, main: str | None = None) -> dict[str, Series]:
    """Of each kind. by: of BY. last: the last hour, counted from 1970; hours: how many. Amounts of another currency than `main` are a
    series of their own, `name (USD)`. main: None = `main_currency` of these hours; of hours that go on with others it has to be that of
    the others. Raises StoreFailure."""
    first = last - hours + 1
    main = main_currency(store, last, hours) if main is None else main
    sums: dict[str, dict[str, dict[int, float]]] = {kind: {} for kind in KINDS}
    for hour, name, currency, *values in _rows(store, by, first, last):
        other = f" ({currency})" if currency and currency != main else ""
        for kind, value in zip(KINDS, values, strict=True):
            if value is not None:
                of = sums[kind].setdefault(f"{name}{other}" if kind == "cost" else name, {})
                of[hour] = of.get(hour, 0.0) + float(value)
    known = _known(store, first, last)
    return {kind: {name: _series(found, known, first, last) for name, found in named.items()} for kind, named in sums.items()}


def _rows(store: Store, by: str, first: int, last: int) -> list[tuple[Any, ...]]:
    """Requests that were sent to an engine."""
    wanted = f"FROM usage WHERE channel <> '' AND ts >= {_moment('$1')} AND ts < {_moment('$2')}"
    hour = "CAST(floor(epoch(ts) / 3600) AS BIGINT) AS hour"
    return store.query(
        f"WITH sums AS (SELECT {BY[by]} AS name, {hour}, currency, {', '.join(f'{sql} AS {kind}' for kind, sql in KINDS.items())} {wanted} "
        f"GROUP BY ALL), most AS (SELECT name FROM sums GROUP BY name ORDER BY sum(requests) DESC LIMIT {MOST}) "
        f"SELECT hour, name, coalesce(currency, ''), {', '.join(KINDS)} FROM sums WHERE name IN (FROM most) AND name <> ''",
        [float(first * HOUR), float((last + 1) * HOUR)],
        seconds=120.0,
        most=5_000_000,
    ).rows


def _known(store: Store, first: int, last: int) -> set[int]:
    """Hours in which the gateway was there."""
    rows = store.query(
        f"SELECT DISTINCT CAST(floor(epoch(ts) / 3600) AS BIGINT) FROM usage WHERE ts >= {_moment('$1')} AND ts < {_moment('$2')} "
        f"UNION SELECT CAST(floor(epoch(hour) / 3600) AS BIGINT) FROM counters WHERE hour >= {_moment('$1')} AND hour < {_moment('$2')}",
        [float(first * HOUR), float((last + 1) * HOUR)],
        most=1_000_000,
    ).rows
    return {hour for (hour,) in rows}


def _series(found: Mapping[int, float], known: set[int], first: int, last: int) -> list[float | None]:
    begin = min(found)
    return [found.get(hour, 0.0) if hour in known and hour >= begin else None for hour in range(first, last + 1)]


def _moment(parameter: str) -> str:
    return f"make_timestamp(CAST({parameter} * 1000000 AS BIGINT))"

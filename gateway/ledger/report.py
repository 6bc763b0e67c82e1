"""Reports: one question becomes groups, buckets and totals that agree to the token and to the nano, since all are sums of the same rows.

What Top-N leaves out is a group of its own. Amounts of different currencies are never added, but told in the base currency too where
rates are configured. Unknown prices are figures of their own.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Final

from gateway.config.resolved_prices import Currencies
from gateway.ledger.figures import COUNTED, HIDDEN, Figures, Measures, known, ratio
from gateway.ledger.latency import Found, latencies
from gateway.ledger.question import (
    CELLS_MOST,
    DIMENSIONS,
    TOP_MOST,
    BadQuestion,
    Question,
    Slot,
    bucket_sql,
    micros,
    period_before,
    slots,
    where_sql,
)
from gateway.ledger.schema import as_cell
from gateway.ledger.store import Ask, Format

Name = tuple[str, ...] | None
"""A group's values; None = all that Top-N left out."""
BEFORE: Final = ("requests", "errors", "tokens", "tokens_in", "tokens_out", "amount", "base_amount", "engine_cost")
"""What is told of the period before."""
Report = dict[str, Any]


def report(ask: Ask, question: Question, rates: Currencies) -> Report:
    """Raises BadQuestion. See docs/reports.md for what it says."""
    question.check()
    return _Report(ask, question, rates).made()


class _Report:
    def __init__(self, ask: Ask, question: Question, rates: Currencies) -> None:
        self.ask, self.question = ask, question
        self.slots = slots(question)
        if len(self.slots) * ((question.top or TOP_MOST) + 1 if question.by else 1) > CELLS_MOST:
            raise BadQuestion("that is more than anybody reads: ask for fewer groups (--top), or larger buckets")
        self.before = period_before(question.since, question.until, question.tz) if question.before else question.since
        self.where, self.params = where_sql(question, self.before)
        self.measures = self._measures(rates)
        self.dims = ", ".join(f"{DIMENSIONS[word]} AS d{number}" for number, word in enumerate(question.by))
        self.ds = [f"d{number}" for number in range(len(question.by))]
        self.now: dict[Name, dict[Any, list[Any]]] = defaultdict(dict)
        """Sums of each group, by bucket or part of the trend."""
        self.old: dict[Name, list[Any]] = {}
        self.groups = 0
        self.latencies: Found = {}
        """TTFT of the whole (False), or of each group, by bucket."""

    def _measures(self, rates: Currencies) -> Measures:
        found = self.ask(f"SELECT DISTINCT currency, engine_currency FROM usage WHERE {self.where}", self.params).rows
        return Measures(known({one for one, _ in found}), known({one for _, one in found}), rates)

    def made(self) -> Report:
        self._gather()
        if self.question.latency:
            self._measure_latency()
        question, measures = self.question, self.measures
        total = self._told(None, (row for parts in self.now.values() for row in parts.values()), whole=True)
        old = measures.told(measures.sum(self.old.values())) if question.before else None
        self._compare(total, old, total)
        rows = [self._row(name, total) for name in self.now if name is not None and question.by]
        other = self._row(None, total) if None in self.now or (question.by and None in self.old) else None
        return {
            **{word: getattr(question, word) for word in ("since", "until", "zone", "bucket", "order", "top")},
            "by": list(question.by),
            "where": {word: list(values) for word, values in question.where.items()},
            "before": self.before if question.before else None,
            "currencies": measures.currencies,
            "engine_currencies": measures.engine_currencies,
            "base": measures.base,
            "groups": self.groups,
            "rows": rows,
            "other": {**other, "groups": self.groups - len(rows)} if other else None,
            "total": total,
            "buckets": [self._bucket(slot) for slot in self.slots],
            "series": [one for name in self.now if question.by for one in self._series(name)],
        }

    # -- asking --------------------------------------------------------------------------------------------------------

    def _gather(self) -> None:
        """Sums of the top groups and of the rest, by bucket, in one query."""
        question, measures, ds = self.question, self.measures, self.ds
        old = f"ts < make_timestamp({micros(question.since)})"
        part = self._part(old)
        most = question.top or TOP_MOST
        columns = f"{f'{self.dims}, ' if ds else ''}{old} AS old, {part} AS part, {measures.sql()}"
        grouped = f"SELECT {columns} FROM usage WHERE {self.where} GROUP BY ALL"
        if not ds:
            rows = self.ask(f"WITH g AS ({grouped}) SELECT 0, true, g.* FROM g", self.params, CELLS_MOST).rows
        else:
            keys = ", ".join(ds)
            ranked = f"SELECT {keys}, row_number() OVER (ORDER BY {measures.ranks(question.order)}, {keys}) AS place FROM g WHERE NOT old"
            same = " AND ".join(f"g.{d} = k.{d}" for d in ds)
            names = ", ".join(f"k.{d}" for d in ds)
            sql = (
                f"WITH g AS MATERIALIZED ({grouped}), r AS MATERIALIZED ({ranked} GROUP BY {keys}), "
                f"k AS (SELECT * FROM r WHERE place <= {most}) "
                f"SELECT (SELECT count(*) FROM r), place, {names}, old, part, {measures.added()} FROM g LEFT JOIN k ON {same} "
                "GROUP BY ALL ORDER BY place, part"
            )
            rows = self.ask(sql, self.params, 2 * CELLS_MOST).rows
        for self.groups, place, *values in rows:
            self._keep(place, values)

    def _part(self, old: str) -> str:
        question = self.question
        if question.bucket and self.slots:
            made = bucket_sql(question)[0]
        elif question.trend and question.until > question.since:
            width = max(1, -(-(micros(question.until) - micros(question.since)) // question.trend))
            made = f"CAST((epoch_us(ts) - {micros(question.since)}) // {width} AS INTEGER)"
        else:
            made = "0"
        return f"CASE WHEN {old} THEN NULL ELSE {made} END" if question.before else made

    def _keep(self, place: Any, values: Sequence[Any]) -> None:
        width = len(self.ds)
        name: Name = tuple(values[:width]) if place is not None else None
        old, part, sums = values[width], values[width + 1], list(values[width + 2 :])
        if old:
            self.old[name] = sums
        else:
            self.now[name][part] = sums

    def _measure_latency(self) -> None:
        where = f"{self.where} AND ts >= make_timestamp({micros(self.question.since)})"
        dims = [DIMENSIONS[word] for word in self.question.by]
        part = bucket_sql(self.question)[0] if self.slots else ""
        requests = sum(sums[0] for parts in self.now.values() for sums in parts.values())
        self.latencies = latencies(self.ask, where, self.params, dims, list(self.now), part, requests, 2 * CELLS_MOST)

    # -- telling -------------------------------------------------------------------------------------------------------

    def _told(self, name: Name, rows: Iterable[Sequence[Any]], *, whole: bool = False, part: Any = None) -> Figures:
        found = self.measures.told(self.measures.sum(rows))
        first = self.latencies.get((not whole, name, part))
        found["ttft_p50"], found["ttft_p95"] = first or (None, None)
        return found

    def _row(self, name: Name, total: Figures) -> Figures:
        parts = self.now.get(name, {})
        found: Figures = {**self._named(name), **self._told(name, parts.values())}
        old = self.measures.told(self.old.get(name, self.measures.nothing())) if self.question.before else None
        self._compare(found, old, total)
        if self.question.trend or self.slots:
            found["trend"] = self._trend(parts)
        return found

    def _named(self, name: Name) -> Figures:
        return {word: name[number] if name is not None else None for number, word in enumerate(self.question.by)}

    def _compare(self, found: Figures, old: Figures | None, total: Figures) -> None:
        """share: of the whole. change: against the period before, 0.5 = half as much again; None = there was nothing."""
        of, order = self.measures.of_order, self.question.order
        mine = of(found, order)
        found["share"] = ratio(mine, of(total, order))
        if old is not None:
            was = of(old, order)
            found["before"] = {word: old[word] for word in BEFORE}
            found["change"] = ratio(mine - was, was) if mine is not None and was is not None else None

    def _trend(self, parts: dict[Any, list[Any]]) -> list[float]:
        """The order's figure of each bucket, or part of the time, for a line of bars."""
        keys = [slot.key for slot in self.slots] if self.slots else list(range(self.question.trend))
        nothing = self.measures.nothing()
        found = (self.measures.of_order(self.measures.told(parts.get(key, nothing)), self.question.order) for key in keys)
        return [float(one or Decimal(0)) for one in found]

    def _bucket(self, slot: Slot) -> Figures:
        rows = [parts[slot.key] for parts in self.now.values() if slot.key in parts]
        return {"begin": slot.begin, "label": slot.label, **self._told(None, rows, whole=True, part=slot.key)}

    def _series(self, name: Name) -> list[Figures]:
        """A group's buckets, those with nothing left out."""
        parts = self.now[name]
        return [
            {**self._named(name), "begin": slot.begin, "label": slot.label, **self._told(name, [parts[slot.key]], part=slot.key)}
            for slot in self.slots
            if slot.key in parts
        ]


# -- as a table --------------------------------------------------------------------------------------------------------


def flat(question: Question, form: Format) -> tuple[str, list[Any]]:
    """SQL of everything that a report says, as one row for each bucket, group and pair of currencies: to be written into a file."""
    question.check()
    where, params = where_sql(question, question.since)
    columns = [f"{bucket_sql(question)[1]} AS {question.bucket}"] if question.bucket else []
    written = DIMENSIONS | {"model": as_cell(DIMENSIONS["model"])} if form == "csv" else DIMENSIONS
    columns += [f'{written[word]} AS "{word}"' for word in question.by]
    columns += [f"CAST({sql} AS BIGINT) AS {name}" for name, sql in COUNTED.items() if name not in HIDDEN]
    money = "CAST({} AS VARCHAR)" if form == "json" else "{}"
    columns += ["amount IS NOT NULL AS priced", "nullif(currency, '') AS currency", f"{money.format('sum(amount)')} AS amount"]
    columns += ["nullif(engine_currency, '') AS engine_currency", f"{money.format('sum(engine_cost)')} AS engine_cost"]
    return f"SELECT {', '.join(columns)} FROM usage WHERE {where} GROUP BY ALL ORDER BY ALL", params

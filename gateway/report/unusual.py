"""Hours of the ledger that are out of the ordinary: as a list for people, and as the series that the two kinds of anomaly go by.

An hour is whole LATE seconds after its end, when its last requests have come into the ledger.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from gateway.alert.anomaly import HOURS, Baseline
from gateway.alert.kinds import cost_anomaly, usage_anomaly
from gateway.ledger.series import BY, HOUR, Series, hourly, hourly_of_all, main_currency
from gateway.ledger.store import UNUSABLE, Store, StoreFailure

LATE: Final = 120.0
LEAST: Final = {"tokens": usage_anomaly.LEAST, "requests": 20.0, "cost": cost_anomaly.LEAST}
"""How much an anomaly differs by at least, an hour."""
WORD: Final = {"tokens": "tokens", "requests": "requests", "cost": "amount"}
LISTED: Final = 1000
_other = re.compile(r" \(([A-Z]{3})\)$")
"""How the name of a series says that its amounts are of another currency, see `series`."""


class Hours:
    """What alerts look at. Asked from any thread; asks the ledger for what is over once an hour, and for the running hour each time."""

    def __init__(self, store: Any, clock: Any) -> None:
        """store: gives the ledger's store, None = it is not ready. clock: Unix seconds."""
        self._store, self._clock = store, clock
        self._kept: dict[tuple[str, str], tuple[int, str, Series]] = {}
        """By kind and dimension: the last hour, the currency that has no name, the hours before."""

    def series(self, kind: str, by: str, hours: int) -> Mapping[str, Sequence[float | None]] | None:
        """See `alert.facts.Series`. While the ledger cannot say, what it said last."""
        last = int((self._clock() - LATE) // HOUR)
        kept = self._kept.get((kind, by))
        try:
            store = self._store()
            if store is None:
                raise StoreFailure(UNUSABLE, "it is not ready")
            if kept is None or kept[0] != last:
                main = main_currency(store, last - 1, hours - 1)
                kept = self._kept[kind, by] = (last, main, hourly(store, kind, by, last - 1, hours - 1, main))
            running = hourly(store, kind, by, last, 1, kept[1])
        except StoreFailure:
            return {name: [*values, None] for name, values in kept[2].items()} if kept is not None else None
        known = any(values[-1] is not None for values in running.values())
        return {name: [*values, *running.get(name, [0.0 if known else None])] for name, values in kept[2].items()}


def unusual(store: Store, since: float, now: float, sensitivity: str) -> list[dict[str, Any]]:
    """Whole hours since then (Unix seconds) that are anomalies, the newest first. Blocks for seconds. Raises StoreFailure."""
    last = int((now - LATE) // HOUR) - 1
    looked = max(1, min(last - int(since // HOUR) + 1, HOURS))
    found: list[dict[str, Any]] = []
    main = main_currency(store, last, HOURS + looked)
    for by in BY:
        for kind, series in hourly_of_all(store, by, last, HOURS + looked, main).items():
            for one in _of(series, kind, by, last, looked, sensitivity):
                other = _other.search(one["name"])
                found.append({**one, "currency": None if kind != "cost" else other[1] if other else main})
    return sorted(found, key=lambda one: (-one["hour"], one["what"], one["by"], one["name"]))[:LISTED]


def _of(series: Series, kind: str, by: str, last: int, looked: int, sensitivity: str) -> Iterator[dict[str, Any]]:
    for name, hours in series.items():
        if max((value for value in hours if value is not None), default=0.0) < LEAST[kind]:
            continue  # it cannot differ by that much
        baseline = Baseline(hours, LEAST[kind])
        for at in range(len(hours) - looked, len(hours)):
            verdict = baseline.judge(at, sensitivity)
            if verdict is not None:
                yield {
                    "hour": float((last - (len(hours) - 1 - at)) * HOUR),
                    "what": WORD[kind],
                    "by": by,
                    "name": name,
                    "kind": verdict.kind,
                    "value": round(verdict.value, 2),
                    "baseline": round(verdict.expected, 2),
                    "times": round(verdict.value / verdict.expected, 2) if verdict.expected else None,
                    "deviations": round(verdict.deviations, 1),
                }

"""Budgets and forecasts from the ledger: what is spent of each, what is left, and what will be spent when the day or the month is over."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any, Final, Literal

from gateway.config.hours import zone_of
from gateway.config.resolved import Key, Resolved
from gateway.config.resolved_limits import Limit
from gateway.config.resolved_prices import Currencies
from gateway.ledger.figures import text
from gateway.ledger.question import DIMENSIONS, BadQuestion, Question, bucket_sql, where_sql
from gateway.ledger.report import report
from gateway.ledger.store import Ask
from gateway.price.forecast import Day, by_weekday, days_of, weekdays
from gateway.price.rates import Rates
from gateway.referee.view import owner_of

HISTORY: Final = 28
"""Days whose weekdays tell what is still to come."""
NAMES_MOST: Final = 300_000
"""Days times names of one kind."""
Told = dict[str, Any]
Per = Literal["day", "month"]
_KINDS: Final = {"tenant": "tenant", "project": DIMENSIONS["project"], "key": '"key"', "model": "model"}


def budgets(ask: Ask, config: Resolved, keys: Sequence[Key], name: Callable[[str], str], now: float) -> list[Told]:
    """Each budget, the fullest first. name: the virtual model that a caller's name means."""
    placed = [(place, limit) for place, limits in config.limits.items() for limit in limits if limit.budget]
    placed += [(f"keys/{key.id}", limit) for key in keys for limit in key.limits if limit.budget]
    spent = _Spent(ask, config.currencies, name, now)
    found = [spent.of(place, limit) for place, limit in placed]
    return sorted(found, key=lambda one: (-one["percent"], one["scope"], one["owner"]))


class _Spent:
    """Sums by day, asked for once for each kind of owner and zone."""

    def __init__(self, ask: Ask, currencies: Currencies, name: Callable[[str], str], now: float) -> None:
        self._ask, self._rates, self._name, self._now = ask, Rates(currencies), name, now
        self._known: dict[tuple[str, str], dict[str, dict[datetime, Told]]] = {}

    def of(self, place: str, limit: Limit) -> Told:
        scope, owner = owner_of(place)
        zone, per = limit.zone or "UTC", "day" if limit.per == "day" else "month"
        tz = zone_of(zone)
        begin, end = bounds(self._now, per, tz)
        days, missing, unpriced = self._days(scope, owner, zone, tz, limit.currency, begin)
        spent = sum(amount for day, amount in days.items() if day >= _midnight(begin, tz))
        whole = limit.budget * 1000
        return {
            "scope": scope,
            "owner": owner,
            "per": per,
            "zone": zone,
            "begin": begin,
            "end": end,
            "currency": limit.currency,
            "budget": _money(whole),
            "spent": _money(spent),
            "left": _money(max(0, whole - spent)),
            "percent": spent * 100 // whole,
            "forecast": _money(ahead(spent, days, begin, end, self._now, tz)),
            "warn": list(limit.warn),
            "stop": limit.stop or None,
            "unpriced": unpriced,
            "unknown_currencies": sorted(missing),
        }

    def _days(
        self, scope: str, owner: str, zone: str, tz: tzinfo, currency: str, begin: float
    ) -> tuple[dict[datetime, int], set[str], int]:
        """Nanos by day, in this currency; currencies that no rate leads from; requests of the period without a price."""
        known = self._known.get((scope, zone))
        if known is None:
            known = self._known[scope, zone] = self._read(scope, zone, tz)
        days: dict[datetime, int] = defaultdict(int)
        missing: set[str] = set()
        unpriced = 0
        for day, told in known.get(owner, {}).items():
            unpriced += told["unpriced"] if day >= _midnight(begin, tz) else 0
            for code, nanos in told["amounts"].items():
                found = self._rates.nanos(nanos, code, currency)
                if found is None:
                    missing.add(code)
                else:
                    days[day] += found
        return days, missing, unpriced

    def _read(self, scope: str, zone: str, tz: tzinfo) -> dict[str, dict[datetime, Told]]:
        if scope not in _KINDS:
            return {}
        since = min(bounds(self._now, "month", tz)[0], _days_ago(self._now, HISTORY, tz))
        question = Question(since=since, until=self._now, zone=zone, bucket="day")
        where, params = where_sql(question, since)
        sums = "coalesce(currency, ''), coalesce(sum(amount), 0), count(*) FILTER (amount IS NULL)"
        sql = f"SELECT {_KINDS[scope]} AS name, {bucket_sql(question)[0]} AS day, {sums} FROM usage WHERE {where} GROUP BY ALL"
        found: dict[str, dict[datetime, Told]] = defaultdict(dict)
        for name, number, code, amount, unpriced in self._ask(sql, params, NAMES_MOST).rows:
            day = datetime(1970, 1, 1) + timedelta(days=number)
            told = found[self._name(name) if scope == "model" else name].setdefault(day, {"amounts": defaultdict(int), "unpriced": 0})
            told["unpriced"] += unpriced
            if code:
                told["amounts"][code] += int(amount.scaleb(9))
        return found


def forecasts(ask: Ask, question: Question, rates: Currencies, now: float, per: Per) -> Told:
    """What groups will have spent at the end of the day or month, each currency by itself, by what they spent on such weekdays."""
    tz = question.tz
    if len(question.by) > 1:
        raise BadQuestion("a forecast is by one thing")
    begin, end = bounds(now, per, tz)
    since = min(begin, _days_ago(now, HISTORY, tz))
    asked = Question(
        since=since, until=now, zone=question.zone, by=question.by, where=question.where, top=question.top, order="amount", bucket="day",
        latency=False,
    )  # fmt: skip
    found = report(ask, asked, rates)
    days = days_of(since, now, tz)
    groups: dict[str | None, list[Told]] = defaultdict(list)
    for one in found["series"]:
        groups[one[question.by[0]]].append(one)

    def line(series: Iterable[Told]) -> Told:
        return _forecast(series, found, days, begin, end, now, tz)

    rows = [{question.by[0]: row[question.by[0]], **line(groups[row[question.by[0]]])} for row in found["rows"]]
    other = {question.by[0]: None, "groups": found["other"]["groups"], **line(groups[None])} if found["other"] else None
    return {
        "by": list(question.by), "zone": question.zone, "per": per, "begin": begin, "end": end, "now": now,
        "currencies": found["currencies"], "base": found["base"],
        "rows": rows, "other": other, "total": line(found["buckets"]),
    }  # fmt: skip


def _forecast(series: Iterable[Told], found: Told, days: list[Day], begin: float, end: float, now: float, tz: tzinfo) -> Told:
    sums: dict[str, dict[datetime, int]] = defaultdict(lambda: defaultdict(int))
    trend: dict[float, Decimal] = defaultdict(Decimal)
    for one in series:
        for code, amount in one["amount"].items():
            sums[code][_midnight(one["begin"], tz)] += int(Decimal(amount).scaleb(9))
        trend[one["begin"]] += Decimal(one["base_amount"] or next(iter(one["amount"].values()), "0"))
    first = _midnight(begin, tz)
    spent = {code: sum(nanos for day, nanos in sums[code].items() if day >= first) for code in found["currencies"] if code in sums}
    return {
        "spent": {code: _money(nanos) for code, nanos in spent.items()},
        "forecast": {code: _money(ahead(nanos, sums[code], begin, end, now, tz)) for code, nanos in spent.items()},
        "trend": [float(trend.get(day.begin, 0)) for day in days],
    }


def ahead(spent: int, days: dict[datetime, int], begin: float, end: float, now: float, tz: tzinfo) -> int:
    """Nanos at the end. days: what was spent on each; those before today tell what weekdays weigh, from the first that spent anything."""
    today = _midnight(now, tz)
    first = min(days, default=today)
    history = [first + timedelta(days=number) for number in range((today - first).days)]
    weights = weekdays((day.weekday(), days.get(day, 0)) for day in history)
    return by_weekday(spent, now, days_of(begin, end, tz), weights)


def bounds(now: float, per: str, tz: tzinfo) -> tuple[float, float]:
    """Of the day or month that it is."""
    first = _midnight(now, tz)
    if per == "day":
        return first.replace(tzinfo=tz).timestamp(), (first + timedelta(days=1)).replace(tzinfo=tz).timestamp()
    first = first.replace(day=1)
    last = datetime(first.year + first.month // 12, first.month % 12 + 1, 1)
    return first.replace(tzinfo=tz).timestamp(), last.replace(tzinfo=tz).timestamp()


def _midnight(ts: float, tz: tzinfo) -> datetime:
    return datetime.fromtimestamp(ts, tz).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)


def _days_ago(now: float, number: int, tz: tzinfo) -> float:
    return (_midnight(now, tz) - timedelta(days=number)).replace(tzinfo=tz).timestamp()


def _money(nanos: int) -> str:
    return text(Decimal(nanos).scaleb(-9))

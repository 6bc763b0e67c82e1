"""Budgets and forecasts from the ledger: what is spent of each, what is left, and what will be spent when the day or the month is over."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec

from gateway.config.hours import zone_of
from gateway.config.resolved import Key, Resolved
from gateway.config.resolved_limits import Limit
from gateway.config.resolved_prices import Currencies
from gateway.ledger.figures import text
from gateway.ledger.question import DIMENSIONS, BadQuestion, Question, bucket_sql, hour_of_week_sql, where_sql
from gateway.ledger.report import report
from gateway.ledger.store import Ask
from gateway.price.forecast import LEAST_DAYS, by_hours, forecast, hours_of, weigh
from gateway.price.rates import Rates
from gateway.referee.view import owner_of

HISTORY: Final = 28
"""Days whose hours tell what is still to come."""
NAMES_MOST: Final = 300_000
"""Days times names of one kind."""
SLOTS_MOST: Final = 2_000_000
"""Hours of the week times names."""
WEEK, RATE = "hours of the week", "rate"
"""What a forecast goes by: what such hours of the week had, or, without two weeks of history, the share of the time that has passed."""
Told = dict[str, Any]
Slots = dict[str, dict[int, int]]
"""Nanos by currency and hour of the week."""
Per = Literal["day", "month"]
_KINDS: Final = {"tenant": "tenant", "project": DIMENSIONS["project"], "key": '"key"', "model": "model"}


def budgets(ask: Ask, config: Resolved, keys: Sequence[Key], name: Callable[[str], str], now: float) -> list[Told]:
    """Each budget, the fullest first. name: the virtual model that a caller's name means."""
    placed = [(place, limit) for place, limits in config.limits.items() for limit in limits if limit.budget]
    placed += [(f"keys/{key.id}", limit) for key in keys for limit in key.limits if limit.budget]
    spent = _Spent(ask, config.currencies, name, now, [owner_of(place) for place, _ in placed])
    found = [spent.of(place, limit) for place, limit in placed]
    return sorted(found, key=lambda one: (-one["percent"], one["scope"], one["owner"]))


class _Spent:
    """Sums by day, asked for once for each kind of owner and zone."""

    def __init__(self, ask: Ask, currencies: Currencies, name: Callable[[str], str], now: float, owners: Iterable[tuple[str, str]]) -> None:
        self._ask, self._rates, self._name, self._now = ask, Rates(currencies), name, now
        self._owners = list(owners)
        self._known: dict[tuple[str, str], dict[str, dict[datetime, Told]]] = {}
        self._hours: dict[tuple[str, str], dict[str, Slots]] = {}

    def of(self, place: str, limit: Limit) -> Told:
        scope, owner = owner_of(place)
        zone, per = limit.zone or "UTC", "day" if limit.per == "day" else "month"
        tz = zone_of(zone)
        begin, end = bounds(self._now, per, tz)
        days, missing, unpriced = self._days(scope, owner, zone, tz, limit.currency, begin)
        spent = sum(amount for day, amount in days.items() if day >= _midnight(begin, tz))
        whole = limit.budget * 1000
        expected, basis = ahead(spent, days, self._pattern(scope, owner, zone, limit.currency), begin, end, self._now, tz)
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
            "forecast": _money(expected),
            "basis": basis,
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

    def _pattern(self, scope: str, owner: str, zone: str, currency: str) -> dict[int, int]:
        """Nanos of the history by hour of the week, in this currency."""
        known = self._hours.get((scope, zone))
        if known is None:
            question = _history(Question(since=0, until=self._now, zone=zone), self._now)
            owners = None if scope == "model" else [name for kind, name in self._owners if kind == scope]
            read = _slots(self._ask, question, _KINDS[scope], owners) if scope in _KINDS else {}
            known = self._hours[scope, zone] = defaultdict(lambda: defaultdict(dict))
            for name, slots in read.items():
                _add(known[self._name(name) if scope == "model" else name], slots)
        found: dict[int, int] = defaultdict(int)
        for code, sums in known.get(owner, {}).items():
            for slot, nanos in sums.items():
                found[slot] += self._rates.nanos(nanos, code, currency) or 0
        return found

    def _read(self, scope: str, zone: str, tz: tzinfo) -> dict[str, dict[datetime, Told]]:
        if scope not in _KINDS:
            return {}
        since = _since(self._now, tz)
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
    """What groups will have spent at the end of the day or month, each currency by itself, by what such hours of the week had."""
    tz = question.tz
    if len(question.by) > 1:
        raise BadQuestion("a forecast is by one thing")
    begin, end = bounds(now, per, tz)
    since = _since(now, tz)
    asked = Question(
        since=since, until=now, zone=question.zone, by=question.by, where=question.where, top=question.top, order="amount", bucket="day",
        latency=False,
    )  # fmt: skip
    found = report(ask, asked, rates)
    names = [row[question.by[0]] for row in found["rows"]] if question.by else []
    past = _history(question, now)
    whole = _slots(ask, past, "''", None).get("", {})
    slots = _slots(ask, past, DIMENSIONS[question.by[0]], names) if question.by else {}
    groups: dict[str | None, list[Told]] = defaultdict(list)
    for one in found["series"]:
        groups[one[question.by[0]]].append(one)

    def line(series: Iterable[Told], pattern: Slots) -> Told:
        return _forecast(series, found, pattern, since, begin, end, now, tz)

    rows = [{question.by[0]: name, **line(groups[name], slots.get(name, {}))} for name in names]
    other = None
    if found["other"]:
        rest = line(groups[None], _without(whole, slots.values()))
        other = {question.by[0]: None, "groups": found["other"]["groups"], **rest}
    return {
        "by": list(question.by), "zone": question.zone, "per": per, "begin": begin, "end": end, "now": now,
        "currencies": found["currencies"], "base": found["base"],
        "rows": rows, "other": other, "total": line(found["buckets"], whole),
    }  # fmt: skip


def _forecast(series: Iterable[Told], found: Told, pattern: Slots, since: float, begin: float, end: float, now: float, tz: tzinfo) -> Told:
    sums: dict[str, dict[datetime, int]] = defaultdict(lambda: defaultdict(int))
    trend: dict[datetime, Decimal] = defaultdict(Decimal)
    for one in series:
        day = _midnight(one["begin"], tz)
        for code, amount in one["amount"].items():
            sums[code][day] += int(Decimal(amount).scaleb(9))
        trend[day] += Decimal(one["base_amount"] or next(iter(one["amount"].values()), "0"))
    first, today = _midnight(begin, tz), _midnight(now, tz)
    spent = {code: sum(nanos for day, nanos in sums[code].items() if day >= first) for code in found["currencies"] if code in sums}
    ends = {code: ahead(nanos, sums[code], pattern.get(code, {}), begin, end, now, tz) for code, nanos in spent.items()}
    shown = _midnight(since, tz)
    return {
        "spent": {code: _money(nanos) for code, nanos in spent.items()},
        "forecast": {code: _money(nanos) for code, (nanos, _) in ends.items()},
        "basis": {code: basis for code, (_, basis) in ends.items()},
        "trend": [float(trend.get(shown + timedelta(days=number), 0)) for number in range((today - shown).days + 1)],
    }


def ahead(
    spent: int, days: Mapping[datetime, int], pattern: Mapping[int, int], begin: float, end: float, now: float, tz: tzinfo
) -> tuple[int, str]:
    """Nanos at the end, and what that goes by. days: what was spent on each. pattern: of those before today, by hour of the week."""
    today = _midnight(now, tz)
    first = min(days, default=today)
    if (today - first).days < LEAST_DAYS:
        return forecast(spent, begin, now, end), RATE
    weights = weigh(pattern, hours_of(_stamp(first, tz), _stamp(today, tz), tz))
    return by_hours(spent, now, hours_of(begin, end, tz), weights), WEEK


def _since(now: float, tz: tzinfo) -> float:
    """From when on the past is looked at, whatever the forecast is of."""
    return min(bounds(now, "month", tz)[0], _days_ago(now, HISTORY, tz))


def _history(question: Question, now: float) -> Question:
    """The same, of the whole days before today."""
    tz = question.tz
    return Question(since=_since(now, tz), until=_stamp(_midnight(now, tz), tz), zone=question.zone, where=question.where)


def _slots(ask: Ask, question: Question, name: str, names: Sequence[str] | None) -> dict[str, Slots]:
    """What was spent, by name, currency and hour of the week. name: SQL. names: those that are wanted, None = all."""
    where, params = where_sql(question, question.since)
    if names is not None:
        where += f" AND {name} IN (SELECT unnest(CAST(CAST(? AS JSON) AS VARCHAR[])))"
        params = [*params, msgspec.json.encode(list(names)).decode()]
    asked = f"SELECT {name} AS name, currency, {hour_of_week_sql(question)} AS slot, sum(amount) FROM usage"
    sql = f"{asked} WHERE {where} AND amount > 0 GROUP BY ALL"
    found: dict[str, Slots] = defaultdict(lambda: defaultdict(dict))
    for owner, code, slot, amount in ask(sql, params, SLOTS_MOST).rows:
        found[owner][code][slot] = int(amount.scaleb(9))
    return found


def _add(sums: Slots, more: Slots) -> None:
    for code, slots in more.items():
        for slot, nanos in slots.items():
            sums[code][slot] = sums[code].get(slot, 0) + nanos


def _without(whole: Slots, parts: Iterable[Slots]) -> Slots:
    rest = {code: dict(slots) for code, slots in whole.items()}
    for part in parts:
        for code, slots in part.items():
            for slot, nanos in slots.items():
                rest[code][slot] -= nanos
    return rest


def _stamp(local: datetime, tz: tzinfo) -> float:
    return local.replace(tzinfo=tz).timestamp()


def bounds(now: float, per: str, tz: tzinfo) -> tuple[float, float]:
    """Of the day or month that it is."""
    first = _midnight(now, tz)
    if per == "day":
        return first.replace(tzinfo=tz).timestamp(), (first + timedelta(days=1)).replace(tzinfo=tz).timestamp()
    first = first.replace(day=1)
    last = datetime(first.year + first.month // 12, first.month % 12 + 1, 1)
    return first.replace(tzinfo=tz).timestamp(), last.replace(tzinfo=tz).timestamp()


def _midnight(ts: float, tz: tzinfo) -> datetime:
    return datetime.fromtimestamp(ts, tz).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None, fold=0)


def _days_ago(now: float, number: int, tz: tzinfo) -> float:
    return (_midnight(now, tz) - timedelta(days=number)).replace(tzinfo=tz).timestamp()


def _money(nanos: int) -> str:
    return text(Decimal(nanos).scaleb(-9))

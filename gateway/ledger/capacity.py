"""What own hardware costs, in a report: the hours of a time by their price, shared by engine time, what stood idle as its own line."""

from collections import defaultdict
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

from gateway.config.globs import matches
from gateway.config.resolved_prices import Cost
from gateway.ledger.figures import ratio, text
from gateway.ledger.question import DIMENSIONS, BadQuestion, Question, micros, where_sql
from gateway.ledger.store import Ask
from gateway.price.capacity import HOUR, Shares, Used, shares

MOST: Final = 100_000
"""Groups of all channels together."""
_BEGIN: Final = "epoch_us(ts) + CAST(round((ms_read + ms_queue) * 1000) AS BIGINT)"
_MINE: Final = "channel IN (SELECT unnest(CAST(CAST(? AS JSON) AS VARCHAR[])))"
Told = dict[str, Any]


def capacity(ask: Ask, question: Question, costs: Mapping[str, Cost], now: float) -> Told:
    """Of channels with `cost.per_hour`. by: what the busy time is shared among, the tenant when nothing is said. Until now at most."""
    question.check()
    if len(question.by) > 1 or set(question.where) - {"channel"}:
        raise BadQuestion("the cost of capacity is by one thing, and of channels alone: what the others used is part of it")
    until = max(question.since, min(question.until, now))
    question = msgspec.structs.replace(question, by=question.by or ("tenant",), until=until)
    wanted = {name: cost for name, cost in costs.items() if _wanted(question, name)}
    used, busy = _used(ask, question, list(wanted)), _busy(ask, question, list(wanted))
    word, long = question.by[0], micros(until) - micros(question.since)
    channels, groups = [], defaultdict[str, dict[str, list[int]]](lambda: defaultdict(lambda: [0, 0, 0]))
    for name, cost in wanted.items():
        mine = used.get(name, {})
        found = shares(cost.per_hour, long, busy.get(name, 0), list(mine.values()))
        for (group, use), nanos in zip(mine.items(), found.parts, strict=True):
            sums = groups[group][cost.currency]
            sums[0], sums[1], sums[2] = sums[0] + nanos, sums[1] + use.micros, sums[2] + use.tokens
        channels.append(_channel(name, cost, found, long, busy.get(name, 0), list(mine.values())))
    return {
        **{one: getattr(question, one) for one in ("since", "until", "zone", "top")},
        "by": word,
        "channels": channels,
        **_groups(groups, word, question.top, channels),
    }


def _wanted(question: Question, name: str) -> bool:
    globs = question.where.get("channel")
    return globs is None or any(matches(glob, name) for glob in globs)


def _spans(question: Question, names: list[str]) -> tuple[str, list[Any]]:
    """SQL of attempts: channel, group, begin and end in microseconds, tokens. Of failed attempts nobody knows when they began: they
    are laid one after the other."""
    stretch, params = where_sql(msgspec.structs.replace(question, where={}), question.since)
    group, listed = DIMENSIONS[question.by[0]], msgspec.json.encode(names).decode()
    one = (
        f"SELECT channel, {group} AS name, {_BEGIN} AS s, epoch_us(ts) + CAST(round(ms_total * 1000) AS BIGINT) AS e, "
        f"tokens_in + tokens_out AS tokens FROM usage WHERE {stretch} AND n_attempts <= 1 AND {_MINE}"
    )
    ahead = "coalesce(list_sum(list_transform(attempts[1:i - 1], lambda x: x.ms)), 0)"
    each = f"SELECT *, {group} AS name, unnest(attempts) AS a, generate_subscripts(attempts, 1) AS i"
    many = f"{each} FROM usage WHERE {stretch} AND n_attempts > 1"
    several = (
        f"SELECT a.channel AS channel, name, {_BEGIN} + CAST(round({ahead} * 1000) AS BIGINT) AS s, s + CAST(round(a.ms * 1000) AS BIGINT) "
        f"AS e, CASE WHEN i = n_attempts THEN tokens_in + tokens_out ELSE 0 END AS tokens FROM ({many}) WHERE a.{_MINE}"
    )
    return f"{one} UNION ALL {several}", [*params, listed, *params, listed]


def _used(ask: Ask, question: Question, names: list[str]) -> dict[str, dict[str, Used]]:
    spans, params = _spans(question, names)
    sums = "SELECT channel, name, sum(greatest(e - s, 0)), sum(tokens)"
    rows = ask(f"{sums} FROM ({spans}) GROUP BY ALL ORDER BY 1, 3 DESC, 2", params, MOST)
    if rows.cut:
        raise BadQuestion(f"there are more than {MOST} groups: choose another --by")
    found: dict[str, dict[str, Used]] = defaultdict(dict)
    for channel, name, spent, tokens in rows.rows:
        found[channel][name] = Used(int(spent), int(tokens))
    return found


def _busy(ask: Ask, question: Question, names: list[str]) -> dict[str, int]:
    """Microseconds in which at least one request was there."""
    spans, params = _spans(question, names)
    window = "max(e) OVER (PARTITION BY channel ORDER BY s, e ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
    clipped = f"SELECT channel, s, least(e, {micros(question.until)}) AS e FROM ({spans})"
    gone = f"SELECT channel, e, greatest(s, coalesce({window}, s)) AS s FROM ({clipped})"
    return {name: int(spent) for name, spent in ask(f"SELECT channel, sum(greatest(e - s, 0)) FROM ({gone}) GROUP BY 1", params).rows}


def _channel(name: str, cost: Cost, found: Shares, long: int, busy: int, uses: list[Used]) -> Told:
    return {
        "channel": name,
        "currency": cost.currency,
        "per_hour": _money(cost.per_hour),
        "hours": round(long / HOUR, 3),
        "busy": ratio(Decimal(min(busy, long)), Decimal(long)),
        "engine_seconds": round(sum(use.micros for use in uses) / 1_000_000, 3),
        "tokens": sum(use.tokens for use in uses),
        "amount": _money(found.whole),
        "used": _money(found.whole - found.idle),
        "idle": _money(found.idle),
        "per_million": _money(found.per_million),
        "busy_per_million": _money(found.busy_per_million),
    }


def _groups(groups: Mapping[str, Mapping[str, list[int]]], word: str, top: int, channels: list[Told]) -> Told:
    """Who used it, of all channels together, by currency; the rest and what stood idle are lines of their own."""
    rows, others, totals, idles = [], [], [], []
    for currency in dict.fromkeys(one["currency"] for one in channels):
        mine = [(name, sums[currency]) for name, sums in groups.items() if currency in sums]
        mine.sort(key=lambda one: (-one[1][0], one[0]))
        whole = sum((Decimal(one["amount"]) for one in channels if one["currency"] == currency), Decimal(0))
        idle = sum((Decimal(one["idle"]) for one in channels if one["currency"] == currency), Decimal(0))
        most = top or len(mine)
        rows += [_line(name, currency, sums, whole, word) for name, sums in mine[:most]]
        if mine[most:]:
            rest = [sum(part) for part in zip(*(sums for _, sums in mine[most:]), strict=True)]
            others.append({**_line(None, currency, rest, whole, word), "groups": len(mine) - most})
        idles.append({"currency": currency, "amount": text(idle), "share": ratio(idle, whole)})
        tokens = sum(sums[2] for _, sums in mine)
        each = text((whole * 1_000_000 / tokens).quantize(Decimal("1e-9"))) if tokens else None
        totals.append({"currency": currency, "amount": text(whole), "tokens": tokens, "per_million": each})
    return {"rows": rows, "others": others, "idle": idles, "total": totals}


def _line(name: str | None, currency: str, sums: list[int], whole: Decimal, word: str) -> Told:
    nanos, spent, tokens = sums
    amount = Decimal(nanos).scaleb(-9)
    return {
        word: name,
        "currency": currency,
        "amount": text(amount),
        "share": ratio(amount, whole),
        "engine_seconds": round(spent / 1_000_000, 3),
        "tokens": tokens,
    }


def _money(nanos: int | None) -> str | None:
    return None if nanos is None else text(Decimal(nanos).scaleb(-9))

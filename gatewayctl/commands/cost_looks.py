"""How `gatewayctl cost` shows what it was told."""

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from gatewayctl import charts, show
from gatewayctl.commands import figures
from gatewayctl.commands.asking import Asked, moment, zone_named
from gatewayctl.session import Session
from gatewayctl.show import Column
from gatewayctl.trouble import USAGE, Trouble

Told = dict[str, Any]


def _sum(title: str, word: str) -> Column:
    return Column(title, lambda row: charts.money(row.get(word)), "right")


BUDGETS = [
    Column("of", lambda b: f"{b['scope']} {b['owner']}".strip()),
    Column("per", lambda b: b["per"] if b["zone"] == "UTC" else f"{b['per']} ({b['zone']})"),
    Column("budget", lambda b: f"{charts.money(b['budget'])} {b['currency']}", "right"),
    _sum("spent", "spent"),
    _sum("left", "left"),
    Column("%", lambda b: f"{b['percent']}%", "right"),
    Column("", lambda b: charts.bar(b["percent"] / 100, 12) or " "),
    _sum("at the end", "forecast"),
    Column("by", lambda b: "week" if b.get("basis") == "hours of the week" else "rate"),
    Column("warns at", lambda b: ", ".join(f"{one}%" for one in b["warn"]) or None),
    Column("stops at", lambda b: f"{b['stop']}%" if b["stop"] else None),
]

BUDGET_FIELDS = (
    "scope owner per zone begin end currency budget spent left percent forecast basis warn stop unpriced unknown_currencies".split()
)


def print_report(session: Session, report: Told, bucket: str) -> None:
    """By group, or over time."""
    money = figures.money_columns(report)
    counted = [Column("requests", lambda row: charts.count(row.get("requests")), "right")]
    counted.append(Column("tokens", lambda row: charts.count(row.get("tokens")), "right"))
    if bucket and not report["by"]:
        most = max((_amount(one) for one in report["buckets"]), default=0.0)
        drawn = Column("", lambda row: charts.bar(_amount(row) / most, 20) if most and not row.get("kind") else " ")
        labels = Column(bucket, lambda row: row.get("kind") or row.get("label"))
        rows = [*report["buckets"], {**report["total"], "kind": figures.TOTAL}]
        print(show.table(session, rows, [labels, *counted, *money, drawn]))
        return
    columns = [*figures.groups(report["by"] or ["all"]), *counted, *money, *figures.share_columns(report)]
    print(show.table(session, figures.lines(report), columns))


def _amount(row: Mapping[str, Any]) -> float:
    if row.get("base_amount") is not None:
        return float(row["base_amount"])
    return float(next(iter(row["amount"].values()), 0))


# -- capacity ----------------------------------------------------------------------------------------------------------

CHANNELS = [
    Column("channel", lambda c: c["channel"]),
    Column("hours", lambda c: f"{c['hours']:,.1f}", "right"),
    Column("per hour", lambda c: f"{charts.money(c['per_hour'])} {c['currency']}", "right"),
    _sum("cost", "amount"),
    _sum("used", "used"),
    _sum("idle", "idle"),
    Column("busy", lambda c: charts.percent(c["busy"]), "right"),
    Column("", lambda c: charts.bar(c["busy"], 12) or " "),
    Column("tokens", lambda c: charts.count(c["tokens"]), "right"),
    _sum("per 1M tokens", "per_million"),
    _sum("while busy", "busy_per_million"),
]


_USE = ("share", "engine_seconds", "tokens", "per_million")


def print_capacity(session: Session, found: Told, when: Asked) -> None:
    """Channels, then who used them; what stood idle is a line of its own."""
    lines = _capacity_lines(found)
    if session.output == "csv":
        show.data(session, lines, [*_USE, "line", "currency", "amount"])
    elif session.machine:
        show.data(session, found)
    elif not found["channels"]:
        which = " or ".join(when.body["where"].get("channel", ())) or "no channel"
        says = "says" if which == "no channel" else "does not say"
        session.say(f'{which} {says} what it costs: channels.NAME.cost: {{per_hour: "12.50"}}')
    else:
        print(show.table(session, found["channels"], CHANNELS) + "\n")
        word = found["by"]
        columns = [
            Column(word, lambda row: row["line"]),
            Column("cost", lambda row: f"{charts.money(row['amount'])} {row['currency']}", "right"),
            Column("share", lambda row: charts.percent(row["share"]), "right"),
            Column("", lambda row: charts.bar(row["share"], 20) if row["line"] != figures.TOTAL else " "),
            Column("engine time", lambda row: _hours(row["engine_seconds"]), "right"),
            Column("tokens", lambda row: charts.count(row["tokens"]), "right"),
            _sum("per 1M tokens", "per_million"),
        ]
        print(show.table(session, lines, columns))
        session.say(when.told())


def _capacity_lines(found: Told) -> list[Told]:
    """Rows, the rest, idle, total, of each currency: they add up."""
    word, nothing = found["by"], dict.fromkeys(_USE)
    lines = []
    for total in found["total"]:
        code = total["currency"]
        mine = [one for one in found["rows"] if one["currency"] == code]
        lines += [{**nothing, "line": one[word] or "-", **_without(one, word)} for one in mine]
        rest = [one for one in found["others"] if one["currency"] == code]
        lines += [{**nothing, "line": f"(other: {one['groups']:,})", **_without(one, word, "groups")} for one in rest]
        lines += [{**nothing, "line": "(idle)", **one} for one in found["idle"] if one["currency"] == code]
        lines.append({**nothing, "line": figures.TOTAL, **total, "share": 1.0})
    return lines


def _without(row: Told, *words: str) -> Told:
    return {word: value for word, value in row.items() if word not in words}


def _hours(seconds: float | None) -> str | None:
    """Of less than an hour, so that nobody used 0.0 h: minutes or seconds."""
    if seconds is None:
        return None
    unit, name = next(((unit, name) for unit, name in ((3600, "h"), (60, "min")) if seconds >= unit), (1, "s"))
    return f"{seconds / unit:,.1f} {name}"


# -- forecast ----------------------------------------------------------------------------------------------------------


def _basis(row: Told, code: str) -> str:
    """What a forecast goes by, in a word."""
    return {"hours of the week": "week", "rate": "rate"}.get(row.get("basis", {}).get(code, ""), "")


def print_forecast(session: Session, found: Told) -> None:
    by, codes = found["by"], found["currencies"]
    rest = [{**found["other"], "kind": f"(other: {found['other']['groups']:,})"}] if found["other"] else []
    rows = [*found["rows"], *rest, {**found["total"], "kind": figures.TOTAL}]
    if not codes and session.output in ("table", "csv"):
        session.say("nothing was spent yet")
    if session.output == "csv":
        flat = [
            {
                **{word: row.get(word) for word in by},
                **{f"{what}_{code}": row[what].get(code) for code in codes for what in ("spent", "forecast", "basis")},
            }
            for row in (rows[:-1] if by else rows)
        ]
        show.data(session, flat, by)
    elif session.machine:
        show.data(session, found)
    elif codes:
        columns = figures.groups(by or ["all"])
        for code in codes:
            columns.append(Column(f"spent {code}", lambda row, code=code: charts.money(row["spent"].get(code)), "right"))  # type: ignore[misc]
            columns.append(Column("at the end", lambda row, code=code: charts.money(row["forecast"].get(code)), "right"))  # type: ignore[misc]
            columns.append(Column("by", lambda row, code=code: _basis(row, code)))  # type: ignore[misc]
        columns.append(Column("by day", lambda row: charts.spark(row["trend"]) or " "))
        print(show.table(session, rows, columns))
        tz = zone_named(found["zone"])
        ends = " to ".join(datetime.fromtimestamp(found[word], tz).strftime("%Y-%m-%d %H:%M") for word in ("begin", "end"))
        session.say(f"the {found['per']} from {ends} ({found['zone']}); an estimate")
        session.say("week: by what such hours of the week had; rate: by the time that is over, without two weeks of history")


# -- reprice -----------------------------------------------------------------------------------------------------------


def repricing(since: str, until: str | None, models: list[str], zone: str, dry: bool) -> Told:
    now, tz = time.time(), zone_named(zone)
    finish = moment("--until", until, tz, now) if until else now
    begin = max(0.0, moment("--since", since, tz, now))
    if begin > finish:
        raise Trouble("--since is after --until" if until else "--since is in the future", code=USAGE)
    return {"since": begin, "until": finish, "models": models, "dry": dry}


def _side(change: Mapping[str, Any], amount: str, currency: str) -> str:
    return "unknown" if change[amount] is None else f"{charts.money(change[amount])} {change[currency] or ''}".rstrip()


CHANGES = [
    Column("model", lambda c: c["model"] or "-"),
    Column("requests", lambda c: charts.count(c["requests"]), "right"),
    Column("price before", lambda c: c["rev_before"] or "-"),
    Column("amount before", lambda c: _side(c, "before", "currency_before"), "right"),
    Column("price now", lambda c: c["rev"] or "-"),
    Column("amount now", lambda c: _side(c, "after", "currency"), "right"),
]

CHANGE_FIELDS = "model requests rev_before currency_before before rev currency after".split()


def print_repriced(session: Session, found: Told) -> None:
    if session.output == "csv":
        show.data(session, found["changes"], CHANGE_FIELDS)
    elif session.machine:
        show.data(session, found)
    elif found["changes"]:
        print(show.table(session, found["changes"], CHANGES))
    done = "would change" if found["dry"] else "changed"
    session.say(f"{found['changed']:,} of {_requests(found['requests'])} {done}")
    if found["costs"]:
        session.say(f"the engines' cost of {_requests(found['costs'])} {done} too")
    if found["archives"]:
        session.say(f"archives that {'would be' if found['dry'] else 'were'} written anew: {', '.join(found['archives'])}")
    if found["absent"]:
        session.warn(f"gatewayctl: missing or damaged, and not priced anew: {', '.join(found['absent'])}")


def _requests(number: int) -> str:
    return f"{number:,} request{'' if number == 1 else 's'}"

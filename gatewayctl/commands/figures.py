"""How the figures of reports are shown: columns of tables, rows of CSV."""

import shutil
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from gatewayctl import charts, show
from gatewayctl.session import Session
from gatewayctl.show import Column
from gatewayctl.words import millis

Told = dict[str, Any]
OTHER = "(other)"
TOTAL = "total"
WIDE, MIDDLING = 150, 110
"""Characters that a terminal needs to have for all columns, and for all but those of speed and of parts."""


def _number(title: str, word: str) -> Column:
    return Column(title, lambda row: charts.count(row.get(word)), "right")


def groups(by: list[str]) -> list[Column]:
    """What a row is of; the first column says what the rest and the total are."""

    def cell(number: int, word: str) -> Column:
        def of(row: Mapping[str, Any]) -> Any:
            if row.get("kind"):
                return row["kind"] if number == 0 else " "
            return row.get(word) or "-"

        return Column(word, of)

    return [cell(number, word) for number, word in enumerate(by)]


def lines(report: Told) -> list[Told]:
    """Rows, the rest, the total: they add up."""
    other = report.get("other")
    rest = [{**other, "kind": f"{OTHER[:-1]}: {other['groups']:,})"}] if other else []
    return [*report["rows"], *rest, {**report["total"], "kind": TOTAL}] if report["by"] else [{**report["total"], "kind": TOTAL}]


def room() -> int:
    """Characters of a line. A pipe has room for everything."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000


def usage_columns(report: Told) -> list[Column]:
    """On a narrow terminal without what is part of something else."""
    columns = [_number("requests", "requests"), _number("errors", "errors"), _number("in", "tokens_in"), _number("out", "tokens_out")]
    if room() >= WIDE:
        columns.insert(3, _number("cached", "tokens_cached"))
        if report["total"].get("tokens_reasoning"):
            columns.append(_number("reasoning", "tokens_reasoning"))
    return columns


def speed_columns() -> list[Column]:
    if room() < WIDE:
        return []
    return [
        Column("ttft p50", lambda row: millis(row.get("ttft_p50")), "right"),
        Column("p95", lambda row: millis(row.get("ttft_p95")), "right"),
        Column("tok/s", lambda row: charts.rate(row.get("tokens_per_second")), "right"),
    ]


def money_columns(report: Told) -> list[Column]:
    """An amount for each currency, all in the base currency when there are several, what has no price."""
    columns = [_money(code, "amount", code) for code in report["currencies"]]
    if report["base"] and report["currencies"] not in ([], [report["base"]]):
        columns.append(Column(f"in {report['base']}", lambda row: charts.money(row.get("base_amount")), "right"))
    columns += [_money(f"engine {code}", "engine_cost", code) for code in report["engine_currencies"]]
    if report["total"]["unpriced"]:
        columns.append(_number("no price", "unpriced"))
    return columns


def _money(title: str, word: str, code: str) -> Column:
    return Column(title, lambda row: charts.money((row.get(word) or {}).get(code)), "right")


def share_columns(report: Told, width: int = 10) -> list[Column]:
    """Of the whole, as a bar; against the period before."""
    columns = [
        Column("share", lambda row: charts.percent(row.get("share")), "right"),
        Column("", lambda row: charts.bar(row.get("share"), width) if row.get("kind") != TOTAL else " "),
    ]
    if report.get("before") is not None:
        columns.append(Column("change", lambda row: charts.change(row.get("change")), "right"))
    if any(row.get("trend") for row in report["rows"]) and room() >= MIDDLING:
        columns.append(Column("trend", lambda row: charts.spark(row.get("trend") or []) or " "))
    return columns


def print_csv(session: Session, report: Told, rows: Iterable[Mapping[str, Any]], begin: bool = False) -> None:
    """One column a figure, exact; the same columns whatever the figures are, also of no rows. begin: rows are of buckets."""
    sample = {**report["total"], "label": None}
    if begin:
        sample = {word: value for word, value in sample.items() if word not in COMPARED}
    show.data(session, [_flat(report, row, begin) for row in rows], list(_flat(report, sample, begin)))


def _flat(report: Told, row: Mapping[str, Any], begin: bool) -> Told:
    made: Told = {"bucket": row["label"]} if begin else {}
    made |= {word: row.get(word) for word in report["by"]}
    if report["by"]:
        made["other"] = all(row.get(word) is None for word in report["by"])
    made |= {word: row[word] for word in PLAIN}
    made |= {f"amount_{code}": row["amount"].get(code) for code in report["currencies"]}
    if report["base"]:
        made[f"all_in_{report['base']}"] = row["base_amount"]
    made |= {f"engine_cost_{code}": row["engine_cost"].get(code) for code in report["engine_currencies"]}
    made |= {word: row.get(word) for word in COMPARED if word in row}
    return made | {word: row.get(word) for word in ("ttft_p50", "ttft_p95", "tokens_per_second")}


PLAIN = "requests errors tokens tokens_in tokens_cached tokens_out tokens_reasoning unpriced unpriced_tokens".split()
COMPARED = ("share", "change")
"""What rows have beside the total, and buckets do not."""


def unpriced(session: Session, report: Told) -> None:
    """Says that amounts are not all, when they are not."""
    total = report["total"]
    if total["unpriced"]:
        which = f"{total['unpriced']:,} of {total['requests']:,} requests have no price ({total['unpriced_tokens']:,} tokens)"
        session.say(f"{which}: their cost is unknown, and in no amount")

"""`gatewayctl usage`: who used what: the most first, over time, or everything of one. Needs no gateway that runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from gatewayctl import charts, show
from gatewayctl.command import command, noun
from gatewayctl.commands import figures, reconcile
from gatewayctl.commands.asking import Asked, file_of, reports, say_nothing, taking, words, written
from gatewayctl.session import Session
from gatewayctl.show import Column
from gatewayctl.words import millis, plural

app = noun(
    "usage",
    "Who used what: top, over time, in full.",
    """
    gatewayctl usage top                                 tenants, of the last 7 days
    gatewayctl usage top --by key,model --last 24h       any two crossed
    gatewayctl usage timeline --bucket day --last 30d    over time
    gatewayctl usage show --tenant retail                all about one
    """,
)
By = Annotated[
    str,
    typer.Option("--by", metavar="WHAT", help="tenant, project, key, model, channel, system, api, status, end, error, endpoint …, or two."),
]
Top = Annotated[int, typer.Option("--top", "-n", min=0, max=10_000, help="How many; the rest is one line. 0: all.")]
Order = Annotated[
    Literal["tokens", "tokens_in", "tokens_out", "requests", "errors", "amount", "engine_cost"],
    typer.Option("--order", help="The largest of this first; shares and changes are of it."),
]
Parquet = Annotated[Path | None, typer.Option("--parquet", metavar="FILE", help="Write all groups into a Parquet file instead.")]
OVERVIEW = ("tenant", "project", "key", "model", "channel", "system", "api", "status")


@command(
    app,
    "top",
    """
    gatewayctl usage top
    gatewayctl usage top --by system -n 20 --last 30d
    gatewayctl usage top --by tenant,model --since 2026-10 --until 2026-11
    gatewayctl usage top --by model --tenant retail --order requests -o csv
    """,
)
@taking
def top(session: Session, asked: Asked, by: By = "tenant", number: Top = 10, order: Order = "tokens", parquet: Parquet = None) -> None:
    """Who used most, with their share, and the change against the period before.

    Without --since and --last: the last 7 days. Whole days and months are compared with as many before. Lines add up to the total.
    """
    question = {**asked.body, "by": words(by), "top": number, "order": order, "before": True, "trend": asked.parts}
    if parquet is not None:
        written(session, parquet, file_of(session, question, "parquet"))
        return
    (report,) = reports(session, [question])
    if session.output == "csv":
        rest = [report["other"]] if report["other"] else []
        figures.print_csv(session, report, [*report["rows"], *rest] if report["by"] else [report["total"]])
    elif session.machine:
        show.data(session, report)
    elif not report["total"]["requests"]:
        say_nothing(session, asked)
    else:
        columns = [*figures.groups(report["by"] or ["all"]), *figures.usage_columns(report), *figures.share_columns(report)]
        print(show.table(session, figures.lines(report), [*columns, *figures.speed_columns()]))
        session.say(f"{asked.told()}; shares and changes of {order.replace('_', ' ')}")


@command(
    app,
    "timeline",
    """
    gatewayctl usage timeline
    gatewayctl usage timeline --bucket hour --last 24h
    gatewayctl usage timeline --bucket month --since 2026-01 --zone Asia/Shanghai
    gatewayctl usage timeline --by model --last 30d -o csv
    """,
)
@taking
def timeline(
    session: Session,
    asked: Asked,
    bucket: Annotated[
        Literal["hour", "day", "month"] | None, typer.Option("--bucket", help="[default: hour up to 2 days, else day]")
    ] = None,
    by: By = "",
    number: Top = 10,
    order: Order = "tokens",
    parquet: Parquet = None,
) -> None:
    """What was used in each hour, day or month; with --by each group's line. Buckets add up to the total."""
    bucket = bucket or ("hour" if asked.days <= 2 else "day")
    question = {**asked.body, "by": words(by), "top": number, "order": order, "bucket": bucket}
    if parquet is not None:
        written(session, parquet, file_of(session, question, "parquet"))
        return
    (report,) = reports(session, [question])
    if session.output == "csv":
        figures.print_csv(session, report, report["series"] if report["by"] else report["buckets"], begin=True)
    elif session.machine:
        show.data(session, report)
    elif not report["total"]["requests"]:
        say_nothing(session, asked)
    elif report["by"]:
        columns = [*figures.groups(report["by"]), *figures.usage_columns(report), *figures.share_columns(report)]
        total = {"trend": [_of(one, order) for one in report["buckets"]]}
        print(show.table(session, [*figures.lines(report)[:-1], {**figures.lines(report)[-1], **total}], columns))
        ends = [report["buckets"][number]["label"] for number in (0, -1)]
        session.say(f"one mark {'an' if bucket == 'hour' else 'a'} {bucket}, {ends[0]} to {ends[1]}; {asked.told()}")
    else:
        _print_buckets(session, report, bucket, order)
        session.say(asked.told())


def _of(row: Mapping[str, Any], order: str) -> float:
    if order in ("amount", "engine_cost"):
        return float(row["base_amount"] or 0) if order == "amount" and row["base_amount"] else sum(map(float, row[order].values()))
    return float(row[order])


def _print_buckets(session: Session, report: dict[str, Any], bucket: str, order: str) -> None:
    most = max((_of(one, order) for one in report["buckets"]), default=0.0)
    columns = [
        Column(bucket, lambda row: row.get("kind") or row.get("label")),
        *figures.usage_columns(report),
        Column(order.replace("_", " "), lambda row: charts.bar(_of(row, order) / most, 20) if most and not row.get("kind") else " "),
        *figures.speed_columns(),
    ]
    print(show.table(session, [*report["buckets"], {**report["total"], "kind": figures.TOTAL}], columns))


@command(
    app,
    "show",
    """
    gatewayctl usage show
    gatewayctl usage show --tenant retail --last 30d
    gatewayctl usage show --key k7f3 --model 'qwen*' -o json
    """,
)
@taking
def show_usage(session: Session, asked: Asked, number: Annotated[int, typer.Option("--top", "-n", min=1, max=100)] = 5) -> None:
    """All about a tenant, a key, a model or everything: sums, speed, cost, and who and what is in it, all of one moment."""
    whole = {**asked.body, "before": True, "trend": asked.parts}
    dims = [word for word in OVERVIEW if len(asked.body["where"].get(word) or ()) != 1 or "*" in asked.body["where"][word][0]]
    found = reports(
        session,
        [
            {**whole, "bucket": "hour" if asked.days <= 3 else "day" if asked.days <= 400 else "month"},
            *({**whole, "by": [w], "top": number} for w in dims),
        ],
    )
    if session.output == "csv":
        figures.print_csv(session, found[0], [found[0]["total"]])
    elif session.machine:
        show.data(session, {"total": found[0], **{word: report for word, report in zip(dims, found[1:], strict=True)}})
    elif not found[0]["total"]["requests"]:
        say_nothing(session, asked)
    else:
        _print_total(session, asked, found[0])
        for word, report in zip(dims, found[1:], strict=True):
            if [row[word] for row in report["rows"]] not in ([], [""]):
                columns = [*figures.groups([word]), *figures.usage_columns(report), *figures.share_columns(report)]
                print("\n" + show.table(session, figures.lines(report)[:-1], columns))
        figures.unpriced(session, found[0])


def _print_total(session: Session, asked: Asked, report: dict[str, Any]) -> None:
    total = report["total"]
    waits = " · ".join(f"{name} {millis(total[word])}" for name, word in (("median", "ttft_p50"), ("p95", "ttft_p95")) if total[word])
    tokens = f"{total['tokens']:,}: {total['tokens_in']:,} in ({total['tokens_cached']:,} cached), {total['tokens_out']:,} out"
    tokens += f" ({total['tokens_reasoning']:,} reasoning)" if total["tokens_reasoning"] else ""
    share = charts.percent(total["errors"] / total["requests"])
    show.facts(
        session,
        [
            ("time", asked.told()),
            ("requests", f"{total['requests']:,}, {plural(total['errors'], 'error')} ({share})"),
            ("tokens", tokens),
            ("change", _change(total["change"])),
            ("cost", ", ".join(f"{charts.money(amount)} {code}" for code, amount in total["amount"].items()) or None),
            ("first token", waits or None),
            ("speed", f"{total['tokens_per_second']} tokens/s a stream" if total["tokens_per_second"] else None),
            ("trend", charts.spark([float(one["tokens"]) for one in report["buckets"]])),
        ],
    )


def _change(part: float | None) -> str:
    return "there were no tokens in the time before" if part is None else f"{charts.change(part)} tokens against the time before"


reconcile.add_to(app)

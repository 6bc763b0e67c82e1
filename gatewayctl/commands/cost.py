"""`gatewayctl cost`: what requests cost, budgets, forecasts, files for accounts, prices applied anew. Needs no gateway."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from gatewayctl import show
from gatewayctl.command import command, noun
from gatewayctl.commands import anomalies, cost_looks, figures
from gatewayctl.commands.asking import Asked, asked, file_of, reports, say_nothing, taking, words, written
from gatewayctl.commands.done import well_done
from gatewayctl.commands.unheard import say_unheard
from gatewayctl.commands.usage import Parquet, Top
from gatewayctl.session import Session
from gatewayctl.trouble import USAGE, Trouble
from gatewayctl.words import plural

app = noun(
    "cost",
    "What it cost: reports, budgets, forecasts, capacity, reprice.",
    """
    gatewayctl cost report --by tenant,model --since 2026-11     this month's, by any two
    gatewayctl cost report --capacity                            what own hardware cost, and what stood idle
    gatewayctl cost budgets                                      spent, left, and what it will be
    gatewayctl cost forecast --by tenant                         at the end of the month
    gatewayctl cost export --since 2026-10 --until 2026-11 --format parquet -f october.parquet
    gatewayctl cost reprice --since 2026-11-20 --dry-run         after prices were corrected
    """,
)
BY_WHAT = "tenant, project, key, model, channel, system, api, status …, or any two: tenant,model."
By = Annotated[str, typer.Option("--by", metavar="WHAT", help=BY_WHAT)]


@command(
    app,
    "report",
    """
    gatewayctl cost report
    gatewayctl cost report --by tenant,model --since 2026-10 --until 2026-11
    gatewayctl cost report --by key --tenant retail -n 0 -o csv
    gatewayctl cost report --bucket month --since 2026-01
    gatewayctl cost report --capacity --last 30d
    """,
)
@taking
def report(
    session: Session,
    when: Asked,
    by: Annotated[str | None, typer.Option("--by", metavar="WHAT", help=f"{BY_WHAT} [default: tenant; with --bucket all]")] = None,
    number: Top = 10,
    bucket: Annotated[
        Literal["hour", "day", "month"] | None, typer.Option("--bucket", help="Over time; with --by a line for each.")
    ] = None,
    capacity: Annotated[bool, typer.Option("--capacity", help="What channels with cost.per_hour cost, used or idle.")] = False,
    parquet: Parquet = None,
) -> None:
    """What requests cost: by currency, and in the base currency where rates are configured. What has no price is counted by itself.

    Money is exact in JSON, YAML, CSV and Parquet, and rounded in tables. Lines add up to the total.
    """
    if capacity:
        body = {**when.body, "by": words(by or "tenant"), "top": number}
        cost_looks.print_capacity(session, asked(session, "capacity", "/v1/cost/capacity", "capacity", body), when)
        return
    groups = words(by or ("" if bucket else "tenant"))
    question = {**when.body, "by": groups, "top": number, "order": "amount", "before": bucket is None, "latency": False}
    question |= {"bucket": bucket} if bucket else {"trend": when.parts}
    if parquet is not None:
        written(session, parquet, file_of(session, question, "parquet"))
        return
    (found,) = reports(session, [question])
    if session.output == "csv":
        rest = [found["other"]] if found["other"] else []
        rows = [*found["rows"], *rest] if found["by"] else [found["total"]]
        if bucket:
            rows = found["series"] if found["by"] else found["buckets"]
        figures.print_csv(session, found, rows, begin=bool(bucket))
    elif session.machine:
        show.data(session, found)
    elif not found["total"]["requests"]:
        say_nothing(session, when)
    else:
        cost_looks.print_report(session, found, bucket or "")
        session.say(when.told())
        figures.unpriced(session, found)


@command(
    app,
    "export",
    """
    gatewayctl cost export --since 2026-10 --until 2026-11 -f october.csv
    gatewayctl cost export --by tenant,model --bucket day --format parquet -f days.parquet
    gatewayctl cost export --last 30d --format json
    """,
)
@taking
def export(
    session: Session,
    when: Asked,
    by: By = "tenant,model",
    bucket: Annotated[Literal["hour", "day", "month"] | None, typer.Option("--bucket", help="A row for each of these.")] = None,
    form: Annotated[Literal["csv", "json", "parquet"], typer.Option("--format", help="json: one object a line, money as text.")] = "csv",
    to: Annotated[Path | None, typer.Option("--file", "-f", metavar="FILE", help="Default: stdout.")] = None,
) -> None:
    """All groups as a file, one row for each currency: for accounts and spreadsheets. A file is complete or not there."""
    if form == "parquet" and to is None and sys.stdout.isatty():
        raise Trouble("Parquet is nothing for a terminal", "Say: -f FILE", USAGE)
    pieces = file_of(session, {**when.body, "by": words(by), "bucket": bucket or ""}, form)
    if to is not None:
        written(session, to, pieces)
        return
    for piece in pieces:
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


@command(
    app,
    "budgets",
    """
    gatewayctl cost budgets
    gatewayctl cost budgets -o json
    """,
)
def budgets(session: Session) -> None:
    """Each budget: spent, left, and what will be spent when its day or month is over, by what such hours of the week had."""
    found = asked(session, "budgets", "/v1/cost/budgets", "budgets", None)
    if session.output == "csv":
        show.data(session, found, cost_looks.BUDGET_FIELDS)
        return
    show.items(session, found, cost_looks.BUDGETS, "no budgets")
    for one in found:
        if one["unpriced"] and not session.machine:
            session.say(f"{one['scope']} {one['owner']}: {plural(one['unpriced'], 'request')} without a price")


@command(
    app,
    "forecast",
    """
    gatewayctl cost forecast
    gatewayctl cost forecast --by tenant --zone Asia/Shanghai
    gatewayctl cost forecast --per day --model 'qwen*'
    """,
)
def forecast(
    session: Session,
    by: Annotated[str, typer.Option("--by", metavar="WHAT", help="tenant, project, key, model, channel … Each has its own forecast.")] = "",
    number: Top = 10,
    per: Annotated[Literal["day", "month"], typer.Option("--per", help="What will be over.")] = "month",
    zone: Annotated[str, typer.Option("--zone", metavar="ZONE", help="Whose day or month.")] = "UTC",
    tenant: Annotated[list[str] | None, typer.Option("--tenant", metavar="NAME", help="Only of this tenant.")] = None,
    model: Annotated[list[str] | None, typer.Option("--model", metavar="NAME", help="Only of this model.")] = None,
) -> None:
    """What will have been spent at the end of the month, by what such hours of the week had in the last four weeks."""
    where = {word: values for word, values in (("tenant", tenant), ("model", model)) if values}
    body: dict[str, Any] = {"by": words(by), "top": number, "per": per, "zone": zone, "where": where}
    found = asked(session, "forecast", "/v1/cost/forecast", "forecast", body)
    cost_looks.print_forecast(session, found)
    if not found["rows"] and not found["currencies"]:
        say_unheard(session, where)


@command(
    app,
    "reprice",
    """
    gatewayctl cost reprice --since 2026-11-20 --dry-run      what would change?
    gatewayctl cost reprice --since 2026-11-20
    gatewayctl cost reprice --since 2026-11 --model 'qwen*'
    """,
)
def reprice(
    session: Session,
    since: Annotated[str, typer.Option("--since", metavar="TIME", help="From: 30d, 2026-11, 2026-11-20, 2026-11-20T18:00.")],
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Until before. [default: now]")] = None,
    model: Annotated[list[str] | None, typer.Option("--model", metavar="GLOB", help="Only of these models; may be repeated.")] = None,
    zone: Annotated[str, typer.Option("--zone", metavar="ZONE", help="Whose days and months.")] = "UTC",
    dry: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
) -> None:
    """Apply the prices of the configuration that is live to requests that are in the ledger, as if they came now.

    Shows each model and price revision before and after. Archives in which anything differs are written anew. It is in the audit log.
    """
    body = cost_looks.repricing(since, until, model or [], zone, dry)
    found = asked(session, "reprice", "/v1/cost/reprice", "repriced", body)
    cost_looks.print_repriced(session, found)
    if not found["requests"]:
        say_unheard(session, {"model": model or []})
    well_done(found)


anomalies.add_to(app)

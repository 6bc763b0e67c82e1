"""`gatewayctl usage reconcile`: what engines counted themselves against what the ledger has, per channel and hour."""

from dataclasses import replace
from typing import Annotated, Any

import typer

from gatewayctl import charts, show
from gatewayctl.command import command
from gatewayctl.commands.unheard import say_unheard
from gatewayctl.ledger_says import ledger_says, period
from gatewayctl.session import Session
from gatewayctl.show import Column
from gatewayctl.words import moment, plural


def _percent(row: Any) -> str | None:
    return None if row.get("percent") is None else f"{row['percent']:+.2f}%"


COLUMNS = [
    Column("hour", lambda r: f"{(moment(r.get('hour')) or '')[:16]}{'' if r.get('over') else ' (running)'}"),
    Column("channel", lambda r: r.get("channel")),
    Column("state", lambda r: r.get("state"), colored=True),
    Column("engine", lambda r: r.get("engine"), "right"),
    Column("ledger", lambda r: r.get("ledger"), "right"),
    Column("open", lambda r: r.get("in_flight"), "right"),
    Column("drift", lambda r: r.get("drift"), "right"),
    Column("drift %", _percent, "right"),
    Column("bypassed", lambda r: r.get("bypassed"), "right"),
    Column("unseen", lambda r: r.get("unseen"), "right"),
    Column("prompt engine", lambda r: (r.get("prompt") or {}).get("engine"), "right"),
    Column("prompt ledger", lambda r: (r.get("prompt") or {}).get("ledger"), "right"),
    Column("uncounted", lambda r: r.get("uncounted"), "right"),
    Column("resets", lambda r: r.get("resets"), "right"),
    Column("covered", lambda r: f"{100 * (r.get('coverage') or 0):.0f}%", "right"),
]


def add_to(app: typer.Typer) -> None:
    """The verb, to be one of this noun's."""
    command(
        app,
        "reconcile",
        """
        gatewayctl usage reconcile
        gatewayctl usage reconcile --last 7d --channel ascend
        gatewayctl usage reconcile -o json | jq '.[] | select(.state == "bypassed")'
        """,
    )(reconcile)


def reconcile(
    session: Session,
    last: Annotated[str, typer.Option("--last", metavar="TIME", help="How far back: 24h, 7d, or since a time.")] = "24h",
    channel: Annotated[str, typer.Option("--channel", metavar="NAME", help="Only this channel.")] = "",
) -> None:
    """What the engines counted themselves against the ledger, per channel and hour, newest first, in output tokens.

    Past the gateway (bypassed), not counted by the engine (missing), or the same (agrees; uncertain, when less than half of an hour was
    looked at).
    """
    wanted = {"since": str(period("--last", last)), **({"channel": channel} if channel else {})}
    found = ledger_says(session, "/v1/usage/reconcile", "reconcile", "hours", wanted)
    columns = COLUMNS if session.machine else [_readable(column) for column in COLUMNS]
    show.items(session, found, columns, "nothing was used in that time")
    if not found and channel:
        say_unheard(session, {"channel": [channel]})
    few = sum(row.get("state") == "uncertain" for row in found)
    if few:
        session.say(f"gatewayctl: {plural(few, 'line')} uncertain: less than half of the hour was looked at, which is too little to tell")


def _readable(column: Column) -> Column:
    """`1,234,567`, as in other tables; programs get plain numbers."""

    def of(row: Any) -> Any:
        cell = column.of(row)
        return charts.count(cell) if isinstance(cell, int) else cell

    return replace(column, of=of)

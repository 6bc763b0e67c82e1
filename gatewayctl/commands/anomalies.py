"""`gatewayctl cost anomalies`: hours of the ledger that are out of the ordinary."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import typer

from gatewayctl import show
from gatewayctl.command import command
from gatewayctl.ledger_says import ledger_says, period
from gatewayctl.session import Session
from gatewayctl.show import Column
from gatewayctl.words import moment

COLUMNS = [
    Column("hour", lambda a: (moment(a.get("hour")) or "")[:16]),
    Column("what", lambda a: f"{a.get('what')} {a.get('currency') or ''}".strip()),
    Column("by", lambda a: a.get("by")),
    Column("name", lambda a: a.get("name")),
    Column("kind", lambda a: a.get("kind")),
    Column("value", lambda a: _number(a, "value"), "right"),
    Column("baseline", lambda a: _number(a, "baseline"), "right"),
    Column("times", lambda a: a.get("times"), "right"),
    Column("deviations", lambda a: a.get("deviations"), "right"),
]
FIELDS = "hour what by name kind value baseline times deviations currency".split()


def add_to(app: typer.Typer) -> None:
    """The verb, to be one of this noun's."""
    command(
        app,
        "anomalies",
        """
        gatewayctl cost anomalies
        gatewayctl cost anomalies --last 30d --sensitivity low
        gatewayctl cost anomalies -o csv
        """,
    )(anomalies)


def anomalies(
    session: Session,
    last: Annotated[str, typer.Option("--last", metavar="TIME", help="How far back: 7d, or since a time.")] = "7d",
    sensitivity: Annotated[Literal["low", "normal", "high"], typer.Option("--sensitivity", help="As of rules on anomalies.")] = "normal",
) -> None:
    """Hours in which tokens, requests or amounts were far from what such an hour usually has, newest first.

    Of everything together, and by tenant, project, key, model and channel. Two weeks of history are needed.
    """
    wanted = {"since": str(period("--last", last)), "sensitivity": sensitivity}
    found = ledger_says(session, "/v1/cost/anomalies", "anomalies", "anomalies", wanted)
    if session.output == "csv":
        show.data(session, found, FIELDS)
        return
    show.items(session, found, COLUMNS, "nothing is out of the ordinary")


def _number(anomaly: Mapping[str, Any], word: str) -> str | None:
    """Amounts with two digits after the point; of tokens and requests there are no parts."""
    value = anomaly.get(word)
    return None if value is None else f"{value:,.2f}" if anomaly.get("what") == "amount" else f"{value:,.0f}"

"""`gatewayctl reload`: makes the files on disk live, in all workers or in none."""

from typing import Annotated, Any

import typer

from gatewayctl import show
from gatewayctl.client import config_error
from gatewayctl.command import alone, command
from gatewayctl.session import Session
from gatewayctl.trouble import FAILED, Trouble

app = alone()
PATIENCE = 120.0
"""Seconds. Building a large configuration in all workers takes seconds, replacing a worker that hangs a few more."""


@command(
    app,
    "reload",
    """
    gatewayctl config check && gatewayctl reload
    gatewayctl reload --wait -o json
    """,
)
def reload(
    session: Session,
    wait: Annotated[bool, typer.Option("--wait", help="Return when every worker serves the new revision. Always so.")] = True,
) -> None:
    """Make the files on disk live, in all workers or in none.

    Returns when every worker has swapped. Requests in flight go on with the configuration that they began with.
    A configuration with mistakes changes nothing: they are printed and the exit code is 78.
    """
    told(session, session.client().post("/v1/reload", timeout=PATIENCE))


def told(session: Session, answer: dict[str, Any]) -> None:
    """Say how a change of the configuration went. Raises what app.main turns into the exit code when it was refused."""
    if session.machine:
        show.data(session, answer)
    if not answer.get("ok"):
        raise refused(answer)
    if session.machine:
        return
    for change in answer.get("changes") or []:
        print(show.text_of(change))
    if answer.get("changed"):
        session.say(f"revision {answer.get('rev')} is live in every worker")
    else:
        session.say(f"nothing has changed, revision {answer.get('rev')} stays")


def refused(answer: dict[str, Any]) -> Exception:
    """Why nothing was changed, as the exception that says so."""
    if answer.get("mistakes"):
        return config_error(answer["mistakes"])
    return Trouble(answer.get("message") or "the new configuration was refused", f"Revision {answer.get('rev')} stays live.", FAILED)

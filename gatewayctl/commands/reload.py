"""`gatewayctl reload`: makes the files on disk live, in all workers or in none."""

import time
from typing import Annotated, Any

import typer

from gatewayctl import show
from gatewayctl.client import Client, config_error
from gatewayctl.command import alone, command
from gatewayctl.session import Session
from gatewayctl.trouble import FAILED, Trouble

app = alone()
PATIENCE = 120.0
"""Seconds. Building a large configuration in all workers takes seconds, replacing a worker that hangs a few more."""
STARTING = 15.0
"""Seconds that a new worker may take to start."""


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
    client = session.client()
    told(session, client, client.post("/v1/reload", timeout=PATIENCE))


def told(session: Session, client: Client, answer: dict[str, Any]) -> None:
    """Say how a change of the configuration went, when it has. Raises what app.main turns into the exit code when it was refused."""
    late = "" if not answer.get("ok") else _begun(client, answer)
    if session.machine:
        show.data(session, answer)
    if not answer.get("ok"):
        raise refused(answer)
    if late:
        session.warn(f"gatewayctl: revision {answer.get('rev')} is live, but after {STARTING:.0f} s {late}")
    if session.machine:
        return
    for change in answer.get("changes") or []:
        print(show.text_of(change))
    if answer.get("changed"):
        session.say(f"revision {answer.get('rev')} is live in every worker")
    else:
        session.say(f"nothing has changed, revision {answer.get('rev')} stays")


def _begun(client: Client, answer: dict[str, Any]) -> str:
    """Waits for the workers that a larger `workers` has called for. What is still missing; empty: nothing."""
    if not any(str(change).startswith("workers ") for change in answer.get("changes") or []):
        return ""
    wanted = client.get("/v1/config/running")["config"]["workers"]
    end = time.monotonic() + STARTING
    while True:
        workers = [one for one in client.get("/v1/status")["processes"] if one["name"].startswith("worker-")]
        up = sum(one["state"] == "up" for one in workers)
        if up >= wanted:
            return ""
        if time.monotonic() >= end:
            return f"{up} of {wanted} workers serve"
        time.sleep(0.05)


def refused(answer: dict[str, Any]) -> Exception:
    """Why nothing was changed, as the exception that says so."""
    if answer.get("mistakes"):
        return config_error(answer["mistakes"])
    return Trouble(answer.get("message") or "the new configuration was refused", f"Revision {answer.get('rev')} stays live.", FAILED)

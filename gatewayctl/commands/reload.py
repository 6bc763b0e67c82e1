"""`gatewayctl reload`: makes the files on disk live, in all workers or in none."""

import os
import time
from typing import Annotated, Any

import typer

from gatewayctl import show
from gatewayctl.client import Client, config_error
from gatewayctl.command import alone, command
from gatewayctl.commands.done import well_done
from gatewayctl.session import Session
from gatewayctl.trouble import FAILED, Trouble

app = alone()
PATIENCE = 120.0
"""Seconds. Building a large configuration in all workers takes seconds, replacing a worker that hangs a few more."""
STARTING = 15.0
"""Seconds that a new worker may take to start."""
SHOWN = 50
"""Changes that people are shown; programs get all."""


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
    whose(session, client)
    told(session, client, client.post("/v1/reload", timeout=PATIENCE))


def whose(session: Session, client: Client) -> None:
    """Warns when the gateway was started with another file than the one that is named here: it reads its own, whatever we say."""
    theirs = (client.get("/v1/status").get("config") or {}).get("path")
    if session.socket_option is None and theirs and os.path.realpath(theirs) != os.path.realpath(session.config):
        session.warn(f"gatewayctl: the gateway runs with {theirs}, not with {session.config}; this is about {theirs}")


def told(session: Session, client: Client, answer: dict[str, Any]) -> None:
    """Say how a change of the configuration went, when it has. Raises what app.main turns into the exit code when it was refused."""
    late = _begun(client) if answer.get("ok") else ""
    if session.machine:
        show.data(session, answer)
    if not answer.get("ok"):
        raise refused(answer)
    if late:
        session.warn(f"gatewayctl: revision {answer.get('rev')} is live, but after {STARTING:.0f} s {late}")
    if not session.machine:
        changes = answer.get("changes") or []
        for change in changes[:SHOWN]:
            print(show.text_of(change))
        if len(changes) > SHOWN:
            session.say(f"and {len(changes) - SHOWN} more changes (`-o json` has all of them)")
        if answer.get("changed"):
            session.say(f"revision {answer.get('rev')} is live in every worker")
        else:
            session.say(f"nothing has changed, revision {answer.get('rev')} stays")
    well_done(answer)


def _begun(client: Client) -> str:
    """Waits for workers that were just called for, by this change or by one noticed before it. What is missing; empty: nothing."""
    wanted = client.get("/v1/config/running")["config"]["workers"]
    end = time.monotonic() + STARTING
    while True:
        workers = [one for one in client.get("/v1/status")["processes"] if one["name"].startswith("worker-")]
        begun = sum(one["state"] not in ("starting", "down") for one in workers)  # down: it is to be started, once more or at all
        if begun >= wanted:
            return ""
        if time.monotonic() >= end:
            return f"only {begun} of {wanted} workers have started"
        time.sleep(0.05)


def refused(answer: dict[str, Any]) -> Exception:
    """Why nothing was changed, as the exception that says so."""
    if answer.get("mistakes"):
        return config_error(answer["mistakes"])
    return Trouble(answer.get("message") or "the new configuration was refused", f"Revision {answer.get('rev')} stays live.", FAILED)

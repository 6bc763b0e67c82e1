"""`gatewayctl upgrade`: makes the running gateway become this version, without a dropped request."""

import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gatewayctl import show
from gatewayctl.client import Client
from gatewayctl.command import alone, command
from gatewayctl.commands.done import well_done
from gatewayctl.session import Session
from gatewayctl.trouble import FORBIDDEN, UNREACHABLE, Trouble

app = alone()
ASKING: Final = 90.0
"""Seconds: the new version has 60 to say whether it can take over."""
PATIENCE: Final = 300.0
"""Seconds until control and all workers are replaced."""


@command(
    app,
    "upgrade",
    """
    gatewayctl upgrade                              after a new package was installed, or an old one again
    gatewayctl upgrade --to /opt/gateway/gatewayctl
    """,
)
def upgrade(
    session: Session,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FILE", readable=False, help="The executable to become. [default: this gatewayctl]"),
    ] = None,
) -> None:
    """Make the running gateway become this version, without a dropped request.

    The supervisor stays the same process and keeps its sockets; control and the workers are replaced one by one. Requests in flight
    finish where they began. A version that cannot read what is in data_dir, or does not start, changes nothing.
    """
    upgraded(session, to)


def upgraded(session: Session, to: Path | None) -> None:
    """Asks for it, and says how it goes. Raises Trouble when it does not go well."""
    client = session.client()
    supervisor = Path("/proc", str(client.get("/v1/status").get("pid")))
    if not supervisor.exists():  # in a container of its own, it cannot be looked at
        supervisor = Path("/proc/self")
    begun = client.post("/v1/upgrade", {"to": _executable(to)}, timeout=ASKING)["upgrade"]
    if not session.machine:
        session.say(f"version {begun['version']} hands over")
    found = _done(session, client, int(begun["upgrades"]), supervisor)
    own = found["processes"][0]
    leaving = sum(process.get("state") == "draining" for process in found["processes"])
    if session.machine:
        show.data(session, {"from": begun["version"], "to": own["version"], "draining": leaving})
    if str(own["upgrade"]).startswith("stopped"):
        hint = "What served before goes on serving. The gateway's log says more; try again, or restart it."
        raise Trouble(f"the upgrade {own['upgrade']}", hint)
    session.say(f"version {own['version']} serves" + (f"; {leaving} worker(s) of the one before finish what they have" if leaving else ""))
    well_done(begun)


def _executable(to: Path | None) -> str:
    """Empty: the gateway knows, because it runs from the same installation as this (not frozen) program."""
    if to is not None:
        return os.path.abspath(to)
    return sys.executable if getattr(sys, "frozen", False) else ""


def _done(session: Session, client: Client, upgrades: int, supervisor: Path) -> dict[str, Any]:
    """The status when everything was replaced, or nothing more will be. While control is replaced nobody answers, or not to the end.
    supervisor: its folder in /proc; it stays the same process."""
    end, told = time.monotonic() + PATIENCE, ""
    while time.monotonic() < end:
        try:
            found = client.get("/v1/status")
        except Trouble as trouble:
            if trouble.code == FORBIDDEN:
                raise
            if not supervisor.exists():
                hint = "Its log says more. Start it: systemctl start gateway"
                raise Trouble("the gateway has ended in the middle of the upgrade", hint, UNREACHABLE) from trouble
        else:
            own = found["processes"][0]
            if own["upgrades"] > upgrades or str(own["upgrade"]).startswith("stopped"):
                now = str(own["upgrade"])
                if not now or now.startswith("stopped"):
                    return found
                if now != told and not session.machine:
                    told = now
                    session.say(told)
        time.sleep(0.1)
    raise Trouble(f"the upgrade has not ended within {PATIENCE:.0f} s", "`gatewayctl status` and the gateway's log may say why.")

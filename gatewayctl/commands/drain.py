"""`gatewayctl channels drain|undrain`: take engines out of service and back. Requests that they have finish in peace."""

import sys
import time
from typing import Annotated

import typer

from gatewayctl import show
from gatewayctl.client import Client, segment
from gatewayctl.command import command
from gatewayctl.commands.done import well_done
from gatewayctl.commands.health import COLUMNS, url_of
from gatewayctl.redraw import Redraw
from gatewayctl.session import Session
from gatewayctl.show import Column
from gatewayctl.trouble import USAGE, Trouble
from gatewayctl.words import clock, plural, since

PATIENCE = 30.0
EVERY = 0.5
"""Seconds between two looks of --wait."""
SETTLED = 1.0
"""Seconds until what is shown is what came after the drain: workers report twice a second."""
SILENT_MOST = 10.0
"""Seconds that workers have to say what is in flight, when control has been started again; one that is dead has nothing."""
Endpoint = Annotated[str | None, typer.Option("--endpoint", metavar="URL", help="Only this one, by its URL or host:port.")]
Name = Annotated[str, typer.Argument(metavar="CHANNEL", help="The channel's name.")]

PROGRESS = [
    Column("time", lambda e: clock(e.get("ts")), wide=8),
    Column("in flight", lambda e: e.get("in_flight"), "right", 9),
    Column("endpoints", lambda e: e.get("endpoints")),
]


def add_to(app: typer.Typer) -> None:
    """The two verbs, for the noun `channels`."""
    command(
        app,
        "drain",
        """
        gatewayctl channels drain gpu --wait                   until nothing is in flight
        gatewayctl channels drain gpu --endpoint http://10.0.0.6:8000
        gatewayctl channels drain gpu --for 30m                taken back by itself
        """,
    )(drain)
    command(
        app,
        "undrain",
        """
        gatewayctl channels undrain gpu
        gatewayctl channels undrain gpu --endpoint http://10.0.0.6:8000
        """,
    )(undrain)


def drain(
    session: Session,
    channel: Name,
    endpoint: Endpoint = None,
    wait: Annotated[bool, typer.Option("--wait", help="Show what is in flight until nothing is. Ctrl-C leaves it drained.")] = False,
    lasting: Annotated[str | None, typer.Option("--for", metavar="TIME", help="For so long: 30m, 2h. Default: until undrain.")] = None,
) -> None:
    """Send no more requests to a channel, or to one endpoint of it. What it is working on finishes.

    Returns when every worker knows; restarts change nothing about it. Exits with 6 when a worker did not answer.
    """
    seconds = None if lasting is None else _seconds(lasting)
    client = session.client()
    found = client.post(f"/v1/channels/{segment(channel)}/drain", {"endpoint": endpoint, "seconds": seconds}, PATIENCE)["channel"]
    told = time.monotonic()
    what = f"endpoint {endpoint} of channel {channel}" if endpoint else f"channel {channel}"
    session.say(f"{what} is drained{f' for {lasting}' if lasting else ''}: no new requests go there")
    for model in found.get("left") or []:
        session.warn(f"gatewayctl: model {model} has no endpoint left that is not drained: its requests will be refused")
    if wait:
        _wait(session, client, channel, found.get("endpoint") or None, told)
    elif session.machine:
        show.data(session, found)
    well_done(found, "which may still send requests there")


def undrain(session: Session, channel: Name, endpoint: Endpoint = None) -> None:
    """Take a drain back: requests go there again. Returns when every worker knows."""
    found = session.client().post(f"/v1/channels/{segment(channel)}/undrain", {"endpoint": endpoint}, PATIENCE)["channel"]
    what = f"endpoint {endpoint} of channel {channel}" if endpoint else f"channel {channel}"
    session.say(f"{what} {'is back' if found.get('changed') else 'was not drained'}")
    if session.machine:
        show.data(session, found)
    well_done(found, "which may still send requests there")


LONGEST = 366 * 86400.0


def _seconds(text: str) -> float:
    try:
        seconds = -since(text, 0.0)  # a duration counts back from now
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= LONGEST:
        raise Trouble(f"--for wants a duration, such as 30m or 2h, 366d at most, not {text!r}", code=USAGE)
    return seconds


def _wait(session: Session, client: Client, channel: str, url: str | None, told: float) -> None:
    """Until nothing is in flight. url: of the endpoint, None = all that are drained. The first looks may be of before, and a control that
    was just started knows nothing yet."""
    on_terminal = sys.stdout.isatty() and not session.machine
    screen, rows, shown, heard = Redraw(), show.Rows(session, PROGRESS), -1, told
    while True:
        asked = time.monotonic()
        found = client.get(f"/v1/channels/{segment(channel)}")["channel"]
        heard = heard if found.get("silent") else asked
        sure = asked - told >= SETTLED and (heard == asked or asked - heard >= SILENT_MOST)
        drained = [one for one in found.get("endpoints", []) if one.get("drained") and url in (None, url_of(one))]
        busy = [one for one in drained if one.get("in_flight")]
        in_flight = sum(one["in_flight"] for one in busy)
        if on_terminal:
            head = f"{channel}: {plural(in_flight, 'request')} in flight at {plural(len(busy), 'endpoint')}"
            screen.draw(f"{head}\n{show.table(session, drained, COLUMNS)}" if drained else head)
        elif in_flight != shown and (in_flight or sure):
            rows.add({"ts": round(time.time(), 3), "channel": channel, "in_flight": in_flight, "endpoints": [url_of(one) for one in busy]})
            shown = in_flight
        if not in_flight and sure:
            unlisted = any(one["endpoint"] == url for one in found.get("drained_unlisted") or [])
            session.say("nothing is in flight there any more" if drained or unlisted else "it is drained no longer")
            return
        time.sleep(EVERY)

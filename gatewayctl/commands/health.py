"""`gatewayctl health`: which endpoints are up, and why the others are not. Exit code 6 when one is down."""

import sys
import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from gatewayctl import show
from gatewayctl.client import Client
from gatewayctl.command import alone, command
from gatewayctl.reader import watched
from gatewayctl.redraw import Redraw
from gatewayctl.session import Session
from gatewayctl.show import Column
from gatewayctl.trouble import DEGRADED, UNREACHABLE, Done, Trouble
from gatewayctl.words import ago, clock, millis, moment, plural

app = alone()
DOWN = ("down", "ejected", "wedged")
EVERY = 1.0
"""Seconds between two looks of --watch."""


def url_of(endpoint: Any) -> str | None:
    found: str | None = endpoint.get("endpoint") or endpoint.get("url")
    return found


def whole(figure: str) -> Any:
    """A count that engines write as a fraction."""
    return lambda endpoint: None if endpoint.get(figure) is None else round(endpoint[figure])


def kv_use(endpoint: Any) -> str | None:
    return None if endpoint.get("kv_use") is None else f"{endpoint['kv_use']:.0%}"


COLUMNS = [
    Column("channel", lambda e: e.get("channel")),
    Column("endpoint", url_of),
    Column("state", lambda e: e.get("state"), colored=True),
    Column("since", lambda e: ago(e.get("since")), csv=lambda e: moment(e.get("since"))),
    Column("in flight", lambda e: e.get("in_flight"), "right"),
    Column("running", whole("running"), "right"),
    Column("waiting", whole("waiting"), "right"),
    Column("kv", kv_use, "right", csv=lambda e: e.get("kv_use")),
    Column("ttft", lambda e: millis(e.get("ttft")), "right", csv=lambda e: e.get("ttft")),
    Column("errors", lambda e: e.get("errors"), "right"),
    Column("why", lambda e: e.get("why")),
]
CHANGES = [
    Column("time", lambda e: clock(e.get("ts")), wide=8, csv=lambda e: moment(e.get("ts"))),
    Column("channel", lambda e: e.get("channel"), wide=16),
    Column("endpoint", url_of, wide=32),
    Column("state", lambda e: e.get("state"), wide=9),
    Column("why", lambda e: e.get("why")),
]


@command(
    app,
    "health",
    """
    gatewayctl health
    gatewayctl health --watch             drawn anew each second; into a pipe, a line for each change
    gatewayctl health --watch -o json     one object for each change
    gatewayctl health -o csv
    gatewayctl health -q -o json > health.json || echo "an endpoint is down"
    """,
)
def health(
    session: Session,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on, until Ctrl-C.")] = False,
) -> None:
    """Which endpoints are up, since when, why the others are not, and how busy they are.

    Exits with 6 when one is down, ejected or wedged. RUNNING, WAITING and KV are the engine's own figures.
    """
    if watch:
        _watch(session)
        return
    found = session.client().get("/v1/health")
    endpoints = found.get("endpoints", [])
    if session.output in ("json", "yaml"):
        show.data(session, found)
    else:
        show.items(session, endpoints, COLUMNS, "no endpoints")
    down = [endpoint for endpoint in endpoints if endpoint.get("state") in DOWN]
    if down:
        session.say(f"gatewayctl: {plural(len(down), 'endpoint')} of {len(endpoints)} down")
        raise Done(DEGRADED)


def _watch(session: Session) -> None:
    if sys.stdout.isatty() and not session.machine:
        screen = Redraw()
        for endpoints, away in looks(session.client()):
            head = f"{clock(time.time())}  {away or _summary(endpoints)}"
            screen.draw(head + ("\n" + show.table(session, endpoints, COLUMNS) if endpoints else ""))
        return
    rows, said = show.Rows(session, CHANGES), ""
    before: dict[tuple[Any, Any], tuple[Any, Any]] = {}
    with watched(lambda: None) as gone:
        for endpoints, away in looks(session.client()):
            if gone.is_set():
                raise BrokenPipeError
            if away != said and away:
                session.say(f"gatewayctl: {away}")
            said = away
            for change in () if away else changes(before, endpoints):
                rows.add({"ts": round(time.time(), 3), **change})


def looks(client: Client) -> Iterator[tuple[list[dict[str, Any]], str]]:
    """The endpoints, again and again; none while the gateway is away, and why. Raises Trouble when the first look fails."""
    yield client.get("/v1/health").get("endpoints", []), ""
    while True:
        time.sleep(EVERY)
        try:
            yield client.get("/v1/health").get("endpoints", []), ""
        except Trouble as trouble:  # its control is being started again, say
            if trouble.code != UNREACHABLE and "broke off" not in trouble.message:
                raise
            yield [], trouble.message


def changes(before: dict[tuple[Any, Any], tuple[Any, Any]], endpoints: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Endpoints whose state, or its reason, is another one than in `before`, which is brought up to date. At first all of them."""
    now = {(one.get("channel"), url_of(one)): (one.get("state"), one.get("why")) for one in endpoints}
    for one in endpoints:
        key = (one.get("channel"), url_of(one))
        if before.get(key) != now[key]:
            yield one
    for channel, url in before.keys() - now.keys():
        yield {"channel": channel, "endpoint": url, "state": "gone", "why": "it is no longer configured"}
    before.clear()
    before.update(now)


def _summary(endpoints: list[dict[str, Any]]) -> str:
    counts: dict[str, int] = {}
    for one in endpoints:
        counts[str(one.get("state"))] = counts.get(str(one.get("state")), 0) + 1
    said = ", ".join(f"{count} {state}" for state, count in counts.items())
    return f"{plural(len(endpoints), 'endpoint')}: {said}" if endpoints else "no endpoints"

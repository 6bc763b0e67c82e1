"""`gatewayctl health`: which endpoints are up, and why the others are not. Exit code 6 when one is down."""

from typing import Any

from gatewayctl import show
from gatewayctl.command import alone, command
from gatewayctl.session import Session
from gatewayctl.show import Column
from gatewayctl.trouble import DEGRADED, Done
from gatewayctl.words import ago, millis, plural

app = alone()
DOWN = ("down", "ejected")


def url_of(endpoint: Any) -> str | None:
    found: str | None = endpoint.get("endpoint") or endpoint.get("url")
    return found


COLUMNS = [
    Column("channel", lambda e: e.get("channel")),
    Column("endpoint", url_of),
    Column("state", lambda e: e.get("state"), colored=True),
    Column("since", lambda e: ago(e.get("since"))),
    Column("in flight", lambda e: e.get("in_flight"), "right"),
    Column("ttft", lambda e: millis(e.get("ttft")), "right"),
    Column("errors", lambda e: e.get("errors"), "right"),
    Column("why", lambda e: e.get("why")),
]


@command(
    app,
    "health",
    """
    gatewayctl health
    gatewayctl health -o csv
    gatewayctl health -q -o json > health.json || echo "an endpoint is down"
    """,
)
def health(session: Session) -> None:
    """Which endpoints are up, since when, and why the others are not. Exits with 6 when one is down."""
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

"""`gatewayctl limits`: what may be used, what is used of it, when it frees, and who used it."""

from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from gatewayctl import show
from gatewayctl.command import command, noun
from gatewayctl.session import Session
from gatewayctl.show import Column
from gatewayctl.words import span

app = noun(
    "limits",
    "What may be used, what is used, and by whom.",
    """
    gatewayctl limits                     every limit that is configured
    gatewayctl limits show                what is used of each, the fullest first
    gatewayctl limits show --key k7f3     only those that requests of a key come under
    gatewayctl limits show --tenant retail --model qwen -o json
    """,
    default="list",
)
MOST = 1000
"""Counters that are told at once, see `gateway.referee.view`."""


def _most(limit: Any) -> str:
    """`600 requests per minute`."""
    unit = limit.get("currency") or str(limit.get("count")).replace("_", " ")
    per = limit.get("per")
    zone = limit.get("zone")
    warned = f", warns at {'%, '.join(map(str, limit['warn']))}%" if limit.get("warn") else ""
    if limit.get("budget") and limit.get("stop") is None:
        warned += " and never stops"
    each = f" for each {limit['each']}" if limit.get("each") else ""
    return f"{limit.get('max')} {unit}{f' per {per}' if per else ''}{f' ({zone})' if zone else ''}{each}{warned}"


def _when(limit: Any) -> str | None:
    if limit.get("during"):
        return f"during {limit['during']}"
    return f"outside {limit['outside']}" if limit.get("outside") else None


def _of(limit: Any) -> str:
    return f"{limit.get('scope')} {limit.get('owner')}".strip()


def _used(counter: Any) -> Any:
    """Of money with its share: `41.5 (83%)`."""
    percent = counter.get("percent")
    return counter.get("used") if percent is None else f"{counter.get('used')} ({percent}%)"


def _frees(counter: Any) -> str | None:
    """When all of it is free again; of what is in flight nobody knows."""
    if not counter.get("applies"):
        return "does not apply now"
    if not counter.get("frees") or counter.get("count") == "concurrency":
        return None
    return f"in {span(counter['frees'])}"


def _refused(counter: Any) -> Any:
    """Of a shadow: what would have been."""
    return f"{counter.get('shadow_refused')} (shadow)" if counter.get("shadow") else counter.get("refused")


LIMITS = [
    Column("of", _of),
    Column("name", lambda c: c.get("name") or None),
    Column("at most", _most),
    Column("when", _when),
    Column("models", lambda c: c.get("models") or None),
    Column("shadow", lambda c: "shadow" if c.get("shadow") else None),
]
COUNTERS = [
    Column("of", lambda c: " · ".join(filter(None, (_of(c), c.get("value"))))),
    Column("name", lambda c: c.get("name") or None),
    Column("at most", _most),
    Column("used", _used, "right", csv=lambda c: c.get("used")),
    Column("left", lambda c: c.get("left"), "right"),
    Column("at this rate", lambda c: c.get("forecast"), "right"),
    Column("all free", _frees),
    Column("refused", _refused, "right", csv=lambda c: c.get("shadow_refused" if c.get("shadow") else "refused")),
    Column("most by", lambda c: [f"{one['key'] or 'anybody'} {one['used']}" for one in c.get("top") or []] or None),
]


@command(
    app,
    "list",
    """
    gatewayctl limits
    gatewayctl limits list -o yaml
    """,
)
def list_limits(session: Session) -> None:
    """Every limit that is configured: of everybody, tenants, projects, models and keys."""
    show.items(session, session.client().get("/v1/limits")["limits"], LIMITS, "no limits")


@command(
    app,
    "show",
    """
    gatewayctl limits show
    gatewayctl limits show --key k7f3
    gatewayctl limits show --tenant retail -o json
    """,
)
def show_limits(
    session: Session,
    key: Annotated[str, typer.Option("--key", help="Only limits that requests of this key come under.")] = "",
    tenant: Annotated[str, typer.Option("--tenant", help="Only limits that requests of this tenant come under.")] = "",
    model: Annotated[str, typer.Option("--model", help="Only limits that requests for this virtual model come under.")] = "",
) -> None:
    """What is used of each limit, the fullest first: what is left, when all is free again, what was refused, and who used most.

    Counted is what all workers let through together. A shadow's refusals are those that it would have made. `at this rate` is what a day or
    month will have cost by the share of it that is over; `gatewayctl cost budgets` goes by hours of the week.
    """
    wanted = {word: value for word, value in (("key", key), ("tenant", tenant), ("model", model)) if value}
    found = session.client().get(f"/v1/limits/counters?{urlencode(wanted)}")["counters"]
    show.items(session, found, COUNTERS, "no limits")
    if len(found) >= MOST:
        session.say(f"no more than {MOST} counters are shown, those with the least left: there may be others")

"""`gatewayctl channels`: the channels as they are live, and what their engines say of themselves."""

from typing import Annotated, Any, Final

import typer

from gatewayctl import show
from gatewayctl.client import segment
from gatewayctl.command import command, noun
from gatewayctl.commands import drain
from gatewayctl.commands.health import COLUMNS as STATES
from gatewayctl.commands.health import DOWN, url_of
from gatewayctl.commands.probed import print_probe
from gatewayctl.programs import probe, right_url
from gatewayctl.session import Session
from gatewayctl.show import Column
from gatewayctl.trouble import DEGRADED, UNREACHABLE, Done, Trouble
from gatewayctl.words import moment

app = noun(
    "channels",
    "The channels, and what their engines say of themselves.",
    """
    gatewayctl channels                             what is live
    gatewayctl channels show ascend                 everything that is known of one
    gatewayctl channels probe ascend                ask its engines who they are
    gatewayctl channels probe http://10.0.0.6:8000  ask an engine that is not configured yet
    gatewayctl channels drain ascend --wait         send nothing there any more
    """,
    default="list",
)
drain.add_to(app)
PATIENCE = 60.0
FEW: Final = 4
"""Endpoints of a channel that a list for people names."""


def _number_up(channel: Any) -> int:
    endpoints = channel.get("endpoints") or []
    return sum(1 for one in endpoints if one.get("serves", True) and one.get("state") not in (*DOWN, "draining"))


def _up(channel: Any) -> str:
    return f"{_number_up(channel)}/{len(channel.get('endpoints') or [])}"


def _in_flight(channel: Any) -> int:
    return sum(endpoint.get("in_flight") or 0 for endpoint in channel.get("endpoints") or [])


def _engine(channel: Any) -> str:
    found = channel.get("detected")
    return f"{channel.get('engine')} ({found})" if found else str(channel.get("engine"))


def _endpoints(channel: Any) -> list[str | None]:
    return [url_of(endpoint) for endpoint in channel.get("endpoints") or []]


def _few(channel: Any) -> list[str | None]:
    urls = _endpoints(channel)
    return urls if len(urls) <= FEW + 1 else [*urls[:FEW], f"and {len(urls) - FEW:,} more"]


COLUMNS = [
    Column("channel", lambda c: c.get("name")),
    Column("engine", _engine),
    Column("model", lambda c: c.get("model")),
    Column("up", _up, "right", csv=_number_up),
    Column("in flight", _in_flight, "right"),
    Column("endpoints", _few, csv=_endpoints),
]
FACTS = [
    Column("endpoint", url_of),
    Column("version", lambda e: e.get("version")),
    Column("models", lambda e: e.get("models")),
    Column("context length", lambda e: e.get("context_length"), "right"),
    Column("ejections", lambda e: sum((e.get("ejections") or {}).values()), "right"),
    Column("wedged", lambda e: e.get("wedgings"), "right"),
    Column("connections", lambda e: e.get("handshakes"), "right"),
]


@command(
    app,
    "list",
    """
    gatewayctl channels
    gatewayctl channels list -o json
    """,
)
def list_channels(session: Session) -> None:
    """The channels as they are live, and how many endpoints are up."""
    show.items(session, session.client().get("/v1/channels")["channels"], COLUMNS, "no channels")


@command(
    app,
    "show",
    """
    gatewayctl channels show ascend
    gatewayctl channels show ascend -o yaml
    """,
)
def show_channel(session: Session, channel: Annotated[str, typer.Argument(metavar="CHANNEL", help="The channel's name.")]) -> None:
    """Everything that is known of one channel: its engine, limits, drains, and each endpoint with state, model and figures."""
    found = session.client().get(f"/v1/channels/{segment(channel)}")["channel"]
    if session.machine:
        show.data(session, found)
    else:
        _print(session, found)


def _print(session: Session, found: dict[str, Any]) -> None:
    print(show.paint(session, show.text_of(found.get("name")), "bold"))
    limits, drained = found.get("limits") or {}, found.get("drained")
    show.facts(
        session,
        [
            ("engine", _engine(found)),
            ("model", found.get("model") or None),
            ("used by", found.get("models") or None),
            ("registry", _registry(found)),
            ("drained", f"by {drained['by']}{until(drained)}" if drained else None),
            ("unlisted", [_drained(one) for one in found.get("drained_unlisted") or []] or None),
            ("limits", _limits(limits)),
            ("queue", _queue(found.get("capacity") or {})),
        ],
        indent=2,
    )
    if found.get("endpoints"):
        print("\n" + show.table(session, found["endpoints"], STATES[1:]))
        print("\n" + show.table(session, found["endpoints"], FACTS))


def _registry(found: dict[str, Any]) -> str | None:
    """Its name, and what is wrong with it."""
    name, known = found.get("registry"), found.get("registry_state") or {}
    if not name or not known.get("why"):
        return name or None
    return f"{name}, {known['state']} since {moment(known['since'])}: {known['why']}"


def _drained(unlisted: dict[str, Any]) -> str:
    return f"{unlisted['endpoint']}, drained by {unlisted['by']}{until(unlisted)}"


def until(drained: dict[str, Any]) -> str:
    return f" until {moment(drained['until'])}" if drained.get("until") else ""


def _limits(limits: dict[str, Any]) -> str | None:
    said = []
    if limits.get("max_in_flight"):
        said.append(f"{limits['max_in_flight']} in flight")
    if limits.get("endpoint_in_flight"):
        said.append(f"{limits['endpoint_in_flight']} at each endpoint")
    if said:
        said.append(f"then {limits.get('queue')} wait for up to {limits.get('queue_wait'):g} s")
    return ", ".join(said) or None


def _queue(capacity: dict[str, Any]) -> str | None:
    """How it stands with the places of a limited channel; None: it has no limit."""
    if not capacity:
        return None
    said = [f"{capacity.get('in_flight', 0)} places taken", f"{capacity.get('queued', 0)} wait"]
    if capacity.get("oldest"):
        said.append(f"the longest for {capacity['oldest']:.1f} s")
    if capacity.get("drain"):
        said.append(f"{capacity['drain']:.3g} places come free a second")
    if capacity.get("shed"):
        said.append(f"{capacity['shed']} refused")
    return ", ".join(said)


@command(
    app,
    "probe",
    """
    gatewayctl channels probe ascend
    gatewayctl channels probe https://10.0.0.5:1025      works without a running gateway
    gatewayctl channels probe http://10.0.0.6:8000 -o yaml
    """,
)
def probe_channel(
    session: Session,
    channel: Annotated[str, typer.Argument(metavar="CHANNEL|URL", help="A channel's name, or any engine's address.")],
) -> None:
    """Ask engines who they are.

    Shows version, models, context length, TLS, and what would be configured. Exits with 6 when an endpoint does not answer.
    """
    if "://" in channel:
        right_url(channel)
        found = [probe(channel)]
    else:
        found = _ask(session, channel)
    if session.machine:
        show.data(session, found)
    else:
        for number, result in enumerate(found):
            if number:
                print()
            print_probe(session, result)
    if not all(result.get("reachable") for result in found):
        raise Done(DEGRADED)


def _ask(session: Session, channel: str) -> list[dict[str, Any]]:
    try:
        found = session.client().post(f"/v1/channels/{segment(channel)}/probe", timeout=PATIENCE)
    except Trouble as trouble:
        if trouble.code == UNREACHABLE:
            trouble.hint += "\nAn engine's address can be probed without it: gatewayctl channels probe http://…"
        raise
    endpoints: list[dict[str, Any]] = found.get("endpoints", [found])
    return endpoints

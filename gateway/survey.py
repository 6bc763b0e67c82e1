"""Each endpoint once, as people want to see it: what control's looks found, what operators drained, what workers met and measured."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from gateway.agreement import Agreement
from gateway.bus.server import Link
from gateway.config.resolved import Channel
from gateway.discover.endpoints import Endpoints
from gateway.discover.look import BUSY, DEGRADED, DRAINING, EJECTED, STATES

MET = (DEGRADED, BUSY, EJECTED)
"""States that workers find out themselves; the others they have from control."""

State = tuple[str, str, float]
"""State, why, since (wall clock)."""


def survey(endpoints: Endpoints, agreement: Agreement, links: Iterable[Link], channels: Mapping[str, Channel]) -> list[dict[str, Any]]:
    """Every endpoint with state, since, why and figures. channels: those that are served. serves: False = a registry
    lists it, and workers do not have it."""
    met = _met(links)
    found = []
    for one in endpoints.states():
        name, url = one["channel"], one["endpoint"]
        channel = channels.get(name)
        mine = met.get((name, url), [])
        states: list[State] = [(one["state"], one["why"], one["since"]), *agreement.state(name, url)]
        states += [(seen["state"], seen["why"], time.time() - seen["for"]) for seen in mine if seen["state"] in MET]
        state, why, since = _worst(states)
        serves = channel is None or not channel.registry or any(url == served.url for served in channel.endpoints)
        if channel is not None and not serves:
            state, why = DEGRADED, f"listed by {channel.registry}, serves nobody yet: {why or 'a probe has seen it well'}"
        drain = agreement.drains.of(name, url)
        found.append(
            {
                **one,
                "state": state,
                "why": why,
                "since": since,
                "registry": channel.registry if channel is not None else "",
                "serves": serves,
                "in_flight": sum(seen["in_flight"] for seen in mine),
                "handshakes": sum(seen["handshakes"] for seen in mine),
                "errors": sum(seen["errors"] for seen in mine),
                "ttft": max((round(seen["ttft"] * 1000, 1) for seen in mine if seen["ttft"]), default=None),
                "ejections": agreement.ejections(name, url),
                "drained": None if drain is None else {"by": drain.by, "since": drain.since, "until": drain.until},
            }
        )
    return found


def _met(links: Iterable[Link]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """What workers reported of each endpoint."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for link in links:
        for seen in link.health.get("endpoints", ()):
            found.setdefault((seen["channel"], seen["endpoint"]), []).append(seen)
    return found


def _worst(states: list[State]) -> State:
    """The worst, the first of equally bad ones. That an endpoint is drained is said beside whatever is worse."""
    state, why, since = max(states, key=lambda one: STATES.index(one[0]))
    drained = next((one[1] for one in states if one[0] == DRAINING), "")
    if drained and state != DRAINING:
        why = f"{why}; {drained}"
    return state, why, since

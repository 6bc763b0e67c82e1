"""Each endpoint once, as people want to see it: what control's looks found, what operators drained, what workers met and measured."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from gateway.bus.server import Link
from gateway.config.resolved import Channel
from gateway.discover.endpoints import Endpoints
from gateway.discover.look import BUSY, DEGRADED, DRAINING, EJECTED, STATES, UP, Look
from gateway.discover.registries.known import endpoint_at
from gateway.govern.agreement import Agreement

MET = (DEGRADED, BUSY, EJECTED)
"""States that workers find out themselves; the others they have from control."""

State = tuple[str, str, float]
"""State, why, since (wall clock)."""


def survey(endpoints: Endpoints, agreement: Agreement, links: Iterable[Link], channels: Mapping[str, Channel]) -> list[dict[str, Any]]:
    """Every endpoint with state, since, why and figures, also one that no registry lists any more and that still has requests.

    channels: those that are served. serves: False = workers send nothing there: a registry lists it only now, or no longer.
    """
    met = _met(links)
    found = []
    for one in endpoints.states():
        name, url = one["channel"], one["endpoint"]
        channel = channels.get(name)
        mine = met.pop((name, url), [])
        states: list[State] = [(one["state"], one["why"], one["since"]), *agreement.state(name, url)]
        states += [(seen["state"], seen["why"], time.time() - seen["for"]) for seen in mine if seen["state"] in MET]
        state, why, since = _worst(states)
        if state == UP:  # also for those that ejected it, or found it degraded
            since = max([since, *(time.time() - seen["for"] for seen in mine if seen["state"] == UP and seen["for"])])
        serves = channel is None or not channel.registry or any(url == served.url for served in channel.endpoints)
        if channel is not None and not serves:
            state, why = DEGRADED, f"listed by {channel.registry}, serves nobody yet: {why or 'a probe has seen it well'}"
        known = {**one, "state": state, "why": why, "since": since, "registry": channel.registry if channel is not None else ""}
        found.append({**known, "serves": serves, **_figures(name, url, mine, agreement)})
    for (name, url), mine in met.items():
        if name in channels and any(seen["state"] == DRAINING for seen in mine):
            found.append({**_leaving(channels[name], url, mine), "serves": False, **_figures(name, url, mine, agreement)})
    return found


def _leaving(channel: Channel, url: str, mine: list[dict[str, Any]]) -> dict[str, Any]:
    """One that workers still have requests at, and that is looked at no more."""
    since, why = max((seen["for"], seen["why"]) for seen in mine if seen["state"] == DRAINING)
    told = Look(channel, endpoint_at(url), (), time.time() - since).told(time.monotonic())
    return {**told, "state": DRAINING, "why": why, "registry": channel.registry}


def _figures(channel: str, url: str, mine: list[dict[str, Any]], agreement: Agreement) -> dict[str, Any]:
    drain = agreement.drains.of(channel, url)
    return {
        "in_flight": sum(seen["in_flight"] for seen in mine),
        "handshakes": sum(seen["handshakes"] for seen in mine),
        "errors": sum(seen["errors"] for seen in mine),
        "ttft": max((round(seen["ttft"] * 1000, 1) for seen in mine if seen["ttft"]), default=None),
        "ejections": agreement.ejections(channel, url),
        "drained": None if drain is None else {"by": drain.by, "since": drain.since, "until": drain.until},
    }


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

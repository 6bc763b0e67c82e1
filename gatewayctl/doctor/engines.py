"""Each configured engine, asked once: reachable, of the family that is configured, with its models, and its TLS."""

from collections.abc import Mapping
from typing import Any, Final

from gatewayctl.doctor.case import Case
from gatewayctl.doctor.finding import Findings, note, ok, wrong
from gatewayctl.doctor.tls import SOON

SLOW: Final = 1000.0
"""Milliseconds for a model list and the like."""


def look(case: Case) -> Findings:
    endpoints = case.outside["endpoints"]
    if case.config is not None and case.config.channels and not endpoints:
        yield wrong("no channel has an endpoint", "channels", "gatewayctl channels list")
    for one in endpoints:
        yield from _endpoint(one)


def _endpoint(one: Mapping[str, Any]) -> Findings:
    found, where = one["found"], f"channels.{one['channel']}"
    url, took = found["url"], f"{one['ms']:.0f} ms"
    remedy = f"gatewayctl channels probe {one['channel']}"
    if one["state"] == "down":
        yield wrong(f"{url}: {one['why']}", where, remedy)
    elif one["why"]:
        yield wrong(f"{url}: {one['why']} ({took})", where, remedy)
    else:
        family = " ".join(part for part in (found.get("engine") or "an OpenAI-compatible engine", found.get("version")) if part)
        said = f"{url}: {family}, {len(found.get('models') or [])} model(s), {took}"
        yield note(f"{said}, which is slow", where, remedy) if one["ms"] > SLOW else ok(said, where)
    tls = found.get("tls") or {}
    left = tls.get("days_left")
    if left is not None and left < 0:
        yield wrong(f"{url}: its certificate has expired on {tls['not_after'][:10]}", where, "renew it at the engine")
    elif left is not None and left < SOON:
        yield note(f"{url}: its certificate expires on {tls['not_after'][:10]}, in {left} days", where, "renew it at the engine")
    if tls and not tls.get("verified") and found.get("reachable"):  # one that is not trusted was shown its certificate all the same
        yield note(f"{url}: nobody checks who answers there (tls.verify: false)", where, f"set channels.{one['channel']}.tls.ca")

"""What DNS and the registries say, and how long they take."""

from typing import Final

from gatewayctl.doctor.case import Case
from gatewayctl.doctor.finding import Findings, note, ok, wrong
from gatewayctl.words import plural

SLOW: Final = 500.0
"""Milliseconds."""
SHOWN: Final = 4


def look(case: Case) -> Findings:
    for one in case.outside["registries"]:
        where, took = f"registries.{one['name']}", f"{one['ms']:.0f} ms"
        why = one["why"] if one["asked"] in one["why"] else f"{one['asked']}: {one['why']}"
        if one["why"] and not one["endpoints"]:
            yield wrong(why, where, _ask(one["asked"]))
        elif one["why"]:
            yield note(f"{why}; {plural(one['endpoints'], 'endpoint')}", where, _ask(one["asked"]))
        else:
            yield ok(f"{one['asked']}: {plural(one['endpoints'], 'endpoint')}, {took}", where)
    for one in case.outside["names"]:
        said = f"{one['name']} is {', '.join(one['addresses'][:SHOWN])}" + (" …" if len(one["addresses"]) > SHOWN else "")
        if one["why"]:
            yield wrong(f"{one['name']} cannot be resolved: {one['why']}", "channels", f"getent ahosts {one['name']}; cat /etc/resolv.conf")
        elif one["ms"] > SLOW:
            yield note(f"{said}, after {one['ms']:.0f} ms", "channels", "cat /etc/resolv.conf: does its first server answer?")
        else:
            yield ok(f"{said}, {one['ms']:.0f} ms", "channels")


def _ask(asked: str) -> str:
    """How a person asks the same."""
    if asked.startswith("/"):
        return f"cat {asked}"
    return f"dig {asked}" if asked.endswith(" SRV") else f"getent ahosts {asked}"

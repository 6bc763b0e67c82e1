"""Goes through the families and gathers what they find. A family that fails is a finding too, and stops no other."""

import dataclasses
from collections.abc import Iterable, Iterator

from gatewayctl.doctor.case import Case
from gatewayctl.doctor.families import FAMILIES
from gatewayctl.doctor.finding import Finding, note
from gatewayctl.session import Session
from gatewayctl.trouble import Trouble

OUTSIDE = ("names", "engines")
PLACES = ("files", "disk", "leftovers")
"""Families that are about places which the main file names."""
NAMED = (*PLACES, *OUTSIDE, "ports", "tls")
"""Families that find nothing where there is no configuration: why there is none is said with them."""


def rounds(session: Session, only: Iterable[str] = ()) -> list[Finding]:
    """Everything that is found, in the order of the families. only: these families; none = all."""
    case = Case.of(session)
    try:
        if not only or set(only) & set(OUTSIDE):
            case.begin()
        return findings(case, only)
    finally:
        case.end()


def findings(case: Case, only: Iterable[str] = ()) -> list[Finding]:
    """The same about a case that has begun, if it is to look outside."""
    only = {"configuration", *only} if case.config is None and set(only) & set(NAMED) else only
    wanted = [name for name in FAMILIES if (not only or name in only) and not (case.blind and name in PLACES)]
    return [dataclasses.replace(one, check=name) for name in wanted for one in _family(name, case)]


def _family(name: str, case: Case) -> Iterator[Finding]:
    try:
        yield from FAMILIES[name](case)
    except Trouble as trouble:
        yield note(f"this could not be looked at: {trouble.message}", "", trouble.hint)
    except OSError as error:
        where = str(error.filename or "")
        yield note(f"this could not be looked at: {error.strerror or error}", where, f"sudo gatewayctl doctor --only {name}")

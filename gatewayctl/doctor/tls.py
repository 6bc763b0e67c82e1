"""Certificates in files: until when, in which order, and with which key. What engines show is looked at with the engines."""

import time
from itertools import pairwise
from pathlib import Path
from typing import Final

from gateway.config.certificates import tried
from gateway.config.x509 import Certificate, chain
from gatewayctl.doctor.case import Case
from gatewayctl.doctor.files import tls_of
from gatewayctl.doctor.finding import Finding, Findings, note, ok, wrong

SOON: Final = 30
"""Days."""
DAY: Final = 86_400


def look(case: Case) -> Findings:
    for tls in tls_of(case):
        for word, message, hint in tried(tls.cert, tls.key, tls.ca):
            if "permission denied" in message:
                yield note(f"tls.{word}: {message}", _named(tls.cert, tls.key, tls.ca), "sudo gatewayctl doctor --only tls")
            else:
                yield wrong(f"tls.{word}: {message}", _named(tls.cert, tls.key, tls.ca), hint or "gatewayctl config check")
        if tls.cert:
            yield from _file(Path(tls.cert), "certificate", ordered=True)
        if tls.ca:
            yield from _file(Path(tls.ca), "CA certificate", ordered=False)


def _named(*files: str | None) -> str:
    return next((file for file in files if file), "")


def _file(path: Path, what: str, ordered: bool) -> Findings:
    try:
        found = chain(path)
    except (OSError, ValueError):
        return  # said above
    for one in found if not ordered else found[:1]:
        yield until(f"the {what} {one.subject or path.name}", one.not_before.timestamp(), one.not_after.timestamp(), str(path))
    if ordered:
        yield from _order(found, path)


def until(what: str, begins: float, ends: float, where: str) -> Finding:
    """Of something that is good from `begins` to `ends`, Unix seconds."""
    now = time.time()
    left = int((ends - now) // DAY)
    day = time.strftime("%Y-%m-%d", time.gmtime(ends))
    if begins > now:
        return wrong(f"{what} is good only from {time.strftime('%Y-%m-%d', time.gmtime(begins))} on, or the clock is wrong", where, "date")
    if ends < now:
        return wrong(f"{what} has expired on {day}", where, "put a new one in its place; it takes effect by itself")
    if left < SOON:
        return note(f"{what} expires on {day}, in {left} days", where, "put a new one in its place; it takes effect by itself")
    return ok(f"{what} is good until {day}", where)


def _order(found: list[Certificate], path: Path) -> Findings:
    for number, (one, next_one) in enumerate(pairwise(found), 1):
        if one.by != next_one.whose:
            said = f"certificate {number + 1} of the chain ({next_one.subject}) has not signed number {number} ({one.subject})"
            yield wrong(said, str(path), f"cat leaf.crt intermediate.crt > {path}, each signed by the next")
            return
    for one in found[1:]:
        if one.not_after.timestamp() < time.time():
            yield wrong(f"{one.subject}, in the chain, has expired", str(path), "put the CA's new one in its place")

"""`gatewayctl audit`: who changed what, when, and what was before and after. Reads the file itself when no gateway runs."""

import json
import time
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from gatewayctl import show
from gatewayctl.command import command, noun
from gatewayctl.session import Session
from gatewayctl.show import Column
from gatewayctl.trouble import UNREACHABLE, USAGE, Trouble
from gatewayctl.words import moment, since

app = noun(
    "audit",
    "Who changed what, and when.",
    """
    gatewayctl audit                       the newest acts
    gatewayctl audit list --since 2d --by root
    gatewayctl audit list --last 1 -o json
    """,
    default="list",
)
LAST, MOST = 20, 10_000
LONG = 60
"""Characters of what was before or after that a table shows."""


def _side(side: Any) -> str | None:
    """What was before or after, short."""
    if side in (None, [], {}):
        return None
    if isinstance(side, dict) and not {"kind", "channel"} & side.keys():
        text = ", ".join(f"{path} {show.text_of(value)}" for path, value in side.items())
    else:
        ones = side if isinstance(side, list) else [side]
        text = ", ".join(_one(one) for one in ones)
    return text if len(text) <= LONG else text[: LONG - 1] + "…"


def _one(one: Any) -> str:
    """A freeze or a drain."""
    if not isinstance(one, dict):
        return str(one)
    what = f"{one['kind']} {one.get('name', '')}".rstrip() if "kind" in one else one.get("endpoint") or f"channel {one.get('channel')}"
    return f"{'frozen' if 'kind' in one else 'drained'}: {what} by {one.get('by')}"


COLUMNS = [
    Column("time", lambda a: moment(a.get("ts"))),
    Column("by", lambda a: a.get("by")),
    Column("what", lambda a: a.get("what")),
    Column("ok", lambda a: bool(a.get("ok")), colored=True),
    Column("before", lambda a: _side(a.get("before"))),
    Column("after", lambda a: _side(a.get("after"))),
    Column("revision", lambda a: a.get("rev") or None, "right"),
    Column("message", lambda a: a.get("message")),
]
FIELDS = "ts by uid what before after ok message rev".split()


@command(
    app,
    "list",
    """
    gatewayctl audit list
    gatewayctl audit list --last 100 --since 2d
    gatewayctl audit list --by ann -o csv
    """,
)
def list_acts(
    session: Session,
    last: Annotated[int, typer.Option("--last", "-n", min=1, max=MOST, help="How many.")] = LAST,
    begun: Annotated[str | None, typer.Option("--since", metavar="TIME", help="Only since: 10m, 2d, 2026-11-22T18:00.")] = None,
    by: Annotated[str | None, typer.Option("--by", metavar="USER", help="Only of this user: its name or number.")] = None,
) -> None:
    """The newest acts, oldest first: when, who by the kernel's word, what, and what was before and after.

    JSON has all of it, tables the beginning. Needs no running gateway, but then the right to read the file.
    """
    try:
        after = since(begun, time.time()) if begun else 0.0
    except ValueError as error:
        raise Trouble(
            f"--since wants a duration such as 10m or 2d, or a time such as 2026-11-22T18:00, not {begun!r}", code=USAGE
        ) from error
    query = urlencode({"last": last, "since": after, "by": by or ""})
    try:
        found = session.client().get(f"/v1/audit?{query}")["audit"]
    except Trouble as trouble:
        if trouble.code != UNREACHABLE or session.socket_option is not None:
            raise
        found = _of_file(session, last, after, by or "")
    if session.output == "csv":
        found = [{**one, "before": _flat(one.get("before")), "after": _flat(one.get("after"))} for one in found]
        show.data(session, found, FIELDS)
    else:
        show.items(session, found, COLUMNS, "no such acts" if after or by else "nothing was changed yet")


def _of_file(session: Session, last: int, after: float, by: str) -> list[dict[str, Any]]:
    from gateway.config import audit_file
    from gateway.config.locate import data_dir_of

    path = data_dir_of(session.config) / audit_file.NAME
    found = audit_file.read(path, last=last, since=after, by=by)
    session.say(f"the gateway is not running; this is what {path} has")
    return found


def _flat(side: Any) -> str:
    return "" if side is None else json.dumps(side, ensure_ascii=False)

"""One record as people read it: grouped, attempts as a table, the two letters of its end in words."""

from typing import Any, Final

from gatewayctl import show
from gatewayctl.session import Session
from gatewayctl.show import Column
from gatewayctl.words import millis, moment, size

WHO: Final = {
    "-": "ended normally",
    "C": "the caller left",
    "U": "the engine failed",
    "G": "the gateway refused",
    "O": "an operator ended it",
    "K": "killed",
    "I": "a bug of the gateway",
}
BAD, LEFT = 400, 499
"""The first status of errors that are told, and that of a request whose caller went away."""
PHASE: Final = {
    "A": "while it was accepted",
    "K": "while its key was checked",
    "L": "at a limit",
    "G": "in a guard",
    "R": "while its route was chosen",
    "Q": "in a queue",
    "W": "before the first event",
    "D": "while the answer went out",
}


def _in_and_out(tokens: dict[str, int] | None) -> str | None:
    """`4/15`, as the list of requests has it; None when the attempt has no part of its own."""
    return f"{tokens.get('in', 0)}/{tokens.get('out', 0)}" if tokens else None


ATTEMPTS: Final = [
    Column("attempt", lambda a: a.get("kind")),
    Column("channel", lambda a: a.get("channel")),
    Column("endpoint", lambda a: a.get("endpoint")),
    Column("model", lambda a: a.get("model")),
    Column("via", lambda a: a.get("via")),
    Column("status", lambda a: a.get("status") or None, "right"),
    Column("in/out", lambda a: _in_and_out(a.get("tokens")), "right"),
    Column("took", lambda a: millis(a.get("ms")), "right"),
    Column("outcome", lambda a: a.get("reason") or "ok", colored=True),
]
GROUPS: Final = {
    "who": ("tenant", "project", "key", "ip", "trace"),
    "what": ("api", "model", "rule", "via", "policy", "stream", "rev", "node", "slot"),
    "where": ("channel", "endpoint", "upstream_model"),
}
SHOWN: Final = {
    "v",
    "kind",
    "id",
    "ts",
    "status",
    "end",
    "error",
    "attempts",
    "tokens",
    "source",
    "ms",
    "tpot",
    "bytes",
    "rewrites",
    "facts",
    "reserved",
}


def ending(end: str | None, status: int | None = None) -> str:
    """`CD` → `the caller left while the answer went out`. With an error that was told nobody left: what was asked is refused."""
    if not end or len(end) != 2:
        return end or "?"
    if end == "UR":
        return "no engine could be asked"
    who, phase = WHO.get(end[0], f"{end[0]}?"), PHASE.get(end[1], "")
    if end[0] == "C" and status and BAD <= status < LEFT:
        who = "the caller's own mistake"
    return who if end[0] == "-" else f"{who} {phase}".rstrip()


def print_record(session: Session, record: dict[str, Any]) -> None:
    """The whole record; what this version does not know comes last, as it is."""
    print(show.paint(session, show.text_of(record.get("id")), "bold"))
    status, end = record.get("status"), record.get("end")
    show.facts(session, [("time", moment(record.get("ts"))), ("status", status or None), ("end", f"{end}: {ending(end, status)}")], 2)
    show.facts(session, [("error", record.get("error") or None)], 2)
    for title, names in GROUPS.items():
        _group(session, title, [(name.replace("_", " "), record.get(name)) for name in names])
    if record.get("attempts"):
        print("\n" + show.table(session, record["attempts"], ATTEMPTS))
    tokens = record.get("tokens") or {}
    _group(session, "tokens", [*tokens.items(), ("source", record.get("source"))])
    _group(session, "reserved", list((record.get("reserved") or {}).items()))
    times = [(name, millis(value)) for name, value in (record.get("ms") or {}).items()]
    _group(session, "times", [*times, ("per token", millis(record.get("tpot")))])
    _group(session, "bytes", [(name, size(value)) for name, value in (record.get("bytes") or {}).items()])
    _group(session, "asked for", list((record.get("facts") or {}).items()))
    _group(session, "rewritten", [("fields", record.get("rewrites"))])
    known = SHOWN.union(*GROUPS.values())
    _group(session, "more", [(name, value) for name, value in record.items() if name not in known])


def _group(session: Session, title: str, pairs: list[tuple[str, Any]]) -> None:
    shown = [(name, value) for name, value in pairs if value not in (None, "", [], {})]
    if shown:
        print("\n" + show.paint(session, title, "bold"))
        show.facts(session, shown, indent=2)

"""`gatewayctl status`: one look says whether all is well. Exit code 6 when it is not."""

from typing import Any

from gatewayctl import show
from gatewayctl.command import alone, command
from gatewayctl.session import Session
from gatewayctl.show import Column
from gatewayctl.trouble import DEGRADED, Done
from gatewayctl.words import ago, moment, plural, size, span

app = alone()
WELL = ("up", "starting", "draining")

PROCESSES = [
    Column("process", lambda p: p.get("name")),
    Column("pid", lambda p: p.get("pid"), "right"),
    Column("state", lambda p: p.get("state"), colored=True),
    Column("since", lambda p: ago(p.get("since")), csv=lambda p: moment(p.get("since"))),
    Column("restarts", lambda p: p.get("restarts", 0), "right"),
    Column("revision", lambda p: p.get("rev"), "right"),
    Column("memory", lambda p: size(p.get("rss_bytes")), "right", csv=lambda p: p.get("rss_bytes")),
]
LISTENERS = [
    Column("listener", lambda item: item.get("name")),
    Column("bind", lambda item: item.get("bind")),
    Column("serves", lambda item: item.get("serves")),
    Column("tls", lambda item: bool(item.get("tls"))),
]


@command(
    app,
    "status",
    """
    gatewayctl status
    gatewayctl status -o json
    gatewayctl status -q || echo "not well"
    """,
)
def status(session: Session) -> None:
    """How the gateway is: revision, processes, listeners, journal. Exits with 6 when something is wrong, with 5 when it is not running."""
    found = session.client().get("/v1/status")
    wrong = complaints(found)
    if session.output == "csv":
        show.items(session, found.get("processes", []), PROCESSES)
    elif session.machine:
        show.data(session, found)
    else:
        _print(session, found)
    for sentence in wrong:
        session.warn(f"gatewayctl: {sentence}")
    if wrong:
        raise Done(DEGRADED)


def complaints(found: dict[str, Any]) -> list[str]:
    """What is wrong, one sentence each."""
    wrong = []
    last = found.get("config", {}).get("last_reload") or {}
    if last.get("ok") is False:
        wrong.append(f"the last reload was refused {ago(last.get('ts')) or ''}: {last.get('message') or 'see gatewayctl config check'}")
    for process in found.get("processes", []):
        if process.get("state") not in WELL:
            wrong.append(f"{process.get('name')} is {process.get('state')} since {ago(process.get('since')) or 'its start'}")
        if str(process.get("upgrade", "")).startswith("stopped"):
            wrong.append(f"the upgrade to version {process.get('version')} {process['upgrade']}")
    wrong += [str(sentence) for sentence in found.get("unsafe") or []]
    if found.get("journal", {}).get("failing"):
        wrong.append("the journal cannot be written, so requests are not accounted")
    ledger = found.get("ledger") or {}
    if ledger.get("trouble"):
        waits = ", records wait in the journal" if ledger.get("waiting") else ""
        wrong.append(f"the ledger is not well{waits}: {ledger['trouble']}")
    elif ledger.get("state") == "behind":
        wrong.append(f"the ledger is behind: the oldest segment has waited {span(ledger.get('lag') or 0)}")
    wrong += [f"the ledger: {sentence}" for sentence in ledger.get("lost") or []]
    return wrong


def ledger_line(ledger: dict[str, Any] | None) -> str | None:
    """How the ledger is, in a few words."""
    if not ledger:
        return None
    behind = f", {plural(ledger['waiting'], 'segment')} waiting" if ledger.get("waiting") else ""
    repaired = ledger.get("repaired")
    anew = f"; built anew {ago(repaired.get('ts'))}: {repaired.get('why')}" if repaired else ""
    return f"{ledger.get('state')}, {plural(ledger.get('rows', 0), 'request')}{behind}{anew}"


def _frozen(one: dict[str, Any]) -> str:
    what = "everything" if one.get("kind") == "all" else f"{one.get('kind')} {one.get('name')}"
    return f"{what} ({ago(one.get('since')) or '-'})"


def _print(session: Session, found: dict[str, Any]) -> None:
    revision, config = found.get("revision") or {}, found.get("config") or {}
    journal, last = found.get("journal") or {}, config.get("last_reload") or {}
    state = str(found.get("state"))
    head = f"gateway {found.get('version')} on {found.get('node')}"
    print(f"{show.paint(session, head, 'bold')}: {show.paint(session, state, show.style_of(state))}")
    outcome = ", last reload REFUSED" if last.get("ok") is False else ""
    lost = f", {plural(journal['lost'], 'record')} lost" if journal.get("lost") else ""
    show.facts(
        session,
        [
            ("running", f"pid {found.get('pid')}, started {ago(found.get('started')) or '-'}"),
            ("config", f"{config.get('path')}{outcome}"),
            ("revision", f"{revision.get('rev')} ({str(revision.get('digest', ''))[:12]}), live {ago(revision.get('ts')) or '-'}"),
            ("serves", ", ".join(plural(found.get(noun, 0), noun[:-1]) for noun in ("channels", "models", "keys"))),
            ("FROZEN", ", ".join(_frozen(one) for one in found.get("frozen") or []) or None),
            ("in flight", plural(found.get("in_flight", 0), "request")),
            ("ledger", ledger_line(found.get("ledger"))),
            ("journal", f"{plural(journal.get('segments', 0), 'segment')}, {size(journal.get('bytes', 0))}{lost}"),
        ],
        indent=2,
    )
    for title, columns in (("processes", PROCESSES), ("listeners", LISTENERS)):
        if found.get(title):
            print("\n" + show.table(session, found[title], columns))

"""`gatewayctl ledger`: the database of all requests: how it is, is it right, and what keeps it in shape. Needs no gateway that runs."""

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal
from urllib.parse import urlencode

import typer

from gatewayctl import show
from gatewayctl.alone import take_over
from gatewayctl.command import command, noun
from gatewayctl.commands.done import well_done
from gatewayctl.programs import ledger_act, ledger_bytes
from gatewayctl.session import Session
from gatewayctl.show import Column
from gatewayctl.trouble import DEGRADED, FAILED, USAGE, Done, Trouble
from gatewayctl.words import ago, moment, plural, since, size, span

app = noun(
    "ledger",
    "The database of all requests, for reports.",
    """
    gatewayctl ledger                               how it is
    gatewayctl ledger verify                        is everything in it, once?
    gatewayctl ledger export --since 2026-11-01 --to november.csv
    gatewayctl ledger archive                       months that are over, as Parquet
    gatewayctl ledger compact                       give unused disk space back
    gatewayctl ledger rebuild                       anew from the journal and the archives
    """,
    default="status",
)
PATIENCE = 24 * 3600.0
"""Seconds: reading or writing millions of requests takes as long as it takes."""

UNUSED = 64 * 1024 * 1024
"""Bytes that are worth a hint."""

ARCHIVES = [
    Column("archive", lambda a: a.get("name")),
    Column("month", lambda a: a.get("month")),
    Column("requests", lambda a: a.get("rows"), "right"),
    Column("size", lambda a: size(a.get("bytes")), "right"),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@command(
    app,
    "status",
    """
    gatewayctl ledger status
    gatewayctl ledger status -o json
    """,
)
def status(session: Session) -> None:
    """How the ledger is: requests, what waits, archives, disk space. Exits with 6 when it is not well."""
    found = _done(session, "status", "GET", "/v1/ledger", "ledger")
    if session.machine:
        show.data(session, found)
    else:
        _print(session, found)
    wrong = [f"the ledger is not well: {found['trouble']}"] if found.get("trouble") else []
    wrong += found.get("lost") or []
    _complain(session, wrong, bad=bool(wrong) or found.get("state") == "behind")


@command(
    app,
    "verify",
    """
    gatewayctl ledger verify
    gatewayctl ledger verify -o json
    """,
)
def verify(session: Session) -> None:
    """Read everything: is each request of the journal in it, once, and is each archive what was written? Exits with 6 when not."""
    found = _shown(session, "verify", "/v1/ledger/verify", "verified")
    _complain(session, found.get("wrong") or [], bad=not found.get("ok"))
    session.say(f"{plural(found.get('rows', 0), 'request')}, all in order, read in {found.get('seconds')} s")


@command(
    app,
    "rebuild",
    """
    gatewayctl ledger rebuild
    gatewayctl ledger rebuild --force       even when requests are lost with it
    """,
)
def rebuild(
    session: Session,
    force: Annotated[bool, typer.Option("--force", help="Also when requests would be lost, whose journal is gone.")] = False,
    yes: Yes = False,
) -> None:
    """Make the database anew from the archives and the journal. The old one serves reports until the new one is whole.

    Nothing is changed when that would lose a request, unless --force says so.
    """
    if force:
        session.confirm("Rebuild the ledger, whatever is lost with it?", yes)
    found = _shown(session, "rebuild", "/v1/ledger/rebuild", "ledger", {"force": force})
    lost = ", ".join(f"{plural(number, 'request')} of {month}" for month, number in (found.get("lost") or {}).items())
    if not found.get("rebuilt"):
        raise Trouble(f"nothing was changed, since this would lose {lost}: no archive and no file of the journal has them",
                      "If they may go: gatewayctl ledger rebuild --force", FAILED)  # fmt: skip
    session.say(f"the ledger is rebuilt: {plural(found.get('rows', 0), 'request')}{f'; lost: {lost}' if lost else ''}")
    well_done(found)


@command(
    app,
    "compact",
    """
    gatewayctl ledger compact
    """,
)
def compact(session: Session) -> None:
    """Give the disk space back that deleted and archived requests have left in the file. Takes as much again while it lasts."""
    found = _shown(session, "compact", "/v1/ledger/compact", "ledger")
    session.say(f"{size(found.get('before'))} before, {size(found.get('after'))} now")
    well_done(found)


@command(
    app,
    "archive",
    """
    gatewayctl ledger archive
    gatewayctl ledger archive -o json
    """,
)
def archive(session: Session) -> None:
    """Write every month that is over as a Parquet file. It stays part of every report. The gateway does this by itself a day later."""
    found = _done(session, "archive", "POST", "/v1/ledger/archive", "ledger")
    show.items(session, found.get("archived") or [], ARCHIVES, "no month is over that is not archived")
    well_done(found)


@command(
    app,
    "export",
    """
    gatewayctl ledger export --since 7d > week.csv
    gatewayctl ledger export --since 2026-10-01 --until 2026-11-01 --format parquet --to october.parquet
    gatewayctl ledger export --format json | jq .tokens_out
    """,
)
def export(
    session: Session,
    begun: Annotated[str | None, typer.Option("--since", metavar="TIME", help="Begun since: 7d, 2026-11-01, 2026-11-22T18:00.")] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Begun before.")] = None,
    form: Annotated[Literal["csv", "json", "parquet"], typer.Option("--format", help="json: one object a line.")] = "csv",
    to: Annotated[Path | None, typer.Option("--to", metavar="FILE", help="Default: stdout.")] = None,
) -> None:
    """Requests with all columns, archives included, oldest first. A file is complete or not there."""
    bounds = {"since": _moment("--since", begun, 0.0), "until": _moment("--until", until, time.time() + 86400)}
    if bounds["since"] > bounds["until"]:
        raise Trouble("--since is after --until", code=USAGE)
    if form == "parquet" and to is None and sys.stdout.isatty():
        raise Trouble("Parquet is nothing for a terminal", "Say: --to FILE", USAGE)
    wanted = {**bounds, "format": form}
    if to is None:
        for piece in _pieces(session, wanted):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    with whole_file(to) as file:
        for piece in _pieces(session, wanted):
            file.write(piece)
    session.say(f"{to}: {size(to.stat().st_size)}")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file that has its name only when it is complete."""
    new = path.with_name(f".{path.name}.new")
    try:
        with new.open("wb") as file:
            yield file
        os.replace(new, path)
    except OSError as error:
        raise Trouble(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        new.unlink(missing_ok=True)


def _moment(option: str, text: str | None, otherwise: float) -> float:
    try:
        return since(text, time.time()) if text else otherwise
    except ValueError as error:
        raise Trouble(f"{option} wants a duration such as 7d, or a time such as 2026-11-22T18:00, not {text!r}", code=USAGE) from error


def _pieces(session: Session, wanted: dict[str, Any]) -> Iterable[bytes]:
    try:
        return session.client().pieces(f"/v1/ledger/export?{urlencode(wanted)}", PATIENCE)
    except Trouble as trouble:
        take_over(session, trouble, "the gateway is not running; this is done on its files")
        return ledger_bytes(session.config, [part for name, value in wanted.items() for part in (f"--{name}", str(value))])


def _done(session: Session, act: str, method: str, path: str, word: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """By the gateway; by ourselves on its files when none runs."""
    client = session.client()
    try:
        found = client.get(path, PATIENCE) if method == "GET" else client.post(path, body or {}, PATIENCE)
    except Trouble as trouble:
        take_over(session, trouble, "the gateway is not running; this is done on its files")
        return ledger_act(session.config, act, *(["--force"] if (body or {}).get("force") else []))
    answer: dict[str, Any] = found[word]
    return answer


def _shown(session: Session, act: str, path: str, word: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """An act whose answer is shown to programs as it is."""
    found = _done(session, act, "POST", path, word, body)
    if session.machine:
        show.data(session, found)
    return found


def _complain(session: Session, wrong: Iterable[str], *, bad: bool) -> None:
    for sentence in wrong:
        session.warn(f"gatewayctl: {sentence}")
    if bad:
        raise Done(DEGRADED)


def _repaired(found: dict[str, Any]) -> str | None:
    repaired = found.get("repaired")
    return f"{ago(repaired.get('ts'))}: {repaired.get('why')}" if repaired else None


def _print(session: Session, found: dict[str, Any]) -> None:
    waiting = f"{plural(found.get('waiting', 0), 'segment')}, for {span(found.get('lag') or 0)}" if found.get("waiting") else "nothing"
    unused = f", {size(found['unused'])} of it unused: gatewayctl ledger compact" if found.get("unused", 0) > UNUSED else ""
    show.facts(
        session,
        [
            ("ledger", found.get("path")),
            ("state", show.paint(session, str(found.get("state")), show.style_of(str(found.get("state"))))),
            ("requests", found.get("rows", 0)),
            ("from", moment(found.get("first"))),
            ("to", moment(found.get("last"))),
            ("waiting", waiting),
            ("no price", plural(found["unpriced"], "request") if found.get("unpriced") else None),
            ("put aside", plural(found["quarantined"], "line") if found.get("quarantined") else None),
            ("built anew", _repaired(found)),
            ("file", f"{size(found.get('bytes', 0))}{unused}"),
            ("archives", f"{len(found.get('archives') or [])}, {size(sum(one['bytes'] for one in found.get('archives') or []))}"),
        ],
    )
    if found.get("archives"):
        print("\n" + show.table(session, found["archives"], ARCHIVES))

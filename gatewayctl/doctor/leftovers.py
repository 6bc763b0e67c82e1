"""What earlier trouble has left in data_dir: damaged files put aside, a reserve that was spent, freezes, half-made files."""

import os
import time
from pathlib import Path
from typing import Final

from gateway.config.revisions import Revisions
from gatewayctl.doctor.case import Case
from gatewayctl.doctor.finding import Findings, note, ok, typed, wrong
from gatewayctl.words import ago, plural

OLD: Final = 3600.0
"""Seconds after which a half-made file is nobody's any more."""
HALF: Final = (".tmp", ".new", ".making", ".partial")


def look(case: Case) -> Findings:
    try:
        found = [Path(folder) / name for folder, _, names in os.walk(case.data_dir, onerror=_raise) for name in names]
    except FileNotFoundError:
        return
    except PermissionError as error:
        yield note(f"{error.filename} may not be looked at by you", str(case.data_dir), "sudo gatewayctl doctor --only leftovers")
        return
    for path in (path for path in found if path.suffix == ".bad" or ".corrupt" in path.name):
        yield wrong("a damaged file was put aside; look what it held, then delete it", str(path), f"less {typed(path)}; rm {typed(path)}")
    half = [path for path in found if path.name.endswith(HALF) and _age(path) > OLD]
    if half:
        yield note(
            f"{plural(len(half), 'half-made file')} of a command that was killed", str(half[0]), f"rm {' '.join(map(typed, half[:5]))}"
        )
    yield from _reserve(case)
    yield from _revisions(case)
    for one in (case.status or {}).get("frozen") or []:
        kind, name = one.get("kind"), one.get("name")
        what, option = ("everything", "--all") if kind == "all" else (f"{kind} {name}", f"--{kind} {typed(name)}")
        yield note(
            f"{what} was frozen {ago(one.get('since')) or 'some time ago'} by {one.get('by')}",
            "freezes.json",
            f"gatewayctl unfreeze {option}",
        )


def _raise(error: OSError) -> None:
    raise error


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def _reserve(case: Case) -> Findings:
    wanted, path = case.config.journal.reserve if case.config else 0, case.data_dir / "journal/reserve"
    if not wanted or not path.parent.is_dir():
        return
    if path.exists():
        yield ok("the journal's reserve is there", str(path))
    elif case.status is not None:
        yield wrong(
            "the journal's reserve is not there: the disk was full, or there was no room for it", str(path), f"df -h {typed(case.data_dir)}"
        )
    else:
        yield note("the journal's reserve is not there; the gateway makes it when it runs", str(path))


def _revisions(case: Case) -> Findings:
    try:
        revisions = Revisions(case.data_dir)
        revisions.list()
        revisions.current()
    except OSError:
        return
    for sentence in revisions.damaged:
        yield wrong(sentence, str(case.data_dir / "revisions"), "gatewayctl config history")

"""One finding: a sentence, where, and what to type. Decides nothing."""

import shlex
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

State = Literal["ok", "note", "wrong"]


@dataclass(frozen=True, slots=True)
class Finding:
    """state: `ok`; `note`: worth knowing, or it could not be looked at; `wrong`. remedy: a command or a line of the configuration."""

    state: State
    what: str
    where: str = ""
    remedy: str = ""
    check: str = ""

    def told(self) -> dict[str, Any]:
        return asdict(self)


def typed(path: Path | str) -> str:
    """A path in a remedy: as a shell understands it, blanks and all, because people copy the line, and with sudo."""
    return shlex.quote(str(path))


Findings = Iterator[Finding]
Look = Callable[[Any], Findings]


def ok(what: str, where: str = "") -> Finding:
    return Finding("ok", what, where)


def note(what: str, where: str = "", remedy: str = "") -> Finding:
    return Finding("note", what, where, remedy)


def wrong(what: str, where: str = "", remedy: str = "") -> Finding:
    return Finding("wrong", what, where, remedy)

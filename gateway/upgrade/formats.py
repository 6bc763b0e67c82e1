"""Which formats are the files in `data_dir` in, and can this version read them? A stamp beside them says so, written at each start.

An older version does not start on what a newer one has written in a format that it does not know: it would misread or damage it.
"""

import json
from pathlib import Path
from typing import Any, Final

from gateway import __version__
from gateway.config import files
from gateway.ledger.schema import FORMAT as LEDGER

STAMP: Final = "formats.json"
FORMATS: Final = {"journal": 1, "ledger": LEDGER}
"""What outlives an upgrade. A number goes up when an older version could misread or damage what is written from then on."""
UNREADABLE: Final = 65
"""sysexits' EX_DATAERR: the exit code of a start on files of a newer version. Trying again would not help."""


class Newer(Exception):
    """The files were written by a version that knows more. The text is for the sysadmin."""


def check(data_dir: Path) -> None:
    """Raises Newer. No stamp, or none that can be read, is no objection: the files have sums and versions of their own."""
    found = _read(data_dir)
    formats = found.get("formats")
    for name, ours in FORMATS.items():
        theirs = formats.get(name, 0) if isinstance(formats, dict) else 0
        if isinstance(theirs, int) and theirs > ours:
            raise Newer(
                f"{data_dir} was written by version {found.get('version', 'unknown')}: its {name} has format {theirs}, "
                f"and this version ({__version__}) reads up to {ours}. Nothing was changed. Start that version again, or a newer one"
            )


def stamp(data_dir: Path) -> None:
    """Says that this version writes here from now on. Raises OSError."""
    ours = {"version": __version__, "formats": FORMATS}
    if _read(data_dir) != ours:
        files.write(data_dir / STAMP, json.dumps(ours).encode() + b"\n", 0o640)


def _read(data_dir: Path) -> dict[str, Any]:
    try:
        found = json.loads((data_dir / STAMP).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}

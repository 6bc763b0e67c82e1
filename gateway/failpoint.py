"""Named places where a test lets a process die, as kill -9 would. Nothing happens unless GATEWAY_FAILPOINT is set when it starts.

GATEWAY_FAILPOINT is a place's name: whoever comes there dies, each time. Or the path of a file that holds one: the file goes with the
first who dies, so that whoever is started again lives.
"""

import os
import signal
from pathlib import Path
from typing import Final

_SAID: Final = os.environ.get("GATEWAY_FAILPOINT", "")

PLACES: Final = (
    *("journal.before-write", "journal.written", "journal.before-seal", "journal.sealed", "journal.closing-orphan"),
    *("ledger.before-begin", "ledger.rows-inserted", "ledger.before-commit", "ledger.committed", "ledger.before-settle", "ledger.settled"),
    *("bundle.written", "bundle.renamed", "bundle.known", "bundle.before-delete", "bundle.deleted"),
    *("archive.written", "archive.renamed", "archive.rows-deleted", "archive.committed"),
    "engines.noted",
    *("reprice.written", "reprice.renamed", "reprice.committed"),
    *("compact.written", "compact.renamed"),
)
"""Every place there is; a test compares them with the code."""


def failpoint(name: str) -> None:
    """Dies here when a test wants that."""
    if _SAID:
        _die(name)


def _die(name: str) -> None:
    if _SAID.startswith("/"):
        try:
            if Path(_SAID).read_text().strip() != name:
                return
            os.unlink(_SAID)
        except FileNotFoundError:  # another process was quicker
            return
    elif name != _SAID:
        return
    os.kill(os.getpid(), signal.SIGKILL)

"""The ledger's database in a backup: a copy of one moment, made by control while it runs, else by a child from the file that nobody has
open. It comes before the journal, so that each record is in one of them; what is in both is counted once, by its id.

A backup never fails for it: the journal and the archives, which are in the backup too, are what it is made anew from.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from gatewayctl.backup.contents import CONFIG, DATA, Item, Left, within
from gatewayctl.backup.writing import working_file
from gatewayctl.place import Place
from gatewayctl.programs import ledger_copy
from gatewayctl.session import Session
from gatewayctl.trouble import Trouble

SECONDS: Final = 630.0
"""A little more than control gives itself."""
ANEW: Final = "it is made anew from the journal and the archives"


@contextlib.contextmanager
def copied(session: Session, at: Place, ledger: Path, target: Path, *, wanted: bool) -> Iterator[Iterable[Item | Left]]:
    """What of the ledger goes into the backup `target`: its copy lies beside that until the block ends."""
    if not ledger.exists():
        yield []
        return
    if not wanted:
        yield [Left(str(ledger), f"--without-ledger; {ANEW}")]
        return
    with working_file(target.with_name(f"{target.name}.ledger")) as beside:
        yield list(_items(session, at, ledger, beside))


def _items(session: Session, at: Place, ledger: Path, beside: Path) -> Iterator[Item | Left]:
    try:
        if at.serving:
            _received(session, beside)
        else:
            ledger_copy(session.config, beside, SECONDS)
    except Trouble as trouble:
        session.warn(f"gatewayctl: the ledger is not in the backup: {trouble.message}")
        yield Left(str(ledger), f"it could not be copied; {ANEW}")
        return
    if (place := within(at.data_dir, ledger)) is not None:
        yield Item(f"{DATA}/{place}", ledger, bytes_of=beside)
    else:
        yield Item(f"{CONFIG}{ledger}", ledger, bytes_of=beside)
        # Restored, it stands in place of a log of changes that belongs to another state of the file.
        yield Item(f"{CONFIG}{ledger}.wal", ledger, data=b"")


def _received(session: Session, beside: Path) -> None:
    """From control. Raises Trouble."""
    pieces = session.client().pieces("/v1/ledger/copy", SECONDS)
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(handle, "wb") as file:
        try:
            for piece in pieces:
                file.write(piece)
        except OSError as error:
            raise Trouble(f"{beside.parent}: {error.strerror or error}") from error

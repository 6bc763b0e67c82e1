"""Temporary files of the ledger on their way to whoever asked for them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import BinaryIO, Final

BLOCK: Final = 256 * 1024


@contextlib.contextmanager
def written(path: Path) -> Iterator[Path]:
    """The file, while it is being written: when that fails, nothing of it stays."""
    try:
        yield path
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def pieces_of(path: Path) -> AsyncIterator[bytes]:
    """The file, piece by piece. Its name goes at once, so that nothing is left of it whoever goes away meanwhile."""
    file = path.open("rb")
    path.unlink()
    return _read(file)


async def _read(file: BinaryIO) -> AsyncIterator[bytes]:
    with file:
        while piece := await asyncio.to_thread(file.read, BLOCK):
            yield piece

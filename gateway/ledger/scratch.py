"""Temporary files of the ledger on their way to whoever asked for them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO, Final

BLOCK: Final = 256 * 1024


def pieces_of(path: Path) -> AsyncIterator[bytes]:
    """The file, piece by piece. Its name goes at once, so that nothing is left of it whoever goes away meanwhile."""
    file = path.open("rb")
    path.unlink()
    return _read(file)


async def _read(file: BinaryIO) -> AsyncIterator[bytes]:
    with file:
        while piece := await asyncio.to_thread(file.read, BLOCK):
            yield piece

"""Temporary files of the ledger on their way to whoever asked for them."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

BLOCK: Final = 256 * 1024


async def pieces_of(path: Path) -> AsyncIterator[bytes]:
    """The file, piece by piece; then it is gone."""
    try:
        with path.open("rb") as file:
            while piece := await asyncio.to_thread(file.read, BLOCK):
                yield piece
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

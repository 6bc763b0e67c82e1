"""Tokenizers that were converted once (`byte_level`), in `data_dir/tokenizers`, each by the sum of the file that it was made of.

Who finds one there need not ask `tokenizers`, which holds up a whole process while it reads a file. Blocks: threads only.
"""

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from gateway.tokens.byte_level import ByteLevel

FORMAT: Final = 1
MOST: Final = 16
"""Files that are kept. Each has 1 to 3 MB."""


class _Kept(Struct, frozen=True):
    format: int
    pattern: str
    whole: tuple[str, ...]
    nfc: bool
    tokens: list[bytes]
    """In the order of their ranks, which have no gaps."""


def kept_in(data_dir: Path) -> Path:
    """The folder of a gateway."""
    return data_dir / "tokenizers"


def find(folder: Path, data: bytes) -> ByteLevel | None:
    """What was made of the file with these bytes; None: nothing yet, or nothing that can be read."""
    try:
        kept = msgspec.msgpack.decode(_place(folder, data).read_bytes(), type=_Kept)
    except (OSError, msgspec.MsgspecError):
        return None
    if kept.format != FORMAT:
        return None
    return ByteLevel({token: rank for rank, token in enumerate(kept.tokens)}, kept.pattern, kept.whole, kept.nfc)


def keep(folder: Path, data: bytes, made: ByteLevel) -> None:
    """A crash leaves the whole file or none; several processes may do it at once. The oldest go. Errors: OSError."""
    tokens = sorted(made.ranks, key=made.ranks.__getitem__)
    folder.mkdir(mode=0o700, exist_ok=True)
    place = _place(folder, data)
    temporary = place.with_suffix(f".{os.getpid()}.new")
    temporary.write_bytes(msgspec.msgpack.encode(_Kept(FORMAT, made.pattern, made.whole, made.nfc, tokens)))
    os.replace(temporary, place)
    with suppress(FileNotFoundError):
        for old in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)[:-MOST]:
            old.unlink()


def _place(folder: Path, data: bytes) -> Path:
    return folder / f"{hashlib.sha256(data).hexdigest()}.ranks"

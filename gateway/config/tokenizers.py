"""What `tokenizer:` may name, and can it be used? The bundled vocabularies, `.tiktoken` and `tokenizer.json` files. Counts nothing."""

import difflib
import hashlib
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from gateway.config.expand import read_small, why

ENGINE: Final = "engine"
"""The word for: ask the engine's own tokenise endpoint."""
LARGEST: Final = 128 << 20
"""Bytes of a tokenizer's file that are read. The largest that are published have about 35 MB."""
FOLDER: Final = Path(__file__).parents[1] / "tokens" / "vocabularies"
REMEDY: Final = "`make vocabularies` fetches the bundled vocabularies"
_KINDS: Final = ("BPE", "Unigram", "WordLevel", "WordPiece")


class Bundled(NamedTuple):
    """A vocabulary that comes with the gateway. size: bytes; sha256: of the file; longest: bytes of its longest token."""

    file: str
    size: int
    sha256: str
    longest: int = 128


BUNDLED: Final = {
    "cl100k": Bundled("cl100k_base.tiktoken", 1_681_126, "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"),
    "o200k": Bundled("o200k_base.tiktoken", 3_613_922, "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"),
    "qwen": Bundled("qwen.tiktoken", 2_561_218, "b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186"),
}
"""cl100k and o200k: OpenAI's, the sums are those that tiktoken itself expects. qwen: Qwen to Qwen3."""


class Unusable(ValueError):
    """A tokenizer that cannot be used. Its text is for the sysadmin, and begins with the file's name."""


class _Model(Struct):
    """`type` is missing in files of old versions of `tokenizers`, which wrote BPE only."""

    vocab: dict[str, int] | list[Any]
    type: str = "BPE"


class _Json(Struct):
    model: _Model


def locate(name: str, folder: Path) -> Path:
    """The file of a tokenizer. folder: what relative names start from (the configuration's)."""
    return FOLDER / BUNDLED[name].file if name in BUNDLED else folder / name


def trouble(name: str, folder: Path) -> str | None:
    """Why a tokenizer cannot be used, in a sentence; None = it can. Reads its whole file: some tenths of a second."""
    if name == ENGINE:
        return None
    if name not in BUNDLED and "/" not in name and "." not in name:
        near = difflib.get_close_matches(name, [*BUNDLED, ENGINE], 1, 0.5)
        meant = f'; did you mean "{near[0]}"?' if near else ""
        return f'there is no tokenizer "{name}" (bundled are {", ".join(BUNDLED)}; or "{ENGINE}", or a file){meant}'
    try:
        data = read(name, folder)
        if is_json(data):
            prove(data, name, folder)
        elif name not in BUNDLED:  # those are checked by their sum
            ranks(data, name)
    except Unusable as bad:
        return str(bad)
    return None


def read(name: str, folder: Path) -> bytes:
    """The bytes of a tokenizer's file; of a bundled one they are checked. Errors: Unusable."""
    bundled = BUNDLED.get(name)
    try:
        data = read_small(locate(name, folder), LARGEST)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        said = why(error) if isinstance(error, OSError) else str(error)
        if bundled:
            raise Unusable(f'the vocabulary "{name}" is missing ({bundled.file}: {said}); {REMEDY}') from None
        raise Unusable(f"{name}: {said}") from None
    if bundled and hashlib.sha256(data).hexdigest() != bundled.sha256:
        raise Unusable(f'the vocabulary "{name}" ({bundled.file}) is not what it should be; {REMEDY} anew')
    return data


def is_json(data: bytes) -> bool:
    """Whether it is a `tokenizer.json` rather than lines of ranks (base64 has no brace)."""
    return data[:64].lstrip().startswith(b"{")


def check_json(data: bytes, name: str) -> None:
    """Whether it looks like a `tokenizer.json`. Errors: Unusable."""
    try:
        model = msgspec.json.decode(data, type=_Json).model
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as bad:
        raise Unusable(f"{name}: this is no tokenizer.json ({str(bad)[:200]})") from None
    if model.type not in _KINDS:
        raise Unusable(f'{name}: a model of type "{model.type[:40]}" is not known (known are {", ".join(_KINDS)})')
    if not model.vocab:
        raise Unusable(f"{name}: its vocabulary is empty")


def prove_here(data: bytes, name: str, folder: Path) -> None:
    """Whether a `tokenizer.json` can be loaded at all. Errors: Unusable."""
    check_json(data, name)
    from tokenizers import Tokenizer  # a quarter of a second, for those who name such a file

    try:
        Tokenizer.from_str(data.decode())
    except Exception as bad:  # the library raises plain Exceptions
        raise Unusable(f"{name}: this tokenizer.json cannot be loaded ({str(bad)[:200]})") from None


prove: Callable[[bytes, str, Path], None] = prove_here
"""By which `trouble` finds out. A process that must not be held up by it has another one (see `gateway/govern/proving.py`)."""


def ranks(data: bytes, name: str) -> dict[bytes, int]:
    """The tokens of a `.tiktoken` file (lines of base64 and rank) with their ranks. Errors: Unusable, with the line."""
    found: dict[bytes, int] = {}
    line = 0
    try:
        for text in data.splitlines():
            line += 1
            if text:
                token, rank = text.split()
                found[b64decode(token, validate=True)] = int(rank)
    except (ValueError, NotBase64):
        raise Unusable(f"{name}:{line}: this is no `token rank` line of a .tiktoken file") from None
    if not found:
        raise Unusable(f"{name}: it is empty")
    if b"" in found or min(found.values()) < 0 or max(found.values()) >= 1 << 32 or len(set(found.values())) < len(found):
        raise Unusable(f"{name}: its ranks are not one number from 0 to 4294967295 for each token")
    missing = next((byte for byte in range(256) if bytes((byte,)) not in found), None)
    if missing is not None:
        raise Unusable(f"{name}: it has no token for the byte 0x{missing:02x}, so some texts could not be counted")
    return found

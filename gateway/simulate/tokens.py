"""A tokenizer that anybody can compute by hand: up to six characters of a word with the white space before them.

The pieces of a text joined again are the text, so a streamed answer can be compared with an unstreamed one.
"""

import re
import struct
import zlib
from base64 import b64encode
from collections.abc import Sequence

_PIECE = re.compile(r"\s?\S{1,6}|\s")
_VOCABULARY = 150_000


def split(text: str) -> list[str]:
    """The tokens of a text, in order."""
    return _PIECE.findall(text)


def count(text: str) -> int:
    return len(_PIECE.findall(text))


class Vocabulary:
    """Ids for tokens and back. An id is a checksum, so it is the same in every simulator; only seen ids decode."""

    LIMIT = 1 << 16

    def __init__(self) -> None:
        self._seen: dict[int, str] = {}

    def encode(self, text: str) -> list[int]:
        if len(self._seen) > self.LIMIT:
            self._seen.clear()
        ids = []
        for piece in split(text):
            number = zlib.crc32(piece.encode()) % _VOCABULARY
            self._seen[number] = piece
            ids.append(number)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self._seen.get(number, "\N{REPLACEMENT CHARACTER}") for number in ids)


def vector(text: str, dimensions: int) -> list[float]:
    """An embedding: deterministic, of length one per component at most, different for different texts."""
    found = []
    state = zlib.crc32(text.encode())
    for _ in range(dimensions):
        state = (state * 1_103_515_245 + 12_345) & 0x7FFFFFFF
        found.append(round(state / 0x3FFFFFFF - 1.0, 6))
    return found


def vector_base64(values: Sequence[float]) -> str:
    """The form of `encoding_format: base64`: little-endian float32."""
    return b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


def relevance(query: str, document: str) -> float:
    """A rerank score in (0, 1): shared words, and a little that tells equal ones apart."""
    wanted = set(query.lower().split())
    shared = len(wanted & set(document.lower().split())) / max(1, len(wanted))
    return round(0.02 + 0.95 * shared + (zlib.crc32(document.encode()) % 1000) / 50_000, 6)

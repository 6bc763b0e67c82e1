"""Tokenizers from files: rank lines (`.tiktoken`) by tiktoken, `tokenizer.json` by tokenizers. Blocks: threads only, never the loop.

Both packages, and the 35 to 75 MB that a vocabulary takes, are loaded when a model first needs them.
"""

import threading
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
from msgspec import Struct

from gateway.config.tokenizers import BUNDLED, Unusable, check_json, is_json, locate, ranks, read
from gateway.tokens.bounds import NFC, UNKNOWN, Growth
from gateway.tokens.byte_level import ByteLevel, agree, byte_level
from gateway.tokens.kept import find, keep
from gateway.tokens.pieces import pieces

_BATCH: Final = 4
"""Pieces that `tokenizers` gets at once; it takes a core for each, and some 200 bytes for each token until they are counted."""

# The patterns that split a text into words, as their makers publish them. Facts of the vocabularies, like their ranks.
_CL100K: Final = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
_O200K: Final = "|".join(
    (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)
_QWEN: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


class Tokenizer(Protocol):
    """What counts. longest: bytes of its longest token, 0 = not known. growth: what normalising may do to a text."""

    longest: int
    growth: Growth

    def count(self, text: str) -> int:
        """Tokens of a text, in which special tokens are text like any other. Errors: none, whatever the text is."""
        ...


class Ranked:
    """A vocabulary of ranks. What looks like a special token is split like other text."""

    def __init__(self, vocabulary: dict[bytes, int], pattern: str, *, nfc: bool, whole: Sequence[str] = ()) -> None:
        """nfc: texts are normalised first, as Qwen's are. whole: texts that are a token each, wherever they stand. Errors: ValueError."""
        import tiktoken

        self.longest = max(map(len, [*vocabulary, *(text.encode() for text in whole)]))
        self.growth = NFC if nfc else Growth()
        special = {text: len(vocabulary) + number for number, text in enumerate(whole)}
        self._encoding = tiktoken.Encoding("", pat_str=pattern, mergeable_ranks=vocabulary, special_tokens=special)
        self._whole = frozenset(whole)

    def count(self, text: str) -> int:
        return sum(map(self._piece, pieces(text)))

    def _piece(self, text: str) -> int:
        if self.growth.other > 1 and not text.isascii():
            text = unicodedata.normalize("NFC", text)
        text = _encodable(text)
        try:
            if self._whole:
                return len(self._encoding.encode(text, allowed_special=self._whole, disallowed_special=()))
            return len(self._encoding.encode_ordinary(text))
        except BaseException as fault:
            return _guess(text, fault)


class HuggingFace:
    """A model's own tokenizer.json."""

    def __init__(self, data: bytes) -> None:
        """Errors: ValueError."""
        from tokenizers import Tokenizer as Loaded

        self._tokenizer: Any = Loaded.from_buffer(data)
        self._tokenizer.no_truncation()  # files of embedding models say 512
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True  # as text
        self.longest, self.growth = _facts(data)

    def count(self, text: str) -> int:
        found, rest = 0, map(_encodable, pieces(text))
        while batch := list(islice(rest, _BATCH)):
            found += self._batch(batch)
        return found

    def _batch(self, texts: Sequence[str]) -> int:
        try:
            return sum(map(len, self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)))
        except BaseException as fault:
            return sum(_guess(text, fault) for text in texts)


class Shelf:
    """The tokenizers of a process. A file that has changed is loaded anew; what it was is let go. For threads."""

    def __init__(self, folder: Path) -> None:
        """folder: what relative names start from."""
        self._folder = folder
        self.kept: Path | None = None
        """Where converted ones are found and go; None = nowhere."""
        self._kept: dict[str, tuple[tuple[int, int, int], Tokenizer]] = {}
        self._lock = threading.Lock()

    def get(self, name: str) -> Tokenizer:
        """Errors: Unusable. Callers wait for one another: the same file is not loaded twice."""
        with self._lock:
            mark = _mark(locate(name, self._folder))
            kept = self._kept.get(name)
            if kept is None or kept[0] != mark:
                kept = self._kept[name] = mark, load(name, self._folder, self.kept)
            return kept[1]

    def keep(self, names: set[str]) -> None:
        """Lets go of all others."""
        with self._lock:
            self._kept = {name: kept for name, kept in self._kept.items() if name in names}


def load(name: str, folder: Path, kept: Path | None = None) -> Tokenizer:
    """A tokenizer by its bundled name or its file. folder: what relative names start from. kept: where converted ones are found and go.
    Errors: Unusable."""
    data = read(name, folder)
    try:
        if is_json(data):
            return _from_json(data, name, kept)
        vocabulary = ranks(data, name)
        pattern = _pattern(name, vocabulary)
        return Ranked(vocabulary, pattern, nfc=pattern is _QWEN)
    except Unusable:
        raise
    except BaseException as fault:  # Rust's panics are no Exception
        if _is_ours(fault):
            raise
        raise Unusable(f"{name}: it cannot be loaded ({str(fault)[:200]})") from None


def _from_json(data: bytes, name: str, kept: Path | None) -> Tokenizer:
    """As ranks, when it is of that kind; that it counts alike was proved when it was converted."""
    known = find(kept, data) if kept is not None else None
    if known is not None:
        return _ranked(known)
    check_json(data, name)
    own, found = HuggingFace(data), byte_level(data)
    quicker = _quicker(own, found) if found is not None else None
    if quicker is None or found is None:
        return own
    if kept is not None:
        with suppress(OSError):  # it is only made anew
            keep(kept, data, found)
    return quicker


def _ranked(found: ByteLevel) -> Ranked:
    return Ranked(found.ranks, found.pattern, nfc=found.nfc, whole=found.whole)


def _quicker(own: HuggingFace, found: ByteLevel) -> Ranked | None:
    """The same tokenizer as ranks, when it counts alike."""
    try:
        made = _ranked(found)
        return made if agree(made.count, own.count, found.ranks) else None
    except BaseException as fault:  # a pattern that the other engine does not know; Rust's panics are no Exception
        if _is_ours(fault):
            raise
        return None


def _mark(path: Path) -> tuple[int, int, int]:
    """Differs when the file is another one; a missing one is found out by reading it."""
    try:
        at = path.stat()
    except (OSError, ValueError):
        return 0, 0, 0
    return at.st_mtime_ns, at.st_size, at.st_ino


def _pattern(name: str, vocabulary: dict[bytes, int]) -> str:
    """The bundled ones' own. Of a file: one that has no token of two digits splits numbers as Qwen does; of the others the large
    ones (over 150,000) are relatives of o200k, the small ones (Llama 3 among them) of cl100k."""
    if name in BUNDLED:
        return {"cl100k": _CL100K, "o200k": _O200K, "qwen": _QWEN}[name]
    if b"10" not in vocabulary:
        return _QWEN
    return _O200K if len(vocabulary) > 150_000 else _CL100K


class _Added(Struct):
    content: str = ""
    special: bool = False
    lstrip: bool = False
    rstrip: bool = False


class _Shape(Struct):
    """What of a tokenizer.json decides how far texts and tokens can be apart."""

    model: dict[str, Any]
    normalizer: dict[str, Any] | None = None
    pre_tokenizer: dict[str, Any] | None = None
    added_tokens: list[_Added] = []


def _facts(data: bytes) -> tuple[int, Growth]:
    """(longest, growth). What is not a plain byte-level BPE may join any number of unknown characters into one token."""
    shape = msgspec.json.decode(data, type=_Shape)
    steps = {part.get("type") for part in _steps(shape.normalizer, "normalizers")}
    before = _steps(shape.pre_tokenizer, "pretokenizers")
    kinds = {part.get("type") for part in before}
    plain = steps <= {"NFC"} and "Metaspace" not in kinds and not any(part.get("add_prefix_space") for part in before)
    growth = (NFC if steps else Growth()) if plain else UNKNOWN
    text = [added for added in shape.added_tokens if not added.special]
    if not plain or "ByteLevel" not in kinds or shape.model.get("type", "BPE") != "BPE" or any(one.lstrip or one.rstrip for one in text):
        return 0, growth
    vocabulary = shape.model.get("vocab") or {}
    return max(map(len, [*vocabulary, *(one.content.encode() for one in text)])), growth  # a character of byte-level is a byte


def _steps(step: dict[str, Any] | None, parts: str) -> list[dict[str, Any]]:
    """A step, or the steps of a sequence."""
    inner = step.get(parts) if step else None
    if isinstance(inner, list):
        return [found for part in inner if isinstance(part, dict) for found in _steps(part, parts)]
    return [step] if step else []


def _encodable(text: str) -> str:
    """Lone surrogates, which no UTF-8 can hold, become question marks."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace").decode()
    return text


def _guess(text: str, fault: BaseException) -> int:
    """For a text on which a tokenizer broke. Raises what is not the tokenizer's: an interrupt, an exit."""
    if _is_ours(fault):
        raise fault
    return -(-len(text.encode(errors="replace")) // 4)


def _is_ours(fault: BaseException) -> bool:
    return not isinstance(fault, Exception) and type(fault).__name__ != "PanicException"

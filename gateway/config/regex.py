"""Patterns of the configuration, by google-re2: their time grows with the text and no faster, whoever wrote either."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

PATTERN_MOST: Final = 4096
"""Characters of a pattern."""
_MEMORY: Final = 8 << 20
"""Bytes that one pattern may use. A pattern that needs more is refused; while matching, re2 forgets and starts over."""

_SET_MEMORY: Final = 64 << 20
"""The same for a set of patterns."""


@lru_cache(1024)
def compiled(pattern: str) -> Any:
    """The pattern, ready to `search` bytes of UTF-8. Raises ValueError with re2's own words."""
    import re2  # type: ignore[import-untyped]  # here, because most commands and configurations need none

    try:
        return re2.compile(pattern, _options(_MEMORY))
    except re2.error as error:
        said = error.args[0] if error.args else "it is refused"
        raise ValueError(said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)) from None
    except UnicodeEncodeError:
        raise ValueError("it holds half a character") from None


def compiled_set(patterns: Sequence[str]) -> Any:
    """Patterns that `compiled` took, as one set: its `Match` gives the numbers of those that match anywhere in UTF-8. The number after
    the last one always matches, unless the set ran out of memory. None: together they are too large, even to be built."""
    import re2

    made = re2.Set.SearchSet(_options(min(_MEMORY * len(patterns), _SET_MEMORY)))
    try:
        for pattern in (*patterns, ""):
            made.Add(pattern)
        made.Compile()
    except re2.error:
        return None
    return made


def _options(memory: int) -> Any:
    import re2

    options = re2.Options()
    options.log_errors = False
    options.max_mem = memory
    options.never_capture = True
    return options


def globbed(globs: tuple[str, ...]) -> Any:
    """One pattern for names, in which `*` stands for anything."""
    return compiled("^(?:" + "|".join(".*".join(_literal(piece) for piece in glob.split("*")) for glob in globs) + ")$")


def _literal(text: str) -> str:
    return "".join(sign if sign.isalnum() or sign == "_" else f"\\x{{{ord(sign):x}}}" for sign in text)


def utf8(text: str) -> bytes:
    """Text as patterns read it. What a header may hold and UTF-8 may not becomes a question mark."""
    return text.encode("utf-8", "replace")

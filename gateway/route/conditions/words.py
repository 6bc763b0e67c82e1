"""Does a text contain one of some words? One pass over it, however many words there are. Decides nothing else.

More than a few words make one Aho-Corasick automaton over UTF-8, a character of Latin-1 for each byte: an automaton over
Chinese characters has thousands of branches at its root, which are searched one by one (half a second for a megabyte).
Upper and lower case are folded on request; full-width letters and other forms of one character (NFKC) are not.
"""

from collections.abc import Callable
from typing import Final

import ahocorasick  # type: ignore[import-not-found]  # a C module without types

FEW: Final = 8
"""Up to so many words, searching for one after the other is quicker than one pass of the automaton."""


def finder(words: tuple[str, ...], ignore_case: bool) -> Callable[[str], bool]:
    """A function that tells whether a text has one of the words. No words = any text will do."""
    wanted = tuple(dict.fromkeys(word.casefold() for word in words)) if ignore_case else tuple(dict.fromkeys(words))
    if not wanted:
        return _anything
    found = _few(wanted) if len(wanted) <= FEW else _many(wanted)
    return (lambda text: found(text.casefold())) if ignore_case else found


def _anything(text: str) -> bool:
    return True


def _few(words: tuple[str, ...]) -> Callable[[str], bool]:
    def found(text: str) -> bool:
        for word in words:  # noqa: SIM110  # a generator costs a microsecond, as much as the search
            if word in text:
                return True
        return False

    return found


def _many(words: tuple[str, ...]) -> Callable[[str], bool]:
    automaton = ahocorasick.Automaton()
    for word in words:
        automaton.add_word(_bytes(word), True)
    automaton.make_automaton()
    matches = automaton.iter

    def found(text: str) -> bool:
        return next(matches(text if text.isascii() else _bytes(text)), None) is not None

    return found


def _bytes(text: str) -> str:
    return text.encode("utf-8", "surrogatepass").decode("latin-1")

"""Which of some lists of words has a word in a text? One pass over it, however many words there are. Decides nothing else.

More than a few words make one Aho-Corasick automaton over UTF-8, a character of Latin-1 for each byte: an automaton over
Chinese characters has thousands of branches at its root, which are searched one by one (half a second for a megabyte).
Upper and lower case are folded on request; full-width letters and other forms of one character (NFKC) are not.
"""

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Final

import ahocorasick  # type: ignore[import-not-found]  # a C module without types

FEW: Final = 8
"""Up to so many words, searching for one after the other is quicker than one pass of the automaton."""
MATCHES_MOST: Final = 64
"""Matches that are looked at one by one. A text full of them has each list searched for by itself: that ends at a list's first word."""


class Lists:
    """Several lists of words, known by their numbers. A list without words is in every text."""

    def __init__(self, lists: Sequence[tuple[str, ...]], ignore_case: bool) -> None:
        wanted = [
            tuple(dict.fromkeys(word.casefold() for word in words)) if ignore_case else tuple(dict.fromkeys(words)) for words in lists
        ]
        self._fold = ignore_case
        self._lists = wanted
        self._each: dict[int, Callable[[str], bool]] = {}
        self._always = frozenset(number for number, words in enumerate(wanted) if not words)
        owners: dict[str, set[int]] = {}
        for number, words in enumerate(wanted):
            for word in words:
                owners.setdefault(word, set()).add(number)
        self._all = (
            _automaton({word: frozenset(numbers) for word, numbers in owners.items()}) if len(wanted) > 1 and len(owners) > FEW else None
        )

    def __len__(self) -> int:
        return len(self._lists)

    def found(self, text: str) -> frozenset[int]:
        """The numbers of the lists that have a word in the text."""
        if self._fold:
            text = text.casefold()
        found = self._always
        if self._all is not None:
            matches = self._all.iter(_plain(text))
            for _, numbers in islice(matches, MATCHES_MOST):
                found |= numbers
            if next(matches, None) is None:
                return found
        return found | {number for number in range(len(self._lists)) if number not in found and self._has(number, text)}

    def _has(self, number: int, text: str) -> bool:
        """Whether one list is in it, searched for by itself: made when it is first wanted, since few ever are."""
        has = self._each.get(number)
        if has is None:
            has = self._each[number] = finder(self._lists[number])
        return has(text)


def finder(words: tuple[str, ...]) -> Callable[[str], bool]:
    """A function that tells whether a text has one of the words, as they are written. No words = any text will do."""
    if not words:
        return _anything
    return _few(words) if len(words) <= FEW else _many(words)


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
    matches = _automaton(dict.fromkeys(words, True)).iter
    return lambda text: next(matches(_plain(text)), None) is not None


def _automaton(words: dict[str, Any]) -> Any:
    """words: each with what its matches are to give."""
    automaton = ahocorasick.Automaton()
    for word, value in words.items():
        automaton.add_word(_bytes(word), value)
    automaton.make_automaton()
    return automaton


def _plain(text: str) -> str:
    return text if text.isascii() else _bytes(text)


def _bytes(text: str) -> str:
    return text.encode("utf-8", "surrogatepass").decode("latin-1")

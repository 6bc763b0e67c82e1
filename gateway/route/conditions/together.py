"""What a model's rules look for in the same text, looked for once for all of them: patterns in one pass, words in another.

The first rule that asks pays for the pass; what was found is remembered with the request. Alone, a search is its own.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final

from gateway.config.regex import compiled, compiled_set, utf8
from gateway.route.ask import Ask
from gateway.route.conditions.words import Lists

Texts = Callable[[Ask], list[str]]
Test = Callable[[Ask], bool]
Found = frozenset[int]

_NOTHING: Final[Found] = frozenset()


class Together:
    """The searches of one model's rules. place: what the texts of a search are; equal places have equal texts."""

    def __init__(self) -> None:
        self._searches: dict[Any, Patterns | Words] = {}

    def pattern(self, place: str, texts: Texts, pattern: str) -> Test:
        """Whether the pattern matches anywhere in one of the texts. Raises ValueError for one that re2 refuses."""
        compiled(pattern)
        search = self._searches.setdefault(("pattern", place), Patterns(texts))
        return search.test(pattern)

    def words(self, place: str, texts: Texts, words: tuple[str, ...], ignore_case: bool) -> Test:
        """Whether one of the texts has one of the words."""
        search = self._searches.setdefault(("words", place, ignore_case), Words(texts, ignore_case))
        return search.test(words)

    def ready(self) -> None:
        """All rules are compiled: builds what the first request would have to build."""
        for search in self._searches.values():
            search.ready()


class _Search(ABC):
    """Numbered things that are looked for in the same texts."""

    def __init__(self, texts: Texts) -> None:
        self._texts = texts
        self._wanted: dict[Any, int] = {}

    def test(self, wanted: Any) -> Test:
        number = self._wanted.setdefault(wanted, len(self._wanted))

        def holds(ask: Ask) -> bool:
            found = ask.once.get(self)
            if found is None:
                found = ask.once[self] = self.look(ask)
            return number in found

        return holds

    @abstractmethod
    def ready(self) -> None:
        """Builds what `look` needs, when something was added since."""

    @abstractmethod
    def look(self, ask: Ask) -> Found:
        """The numbers of all that is in one of the request's texts."""


class Patterns(_Search):
    """re2's own set of patterns: its time grows with the text, hardly with their number."""

    _set: Any = None
    _size = 0

    def ready(self) -> None:
        if self._size != len(self._wanted):
            self._size = len(self._wanted)
            self._set = compiled_set(list(self._wanted)) if self._size > 1 else None

    def look(self, ask: Ask) -> Found:
        self.ready()
        found: set[int] = set()
        for text in self._texts(ask):
            data = utf8(text)
            matched = self._set.Match(data) if self._set is not None else ()
            if self._size in matched:  # the pattern that always matches: without it the set ran out of memory
                found.update(matched)
            else:
                found.update(number for pattern, number in self._wanted.items() if compiled(pattern).search(data))
        return frozenset(found)


class Words(_Search):
    """One automaton over the words of all lists."""

    _lists: Lists | None = None

    def __init__(self, texts: Texts, ignore_case: bool) -> None:
        super().__init__(texts)
        self._ignore_case = ignore_case

    def ready(self) -> None:
        if self._lists is None or len(self._lists) != len(self._wanted):
            self._lists = Lists(list(self._wanted), self._ignore_case)

    def look(self, ask: Ask) -> Found:
        self.ready()
        assert self._lists is not None
        found = _NOTHING
        for text in self._texts(ask):
            found |= self._lists.found(text)
        return found

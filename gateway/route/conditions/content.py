"""`content`: words and patterns in the prompt's text, and values of the request's JSON by their path."""

from collections.abc import Callable
from typing import Any

from gateway.config.regex import compiled, utf8
from gateway.config.resolved_when import Content, Scalar
from gateway.route.ask import Ask
from gateway.route.conditions.condition import within
from gateway.route.conditions.together import Test, Together

_PLACES: dict[str, tuple[Callable[[Ask], list[str]], str]] = {
    "last_user": (lambda ask: [ask.last_user], "the last text of the user"),
    "system": (lambda ask: [ask.system], "the system text"),
    "any": (lambda ask: ask.texts, "the prompt"),
    "tools": (lambda ask: ask.tool_names, "the names of the tools"),
}


class Text:
    """Words, a pattern, or both, somewhere in the texts of one place. Each text is searched by itself."""

    __slots__ = ("_missed", "_place", "_said", "holds", "word")

    def __init__(self, wanted: Content, together: Together) -> None:
        """Raises ValueError for a pattern that re2 refuses."""
        self.word = "content"
        texts, self._place = _PLACES[wanted.place]
        found = together.words(wanted.place, texts, wanted.words, wanted.ignore_case) if wanted.words else _always
        match = together.pattern(wanted.place, texts, wanted.match) if wanted.match is not None else _always
        self.holds: Test = _both(found, match) if wanted.words and wanted.match is not None else found if wanted.words else match
        words = f"one of {len(wanted.words)} words" if len(wanted.words) > 1 else "the word" if wanted.words else ""
        if words and wanted.match is not None:
            self._said, self._missed = f"{words} and the pattern are", f"{words} and the pattern are not both"
        else:
            self._said = f"{words or 'the pattern'} is"
            self._missed = f"none of {len(wanted.words)} words is" if len(wanted.words) > 1 else f"{self._said} not"

    def told(self, ask: Ask) -> str:
        return f"{self._said if self.holds(ask) else self._missed} in {self._place}"


class Field:
    """A value of the request's JSON by its path. Of a list any item will do. Truth values are no numbers; null is nothing."""

    __slots__ = ("_match", "_path", "_wanted", "_words", "word")

    def __init__(self, wanted: Content) -> None:
        """Raises ValueError for a pattern that re2 refuses."""
        self.word = "content"
        self._wanted, self._path = wanted, wanted.path
        self._words = frozenset(one for one in wanted.equals if isinstance(one, str))
        self._match = compiled(wanted.match) if wanted.match is not None else None

    def holds(self, ask: Ask) -> bool:
        once, path = ask.once, self._path
        value = once[path] if path in once else ask.field(path)
        if type(value) is str and self._words:
            return value in self._words
        if self._wanted.present is not None:
            return (value is not None) == self._wanted.present
        return any(map(self._fits, value)) if isinstance(value, list) else self._fits(value)

    def _fits(self, value: Any) -> bool:
        wanted = self._wanted
        if self._match is not None:
            return isinstance(value, str) and self._match.search(utf8(value)) is not None
        if wanted.range is not None:
            return isinstance(value, int | float) and not isinstance(value, bool) and within(value, wanted.range)
        return any(_same(value, one) for one in wanted.equals)

    def told(self, ask: Ask) -> str:
        path = ".".join(self._path)
        if ask.field(self._path) is None:
            return f"the request has no {path}"
        if self._wanted.present is not None:
            return f"the request has {path}"
        return f"{path} is {'as it has to be' if self.holds(ask) else 'not as it has to be'}"


class AnyContent:
    """`content` as a whole: one of its tests has to hold."""

    __slots__ = ("_tests", "word")

    def __init__(self, tests: tuple[Text | Field, ...]) -> None:
        self.word = "content"
        self._tests = tests

    def holds(self, ask: Ask) -> bool:
        return any(test.holds(ask) for test in self._tests)

    def told(self, ask: Ask) -> str:
        found = next((test for test in self._tests if test.holds(ask)), None)
        return found.told(ask) if found else "; ".join(test.told(ask) for test in self._tests[:5])


def content(wanted: tuple[Content, ...], together: Together) -> Text | Field | AnyContent:
    """The condition for `content`. together: the searches of all the model's rules."""
    tests = tuple(Field(one) if one.path else Text(one, together) for one in wanted)
    return tests[0] if len(tests) == 1 else AnyContent(tests)


def _both(found: Test, match: Test) -> Test:
    """No method of `Text`: one that refers to itself stays, with its words, until the collector comes."""
    return lambda ask: found(ask) and match(ask)


def _always(ask: Ask) -> bool:
    return True


def _same(value: Any, wanted: Scalar) -> bool:
    """JSON's equality: 1 and 1.0 are one number, true is none."""
    return isinstance(value, bool) == isinstance(wanted, bool) and bool(value == wanted)

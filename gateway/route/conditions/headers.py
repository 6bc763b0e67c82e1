"""`headers`: what a request's header is, begins with, matches, or whether it is there at all."""

from collections.abc import Callable

from gateway.config.redact import covered
from gateway.config.resolved_when import HeaderTest
from gateway.route.ask import Ask
from gateway.route.conditions.condition import either, shown
from gateway.route.conditions.together import Test, Together


class Equals:
    """One header that has to have one of some values: the most frequent kind of rule, so nothing else is looked at."""

    __slots__ = ("_name", "_values", "word")

    def __init__(self, name: str, values: tuple[str, ...]) -> None:
        self.word = f"headers.{name}"
        self._name, self._values = name, frozenset(values)

    def holds(self, ask: Ask) -> bool:
        return ask.headers.get(self._name) in self._values

    def told(self, ask: Ask) -> str:
        return _told(self._name, ask.headers.get(self._name), self.holds(ask), tuple(shown(value) for value in sorted(self._values)))


class Tests:
    """One header that has to pass one of several tests."""

    __slots__ = ("_name", "_said", "holds", "word")

    def __init__(self, name: str, tests: tuple[HeaderTest, ...], together: Together) -> None:
        """Raises ValueError for a pattern that re2 refuses."""
        self.word = f"headers.{name}"
        self._name = name
        prefixes = tuple(test.prefix for test in tests if test.prefix is not None)
        place, texts = f"header {name}", _texts(name)
        patterns = tuple(together.pattern(place, texts, test.match) for test in tests if test.match is not None)
        self._said = tuple(_wanted(test) for test in tests)
        self.holds: Test
        """No method of its own: what refers to itself stays, with its patterns, until the collector comes."""
        if len(patterns) == len(tests) == 1:
            self.holds = patterns[0]
        elif len(prefixes) == len(tests):
            self.holds = _begins(name, prefixes)
        else:
            self.holds = _any(name, tests, prefixes, patterns)

    def told(self, ask: Ask) -> str:
        return _told(self._name, ask.headers.get(self._name), self.holds(ask), self._said)


def tests(name: str, wanted: tuple[HeaderTest, ...], together: Together) -> Equals | Tests:
    """The condition for one header, by its lower-case name."""
    values = tuple(test.equals for test in wanted if test.equals is not None)
    return Equals(name, values) if len(values) == len(wanted) else Tests(name, wanted, together)


def _texts(name: str) -> Callable[[Ask], list[str]]:
    def texts(ask: Ask) -> list[str]:
        value = ask.headers.get(name)
        return [] if value is None else [value]

    return texts


def _begins(name: str, prefixes: tuple[str, ...]) -> Test:
    def holds(ask: Ask) -> bool:
        value = ask.headers.get(name)
        return value is not None and value.startswith(prefixes)

    return holds


def _any(name: str, tests: tuple[HeaderTest, ...], prefixes: tuple[str, ...], patterns: tuple[Test, ...]) -> Test:
    values = frozenset(test.equals for test in tests if test.equals is not None)
    present, absent = any(test.present is True for test in tests), any(test.present is False for test in tests)

    def holds(ask: Ask) -> bool:
        value = ask.headers.get(name)
        if value is None:
            return absent
        if present or value in values or value.startswith(prefixes):
            return True
        for matches in patterns:  # noqa: SIM110 - a generator costs as much as the test
            if matches(ask):
                return True
        return False

    return holds


def _wanted(test: HeaderTest) -> str:
    if test.equals is not None:
        return shown(test.equals)
    if test.prefix is not None:
        return f"beginning with {shown(test.prefix)}"
    if test.match is not None:
        return f"matching {shown(test.match)}"
    return "there" if test.present else "absent"


def _told(name: str, value: str | None, holds: bool, wanted: tuple[str, ...]) -> str:
    """Values of headers that carry secrets stay untold, theirs and ours."""
    if value is None:
        return f"there is no header {name}"
    if covered([f"{name}: x"]) != [f"{name}: x"]:
        return f"{name} is {'as it has to be' if holds else 'not as it has to be'}"
    return f"{name} is {shown(value)}" if holds else f"{name} is {shown(value)}, not {either(wanted)}"

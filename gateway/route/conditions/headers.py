"""`headers`: what a request's header is, begins with, matches, or whether it is there at all."""

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

    __slots__ = ("_absent", "_name", "_patterns", "_prefixes", "_present", "_said", "_values", "holds", "word")

    def __init__(self, name: str, tests: tuple[HeaderTest, ...], together: Together) -> None:
        """Raises ValueError for a pattern that re2 refuses."""
        self.word = f"headers.{name}"
        self._name = name
        self._values = frozenset(test.equals for test in tests if test.equals is not None)
        self._prefixes = tuple(test.prefix for test in tests if test.prefix is not None)
        place = f"header {name}"
        self._patterns = tuple(together.pattern(place, self._texts, test.match) for test in tests if test.match is not None)
        self._present = any(test.present is True for test in tests)
        self._absent = any(test.present is False for test in tests)
        self._said = tuple(_wanted(test) for test in tests)
        self.holds: Test = self._any
        if len(self._patterns) == len(tests) == 1:
            self.holds = self._patterns[0]
        elif len(self._prefixes) == len(tests):
            self.holds = self._begins

    def _begins(self, ask: Ask) -> bool:
        value = ask.headers.get(self._name)
        return value is not None and value.startswith(self._prefixes)

    def _any(self, ask: Ask) -> bool:
        value = ask.headers.get(self._name)
        if value is None:
            return self._absent
        if self._present or value in self._values or value.startswith(self._prefixes):
            return True
        for matches in self._patterns:  # noqa: SIM110 - a generator costs as much as the test
            if matches(ask):
                return True
        return False

    def _texts(self, ask: Ask) -> list[str]:
        value = ask.headers.get(self._name)
        return [] if value is None else [value]

    def told(self, ask: Ask) -> str:
        return _told(self._name, ask.headers.get(self._name), self.holds(ask), self._said)


def tests(name: str, wanted: tuple[HeaderTest, ...], together: Together) -> Equals | Tests:
    """The condition for one header, by its lower-case name."""
    values = tuple(test.equals for test in wanted if test.equals is not None)
    return Equals(name, values) if len(values) == len(wanted) else Tests(name, wanted, together)


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

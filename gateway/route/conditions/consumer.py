"""`tenant`, `project`, `key`: who calls."""

from collections.abc import Callable
from operator import attrgetter
from typing import Final

from gateway.config.regex import globbed
from gateway.route.ask import Ask
from gateway.route.conditions.condition import either

WHO: Final[dict[str, Callable[[Ask], str]]] = {
    "tenant": attrgetter("tenant"),
    "project": attrgetter("project"),
    "key": attrgetter("key"),
}
"""What a consumer is known by."""


class Consumer:
    """The caller's tenant, project or key is one of some names, in which `*` stands for anything. Nobody has no name."""

    __slots__ = ("_exact", "_pattern", "_prefixes", "_said", "_who", "word")

    def __init__(self, word: str, names: tuple[str, ...]) -> None:
        self.word = word
        self._who = WHO[word]
        globs = tuple(name for name in names if "*" in name)
        self._exact = frozenset(names) - frozenset(globs)
        self._prefixes = tuple(glob[:-1] for glob in globs if glob.index("*") == len(glob) - 1)
        others = tuple(glob for glob in globs if glob[:-1] not in self._prefixes)
        self._pattern = globbed(others) if others else None
        self._said = either(names)

    def holds(self, ask: Ask) -> bool:
        name = self._who(ask)
        if name in self._exact:
            return True
        if self._prefixes and name and name.startswith(self._prefixes):
            return True
        return self._pattern is not None and name != "" and self._pattern.search(name.encode()) is not None

    def told(self, ask: Ask) -> str:
        name = self._who(ask)
        if not name:
            return f"the caller has no {self.word}"
        return f"the {self.word} is {name}" + ("" if self.holds(ask) else f", not {self._said}")

"""`api` and `has`: which API is called, and what the request brings along."""

from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Raw

from gateway.config.resolved_when import Has
from gateway.route.ask import Ask
from gateway.route.conditions.condition import either

_EMPTY: Final = (b"null", b"[]", b"{}", b"")
_SHORT: Final = 64


class Api:
    """Which API is called, by its name in records."""

    __slots__ = ("_names", "_said", "word")

    def __init__(self, names: tuple[str, ...]) -> None:
        self.word = "api"
        self._names, self._said = frozenset(names), either(names)

    def holds(self, ask: Ask) -> bool:
        return ask.api in self._names

    def told(self, ask: Ask) -> str:
        return f"the API is {ask.api}" + ("" if self.holds(ask) else f", not {self._said}")


class Features:
    """What a request brings along: one of some, and each of others there or not there."""

    __slots__ = ("_any", "_each", "word")

    def __init__(self, wanted: Has) -> None:
        self.word = "has"
        self._any = wanted.any
        self._each = tuple(sorted(wanted.each.items(), key=lambda one: one[0] == "images"))  # images last: it reads the messages

    def holds(self, ask: Ask) -> bool:
        once = ask.once
        for name in self._any:
            if once[name] if name in once else _has(ask, name):
                break
        else:
            if self._any:
                return False
        for name, wanted in self._each:  # noqa: SIM110 - a generator costs as much as the test
            if _has(ask, name) != wanted:
                return False
        return True

    def told(self, ask: Ask) -> str:
        asked = dict.fromkeys((*self._any, *(name for name, _ in self._each)))
        there = [name for name in asked if _has(ask, name)]
        absent = [name for name in asked if name not in there]
        said = [f"has {' and '.join(there)}" if there else "", f"has no {' and no '.join(absent)}" if absent else ""]
        return "the request " + ", ".join(filter(None, said))


def _has(ask: Ask, feature: str) -> bool:
    """Looked at once for all rules."""
    found: bool | None = ask.once.get(feature)
    if found is None:
        found = ask.once[feature] = FEATURES[feature](ask)
    return found


def _given(ask: Ask, name: str) -> bool:
    """Whether a field is there and is neither null nor empty."""
    raw: Raw | None = ask.fields.get(name)
    if raw is None:
        return False
    view = memoryview(raw)
    return len(view) > _SHORT or b"".join(bytes(view).split()) not in _EMPTY


def _formatted(ask: Ask) -> bool:
    """`{"type": "text"}` is what everyone gets anyway."""
    if not _given(ask, "response_format"):
        return False
    try:
        value: Any = msgspec.json.decode(ask.fields["response_format"])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return True
    return not (isinstance(value, dict) and value.get("type") == "text")


FEATURES: Final[dict[str, Callable[[Ask], bool]]] = {
    "tools": lambda ask: _given(ask, "tools") or _given(ask, "functions"),
    "images": lambda ask: ask.has_images(),
    "response_format": _formatted,
    "stream": lambda ask: ask.stream,
}
"""Each feature that `has` may name."""

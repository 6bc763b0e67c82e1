"""Who used a counter most, about: the present stretch of time and the one before it, of at most so many keys."""

from typing import Final

STRETCH: Final = 3600.0
"""Seconds after which what is older begins to be forgotten."""
KEYS_MOST: Final = 200


class Users:
    """Amounts by key. Made when the first is added; cheap when nobody asks."""

    __slots__ = ("_before", "_since", "_this")

    def __init__(self) -> None:
        self._this: dict[str, int] = {}
        self._before: dict[str, int] = {}
        self._since = 0.0

    def add(self, key: str, amount: int, mono: float) -> None:
        """mono: monotonic seconds."""
        this = self._this
        if mono - self._since > STRETCH or len(this) > KEYS_MOST:
            self._before = this
            this = self._this = {}
            self._since = mono
        this[key] = this.get(key, 0) + amount

    def top(self, number: int) -> list[tuple[str, int]]:
        """The keys that used most lately, the largest first."""
        both = {key: self._this.get(key, 0) + self._before.get(key, 0) for key in (*self._this, *self._before)}
        ranked = sorted(((key, used) for key, used in both.items() if used > 0), key=lambda one: -one[1])
        return ranked[:number]

"""What is in flight now. Nothing of it is kept: who holds it says so again."""

from collections.abc import Mapping
from typing import Final

from gateway.referee.moment import Moment

SOON: Final = 1.0
"""Seconds after which one of those in flight may have ended; nobody can know."""


class Flight:
    """A number that goes up and down."""

    __slots__ = ("_used",)

    def __init__(self) -> None:
        self._used = 0

    def used(self, now: Moment) -> int:
        return self._used

    def add(self, amount: int, now: Moment) -> int:
        self._used += amount
        return 0

    def change(self, mark: int, delta: int) -> None:
        self._used += delta

    def frees(self, amount: int, now: Moment) -> float:
        return SOON

    def reset(self, now: Moment) -> float:
        return SOON if self._used else 0.0

    def place(self, wall: float) -> int | None:
        return None

    def seed(self, kept: Mapping[int, int], now: Moment) -> None: ...

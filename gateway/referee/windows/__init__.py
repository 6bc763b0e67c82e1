"""OPEN family: how what was used is remembered and forgotten. One file a member, one line here.

A window counts whole numbers. `used` is what counts now, `add` takes some and says where (a mark), `change` gives back what
was taken there, `frees` and `reset` say in how many seconds so much, or all, is free again. `place` is where a moment of the
clock on the wall belongs in what is kept on disk (None: nothing is kept), `seed` takes that back in.
"""

from collections.abc import Mapping
from typing import Protocol

from gateway.referee.moment import Moment
from gateway.referee.windows.calendar import Calendar, calendar_of
from gateway.referee.windows.flight import Flight
from gateway.referee.windows.rolling import SECONDS, Rolling


class Window(Protocol):
    """One counter's memory. Nothing here reads a clock."""

    def used(self, now: Moment) -> int: ...
    def add(self, amount: int, now: Moment) -> int: ...
    def change(self, mark: int, delta: int) -> None: ...
    def frees(self, amount: int, now: Moment) -> float: ...
    def reset(self, now: Moment) -> float: ...
    def place(self, wall: float) -> int | None: ...
    def seed(self, kept: Mapping[int, int], now: Moment) -> None: ...


def window_of(per: str, zone: str) -> Window:
    """per: of a limit, "" for what is in flight. Raises ValueError when the zone is not known (any more)."""
    if not per:
        return Flight()
    if per in SECONDS:
        return Rolling(SECONDS[per])
    return Calendar(calendar_of(per, zone))

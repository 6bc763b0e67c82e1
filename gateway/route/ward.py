"""How many of a channel's endpoints may be ejected at once: half of them, and one of one. Decides by count alone.

Without it, a fault of the requests, or a hiccup of the network, would eject a whole channel.
"""

from collections.abc import Iterable
from typing import Protocol


class Patient(Protocol):
    """A breaker, as far as its ward looks at it."""

    def readmit(self, now: float) -> None: ...


class Ward:
    """One channel's, in one worker. size: how many endpoints the channel has."""

    __slots__ = ("_out", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._out: dict[Patient, None] = {}

    @property
    def most(self) -> int:
        return max(1, self._size // 2)

    @property
    def out(self) -> Iterable[Patient]:
        """Who is ejected, the longest first."""
        return self._out.keys()

    def take(self, who: Patient) -> bool:
        """Whether `who` may be ejected. Who is already takes no second place."""
        if who not in self._out:
            if len(self._out) >= self.most:
                return False
            self._out[who] = None
        return True

    def leave(self, who: Patient) -> None:
        self._out.pop(who, None)

    def resize(self, size: int, now: float) -> None:
        """The channel has other endpoints now. When too many are ejected for it, those that are longest serve again."""
        self._size = size
        for who in list(self._out)[: max(0, len(self._out) - self.most)]:
            who.readmit(now)
            self.leave(who)

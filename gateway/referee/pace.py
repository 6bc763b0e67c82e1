"""How often one kind of request comes. Time is an argument (monotonic seconds)."""

from typing import Final

SPAN: Final = 0.1
"""Seconds of which requests are counted together."""


class Pace:
    """Requests of the present span and of the one before."""

    __slots__ = ("_before", "_count", "_span")

    def __init__(self) -> None:
        self._span = self._count = self._before = 0

    def note(self, number: int, mono: float) -> None:
        """So many came."""
        span = int(mono / SPAN)
        if span != self._span:
            self._before = self._count if span == self._span + 1 else 0
            self._span, self._count = span, 0
        self._count += number

    def at(self, mono: float) -> int:
        """How many come in a span."""
        self.note(0, mono)
        return max(self._count, self._before)

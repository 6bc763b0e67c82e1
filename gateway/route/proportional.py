"""Shares exact over time: smooth weighted round robin, or by a value of the request when it is sticky.

Each pick adds every weight to its target's credit and takes the sum from the one with the most, so that 3:1 gives
a a b a, not a a a b. Targets that were not picked follow in the order of their credit, as failover.
"""

from collections.abc import Sequence
from math import gcd
from typing import Final

from gateway.route.ask import Ask
from gateway.route.sticky import Ranking, Sticky

REMEMBERED: Final = 1 << 16
"""Numbers that the picks of one target list may keep. SRV records of uneven weights repeat after millions of picks only."""
SHOWN: Final = 32
"""Characters of a caller's own value that an explanation shows."""


class Proportional:
    """One target list. Kept across reloads as long as the weights are the same.

    The picks repeat after as many as the weights sum up to (divided by what they share), so they are worked out once, unless that is
    too much to remember.
    """

    __slots__ = ("_at", "_credit", "_cycle", "_period", "_ranking", "_sticky", "_weights")

    def __init__(self, weights: Sequence[int], sticky: Sticky | None = None, names: Sequence[str] = ()) -> None:
        """names: of the targets, for `sticky` alone: a target with the same name keeps its values when the list changes."""
        self._weights = tuple(weights)
        self._sticky = sticky
        self._ranking = Ranking(weights, names or [str(number) for number in range(len(weights))])
        shared = gcd(*self._weights) or 1
        self._period = max(1, sum(self._weights) // shared)
        self._credit = [0] * len(self._weights)
        self._cycle: list[tuple[int, ...]] = []
        self._at = 0

    @property
    def is_sticky(self) -> bool:
        return self._sticky is not None

    def order(self, ask: Ask | None = None) -> tuple[int, ...]:
        """Target numbers, the pick first. Weight 0 is never picked but may follow as failover."""
        if self._sticky is not None and ask is not None and (value := self._sticky.value(ask)):
            return self._ranking.order(value)
        order = self._turn()
        if self._period * len(self._weights) > REMEMBERED:
            self._cycle.clear()
        else:
            self._at = (self._at + 1) % self._period
        return order

    def peek(self, ask: Ask | None = None) -> tuple[int, ...]:
        """The order that the next `order` will give, without taking it: for explanations."""
        if self._sticky is not None and ask is not None and (value := self._sticky.value(ask)):
            return self._ranking.order(value)
        return self._turn()

    def aside(self, draw: float, ask: Ask | None = None) -> tuple[int, ...]:
        """An order for failover, when nobody's turn is to be taken: the first by its weight and `draw` (0 ≤ draw < 1)."""
        if self._sticky is not None and ask is not None and (value := self._sticky.value(ask)):
            return self._ranking.order(value)
        mark = draw * sum(self._weights)
        for first, weight in enumerate(self._weights):  # noqa: B007 - the last one when rounding leaves none
            if mark < weight:
                break
            mark -= weight
        numbers = range(len(self._weights))
        return tuple(sorted((*numbers[first:], *numbers[:first]), key=lambda number: not self._weights[number]))

    def told(self, ask: Ask) -> str:
        """How it picks, for explanations."""
        shares = ":".join(map(str, self._weights))
        if self._sticky is None:
            return f"proportional {shares}: in turn"
        by, value = self._sticky.told(), self._sticky.value(ask)
        if not value:
            return f"proportional {shares}, sticky by {by}: the request has none, so in turn"
        shown = value if len(value) <= SHOWN else value[:SHOWN] + "…"
        return f"proportional {shares}, sticky by {by}: `{shown}` always goes to target {self.peek(ask)[0] + 1}"

    def _turn(self) -> tuple[int, ...]:
        if self._at == len(self._cycle):
            self._cycle.append(self._next())
        return self._cycle[self._at]

    def _next(self) -> tuple[int, ...]:
        credit = self._credit
        for number, weight in enumerate(self._weights):
            credit[number] += weight
        ranked = sorted(range(len(credit)), key=lambda n: (self._weights[n] > 0, credit[n]), reverse=True)
        credit[ranked[0]] -= sum(self._weights)
        return tuple(ranked)

"""Shares exact over time: smooth weighted round robin.

Each pick adds every weight to its target's credit and takes the sum from the one with the most, so that 3:1 gives
a a b a, not a a a b. Targets that were not picked follow in the order of their credit, as failover.
"""

from collections.abc import Sequence
from math import gcd


class Proportional:
    """One target list. Kept across reloads as long as the weights are the same.

    The picks repeat after as many as the weights sum up to (divided by what they share), so they are worked out once.
    """

    __slots__ = ("_at", "_credit", "_cycle", "_period", "_weights")

    def __init__(self, weights: Sequence[int]) -> None:
        self._weights = tuple(weights)
        shared = gcd(*self._weights) or 1
        self._period = max(1, sum(self._weights) // shared)
        self._credit = [0] * len(self._weights)
        self._cycle: list[tuple[int, ...]] = []
        self._at = 0

    def order(self) -> tuple[int, ...]:
        """Target numbers, the pick first. Weight 0 is never picked but may follow as failover."""
        order = self.peek()
        self._at = (self._at + 1) % self._period
        return order

    def peek(self) -> tuple[int, ...]:
        """The order that the next `order` will give, without taking it: for explanations."""
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

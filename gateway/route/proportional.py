"""Shares exact over time: smooth weighted round robin.

Each pick adds every weight to its target's credit and takes the sum from the one with the most, so that 3:1 gives
a a b a, not a a a b. Targets that were not picked follow in the order of their credit, as failover.
"""

from collections.abc import Sequence


class Proportional:
    """The credits of one target list. Kept across reloads as long as the weights are the same."""

    __slots__ = ("_credit", "_idle", "_numbers", "_sum", "_weights")

    def __init__(self, weights: Sequence[int]) -> None:
        self._weights = tuple(weights)
        self._sum = sum(weights)
        self._numbers = [n for n, weight in enumerate(self._weights) if weight > 0]
        self._idle = [n for n, weight in enumerate(self._weights) if weight == 0]
        self._credit = [0] * len(self._weights)

    def order(self) -> list[int]:
        """Target numbers, the pick first. Weight 0 is never picked but may follow as failover."""
        credit = self._credit
        for number, weight in enumerate(self._weights):
            credit[number] += weight
        ranked = sorted(self._numbers, key=credit.__getitem__, reverse=True) + self._idle
        credit[ranked[0]] -= self._sum
        return ranked

    def peek(self) -> list[int]:
        """The order that the next `order` would give, without taking it: for explanations."""
        return sorted(self._numbers, key=lambda n: self._credit[n] + self._weights[n], reverse=True) + self._idle

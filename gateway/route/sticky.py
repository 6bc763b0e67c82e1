"""Who goes where every time: weighted rendezvous hashing over a value of the request, for tests of one target against another.

Shares of values follow the weights. When one weight changes, values move only to its target (more) or away from it (less).
Every worker, and every node with the same targets, decides alike. Values that are not equally busy do not give equal load.
"""

from collections.abc import Sequence
from math import inf, log

from gateway.route.ask import Ask
from gateway.route.rendezvous import MASK, mark, mix


class Sticky:
    """by: `key`, `tenant`, or a header's name."""

    __slots__ = ("by",)

    def __init__(self, by: str) -> None:
        self.by = by

    def value(self, ask: Ask) -> str:
        """What the request has of it; "" = nothing."""
        if self.by == "key":
            return ask.key
        if self.by == "tenant":
            return ask.tenant
        return ask.headers.get(self.by) or ""

    def told(self) -> str:
        return self.by if self.by in ("key", "tenant") else f"header {self.by}"


class Ranking:
    """Weighted targets, as values rank them. names: what makes a target the same one when the list changes."""

    __slots__ = ("_marks", "_weights")

    def __init__(self, weights: Sequence[int], names: Sequence[str]) -> None:
        self._weights = tuple(weights)
        self._marks = [mark(name.encode()) for name in names]

    def order(self, value: str) -> tuple[int, ...]:
        """Target numbers, the value's own first. Weight 0 comes last."""
        of = mark(value.encode("utf-8", "surrogatepass"))
        scores = [
            weight / -log((mix(of, each) + 1) / (MASK + 2)) if weight else -inf
            for weight, each in zip(self._weights, self._marks, strict=True)
        ]
        return tuple(sorted(range(len(scores)), key=lambda number: -scores[number]))

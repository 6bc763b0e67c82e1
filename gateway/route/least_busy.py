"""least-busy: the endpoint with the least to do, by `Load.busy`. Keeps nothing; luck comes with the request.

Of many endpoints the better of two drawn ones is taken: several workers that all ran to the same best one would make it
the worst. Of three at most it is the best, and luck decides among equals.
"""

from collections.abc import Sequence
from typing import Final

from gateway.route.ask import Ask
from gateway.route.load import Load

FEW: Final = 3
COMPARED: Final = 16
"""Endpoints that are ranked for failover; of more, these are as good as any."""


class LeastBusy:
    """One group's policy."""

    __slots__ = ()

    def order(self, ask: Ask, loads: Sequence[Load]) -> list[int]:
        """Endpoint numbers, the pick first, then the others by how busy they are."""
        count = len(loads)
        if count < 2:
            return list(range(count))
        draw = int(ask.luck * (1 << 53))  # every bit of it is luck
        first = draw % count
        drawn = [(first + step) % count for step in range(min(count, COMPARED))]
        busy = _figures(ask.now, loads, drawn)
        ranked = sorted(drawn, key=busy.__getitem__)  # stable: equals stay in the drawn order
        if count > FEW:
            second = (first + 1 + draw % (count - 1)) % count  # count and count - 1 share no divisor: an independent draw
            pick = second if _busier(ask.now, loads, first, second) else first
            if ranked[0] != pick:
                if pick in busy:
                    ranked.remove(pick)
                ranked.insert(0, pick)
        if count > COMPARED:
            ranked += [number for number in range(count) if number not in busy and number != ranked[0]]
        return ranked

    def peek(self, ask: Ask, loads: Sequence[Load]) -> list[int]:
        """As `order`: there is nothing to take."""
        return self.order(ask, loads)

    def told(self, ask: Ask) -> str:
        return "least-busy: the less busy of two drawn endpoints, of three at most the least busy one"


def _figures(now: float, loads: Sequence[Load], numbers: Sequence[int]) -> dict[int, float]:
    """Like with like: when of one of them only this worker's requests are known, nothing else is compared of any."""
    for number in numbers:
        if not loads[number].fresh(now):
            return {number: loads[number].in_flight for number in numbers}
    return {number: loads[number].busy(now) for number in numbers}


def _busier(now: float, loads: Sequence[Load], one: int, other: int) -> bool:
    figures = _figures(now, loads, (one, other))
    return figures[one] > figures[other]

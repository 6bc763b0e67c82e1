"""What a worker's requests used in the last seconds: were control lost now, its files might not know it yet (`store`).

Files know whole seconds, so that one sum of each second is enough, however many requests end in it.
"""

from collections import deque
from collections.abc import Iterator
from typing import Final

from gateway.referee.rules import NO_MONEY, Amounts, Money
from gateway.referee.terms import Terms

RECENT: Final = 5.0
"""Seconds for which it is remembered."""


class Spent:
    """Of requests of one kind that ended in one second. ended: the last of them, seconds since 1970. since: of the loop, when the first
    of them was noted."""

    __slots__ = ("ended", "input", "money", "output", "requests", "second", "since", "terms")

    def __init__(self, terms: Terms, second: int, since: float) -> None:
        self.terms = terms
        self.second = second
        self.since = since
        self.requests = self.input = self.output = 0
        self.money: Money = NO_MONEY
        self.ended = 0.0

    def amounts(self) -> Amounts:
        return self.requests, self.input, self.output, self.input + self.output, self.money


class Recent:
    """Of all kinds."""

    def __init__(self) -> None:
        self._all: deque[Spent] = deque()

    def __iter__(self) -> Iterator[Spent]:
        return iter(self._all)

    def note(self, terms: Terms, used: Amounts, ended: float, now: float) -> None:
        """ended: seconds since 1970. now: the loop's."""
        second = int(ended)
        spent: Spent | None = terms.spent
        if spent is None or spent.second != second:
            while self._all and self._all[0].since < now - RECENT:
                self._all.popleft()
            spent = terms.spent = Spent(terms, second, now)
            self._all.append(spent)
        spent.requests += 1
        spent.input += used[1]
        spent.output += used[2]
        spent.ended = max(spent.ended, ended)
        if used[4]:
            spent.money = _sum(spent.money, used[4])


def _sum(one: Money, other: Money) -> Money:
    """Neither is changed."""
    if isinstance(one, int) or isinstance(other, int):
        return other if isinstance(one, int) else one
    return {code: one.get(code, 0) + other.get(code, 0) for code in {**one, **other}}

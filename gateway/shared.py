"""What outlives a snapshot, each under a key of everything that defines it: pools, breakers, shares, budgets, TLS."""

import ssl
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from gateway.relay.pool import Pool
from gateway.route.breaker import Breaker
from gateway.route.budget import RetryBudget
from gateway.route.proportional import Proportional

T = TypeVar("T")


class Kept(Generic[T]):
    """Things of one kind. `get` makes what is missing; `sweep` lets go of what the present snapshot did not ask for."""

    def __init__(self, let_go: Callable[[T], None] | None = None) -> None:
        self._things: dict[Hashable, T] = {}
        self._let_go = let_go

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        thing = self._things.get(key)
        if thing is None:
            thing = self._things[key] = make()
        return thing

    def sweep(self, used: set[Hashable]) -> None:
        for key in [k for k in self._things if k not in used]:
            thing = self._things.pop(key)
            if self._let_go is not None:
                self._let_go(thing)

    def values(self) -> list[T]:
        return list(self._things.values())


class Load:
    """What an endpoint has to do, as one worker sees it. ttft: seconds to a stream's first content, a moving average; 0.0 = none yet."""

    __slots__ = ("errors", "in_flight", "ttft")

    def __init__(self) -> None:
        self.in_flight = 0
        self.errors = 0
        self.ttft = 0.0

    def began(self, seconds: float) -> None:
        self.ttft = self.ttft * 0.8 + seconds * 0.2 if self.ttft else seconds


class Shared:
    """A worker's long-lived things. Only `snapshot.build` asks for them."""

    def __init__(self) -> None:
        self.pools: Kept[Pool] = Kept(lambda pool: pool.close())
        self.breakers: Kept[Breaker] = Kept()
        self.shares: Kept[Proportional] = Kept()
        self.budgets: Kept[RetryBudget] = Kept()
        self.contexts: Kept[ssl.SSLContext] = Kept()
        self.turns: Kept[list[int]] = Kept()
        self.loads: Kept[Load] = Kept()

    def close(self) -> None:
        self.pools.sweep(set())

"""What outlives a snapshot, each under a key of everything that defines it: pools, breakers, shares, budgets, TLS."""

from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from gateway.tokens.counter import Counter

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

    def drop(self, key: Hashable) -> None:
        thing = self._things.pop(key, None)
        if thing is not None and self._let_go is not None:
            self._let_go(thing)

    def sweep(self, used: set[Hashable]) -> None:
        for key in [k for k in self._things if k not in used]:
            self.drop(key)

    def values(self) -> list[T]:
        return list(self._things.values())


def nobody_listens(channel: str, url: str, event: str, reason: str, remaining: float) -> None:
    """Until control is there to be told."""


class Shared:
    """A worker's long-lived things. Only `builder` asks for what is in `kept`."""

    def __init__(self, counter: Counter) -> None:
        """counter: counts prompts, when a decision turns on their length."""
        self.counter = counter
        self.kept: dict[str, Kept[Any]] = {
            "pools": Kept(lambda pool: pool.close()),
            "breakers": Kept(lambda breaker: breaker.let_go()),
            **{name: Kept() for name in ("budgets", "contexts", "lengths", "loads", "policies", "turns", "wards")},
        }
        self.notice: Callable[[str, str, str, str, float], None] = nobody_listens
        """Tells control what happened to an endpoint: channel, URL, `ejected` or `recovered`, why, seconds that it stays so."""
        self.queued: dict[str, float] = {}
        """Requests that wait for a channel, by its name, as far as control said."""

    def heard_queued(self, message: dict[str, Any]) -> None:
        """All limited channels: one that is limited no more is not among them."""
        self.queued = message["channels"]

    def close(self) -> None:
        self.kept["pools"].sweep(set())

"""What the relay needs of its neighbours: the book-keeper, and the hop that an attempt is sent on."""

from collections.abc import Callable
from typing import Protocol

from gateway.config.resolved import Channel
from gateway.engine.base import Dialect
from gateway.errors import UpstreamFailure
from gateway.exchange import Exchange


class Table(Protocol):
    """The table of what open requests have used so far (meter.progress.Progress)."""

    def usage(self, place: int, usage: bytes) -> None: ...


class Book(Protocol):
    """The book-keeper (meter.account.Account)."""

    @property
    def table(self) -> Table: ...
    def settle(self, x: Exchange, now: float, release: Callable[[], None] | None = None) -> None: ...


class Way(Protocol):
    """The hop of an attempt (snapshot.Hop)."""

    @property
    def channel(self) -> Channel: ...
    @property
    def dialect(self) -> Dialect: ...
    def served(self, ticket: int | None = None) -> None: ...
    def began(self, seconds: float) -> None: ...
    def failed(self, failure: UpstreamFailure, ticket: int | None = None) -> None: ...

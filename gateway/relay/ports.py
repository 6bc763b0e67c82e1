"""What the relay needs of the hop that an attempt is sent on."""

from typing import Protocol

from gateway.config.resolved import Channel
from gateway.engine.base import Dialect
from gateway.errors import UpstreamFailure


class Way(Protocol):
    """The hop of an attempt (snapshot.Hop)."""

    @property
    def channel(self) -> Channel: ...
    @property
    def dialect(self) -> Dialect: ...
    def served(self, ticket: int | None = None) -> None: ...
    def began(self, seconds: float) -> None: ...
    def failed(self, failure: UpstreamFailure, ticket: int | None = None) -> None: ...

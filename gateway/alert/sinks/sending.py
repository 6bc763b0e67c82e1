"""What a way out is: takes notices, says what came back, and never says the sink's secrets."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from gateway.alert.state import Notice
from gateway.config.redact import pieces_of, sentence
from gateway.config.resolved_alerts import Sink

PATIENCE: Final = 20.0
"""Seconds that one attempt may take."""
SAID_MOST: Final = 300
_PIECE_LEAST: Final = 4

Send = Callable[[str, Sink, Sequence[Notice], float], Awaitable[str]]
"""(node, sink, notices, now) → why it did not work, "" = it did. Raises nothing."""


def covered(said: str, sink: Sink) -> str:
    """What a service or a library said, without any piece of the sink's URL or credential."""
    pieces = {sink.url, sink.credential, *pieces_of(sink.url)}
    for piece in sorted((one for one in pieces if len(one) >= _PIECE_LEAST), key=len, reverse=True):
        said = said.replace(piece, "***")
    said = " ".join(sentence(said).split())
    return said if len(said) <= SAID_MOST else said[: SAID_MOST - 1] + "…"

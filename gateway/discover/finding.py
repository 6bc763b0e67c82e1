"""What a probe found at an endpoint, and what the status of its model list means. Values only; nothing here asks."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gateway.discover.ask import Handshake

PROXYS: Final = (502, 504)
"""Statuses that only something in between answers with."""
NO_LIST: Final = "the answer to /v1/models is no model list"


class ModelSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A model that the engine lists. context_length in tokens, None = not said."""

    id: str
    context_length: int | None = None


class Probe(msgspec.Struct, kw_only=True):
    """What one look at an endpoint found. engine: None = unknown. error: why nothing more is known. would: a channel for it."""

    url: str
    reachable: bool = False
    engine: str | None = None
    version: str | None = None
    models: list[ModelSeen] = []
    tls: Handshake | None = None
    evidence: list[str] = []
    error: str | None = None
    ms: float = 0.0
    would: dict[str, Any] | None = None
    status: int = 0
    """The model list's HTTP status, 0 = none came."""
    trouble: str = ""
    """Trouble.kind of `error`, when the model list did not come."""

    def told(self) -> dict[str, Any]:
        """For JSON."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


def unusable(status: int, headers: Mapping[str, str]) -> str:
    """What it means that a model list is answered with another status than 200."""
    if 300 <= status < 400:
        return f"it redirects to {headers.get('location', 'another address')[:200]}, which is not followed: write that address"
    if status in (401, 403):
        return f"the engine refuses the credential ({status})"
    if status == 404:
        return "it has no /v1/models (404): look at the address' path"
    if status in PROXYS:
        return f"a proxy before the engine cannot reach it ({status})"
    return f"the model list is answered with {status}"

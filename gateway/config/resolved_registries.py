"""The compact form of a registry: where a channel's endpoints are looked up. No pydantic, no YAML, no I/O here."""

from typing import Final

import msgspec
from msgspec import Struct

_HOW: Final = {"ttl_min": 0.0, "ttl_max": 0.0, "servers": ()}


class Registry(Struct, frozen=True, kw_only=True):
    """type: `static`, `dns` or `file`. Times in seconds.

    static: urls. file: path, absolute. dns: srv, or host and port; scheme and base of the URLs that are made; servers as
    `address:port`, none = the system's; family: `any`, `ipv4` or `ipv6`.
    """

    name: str
    type: str
    urls: tuple[str, ...] = ()
    path: str = ""
    srv: str = ""
    host: str = ""
    port: int = 0
    scheme: str = "http"
    base: str = ""
    family: str = "any"
    servers: tuple[str, ...] = ()
    ttl_min: float = 5.0
    ttl_max: float = 300.0

    def place(self) -> "Registry":
        """Itself without how and how often it is asked: two with the same place know the same endpoints."""
        return msgspec.structs.replace(self, **_HOW)

"""Whose word is taken for where a caller is. Pure."""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

KEPT: Final = 1024
"""Peers whose judgement is remembered."""

Address = IPv4Address | IPv6Address


class Proxies:
    """The proxies whose `X-Forwarded-For` is believed: `http.trusted_proxies`."""

    __slots__ = ("_known", "_networks")

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks: list[IPv4Network | IPv6Network] = [ip_network(network, strict=False) for network in networks]
        self._known: dict[str, bool] = {}

    def trust(self, ip: str) -> bool:
        """Whether `ip` is one of them."""
        known = self._known.get(ip)
        if known is None:
            address = _address(ip)
            known = address is not None and any(address in network for network in self._networks)
            if len(self._known) >= KEPT:
                self._known.clear()
            self._known[ip] = known
        return known

    def caller(self, peer: str, forwarded: Sequence[str]) -> str:
        """The caller's address: of `peer` and the X-Forwarded-For lines the rightmost that is none of the proxies.

        What stands left of it was written by somebody we do not trust. An entry that is no address ends the search.
        """
        if not self.trust(peer):
            return peer
        found = peer
        for entry in reversed(",".join(forwarded).split(",")):
            address = _address(_without_port(entry.strip()))
            if address is None:
                break
            found = str(address)
            if not self.trust(found):
                break
        return found


def _without_port(entry: str) -> str:
    """`10.0.0.1:4711` and `[::1]:4711` are written by some proxies."""
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    host, colon, port = entry.rpartition(":")
    return host if colon and ":" not in host and port.isdigit() else entry


def _address(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address

"""Whose word is taken for where a caller is. Pure."""

from collections.abc import Iterable, Sequence

from gateway.auth.addresses import REMEMBERED, Networks, address_of


class Proxies:
    """The proxies whose `X-Forwarded-For` is believed: `http.trusted_proxies`."""

    __slots__ = ("_known", "_networks")

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = Networks(networks)
        self._known: dict[str, bool] = {}

    def trust(self, ip: str) -> bool:
        """Whether `ip` is one of them."""
        known = self._known.get(ip)
        if known is None:
            address = address_of(ip)
            known = address is not None and address in self._networks
            if len(self._known) >= REMEMBERED:
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
            address = address_of(_without_port(entry.strip()))
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

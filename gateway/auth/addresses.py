"""Which addresses are in which networks. Pure."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

REMEMBERED: Final = 4096
"""Addresses whose judgement is remembered."""

Address = IPv4Address | IPv6Address


def address_of(text: str) -> Address | None:
    """An IPv4 address that comes as IPv6 is IPv4. None: this is no address."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


class Networks:
    """Any number of networks; a look takes as long as there are different prefix lengths."""

    __slots__ = ("_prefixes",)

    def __init__(self, networks: Iterable[str]) -> None:
        found: dict[tuple[int, int], set[int]] = {}
        for text in networks:
            network = ip_network(text, strict=False)
            rest = network.max_prefixlen - network.prefixlen
            found.setdefault((network.version, rest), set()).add(int(network.network_address) >> rest)
        self._prefixes = [(version, rest, known) for (version, rest), known in found.items()]

    def __bool__(self) -> bool:
        return bool(self._prefixes)

    def __contains__(self, address: Address) -> bool:
        number, of = int(address), address.version
        return any(version == of and number >> rest in known for version, rest, known in self._prefixes)


class Gate:
    """Whom some addresses' rules let in: none of `deny`, and one of `allow` when there is any."""

    __slots__ = ("_allow", "_deny", "_known")

    def __init__(self, allow: Iterable[str], deny: Iterable[str]) -> None:
        self._allow, self._deny = Networks(allow), Networks(deny)
        self._known: dict[str, bool] = {}

    def lets_in(self, ip: str) -> bool:
        """What is no address at all is not let in."""
        known = self._known.get(ip)
        if known is None:
            address = address_of(ip)
            known = address is not None and address not in self._deny and (not self._allow or address in self._allow)
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[ip] = known
        return known

"""The header of the PROXY protocol, v1 (text) and v2 (binary), with which an L4 proxy says whom it forwards. Pure.

As HAProxy's doc/proxy-protocol.txt has it. Finds who is calling; whose word is taken for it is decided elsewhere.
"""

import re
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

TEXT: Final = b"PROXY "
SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
LONGEST: Final = 107
"""Bytes of a v1 header at most, its CRLF included."""
FIXED: Final = 16
"""Bytes of a v2 header that say how it goes on."""

LOCAL, PROXY = 0x20, 0x21
TCP4, TCP6 = 0x11, 0x21
LEAST: Final = {0x00: 0, TCP4: 12, 0x12: 12, TCP6: 36, 0x22: 36, 0x31: 216, 0x32: 216}
"""Family and transport of v2 → bytes of its addresses. Besides TCP: unspecified, UDP over either, and Unix sockets of both kinds."""

_FAMILIES: Final[dict[bytes, type[IPv4Address] | type[IPv6Address]]] = {b"TCP4": IPv4Address, b"TCP6": IPv6Address}
_PORT: Final = re.compile(rb"0|[1-9][0-9]{0,4}")


class NotProxied(Exception):
    """A connection does not begin as one from a trusted proxy has to."""


class Found(NamedTuple):
    """source: the caller's address; "" = the proxy speaks for itself, or for somebody without an IP address. length: of the header."""

    source: str
    length: int


def parse(data: bytes) -> Found | None:
    """The header that `data` begins with. None = it goes on: all of `data` is part of it.

    Raises NotProxied as soon as no further bytes could make it one.
    """
    if data.startswith(TEXT):
        return _text(data)
    if data.startswith(SIGNATURE):
        return _binary(data)
    if TEXT.startswith(data) or SIGNATURE.startswith(data):
        return None
    raise NotProxied("it does not begin with a PROXY header")


def _text(data: bytes) -> Found | None:
    end = data.find(b"\r\n", 0, LONGEST)
    if end < 0:
        if len(data) >= LONGEST:
            raise NotProxied(f"its PROXY line does not end within {LONGEST} bytes")
        return None
    protocol, *fields = data[len(TEXT) : end].split(b" ")
    if protocol == b"UNKNOWN":  # whatever follows is to be ignored
        return Found("", end + 2)
    family = _FAMILIES.get(protocol)
    if family is None or len(fields) != 4 or b"%" in fields[0] + fields[1]:
        raise NotProxied("its PROXY line is malformed")
    try:
        source, _ = (family(field.decode("ascii")) for field in fields[:2])
    except ValueError:
        raise NotProxied("its PROXY line holds an address that is none") from None
    if not all(_PORT.fullmatch(port) and int(port) < 65_536 for port in fields[2:]):
        raise NotProxied("its PROXY line holds a port that is none")
    return Found(_written(source), end + 2)


def _binary(data: bytes) -> Found | None:
    if len(data) > len(SIGNATURE) and data[12] not in (LOCAL, PROXY):
        raise NotProxied("its PROXY header has an unknown version or command")
    if len(data) < FIXED:
        return None
    kind, size = data[13], int.from_bytes(data[14:FIXED], "big")
    if data[12] == LOCAL:  # a health check of the proxy: its family means nothing
        kind = 0
    elif kind not in LEAST:
        raise NotProxied("its PROXY header has an unknown address family or transport")
    if size < LEAST[kind]:
        raise NotProxied("its PROXY header is too short for its addresses")
    if len(data) < FIXED + size:
        return None
    source = ""
    if kind == TCP4:
        source = str(IPv4Address(data[FIXED : FIXED + 4]))
    elif kind == TCP6:
        source = _written(IPv6Address(data[FIXED : FIXED + 16]))
    return Found(source, FIXED + size)


def _written(address: IPv4Address | IPv6Address) -> str:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)

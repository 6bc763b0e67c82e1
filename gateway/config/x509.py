"""Who a certificate names, by whom, and when it is good. Reads just that from DER; whether it is to be trusted, OpenSSL says."""

import re
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from gateway.config.expand import read_small

VERSION: Final = 0xA0
UTC_TIME: Final = 0x17
BMP_STRING: Final = 0x1E

_NAMES: Final = {
    b"\x55\x04\x03": "CN",
    b"\x55\x04\x06": "C",
    b"\x55\x04\x07": "L",
    b"\x55\x04\x08": "ST",
    b"\x55\x04\x0a": "O",
    b"\x55\x04\x0b": "OU",
}
"""Object identifiers of the parts of a name that people know; the others are passed over."""

_block = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.S)
Value = tuple[int, bytes]
"""Tag and content."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """Names like `CN=engine, O=Lab`; times are in UTC. whose, by: subject and issuer as DER, to compare."""

    subject: str
    issuer: str
    not_before: datetime
    not_after: datetime
    whose: bytes
    by: bytes


def read(der: bytes) -> Certificate:
    """Errors: ValueError when it is no X.509 certificate."""
    try:
        outer = _values(der)[0][1]
        fields = _values(_values(outer)[0][1])
        if fields[0][0] == VERSION:
            del fields[0]
        _, _, issuer, validity, subject = fields[:5]
        begins, ends = _values(validity[1])[:2]
        return Certificate(_name(subject[1]), _name(issuer[1]), _time(begins), _time(ends), subject[1], issuer[1])
    except IndexError:
        raise ValueError("the certificate ends too soon") from None


def chain(path: Path) -> list[Certificate]:
    """All certificates of a PEM file, in its order. Raises OSError, ValueError."""
    return [read(ssl.PEM_cert_to_DER_cert(block)) for block in _block.findall(read_small(path).decode("ascii", "replace"))]


def _values(data: bytes) -> list[Value]:
    """The values that stand one after another. Errors: IndexError when the last one is cut off."""
    found, at = [], 0
    while at < len(data):
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(data[at : at + size])
            at += size
        if at + length > len(data):
            raise IndexError
        found.append((tag, data[at : at + length]))
        at += length
    return found


def _name(data: bytes) -> str:
    parts = []
    for _, together in _values(data):
        for _, pair in _values(together):
            (_, identifier), (tag, text) = _values(pair)[:2]
            if label := _NAMES.get(identifier):
                parts.append(f"{label}={text.decode('utf-16-be' if tag == BMP_STRING else 'utf-8', errors='replace')}")
    return ", ".join(parts)


def _time(value: Value) -> datetime:
    """UTCTime's years are 1950 to 2049 (RFC 5280); Python's `%y` turns over at 1969, which no certificate in use has."""
    return datetime.strptime(value[1].decode("ascii"), "%y%m%d%H%M%SZ" if value[0] == UTC_TIME else "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)

"""The PROXY header: what it says, at every cut the same, and everything else refused as soon as it can be told."""

import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire.proxy_protocol import SIGNATURE, Found, NotProxied, parse

NEXT = b"GET / HTTP/1.1\r\nHost: 192.168.0.11\r\n\r\n"
TWO = "1.2.3.4 5.6.7.8"


def v2(addresses: bytes = b"", kind: int = 0x11, command: int = 0x21, more: bytes = b"", size: int | None = None) -> bytes:
    whole = addresses + more
    return SIGNATURE + bytes([command, kind]) + (len(whole) if size is None else size).to_bytes(2, "big") + whole


def inet(source: str, kind: int = 0x11) -> bytes:
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    return v2(socket.inet_pton(family, source) * 2 + b"\xdc\x04\x01\xbb", kind)


UNIX = b"/run/a.sock".ljust(108, b"\0") * 2
TLVS = b"\x01\x00\x02h2" + b"\x04\x00\x03abc" + b"\x20\x00\x05\x01\0\0\0\0"

GOOD: dict[str, tuple[bytes, str]] = {
    "the specification's": (b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", "192.168.0.1"),
    "longest TCP4": (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255"),
    "longest TCP6": (b"PROXY TCP6 " + b" ".join([b":".join([b"ffff"] * 8)] * 2) + b" 65535 65535\r\n", ":".join(["ffff"] * 8)),
    "shortened": (b"PROXY TCP6 2001:DB8::7 ::1 0 1\r\n", "2001:db8::7"),
    "mapped": (b"PROXY TCP6 ::ffff:10.1.2.3 ::1 1 2\r\n", "10.1.2.3"),
    "unknown, short": (b"PROXY UNKNOWN\r\n", ""),
    "unknown, longest": (b"PROXY UNKNOWN " + b" ".join([b":".join([b"ffff"] * 8)] * 2) + b" 65535 65535\r\n", ""),
    "unknown, anything": (b"PROXY UNKNOWN \r \n \xff 1.2.3.4\r\n", ""),
    "v2 TCP4": (inet("172.19.0.1"), "172.19.0.1"),
    "v2 TCP6": (inet("2001:db8::7", 0x21), "2001:db8::7"),
    "v2 mapped": (inet("::ffff:10.1.2.3", 0x21), "10.1.2.3"),
    "v2 with more": (v2(b"\x0a\x01\x02\x03" * 3, more=TLVS), "10.1.2.3"),
    "v2 with much more": (v2(b"\x0a\x01\x02\x03" * 3, more=bytes(65_523)), "10.1.2.3"),
    "v2 local": (v2(command=0x20, kind=0), ""),
    "v2 local, with what is to be ignored": (v2(b"\x0a\x01\x02\x03" * 3, command=0x20), ""),
    "v2 local of no family": (v2(b"abc", command=0x20, kind=0xFF), ""),
    "v2 unspecified": (v2(kind=0), ""),
    "v2 unspecified, with more": (v2(kind=0, more=TLVS), ""),
    "v2 UDP": (inet("10.1.2.3", 0x12), ""),
    "v2 UDP6": (inet("2001:db8::7", 0x22), ""),
    "v2 Unix": (v2(UNIX, 0x31), ""),
    "v2 Unix datagrams": (v2(UNIX, 0x32, more=TLVS), ""),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_a_header_says_whatever_follows_it(name):
    header, source = GOOD[name]
    assert len(header) <= 107 or not header.startswith(b"PROXY")
    for following in (b"", NEXT, b"\r\n", header, b"\x16\x03\x01"):
        assert parse(header + following) == Found(source, len(header))


@pytest.mark.parametrize("name", GOOD)
def test_at_every_cut_it_goes_on(name):
    header = GOOD[name][0]
    cuts = range(len(header)) if len(header) < 1000 else [*range(300), *range(300, len(header), 997), len(header) - 1]
    assert all(parse(header[:cut]) is None for cut in cuts)


@pytest.mark.parametrize(
    "data",
    [
        NEXT,
        b"\x16\x03\x01",
        b"proxy TCP4",
        b"PROXYTCP4",
        b"PROXY\tTCP4",
        b" PROXY ",
        b"\r\n\r\nP",
        b"\r\n\r\n\0\r\nQUIT\r",
        b"PROXY \r\n",
        b"PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
        b"PROXY TCP4\t1.2.3.4\t5.6.7.8\t1\t2\r\n",
        b"PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY tcp4 1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY TCP4 ::1 ::1 1 2\r\n",
        b"PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 ::1 1 2\r\n",
        b"PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n",
        b"PROXY TCP4 1.2.3.256 5.6.7.8 1 2\r\n",
        b"PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY TCP4 1.2.3.4/8 5.6.7.8 1 2\r\n",
        "PROXY TCP4 ١.2.3.4 5.6.7.8 1 2\r\n".encode(),
        b"PROXY TCP4 example.com 5.6.7.8 1 2\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        b"PROXY TCP6 ::1 fe80::1%1 1 2\r\n",
        b"PROXY TCP6 1::2::3 ::1 1 2\r\n",
        b"PROXY TCP6 [::1] ::1 1 2\r\n",
        *(f"PROXY TCP4 {TWO} {ports}\r\n".encode() for ports in ("65536 1", "1 65536", "01 1", "-1 1", "+1 1", "1 1_0", " 1", "1 ", "a b")),
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 \xc2\xb2\r\n",
        b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
        b"PROXY UNKNOWN " + b"x" * 93,
        b"PROXY UNKNOWN " + b"x" * 92 + b"\r",
        v2(b"\x0a\x01\x02\x03" * 3, command=0x22),
        v2(b"\x0a\x01\x02\x03" * 3, command=0x11),
        v2(b"\x0a\x01\x02\x03" * 3, command=0x01),
        v2(b"\x0a\x01\x02\x03" * 3, command=0x31),
        *(v2(UNIX, kind) for kind in (0x01, 0x02, 0x10, 0x13, 0x20, 0x23, 0x30, 0x33, 0x41, 0x44, 0xF1, 0xFF)),
        v2(b"\x0a\x01\x02\x03" * 3, 0x21),
        v2(b"\x0a\x01\x02\x03" * 3, size=11),
        v2(kind=0x11),
        v2(bytes(36), 0x22, size=35),
        v2(UNIX, 0x31, size=215),
    ],
)
def test_what_is_no_header(data):
    with pytest.raises(NotProxied):
        parse(data)


@pytest.mark.parametrize(
    ("data", "length"),
    [
        (NEXT, 1),
        (b"\r\n\r\nGET", 5),
        (b"PROXY TCP4 x\r\n", 14),
        (b"PROXY " + b"x" * 200, 107),
        (v2(command=0x2F), 13),
        (v2(kind=0x77, more=b"abc"), 16),
        (v2(b"abc"), 16),
    ],
)
def test_it_is_told_at_once(data, length):
    assert parse(data[: length - 1]) is None
    with pytest.raises(NotProxied):
        parse(data[:length])


def verdict(data: bytes) -> Found | str | None:
    try:
        return parse(data)
    except NotProxied as error:
        return str(error)


PIECES = [
    b"PROXY ",
    b"TCP4",
    b"TCP6",
    b"UNKNOWN",
    b" ",
    b"1.2.3.4",
    b"::1",
    b"443",
    b"\r\n",
    b"\r",
    b"\n",
    SIGNATURE,
    b"\x21\x11\x00\x0c",
    b"\0" * 12,
]


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=300), st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=3)), max_size=12).map(b"".join)))
def test_any_bytes_get_one_verdict_however_they_come(data):
    last = None
    for cut in range(len(data) + 1):
        found = verdict(data[:cut])
        assert last is None or found == last, "a verdict is final"
        last = found
        assert not isinstance(found, Found) or found.length <= cut

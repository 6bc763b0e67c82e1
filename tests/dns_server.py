"""A small authoritative DNS server over UDP and TCP that says exactly what a test scripts.

async with DnsServer() as dns:
    dns.say("gpu.lab", "A", a("10.0.0.1"), a("10.0.0.2"), ttl=30)
    dns.script("gpu.lab", "A", NXDOMAIN, records(a("10.0.0.1")))      # one step a question, over and over
"""

import asyncio
import ipaddress
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

TYPES: Final = {"A": 1, "CNAME": 5, "SOA": 6, "AAAA": 28, "SRV": 33}
_KINDS: Final = {number: kind for kind, number in TYPES.items()}
IN: Final = 1
PLAIN_UDP: Final = 512
OPT: Final = 41


@dataclass(frozen=True)
class Record:
    """type and what stands in its data; name: None = the one that was asked for."""

    kind: str
    data: bytes
    ttl: int | None = None
    name: str | None = None


@dataclass(frozen=True)
class Step:
    """What happens to one question. code: of the answer. silent: there is none. cut: TC over UDP, whatever its size."""

    records: tuple[Record, ...] = ()
    ttl: int = 0
    code: int = 0
    silent: bool = False
    cut: bool = False
    garbage: bool = False


NXDOMAIN: Final = Step(code=3)
SERVFAIL: Final = Step(code=2)
REFUSED: Final = Step(code=5)
EMPTY: Final = Step()
SILENCE: Final = Step(silent=True)
GARBAGE: Final = Step(garbage=True)
Script = Callable[[int], Step]
"""The step for a question, by how many were asked before it."""


def a(address: str, *, ttl: int | None = None) -> Record:
    """An A or AAAA record, as the address is."""
    at = ipaddress.ip_address(address)
    return Record("A" if at.version == 4 else "AAAA", at.packed, ttl)


def srv(target: str, port: int, *, priority: int = 0, weight: int = 1, ttl: int | None = None) -> Record:
    return Record("SRV", struct.pack("!HHH", priority, weight, port) + _name(target), ttl)


def cname(target: str, *, ttl: int | None = None) -> Record:
    return Record("CNAME", _name(target), ttl)


def records(*some: Record, ttl: int = 0, cut: bool = False) -> Step:
    return Step(some, ttl, cut=cut)


@dataclass
class DnsServer:
    """`asked`: each question as (name, type, `udp` or `tcp`), in order."""

    asked: list[tuple[str, str, str]] = field(default_factory=list)
    port: int = 0
    _scripts: dict[tuple[str, str], Script] = field(default_factory=dict)
    _counts: dict[tuple[str, str], int] = field(default_factory=dict)
    _udp: asyncio.DatagramTransport | None = None
    _tcp: asyncio.Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def say(self, name: str, kind: str, *some: Record, ttl: int = 0) -> None:
        """From now on always this."""
        self.script(name, kind, records(*some, ttl=ttl))

    def script(self, name: str, kind: str, *steps: Step) -> None:
        """The steps one after another, and again from the first."""
        self.play(name, kind, lambda number: steps[number % len(steps)])

    def play(self, name: str, kind: str, script: Script) -> None:
        self._scripts[name.lower(), kind] = script
        self._counts[name.lower(), kind] = 0

    def count(self, name: str, kind: str) -> int:
        """Questions so far, each once: what is asked again over TCP is the same question."""
        return sum(1 for asked in self.asked if asked == (name, kind, "udp"))

    async def __aenter__(self) -> "DnsServer":
        loop = asyncio.get_running_loop()
        while True:
            self._tcp = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            self.port = self._tcp.sockets[0].getsockname()[1]
            try:
                self._udp, _ = await loop.create_datagram_endpoint(lambda: _Udp(self), ("127.0.0.1", self.port))
            except OSError:  # the UDP port of the same number is somebody else's
                self._tcp.close()
                await self._tcp.wait_closed()
                continue
            return self

    async def __aexit__(self, *_: object) -> None:
        assert self._udp is not None and self._tcp is not None
        self._udp.close()
        self._tcp.close()
        await self._tcp.wait_closed()
        await asyncio.sleep(0)  # transports close in the loop's next turn

    def answer(self, question: bytes, over: str) -> bytes | None:
        """The answer's bytes; None: silence."""
        number, _, _ = struct.unpack("!HHH", question[:6])
        name, at = _read_name(question, 12)
        kind = _KINDS.get(struct.unpack("!H", question[at : at + 2])[0], "?")
        asked = question[12 : at + 4]
        key = (name.lower(), kind)
        step = self._step(key, over)
        self.asked.append((name.lower(), kind, over))
        if step.silent:
            return None
        if step.garbage:
            return question[:2] + b"\x81\x80 this is no DNS"
        body = b"".join(_record(one, step.ttl) for one in step.records)
        room = _room(question, at + 4) if over == "udp" else 65_535
        cut = over == "udp" and (step.cut or 12 + len(asked) + len(body) > room)
        count = 0 if cut else len(step.records)
        head = struct.pack("!HHHHHH", number, 0x8400 | (0x0200 if cut else 0) | step.code, 1, count, 0, 0)
        return head + asked + (b"" if cut else body)

    def _step(self, key: tuple[str, str], over: str) -> Step:
        script = self._scripts.get(key)
        if script is None:  # a name that has other records exists
            return EMPTY if any(name == key[0] for name, _ in self._scripts) else NXDOMAIN
        number = self._counts[key]
        if over == "tcp" and number:  # the question that was cut off, again
            return script(number - 1)
        self._counts[key] = number + 1
        return script(number)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                size = struct.unpack("!H", await reader.readexactly(2))[0]
                answer = self.answer(await reader.readexactly(size), "tcp")
                if answer is not None:
                    writer.write(struct.pack("!H", len(answer)) + answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        answer = self._server.answer(data, "udp")
        if answer is not None:
            self._transport.sendto(answer, addr)


def _record(one: Record, ttl: int) -> bytes:
    name = b"\xc0\x0c" if one.name is None else _name(one.name)
    return name + struct.pack("!HHIH", TYPES[one.kind], IN, ttl if one.ttl is None else one.ttl, len(one.data)) + one.data


def _name(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split(".") if label) + b"\0"


def _read_name(data: bytes, at: int) -> tuple[str, int]:
    labels = []
    while size := data[at]:
        labels.append(data[at + 1 : at + 1 + size].decode())
        at += 1 + size
    return ".".join(labels), at + 1


def _room(question: bytes, at: int) -> int:
    """Bytes that a UDP answer may have: what EDNS says, else 512."""
    if struct.unpack("!H", question[10:12])[0] and question[at] == 0 and struct.unpack("!H", question[at + 1 : at + 3])[0] == OPT:
        return int(struct.unpack("!H", question[at + 3 : at + 5])[0])
    return PLAIN_UDP

"""A registry of type `dns`: SRV records whose targets have A and AAAA records, or one name with a fixed port.

Asks again when the records' time to live is over, within `ttl_min` and `ttl_max`. What DNS does not tell at the moment (NXDOMAIN,
SERVFAIL, silence, no records) it may tell later: the last good answer stays, for each name by itself.
"""

import asyncio
import logging
import socket
from dataclasses import dataclass, field
from typing import Any, Final

import aiodns
import pycares

from gateway.config.resolved_registries import Registry
from gateway.discover.registries.known import MOST, Found, Known, endpoint

PATIENCE: Final = 1.0
"""Seconds that a server has for its first answer; it is asked twice, the second time for longer."""
TRIES: Final = 2
ROUND: Final = 10.0
"""Seconds for one look, however many names it needs."""
AT_ONCE: Final = 16
"""Questions at the same time."""
FIRST: Final = 1.0
"""Seconds to the next look while nothing was ever found; later `ttl_min`."""

logging.getLogger("aiodns").setLevel(logging.ERROR)  # each new resolver would say again that inotify watches are used up

_GONE: Final = frozenset((aiodns.error.ARES_ENOTFOUND, aiodns.error.ARES_ENODATA))
_SAID: Final = {
    aiodns.error.ARES_ENOTFOUND: "there is no such name (NXDOMAIN)",
    aiodns.error.ARES_ENODATA: "the name has no such records",
    aiodns.error.ARES_ESERVFAIL: "the server failed (SERVFAIL)",
    aiodns.error.ARES_EREFUSED: "the server refuses to answer (REFUSED)",
    aiodns.error.ARES_ETIMEOUT: "no answer in time",
    aiodns.error.ARES_ECONNREFUSED: "no DNS server can be reached",
    aiodns.error.ARES_EBADRESP: "the answer is no DNS",
    aiodns.error.ARES_EFORMERR: "the server did not understand the question (FORMERR)",
    aiodns.error.ARES_ENOTIMP: "the server does not know such questions (NOTIMP)",
}
Kind = str
"""`A`, `AAAA` or `SRV`."""


@dataclass
class Answer:
    """What came of one question. ttl: seconds that the records live, the shortest of them. trouble: an ARES error, 0 = none."""

    records: list[Any] = field(default_factory=list)
    ttl: float = float("inf")
    trouble: int = 0

    @property
    def lost(self) -> bool:
        """Whether it tells nothing; that there are no records is an answer."""
        return bool(self.trouble) and self.trouble not in _GONE


class Silent(Exception):
    """Nothing that can be used came. The text says why."""


async def watch(known: Known) -> None:
    """For ever."""
    config = known.config
    last: dict[tuple[str, Kind], list[str]] = {}
    while True:
        pause = min(FIRST, config.ttl_min)
        look = Look(config, last)
        try:
            found = await look.run()
        except Silent as error:
            known.failed(str(error))
            if known.succeeded is not None:
                pause = config.ttl_min
        else:
            last = look.good
            known.found(found, look.why)
            pause = config.ttl_min if look.why else max(config.ttl_min, min(config.ttl_max, look.ttl))
        await asyncio.sleep(pause)


class Look:
    """One round of questions. `why`, `ttl` and `good` (the addresses by name and kind) hold when it has run."""

    def __init__(self, config: Registry, last: dict[tuple[str, Kind], list[str]]) -> None:
        """last: `good` of the look before."""
        self._config = config
        self._last = last
        self._slots = asyncio.Semaphore(AT_ONCE)
        self.good: dict[tuple[str, Kind], list[str]] = {}
        self.ttl = float("inf")
        self.why = ""
        self._fresh = False

    async def run(self) -> list[Found]:
        """All endpoints. Raises Silent when there is not one."""
        config = self._config
        # A resolver of its own for each look: another one's cache would hide what changed, and its memory of servers that were slow.
        async with aiodns.DNSResolver(nameservers=config.servers or None, timeout=PATIENCE, tries=TRIES) as resolver:
            self._resolver = resolver
            try:
                async with asyncio.timeout(ROUND):
                    found = await (self._services() if config.srv else self._addressed())
            except TimeoutError:
                raise Silent(f"{config.srv or config.host}: not all answers came within {ROUND:g} s") from None
        if not self._fresh:
            raise Silent(self.why)
        return found

    async def _addressed(self) -> list[Found]:
        config = self._config
        return [endpoint(config.scheme, address, config.port, config.base) for address in await self._addresses(config.host)]

    async def _services(self) -> list[Found]:
        config = self._config
        answer = await self._ask(config.srv, "SRV")
        records = [one for one in answer.records if one.target.rstrip(".")]  # "." says: no such service here
        if not records:
            raise Silent(f"{config.srv} SRV: {_said(answer.trouble or aiodns.error.ARES_ENODATA)}")
        self.ttl = answer.ttl
        best = sorted(records, key=lambda one: (one.priority, -one.weight, one.target, one.port))[:MOST]
        names = list(dict.fromkeys(one.target for one in best))
        async with asyncio.TaskGroup() as group:
            tasks = {name: group.create_task(self._addresses(name)) for name in names}
        return [
            endpoint(config.scheme, address, one.port, config.base, weight=max(1, one.weight), priority=one.priority)
            for one in best
            for address in tasks[one.target].result()
        ]

    async def _addresses(self, name: str) -> list[str]:
        """The addresses of a name; the last good ones when it cannot be asked now, or has none any more at all."""
        if _is_address(name.rstrip(".")):
            self._fresh = True
            return [name.rstrip(".")]
        kinds = {"any": ("A", "AAAA"), "ipv4": ("A",), "ipv6": ("AAAA",)}[self._config.family]
        answers = dict(zip(kinds, await asyncio.gather(*(self._ask(name, kind) for kind in kinds)), strict=True))
        none = not any(answer.records for answer in answers.values())
        found: list[str] = []
        for kind, answer in answers.items():
            addresses = sorted({record.addr for record in answer.records})
            if answer.lost or none:
                addresses = self._last.get((name, kind), [])
                self._complain(f"{name} {kind}: {_said(answer.trouble or aiodns.error.ARES_ENODATA)}")
            else:
                self._fresh = True
                self.ttl = min(self.ttl, answer.ttl) if addresses else self.ttl
            self.good[name, kind] = addresses
            found += addresses
        return found

    def _complain(self, why: str) -> None:
        self.why = self.why or why

    async def _ask(self, name: str, kind: Kind) -> Answer:
        async with self._slots:
            try:
                result = await self._resolver.query_dns(name, kind)
            except aiodns.error.DNSError as error:
                return Answer(trouble=int(error.args[0]))
        wanted = getattr(pycares, f"QUERY_TYPE_{kind}")
        records = [one.data for one in result.answer if one.type == wanted]
        ttl = min((one.ttl for one in result.answer), default=0)
        return Answer(records, float(ttl), 0 if records else aiodns.error.ARES_ENODATA)


def _is_address(name: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, name)
        except OSError:
            continue
        return True
    return False


def _said(trouble: int) -> str:
    return _SAID.get(trouble) or str(pycares.errno.strerror(trouble)).lower()

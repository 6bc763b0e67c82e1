"""The role `examine`: looks once at everything that a configuration reaches out to, in parallel, and says what it found.

Started by `gatewayctl doctor` with the resolved configuration (MessagePack) on stdin, so that it needs neither files nor
environment. Asks the configured engines, registries and names, nobody else. Changes nothing.
"""

import asyncio
import ipaddress
import logging
import os
import socket
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import msgspec

from gateway.config.fields import url_of
from gateway.config.resolved import Channel, Endpoint, Resolved
from gateway.config.resolved_registries import Registry
from gateway.discover.endpoints import wanted_of
from gateway.discover.finding import Probe
from gateway.discover.look import DOWN, judge
from gateway.discover.probe import probe
from gateway.discover.registries.known import Known
from gateway.discover.registries.registries import KINDS
from gateway.moment import comes

PATIENCE: Final = 3.0
"""Seconds for one registry, one name, one endpoint."""
AT_ONCE: Final = 64
WHOLE: Final = 60.0
"""Seconds for everything. What was not looked at by then is said."""
NOT_LOOKED: Final = "not looked at: there was no time left"
Found = dict[str, Any]


def main() -> int:
    """One JSON object: {"registries", "names", "endpoints"}, each a list."""
    logging.disable(logging.CRITICAL)
    config = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Resolved)
    asyncio.run(_run(config))
    return 0


async def _run(config: Resolved) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(AT_ONCE))
    found = await everything(config)
    sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
    sys.stdout.flush()
    os._exit(0)  # a resolver that still waits for its server must not hold the end up


async def everything(config: Resolved) -> Found:
    """What `main` prints."""
    end = time.monotonic() + WHOLE
    turn = asyncio.Semaphore(AT_ONCE)
    known = {name: Known(registry, lambda name: None) for name, registry in config.registries.items()}
    registries = await asyncio.gather(*(_registry(one, end) for one in known.values()))
    pairs = [
        (channel, endpoint)
        for channel in config.channels.values()
        for endpoint in (known[channel.registry].endpoints if channel.registry in known else channel.endpoints)
    ]
    wanted = wanted_of(config.channels, config.models)
    names = asyncio.gather(*(_name(host, turn, end) for host in _hosts(pairs)))
    endpoints = asyncio.gather(*(_endpoint(channel, at, wanted[channel.name], turn, end) for channel, at in pairs))
    return {"registries": registries, "names": await names, "endpoints": await endpoints}


async def _registry(known: Known, end: float) -> Found:
    began = time.monotonic()
    watcher = asyncio.create_task(KINDS[known.config.type](known))
    answered = await comes(known.answered, max(0.0, min(PATIENCE, end - began)))
    why = known.why if answered else f"no answer within {PATIENCE:g} s"
    watcher.cancel()
    await asyncio.gather(watcher, return_exceptions=True)
    asked = _asked(known.config)
    return {"name": known.config.name, "asked": asked, "endpoints": len(known.endpoints), "why": why, "ms": _since(began)}


def _asked(registry: Registry) -> str:
    if registry.type == "dns":
        return f"{registry.srv} SRV" if registry.srv else registry.host
    return registry.path or f"{len(registry.urls)} URLs"


def _hosts(pairs: Iterable[tuple[Channel, Endpoint]]) -> list[str]:
    """Every host name that is no address: of endpoints, and of the other planes."""
    hosts: dict[str, None] = {}
    for channel, endpoint in pairs:
        for host in (endpoint.host, *(url_of(url).host for url in channel.planes.values())):
            try:
                ipaddress.ip_address(host.strip("[]"))
            except ValueError:
                hosts[host] = None
    return list(hosts)


async def _name(host: str, turn: asyncio.Semaphore, end: float) -> Found:
    async with turn:
        began, addresses, why = time.monotonic(), [], ""
        try:
            asked = asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
            async with asyncio.timeout(max(0.0, min(PATIENCE, end - began))):
                answers = await asked
            addresses = sorted({str(answer[4][0]) for answer in answers})
        except TimeoutError:
            why = f"no answer within {PATIENCE:g} s"
        except OSError as error:
            why = error.strerror or str(error)
        return {"name": host, "addresses": addresses, "why": why, "ms": _since(began)}


async def _endpoint(channel: Channel, at: Endpoint, wanted: tuple[str, ...], turn: asyncio.Semaphore, end: float) -> Found:
    async with turn:
        began, family = time.monotonic(), None if channel.auto else channel.engine
        state, why, found = DOWN, NOT_LOOKED, Probe(url=at.url)
        if began < end:
            try:
                async with asyncio.timeout(min(PATIENCE, end - began)):
                    found = await _probed(channel, at, family)
                state, why = judge(found, wanted, found.engine, family or found.engine)
            except TimeoutError:
                why = f"no answer within {PATIENCE:g} s"
        return {"channel": channel.name, "state": state, "why": why, "ms": _since(began), "found": found.told()}


async def _probed(channel: Channel, at: Endpoint, family: str | None) -> Probe:
    return await probe(
        at,
        engine=family,
        credential=channel.credential,
        tls=channel.tls,
        planes=channel.planes,
        plane_tls=channel.plane_tls,
        headers=channel.headers,
        total=PATIENCE,
    )


def _since(began: float) -> float:
    return round((time.monotonic() - began) * 1000, 1)

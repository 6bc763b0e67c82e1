"""The listening sockets, as the supervisor owns them: one per worker slot and address, one per metrics address.

They outlive workers: connections that wait for a dead worker are answered by its successor. New ones are made first
and taken over only when a change is committed.
"""

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

BACKLOG: Final = 4096
SEND_BUFFER: Final = 64 * 1024
"""Kernel buffer of a caller's connection, before the kernel doubles it: a slow reader holds no more than this."""

Address = tuple[str, int]


@dataclass(frozen=True)
class Wish:
    """What control wants listened on, and for how many workers."""

    api: tuple[Address, ...]
    metrics: tuple[Address, ...]
    workers: int

    @classmethod
    def of(cls, message: dict[str, Any]) -> "Wish":
        return cls(_addresses(message["api"]), _addresses(message["metrics"]), message["workers"])


def _addresses(pairs: Iterable[Any]) -> tuple[Address, ...]:
    return tuple((str(host), int(port)) for host, port in pairs)


class Sockets:
    """All of them, and those of a change that is being prepared."""

    def __init__(self) -> None:
        self._api: dict[tuple[int, Address], socket.socket] = {}
        self._metrics: dict[Address, socket.socket] = {}
        self._new_api: dict[tuple[int, Address], socket.socket] = {}
        self._new_metrics: dict[Address, socket.socket] = {}

    def slots(self) -> set[int]:
        return {slot for slot, _ in self._api}

    def of(self, slot: int) -> dict[Address, socket.socket]:
        return {address: sock for (n, address), sock in self._api.items() if n == slot}

    def new_of(self, slot: int) -> dict[Address, socket.socket]:
        return {address: sock for (n, address), sock in self._new_api.items() if n == slot}

    def metrics(self) -> dict[Address, socket.socket]:
        return self._metrics

    def new_metrics(self) -> dict[Address, socket.socket]:
        return self._new_metrics

    def make(self, wish: Wish) -> None:
        """Makes what is missing. Raises OSError naming the address; what was made until then is dropped."""
        try:
            for address in wish.api:
                if not any(known == address for _, known in self._api):
                    _probe(address)
                for slot in range(wish.workers):
                    if (slot, address) not in self._api:
                        self._new_api[slot, address] = _listen(address, shared=True)
            for address in wish.metrics:
                if address not in self._metrics:
                    _probe(address)
                    self._new_metrics[address] = _listen(address, shared=False)
        except OSError:
            self.drop_new()
            raise

    def take_new(self) -> None:
        self._api |= self._new_api
        self._metrics |= self._new_metrics
        self._new_api, self._new_metrics = {}, {}

    def drop_new(self) -> None:
        for sock in (*self._new_api.values(), *self._new_metrics.values()):
            sock.close()
        self._new_api, self._new_metrics = {}, {}

    def leave(self, wish: Wish) -> tuple[dict[int, list[Address]], list[socket.socket]]:
        """What `wish` no longer names: by slot, the addresses its worker must let go; and the sockets to close after that."""
        gone = [key for key in self._api if key[0] >= wish.workers or key[1] not in wish.api]
        by_slot: dict[int, list[Address]] = {}
        for slot, address in gone:
            by_slot.setdefault(slot, []).append(address)
        doomed = [self._api.pop(key) for key in gone]
        doomed += [self._metrics.pop(address) for address in list(self._metrics) if address not in wish.metrics]
        return by_slot, doomed

    def close(self) -> None:
        self.drop_new()
        for sock in (*self._api.values(), *self._metrics.values()):
            sock.close()


def _probe(address: Address) -> None:
    """SO_REUSEPORT would let us share an address with a stranger in silence: try it alone first. Raises OSError."""
    with _socket(address) as sock:
        _bind(sock, address)


def _listen(address: Address, *, shared: bool) -> socket.socket:
    sock = _socket(address)
    try:
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        _bind(sock, address)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _socket(address: Address) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address[0] == "::" else 1)
    return sock


def _bind(sock: socket.socket, address: Address) -> None:
    try:
        sock.bind(address)
    except OSError as error:
        raise OSError(f"cannot listen on {address[0]}:{address[1]}: {error.strerror}") from None

"""The listening sockets, as the supervisor owns them: one per worker slot and address, one per metrics address.

They outlive workers: connections that wait for a dead worker are answered by its successor. New ones are made first
and taken over only when a change is committed.
"""

import ctypes
import errno
import logging
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

log = logging.getLogger("gateway.listen")

BACKLOG: Final = 4096
SEND_BUFFER: Final = 64 * 1024
"""Kernel buffer of a caller's connection, before the kernel doubles it: a slow reader holds no more than this."""

SO_ATTACH_REUSEPORT_CBPF: Final = 51
"""Linux; the socket module has no name for it."""

HINTS: Final = {
    errno.EADDRINUSE: "`gatewayctl doctor --only ports` says by whom",
    errno.EACCES: "a port below 1024 wants CAP_NET_BIND_SERVICE, see docs/operations.md",
    errno.EADDRNOTAVAIL: "no interface of this host has it",
}
"""What to do when an address cannot be had, by why not."""

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
        self.workers = 0
        self._api: dict[tuple[int, Address], socket.socket] = {}
        self._metrics: dict[Address, socket.socket] = {}
        self._new_api: dict[tuple[int, Address], socket.socket] = {}
        self._new_metrics: dict[Address, socket.socket] = {}

    def slots(self) -> set[int]:
        return {slot for slot, _ in self._api}

    def of(self, slot: int) -> dict[Address, socket.socket]:
        return {address: sock for (n, address), sock in self._api.items() if n == slot}

    def held(self) -> list[tuple[int, str, int, int]]:
        """Slot, host, port and descriptor of all that listen, in the order in which they began to."""
        return [(slot, *address, sock.fileno()) for (slot, address), sock in self._api.items()]

    def held_metrics(self) -> dict[Address, int]:
        return {address: sock.fileno() for address, sock in self._metrics.items()}

    def adopt(self, api: Iterable[tuple[int, str, int, int]], metrics: Iterable[tuple[str, int, int]], workers: int) -> None:
        """What an earlier version of this process held."""
        self._api = {(slot, (host, port)): socket.socket(fileno=fd) for slot, host, port, fd in api}
        self._metrics = {(host, port): socket.socket(fileno=fd) for host, port, fd in metrics}
        self.workers = workers

    @property
    def preparing(self) -> bool:
        """A change of addresses is under way."""
        return bool(self._new_api or self._new_metrics)

    def metrics(self) -> dict[Address, socket.socket]:
        return {**self._metrics, **self._new_metrics}

    def new_metrics(self) -> dict[Address, socket.socket]:
        return self._new_metrics

    def make(self, wish: Wish) -> None:
        """Binds what is missing; nothing listens yet. Raises OSError naming the address; what was made until then is dropped."""
        self.drop_new()
        try:
            for address in wish.api:
                self._try(address)
                for slot in range(wish.workers):
                    if (slot, address) not in self._api:
                        self._new_api[slot, address] = _bound(address)
            for address in wish.metrics:
                self._try(address)
                if address not in self._metrics:
                    self._new_metrics[address] = _bound(address)
        except OSError:
            self.drop_new()
            raise

    def _try(self, address: Address) -> None:
        """SO_REUSEPORT would let us share an address with a stranger in silence: a port that is new to us is first had alone."""
        ours = (*(known for _, known in self._api), *self._metrics, *(known for _, known in self._new_api), *self._new_metrics)
        if all(known[1] != address[1] for known in ours):
            _bound(address, alone=True).close()

    def take_new(self) -> dict[int, dict[Address, socket.socket]]:
        """The change is committed: the new sockets listen. Returns those of workers, by slot. An address that somebody else
        took in the very last moment is left out and logged."""
        taken: dict[int, dict[Address, socket.socket]] = {}
        for (slot, address), sock in sorted(self._new_api.items(), key=lambda item: item[0][0]):
            if _listens(sock, address):
                self._api[slot, address] = sock
                taken.setdefault(slot, {})[address] = sock
        for address, sock in self._new_metrics.items():
            if _listens(sock, address):
                self._metrics[address] = sock
        self._new_api, self._new_metrics = {}, {}
        return taken

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
        self.workers = wish.workers
        return by_slot, doomed

    def steer(self, slots: int) -> None:
        """New connections go to the first `slots` slots alone: the others have no worker yet, or are about to be closed, which
        resets what waits in them. Where the kernel cannot, all slots go on getting some."""
        program = _choose_below(slots)
        for address in {address for _, address in self._api}:
            sock = next(sock for (_, known), sock in self._api.items() if known == address)
            try:
                sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, program.option)
            except OSError as error:
                log.info("new connections cannot be kept from workers that come or go: %s", error.strerror)

    def close(self) -> None:
        self.drop_new()
        for sock in (*self._api.values(), *self._metrics.values()):
            sock.close()


class _Program:
    """A classic BPF program as setsockopt wants it: `option` points to the instructions, which must live as long."""

    def __init__(self, *instructions: tuple[int, int, int, int]) -> None:
        self._code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in instructions))
        self.option = struct.pack("@HP", len(instructions), ctypes.addressof(self._code))


def _choose_below(slots: int) -> _Program:
    """A = random; A %= slots; return A: the socket's place in its group, which is the order in which they began to listen."""
    return _Program((0x20, 0, 0, 0xFFFFF000 + 56), (0x94, 0, 0, slots), (0x16, 0, 0, 0))


def _bound(address: Address, *, alone: bool = False) -> socket.socket:
    """A socket that has the address, but does not listen. Raises OSError whose strerror says which address."""
    sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, not alone)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
        sock.setblocking(False)
        sock.bind(address)
    except OSError as error:
        sock.close()
        raise _named(error, address) from None
    return sock


def _listens(sock: socket.socket, address: Address) -> bool:
    try:
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        log.error("%s", _named(error, address).strerror)
        return False
    return True


def _named(error: OSError, address: Address) -> OSError:
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    hint = HINTS.get(error.errno or 0, "")
    return OSError(error.errno, f"cannot listen on {host}:{address[1]}: {error.strerror}{hint and f' ({hint})'}")

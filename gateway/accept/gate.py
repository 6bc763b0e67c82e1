"""The listening sockets of a worker: plain ones served by the loop, TLS ones by a look at the first byte.

A TLS address takes the certificate that is current when a connection comes, so renewed files need no new socket; and a
caller that speaks plain HTTP to it is told so in plain HTTP instead of seeing a handshake fail.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable

from gateway.accept.caller import Door
from gateway.errors import Refusal
from gateway.wire.answers import error_answer, whole_answer

log = logging.getLogger("gateway.accept")

FIRST_BYTE = 10.0
"""Seconds a new connection on a TLS address has to send its first byte, and then to finish the handshake."""

HANDSHAKE = 0x16
"""First byte of a TLS record that opens a handshake."""

LINGER = 2.0
"""Seconds for a caller to take note that a connection ends."""

BREATH = 1.0
"""Seconds without accepting when descriptors have run out."""

AT_ONCE = 64
"""Connections accepted before the loop gets a turn."""

_, _PLAIN_BODY = error_answer(Refusal(400, "https_required", "This address speaks HTTPS: use https:// in your base URL."))
PLAIN = whole_answer(400, b"", _PLAIN_BODY, True, False)


class PlainGate:
    """A plain HTTP address."""

    def __init__(self, server: asyncio.Server) -> None:
        self._server = server

    @classmethod
    async def open(cls, sock: socket.socket, door: Door) -> "PlainGate":
        return cls(await asyncio.get_running_loop().create_server(door, sock=sock, backlog=4096))

    def close(self) -> None:
        self._server.close()


class TlsGate:
    """An HTTPS address. context: asked for at each connection."""

    def __init__(self, sock: socket.socket, door: Door, context: Callable[[], ssl.SSLContext | None]) -> None:
        self._sock = sock
        self._door = door
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._resting: asyncio.TimerHandle | None = None
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._accept)

    def close(self) -> None:
        self._loop.remove_reader(self._sock.fileno())
        if self._resting is not None:
            self._resting.cancel()
        self._sock.close()
        for task in self._tasks:
            task.cancel()

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                sock, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptors left: without a pause the loop would do nothing but fail here
                log.error("cannot accept connections for %.0f s: %s", BREATH, error.strerror)
                self._loop.remove_reader(self._sock.fileno())
                self._resting = self._loop.call_later(BREATH, self._resume)
                return
            sock.setblocking(False)
            task = self._loop.create_task(self._greet(sock))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _resume(self) -> None:
        self._resting = None
        self._loop.add_reader(self._sock.fileno(), self._accept)

    async def _greet(self, sock: socket.socket) -> None:
        """Owns `sock` until a transport does."""
        context = self._context()
        try:
            async with asyncio.timeout(FIRST_BYTE):
                first = await self._first_byte(sock)
                if first == HANDSHAKE:
                    if context is None:
                        raise ssl.SSLError("this address has no certificate")
                    await self._loop.connect_accepted_socket(
                        self._door, sock, ssl=context, ssl_handshake_timeout=FIRST_BYTE, ssl_shutdown_timeout=LINGER
                    )
                    return
                if first is not None:
                    await self._loop.sock_sendall(sock, PLAIN)
                    sock.shutdown(socket.SHUT_WR)
                    async with asyncio.timeout(LINGER):  # what it still says: unread bytes would turn our answer into a reset
                        while await self._loop.sock_recv(sock, 65_536):
                            pass
            sock.close()
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError: a caller that cannot speak our TLS
            log.debug("a TLS connection was not established: %s", error)
            sock.close()
        except BaseException:
            sock.close()
            raise

    async def _first_byte(self, sock: socket.socket) -> int | None:
        """Waits for the first byte without taking it. None = the caller left."""
        while True:
            try:
                seen = sock.recv(1, socket.MSG_PEEK)
                return seen[0] if seen else None
            except (BlockingIOError, InterruptedError):
                await self._readable(sock)

    async def _readable(self, sock: socket.socket) -> None:
        ready = self._loop.create_future()
        fd = sock.fileno()
        self._loop.add_reader(fd, _set, ready)
        try:
            await ready
        finally:
            self._loop.remove_reader(fd)


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)

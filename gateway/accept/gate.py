"""The listening sockets of a worker: plain ones served by the loop; on the others each connection is greeted first.

A greeting reads the header of the PROXY protocol, or looks at the first byte of TLS, or does the one and then the other. A TLS
address takes the certificate that is current when a connection comes, so renewed files need no new socket; and a caller that
speaks plain HTTP to it is told so in plain HTTP instead of seeing a handshake fail. Whoever should have sent a PROXY
header and did not gets no answer at all.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from functools import partial

from gateway.accept.caller import Door
from gateway.accept.descriptors import Descriptors
from gateway.config.resolved import Listener
from gateway.errors import Refusal
from gateway.moment import date_line
from gateway.wire.answers import error_answer, whole_answer
from gateway.wire.proxy_protocol import NotProxied, parse

log = logging.getLogger("gateway.accept")

FIRST_BYTE = 10.0
"""Seconds a new connection has to send its PROXY header; and then, for TLS, its first byte and the handshake."""

HANDSHAKE = 0x16
"""First byte of a TLS record that opens a handshake."""

LINGER = 2.0
"""Seconds for a caller to take note that a connection ends."""

BREATH = 1.0
"""Seconds without accepting when descriptors have run out."""

AT_ONCE = 64
"""Connections accepted before the loop gets a turn."""

QUIET = 60.0
"""Seconds between two warnings about connections without a PROXY header: whoever can connect must not fill the log."""

LOOK = 4096
"""Bytes of a PROXY header that are looked at at once."""

Context = Callable[[], ssl.SSLContext | None]
Trust = Callable[[str], bool]

_, _PLAIN_BODY = error_answer(Refusal(400, "https_required", "This address speaks HTTPS: use https:// in your base URL."))


class PlainGate:
    """A plain HTTP address."""

    def __init__(self, server: asyncio.Server) -> None:
        self._server = server
        self._descriptors = Descriptors(asyncio.get_running_loop())

    @classmethod
    async def open(cls, sock: socket.socket, door: Door) -> "PlainGate":
        return cls(await asyncio.get_running_loop().create_server(door, sock=sock, backlog=4096))

    def fits(self, listener: Listener) -> bool:
        return listener.tls is None and not listener.proxy_protocol

    def leave(self) -> None:
        """Accepts nothing more."""
        self._descriptors.rest()
        self._server.close()

    def greeting(self) -> int:
        return 0

    def close(self) -> None:
        self.leave()


class GreetingGate:
    """An address for HTTPS, or behind a proxy that speaks the PROXY protocol, or both.

    context: asked at each connection; None = plain HTTP. trust: whether a peer's PROXY header is believed; None = there is none.
    """

    def __init__(self, sock: socket.socket, door: Door, *, context: Context | None = None, trust: Trust | None = None) -> None:
        self._sock = sock
        self._door = door
        self._context = context
        self._trust = trust
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._resting: asyncio.TimerHandle | None = None
        self._port = sock.getsockname()[1]
        self._quiet, self._unsaid = 0.0, 0
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._accept)

    def fits(self, listener: Listener) -> bool:
        return (listener.tls is None) == (self._context is None) and listener.proxy_protocol == (self._trust is not None)

    def leave(self) -> None:
        """Accepts nothing more; whoever is being greeted is greeted to the end, which is bounded by `FIRST_BYTE`."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
        if self._resting is not None:
            self._resting.cancel()
        self._sock.close()

    def greeting(self) -> int:
        """Connections that are being greeted."""
        return len(self._tasks)

    def close(self) -> None:
        self.leave()
        for task in self._tasks:
            task.cancel()

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                sock, peer = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptors left: without a pause the loop would do nothing but fail here
                log.error("cannot accept connections for %.0f s: %s", BREATH, error.strerror)
                self._loop.remove_reader(self._sock.fileno())
                self._resting = self._loop.call_later(BREATH, self._resume)
                return
            sock.setblocking(False)
            task = self._loop.create_task(self._greet(sock, peer[0]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _resume(self) -> None:
        self._resting = None
        self._loop.add_reader(self._sock.fileno(), self._accept)

    async def _greet(self, sock: socket.socket, peer: str) -> None:
        """Owns `sock` until a transport does."""
        try:
            source = await self._source(sock, peer, self._trust) if self._trust is not None else ""
            made = partial(self._door, source)
            if self._context is None:
                await self._loop.connect_accepted_socket(made, sock)
            elif not await self._speak_tls(sock, made, self._context()):
                sock.close()
        except NotProxied as error:
            self._complain(peer, str(error))
            sock.close()
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError: a caller that cannot speak our TLS
            log.debug("a connection from %s was not established: %s", peer, error)
            sock.close()
        except BaseException:
            sock.close()
            raise

    async def _source(self, sock: socket.socket, peer: str, trust: Trust) -> str:
        """The caller's address as its proxy says; "" = it is the peer's. Raises NotProxied."""
        if not trust(peer):
            raise NotProxied("it is none of http.trusted_proxies")
        held = b""
        try:
            async with asyncio.timeout(FIRST_BYTE):
                while True:
                    seen = await self._look(sock, LOOK)
                    if not seen:
                        raise NotProxied("it left amid its PROXY header") if held else ConnectionAbortedError("it left without a word")
                    found = parse(held + seen)
                    held += sock.recv(len(seen) if found is None else found.length - len(held))
                    if found is not None:
                        return found.source
        except TimeoutError:
            raise NotProxied(f"it sent no whole PROXY header within {FIRST_BYTE:g} s") from None

    def _complain(self, peer: str, why: str) -> None:
        now = self._loop.time()
        if now < self._quiet:
            self._unsaid += 1
            log.debug("a connection from %s was closed: %s", peer, why)
            return
        before = f"; {self._unsaid} more like it since the last such line" if self._unsaid else ""
        log.warning("port %d: a connection from %s was closed: %s%s", self._port, peer, why, before)
        self._quiet, self._unsaid = now + QUIET, 0

    async def _speak_tls(self, sock: socket.socket, made: Callable[[], asyncio.Protocol], context: ssl.SSLContext | None) -> bool:
        """False: no TLS was spoken, and `sock` is to be closed."""
        async with asyncio.timeout(FIRST_BYTE):
            first = await self._look(sock, 1)
            if first and first[0] == HANDSHAKE:
                if context is None:
                    raise ssl.SSLError("this address has no certificate")
                await self._loop.connect_accepted_socket(
                    made, sock, ssl=context, ssl_handshake_timeout=FIRST_BYTE, ssl_shutdown_timeout=LINGER
                )
                return True
            if first:
                await self._loop.sock_sendall(sock, whole_answer(400, date_line(), b"", _PLAIN_BODY, True, False))
                sock.shutdown(socket.SHUT_WR)
                async with asyncio.timeout(LINGER):  # what it still says: unread bytes would turn our answer into a reset
                    while await self._loop.sock_recv(sock, 65_536):
                        pass
        return False

    async def _look(self, sock: socket.socket, most: int) -> bytes:
        """Waits for the next bytes without taking them. None left = the caller left."""
        while True:
            try:
                return sock.recv(most, socket.MSG_PEEK)
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


Gate = PlainGate | GreetingGate


async def open_gate(sock: socket.socket, door: Door, listener: Listener, context: Context, trust: Trust) -> Gate:
    """The gate that `listener` wants, which owns `sock` from now on."""
    if listener.tls is None and not listener.proxy_protocol:
        return await PlainGate.open(sock, door)
    return GreetingGate(sock, door, context=context if listener.tls else None, trust=trust if listener.proxy_protocol else None)


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)

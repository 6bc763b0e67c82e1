"""The connections to one endpoint: opened on demand, kept a little shorter than the engine keeps them, never shared.

A pool is keyed by everything that defines it (address, TLS, timeouts), so an unchanged endpoint keeps its connections
through a reload. `handshakes` counts what each new connection costs: MindIE closes after every plain answer.
"""

import asyncio
import errno
import socket
import ssl
from typing import Any, Final

from gateway.config.resolved import Endpoint
from gateway.errors import UpstreamFailure
from gateway.relay.connection import Connection

RECEIVE_BUFFER: Final = 64 * 1024
"""Kernel buffer of an engine's connection, before the kernel doubles it: with it a slow caller's stream stays small."""

IDLE_MOST: Final = 256
"""Idle connections kept per endpoint."""

OURS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
"""Why no connection can be opened to anybody: this host has no descriptors, memory or local ports left."""


class Pool:
    """Connections to one endpoint."""

    def __init__(self, endpoint: Endpoint, tls: ssl.SSLContext | None, server_name: str | None, connect: float, idle: float) -> None:
        self.endpoint = endpoint
        self.handshakes = 0
        self.busy = 0
        self.tls = tls
        self._server_name = server_name
        self._connect = connect
        self._idle_time = idle
        self._idle: list[Connection] = []
        self._posted: list[Connection] = []
        self._loop = asyncio.get_running_loop()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    def take(self) -> Connection | None:
        """A connection that is still fresh, the most recently used first; None = one must be opened."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.closed:
                continue
            if self._loop.time() - connection.idle_since > self._idle_time:
                connection.abort()
                self._drop_all()  # the others are older still
                break
            connection.reused = True
            return connection
        return None

    async def open(self) -> Connection:
        """A new connection. Raises UpstreamFailure (`connect`, `tls`, `timeout_connect`, `exhausted`), never carrying an address."""
        self.handshakes += 1
        try:
            async with asyncio.timeout(self._connect):
                return await self._open()
        except TimeoutError:
            raise UpstreamFailure("timeout_connect", "the engine did not accept a connection in time", 504, "upstream_timeout") from None
        except ssl.SSLError as error:
            raise UpstreamFailure("tls", f"the TLS handshake with the engine failed ({error.reason or 'no reason given'})") from None
        except OSError as error:
            if error.errno in OURS:
                said = "the gateway can open no more connections at the moment"
                raise UpstreamFailure("exhausted", said, 503, "overloaded", blame="gateway") from None
            raise UpstreamFailure("connect", "the engine cannot be reached") from None

    async def _open(self) -> Connection:
        endpoint = self.endpoint
        loop = self._loop
        found = await loop.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
        trouble: OSError | None = None
        for family, kind, proto, _, address in found:
            sock = socket.socket(family, kind, proto)
            try:
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await loop.sock_connect(sock, address)
                break
            except OSError as error:
                sock.close()
                trouble = error
            except BaseException:
                sock.close()
                raise
        else:
            try:
                raise trouble or OSError("no address")
            finally:
                trouble = None  # it knows this frame, and both would stay until the collector comes
        trouble = None
        try:
            name = self._server_name or endpoint.host
            protocol: Connection
            _, protocol = await loop.create_connection(
                self._connection, sock=sock, ssl=self.tls, server_hostname=name if self.tls else None
            )
        except BaseException as error:
            sock.close()
            if self.tls is not None and isinstance(error, ConnectionError):
                raise UpstreamFailure("tls", "the engine closed the connection in the TLS handshake") from None
            raise
        return protocol

    def _connection(self) -> Any:
        """A protocol, although it does not inherit from `asyncio.Protocol`: a compiled class cannot."""
        return Connection(self, self._loop)

    def post(self, connection: Connection) -> None:
        """It has something to send. What one turn of the loop brings leaves together at its end: each write wakes the engine's
        side, and a wake-up per request costs a fifth of what the whole request does."""
        if not self._posted:
            self._loop.call_soon(self._transmit)
        self._posted.append(connection)

    def _transmit(self) -> None:
        posted, self._posted = self._posted, []
        for connection in posted:
            connection.transmit()

    def give_back(self, connection: Connection) -> None:
        if self._closed or len(self._idle) >= IDLE_MOST:
            connection.abort()
            return
        connection.idle_since = self._loop.time()
        self._idle.append(connection)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self._idle_time, self._sweep)

    def forget(self, connection: Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)

    def close(self) -> None:
        """No more use for this endpoint: idle connections close now, busy ones when their answer ends."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        self._drop_all()

    def _sweep(self) -> None:
        self._sweeper = None
        oldest = self._loop.time() - self._idle_time
        for connection in [c for c in self._idle if c.idle_since <= oldest]:
            self._idle.remove(connection)
            connection.abort()
        if self._idle:
            self._sweeper = self._loop.call_later(self._idle_time, self._sweep)

    def _drop_all(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.abort()

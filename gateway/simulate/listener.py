"""A listening socket that can fall silent and come back on the same port, dropping its connections."""

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.simulate.settings import Settings

BACKLOG = 4096
LARGEST_BODY = 1 << 30
Serve = Callable[[web.Request, frozenset[str]], Awaitable[web.StreamResponse]]


def server_tls(settings: Settings) -> ssl.SSLContext | None:
    """TLS of a listener; mutual with a client CA. MindIE speaks 1.3 only. Errors: OSError, ssl.SSLError."""
    if not settings.tls_cert:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(settings.tls_cert, settings.tls_key or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if settings.kind == "mindie" else ssl.TLSVersion.TLSv1_2
    if settings.tls_client_ca:
        context.load_verify_locations(settings.tls_client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def ports(settings: Settings, planes: Sequence[str]) -> list[tuple[int, frozenset[str]]]:
    """Which planes answer on which port (0: any free one). Those without a port of their own share the business port."""
    own = {"management": settings.management_port, "metrics": settings.metrics_port}
    found: dict[int, set[str]] = {}
    free: list[tuple[int, frozenset[str]]] = []
    for plane in planes:
        port = own.get(plane)
        if port == 0:
            free.append((0, frozenset({plane})))
        else:
            found.setdefault(settings.port if port is None else port, set()).add(plane)
    return [*((port, frozenset(names)) for port, names in found.items()), *free]


class CannotListen(OSError):
    """Its text says where, and why."""


def _why(error: OSError | UnicodeError) -> str:
    if isinstance(error, UnicodeError | socket.gaierror):
        return "no address of this name is known"
    known = {
        errno.EADDRINUSE: "something listens there already; --port names another one, 0 any free one",
        errno.EACCES: "ports below 1024 are not for you; --port names another one",
        errno.EADDRNOTAVAIL: "this machine has no such address",
    }
    return known.get(error.errno or 0, error.strerror or str(error))


class Listener:
    """One port and the planes that answer on it."""

    def __init__(self, settings: Settings, port: int, planes: frozenset[str], serve: Serve) -> None:
        self.planes = planes
        self.port = port
        self._host, self._serve, self._tls = settings.host, serve, server_tls(settings)
        self._reserved: socket.socket | None = None
        self._server: asyncio.Server | None = None
        app = web.Application(client_max_size=LARGEST_BODY)
        app.router.add_route("*", "/{path:.*}", self._handler())
        app.on_response_prepare.append(_no_foreign_server_header)
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, keepalive_timeout=settings.keepalive, shutdown_timeout=1.0
        )

    @property
    def listening(self) -> bool:
        return self._server is not None

    async def open(self) -> None:
        """Take the port, and keep it even while nobody listens. Errors: CannotListen, OSError."""
        try:
            self._reserved = self._bound()
        except (OSError, UnicodeError) as error:
            raise CannotListen(f"cannot listen on {self._host}, port {self.port}: {_why(error)}") from error
        self.port = self._reserved.getsockname()[1]
        await self._runner.setup()
        await self.up()

    async def up(self) -> None:
        if self._server is None and self._runner.server is not None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(self._runner.server, sock=self._bound(), ssl=self._tls, backlog=BACKLOG)

    async def down(self) -> None:
        """Stop listening and drop every connection."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for connection in self._runner.server.connections if self._runner.server else ():
            if connection.transport is not None:
                connection.transport.abort()
        if server is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await server.wait_closed()

    async def close(self) -> None:
        await self.down()
        await self._runner.cleanup()
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None

    def _bound(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        plug = socket.socket(family, socket.SOCK_STREAM)
        try:
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            plug.setblocking(False)
            plug.bind((self._host, self.port))
        except OSError:
            plug.close()
            raise
        return plug

    def _handler(self) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            return await self._serve(request, self.planes)

        return handle


async def _no_foreign_server_header(request: web.Request, response: web.StreamResponse) -> None:
    """Engines name themselves or nobody; never our HTTP library."""
    if "aiohttp" in response.headers.get("Server", ""):
        del response.headers["Server"]

"""Asks an endpoint with GETs: no redirects, no proxies from the environment, no big answers, little patience. Judges nothing."""

import socket
import ssl
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import msgspec
import yarl
from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.config import x509
from gateway.config.resolved import Endpoint
from gateway.discover.trouble import Trouble, explain
from gateway.engine.detect import Answer

CONNECT: Final = 2.0
"""Seconds for a connection, TLS included."""
LARGEST: Final = 1 << 20
"""Bytes of an answer that are read."""


class Handshake(msgspec.Struct, frozen=True, kw_only=True):
    """What a TLS handshake showed. not_after: RFC 3339; verified: the certificate was checked against a CA and the name."""

    version: str
    cipher: str
    subject: str = ""
    issuer: str = ""
    not_after: str = ""
    days_left: int | None = None
    verified: bool = False


class Asker:
    """A conversation with one address. `connected` and `handshake` tell how far it came."""

    def __init__(
        self,
        endpoint: Endpoint,
        context: ssl.SSLContext | None,
        *,
        server_name: str | None = None,
        headers: Mapping[str, str] | None = None,
        total: float = 5.0,
    ) -> None:
        """context: for https. total: seconds for one question with its answer."""
        self.handshake: Handshake | None = None
        self.connected = False
        self._endpoint, self._context, self._server_name, self._total = endpoint, context, server_name, total
        self._names = _Names()
        self._session = aiohttp.ClientSession(
            connector=_Connector(self, self._names),
            headers={"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "gateway", **(headers or {})},
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=total, connect=min(CONNECT, total)),
            auto_decompress=False,
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._session.close()
        await self._names.close()

    async def get(self, path: str) -> Answer | Trouble:
        """Status, headers in lower case, body. Errors: none; what goes wrong is the answer."""
        at = self._endpoint
        secure = at.scheme == "https"
        try:
            bare = at.host.strip("[]")
            host = f"[{bare}]" if ":" in bare else bare
            url = yarl.URL(f"{at.scheme}://{host}:{at.port}{at.base.rstrip('/')}{path}", encoded=True)
            options: dict[str, Any] = {"ssl": self._context, "server_hostname": self._server_name} if secure and self._context else {}
            async with self._session.get(url, allow_redirects=False, **options) as response:
                self.connected = True
                body = await _body(response)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            limit = self._total if self.connected else min(CONNECT, self._total)
            return explain(error, f"{at.host}:{at.port}", connected=self.connected, secure=secure, limit=limit)
        if body is None:
            return Trouble("large", f"the answer to {path} is larger than {LARGEST >> 20} MiB")
        return response.status, {name.lower(): value for name, value in response.headers.items()}, body

    def established(self, transport: Any) -> None:
        """Called with each new or reused connection."""
        self.connected = True
        tls = transport.get_extra_info("ssl_object") if transport is not None else None
        if tls is not None:
            self.handshake = facts(tls)


class _Connector(aiohttp.TCPConnector):
    """Shows each connection to its asker: a response lets go of its connection before one can look at it."""

    def __init__(self, asker: Asker, names: "_Names") -> None:
        super().__init__(limit=1, resolver=names, ttl_dns_cache=0, use_dns_cache=False)
        self._asker = asker

    async def connect(self, *arguments: Any, **named: Any) -> Any:
        connection = await super().connect(*arguments, **named)
        self._asker.established(connection.transport)
        return connection


class _Names(AbstractResolver):
    """aiohttp's resolver, made with the first name that is looked up: most endpoints are addresses, and making one costs more CPU
    than a question. One for all askers would keep what the network says no more."""

    def __init__(self) -> None:
        self._resolver: AbstractResolver | None = None

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        """Raises OSError."""
        self._resolver = self._resolver or aiohttp.DefaultResolver()
        return await self._resolver.resolve(host, port, family)

    async def close(self) -> None:
        resolver, self._resolver = self._resolver, None
        if resolver is not None:
            await resolver.close()


async def _body(response: aiohttp.ClientResponse) -> bytes | None:
    """None: it is larger than LARGEST."""
    pieces, size = [], 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > LARGEST:
            return None
        pieces.append(piece)
    return b"".join(pieces)


def facts(tls: ssl.SSLObject | ssl.SSLSocket) -> Handshake:
    """What is to be known of a finished handshake. Errors: none; what cannot be read is left out."""
    cipher = tls.cipher()
    version, name = tls.version() or "", cipher[0] if cipher else ""
    verified = tls.context.verify_mode is not ssl.CERT_NONE
    der = tls.getpeercert(binary_form=True)
    try:
        found = x509.read(der or b"")
    except ValueError:
        return Handshake(version=version, cipher=name, verified=verified)
    return Handshake(
        version=version,
        cipher=name,
        subject=found.subject,
        issuer=found.issuer,
        not_after=found.not_after.strftime("%Y-%m-%dT%H:%M:%SZ"),
        days_left=int((found.not_after.timestamp() - time.time()) // 86400),
        verified=verified,
    )

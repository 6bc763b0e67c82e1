"""Asks one endpoint who it is, what it serves and how its TLS stands. Only harmless GETs from engine/detect's list; never a
health path (SGLang's generates a token), never anything that a caller sent.
"""

import asyncio
import contextlib
import ssl
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from gateway.config.fields import url_of
from gateway.config.resolved import Endpoint, Tls
from gateway.config.tls import client_context
from gateway.discover.ask import CONNECT, Asker, Handshake, facts
from gateway.discover.finding import NO_LIST, ModelSeen, Probe, unusable
from gateway.discover.inquire import Seen, inquire
from gateway.discover.trouble import Trouble, explain
from gateway.engine.detect import QUESTIONS, detect, enough
from gateway.engine.family import DIALECTS

TOTAL: Final = 5.0
"""Seconds for one question."""
UNTRUSTED: Final = "the engine's certificate is not trusted here: set tls.ca, or nobody can tell who answers"


async def probe(
    endpoint: Endpoint,
    *,
    engine: str | None = None,
    credential: str | None = None,
    tls: Tls | None = None,
    planes: Mapping[str, str] | None = None,
    plane_tls: Mapping[str, Tls] | None = None,
    headers: Mapping[str, str] | None = None,
    total: float = TOTAL,
) -> Probe:
    """engine: the family that is configured, None = find out. total: seconds for one question. Errors: none, see `Probe.error`."""
    began = time.monotonic()
    found = Probe(url=endpoint.url)
    lines = dict(headers or {})
    if credential:
        lines["Authorization"] = f"Bearer {credential}"
    try:
        secure = await context_of(endpoint, tls)
        async with Asker(endpoint, secure, server_name=tls.server_name if tls else None, headers=lines, total=total) as asker:
            async with _management(planes or {}, plane_tls or {}, total) as other:
                await inquire(found, {"business": asker, **other}, engine)
            found.tls = asker.handshake
    except (OSError, ValueError) as error:  # a file of `tls`, or an address that is none
        found.error = f"{getattr(error, 'filename', None) or 'tls'}: {getattr(error, 'strerror', None) or error}"
    if endpoint.scheme == "https":
        await _look_closer(found, endpoint, tls)
    found.ms = round((time.monotonic() - began) * 1000, 1)
    if found.reachable and found.engine:
        found.would = _channel(found, tls, planes or {})
    return found


async def peek(
    endpoint: Endpoint, engine: str, *, credential: str | None, tls: Tls | None, headers: Mapping[str, str], total: float
) -> Probe:
    """The cheap form of `probe`: the model list and nothing else. engine: whose list it is. Errors: none, see `Probe.error`."""
    began = time.monotonic()
    found = Probe(url=endpoint.url)
    lines = {**headers, "Authorization": f"Bearer {credential}"} if credential else headers
    try:
        secure = await context_of(endpoint, tls)
        async with Asker(endpoint, secure, server_name=tls.server_name if tls else None, headers=lines, total=total) as asker:
            answer = await asker.get(DIALECTS[engine].planes.models)
            found.tls = asker.handshake
    except (OSError, ValueError) as error:
        answer = Trouble("tls", str(error))
    if isinstance(answer, Trouble):
        found.error, found.trouble = answer.text, answer.kind
    else:
        seen: Seen = {QUESTIONS[0].name: answer}
        found.reachable, found.status = True, answer[0]
        found.engine = detect(seen).engine if enough(seen) else None
        if answer[0] != 200:
            found.error = unusable(answer[0], answer[1])
        else:
            try:
                listed = DIALECTS[engine].models(answer[2])
                found.models = [ModelSeen(id=model.id, context_length=model.context_length) for model in listed]
            except ValueError:
                found.error = NO_LIST
    found.ms = round((time.monotonic() - began) * 1000, 1)
    return found


async def probe_url(url: str) -> Probe:
    """An address that nobody has configured yet. Nothing secret is sent, so that an untrusted certificate is only reported."""
    try:
        scheme, host, port, base = url_of(url if "://" in url else f"http://{url}")
    except ValueError as error:
        return Probe(url=url, error=f"this is no engine's URL: it {error}")
    name = f"[{host}]" if ":" in host else host
    endpoint = Endpoint(url=f"{scheme}://{name}:{port}{base}", scheme=scheme, host=host, port=port, base=base)
    found = await probe(endpoint)
    if not found.reachable and found.tls is not None and not found.tls.verified and scheme == "https":
        unverified = await probe(endpoint, tls=Tls(verify=False))
        if unverified.reachable or unverified.error != found.error:
            unverified.evidence.insert(0, found.error or UNTRUSTED)
            found = unverified
    return found


async def context_of(endpoint: Endpoint, tls: Tls | None) -> ssl.SSLContext | None:
    """None without https. Reading the system's CAs takes a while: contexts are kept, but not those of files that nobody watches."""
    if endpoint.scheme != "https":
        return None
    tls = tls or Tls()
    named = tls.ca or tls.cert or tls.key
    return await asyncio.to_thread(client_context if named and not tls.digest else _kept_context, tls)


_kept_context = lru_cache(maxsize=256)(client_context)


@contextlib.asynccontextmanager
async def _management(planes: Mapping[str, str], tls: Mapping[str, Tls], total: float) -> Any:
    """The management plane's asker under its name, if it has an address. The business plane's credential is not sent there."""
    url = planes.get("management")
    if not url:
        yield {}
        return
    scheme, host, port, base = url_of(url)
    endpoint = Endpoint(url=url, scheme=scheme, host=host, port=port, base=base)
    own = tls.get("management")
    try:
        context = await context_of(endpoint, own)
    except (OSError, ValueError):  # a bad file of this plane is no reason to know nothing of the other
        yield {}
        return
    async with Asker(endpoint, context, server_name=own.server_name if own else None, total=total) as asker:
        yield {"management": asker}


async def _look_closer(found: Probe, endpoint: Endpoint, tls: Tls | None) -> None:
    """When TLS failed: the certificate of a server that we do not trust, the reason of one that does not trust us."""
    name = tls.server_name if tls else None
    if found.trouble == "closed" and (context := await context_of(endpoint, tls)):
        found.tls, alert = await _glance(endpoint, context, name, alert=True)
        if alert is not None and alert.kind == "tls":
            found.error, found.trouble = alert.text, alert.kind
            found.evidence.append(f"TLS handshake: {alert.text}")
    elif found.tls is None and found.trouble in ("certificate", "tls"):
        found.tls, _ = await _glance(endpoint, client_context(Tls(verify=False)), name)


async def _glance(
    endpoint: Endpoint, context: ssl.SSLContext, server_name: str | None, *, alert: bool = False
) -> tuple[Handshake | None, Trouble | None]:
    """A handshake, and not a byte more: the server's certificate, and (alert) what it says to ours.

    Behind a request the alert may be lost, because a server that closes with unread bytes resets the connection (TLS 1.3).
    """
    seen, where = None, f"{endpoint.host}:{endpoint.port}"
    try:
        async with asyncio.timeout(CONNECT):
            name = server_name or endpoint.host
            reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port, ssl=context, server_hostname=name)
            try:
                seen = facts(writer.get_extra_info("ssl_object"))
                if alert:
                    await reader.read(1)
            finally:
                writer.transport.abort()
    except (OSError, ValueError) as error:
        return seen, explain(error, where, connected=seen is not None, secure=True, limit=CONNECT)
    return seen, None


def _channel(found: Probe, tls: Tls | None, planes: Mapping[str, str]) -> dict[str, Any]:
    """The channel that a sysadmin would write for it; never a credential."""
    channel: dict[str, Any] = {"engine": found.engine, "endpoints": [found.url]}
    if len(found.models) == 1:
        channel["model"] = found.models[0].id
    shown = {name: getattr(tls, name) for name in ("ca", "cert", "key", "verify", "server_name") if tls is not None}
    options = {name: value for name, value in shown.items() if value is not None and value is not True}
    if options:
        channel["tls"] = options
    if planes:
        channel["planes"] = dict(planes)
    return channel

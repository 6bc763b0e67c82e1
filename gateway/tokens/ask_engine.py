"""`tokenizer: engine`: asks an engine how long a prompt is, at its tokenise endpoint. Little patience; no answer is an answer."""

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any, Final

import aiohttp
import yarl
from msgspec import Raw

from gateway.config.resolved import Endpoint
from gateway.engine.base import Dialect, Fields
from gateway.errors import Refusal
from gateway.route.ask import Ask
from gateway.tokens.bounds import overhead
from gateway.wire.openai import encode, value_of

PATIENCE: Final = 2.0
"""Seconds for the whole question."""
LARGEST: Final = 32 << 20
"""Bytes of an answer that are read. An engine sends each token's number, about seven bytes."""
_READS_MESSAGES: Final = frozenset({"vllm"})
"""Engines that put messages into their template themselves. Others are asked for the texts alone; the template is added here."""


async def ask_engine(
    session: aiohttp.ClientSession,
    endpoint: Endpoint,
    dialect: Dialect,
    headers: Mapping[str, str],
    model: str,
    ask: Ask,
    *,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
    patience: float = PATIENCE,
) -> int | None:
    """Tokens of the prompt by the engine's own count; None = it cannot say, or not in `patience` seconds.

    headers: the channel's, its credentials among them. model: the engine's name for it. tls, server_name: of an https endpoint.
    """
    path = dialect.paths.get("tokenize")
    if path is None:
        return None
    fields, added = _question(ask, model, dialect.name)
    try:
        dialect.request("tokenize", fields)
        async with asyncio.timeout(patience):
            body = await _post(session, _url(endpoint, path), headers, encode(fields), tls, server_name)
        if body is None:
            return None
        count = value_of(dialect.answer("tokenize", body, "")["count"])
    except (Refusal, aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError):
        return None
    return count + added if type(count) is int and count >= 0 else None


def _question(ask: Ask, model: str, engine: str) -> tuple[Fields, int]:
    """The request in vLLM's form, and the tokens that its answer leaves out. Images are never sent: an engine would fetch them."""
    fields: dict[str, Any] = {"model": Raw(encode(model))}
    if engine in _READS_MESSAGES and ask.messages and not ask.has_images():
        fields["messages"] = ask.fields["messages"]
        if "tools" in ask.fields:
            fields["tools"] = ask.fields["tools"]
        return fields, 0
    texts = list(ask.texts)
    if "tools" in ask.fields:
        texts.append(bytes(ask.fields["tools"]).decode(errors="replace"))
    fields["prompt"] = Raw(encode("\n".join(texts)))
    return fields, overhead(ask)


def _url(endpoint: Endpoint, path: str) -> yarl.URL:
    bare = endpoint.host.strip("[]")
    host = f"[{bare}]" if ":" in bare else bare
    return yarl.URL(f"{endpoint.scheme}://{host}:{endpoint.port}{endpoint.base.rstrip('/')}{path}", encoded=True)


async def _post(
    session: aiohttp.ClientSession, url: yarl.URL, headers: Mapping[str, str], body: bytes, tls: ssl.SSLContext | None, name: str | None
) -> bytes | None:
    """None = it refused, or its answer is too large. Errors: aiohttp's, OSError."""
    options: dict[str, Any] = {"ssl": tls, "server_hostname": name} if url.scheme == "https" and tls else {}
    sent = {**headers, "Content-Type": "application/json"}
    async with session.post(url, data=body, headers=sent, allow_redirects=False, **options) as response:
        if response.status != 200:
            return None
        found = bytearray()
        async for piece in response.content.iter_any():
            found += piece
            if len(found) > LARGEST:
                return None
    return bytes(found)

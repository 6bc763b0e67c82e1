"""Which service is asked for: health, the OpenAI surface, or nothing of ours. An allow-list: what is not named here is 404."""

import re
import time
from typing import Any, Final
from urllib.parse import unquote

import msgspec
from aiohttp import HttpVersion11
from aiohttp.http_parser import RawRequestMessage
from multidict import CIMultiDictProxy
from yarl import URL

from gateway.accept.request import Head
from gateway.errors import Refusal
from gateway.exchange import Exchange
from gateway.wire.answers import cors_lines
from gateway.wire.outlet import Outlet
from gateway.words import APIS, End

STARTED = int(time.time())


def no_message(known: CIMultiDictProxy[str]) -> Head:
    """Stands for a request that could not be parsed. known: of its headers what could be read all the same."""
    return RawRequestMessage("", "", HttpVersion11, known, (), True, None, False, False, URL())


_HEADER_NAMES = re.compile(r"[A-Za-z0-9-]+(?:, ?[A-Za-z0-9-]+){0,50}")
"""SDKs send headers of their own (x-stainless-…); a page whose origin is allowed may send any."""


_SERVED: Final = (*APIS, "/v1/models")
_WORDS_MOST: Final = 8
"""Words of an unknown path that are looked at for what was meant."""


def _path(target: str) -> str:
    """The path of a request's target. The absolute form, `http://host/path`, must be understood as well (RFC 9112 §3.2.2)."""
    path = target.partition("?")[0]
    if not path.startswith("/") and path[:8].lower().startswith(("http://", "https://")):
        path = "/" + path.partition("://")[2].partition("/")[2]
    return path


def is_health(target: str) -> bool:
    return target.startswith(("/healthz", "/readyz", "http")) and _path(target) in ("/healthz", "/readyz")


def answer_health(outlet: Outlet, message: Head, draining: bool, configured: bool) -> None:
    """/healthz: this worker runs. /readyz: it also has a configuration and is not draining. Neither asks for a key nor is recorded."""
    if not is_health(message.path):
        outlet.write(outlet.refused(Refusal(503, "starting", "The gateway is starting.", retry_after=1.0)))
    elif message.method not in ("GET", "HEAD"):
        outlet.write(outlet.refused(Refusal(405, "method_not_allowed", "Use GET.", headers={"Allow": "GET, HEAD"})))
    elif _path(message.path) == "/readyz" and (draining or not configured):
        outlet.answer(503, b"", b'{"status":"draining"}' if draining else b'{"status":"starting"}')
    else:
        outlet.answer(200, b"", b'{"status":"ok"}')


def shutting_down() -> Refusal:
    """For connections opened after the drain began."""
    return Refusal(503, "shutting_down", "The gateway is shutting down.", retry_after=1.0, close=True, phase="A")


def unrecorded() -> Refusal:
    """While the disk refuses records and `journal.on_failure` is `refuse`."""
    return Refusal(503, "journal_unavailable", "The gateway cannot record requests at the moment.", retry_after=1.0, phase="A")


def is_preflight(x: Exchange) -> bool:
    return x.method == "OPTIONS" and bool(x.snapshot.cors)


def answer_preflight(x: Exchange, outlet: Outlet) -> None:
    """A browser asks whether its page may call. Only allowed origins get a yes."""
    http = x.snapshot.http
    lines = cors_lines(x)
    if lines.startswith(b"Access-Control-Allow-Origin"):
        wished = x.headers.get("Access-Control-Request-Headers", "")
        allowed = wished if _HEADER_NAMES.fullmatch(wished) else "authorization, content-type, x-request-id"
        lines += b"Access-Control-Allow-Methods: GET, POST\r\nAccess-Control-Allow-Headers: %b\r\n" % allowed.encode()
        lines += b"Access-Control-Max-Age: %d\r\n" % http.cors.max_age
    x.status, x.end = 204, End.NORMAL
    outlet.answer(204, lines, b"")


def api_of(x: Exchange) -> str:
    """The API that a path and method mean. Refuses with 404 or 405 in OpenAI's envelope."""
    path = x.path
    api = APIS.get(path)
    if api is None:
        path = _path(path)
        api = APIS.get(path)
    if api is not None:
        if x.method != "POST":
            raise _wrong_method(path, "POST")
        return api
    if path == "/v1/models" or path.startswith("/v1/models/"):
        if x.method not in ("GET", "HEAD"):
            raise _wrong_method(path, "GET, HEAD")
        return "models"
    raise Refusal(404, "unknown_url", f"Unknown request URL: {x.method} {_shown(path)}.{_advice(path)}")


def _advice(path: str) -> str:
    """What the caller of an unknown path most likely has to change. Many libraries ask for the Responses API unless told otherwise."""
    words = [word for word in path.split("/") if word][-_WORDS_MOST:]
    if "responses" in words:
        return " The Responses API is not served here: let your library use the Chat Completions API (/v1/chat/completions)."
    for end in range(len(words), 0, -1):  # an API's own address as the base URL has words behind it
        for start in range(end):
            meant = "/" + "/".join(words[start:end])
            if meant in _SERVED:
                return f" Did you mean {meant}?"
            if "/v1" + meant in _SERVED:
                return f" Did you mean /v1{meant}? The base URL ends with /v1."
    return f" This gateway serves {', '.join(_SERVED)}."


def _wrong_method(path: str, allowed: str) -> Refusal:
    return Refusal(405, "method_not_allowed", f"Not allowed on {path}: use {allowed}.", headers={"Allow": allowed})


def _shown(path: str) -> str:
    return "".join(c if c.isprintable() and ord(c) < 128 else "?" for c in path[:200])


def models(x: Exchange) -> bytes:
    """`/v1/models` and `/v1/models/{id}`: the virtual models that the key may use."""
    snapshot = x.snapshot
    wanted = _path(x.path).removeprefix("/v1/models").removeprefix("/")
    if wanted:
        name = unquote(wanted)
        model = snapshot.model(x.permit, name, x.ts)
        return msgspec.json.encode(_entry(model.name if model.name in snapshot.usable(x) else name, model))
    usable = snapshot.usable(x)
    names = [name for model in snapshot.models.values() for name in _names_of(model, usable)]
    return msgspec.json.encode({"object": "list", "data": [_entry(name, snapshot.names[name]) for name in names]})


def _names_of(model: Any, usable: frozenset[str]) -> list[str]:
    """The names under which a key may use a model: its own, or of a key that is bound to aliases these."""
    if model.name in usable:
        return [model.name]
    return [alias for alias in model.config.aliases if alias in usable]


def _entry(name: str, model: Any) -> dict[str, Any]:
    entry = {"id": name, "object": "model", "created": STARTED, "owned_by": "gateway"}
    length = model.route.most_length()
    return {**entry, "context_length": length} if length else entry

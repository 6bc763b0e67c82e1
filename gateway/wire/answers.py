"""The bytes of our answers: status lines, header blocks, error envelopes. Pure."""

import re
from collections.abc import Mapping
from typing import Final

from gateway.errors import Refusal
from gateway.exchange import Exchange
from gateway.wire.openai import error_body

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"
DONE: Final = b"data: [DONE]\n\n"
KEEP_ALIVE: Final = b": keep-alive\n\n"

TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    408: "timeout_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    431: "invalid_request_error",
}
"""OpenAI's `type` by status; anything else is `server_error`."""


def type_of(status: int) -> str:
    """OpenAI's error `type` for a status."""
    return TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")


PHRASES: Final = {
    200: "OK", 204: "No Content", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 413: "Content Too Large", 415: "Unsupported Media Type", 422: "Unprocessable Content",
    429: "Too Many Requests", 431: "Request Header Fields Too Large", 500: "Internal Server Error", 502: "Bad Gateway",
    503: "Service Unavailable", 504: "Gateway Timeout",
}  # fmt: skip

_STATUS_LINES: Final = {status: f"HTTP/1.1 {status} {phrase}\r\n".encode() for status, phrase in PHRASES.items()}


def status_line(status: int) -> bytes:
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d Unknown\r\n" % status


def header_block(headers: Mapping[str, str]) -> bytes:
    """Complete header lines. Values are ours or checked before; control characters would be a fault of ours."""
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1", "replace")


def whole_answer(status: int, date: bytes, headers: bytes, body: bytes, close: bool, head_only: bool) -> bytes:
    """A complete answer: JSON, or nothing at all with 204. date: the header line."""
    ending = b"Connection: close\r\n" if close else b""
    if status == 204:
        return b"%b%b%b%b\r\n" % (status_line(status), date, headers, ending)
    return b"%b%bContent-Type: application/json\r\n%b%bContent-Length: %d\r\n\r\n%b" % (
        _STATUS_LINES.get(status) or status_line(status), date, headers, ending, len(body), b"" if head_only else body,
    )  # fmt: skip


def stream_head(date: bytes, headers: bytes, close: bool, chunked: bool) -> bytes:
    """The head of an event stream. date: the header line. Proxies on the way are told not to buffer it."""
    ending = b"Connection: close\r\n" if close else b""
    framing = b"Transfer-Encoding: chunked\r\n" if chunked else b""
    return (
        b"HTTP/1.1 200 OK\r\n%bContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\nX-Accel-Buffering: no\r\n"
        b"%b%b%b\r\n" % (date, headers, ending, framing)
    )


_SIZED: Final = 4096
_SIZES: Final = [b"%x\r\n" % size for size in range(_SIZED)]


def chunk(data: bytes) -> bytes:
    """One piece of a chunked body."""
    size = len(data)
    return b"%b%b\r\n" % (_SIZES[size] if size < _SIZED else b"%x\r\n" % size, data)


def own_words(message: str, x: Exchange) -> str:
    """An engine's message in the caller's words: the virtual model's name for the engine's own, and no address of an engine."""
    shown = x.virtual.name if x.virtual is not None else x.model
    for attempt in x.attempts:
        if attempt.model != shown:
            message = _word(attempt.model).sub(lambda _: shown, message)
        address = attempt.endpoint.partition("://")[2].partition("/")[0]
        for name in (address, address.rpartition(":")[0]):
            if name:
                message = _word(name).sub("engine", message)
    return message


def _word(name: str) -> re.Pattern[str]:
    """The name where it stands alone, not as a part of a longer one."""
    return re.compile(rf"(?<![\w.-]){re.escape(name)}(?!\w|[.-]\w)", re.I)


def error_answer(refusal: Refusal) -> tuple[bytes, bytes]:
    """Header lines and body of a refusal. Retry-After in whole seconds (rounded up), retry-after-ms exactly.
    With 401 the scheme that is asked for, as RFC 9110 (15.5.2) demands."""
    headers = dict(refusal.headers)
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(max(0, -int(-refusal.retry_after // 1)))
        headers["retry-after-ms"] = str(max(0, int(refusal.retry_after * 1000)))
    body = error_body(refusal.message, refusal.type or type_of(refusal.status), refusal.param, refusal.code)
    return header_block(headers), body


def identity(x: Exchange, channel: bool = True) -> bytes:
    """The headers that every answer of an exchange carries. channel: who served it is known by now."""
    lines = b"x-request-id: %b\r\n" % x.request_id.encode()
    if channel and x.channel:
        lines += b"x-gateway-channel: %b\r\nx-gateway-attempts: %d\r\n" % (x.channel.encode(), len(x.attempts))
    if x.lease is not None:
        lines += x.lease.lines()
    return lines + cors_lines(x) if x.snapshot.cors else lines


def cors_lines(x: Exchange) -> bytes:
    """The lines that let a page of the asking origin read our answer. For others only that it depends on the origin, for caches."""
    cors = x.snapshot.cors
    if not cors:
        return b""
    found: bytes = cors.get(x.headers.get("Origin", "")) or cors.get("*", b"Vary: Origin\r\n")
    return found

"""Reading what a caller sent: identity of the exchange, body within its limits, the JSON of an API call."""

import asyncio
import random
import re
import time
from collections.abc import Awaitable
from typing import Any, Final, Protocol

import msgspec
from aiohttp.http_exceptions import ContentLengthError, TransferEncodingError
from aiohttp.streams import StreamReader
from multidict import CIMultiDictProxy

from gateway.accept.caller import Caller
from gateway.accept.familiar import READ, Whole
from gateway.accept.objections import not_unpacked
from gateway.errors import Refusal, forget_frames
from gateway.exchange import Exchange
from gateway.record import NOTHING_SPECIAL, Facts
from gateway.wire.openai import LARGE, MalformedJson, number_of, parse_request, stream_options
from gateway.words import STREAMING_APIS

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TRACE: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""A `traceparent` (W3C); one of zeros only is none."""
_random: Final = random.Random()  # ids must be unique, not secret


LEAST: Final = 4096
"""Bytes of a body that must come in each `http.body_timeout`, so that nobody dribbles one for ever."""

UNPACKED: Final = frozenset({"gzip", "deflate", "identity", ""})
"""What the parser unpacks. Anything else that it lets pass would be read as it lies."""


def whole_body(payload: StreamReader) -> bytes:
    """A body that has arrived whole. Taken as it lies: reading it properly costs two microseconds of flow control."""
    try:
        pieces = payload._buffer
    except AttributeError:  # aiohttp's own object for no body at all
        return b""
    if len(pieces) == 1 and not payload._buffer_offset:
        return pieces[0]
    return payload.read_nowait() if pieces else b""


class Memory:
    """The bytes of request bodies that this worker holds now, against its share of `http.body_memory`."""

    def __init__(self) -> None:
        self.used = 0
        self._turn = asyncio.Lock()

    async def turn(self) -> None:
        """Large bodies that end at the same time are parsed one after another, and in between the loop does what else it has to."""
        async with self._turn:
            await asyncio.sleep(0)


class Ids:
    """Time-ordered UUIDs (RFC 9562 §5.7), with 72 random bits of their 74."""

    __slots__ = ("_at", "_luck", "_millis", "_prefix")

    def __init__(self) -> None:
        self._millis = 0
        self._prefix = ""  # what ids of this millisecond begin with
        self._luck = ""
        self._at = 0

    def new(self, ts: float) -> str:
        """ts: Unix seconds."""
        millis = int(ts * 1000)
        if millis != self._millis:
            time_part = f"{millis & 0xFFFF_FFFF_FFFF:012x}"
            self._millis, self._prefix = millis, f"{time_part[:8]}-{time_part[8:]}-7"
        if self._at == len(self._luck):
            self._luck, self._at = _random.randbytes(9 * 512).hex(), 0
        at, luck = self._at, self._luck
        self._at = at + 18
        return f"{self._prefix}{luck[at : at + 3]}-a{luck[at + 3 : at + 6]}-{luck[at + 6 : at + 18]}"


_ids: Final = Ids()


class Head(Protocol):
    """A request's head, as aiohttp's parser gives it: in C a class, in Python a tuple."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def headers(self) -> CIMultiDictProxy[str]: ...


def accept(caller: Caller, message: Head, snapshot: Any) -> Exchange:
    """A new exchange, under the snapshot that will serve it to its end."""
    ts = time.time()
    id = _ids.new(ts)
    headers = message.headers
    wished = headers.get("x-request-id")
    request_id = wished if wished and _REQUEST_ID.fullmatch(wished) else id
    ip = caller.ip
    if snapshot.proxies is not None:
        ip = snapshot.proxies.caller(ip, headers.getall("x-forwarded-for", ()))
    x = Exchange(id, request_id, snapshot, message.method, message.path, headers, ip, time.monotonic(), ts)
    trace = headers.get("traceparent")
    if trace and (found := _TRACE.fullmatch(trace)):
        x.traceparent = trace
        x.trace = found[1]
    if wished and request_id is wished:  # this one comes back to the caller, who says it when asking for the record
        x.trace = wished
    return x


def read_body(x: Exchange, caller: Caller, memory: Memory) -> Awaitable[None] | None:
    """The whole body into `x.body`: now, when all of it is here, else when what is returned has been awaited. Refuses with 413 (before
    reading when Content-Length says so), 415, 408, 400 or 503.

    `Expect: 100-continue` is answered only here, when the key and the announced size were accepted. What is read counts
    in `memory` until no engine can be asked any more: failing over needs the body again.
    """
    http = x.snapshot.http
    payload = caller.payload
    x.memory = memory
    if isinstance(payload, Whole):
        body = payload.data
        if len(body) > http.body:
            raise _too_large(http.body)
    else:
        _check_framing(x.headers, http.body)
        if not payload.is_eof():
            if "Expect" in x.headers:
                _answer_expectation(x.headers["Expect"], caller, payload)
            return _collect(x, caller, payload, memory)
        body = whole_body(payload)
    caller.payload = READ
    x.body = body
    x.held = x.body_bytes = len(body)
    memory.used += x.held
    if len(body) > http.body:
        raise _too_large(http.body)
    if memory.used > x.snapshot.body_share:
        raise _no_room()
    x.read = time.monotonic()
    return None


def _check_framing(headers: Any, most: int) -> None:
    """What the head says of the body: too much of it, or that it is packed as nobody here unpacks it. most: bytes of `http.body`."""
    announced = headers.get("Content-Length")
    if announced is not None:
        if int(announced) > most:
            raise _too_large(most)
    elif headers.get("Transfer-Encoding", "chunked").lower() != "chunked":
        raise Refusal(400, "bad_request", "The only Transfer-Encoding that is understood here is chunked.", close=True)
    if "Content-Encoding" in headers and headers["Content-Encoding"].lower() not in UNPACKED:
        raise not_unpacked()


def _answer_expectation(expected: str, caller: Caller, payload: StreamReader) -> None:
    if expected.lower() == "100-continue" and caller.outlet.modern and not payload.total_bytes:
        caller.outlet.send_continue()


async def _collect(x: Exchange, caller: Caller, payload: StreamReader, memory: Memory) -> None:
    """A body that comes in pieces. Counts it as it comes, so that what is read of a refused one is given back as well."""
    most, patience, share = x.snapshot.http.body, x.snapshot.http.body_timeout, x.snapshot.body_share
    pieces: list[bytes] = []
    seen = 0
    loop = asyncio.get_running_loop()
    deadline = asyncio.timeout(patience)
    try:
        async with deadline:
            while piece := await payload.readany():
                pieces.append(piece)
                x.body_bytes += len(piece)
                x.held += len(piece)
                memory.used += len(piece)
                if x.body_bytes > most:
                    raise _too_large(most)
                if memory.used > share:
                    memory.used -= x.held  # at once: whose pieces come in this same turn find the room, and are not refused as well
                    x.held = 0
                    raise _no_room()
                if x.body_bytes - seen >= LEAST:
                    seen = x.body_bytes
                    deadline.reschedule(loop.time() + patience)
    except TimeoutError:
        raise Refusal(408, "request_timeout", f"The request body stalled for {patience:g} s.", close=True) from None
    except (ContentLengthError, TransferEncodingError) as error:
        forget_frames(error)  # the body's reader keeps it
        raise Refusal(400, "bad_request", "The request body is not framed as its headers say.", close=True) from None
    except (Refusal, ConnectionError):
        raise
    except Exception as error:  # aiohttp's RequestPayloadError: a body that is no valid encoding
        forget_frames(error)  # the body's reader keeps it
        raise Refusal(400, "bad_request", "The request body cannot be decoded.", close=True) from None
    finally:
        # It knows this task, which keeps how it was cancelled, and so the pieces of who left while sending, until a collector comes.
        del deadline
    caller.payload = READ
    if x.body_bytes > LARGE:
        await memory.turn()
    x.body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    x.read = time.monotonic()


def _no_room() -> Refusal:
    return Refusal(503, "overloaded", "The gateway holds too many request bodies at the moment.", retry_after=1.0, close=True)


def _too_large(most: int) -> Refusal:
    return Refusal(413, "request_too_large", f"The request body is larger than this gateway accepts ({most} bytes).", close=True)


_model_of: Final = msgspec.json.Decoder(str)
_flag_of: Final = msgspec.json.Decoder(bool | None)


def read_call(x: Exchange) -> None:
    """The JSON of an API call, parsed one level deep: model, stream and stream_options are understood, the rest is carried."""
    try:
        fields = parse_request(x.body)
    except MalformedJson as error:
        raise not_read(error) from None
    x.fields = fields
    x.body = b""
    if "model" not in fields:
        raise Refusal(400, "missing_required_parameter", "You must provide a model parameter.", param="model")
    try:
        x.model = _model_of.decode(fields["model"])
    except msgspec.MsgspecError:
        raise Refusal(400, "invalid_type", "`model` must be a string.", param="model") from None
    if x.api in STREAMING_APIS and "stream" in fields:
        try:
            x.stream = bool(_flag_of.decode(fields["stream"]))
        except msgspec.MsgspecError:
            raise Refusal(400, "invalid_type", "`stream` must be true or false.", param="stream") from None
    if x.stream and "stream_options" in fields:
        try:
            x.wants_usage, x.wants_continuous = stream_options(fields["stream_options"])
        except msgspec.MsgspecError:
            raise Refusal(400, "invalid_type", "`stream_options` must be an object of flags.", param="stream_options") from None
    x.facts = facts(fields)


def not_read(error: ValueError) -> Refusal:
    """The body is no JSON object."""
    return Refusal(400, "invalid_json", f"The request body cannot be read: {error}", close=False)


WHOLE_MOST: Final = 999_999_999
"""More of anything that is asked for is taken as so much; engines refuse it, or have a most of their own."""


def facts(fields: dict[str, msgspec.Raw]) -> Facts:
    """What reports may want to know of the request; None when it asks for nothing special."""
    limit = fields.get("max_completion_tokens")
    if limit is None or bytes(limit) == b"null":
        limit = fields.get("max_tokens")
    tools = fields.get("tools")
    form = fields.get("response_format")
    many = fields.get("n")
    if limit is None and tools is None and form is None and many is None:
        return NOTHING_SPECIAL
    return Facts(
        max_tokens=_whole(limit) if limit is not None else 0,
        tools=1 if tools is not None and len(bytes(tools)) > 2 else 0,
        format="json" if form is not None else "",
        n=_whole(many) if many is not None else 0,
    )


def _whole(raw: msgspec.Raw) -> int:
    text = bytes(raw)
    if text.isdigit() and len(text) < 10:
        return int(text)
    number = number_of(raw)
    return int(min(number, WHOLE_MOST)) if number is not None and number > 0 else 0

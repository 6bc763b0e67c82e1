"""OpenAI's JSON: a request parsed one level deep, its stream options, an error. Never trusts what it reads."""

import codecs
import re
from functools import lru_cache
from typing import Any, Final, NoReturn

import msgspec
from msgspec import Raw

from gateway.wire.forms import Bulk, JsonText, StreamOptions

Fields = dict[str, Raw]
"""A JSON object parsed one level deep: each value is the JSON text as it came."""

_fields: Final = msgspec.json.Decoder(Fields)
_anything: Final = msgspec.json.Decoder()
_pieces: Final = msgspec.json.Decoder(list[msgspec.Raw])
_bulk: Final = msgspec.json.Decoder(Bulk)
_encoder: Final = msgspec.json.Encoder()
_BYTE: Final = re.compile(r"(.*?) ?\(byte (\d+)\)$")
_KIND: Final = re.compile(r"got `(\w+)`")
_ESCAPE: Final = re.compile(rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.S)
_STEP: Final = 1 << 16
LARGE: Final = 1 << 20
"""Bytes of a body that takes milliseconds to parse and to write anew."""
_FIELDS_MOST: Final = 100_000
"""Taking so many fields apart costs a tenth of a second; six million of them fit into a body, and would hold up a worker for eight."""
_BOM: Final = b"\xef\xbb\xbf"

encode: Final = _encoder.encode
"""Fields (or anything JSON) as bytes."""


@lru_cache(maxsize=4096)
def json_string(text: str) -> Raw:
    """A string as a field's value."""
    return Raw(_encoder.encode(text))


class MalformedJson(ValueError):
    """The bytes are no JSON object. line and column count from 1 (columns in characters), position in bytes from 0."""

    def __init__(self, body: bytes, position: int, what: str) -> None:
        before = body[:position]
        self.position = position
        self.line = before.count(b"\n") + 1
        self.column = len(before[before.rfind(b"\n") + 1 :].decode(errors="replace")) + 1
        self.what = what
        super().__init__(f"invalid JSON at line {self.line} column {self.column}: {what}")


def parse_object(body: bytes) -> Fields:
    """A JSON object, one level deep. A repeated name keeps its last value. Errors: MalformedJson.

    msgspec checks the syntax of what it leaves unparsed, but not its UTF-8; that is done here.
    """
    try:
        fields = _fields.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as why:
        _refuse(body, why)
    if not body.isascii():
        _check_utf8(body)
    return fields


def parse_request(body: bytes) -> Fields:
    """The same for what a caller sent, who may mean harm: nobody's request has 100,000 fields. Errors: MalformedJson."""
    if len(body) > LARGE and body.count(b":") > _FIELDS_MOST:
        _refuse_teeming(body)
    return parse_object(body)


def _refuse_teeming(body: bytes) -> None:
    """Each field has a colon; those inside of the fields that may be large are not counted. Errors: MalformedJson."""
    try:
        bulk = _bulk.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as why:
        _refuse(body, why)
    inside = sum(bytes(getattr(bulk, name)).count(b":") for name in Bulk.__struct_fields__)
    if body.count(b":") - inside > _FIELDS_MOST:
        raise MalformedJson(body, 0, "it has too many fields")


def value_of(raw: JsonText) -> Any:
    """A value as Python objects. Errors: MalformedJson (also for what is syntactically right but no text, as a lone surrogate)."""
    try:
        return _anything.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as why:
        _refuse(bytes(raw), why)


def number_of(raw: JsonText) -> int | float | None:
    """A number as vLLM and SGLang read one, which take its text for it: `50`, `50.0`, `"50"`. None = it is none."""
    try:
        value = value_of(raw)
        if isinstance(value, str):
            value = float(value)
    except ValueError:
        return None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def prompts_in(raw: JsonText) -> int:
    """How many prompts a completion has: each is answered. A list of numbers is one, in tokens."""
    text = bytes(raw).lstrip()
    if not text.startswith(b"["):
        return 1
    try:
        found = _pieces.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return 1
    return len(found) if found and bytes(found[0])[:1] in (b'"', b"[") else 1


def _refuse(body: bytes, why: Exception) -> NoReturn:
    if body.startswith(_BOM):
        raise MalformedJson(body, 0, "it starts with a byte order mark") from None
    if not body.strip():
        raise MalformedJson(body, 0, "it is empty") from None
    if isinstance(why, RecursionError):
        raise MalformedJson(body, 0, "it is nested too deeply") from None
    _check_utf8(body)
    if isinstance(why, UnicodeDecodeError):
        raise MalformedJson(body, 0, "a name is not UTF-8") from None
    text = str(why)
    if ("surrogate" in text or "truncated" in text or "hex escape" in text) and (alone := _lone_surrogate(body)) is not None:
        raise MalformedJson(body, alone, "half of a surrogate pair is no character") from None
    if kind := _KIND.search(text):
        start = len(body) - len(body.lstrip())
        raise MalformedJson(body, start, f"an object is expected, not {kind[1]}") from None
    if found := _BYTE.match(text):
        what = found[1].removeprefix("JSON is malformed: ")
        raise MalformedJson(body, int(found[2]) - (what == "trailing characters"), what) from None  # there it has read one on
    raise MalformedJson(body, len(body), "it ends too early" if "truncated" in text else text) from None


def _lone_surrogate(body: bytes) -> int | None:
    """Where an escape stands for half of a character (`\\ud83d`) without its other half; None: nowhere."""
    return next((found.start() for found in _ESCAPE.finditer(body) if found[1]), None)


def _check_utf8(body: bytes) -> None:
    """In steps, so that a large body never exists a second time as text. Errors: MalformedJson."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, max(len(body), 1), _STEP):
        held = len(decoder.getstate()[0])
        try:
            decoder.decode(body[start : start + _STEP], start + _STEP >= len(body))
        except UnicodeDecodeError as why:
            raise MalformedJson(body, start - held + why.start, "it is not UTF-8") from None


_options: Final = msgspec.json.Decoder(StreamOptions | None)


def stream_options(raw: Raw) -> tuple[bool, bool]:
    """Whether the caller wants the stream's usage, and with each event. Errors: msgspec.MsgspecError, for what is no object of flags."""
    options = _options.decode(raw)
    usage = options is not None and bool(options.include_usage)
    return usage, usage and bool(options.continuous_usage_stats)


def error_body(message: str, type: str, param: str | None, code: str | None) -> bytes:
    """OpenAI's error envelope: always its four fields."""
    return encode({"error": {"message": message, "type": type, "param": param, "code": code}})


def error_event(message: str, type: str, param: str | None, code: str | None) -> bytes:
    """The same as a server-sent event, for an answer that has begun. No `[DONE]` follows it."""
    return b"data: " + error_body(message, type, param, code) + b"\n\n"

"""One event of OpenAI's streams as Python objects: decoding it, its error, its reasoning field."""

import json
from typing import Any, Final

import msgspec

Json = dict[str, Any]

OUTPUT: Final = ("content", "reasoning_content", "reasoning", "tool_calls", "text", "refusal", "function_call", "audio")
"""Fields of a delta (or, for `text`, a choice) that hold generated output."""

_REASONING: Final = ("reasoning", "reasoning_content")
_decoder: Final = msgspec.json.Decoder()
_encoder: Final = msgspec.json.Encoder()


def decode(data: bytes) -> Any:
    """The value, or None for what is no JSON. Falls back to the standard library for what msgspec refuses (a lone surrogate, 1e999)."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return json.loads(data.decode())
    except (ValueError, RecursionError):
        return None


def encode(value: Json) -> bytes:
    """As JSON, whatever `decode` gave."""
    try:
        return _encoder.encode(value)
    except (UnicodeEncodeError, ValueError, OverflowError):
        return json.dumps(value, separators=(",", ":")).encode()


def error_in(value: object, name: bytes = b"") -> Json | None:
    """The event if it is an error: `{"error": …}`, a flat `{"object": "error"}`, FastAPI's `{"detail": …}`, or one named `error`."""
    if not isinstance(value, dict):
        return None
    if value.get("error"):
        return value
    if value.get("object") == "error" or name == b"error":
        return {"error": value}
    return {"error": {"message": value["detail"]}} if "detail" in value and "choices" not in value else None


def one_reasoning(delta: Json, name: str) -> None:
    """Leaves exactly one reasoning field, called `name`; the first with text wins. Works on deltas and messages."""
    found = [other for other in _REASONING if other in delta]
    if not found or found == [name]:
        return
    text = next((delta[other] for other in (name, *found) if delta.get(other)), None)
    for other in found:
        del delta[other]
    delta[name] = text

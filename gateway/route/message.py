"""Messages and tools of a request as decisions look at them. What callers get wrong in them is the engine's to refuse."""

from typing import Any, Final

import msgspec
from msgspec import Raw, Struct


class Message(Struct):
    """One message of a chat, as far as decisions look at it. What callers get wrong in it is the engine's to refuse."""

    role: str = ""
    content: Any = None


class _Named(Struct):
    name: str = ""


class _Tool(Struct):
    function: _Named | None = None
    name: str = ""


_messages: Final = msgspec.json.Decoder(list[Message])
_tools: Final = msgspec.json.Decoder(list[_Tool])
_anything: Final = msgspec.json.Decoder()


def messages_of(raw: Raw | None) -> list[Message]:
    """A chat's messages; empty when there are none, or none that can be read."""
    found: list[Message] = _decoded(_messages, raw)
    return found


def tool_names_of(raw: Raw | None) -> list[str]:
    """Names of the functions in `tools` or the older `functions`; empty when they cannot be read."""
    offered: list[_Tool] = _decoded(_tools, raw)
    return [tool.function.name if tool.function else tool.name for tool in offered]


def _decoded(decoder: Any, raw: Raw | None) -> Any:
    """Errors: none; what is not of the shape is as if it were not there."""
    try:
        return decoder.decode(raw) if raw is not None else []
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return []


def value_of(raw: Raw) -> Any:
    """A value as Python objects; None for what cannot be read."""
    try:
        return _anything.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None

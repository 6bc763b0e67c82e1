"""An engine's usage object: read with whatever is wrong in it, and as the token counts of a record."""

from typing import Final

import msgspec

from gateway.record import Tokens
from gateway.wire.forms import MOST, Event, JsonText, PlainUsage, Usage

_anything: Final = msgspec.json.Decoder()


_plain: Final = msgspec.json.Decoder(PlainUsage)


def _plain_usage(plain: PlainUsage) -> Usage:
    cached, reasoned = plain.prompt_tokens_details, plain.completion_tokens_details
    reasoning = reasoned.reasoning_tokens if reasoned is not None else None
    return Usage(
        plain.prompt_tokens,
        plain.completion_tokens,
        plain.total_tokens,
        cached.cached_tokens if cached is not None else None,
        plain.reasoning_tokens if reasoning is None else reasoning,
    )


def usage_of(raw: JsonText) -> Usage:
    """Reads a usage object. Errors: none; what is missing or is no count of tokens is None, an explicit 0 stays 0."""
    try:
        return _plain_usage(_plain.decode(raw))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass  # not the plain form, or no usage at all: read with more care
    try:
        usage = _anything.decode(raw) if raw else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Usage()
    if not isinstance(usage, dict):
        return Usage()
    prompt, completion = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    cached = _count(prompt, "cached_tokens")
    reasoning = _count(completion, "reasoning_tokens")
    return Usage(
        _count(usage, "prompt_tokens"),
        _count(usage, "completion_tokens"),
        _count(usage, "total_tokens"),
        cached,
        _count(usage, "reasoning_tokens") if reasoning is None else reasoning,  # SGLang has it at the top
    )


def _count(where: object, name: str) -> int | None:
    value = where.get(name) if isinstance(where, dict) else None
    return value if type(value) is int and 0 <= value <= MOST else None


_event: Final = msgspec.json.Decoder(Event)


def usage_in(event: bytes) -> bytes:
    """The usage object of a stream's event, as it stands there; empty when it has none, or is only to be read with forbearance (a lone
    surrogate). event: its JSON, known to be an object."""
    try:
        return bytes(_event.decode(event).usage)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return b""


def tokens_of(raw: JsonText) -> Tokens | None:
    """None when the engine said nothing that can be used. An explicit 0 is a count; what is missing stands as 0."""
    if not raw:
        return None
    usage = usage_of(raw)
    if usage.prompt_tokens is None and usage.completion_tokens is None and usage.total_tokens is None:
        return None
    prompt = usage.prompt_tokens
    if prompt is None:  # embeddings of some engines give only the total
        prompt = max(0, (usage.total_tokens or 0) - (usage.completion_tokens or 0))
    return Tokens(input=prompt, cached=usage.cached or 0, output=usage.completion_tokens or 0, reasoning=usage.reasoning or 0)

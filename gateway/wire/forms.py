"""The parts of OpenAI's JSON that are read by a declared form. Apart from their readers, which are compiled: mypyc knows no Struct."""

from typing import Annotated, Any, Final

from msgspec import Meta, Raw, Struct

JsonText = Any
"""A value as the JSON it came as: Raw or bytes. To mypy, and so to mypyc, the one is a kind of the other, which it is not."""

MOST: Final = 2**53
"""Tokens that a count may tell."""


class StreamOptions(Struct):
    """OpenAI's, and vLLM's word for usage with each event."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class Bulk(Struct):
    """The fields of a request that may well be large, as they stand there."""

    messages: Raw = Raw(b"")
    prompt: Raw = Raw(b"")
    input: Raw = Raw(b"")
    query: Raw = Raw(b"")
    documents: Raw = Raw(b"")
    text_1: Raw = Raw(b"")
    text_2: Raw = Raw(b"")
    tools: Raw = Raw(b"")
    functions: Raw = Raw(b"")
    response_format: Raw = Raw(b"")


class Usage(Struct, frozen=True):
    """What an engine says it used, in tokens. None: it does not say. cached is part of prompt, reasoning part of completion."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached: int | None = None
    reasoning: int | None = None


_Tokens = Annotated[int, Meta(ge=0, le=MOST)]


class Cached(Struct):
    """`prompt_tokens_details`, as far as it is counted."""

    cached_tokens: _Tokens | None = None


class Reasoned(Struct):
    """`completion_tokens_details`, as far as it is counted."""

    reasoning_tokens: _Tokens | None = None


class PlainUsage(Struct):
    """A usage object as engines in good health write it; anything else takes the slower way."""

    prompt_tokens: _Tokens | None = None
    completion_tokens: _Tokens | None = None
    total_tokens: _Tokens | None = None
    reasoning_tokens: _Tokens | None = None
    prompt_tokens_details: Cached | None = None
    completion_tokens_details: Reasoned | None = None


class Event(Struct):
    """Of a stream's event its usage alone, as it stands there."""

    usage: Raw = Raw(b"")

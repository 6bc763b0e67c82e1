"""Is a request too long for an engine? Cheap bounds decide nearly always; a count is wanted only between them."""

from collections.abc import Sequence
from typing import Any, Final

from gateway.errors import Refusal, UpstreamFailure

TOO_LONG: Final = "context_length_exceeded"
UNKNOWN: Final = 0
"""A context length that nobody knows: everything fits."""


def needs(way: Any, tokens: int, max_tokens: int) -> int:
    """Tokens of context that the request needs there. Engines that cut their answer to what is left need room for the prompt alone."""
    return tokens + (max_tokens if way.dialect.answer_needs_room else 1)


def undecided(ways: Sequence[Any], least: int, most: int, max_tokens: int) -> bool:
    """Whether the bounds of the prompt's tokens leave open which of the ways it fits."""
    return any(needs(way, least, max_tokens) <= way.length() < needs(way, most, max_tokens) for way in ways if way.length())


def fitting(ways: Sequence[Any], tokens: int, max_tokens: int) -> Sequence[Any]:
    """The ways where so many tokens fit, in their order."""
    return [way for way in ways if not way.length() or needs(way, tokens, max_tokens) <= way.length()]


def too_long(ways: Sequence[Any], tokens: int | None, least: int, max_tokens: int) -> Refusal:
    """What a caller is told whose request fits nowhere, with both numbers, as OpenAI words it. tokens: of the prompt, None = nobody
    counted, since so many as `least`, or the answer alone, are too many already."""
    length = max((way.length() for way in ways), default=0)
    prompt = f"about {max(tokens, least, 1)} in the prompt" if tokens is not None else f"at least {least} in the prompt" if least else ""
    answer = f"{max_tokens} for the answer" if max_tokens else ""
    asked = " and ".join(filter(None, (prompt, answer))) + ("" if prompt else " alone")
    return Refusal(
        400,
        TOO_LONG,
        f"This model's maximum context length is {length} tokens. However, your request has {asked}. Please shorten it.",
        param="messages",
        phase="R",
    )


def unserved(model: str) -> UpstreamFailure:
    """What a caller is told when none of the engines that a model leads to has the API. Nobody else is asked then."""
    return UpstreamFailure("unsupported", f"The model `{model}` does not serve this API.", 404, "unsupported_api", blame="caller")


NOBODY: Final = ("resting", "no_endpoint")
"""Reasons of `nobody`."""


def nobody(resting: float) -> UpstreamFailure:
    """No endpoint can be asked: they asked to be left alone, for `resting` seconds, are drained, or there is none."""
    if resting:
        message = "All engines of this model asked to be left alone for a while, please try again later"
        return UpstreamFailure("resting", message, 503, "upstream_overloaded", retry_after=resting)
    message = "No engine of this model is in service at the moment, please try again later"
    return UpstreamFailure("no_endpoint", message, 503, "upstream_unavailable")

"""An engine's usage object as the token counts of a record."""

from msgspec import Raw

from gateway.exchange import Tokens
from gateway.wire.openai import usage_of


def tokens_of(raw: bytes | Raw | None) -> Tokens | None:
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

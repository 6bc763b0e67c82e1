"""`prompt_tokens` and `max_tokens`: how long a request is and may become."""

from collections.abc import Callable
from typing import Final

from gateway.config.resolved_when import Range
from gateway.route.ask import Ask
from gateway.route.conditions.condition import compared, within

Bounds = Callable[[Ask], tuple[int, int]]
"""The least and the most tokens that a prompt can have, without counting them."""

MOST_PER_BYTE: Final = 12
"""Tokens that any tokenizer makes of a byte of the request, normalised however it likes (`tokens.bounds.UNKNOWN`)."""


class PromptTokens:
    """The prompt's length. Bounds decide when they can; a prompt is counted only when they cannot."""

    __slots__ = ("_bounds", "_least", "_most", "_wanted", "word")

    def __init__(self, wanted: Range, bounds: Bounds) -> None:
        self.word = "prompt_tokens"
        self._wanted, self._bounds = wanted, bounds
        self._least = float("-inf") if wanted.over is None else wanted.over
        self._most = float("inf") if wanted.up_to is None else wanted.up_to

    def holds(self, ask: Ask) -> bool | None:
        tokens = ask.tokens
        if tokens is not None:
            return self._least < tokens <= self._most
        if ask.size * MOST_PER_BYTE <= self._least:  # most requests are far too short: nothing of them is looked at
            return False
        least, most = self._bounds(ask)
        if most <= self._least or least > self._most:
            return False
        return True if least > self._least and most <= self._most else None

    def told(self, ask: Ask) -> str:
        if ask.tokens is not None:
            return f"the prompt's length is {compared(ask.tokens, self._wanted)}"
        least, most = self._bounds(ask)
        if self.holds(ask) is None:
            return f"the prompt has {least} to {most} tokens: it has to be counted"
        outer = most if most <= self._least or least <= self._most else least
        return f"the prompt has {least} to {most} tokens: {compared(outer, self._wanted).partition(', ')[2]}"


class MaxTokens:
    """The longest answer that the caller allows. Who names none is never meant: the engine's own limit is not known here."""

    __slots__ = ("_wanted", "word")

    def __init__(self, wanted: Range) -> None:
        self.word = "max_tokens"
        self._wanted = wanted

    def holds(self, ask: Ask) -> bool:
        return ask.max_tokens > 0 and within(ask.max_tokens, self._wanted)

    def told(self, ask: Ask) -> str:
        return f"max_tokens is {compared(ask.max_tokens, self._wanted)}" if ask.max_tokens > 0 else "the caller names no max_tokens"

"""What a stream has said of its usage so far, and the chunk that tells it to the caller."""

from typing import Final

import msgspec

from gateway.wire.event import Json, decode

_encoder: Final = msgspec.json.Encoder()
_SUMMED: Final = ("completion_tokens", "reasoning_tokens")


class Tally:
    """Usage on an event with choices is that choice's own; usage on an event without is the whole answer's."""

    __slots__ = ("_choices", "_index", "_last", "events", "frame", "passed", "usage")

    def __init__(self) -> None:
        self._choices: dict[object, bytes] = {}  # of an answer with more than one
        self._index: object = None
        self._last = b""
        self.events = 0
        """Events that carried output: about the tokens, when nothing better is known."""
        self.usage = b""
        """As JSON; b"" = none yet."""
        self.frame: Json = {}
        """The last event that was decoded: the usage chunk is made in its likeness."""
        self.passed = False
        """The caller has got a usage chunk already."""

    def of_last(self) -> bytes:
        """The usage of the last choice that told its own."""
        return self._last

    def note(self, usage: bytes, index: object) -> None:
        """index: whose usage it is; None = the whole answer's."""
        self.usage = usage
        if index is None:
            return
        if index != self._index and self._last:
            self._choices.setdefault(self._index, self._last)
        if self._choices:
            self._choices[index] = usage
            self.usage = _encoder.encode(_sum(list(self._choices.values())))
        self._index, self._last = index, usage

    def last_chunk(self, model: str | None) -> Json:
        """OpenAI's own trailing usage chunk, for engines that send none."""
        frame = self.frame
        chunk: Json = {name: frame[name] for name in ("id", "object", "created", "model") if name in frame}
        if model is not None:
            chunk["model"] = model
        return {**chunk, "choices": [], "usage": decode(self.usage)}


def _sum(usages: list[bytes]) -> Json:
    """Several choices share one prompt, and each has its own completion."""
    whole: Json = {}
    for usage in map(decode, usages):
        for name, value in usage.items():
            whole[name] = _joined(name, whole.get(name), value)
    prompt, completion = whole.get("prompt_tokens"), whole.get("completion_tokens")
    if isinstance(prompt, int) and isinstance(completion, int):
        whole["total_tokens"] = prompt + completion
    return whole


def _joined(name: str, one: object, other: object) -> object:
    if isinstance(one, dict) and isinstance(other, dict):
        return {key: _joined(key, one.get(key), other.get(key)) for key in one | other}
    if type(one) is int and type(other) is int:
        return one + other if name in _SUMMED else max(one, other)
    return one if other is None else other

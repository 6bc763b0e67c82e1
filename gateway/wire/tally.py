"""What a stream has said of its usage so far, and the chunk that tells it to the caller."""

import re
from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Raw

from gateway.wire.event import Json, decode
from gateway.wire.forms import JsonText
from gateway.wire.openai import MalformedJson, value_of

_encoder: Final = msgspec.json.Encoder()
_SEVERAL: Final = re.compile(rb"\s*\[\s*[\"\[]")
"""A list of texts, or of lists of token ids."""
_OWN: Final = ("id", "object", "created", "model")
"""What all events of a stream have alike, in OpenAI's words."""
_SUMMED: Final = ("completion_tokens", "reasoning_tokens")


class _Several:
    """What the choices of one answer have told, each for itself and all together."""

    __slots__ = ("choices", "prompt", "prompts", "whole")

    def __init__(self) -> None:
        self.choices: dict[object, Json] = {}
        self.whole: Json = {}
        self.prompts: dict[int, int] = {}
        self.prompt = 0

    def add(self, usage: bytes, index: object, each: int) -> None:
        """The newest of one of them. Each has its own completion; its prompt is its own, or that of all of them. each: `Tally.each`."""
        whole, value = self.whole, decode(usage)
        _changed(whole, self.choices.get(index) or {}, value)
        self.choices[index] = value
        prompt, completion = value.get("prompt_tokens"), whole.get("completion_tokens")
        if each and isinstance(index, int) and isinstance(prompt, int):
            place = index // each
            self.prompt += prompt - self.prompts.get(place, 0)
            self.prompts[place] = prompt
            whole["prompt_tokens"] = self.prompt
        prompt = whole.get("prompt_tokens")
        if isinstance(prompt, int) and isinstance(completion, int):
            whole["total_tokens"] = prompt + completion


class Tally:
    """Usage on an event with choices is that choice's own; usage on an event without is the whole answer's."""

    __slots__ = ("_ended", "_index", "_last", "_several", "apart", "each", "events", "frame", "passed", "usage")

    def __init__(self) -> None:
        self._several: _Several | None = None  # once there are
        self._index: object = None
        self._last = b""
        self._ended: list[object] = []
        self.apart = False
        """Each of several choices may tell its usage in an event without choices, right after its end."""
        self.each = 0
        """How many choices each prompt has, where one request has several prompts; 0 = all choices share one."""
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

    def end(self, index: object) -> None:
        """A choice has got its finish reason."""
        if self.apart:
            self._ended.append(index)

    def whose(self) -> object:
        """The choice whose usage an event without choices tells; None = the whole answer's."""
        ended, self._ended = self._ended, []
        return ended[0] if len(ended) == 1 else None

    def adds_up(self, index: object) -> bool:
        """Whether what this choice tells next is added to what others have told: then it counts what it told before, too."""
        return self._several is not None or (index != self._index and self._last != b"")

    def note(self, usage: bytes, index: object) -> None:
        """index: whose usage it is; None = the whole answer's."""
        self.usage = usage
        if index is None:
            return
        if self._several is None and self.adds_up(index):
            self._several = _Several()
            self._several.add(self._last, self._index, self.each)
        if self._several is not None:
            self._several.add(usage, index, self.each)
            self.usage = _encoder.encode(self._several.whole)
        self._index, self._last = index, usage

    def slim(self) -> None:
        """No more events will be decoded, or few: of the last one only what a usage chunk needs is kept."""
        self.frame = self._own()

    def _own(self) -> Json:
        frame = self.frame
        return {name: frame[name] for name in _OWN if name in frame}

    def last_chunk(self, model: str | None) -> Json:
        """OpenAI's own trailing usage chunk, for engines that send none."""
        chunk = self._own()
        if model is not None:
            chunk["model"] = model
        return {**chunk, "choices": [], "usage": decode(self.usage)}


def choices_of_each(fields: Mapping[str, Raw]) -> int:
    """How many choices each prompt of a completion has, when there are several prompts; 0 = there is one. fields: the request's."""
    if "prompt" not in fields:
        return 0
    prompt: JsonText = fields["prompt"]
    if _SEVERAL.match(prompt) is None:
        return 0
    try:
        n = value_of(fields["n"]) if "n" in fields else 1
    except MalformedJson:
        n = 1
    return n if type(n) is int and n > 0 else 1


def several_of_one(fields: Mapping[str, Raw]) -> bool:
    """Whether a request asks for several choices of one prompt. fields: the request's."""
    if "n" not in fields:
        return False
    try:
        n = value_of(fields["n"])
    except MalformedJson:
        return False
    return type(n) is int and n > 1


def _changed(whole: Json, before: Json, after: Json) -> None:
    """Puts what one choice says now in place of what it said before. Costs the same however many choices there are."""
    for name, value in after.items():
        known, old = whole.get(name), before.get(name)
        if isinstance(value, dict):
            inner: Json = known if isinstance(known, dict) else {}
            _changed(inner, old if isinstance(old, dict) else {}, value)
            whole[name] = inner
        elif type(value) is int and type(known) is int:
            whole[name] = known + value - (old if type(old) is int else 0) if name in _SUMMED else max(known, value)
        elif value is not None or name not in whole:
            whole[name] = value

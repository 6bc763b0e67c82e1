"""What an engine has said, where it does not tell how many tokens that is: of a stream kept to be counted if it breaks off. Pure."""

from collections.abc import Callable
from typing import Any, Final

from gateway.wire.event import Json

Normalise = Callable[[Json, str], Json]

TEXT_MOST: Final = 4 << 20
"""Characters of an answer that are kept; a longer one is counted by its events, a whole one by its size."""
_TEXTS: Final = ("content", "refusal", "text")


class Heard:
    """One engine's answer. Goes over its decoded events, behind its dialect. tokenizer: what counts it, see `Model.tokenizer`."""

    __slots__ = ("_normalise", "_pieces", "_size", "tokenizer")

    def __init__(self, normalise: Normalise, tokenizer: str) -> None:
        """normalise: the dialect's `event`."""
        self._normalise = normalise
        self._pieces: dict[tuple[object, str], list[str]] = {}
        self._size = 0
        self.tokenizer = tokenizer

    def event(self, event: Json, reasoning: str) -> Json:
        value = self._normalise(event, reasoning)
        choices = value.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                self._choice(choice.get("index"), choice, choice.get("delta"))
        return value

    def whole(self, choices: Any) -> None:
        """The choices of a whole answer, as they stand there."""
        for number, choice in enumerate(choices if isinstance(choices, list) else ()):
            if isinstance(choice, dict):
                self._choice(number, choice, choice.get("message"))

    @property
    def overfull(self) -> bool:
        """More was said than is kept."""
        return self._size > TEXT_MOST

    def texts(self) -> list[str]:
        """What was said: of each choice its text, its reasoning and its calls. Empty = nothing, or more than is kept."""
        if self.overfull:
            return []
        return ["".join(pieces) for pieces in self._pieces.values()]

    def _choice(self, index: object, choice: Json, message: object) -> None:
        said = message if isinstance(message, dict) else choice
        for name in _TEXTS:
            self._add((index, name), said.get(name))
        self._add((index, "reasoning"), said.get("reasoning") or said.get("reasoning_content"))  # vLLM 0.13 sends both
        calls = said.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            function = call.get("function") if isinstance(call, dict) else None
            if isinstance(function, dict):
                self._add((index, f"name {call.get('index')}"), function.get("name"))
                self._add((index, f"call {call.get('index')}"), function.get("arguments"))

    def _add(self, place: tuple[object, str], text: Any) -> None:
        if isinstance(text, str) and text and not self.overfull:
            self._size += len(text)
            self._pieces.setdefault(place, []).append(text)

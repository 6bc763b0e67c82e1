"""The JSON of MindIE-LLM's answers: usage before choices in a choice's last chunk, the role in each delta."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gateway.simulate.dialect import hex_id
from gateway.simulate.prompt import Json
from gateway.simulate.reply import Part, Reply, rounds
from gateway.simulate.sse import DONE, HOLE, Event, Template, event

Object = dict[str, Json]


def usage(prompt_tokens: int, completion_tokens: int, reasoning_tokens: int | None) -> Object:
    """`reasoning_tokens` None: the engine has no reasoning count, so the key is absent."""
    found: Object = {
        "prompt_tokens": prompt_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens": completion_tokens,
    }
    if reasoning_tokens is not None:
        found["completion_tokens_details"] = {"reasoning_tokens": reasoning_tokens}
    return {**found, "total_tokens": prompt_tokens + completion_tokens}


@dataclass(frozen=True, slots=True)
class Chat:
    """One chat completion's frame."""

    id: str
    created: int
    model: str
    prompt_tokens: int
    empty_first_chunk: bool = True
    """False up to 2.1.RC1."""

    def whole(self, choices: Sequence[Reply]) -> Object:
        spent = sum(len(choice.parts) for choice in choices)
        calls = any(choice.calls for choice in choices)
        thought = None if calls else sum(choice.count("reasoning") for choice in choices)
        return {**self._frame("chat.completion"), "choices": [_whole(choice) for choice in choices]} | {
            "usage": usage(self.prompt_tokens, spent, thought)
        }

    def events(self, choices: Sequence[Reply]) -> Iterator[Event]:
        templates: dict[tuple[int, str], Template] = {}
        if self.empty_first_chunk:
            for choice in choices:
                yield Event(event(self._chunk(choice.index, {"role": "assistant", "content": ""})))
        for step, choice, part, last in rounds(choices):
            if last:
                data = event(self._last(choice, _delta(part)))
            elif part.kind == "call":
                data = event(self._chunk(choice.index, _delta(part)))
            else:
                key = (choice.index, part.kind)
                if key not in templates:
                    templates[key] = Template(self._chunk(choice.index, _delta(Part(part.kind, HOLE))))
                data = templates[key].fill(part.text)
            yield Event(data, 1, step)
        yield Event(DONE)

    def _chunk(self, index: int, delta: Object) -> Object:
        choice: Object = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
        return {**self._frame("chat.completion.chunk"), "choices": [choice]}

    def _last(self, choice: Reply, delta: Object) -> Object:
        thought = choice.count("reasoning") or None
        ending: Object = {"index": choice.index, "delta": delta, "logprobs": None, "finish_reason": choice.finish}
        spent = usage(self.prompt_tokens, len(choice.parts), thought)
        return {**self._frame("chat.completion.chunk"), "usage": spent, "choices": [ending]}

    def _frame(self, kind: str) -> Object:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


@dataclass(frozen=True, slots=True)
class Completion:
    """One text completion's frame. No fixture is recorded for it: the shape follows the chat's rules."""

    id: str
    created: int
    model: str
    prompt_tokens: int

    def whole(self, choices: Sequence[Reply]) -> Object:
        spent = sum(len(choice.parts) for choice in choices)
        shapes = [_text(choice.index, choice.text("content"), choice.finish) for choice in choices]
        return {**self._frame(), "choices": shapes, "usage": usage(self.prompt_tokens, spent, None)}

    def events(self, choices: Sequence[Reply]) -> Iterator[Event]:
        for step, choice, part, last in rounds(choices):
            chunk = self._frame()
            if last:
                chunk["usage"] = usage(self.prompt_tokens, len(choice.parts), None)
            chunk["choices"] = [_text(choice.index, part.text, choice.finish if last else None)]
            yield Event(event(chunk), 1, step)
        yield Event(DONE)

    def _frame(self) -> Object:
        return {"id": self.id, "object": "text_completion", "created": self.created, "model": self.model}


def _text(index: int, text: str, finish: str | None) -> Object:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish}


def _whole(choice: Reply) -> Object:
    message: Object = {"role": "assistant", "content": choice.text("content")}
    if choice.count("reasoning"):
        message["reasoning_content"] = choice.text("reasoning")
    calls = []
    if choice.calls:
        function = {"arguments": choice.text("arguments"), "name": choice.text("call")}
        calls = [{"function": function, "id": _call_id(), "type": "function"}]
    message["tool_calls"] = calls
    return {"index": choice.index, "message": message, "logprobs": None, "finish_reason": choice.finish}


def _delta(part: Part) -> Object:
    if part.kind == "reasoning":
        return {"role": "assistant", "reasoning_content": part.text}
    if part.kind == "call":
        head = {"id": _call_id(), "type": "function", "index": 0, "function": {"name": part.text}}
        return {"role": "assistant", "tool_calls": [head]}
    if part.kind == "arguments":
        return {"role": "assistant", "tool_calls": [{"index": 0, "function": {"arguments": part.text}}]}
    return {"role": "assistant", "content": part.text}


def _call_id() -> str:
    return f"call_{hex_id()[:8]}"

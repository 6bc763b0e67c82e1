"""The JSON of SGLang's answers, key by key: text chunks as msgspec builds them, tool chunks as pydantic does."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gateway.simulate.dialect import hex_id
from gateway.simulate.prompt import Json
from gateway.simulate.reply import Part, Reply, rounds
from gateway.simulate.sse import DONE, HOLE, Event, Template, event
from gateway.simulate.vllm_shapes import StreamOptions

Object = dict[str, Json]
END_OF_TURN = 151645
"""`matched_stop` of an answer that came to its natural end: Qwen's <|im_end|>."""


def usage(prompt_tokens: int, completion_tokens: int, reasoning_tokens: int = 0) -> Object:
    return {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "completion_tokens": completion_tokens,
        "prompt_tokens_details": None,
        "reasoning_tokens": reasoning_tokens,
        "completion_tokens_details": None,
    }


def matched_stop(choice: Reply) -> int | str | None:
    return choice.stopped or (None if choice.finish == "length" else END_OF_TURN)


@dataclass(frozen=True, slots=True)
class Chat:
    """One chat completion's frame."""

    id: str
    created: int
    model: str
    prompt_tokens: int

    def whole(self, choices: Sequence[Reply]) -> Object:
        spent = sum(len(choice.parts) for choice in choices)
        thought = sum(choice.count("reasoning") for choice in choices)
        frame = self._frame("chat.completion", [self._choice(choice) for choice in choices])
        return {**frame, "usage": usage(self.prompt_tokens, spent, thought), "metadata": {"weight_version": "default"}}

    def _choice(self, choice: Reply) -> Object:
        message: Object = {
            "role": "assistant",
            "content": None if choice.calls else choice.text("content"),
            "reasoning_content": choice.text("reasoning") or None,
        }
        if choice.calls:
            function = {"name": choice.text("call"), "arguments": choice.text("arguments")}
            message["tool_calls"] = [{"id": call_id(), "index": 0, "type": "function", "function": function}]
        return _ending(choice, {"message": message})

    def events(self, choices: Sequence[Reply], options: StreamOptions) -> Iterator[Event]:
        sent = [0] * len(choices)
        templates: dict[tuple[int, str], Template] = {}
        for choice in choices:
            first: Object = {"reasoning_content": None, "role": "assistant", "content": ""}
            yield Event(event(self._chunk(choice.index, first, options, 0)))
        for step, choice, part, last in rounds(choices):
            sent[choice.index] += 1
            if part.kind in ("call", "arguments"):
                data = event(self._tool_chunk(choice.index, part, options, sent[choice.index]))
            elif options.continuous:
                data = event(self._chunk(choice.index, _delta(part), options, sent[choice.index]))
            else:
                key = (choice.index, part.kind)
                if key not in templates:
                    templates[key] = Template(self._chunk(choice.index, _delta(Part(part.kind, HOLE)), options, 0))
                data = templates[key].fill(part.text)
            yield Event(data, 1, step)
            if last:
                ending = _ending(choice, {"delta": {"reasoning_content": None}})
                yield Event(event(self._with_usage([ending], options, sent[choice.index])), 0, step)
        if options.include_usage:
            thought = sum(choice.count("reasoning") for choice in choices)
            frame = self._frame("chat.completion.chunk", [])
            yield Event(event({**frame, "usage": usage(self.prompt_tokens, sum(sent), thought)}))
        yield Event(DONE)

    def _chunk(self, index: int, delta: Object, options: StreamOptions, sent: int) -> Object:
        return self._with_usage([_open(index, delta)], options, sent)

    def _tool_chunk(self, index: int, part: Part, options: StreamOptions, sent: int) -> Object:
        head = part.kind == "call"
        function = {"name": part.text if head else None, "arguments": "" if head else part.text}
        call = {"id": call_id() if head else None, "index": 0, "type": "function", "function": function}
        delta: Object = {"role": None, "content": None, "reasoning_content": None, "tool_calls": [call]}
        chunk = self._with_usage([_open(index, delta)], options, sent)
        return chunk if options.continuous else {**chunk, "usage": None}

    def _with_usage(self, choices: list[Object], options: StreamOptions, sent: int) -> Object:
        frame = self._frame("chat.completion.chunk", choices)
        return {**frame, "usage": usage(self.prompt_tokens, sent)} if options.continuous else frame

    def _frame(self, kind: str, choices: list[Object]) -> Object:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model, "choices": choices}


@dataclass(frozen=True, slots=True)
class Completion:
    """One text completion's frame. No fixture is recorded for it: the shape follows the chat's rules."""

    id: str
    created: int
    model: str
    prompt_tokens: int

    def whole(self, choices: Sequence[Reply]) -> Object:
        frame = self._frame([_ending(choice, {"text": choice.text("content")}) for choice in choices])
        spent = sum(len(choice.parts) for choice in choices)
        return {**frame, "usage": usage(self.prompt_tokens, spent), "metadata": {"weight_version": "default"}}

    def events(self, choices: Sequence[Reply], options: StreamOptions) -> Iterator[Event]:
        sent = 0
        for step, choice, part, last in rounds(choices):
            sent += 1
            shape = {"index": choice.index, "text": part.text, "logprobs": None, "finish_reason": None, "matched_stop": None}
            yield Event(event(self._with_usage(shape, options, sent)), 1, step)
            if last:
                yield Event(event(self._with_usage(_ending(choice, {"text": ""}), options, sent)), 0, step)
        if options.include_usage:
            yield Event(event({**self._frame([]), "usage": usage(self.prompt_tokens, sent)}))
        yield Event(DONE)

    def _with_usage(self, choice: Object, options: StreamOptions, sent: int) -> Object:
        frame = self._frame([choice])
        return {**frame, "usage": usage(self.prompt_tokens, sent)} if options.continuous else frame

    def _frame(self, choices: list[Object]) -> Object:
        return {
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }


def call_id() -> str:
    return f"call_{hex_id()[:24]}"


def _delta(part: Part) -> Object:
    if part.kind == "reasoning":
        return {"reasoning_content": part.text}
    return {"reasoning_content": None, "content": part.text}


def _open(index: int, delta: Object) -> Object:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None, "matched_stop": None}


def _ending(choice: Reply, inner: Object) -> Object:
    return {"index": choice.index, **inner, "logprobs": None, "finish_reason": choice.finish, "matched_stop": matched_stop(choice)}

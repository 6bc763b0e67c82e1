"""The JSON of vLLM's answers, key by key, as each era writes it. It decides shapes only, never content."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gateway.simulate.dialect import hex_id, now
from gateway.simulate.prompt import Json
from gateway.simulate.reply import Part, Reply, rounds
from gateway.simulate.sse import DONE, HOLE, Event, Template, event

Object = dict[str, Json]


@dataclass(frozen=True, slots=True)
class Era:
    """What changed between releases. Boundaries are the first release seen with the new form."""

    release: tuple[int, ...]
    version: str

    @property
    def nested_errors(self) -> bool:
        return self.release >= (0, 11)

    @property
    def aliases_in_404(self) -> bool:
        return self.release >= (0, 33)

    @property
    def fingerprint(self) -> str | None:
        return f"vllm-{self.version}-3f2a1b9c" if self.release >= (0, 33) else None

    @property
    def slim_message(self) -> bool:
        """No `tool_calls: []` in a message without calls."""
        return self.release >= (0, 18)

    def reasoning(self, text: Json) -> Object:
        """<=0.11 reasoning_content, 0.13 both, >=0.18 reasoning."""
        if self.release >= (0, 18):
            return {"reasoning": text}
        if self.release >= (0, 12):
            return {"reasoning": text, "reasoning_content": text}
        return {"reasoning_content": text}

    def guarded(self, path: str) -> bool:
        """Does --api-key guard this path? By prefix, and the list grew."""
        since = ((0,), "/v1"), ((0, 23), "/v2"), ((0, 23), "/inference"), ((0, 33), "/cohere")
        return any(self.release >= release and path.startswith(prefix) for release, prefix in since)


@dataclass(frozen=True, slots=True)
class StreamOptions:
    include_usage: bool = False
    continuous: bool = False


def usage(era: Era, prompt_tokens: int, completion_tokens: int) -> Object:
    whole: Object = {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "completion_tokens": completion_tokens,
        "prompt_tokens_details": None,
    }
    return {**whole, "completion_tokens_details": None} if era.release >= (0, 33) else whole


def short_usage(prompt_tokens: int, completion_tokens: int) -> Object:
    return {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "completion_tokens": completion_tokens,
    }


@dataclass(frozen=True, slots=True)
class Chat:
    """One chat completion's frame."""

    era: Era
    id: str
    created: int
    model: str
    prompt_tokens: int

    def whole(self, choices: Sequence[Reply]) -> Object:
        era = self.era
        frame: Object = {
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": [self._choice(choice) for choice in choices],
        }
        spent = usage(era, self.prompt_tokens, sum(len(choice.parts) for choice in choices))
        if era.release < (0, 11):
            return {**frame, "usage": spent, "prompt_logprobs": None, "kv_transfer_params": None}
        frame |= {"service_tier": None, "system_fingerprint": era.fingerprint, "usage": spent}
        frame |= {"prompt_logprobs": None, "prompt_token_ids": None}
        if era.release < (0, 33):
            return {**frame, "kv_transfer_params": None}
        return {**frame, "prompt_text": None, "kv_transfer_params": None, "ec_transfer_params": None, "metrics": None}

    def _choice(self, choice: Reply) -> Object:
        shape: Object = {
            "index": choice.index,
            "message": self._message(choice),
            "logprobs": None,
            "finish_reason": choice.finish,
            "stop_reason": choice.stopped,
        }
        if self.era.release >= (0, 11):
            shape["token_ids"] = None
        if self.era.release >= (0, 33):
            shape |= {"routed_experts": None, "weight_versions": None}
        return shape

    def _message(self, choice: Reply) -> Object:
        content = None if choice.calls else choice.text("content")
        reasoning = self.era.reasoning(choice.text("reasoning") or None)
        calls = [_whole_call(choice)] if choice.calls else []
        if self.era.release < (0, 11):
            return {"role": "assistant", **reasoning, "content": content, "tool_calls": calls}
        message: Object = {"role": "assistant", "content": content, "refusal": None, "annotations": None}
        message |= {"audio": None, "function_call": None}
        if calls or not self.era.slim_message:
            message["tool_calls"] = calls
        return {**message, **reasoning}

    def events(self, choices: Sequence[Reply], options: StreamOptions) -> Iterator[Event]:
        sent = [0] * len(choices)
        templates: dict[tuple[int, str], Template] = {}
        for choice in choices:
            yield Event(event(self._chunk(choice.index, {"role": "assistant", "content": ""}, options, 0, first=True)))
        for step, choice, part, last in rounds(choices):
            sent[choice.index] += 1
            if options.continuous or part.kind == "call":
                delta = self._delta(part)
                data = event(self._chunk(choice.index, delta, options, sent[choice.index]))
            else:
                key = (choice.index, part.kind)
                if key not in templates:
                    delta = self._delta(Part(part.kind, HOLE))
                    templates[key] = Template(self._chunk(choice.index, delta, options, 0))
                data = templates[key].fill(part.text)
            yield Event(data, 1, step)
            if last:
                yield Event(event(self._finish(choice, options, sent[choice.index])), 0, step)
        if options.include_usage:
            yield Event(event(self._usage(sum(sent))))
        yield Event(DONE)

    def _delta(self, part: Part) -> Object:
        if part.kind == "reasoning":
            return self.era.reasoning(part.text)
        if part.kind == "call":
            head = {"id": call_id(), "type": "function", "index": 0, "function": {"name": part.text}}
            return {"tool_calls": [head]}
        if part.kind == "arguments":
            return {"tool_calls": [{"index": 0, "function": {"arguments": part.text}}]}
        return {"content": part.text}

    def _chunk(self, index: int, delta: Object, options: StreamOptions, sent: int, *, first: bool = False) -> Object:
        choice: Object = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
        if self.era.release >= (0, 11) and not first:
            choice["token_ids"] = None
        chunk = self._frame([choice])
        if options.continuous:
            chunk["usage"] = short_usage(self.prompt_tokens, sent)
        if first and self.era.release >= (0, 11):
            chunk["prompt_token_ids"] = None
        if self.era.release >= (0, 33):
            chunk["prompt_text" if first else "kv_transfer_params"] = None
        return chunk

    def _finish(self, choice: Reply, options: StreamOptions, sent: int) -> Object:
        shape: Object = {
            "index": choice.index,
            "delta": {"content": ""},
            "logprobs": None,
            "finish_reason": choice.finish,
            "stop_reason": choice.stopped,
        }
        if self.era.release >= (0, 11):
            shape["token_ids"] = None
        if self.era.release >= (0, 33):
            shape["weight_versions"] = None
        chunk = self._frame([shape])
        if options.continuous:
            chunk["usage"] = short_usage(self.prompt_tokens, sent)
        if self.era.release >= (0, 33):
            if not options.include_usage:
                chunk["system_fingerprint"] = self.era.fingerprint
            chunk["kv_transfer_params"] = None
        return chunk

    def _usage(self, sent: int) -> Object:
        chunk = {**self._frame([]), "usage": short_usage(self.prompt_tokens, sent)}
        return {**chunk, "system_fingerprint": self.era.fingerprint} if self.era.fingerprint else chunk

    def _frame(self, choices: list[Object]) -> Object:
        return {
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }


@dataclass(frozen=True, slots=True)
class Completion:
    """One text completion's frame. No fixture is recorded for it: the shape follows the chat's rules. own: each choice's prompt, in tokens,
    which its continuous usage tells; the whole answer's usage has every prompt once."""

    era: Era
    id: str
    created: int
    model: str
    prompt_tokens: int
    own: tuple[int, ...]

    def whole(self, choices: Sequence[Reply]) -> Object:
        shapes = [{**self._choice(choice, choice.text("content")), "prompt_logprobs": None} for choice in choices]
        spent = usage(self.era, self.prompt_tokens, sum(len(choice.parts) for choice in choices))
        frame = self._frame(shapes)
        if self.era.release >= (0, 11):
            frame |= {"service_tier": None, "system_fingerprint": self.era.fingerprint}
        return {**frame, "usage": spent, "kv_transfer_params": None}

    def events(self, choices: Sequence[Reply], options: StreamOptions) -> Iterator[Event]:
        sent = [0] * len(choices)
        for step, choice, part, last in rounds(choices):
            index = choice.index
            sent[index] += 1
            chunk = self._frame([self._choice(choice, part.text, last)])
            if options.continuous:
                chunk["usage"] = short_usage(self.own[index], sent[index])
            yield Event(event(chunk), 1, step)
        if options.include_usage:
            yield Event(event({**self._frame([]), "usage": short_usage(self.prompt_tokens, sum(sent))}))
        yield Event(DONE)

    def _choice(self, choice: Reply, text: str, last: bool = True) -> Object:
        finish, stopped = (choice.finish, choice.stopped) if last else (None, None)
        return {"index": choice.index, "text": text, "logprobs": None, "finish_reason": finish, "stop_reason": stopped}

    def _frame(self, choices: Sequence[Mapping[str, Json]]) -> Object:
        return {
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
            "choices": list(choices),
        }


def call_id() -> str:
    return f"chatcmpl-tool-{hex_id()}"


def _whole_call(choice: Reply) -> Object:
    function = {"name": choice.text("call"), "arguments": choice.text("arguments")}
    return {"id": call_id(), "type": "function", "function": function}


def model_card(name: str, max_model_len: int) -> Object:
    permission = {
        "id": f"modelperm-{hex_id()}",
        "object": "model_permission",
        "created": now(),
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    return {
        "id": name,
        "object": "model",
        "created": now(),
        "owned_by": "vllm",
        "root": f"/models/{name}",
        "parent": None,
        "max_model_len": max_model_len,
        "permission": [permission],
    }

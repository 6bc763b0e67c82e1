"""The generic OpenAI dialect, for llama.cpp and all that speaks OpenAI's API without a file of its own; the others start from it."""

from collections.abc import Mapping
from functools import lru_cache
from hashlib import md5
from typing import Any, ClassVar, Final

from msgspec import Raw

from gateway.engine import exposition, failures, rewrite
from gateway.engine.base import Fields, Load, ModelFacts, Normalise, Planes
from gateway.errors import Refusal, UpstreamFailure
from gateway.wire.event import one_reasoning
from gateway.wire.openai import encode, parse_object, value_of

_WHOLE: Final = {
    "chat": "choices",
    "completions": "choices",
    "embeddings": "data",
    "rerank": "results",
    "score": "data",
    "tokenize": "tokens",
}
"""The list that each API's answer must have."""


PATHS: Mapping[str, str] = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
    "rerank": "/v1/rerank",
    "tokenize": "/tokenize",
}


class OpenAI:
    """OpenAI's API as it is written."""

    name = "openai"
    paths = PATHS
    planes = Planes(health="/v1/models")
    transform = "splice"
    continuous_usage = False
    continues = False
    final_usage = True
    answer_needs_room = False  # llama.cpp cuts it; what others do, they say themselves
    figures: ClassVar[Mapping[str, str]] = {
        "llamacpp:requests_processing": "running",
        "llamacpp:requests_deferred": "waiting",
        "llamacpp:kv_cache_usage_ratio": "kv_use",
        "llamacpp:prompt_tokens_total": "prompt_tokens",
        "llamacpp:prompt_tokens_cached_total": "prompt_cached",
        "llamacpp:tokens_predicted_total": "generation_tokens",
    }
    """Metric → field of Load, as `exposition.load` knows them."""

    def request(self, api: str, fields: Fields) -> list[str]:
        if api == "tokenize":
            return prompt_only(fields, "content", {"add_special": rewrite.value(fields, "add_special_tokens") is not False})
        return []

    def answer(self, api: str, body: bytes, reasoning: str, asked: Fields | None = None) -> Fields:
        fields = listing(api, body)
        if api == "chat":
            chat(fields, reasoning)
        elif api == "tokenize" and "count" not in fields:
            tokens = value_of(fields["tokens"])
            ids = [token.get("id") if isinstance(token, dict) else token for token in tokens]
            return tokenized(len(ids), ids, [token.get("piece") for token in tokens if isinstance(token, dict)] or None)
        return fields

    def event(self, event: dict[str, Any], reasoning: str) -> dict[str, Any]:
        return event

    def events(self) -> Normalise:
        return self.event

    def failure(self, status: int, body: bytes, headers: Mapping[str, str]) -> UpstreamFailure:
        return failures.failure(status, body, headers)

    def event_failure(self, event: dict[str, Any]) -> UpstreamFailure:
        return failures.event_failure(event)

    def text_failure(self, text: bytes) -> UpstreamFailure | None:
        return None

    def models(self, body: bytes) -> list[ModelFacts]:
        items = value_of(listing("embeddings", body)["data"])  # a list called `data`, as the model list has it
        return [_model(item) for item in items if isinstance(item, dict) and isinstance(item.get("id"), str)]

    def context(self, body: bytes) -> int | None:
        return None

    def load(self, exposition_text: str) -> Load:
        return exposition.load(exposition_text, self.figures)


def listing(api: str, body: bytes) -> Fields:
    """An answer with the list that its API must have. Errors: ValueError."""
    fields = parse_object(body)
    name = _WHOLE[api]
    if not bytes(fields.get(name, b""))[:64].lstrip().startswith(b"["):
        raise ValueError(f"no list `{name}` in the answer")
    return fields


def chat(fields: Fields, reasoning: str) -> None:
    """Gives messages one reasoning field. Choices are parsed only when they may have one of another name."""
    other = b'"reasoning"' if reasoning == "reasoning_content" else b'"reasoning_'
    raw = bytes(fields["choices"])
    # `in` would do, but for bytes it raises and catches an error before it looks.
    if raw.find(other) < 0 and (reasoning in ("reasoning", "reasoning_content") or raw.find(b'"reasoning"') < 0):
        return
    choices = value_of(raw)
    for choice in choices:
        if isinstance(choice, dict) and isinstance(choice.get("message"), dict):
            one_reasoning(choice["message"], reasoning)
    fields["choices"] = Raw(encode(choices))


@lru_cache(maxsize=1024)
def caller_id(id: str, of_chat: bool) -> str:
    """An answer's id as OpenAI's look. The engine's own would tell its family; equal ids stay equal."""
    beginning = "chatcmpl-" if of_chat else "cmpl-"
    return id if id.startswith(beginning) else beginning + md5(id.encode(errors="backslashreplace"), usedforsecurity=False).hexdigest()


def own_id(api: str, fields: Fields) -> None:
    """Gives a whole answer an id in OpenAI's form, where it has one at all."""
    id = rewrite.value(fields, "id")
    if isinstance(id, str) and api in ("chat", "completions"):
        rewrite.put(fields, "id", caller_id(id, api == "chat"))


def own_event_id(event: dict[str, Any]) -> None:
    """The same for an event of a stream."""
    id = event.get("id")
    if isinstance(id, str):
        event["id"] = caller_id(id, event.get("object") != "text_completion")


def no_messages() -> Refusal:
    """Of an engine that counts a text only. Another engine of the model may do more."""
    what = "This model can tokenize a `prompt` (a string), not `messages`"
    return Refusal(400, "unsupported_parameter", what, "invalid_request_error", "messages")


def prompt_only(fields: Fields, name: str, others: Mapping[str, object]) -> list[str]:
    """Turns vLLM's tokenize request into one of an engine that counts a text only. Errors: Refusal, for messages."""
    prompt = rewrite.value(fields, "prompt")
    if "messages" not in fields and not isinstance(prompt, str):
        code = "invalid_type" if "prompt" in fields else "missing_required_parameter"
        raise Refusal(400, code, "`prompt` must be a string.", "invalid_request_error", "prompt")
    if not isinstance(prompt, str):
        raise no_messages()
    fields.clear()
    rewrite.put(fields, name, prompt)
    for key, value in others.items():
        rewrite.put(fields, key, value)
    return [f"prompt>{name}"]


def tokenized(count: int, tokens: list[Any], pieces: list[Any] | None) -> Fields:
    """vLLM's answer to tokenize, from engines that say less. max_model_len is unknown there."""
    answer = {"count": count, "max_model_len": None, "tokens": tokens, "token_strs": pieces}
    return {name: Raw(encode(value)) for name, value in answer.items()}


def _model(item: dict[str, Any]) -> ModelFacts:
    meta = item["meta"] if isinstance(item.get("meta"), dict) else {}
    lengths = (item.get("max_model_len"), item.get("p_max_seqlen"), meta.get("n_ctx"), meta.get("n_ctx_train"), item.get("context_length"))
    length = next((length for length in lengths if type(length) is int and length > 0), None)
    parent, owner = item.get("parent"), item.get("owned_by")
    return ModelFacts(
        item["id"],
        owner if isinstance(owner, str) else "",
        length,
        parent if isinstance(parent, str) and parent not in ("", "null") else None,  # MindIE writes "null"
    )

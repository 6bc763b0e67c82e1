"""MindIE-LLM 1.0 to 3.0, also behind Motor's coordinator. (PyMotor stands before vLLM: its channels say `engine: vllm`.)"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from gateway.engine import rewrite
from gateway.engine.base import Fields, Normalise, Planes
from gateway.engine.openai import OpenAI, chat, listing, own_event_id, own_id, prompt_only, tokenized
from gateway.errors import UpstreamFailure
from gateway.wire.openai import MalformedJson, parse_object, value_of

_TIMINGS: Final = ("prefill_time", "decode_time_arr", "full_text")
_USAGE_TIMINGS: Final = ("batch_size", "queue_wait_time")
"""What benchmarks (2.x, or MINDIE_LLM_BENCHMARK_ENABLE) add to answers."""
_LAST_WORDS: Final = (b"Engine callback timeout", b"Failed to get engine response")
"""How the bare text begins that it writes into a stream which fails."""


class MindIE(OpenAI):
    """Ignores much of OpenAI's API without a word, so that it must be said in MindIE's own words."""

    name = "mindie"
    paths: Mapping[str, str] = {"chat": "/v1/chat/completions", "completions": "/v1/completions", "tokenize": "/v1/tokenizer"}
    planes = Planes(
        health="/v2/health/ready", health_plane="management", metrics_plane="metrics", version="/v2", context="/v2/models/{model}/config"
    )
    transform = "decode"
    final_usage = False
    figures: ClassVar[Mapping[str, str]] = {
        "num_requests_running": "running",
        "num_requests_waiting": "waiting",
        "npu_cache_usage_perc": "kv_use",
        "prompt_tokens_total": "prompt_tokens",
        "generation_tokens_total": "generation_tokens",
    }

    def request(self, api: str, fields: Fields) -> list[str]:
        if api == "tokenize":
            return prompt_only(fields, "inputs", {"do_decode": True})
        names = rewrite.rename(fields, "max_completion_tokens", "max_tokens")  # ignored otherwise: the server's 512 would cut
        names += rewrite.drop(fields, "chat_template")  # may name a file on the engine's host
        names += rewrite.empty_tools(fields)
        names += _out_of_range(fields)
        names += rewrite.one_prompt(fields)
        names += rewrite.roles(fields, "developer", "system")
        return names + _guided(fields)

    def answer(self, api: str, body: bytes, reasoning: str, asked: Fields | None = None) -> Fields:
        if api == "tokenize":
            return _tokens(body)
        fields = listing(api, body)
        for name in _TIMINGS:
            fields.pop(name, None)
        usage = rewrite.value(fields, "usage")
        if isinstance(usage, dict) and any(name in usage for name in _USAGE_TIMINGS):
            rewrite.put(fields, "usage", _plain(usage))
        if api == "chat":
            chat(fields, reasoning)
        own_id(api, fields)
        return fields

    def event(self, event: dict[str, Any], reasoning: str) -> dict[str, Any]:
        own_event_id(event)
        for name in _TIMINGS:
            event.pop(name, None)
        usage = event.get("usage")
        if isinstance(usage, dict):
            event["usage"] = _plain(usage)
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                choice.pop("full_text", None)
        return event

    def events(self) -> Normalise:
        return _RoleOnce(self.event).event

    def text_failure(self, text: bytes) -> UpstreamFailure | None:
        return self.event_failure({"error": text.decode(errors="replace")}) if text.startswith(_LAST_WORDS) else None

    def context(self, body: bytes) -> int | None:
        """Reads `/v2/models/{model}/config` of the business plane, and `/info` of the management plane."""
        try:
            value = value_of(body)
        except MalformedJson:
            return None
        if not isinstance(value, dict):
            return None
        models = value.get("models")
        first = models[0] if isinstance(models, list) and models and isinstance(models[0], dict) else {}
        lengths = (value.get("max_seq_len"), first.get("max_total_tokens"), value.get("max_input_length"))
        return next((length for length in lengths if type(length) is int and length > 0), None)


class _RoleOnce:
    """One stream, each choice of which says its role in its first event. MindIE repeats it in all of them, and OpenAI's Python client puts
    them together to `assistantassistant…`."""

    __slots__ = ("_normalise", "_said")

    def __init__(self, normalise: Normalise) -> None:
        self._normalise = normalise
        self._said: set[int] = set()

    def event(self, event: dict[str, Any], reasoning: str) -> dict[str, Any]:
        value = self._normalise(event, reasoning)
        choices = value.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            delta = choice.get("delta") if isinstance(choice, dict) else None
            if isinstance(delta, dict) and "role" in delta:
                index = choice.get("index")
                number = index if isinstance(index, int) else 0
                if number in self._said:
                    del delta["role"]
                self._said.add(number)
        return value


def _plain(usage: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in usage.items() if name not in _USAGE_TIMINGS}


def _out_of_range(fields: Fields) -> list[str]:
    """Values that OpenAI's other engines take for `off` and MindIE refuses with 422."""
    names = []
    if "top_k" in fields and rewrite.value(fields, "top_k") == 0:
        names += rewrite.drop(fields, "top_k")
    seed = rewrite.value(fields, "seed")
    if isinstance(seed, int) and seed < 0:
        names += rewrite.drop(fields, "seed")
    stop = rewrite.value(fields, "stop")
    if stop in ("", []):
        names += rewrite.drop(fields, "stop")
    elif isinstance(stop, list) and "" in stop:
        rest = [word for word in stop if word != ""]
        if rest:
            rewrite.put(fields, "stop", rest)
            names.append("stop")
        else:
            names += rewrite.drop(fields, "stop")
    return names


def _guided(fields: Fields) -> list[str]:
    """A schema becomes a `response_format` (3.0); for the rest MindIE has no words."""
    wants, taken = rewrite.take_outputs(fields)
    schema = wants.get("json")
    if schema is None or "response_format" in fields:
        return [f"-{name}" for name in taken]
    rewrite.put(fields, "response_format", rewrite.json_schema(schema))
    return [f"{name}>response_format" if name in ("guided_json", "structured_outputs") else f"-{name}" for name in taken]


def _tokens(body: bytes) -> Fields:
    """Errors: ValueError."""
    value = {name: value_of(raw) for name, raw in parse_object(body).items()}
    count, pieces = value.get("token_number"), value.get("tokens")
    if type(count) is not int or count < 0:
        raise ValueError("no `token_number` in the answer")
    return tokenized(count, [], pieces if isinstance(pieces, list) else None)

"""vLLM and vllm-ascend, 0.9 to 0.33."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from gateway.engine import rewrite
from gateway.engine.base import Fields, Planes
from gateway.engine.openai import PATHS, OpenAI, chat, listing

_GUIDED: Final = frozenset(f"guided_{kind}" for kind in (*rewrite.KINDS, rewrite.BACKEND))

_INTERNAL: Final = ("kv_transfer_params", "ec_transfer_params", "system_fingerprint")
"""Fields of answers that name hosts of a disaggregated deployment, or the engine and its version."""


class VLLM(OpenAI):
    """The engine nearest to what our callers expect."""

    name = "vllm"
    paths: Mapping[str, str] = {**PATHS, "score": "/v1/score"}
    planes = Planes(version="/version")
    continuous_usage = True
    continues = True
    answer_needs_room = True
    figures: ClassVar[Mapping[str, str]] = {
        "vllm:num_requests_running": "running",
        "vllm:num_requests_waiting": "waiting",
        "vllm:kv_cache_usage_perc": "kv_use",
        "vllm:gpu_cache_usage_perc": "kv_use",  # up to 0.11
        "vllm:prompt_tokens_total": "prompt_tokens",
        "vllm:generation_tokens_total": "generation_tokens",
    }

    def request(self, api: str, fields: Fields) -> list[str]:
        if api not in ("chat", "completions"):
            return []
        return rewrite.empty_tools(fields) + _guided(fields)

    def answer(self, api: str, body: bytes, reasoning: str, asked: Fields | None = None) -> Fields:
        fields = listing(api, body)
        if api == "chat":
            chat(fields, reasoning)
        for name in _INTERNAL:
            fields.pop(name, None)
        return fields

    def event(self, event: dict[str, Any], reasoning: str) -> dict[str, Any]:
        for name in _INTERNAL:
            event.pop(name, None)
        return event


def _guided(fields: Fields) -> list[str]:
    """`guided_*` is ignored without a word since 0.12. A schema becomes a `response_format`, which every version understands."""
    if _GUIDED.isdisjoint(fields):
        return []
    wants, taken = rewrite.take_guided(fields)
    schema = wants.pop("json", None)
    into = "structured_outputs"
    if schema is not None and not wants and "response_format" not in fields:
        into = "response_format"
        rewrite.put(fields, into, rewrite.json_schema(schema))
    elif schema is not None or wants:
        old = rewrite.value(fields, into)
        asked = wants if schema is None else {"json": schema, **wants}
        rewrite.put(fields, into, {**asked, **old} if isinstance(old, dict) else asked)
    return [f"{name}>{into}" if name.removeprefix("guided_") in rewrite.KINDS else f"-{name}" for name in taken]

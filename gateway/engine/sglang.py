"""SGLang 0.4 and 0.5."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from msgspec import Raw

from gateway.engine import rewrite
from gateway.engine.base import Fields, Planes
from gateway.engine.openai import PATHS, OpenAI, chat, listing, no_messages, own_event_id, own_id
from gateway.wire.openai import encode, value_of

_STOP: Final = "matched_stop"
_STOP_KEY: Final = b',"matched_stop":'
_scalar: Final = re.compile(rb' ?(?:null|-?[0-9]+|"(?:[^"\\]|\\.)*")', re.S)


class SGLang(OpenAI):
    """Does not check the model's name; writes nulls where OpenAI writes nothing."""

    name = "sglang"
    paths: Mapping[str, str] = {**PATHS, "score": "/v1/score", "tokenize": "/v1/tokenize"}
    planes = Planes(version="/server_info", health=None)  # its /health generates a token
    continuous_usage = True
    continues = True
    answer_needs_room = True
    figures: ClassVar[Mapping[str, str]] = {
        "sglang:num_running_reqs": "running",
        "sglang:num_queue_reqs": "waiting",
        "sglang:token_usage": "kv_use",
        "sglang:prompt_tokens_total": "prompt_tokens",
        "sglang:generation_tokens_total": "generation_tokens",
    }

    def request(self, api: str, fields: Fields) -> list[str]:
        if api == "tokenize" and "messages" in fields and "prompt" not in fields:
            raise no_messages()
        if api not in ("chat", "completions"):
            return []
        return rewrite.empty_tools(fields) + _guided(fields)

    def answer(self, api: str, body: bytes, reasoning: str, asked: Fields | None = None) -> Fields:
        if api == "rerank":
            return _rerank(body, asked or {})
        if api == "score" and b'"scores"' in body:  # its own form, for its own requests
            return value_fields(body)
        fields = listing(api, body)
        if api == "chat":
            chat(fields, reasoning)
        fields.pop("metadata", None)  # the engine's own affairs: which weights it has loaded
        if "choices" in fields:
            fields["choices"] = Raw(_without_stops(bytes(fields["choices"])))
        own_id(api, fields)
        return fields

    def event(self, event: dict[str, Any], reasoning: str) -> dict[str, Any]:
        own_event_id(event)
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, dict):
                continue
            choice.pop(_STOP, None)
            delta = choice.get("delta")
            if isinstance(delta, dict) and delta.get("tool_calls"):
                _without_nulls(delta)
        return event


def _without_stops(choices: bytes) -> bytes:
    """Choices without `matched_stop`, which no other engine has. Cut out as bytes: inside a JSON string its quotes would be escaped."""
    at = choices.find(_STOP_KEY)
    while at >= 0:
        value = _scalar.match(choices, at + len(_STOP_KEY))
        if value is None:
            break
        choices = choices[:at] + choices[value.end() :]
        at = choices.find(_STOP_KEY, at)
    return choices


def _without_nulls(delta: dict[str, Any]) -> None:
    """Later chunks of a tool call repeat `id`, `type`, `name` and `role` as null, on which strict clients trip."""
    if delta.get("role", "") is None:
        del delta["role"]
    calls = delta["tool_calls"]
    for call in calls if isinstance(calls, list) else ():
        for where in (call, call.get("function") if isinstance(call, dict) else None):
            for name in ("id", "type", "name", "arguments"):
                if isinstance(where, dict) and where.get(name, "") is None:
                    del where[name]


def _guided(fields: Fields) -> list[str]:
    """vLLM's words for guided output in SGLang's: response_format, regex, ebnf."""
    wants, taken = rewrite.take_outputs(fields)
    if not taken:
        return []
    asked: dict[str, Any] = {}
    if wants.get("json") is not None:
        asked["response_format"] = rewrite.json_schema(wants["json"])
    elif wants.get("json_object"):
        asked["response_format"] = {"type": "json_object"}
    if (pattern := wants.get("regex") or rewrite.any_of(wants.get("choice"))) is not None:
        asked["regex"] = pattern
    if wants.get("grammar") is not None:
        asked["ebnf"] = wants["grammar"]
    for name, value in asked.items():
        if name not in fields:
            rewrite.put(fields, name, value)
    into = "+".join(asked)
    return [f"{name}>{into}" if into else f"-{name}" for name in taken]


def _rerank(body: bytes, asked: Fields) -> Fields:
    """A bare list of all documents, whatever `top_n` says (until 0.5.4); our callers see vLLM's form. Errors: ValueError."""
    items = value_of(body)
    if not isinstance(items, list) or not all(isinstance(item, dict) and "score" in item for item in items):
        raise ValueError("no list of scores in the answer")
    results, tokens, id = [], 0, ""
    for place, item in enumerate(items):
        result: dict[str, Any] = {"index": item.get("index", place)}
        if item.get("document") is not None:
            document = item["document"]
            result["document"] = document if isinstance(document, dict) else {"text": document}
        results.append({**result, "relevance_score": item["score"]})
        meta = item["meta_info"] if isinstance(item.get("meta_info"), dict) else {}
        count = meta.get("prompt_tokens")
        tokens += count if type(count) is int and count > 0 else 0
        id = id or str(meta.get("id") or "")
    most = rewrite.value(asked, "top_n")
    if type(most) is int and most > 0:
        results = results[:most]  # they come best first
    answer: dict[str, Any] = {"id": f"rerank-{id}", "model": "", "results": results}
    if tokens:
        answer["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {name: Raw(encode(value)) for name, value in answer.items()}


def value_fields(body: bytes) -> Fields:
    """A JSON object as it is. Errors: ValueError."""
    value = value_of(body)
    if not isinstance(value, dict):
        raise ValueError("no object in the answer")
    return {name: Raw(encode(part)) for name, part in value.items()}

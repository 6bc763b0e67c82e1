"""Asking another engine to go on with an answer that one broke off: which requests allow it, and what is asked. Pure.

Not with tools, grammars, log probabilities or several choices: their state is more than the text, and that is all we have.
"""

from typing import Final

from msgspec import Raw

from gateway.engine import rewrite
from gateway.engine.base import Fields
from gateway.wire.openai import encode, number_of

_NOT_WITH: Final = frozenset(
    (
        "tools", "functions", "response_format", "structured_outputs", "structural_tag", "regex", "ebnf", "json_schema", "logprobs",
        "top_logprobs", "prompt_logprobs", "n", "best_of", "use_beam_search", "echo", "suffix", "include_stop_str_in_output",
        "return_token_ids", "continue_final_message", "prompt_embeds",
    )
)  # fmt: skip
_HARMLESS: Final = frozenset((b"null", b"false", b"0", b"[]", b'""', b'{"type":"text"}', b'{"type": "text"}'))
_ONE: Final = ("n", "best_of")
_LIMITS: Final = ("max_completion_tokens", "max_tokens")

MOST: Final = 1 << 40
"""A limit of so many tokens is none."""
STOPS_MOST: Final = 32
STOP_LONGEST: Final = 256
"""Stop strings whose beginnings are looked for at the end of each event, and their characters: a bound on what that costs."""
COMPLETION_TOKENS: Final = 16
"""What the completions API generates unless told otherwise."""


def may_continue(api: str, fields: Fields) -> bool:
    """Whether an answer to this request is one plain text. What the messages hold is looked at when it comes to it."""
    for name in _NOT_WITH.intersection(fields):
        value = bytes(fields[name]).strip()
        if value not in _HARMLESS and not (name in _ONE and value == b"1"):
            return False
    if api == "completions" and not bytes(fields.get("prompt", b"")).lstrip().startswith(b'"'):
        return False  # several prompts have an answer each, and the end of one is not the end of all
    return api in ("chat", "completions") and not any(name.startswith("guided_") for name in fields)


def limit_of(api: str, fields: Fields) -> int | None:
    """Tokens that the caller wants at most; None = as many as there is room for."""
    for name in _LIMITS:
        limit = number_of(fields[name]) if name in fields else None
        if limit is not None and 1 <= limit < MOST:
            return int(limit)
    return COMPLETION_TOKENS if api == "completions" else None


def stops_of(fields: Fields) -> list[str]:
    """The texts that end the answer; of very many, or very long ones, only those that are cheap to look for."""
    value = rewrite.value(fields, "stop") if "stop" in fields else None
    given = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return [stop for stop in given[:STOPS_MOST] if isinstance(stop, str) and len(stop) <= STOP_LONGEST]


def continued(api: str, fields: Fields, text: str, spent: int) -> Fields | None:
    """The request for the rest of an answer: `text` of `spent` tokens is there. None when these messages do not allow it."""
    fields = dict(fields)
    if api == "chat":
        messages = rewrite.value(fields, "messages")
        last = messages[-1] if isinstance(messages, list) and messages else None
        if not isinstance(last, dict) or last.get("role") == "assistant":
            return None
        given = bytes(fields["messages"]).rstrip()
        fields["messages"] = Raw(given[:-1] + b"," + encode({"role": "assistant", "content": text}) + b"]")
        rewrite.put(fields, "continue_final_message", True)
        rewrite.put(fields, "add_generation_prompt", False)
    else:
        prompt = rewrite.value(fields, "prompt")
        if not isinstance(prompt, str):
            return None
        rewrite.put(fields, "prompt", prompt + text)
    limit = limit_of(api, fields)
    if limit is not None:
        for name in [name for name in _LIMITS if name in fields] or ["max_tokens"]:
            rewrite.put(fields, name, max(1, limit - spent))
    least = number_of(fields["min_tokens"]) if "min_tokens" in fields else None
    if least is not None and least < MOST:
        rewrite.put(fields, "min_tokens", max(0, int(least) - spent))
    return fields

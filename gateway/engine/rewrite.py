"""Request rewrites that more than one dialect makes. Each returns the names of what it changed, for the record."""

import re
from typing import Any, Final

from msgspec import Raw

from gateway.engine.base import Fields
from gateway.wire.openai import MalformedJson, encode, value_of

GUIDED: Final = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")
"""What vLLM's `structured_outputs` and its former `guided_*` parameters can ask for."""

KINDS: Final = frozenset((*GUIDED, "whitespace_pattern"))
"""The same, and what goes beside one of them."""


BACKEND: Final = "decoding_backend"
"""What `guided_*` could say besides: by what means, which no engine asks any more."""


def value(fields: Fields, name: str) -> Any:
    """A field's value; None when it is missing or cannot be read."""
    raw = fields.get(name)
    try:
        return None if raw is None else value_of(raw)
    except MalformedJson:
        return None


def put(fields: Fields, name: str, value: object) -> None:
    fields[name] = Raw(encode(value))


def drop(fields: Fields, name: str) -> list[str]:
    return [] if fields.pop(name, None) is None else [f"-{name}"]


def rename(fields: Fields, old: str, new: str) -> list[str]:
    """`null` counts as missing."""
    raw = fields.pop(old, None)
    if raw is None:
        return []
    if bytes(raw) == b"null":
        return [f"-{old}"]
    fields[new] = raw
    return [f"{old}>{new}"]


def empty_tools(fields: Fields) -> list[str]:
    """`tools: []` means no tools, but engines refuse it; so they do a `tool_choice` without tools."""
    if "tools" not in fields or value(fields, "tools") != []:
        return []
    names = drop(fields, "tools")
    return names + drop(fields, "tool_choice") if value(fields, "tool_choice") in ("auto", "none", None) else names


def one_prompt(fields: Fields) -> list[str]:
    """A list of one text is that text. Many libraries always send a list."""
    prompts = value(fields, "prompt") if "prompt" in fields else None
    if not isinstance(prompts, list) or len(prompts) != 1 or not isinstance(prompts[0], str):
        return []
    put(fields, "prompt", prompts[0])
    return ["prompt"]


def take_guided(fields: Fields) -> tuple[dict[str, Any], list[str]]:
    """Takes vLLM's former `guided_*` out of a request: (what they ask, by the words of GUIDED; the names of the fields taken).

    The names go into the record, so those that callers make up are one.
    """
    wants: dict[str, Any] = {}
    taken: dict[str, None] = {}
    for name in [name for name in fields if name.startswith("guided_")]:
        kind = name.removeprefix("guided_")
        asked = value(fields, name) if kind in KINDS else None
        del fields[name]
        taken[name if kind in KINDS or kind == BACKEND else "guided_*"] = None
        if asked is not None:
            wants[kind] = asked
    if isinstance(wants.get("json"), str):
        wants["json"] = _schema(wants["json"])
    return wants, list(taken)


def take_outputs(fields: Fields) -> tuple[dict[str, Any], list[str]]:
    """The same, and vLLM's present word for it, `structured_outputs`, for engines that know neither."""
    wants, taken = take_guided(fields)
    outputs = value(fields, "structured_outputs")
    if isinstance(outputs, dict):
        del fields["structured_outputs"]
        wants = {**wants, **outputs}
        taken.append("structured_outputs")
    return wants, taken


def _schema(text: str) -> Any:
    """`guided_json` may be a schema's text."""
    try:
        return value_of(text.encode())
    except (MalformedJson, UnicodeEncodeError):
        return text


def json_schema(schema: Any) -> dict[str, Any]:
    """A `response_format` that every engine understands."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def any_of(choices: Any) -> str | None:
    """A regular expression for a list of choices."""
    if not isinstance(choices, list) or not choices:
        return None
    return "(" + "|".join(re.escape(str(choice)) for choice in choices) + ")"


_escaped_letter: Final = re.compile(rb"\\u00[67][0-9a-fA-F]")
"""A plain letter as JSON's escape, which nobody needs and a parser takes for the letter."""


def roles(fields: Fields, old: str, new: str) -> list[str]:
    """Renames the role of messages. Requests that cannot have it are not parsed."""
    raw = fields.get("messages")
    if raw is None or not (old.encode() in bytes(raw) or _escaped_letter.search(bytes(raw))):
        return []
    messages = value(fields, "messages")
    found = (
        [message for message in messages if isinstance(message, dict) and message.get("role") == old] if isinstance(messages, list) else []
    )
    if not found:
        return []
    for message in found:
        message["role"] = new
    put(fields, "messages", messages)
    return [f"role:{old}>{new}"]

"""What a request says: the text of its messages, how many tokens that is, and which tools it offers. Pure."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gateway.simulate import tokens
from gateway.simulate.settings import Reasoning

Json = object
Body = Mapping[str, Json]

TOKENS_PER_MESSAGE = 3
TOKENS_PER_MEDIUM = 64


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    parameters: Json


@dataclass(frozen=True, slots=True)
class Ask:
    """One inference request as the model sees it; every dialect reduces its own request to this."""

    text: str
    prompt_tokens: int
    max_tokens: int
    n: int = 1
    ignore_eos: bool = False
    reasoning: Reasoning = ""
    tools: tuple[Tool, ...] = field(default=())
    call_forced: bool = False
    json_schema: Json = None
    """None: free text; otherwise the reply is JSON of this schema ({} for any object)."""
    begun: str = ""
    """The reply's beginning, which was given with the request: what is generated comes after it."""
    stop: tuple[str, ...] = ()
    """Texts that end the reply where they would come; they are no part of it."""


def text_of(content: Json) -> str:
    """The text of a message's content: a string, or the text parts of a list joined."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, dict))
        return "".join(part for part in parts if isinstance(part, str))
    return ""


def last_user_text(messages: Json) -> str:
    for message in reversed(_dicts(messages)):
        if message.get("role") == "user":
            return text_of(message.get("content"))
    return ""


def begun_by(body: Body) -> str:
    """The assistant's message that a chat is to go on with (`continue_final_message`). Chat templates trim it."""
    messages = _dicts(body.get("messages"))
    if body.get("continue_final_message") is not True or not messages or messages[-1].get("role") != "assistant":
        return ""
    return text_of(messages[-1].get("content")).rstrip()


ANSWER_MARK = "<|assistant|>"


def marked(prompt: str) -> tuple[str, str]:
    """A completion's prompt that says where the answer begins, as raw chats do: (all before the answer, the answer so far)."""
    before, mark, begun = prompt.partition(ANSWER_MARK)
    return before + mark, begun


def chat_tokens(messages: Json, tools: Json = None) -> int:
    """Prompt tokens of a chat: its texts, a few for each message's frame, and the tools as JSON."""
    total = 0
    for message in _dicts(messages):
        total += TOKENS_PER_MESSAGE + tokens.count(text_of(message.get("content")))
        content = message.get("content")
        if isinstance(content, list):
            total += TOKENS_PER_MEDIUM * sum(1 for part in _dicts(content) if part.get("type") not in ("text", None))
    return total + (tokens.count(json.dumps(tools)) if tools else 0)


def tools_of(body: Body) -> tuple[tuple[Tool, ...], bool]:
    """The tools that may be called after `tool_choice`, and whether one must be. Of who has a tool's result none need be: an agent
    that runs what is called, and asks again, would come to no end."""
    offered = []
    for item in _dicts(body.get("tools")):
        function = item.get("function")
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            offered.append(Tool(function["name"], function.get("parameters")))
    choice = body.get("tool_choice")
    if choice == "none":
        return (), False
    if isinstance(choice, dict):
        wanted = choice.get("function")
        name = wanted.get("name") if isinstance(wanted, dict) else None
        return tuple(tool for tool in offered if tool.name == name), True
    forced = choice == "required"
    return () if not forced and _has_result(body) else tuple(offered), forced


def _has_result(body: Body) -> bool:
    messages = _dicts(body.get("messages"))
    return bool(messages) and messages[-1].get("role") in ("tool", "function")


def schema_of(body: Body) -> Json:
    """What `response_format` asks for: None for text, {} for any object, or the JSON schema."""
    wanted = body.get("response_format")
    if not isinstance(wanted, dict):
        return None
    if wanted.get("type") == "json_object":
        return {}
    if wanted.get("type") == "json_schema":
        outer = wanted.get("json_schema")
        return (outer.get("schema") or {}) if isinstance(outer, dict) else {}
    return None


def stops_of(body: Body) -> tuple[str, ...]:
    """`stop`: one text or several."""
    wanted = body.get("stop")
    texts = wanted if isinstance(wanted, list) else [wanted]
    return tuple(text for text in texts if isinstance(text, str) and text)


def thinking_off(body: Body) -> bool:
    """`chat_template_kwargs: {enable_thinking: false}`, the switch of the Qwen3 chat template."""
    extra = body.get("chat_template_kwargs")
    return isinstance(extra, dict) and extra.get("enable_thinking") is False


def prompts_of(prompt: Json) -> list[str | list[int]]:
    """The prompts of a completion or the inputs of an embedding: one or many, as text or as token ids."""
    if isinstance(prompt, str):
        return [prompt]
    if not isinstance(prompt, list):
        return []
    alone = _ids(prompt)
    if alone:
        return [alone]
    return [item if isinstance(item, str) else _ids(item) for item in prompt if isinstance(item, str | list)]


def _ids(items: list[Json]) -> list[int]:
    """A list of token ids; empty when it is something else."""
    found = [item for item in items if isinstance(item, int)]
    return found if len(found) == len(items) else []


def _dicts(value: Json) -> list[dict[str, Json]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, Iterable) else []

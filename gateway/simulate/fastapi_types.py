"""Which types pydantic refuses in a request to vLLM or SGLang. As lax as it is: a number may be text, a flag may be 0 or 1."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from gateway.simulate.prompt import Json

Mistake = tuple[str, str, str]
"""(pydantic's kind, place, pydantic's words)."""

_FLAGS: Final = frozenset("0 1 on off t f true false y n yes no".split())


def _integer(value: Json) -> bool:
    if isinstance(value, str):
        return value.strip().lstrip("+-").isdecimal()
    return isinstance(value, int) or (isinstance(value, float) and value.is_integer())


def _number(value: Json) -> bool:
    if not isinstance(value, str):
        return isinstance(value, int | float)
    try:
        float(value)
    except ValueError:
        return False
    return True


def _flag(value: Json) -> bool:
    return value in (0, 1) if isinstance(value, int | float) else isinstance(value, str) and value.lower() in _FLAGS


_KINDS: Final[dict[str, tuple[Callable[[Json], bool], str]]] = {
    "int_type": (_integer, "Input should be a valid integer"),
    "float_type": (_number, "Input should be a valid number"),
    "bool_type": (_flag, "Input should be a valid boolean"),
    "string_type": (lambda value: isinstance(value, str), "Input should be a valid string"),
    "list_type": (lambda value: isinstance(value, list), "Input should be a valid list"),
    "dict_type": (lambda value: isinstance(value, dict), "Input should be a valid dictionary"),
}
_FIELDS: Final = {
    "model": "string_type",
    "user": "string_type",
    "stream": "bool_type",
    "ignore_eos": "bool_type",
    "parallel_tool_calls": "bool_type",
    "max_tokens": "int_type",
    "max_completion_tokens": "int_type",
    "n": "int_type",
    "seed": "int_type",
    "top_k": "int_type",
    "top_logprobs": "int_type",
    "temperature": "float_type",
    "top_p": "float_type",
    "min_p": "float_type",
    "frequency_penalty": "float_type",
    "presence_penalty": "float_type",
    "repetition_penalty": "float_type",
    "tools": "list_type",
    "stop_token_ids": "list_type",
    "documents": "list_type",
    "stream_options": "dict_type",
    "response_format": "dict_type",
    "logit_bias": "dict_type",
    "chat_template_kwargs": "dict_type",
}


def mistakes(body: Mapping[str, Json]) -> Iterator[Mistake]:
    """What is of a wrong type, in no particular order. Null is as good as nothing."""
    for name, kind in _FIELDS.items():
        value = body.get(name)
        if value is not None and not _is(kind, value):
            yield kind, f"body.{name}", _KINDS[kind][1]
    yield from _either(body, "stop", (str, list))
    yield from _either(body, "tool_choice", (str, dict))
    yield from _either(body, "prompt", (str, list))
    yield from _either(body, "input", (str, list, dict))
    yield from _messages(body)
    yield from _tools(body)


def _is(kind: str, value: Json) -> bool:
    return _KINDS[kind][0](value)


def _either(body: Mapping[str, Json], name: str, types: tuple[type, ...]) -> Iterator[Mistake]:
    if body.get(name) is not None and not isinstance(body[name], types):
        yield "string_type", f"body.{name}.str", _KINDS["string_type"][1]


def _messages(body: Mapping[str, Json]) -> Iterator[Mistake]:
    if "messages" not in body:
        return
    messages = body["messages"]
    if not isinstance(messages, list):
        yield "list_type", "body.messages", _KINDS["list_type"][1]
        return
    for number, message in enumerate(messages):
        where = f"body.messages.{number}"
        if not isinstance(message, dict):
            yield "dict_type", where, _KINDS["dict_type"][1]
        elif not isinstance(message.get("role"), str):
            yield ("string_type" if "role" in message else "missing"), f"{where}.role", _role(message)
        elif not isinstance(message.get("content"), str | list | None):
            yield "string_type", f"{where}.content", _KINDS["string_type"][1]


def _role(message: Mapping[str, Json]) -> str:
    return _KINDS["string_type"][1] if "role" in message else "Field required"


def _tools(body: Mapping[str, Json]) -> Iterator[Mistake]:
    tools = body.get("tools")
    for number, tool in enumerate(tools if isinstance(tools, list) else ()):
        where = f"body.tools.{number}"
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(tool, dict):
            yield "dict_type", where, _KINDS["dict_type"][1]
        elif not isinstance(function, dict):
            yield ("dict_type" if "function" in tool else "missing"), f"{where}.function", "Field required"
        elif not isinstance(function.get("name"), str):
            yield ("string_type" if "name" in function else "missing"), f"{where}.function.name", "Field required"

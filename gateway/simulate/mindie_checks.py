"""What MindIE-LLM refuses with 422, and in which words. Ranges are those of `openAiSupport: vllm`.

Texts marked (M) are not recorded in the engine's source; their status and error_type are.
"""

import re
from collections.abc import Callable, Mapping

from gateway.simulate.prompt import Json

Object = Mapping[str, Json]
EMPTY_MESSAGES = "Messages token length must be in (0, 1048576], but got 0. This could be caused by invalid input format or empty content."
INT_MAX = 2_147_483_647
FLT_MAX = "3.40282e+38"
TOOL_NAME = re.compile(r"[a-zA-Z0-9_\u4e00-\u9fa5-]{1,64}")
ROLES = ("system", "assistant", "user", "tool")
_TYPES: tuple[tuple[str, str], ...] = (
    ("stream", "boolean"),
    ("max_tokens", "integer"),
    ("temperature", "float"),
    ("top_p", "float"),
    ("top_k", "integer"),
    ("seed", "unsigned"),
    ("repetition_penalty", "float"),
    ("frequency_penalty", "float"),
    ("presence_penalty", "float"),
    ("n", "unsigned"),
    ("ignore_eos", "boolean"),
    ("top_logprobs", "integer"),
)
_IS: dict[str, Callable[[Json], bool]] = {
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "unsigned": lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0,
    "float": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
}
_RANGES: tuple[tuple[str, Callable[[float], bool], str], ...] = (
    ("max_tokens", lambda v: 0 < v <= INT_MAX, f"Parameter max_tokens must be (0,{INT_MAX}], got {{}}"),
    ("temperature", lambda v: v >= 0, f"Parameter temperature must be in (0.0,{FLT_MAX}], got {{}}."),
    ("top_p", lambda v: 0 < v <= 1, "Parameter top_p must be in (0.0,1.0], got {}."),
    ("top_k", lambda v: v == -1 or 0 < v <= INT_MAX, f"Parameter top_k must be in -1 || (0,{INT_MAX}], got {{}}"),
    ("repetition_penalty", lambda v: 0 < v <= 2, "Parameter 'repetition_penalty' must be in (0.0, 2], got {}."),
    ("frequency_penalty", lambda v: -2 <= v <= 2, "Parameter frequency_penalty not in [-2.0, 2.0], but got {}."),
    ("presence_penalty", lambda v: -2 <= v <= 2, "Parameter presence_penalty not in [-2.0, 2.0], but got {}."),
    ("top_logprobs", lambda v: 0 <= v <= 20, "Parameter top logprobs must be in [0, 20], got {}."),
    ("n", lambda v: 1 <= v <= 128, "Parameter n must be in [1,128], got {}"),  # (M)
)


def parameters(body: Object) -> str | None:
    """The first mistake in the sampling parameters, as the engine words it; None: all is well."""
    for name, kind in _TYPES:
        if body.get(name) is not None and not _IS[kind](body[name]):
            return f"{name} must be {kind} type."
    for name, fits, text in _RANGES:
        value = body.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and not fits(value):
            return text.format(value)
    return _stop(body) or _choices(body)


def chat(body: Object) -> str | None:
    """The first mistake in messages and tools."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return EMPTY_MESSAGES
    for message in messages:
        mistake = _message(message, with_tools=bool(body.get("tools")))
        if mistake:
            return mistake
    choice = body.get("tool_choice")
    if isinstance(choice, str) and choice not in ("none", "auto", "required"):
        return "Parameter tool_choice string not in [none, auto, required]"
    if choice is not None and not isinstance(choice, str | dict):
        return "tool_choice must be string type."  # (M)
    return _tools(body.get("tools"))


def _tools(tools: Json) -> str | None:
    if tools is None:
        return None
    if not isinstance(tools, list) or not tools:
        return "tools must be array type."  # (M)
    for tool in tools:
        function = tool.get("function") if isinstance(tool, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(name, str) or not TOOL_NAME.fullmatch(name):
            return "Request param contains tool function name invalid"  # (M)
    return None


def _message(message: Json, *, with_tools: bool) -> str | None:
    if not isinstance(message, dict):
        return EMPTY_MESSAGES
    role, content = message.get("role"), message.get("content")
    if with_tools and role not in ROLES:
        return "Request param contains role must be system, assistant, user or tool"
    if content is None and role != "assistant":
        return "Request param contains not content or content null"
    if with_tools and role != "assistant" and content in ("", []):
        return "Request param content len should not be 0"
    if role == "tool" and not message.get("tool_call_id"):
        return "Request param contains tool_call_id null or empty"  # (M)
    return None


def _stop(body: Object) -> str | None:
    stop = body.get("stop")
    if stop is not None and not isinstance(stop, str | list):
        return "stop must be string type."  # (M)
    texts = [stop] if isinstance(stop, str) else stop if isinstance(stop, list) else []
    if any(not isinstance(text, str) or not 1 <= len(text) <= 1024 for text in texts):
        return "Parameter stop string length must be in [1, 1024]"  # (M)
    return None


def _choices(body: Object) -> str | None:
    many = body.get("n", body.get("best_of"))
    if not isinstance(many, int) or many <= 1:
        return None
    model = body.get("model")
    if isinstance(model, str) and "deepseek" in model.lower():
        return "best_of/n > 1 cannot be used with deepseek"
    temperature = body.get("temperature")
    if not isinstance(temperature, int | float) or temperature <= 0:
        return "best_of/n > 1 needs temperature greater than 0"  # (M)
    return None

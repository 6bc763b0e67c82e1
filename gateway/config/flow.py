"""Plain data as YAML in one line that reads back as itself. Pure."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.config.scalars import plain

Scalar = str | int | float | bool | None
_bare = re.compile(r"[A-Za-z0-9_/][A-Za-z0-9_./-]*\Z")
_escaped = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""What no YAML file holds as it is, and JSON does."""


def flow(value: Any) -> str:
    """`{id: k7f3, models: ["qwen*"]}`."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(str(word))}: {flow(item)}" for word, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(flow, value)) + "]"
    return scalar(value)


def literal(value: Any) -> Any:
    """The same, for a file in which `${…}` would refer to something: there it is text."""
    if isinstance(value, Mapping):
        return {word: literal(item) for word, item in value.items()}
    if isinstance(value, str):
        return value.replace("${", "$${")
    return [literal(item) for item in value] if isinstance(value, Sequence) else value


def scalar(value: Scalar) -> str:
    """One value. Text is quoted where it would read as something else."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int | float):
        return str(value)
    if _bare.match(value) and isinstance(plain(value), str):
        return value
    return _escaped.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))

"""Plain data as YAML in one line that reads back as itself. Pure."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.config.scalars import plain

Scalar = str | int | float | bool
_bare = re.compile(r"[A-Za-z0-9_/][A-Za-z0-9_./-]*\Z")


def flow(value: Any) -> str:
    """`{id: k7f3, models: ["qwen*"]}`."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(str(word))}: {flow(item)}" for word, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(flow, value)) + "]"
    return scalar(value)


def scalar(value: Scalar) -> str:
    """One value. Text is quoted where it would read as something else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return value if _bare.match(value) and isinstance(plain(value), str) else json.dumps(value, ensure_ascii=False)

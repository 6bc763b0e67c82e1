"""The reference of all words as Markdown tables, from the schema: the last part of docs/configuration.md.

`python -m gateway.config.reference` prints it.
"""

import json
from typing import Any

from gateway.config.explain import default_of
from gateway.config.tree import inner, type_text, words


def reference() -> str:
    """One table for each group of words, in the order of the schema."""
    parts = [_table("", "The top of the file")]
    for path, info in words().items():
        step, model = inner(info.annotation)
        if model is not None and model.model_fields:
            parts.append(_table(f"{path}{step}.", f"`{path}{step}`"))
    return "\n".join(parts)


def _table(prefix: str, title: str) -> str:
    rows = [f"### {title}\n", "| word | type | default | meaning | example |", "|---|---|---|---|---|"]
    depth = prefix.count(".")
    for path, info in words().items():
        if path.startswith(prefix) and path.count(".") == depth:
            kind = type_text(info.annotation).replace("|", "\\|")
            default = "required" if info.is_required() else _code(default_of(info))
            example = _code(info.examples[0] if info.examples else None)
            rows.append(f"| `{path}` | {kind} | {default} | {(info.description or '').replace('|', chr(92) + '|')} | {example} |")
    return "\n".join(rows) + "\n"


def _code(value: Any) -> str:
    if value is None:
        return ""
    return f"`{flow(value)}`".replace("|", "\\|")


def flow(value: Any) -> str:
    """A value as YAML in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {flow(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and any(sign in value for sign in ":*${}[],#"):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


if __name__ == "__main__":
    print(reference(), end="")

"""Cutting into the text of one YAML file by its marks, so that comments and order stay. Pure: text in, text out."""

import json
import re
from pathlib import Path
from typing import Any, Final

import yaml

from gateway.config.compose import BadFile, compose, empty, is_null, position
from gateway.config.key_lines import KeyLine
from gateway.config.resolved import Key
from gateway.config.scalars import plain
from gateway.errors import ConfigError, Mistake

Scalar = str | int | float | bool
_bare = re.compile(r"[A-Za-z0-9_/][A-Za-z0-9_./-]*\Z")
_step = re.compile(r"\[(\d+)\]")
_INDENT: Final = "  "


def refused(path: Path, message: str, hint: str | None = None, node: yaml.Node | None = None) -> ConfigError:
    """The error that says why a file cannot be edited."""
    line, column = position(node) if node else (0, 0)
    return ConfigError([Mistake(str(path), line, column, "", message, hint)])


def tree(text: str, path: Path) -> yaml.MappingNode:
    """The top-level mapping. Raises ConfigError when the text does not parse, or is one `{ }` that lines cannot be added to."""
    try:
        node = compose(path, text)
    except BadFile as bad:
        raise ConfigError([Mistake(str(path), bad.line, bad.column, "", bad.message, bad.hint)]) from None
    if node is None:
        return empty(path, text)
    if not isinstance(node, yaml.MappingNode) or node.flow_style:
        raise refused(path, "cannot be edited by command: it is not a list of `word: value` lines", "edit it by hand")
    return node


def data(node: yaml.Node) -> Any:
    """A tree as nested raw text, to compare what an edit changed."""
    if isinstance(node, KeyLine):
        return node.raw()
    if isinstance(node, yaml.MappingNode):
        return {key.value: data(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [data(item) for item in node.value]
    return (node.value, isinstance(node, yaml.ScalarNode) and not node.style and not isinstance(plain(node.value), str))


def scalar(value: Scalar) -> str:
    """A value as YAML that reads back as itself."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return value if _bare.match(value) and isinstance(plain(value), str) else json.dumps(value, ensure_ascii=False)


def key_text(key: Key, label: str | None = None) -> str:
    """A key as one line of YAML."""
    models = ", ".join(json.dumps(model) for model in key.access.models.allow)
    note = f", label: {scalar(label)}" if label else ""
    hash = f"sha256:{key.digest.hex()}"
    return (
        f'{{id: {scalar(key.id)}, hash: "{hash}", tenant: {scalar(key.tenant)}, project: {scalar(key.project)}, models: [{models}]{note}}}'
    )


def section(root: yaml.MappingNode, name: str) -> tuple[yaml.Node, yaml.Node] | None:
    return next(((key, value) for key, value in root.value if key.value == name), None)


def end_of(node: yaml.Node) -> int:
    """Where a node's own text ends, comments and blank lines after it left out."""
    if isinstance(node, yaml.MappingNode) and not node.flow_style and node.value:
        key, value = node.value[-1]
        colon: int = key.end_mark.index + 1
        return max(end_of(value), colon)
    if isinstance(node, yaml.SequenceNode) and not node.flow_style and node.value:
        return end_of(node.value[-1])
    return node.end_mark.index


def add_key(text: str, root: yaml.MappingNode, path: Path, item: str) -> str:
    """`text` with one more item in `keys`, in the style that is there."""
    newline = "\r\n" if "\r\n" in text else "\n"
    found = section(root, "keys")
    if found is None:
        front = text if not text or text.endswith("\n") else text + newline
        return f"{front}keys:{newline}{_INDENT}- {item}{newline}"
    key, value = found
    if isinstance(value, yaml.SequenceNode) and value.value:
        last = value.value[-1]
        if not value.flow_style:
            at = _line_end(text, end_of(last))
            return _lines_in(text, at, f"{' ' * value.start_mark.column}- {item}", newline)
        at = end_of(last)
        comma = re.match(r"\s*,", text[at:])
        at += comma.end() if comma else 0
        return f"{text[:at]}{'' if comma else ','} {item}{text[at:]}"
    if isinstance(value, yaml.SequenceNode):
        text = text[: key.end_mark.index + 1] + text[value.end_mark.index :]
    elif not is_null(value):
        raise refused(path, "`keys` is not a list", None, value)
    elif value.value:
        text = text[: value.start_mark.index] + text[value.end_mark.index :]
    at = _after_comments(text, _line_end(text, key.end_mark.index))
    return _lines_in(text, at, f"{_INDENT}- {item}", newline)


def remove_key(text: str, root: yaml.MappingNode, path: Path, id: str) -> str:
    """`text` without the key of that id. Comments stay. Raises ConfigError when there is none."""
    found = section(root, "keys")
    items = found[1].value if found and isinstance(found[1], yaml.SequenceNode) else []
    number = next((n for n, item in enumerate(items) if _id(item) == id), None)
    if found is None or number is None:
        raise refused(path, f'there is no key "{id}" in this file')
    key, value = found
    if isinstance(value, yaml.SequenceNode) and not value.flow_style:
        start = text.rfind("\n", 0, items[number].start_mark.index) + 1
        stop = min(len(text), _line_end(text, end_of(items[number])) + 1)
        text = text[:start] + text[stop:]
        colon = key.end_mark.index + 1
        return text if len(items) > 1 else f"{text[:colon]} []{text[colon:]}"
    if number + 1 < len(items):
        return text[: items[number].start_mark.index] + text[items[number + 1].start_mark.index :]
    start = end_of(items[number - 1]) if number else items[0].start_mark.index
    stop = end_of(items[number])
    comma = re.match(r"\s*,", text[stop:]) if not number else None
    return text[:start] + text[stop + (comma.end() if comma else 0) :]


def _id(item: yaml.Node) -> str | None:
    return next((value.value for key, value in item.value if key.value == "id"), None) if isinstance(item, yaml.MappingNode) else None


def set_scalar(text: str, root: yaml.MappingNode, path: Path, dotted: str, value: Scalar) -> str:
    """`text` with the value at `dotted` (`models.qwen.targets[0].weight`) replaced, or added where its group exists."""
    node, key, rest = _walk(root, dotted)
    new = scalar(value)
    newline = "\r\n" if "\r\n" in text else "\n"
    if not rest:
        if key is None or not isinstance(node, yaml.ScalarNode):
            raise refused(path, f"{dotted} is a group, not a single value", None, node)
        return _replaced(text, key, node, new)
    if key is not None and isinstance(node, yaml.ScalarNode) and is_null(node):
        return _replaced(text, key, node, _nested(rest, new))
    if not isinstance(node, yaml.MappingNode) or "[" in rest:
        raise refused(path, f"there is no place for {dotted}", None, node)
    if node.flow_style:
        at = end_of(node.value[-1][1]) if node.value else node.start_mark.index + 1
        inner = _nested(rest, new)[1:-1]
        return f"{text[:at]}{', ' if node.value else ''}{inner}{text[at:]}"
    column = node.value[0][0].start_mark.column if node.value else 0
    at = _line_end(text, end_of(node)) if node.value else len(text)
    return _lines_in(text, at, _block(rest, new, column, newline), newline)


def _walk(root: yaml.Node, dotted: str) -> tuple[yaml.Node, yaml.Node | None, str]:
    """As far as `dotted` leads: (node, its key, the rest). Names may hold dots: the longest that fits is taken."""
    node, key, rest = root, None, dotted
    while rest:
        if isinstance(node, yaml.SequenceNode) and (index := _step.match(rest)) and int(index[1]) < len(node.value):
            node = key = node.value[int(index[1])]
            rest = rest[index.end() :].removeprefix(".")
            continue
        fits = (
            [p for p in node.value if rest == p[0].value or rest.startswith((p[0].value + ".", p[0].value + "["))]
            if isinstance(node, yaml.MappingNode)
            else []
        )
        if not fits:
            break
        key, node = max(fits, key=lambda pair: len(pair[0].value))
        rest = rest[len(key.value) :].removeprefix(".")
    return node, key, rest


def _replaced(text: str, key: yaml.Node, node: yaml.ScalarNode, new: str) -> str:
    start, stop = node.start_mark.index, node.end_mark.index
    if node.style in ("|", ">"):
        new += "\n"
    if start == stop:
        start = stop = key.end_mark.index + 1
        new = " " + new
    return text[:start] + new + text[stop:]


def _nested(rest: str, new: str) -> str:
    """`a.b` and `1` → `{a: {b: 1}}`."""
    for word in reversed(rest.split(".")):
        new = f"{{{word}: {new}}}"
    return new


def _block(rest: str, new: str, column: int, newline: str) -> str:
    words = rest.split(".")
    lines = [f"{' ' * (column + 2 * depth)}{word}:" for depth, word in enumerate(words)]
    return newline.join([*lines[:-1], f"{lines[-1]} {new}"])


def _line_end(text: str, index: int) -> int:
    """Where the line that holds the character before `index` ends (the newline's place)."""
    found = text.find("\n", max(0, index - 1))
    return len(text) if found < 0 else found


def _after_comments(text: str, at: int) -> int:
    """The end of the last of the indented comment lines that follow."""
    while comment := re.compile(r"\n[ ]+#[^\n]*").match(text, at):
        at = comment.end()
    return at


def _lines_in(text: str, at: int, lines: str, newline: str) -> str:
    """`lines` put in after the line that ends at `at`."""
    front = text[:at].removesuffix("\r")
    back = text[at:].removeprefix("\n")
    return f"{front}{newline if front else ''}{lines}{newline}{back}"


def keys_only(text: str, path: Path) -> bool:
    """Whether a file holds keys and nothing else."""
    words = {key.value for key, _ in tree(text, path).value}
    return "keys" in words and words <= {"keys", "version"}


def with_keys_of(old: str, today: str, path: Path) -> str:
    """The old text with today's `keys` in place of its own; without any, when there are none today."""
    was = section(tree(old, path), "keys")
    if was is None:
        return old
    start, stop = was[0].start_mark.index, max(end_of(was[1]), was[0].end_mark.index + 1)
    now = section(tree(today, path), "keys")
    new = today[now[0].start_mark.index : max(end_of(now[1]), now[0].end_mark.index + 1)] if now else "keys: []"
    return old[:start] + new + old[stop:]

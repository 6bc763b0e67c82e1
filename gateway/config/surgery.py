"""Cutting into the text of one YAML file by its marks, so that comments and order stay. Pure: text in, text out."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from gateway.config.compose import BadFile, clean, compose, empty, is_null, position
from gateway.config.flow import Scalar, scalar
from gateway.config.graft import after_comments, end_of, line_end, lines_in, newline_of, pair, put, replaced, take_out
from gateway.config.key_lines import KeyLine
from gateway.config.scalars import plain
from gateway.errors import ConfigError, Mistake

_step = re.compile(r"\[(\d+)\]")
_row_end = re.compile(r"[ \t]*,?[ \t]*(?:#[^\r\n]*)?\r?\n")
_INDENT: Final = "  "


def refused(path: Path, message: str, hint: str | None = None, node: yaml.Node | None = None) -> ConfigError:
    """The error that says why a file cannot be edited."""
    line, column = position(node) if node else (0, 0)
    return ConfigError([Mistake(str(path), line, column, "", message, hint)])


def tree(text: str, path: Path, read: Callable[[Path, str], yaml.Node | None] = compose) -> yaml.MappingNode:
    """The top-level mapping. read: what composes it.

    Raises ConfigError when no file may hold the text, or it is one `{ }` that lines cannot be added to.
    """
    try:
        node = read(path, clean(text))
    except BadFile as bad:
        raise ConfigError([Mistake(str(path), bad.line, bad.column, "", bad.message, bad.hint)]) from None
    if node is None:
        return empty(path, text)
    if not isinstance(node, yaml.MappingNode) or node.flow_style:
        raise refused(path, "cannot be edited by command: it is not a list of `word: value` lines", "edit it by hand")
    return node


def data(node: yaml.Node) -> Any:
    """A tree as nested raw text, to compare what an edit changed. A `KeyLine` stands for itself."""
    if isinstance(node, KeyLine):
        return node
    if isinstance(node, yaml.MappingNode):
        return {key.value: data(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [data(item) for item in node.value]
    return (node.value, isinstance(node, yaml.ScalarNode) and not node.style and not isinstance(plain(node.value), str))


def section(root: yaml.MappingNode, name: str) -> tuple[yaml.Node, yaml.Node] | None:
    """A top-level word and what it says."""
    return pair(root, name)


# -- keys -------------------------------------------------------------------------------------------------------------


def add_items(text: str, root: yaml.MappingNode, path: Path, items: Iterable[str], word: str = "keys") -> str:
    """`text` with more items in the list `keys` (or another), each in one line, in the style that is there."""
    items = list(items)
    newline = newline_of(text)
    rows = [f"{_INDENT}- {item}" for item in items]
    found = section(root, word)
    if found is None:
        front = text if not text or text.endswith("\n") else text + newline
        return newline.join([f"{front}{word}:", *rows, ""])
    key, value = found
    if isinstance(value, yaml.SequenceNode) and value.value:
        last = value.value[-1]
        if not value.flow_style:
            indent = " " * value.start_mark.column
            return lines_in(text, line_end(text, end_of(last)), "\n".join(f"{indent}- {item}" for item in items))
        at = end_of(last)
        comma = re.match(r"\s*,", text[at:])
        at += comma.end() if comma else 0
        return f"{text[:at]}{'' if comma else ','} {', '.join(items)}{text[at:]}"
    if isinstance(value, yaml.SequenceNode):
        text = text[: key.end_mark.index + 1] + text[value.end_mark.index :]
    elif not is_null(value):
        raise refused(path, f"`{word}` is not a list", None, value)
    elif value.value:
        text = text[: value.start_mark.index] + text[value.end_mark.index :]
    return lines_in(text, after_comments(text, line_end(text, key.end_mark.index)), "\n".join(rows))


def remove_key(text: str, root: yaml.MappingNode, path: Path, id: str) -> str:
    """`text` without the key of that id. Comments stay. Raises ConfigError when there is none."""
    key, value, number = _key(root, path, id)
    items = value.value
    if not value.flow_style:
        dash = text.rfind(f"\n{' ' * value.start_mark.column}-", 0, items[number].start_mark.index)  # it may have a line of its own
        start = (dash if dash >= 0 else text.rfind("\n", 0, items[number].start_mark.index)) + 1
        stop = min(len(text), line_end(text, end_of(items[number])) + 1)
        text = text[:start] + text[stop:]
        colon = key.end_mark.index + 1
        return text if len(items) > 1 else f"{text[:colon]} []{text[colon:]}"
    if rows := _own_lines(text, items[number]):
        return text[: rows[0]] + text[rows[1] :]
    if number + 1 < len(items):
        return text[: items[number].start_mark.index] + text[items[number + 1].start_mark.index :]
    start = end_of(items[number - 1]) if number else items[0].start_mark.index
    stop = end_of(items[number])
    comma = re.match(r"\s*,", text[stop:]) if not number else None
    return text[:start] + text[stop + (comma.end() if comma else 0) :]


def _own_lines(text: str, item: yaml.Node) -> tuple[int, int] | None:
    """From where to where the lines of an item between `[` and `]` go that shares them with no other; None: it shares one."""
    start = text.rfind("\n", 0, item.start_mark.index) + 1
    after = _row_end.match(text, end_of(item))
    return (start, after.end()) if after and not text[start : item.start_mark.index].strip() else None


def set_in_key(text: str, root: yaml.MappingNode, path: Path, id: str, word: str, value: str | None) -> str:
    """`text` where one word of the key of that id says something else, in YAML of one line; None: without it."""
    _, items, number = _key(root, path, id)
    item = items.value[number]
    if value is not None:
        return put(text, item, word, value)
    return take_out(text, item, word) if pair(item, word) else text


def has_key(root: yaml.MappingNode, id: str) -> bool:
    """Whether the file has a key of that id."""
    found = section(root, "keys")
    return found is not None and isinstance(found[1], yaml.SequenceNode) and any(_id(item) == id for item in found[1].value)


def _key(root: yaml.MappingNode, path: Path, id: str) -> tuple[yaml.Node, yaml.SequenceNode, int]:
    """The word `keys`, its list, and where in it the key is. Raises ConfigError when there is none."""
    found = section(root, "keys")
    items = found[1].value if found and isinstance(found[1], yaml.SequenceNode) else []
    number = next((n for n, item in enumerate(items) if _id(item) == id), None)
    if found is None or number is None or not isinstance(found[1], yaml.SequenceNode):
        raise refused(path, f'there is no key "{id}" in this file')
    return found[0], found[1], number


def _id(item: yaml.Node) -> str | None:
    if isinstance(item, KeyLine):
        return item.key_id
    return next((value.value for key, value in item.value if key.value == "id"), None) if isinstance(item, yaml.MappingNode) else None


# -- any value --------------------------------------------------------------------------------------------------------


def set_scalar(text: str, root: yaml.MappingNode, path: Path, dotted: str, value: Scalar) -> str:
    """`text` with the single value at `dotted` (`models.qwen.targets[0].weight`) replaced, or added where its group exists."""
    found = _walk(root, dotted)
    if found.rest:
        return _added(text, found, path, found.rest.split("."), scalar(value))
    if found.key is None or not isinstance(found.node, yaml.ScalarNode):
        raise refused(path, f"{dotted} is a group, not a single value", None, found.node)
    return replaced(text, found.key, found.node, scalar(value))


def set_word(text: str, root: yaml.MappingNode, path: Path, group: str, word: str, value: str) -> str:
    """`text` where `word` of the group at `group` (`tenants.retail`) says something else, or is new, as the group may be.

    value: YAML of one line. Raises ConfigError when there is no place for it.
    """
    found = _walk(root, group)
    return _added(text, found, path, [*(found.rest.split(".") if found.rest else ()), word], value)


def remove_word(text: str, root: yaml.MappingNode, group: str, word: str) -> str:
    """`text` without `word` of the group at `group`; as it is when nothing is there."""
    node, _, rest, _ = _walk(root, group)
    return take_out(text, node, word) if not rest and isinstance(node, yaml.MappingNode) and pair(node, word) else text


def _added(text: str, found: "_Found", path: Path, words: list[str], value: str) -> str:
    """`text` with a value below the node, under these words."""
    node, key = found.node, found.key
    if key is not None and isinstance(node, yaml.ScalarNode) and is_null(node):
        return replaced(text, key, node, _nested(words, value))
    if not isinstance(node, yaml.MappingNode) or any("[" in word for word in words):
        raise refused(path, f"there is no place for {'.'.join(words)}", None, node)
    if node.flow_style or pair(node, words[0]):
        return put(text, node, words[0], _nested(words[1:], value))
    column = node.value[0][0].start_mark.column if node.value else 0
    at = line_end(text, end_of(node)) if node.value else len(text)
    return lines_in(text, at, _block(words, value, column))


class _Found(NamedTuple):
    """As far as a path leads. key: of `node`, an item of a list is its own. rest: what it does not reach. group: where the key is."""

    node: yaml.Node
    key: yaml.Node | None
    rest: str
    group: yaml.MappingNode | None


def _walk(root: yaml.Node, dotted: str) -> _Found:
    """Names may hold dots: the longest that fits is taken."""
    node, key, rest, group = root, None, dotted, None
    while rest:
        if isinstance(node, yaml.SequenceNode) and rest.startswith("targets["):  # a list alone stands for `{targets: …}`
            rest = rest.removeprefix("targets")
        if isinstance(node, yaml.SequenceNode) and (index := _step.match(rest)) and int(index[1]) < len(node.value):
            node = key = node.value[int(index[1])]
            rest, group = rest[index.end() :].removeprefix("."), None
            continue
        fits = (
            [p for p in node.value if rest == p[0].value or rest.startswith((p[0].value + ".", p[0].value + "["))]
            if isinstance(node, yaml.MappingNode)
            else []
        )
        if not fits or not isinstance(node, yaml.MappingNode):
            break
        group = node
        key, node = max(fits, key=lambda pair: len(pair[0].value))
        rest = rest[len(key.value) :].removeprefix(".")
    return _Found(node, key, rest, group)


def _nested(words: list[str], value: str) -> str:
    """`a`, `b` and `1` → `{a: {b: 1}}`."""
    for word in reversed(words):
        value = f"{{{scalar(word)}: {value}}}"
    return value


def _block(words: list[str], value: str, column: int) -> str:
    lines = [f"{' ' * (column + 2 * depth)}{scalar(word)}:" for depth, word in enumerate(words)]
    return "\n".join([*lines[:-1], f"{lines[-1]} {value}"])


# -- of two revisions -------------------------------------------------------------------------------------------------


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

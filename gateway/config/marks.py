"""Where in which file each part of the configuration is written, and mistakes made from that, with their line, secrets covered."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

import yaml

from gateway.config.redact import NOBODY, covered, only_names, sentence
from gateway.errors import Mistake

Loc = Sequence[str | int]
Pair = tuple[yaml.Node, yaml.Node]
_LEAST_SECRET: Final = 6
_NAMED: Final = frozenset({"listeners", "channels", "models", "tenants"})


class Marks:
    """The files' texts and the merged tree over them. `secrets`: values that no message may contain."""

    def __init__(self, main: str) -> None:
        self.main = main
        self.files: dict[str, str] = {}
        self.root: yaml.MappingNode | None = None
        self.left: dict[Loc, list[int]] = {}
        """Lists of which wrong items were taken out: the numbers of those that are left."""
        self.secrets: set[str] = set()
        self._lines: dict[tuple[str, bool], list[str]] = {}
        self._names: frozenset[str] | None = None

    def pair(self, loc: Loc) -> tuple[Pair | None, int]:
        """The innermost (key node, value node) on the way to `loc`, and how many steps of it exist. List items are their own key."""
        node: yaml.Node | None = self.root
        found: Pair | None = None
        for depth, step in enumerate(loc):
            if isinstance(node, yaml.MappingNode):
                pair = next((p for p in node.value if p[0].value == step), None)
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                pair = (node.value[step], node.value[step])
            elif isinstance(node, yaml.SequenceNode) and step == "targets":  # `to: [ ]` stands for `to: {targets: [ ]}`
                continue
            else:
                pair = None
            if pair is None:
                return found, depth
            found, node = pair, pair[1]
        return found, len(loc)

    def as_written(self, loc: Loc) -> Loc:
        """A place in what is left when wrong items of a list were taken out, as it is in the file."""
        for depth in range(len(loc) - 1):
            numbers = self.left.get(tuple(loc[: depth + 1]))
            number = loc[depth + 1]
            if numbers is not None and isinstance(number, int) and number < len(numbers):
                return (*loc[: depth + 1], numbers[number], *loc[depth + 2 :])
        return loc

    def at(self, loc: Loc, message: str, hint: str | None = None, *, key: bool = False) -> Mistake:
        """A mistake where `loc` is written: at its value, or its key when asked for, or at what encloses it."""
        loc = self.as_written(loc)
        pair, depth = self.pair(loc)
        path = dotted(loc)
        if pair is None:
            return Mistake(self.main, 0, 0, path, self.scrub(message), hint and self.scrub(hint))
        key_node, value_node = pair
        scalar = isinstance(value_node, yaml.ScalarNode) and value_node.start_mark.index != value_node.end_mark.index
        flow = getattr(value_node, "flow_style", False)
        node = value_node if not key and (scalar or (flow and depth == len(loc))) else key_node
        return self.on(node, path, message, hint)

    def on(self, node: yaml.Node, path: str, message: str, hint: str | None = None, skip: int = 0) -> Mistake:
        """A mistake at a node, `skip` characters into it."""
        mark = node.start_mark
        return self.line(mark.name, mark.line + 1, mark.column + 1 + skip, path, message, hint)

    def line(self, file: str, line: int, column: int, path: str, message: str, hint: str | None = None) -> Mistake:
        source = None
        if file in self.files and line:
            kept = file, self.root is not None
            lines = self._lines.get(kept)
            if lines is None:
                lines = self._lines[kept] = covered(re.split("\r\n|\n|\r", self.files[file]), self.known())
            if line <= len(lines):
                source = self.scrub(lines[line - 1])
        return Mistake(file, line, column, path, self.scrub(message), hint and self.scrub(hint), source)

    def place(self, loc: Loc) -> str:
        """`file:line` of what is written at `loc`."""
        pair, _ = self.pair(self.as_written(loc))
        return f"{pair[0].start_mark.name}:{pair[0].start_mark.line + 1}" if pair else self.main

    def scrub(self, text: str) -> str:
        """`text` without any value that came out of a reference, stands in a secret field, or looks like a secret."""
        for secret in self.secrets:
            text = text.replace(f'"{secret}"', "this value")
            if len(secret) >= _LEAST_SECRET and secret in text:
                text = text.replace(secret, "*" * len(secret))
        return sentence(text, self.known())

    def known(self) -> frozenset[str]:
        """Names that only look like tokens, as soon as the files have been merged."""
        if self.root is None:
            return NOBODY
        if self._names is None:
            self._names = only_names(_names(self.root))
        return self._names


def _names(root: yaml.MappingNode) -> Iterator[str]:
    """What is a name by its place: of channels, models and other parts, and whatever models refer to."""
    for section, parts in root.value:
        if section.value not in _NAMED or not isinstance(parts, yaml.MappingNode):
            continue
        for name, part in parts.value:
            yield from _texts(name)
            if section.value == "models":
                yield from _texts(part)
            elif isinstance(part, yaml.MappingNode):
                yield from (text for word, value in part.value if word.value == "model" for text in _texts(value))


def _texts(node: yaml.Node) -> Iterator[str]:
    """All scalars below a node, itself included."""
    if isinstance(node, yaml.ScalarNode):
        yield node.value
    elif isinstance(node, yaml.CollectionNode):
        for item in node.value:
            for part in item if isinstance(item, tuple) else (item,):
                yield from _texts(part)


def dotted(loc: Loc) -> str:
    """`("models", "qwen", "targets", 0, "weight")` → `models.qwen.targets[0].weight`."""
    text = ""
    for step in loc:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text

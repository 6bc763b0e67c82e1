"""Where in which file each part of the configuration is written, and mistakes made from that, with their line, secrets covered."""

import re
from collections.abc import Sequence
from typing import Final

import yaml

from gateway.config.redact import covered, sentence
from gateway.errors import Mistake

Loc = Sequence[str | int]
Pair = tuple[yaml.Node, yaml.Node]
_LEAST_SECRET: Final = 6


class Marks:
    """The files' texts and the merged tree over them. `secrets`: values that no message may contain."""

    def __init__(self, main: str) -> None:
        self.main = main
        self.files: dict[str, str] = {}
        self.root: yaml.MappingNode | None = None
        self.secrets: set[str] = set()
        self._lines: dict[str, list[str]] = {}

    def pair(self, loc: Loc) -> tuple[Pair | None, int]:
        """The innermost (key node, value node) on the way to `loc`, and how many steps of it exist. List items are their own key."""
        node: yaml.Node | None = self.root
        found: Pair | None = None
        for depth, step in enumerate(loc):
            if isinstance(node, yaml.MappingNode):
                pair = next((p for p in node.value if p[0].value == step), None)
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                pair = (node.value[step], node.value[step])
            else:
                pair = None
            if pair is None:
                return found, depth
            found, node = pair, pair[1]
        return found, len(loc)

    def at(self, loc: Loc, message: str, hint: str | None = None, *, key: bool = False) -> Mistake:
        """A mistake where `loc` is written: at its value, or its key when asked for, or at what encloses it."""
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
            lines = self._lines.get(file)
            if lines is None:
                lines = self._lines[file] = covered(re.split("\r\n|\n|\r", self.files[file]))
            if line <= len(lines):
                source = self.scrub(lines[line - 1])
        return Mistake(file, line, column, path, self.scrub(message), hint and self.scrub(hint), source)

    def place(self, loc: Loc) -> str:
        """`file:line` of what is written at `loc`."""
        pair, _ = self.pair(loc)
        return f"{pair[0].start_mark.name}:{pair[0].start_mark.line + 1}" if pair else self.main

    def scrub(self, text: str) -> str:
        """`text` without any value that came out of a reference, stands in a secret field, or looks like a secret."""
        for secret in self.secrets:
            text = text.replace(f'"{secret}"', "this value")
            if len(secret) >= _LEAST_SECRET and secret in text:
                text = text.replace(secret, "*" * len(secret))
        return sentence(text)


def dotted(loc: Loc) -> str:
    """`("models", "qwen", "targets", 0, "weight")` → `models.qwen.targets[0].weight`."""
    text = ""
    for step in loc:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text

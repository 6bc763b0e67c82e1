"""Keys written one in a line, as commands write them, without the YAML machinery: a file may hold a hundred thousand.

What such a line holds is found by a pattern; where in it something is written, only when somebody asks. Keys that hold more than
single values and lists are left to `compose`, as is the rest of the file.
"""

import re
from typing import Any, Final

import yaml

from gateway.config.scalars import plain

_QUOTED: Final = r'"[^"\\$\n]*"'
_BARE: Final = r"[A-Za-z0-9_/][A-Za-z0-9_./-]*"
_SCALAR: Final = rf"(?:{_QUOTED}|{_BARE})"
_LISTED: Final = rf'(?:"[^"\\$\n\[\]]*"|{_BARE})'
_VALUE: Final = rf"(?:{_SCALAR}|\[(?:{_LISTED}(?:, {_LISTED})*)?\])"
_ITEM: Final = rf"\{{[a-z_]+: {_VALUE}(?:, [a-z_]+: {_VALUE})*\}}"
_ASIDE: Final = r"(?:[ ]*(?:#[^\n]*)?\n)*"
_END: Final = r"(?:[ ]+#[^\n]*)?\n"
_WHOLE: Final = r"""\{(?:"(?:[^"\\\n]++|\\.)*+"|'[^'\n]*+'|[^"'#\n]++)*+(?:(?<=\})\n|(?:(?<=\} )|(?<=\}  ))#[^\n]*+\n)"""
"""A line's rest: anything in braces whose quotes are closed, and perhaps a comment."""
_block = re.compile(rf"^keys:[ ]*(?:#[^\n]*)?\n({_ASIDE}([ ]*)- {_WHOLE}(?:{_ASIDE}\2- {_WHOLE})*+)(?!{_ASIDE}+[ -])", re.M)
_line = re.compile(rf"^[ ]*- ({_ITEM}){_END}", re.M)
_word = re.compile(rf'([a-z_]+): (?:"([^"]*)"|({_BARE})|(\[[^\]]*\]))')
_part = re.compile(rf'"([^"]*)"|({_BARE})')
FEW: Final = 100
"""Keys for which it is not worth while."""


class KeyLine(yaml.MappingNode):
    """One key. words: what it holds, each scalar as its text and whether it may be a number or another plain word."""

    def __init__(self, file: str, text: str, index: int, line: int, column: int, words: dict[str, Any]) -> None:
        self.words = words
        self.tag, self.flow_style = "", True
        self._file, self._text, self._at = file, text, (index, line, column)
        self._pairs: list[tuple[yaml.Node, yaml.Node]] | None = None

    @property
    def span(self) -> tuple[int, int]:
        """Where in the file's text it stands, with its dash."""
        index, _, _ = self._at
        return index - 2, index + len(self._text)

    @property
    def dash(self) -> yaml.Mark:
        """Where its dash is."""
        index, line, column = self._at
        return yaml.Mark(self._file, index - 2, line, column - 2, None, 0)

    @property
    def key_id(self) -> str | None:
        """The key's id, when it has one."""
        found = self.words.get("id")
        return found[0] if isinstance(found, tuple) else None

    def data(self) -> dict[str, Any]:
        """As plain data."""
        return {word: [_plain(one) for one in value] if isinstance(value, list) else _plain(value) for word, value in self.words.items()}

    def __eq__(self, other: object) -> bool:
        """Whether the same is written. To `surgery.data`, which the line stands in for, it compares as well."""
        return self._text == other._text if isinstance(other, KeyLine) else self.raw() == other

    __hash__ = None  # type: ignore[assignment]

    def raw(self) -> dict[str, Any]:
        """As `surgery.data` has it: texts, and whether each is a plain word that is no text."""
        return {word: [_raw(one) for one in value] if isinstance(value, list) else _raw(value) for word, value in self.words.items()}

    @property
    def start_mark(self) -> yaml.Mark:  # type: ignore[override]  # asked for rarely, so it is not kept
        index, line, column = self._at
        return yaml.Mark(self._file, index, line, column, None, 0)

    @property
    def end_mark(self) -> yaml.Mark:  # type: ignore[override]
        index, line, column = self._at
        return yaml.Mark(self._file, index + len(self._text), line, column + len(self._text), None, 0)

    @property
    def value(self) -> list[tuple[yaml.Node, yaml.Node]]:
        if self._pairs is None:
            node = yaml.compose(self._text, yaml.CSafeLoader)
            assert isinstance(node, yaml.MappingNode)
            self._moved(node)
            self._pairs = node.value
        return self._pairs

    def _moved(self, node: yaml.Node) -> None:
        """Marks of the line alone become those of the file."""
        index, line, column = self._at
        node.tag = ""
        for word in ("start_mark", "end_mark"):
            mark = getattr(node, word)
            setattr(node, word, yaml.Mark(self._file, index + mark.index, line, column + mark.column, None, 0))
        if isinstance(node, yaml.ScalarNode):
            node.style = node.style or ""
        for item in node.value if isinstance(node, yaml.CollectionNode) else ():
            for part in item if isinstance(item, tuple) else (item,):
                self._moved(part)


def _raw(scalar: tuple[str, bool]) -> tuple[str, bool]:
    return scalar[0], scalar[1] and not isinstance(plain(scalar[0]), str)


def _plain(scalar: tuple[str, bool]) -> Any:
    return plain(scalar[0]) if scalar[1] else scalar[0]


class KeyLines:
    """Those of a file. rest: its text with blanks in their place, as long as before."""

    def __init__(self, text: str, start: int, items: list[KeyLine]) -> None:
        """start: where in the text the word `keys` is."""
        pieces, at = [], 0
        for item in items:
            begin, stop = item.span
            pieces += [text[at:begin], " " * (stop - begin)]
            at = stop
        self.rest = "".join([*pieces, text[at:]])
        self.items = items
        self._line = text.count("\n", 0, start)

    def put_back(self, root: yaml.Node | None) -> bool:
        """Into the tree of the rest. False: there `keys` is something else than it looked like."""
        if not isinstance(root, yaml.MappingNode) or root.flow_style:
            return False
        for number, (key, value) in enumerate(root.value):
            if isinstance(key, yaml.ScalarNode) and key.value == "keys" and key.start_mark.line == self._line:
                empty = isinstance(value, yaml.ScalarNode) and not value.value
                if not empty and not isinstance(value, yaml.SequenceNode):
                    return False
                items = sorted([*([] if empty else value.value), *self.items], key=lambda item: item.start_mark.line)
                begin = self.items[0].dash
                begin = begin if empty or begin.index < value.start_mark.index else value.start_mark
                root.value[number] = key, yaml.SequenceNode("", items, begin, items[-1].end_mark, False)
                return True
        return False


def key_lines(file: str, text: str) -> KeyLines | None:
    """Those of a file; None when they are few, or its keys are not written one in a line at all."""
    found = None if "\r" in text else _block.search(text)  # which ends lines as well, alone too
    if found is None:
        return None
    items: list[KeyLine] = []
    line, before = text.count("\n", 0, found.start(1)), found.start(1)
    for one in _line.finditer(text, *found.span(1)):
        start = one.start(1)
        line += text.count("\n", before, start)
        before = start
        written = _word.findall(one[1])
        words = {word: _words(quoted, bare, listed) for word, quoted, bare, listed in written}
        if len(words) == len(written):  # else a word stands there twice, which is told of as usual
            items.append(KeyLine(file, one[1], start, line, start - one.start(), words))
    return KeyLines(text, found.start(), items) if len(items) >= FEW else None


def _words(quoted: str, bare: str, listed: str) -> Any:
    if bare:
        return bare, True
    if listed:
        return [(bare, True) if bare else (quoted, False) for quoted, bare in _part.findall(listed)]
    return quoted, False

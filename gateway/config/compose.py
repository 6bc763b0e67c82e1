"""One YAML file, from its bytes to a tree of nodes with marks. Refuses what is not plain, small, whole YAML 1.2; expands nothing."""

import contextlib
import gc
import io
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml
from yaml._yaml import CParser, Mark

from gateway.config.expand import read_small, why
from gateway.config.key_lines import KeyLine, key_lines
from gateway.config.scalars import plain

MOST_BYTES: Final = 8 * 1024 * 1024
"""Of one file."""
ALL_BYTES: Final = 64 * 1024 * 1024
"""Of all files together: room for a few hundred thousand keys."""
MOST_NODES: Final = 1_000_000
MOST_DEPTH: Final = 32
_control = re.compile("[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_maybe_anchor = re.compile(r"(?:^|[\s\[{,:-])[&*][^\s,\[\]{}]", re.M)


class BadFile(Exception):
    """One file cannot be used. line and column count from 1, 0 = the file as a whole."""

    def __init__(self, message: str, line: int = 0, column: int = 0, hint: str | None = None) -> None:
        super().__init__(message)
        self.message, self.line, self.column, self.hint = message, line, column, hint


class _Stream(io.BytesIO):
    name: str


class _TooMuch(Exception):
    """More than is read. node: the last that was looked into."""

    def __init__(self, message: str, node: Any) -> None:
        super().__init__(message)
        self.node = node


class _Composer(CParser):
    """PyYAML's C composer without YAML 1.1's guesses: a node's tag is empty unless one is written."""

    def __init__(self, stream: _Stream) -> None:
        super().__init__(stream)
        self._depth = self._nodes = 0

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        return ""

    def descend_resolver(self, parent: Any, index: Any) -> None:
        self._depth += 1
        self._nodes += 1
        if self._depth > MOST_DEPTH:
            raise _TooMuch(f"the file is nested more than {MOST_DEPTH} deep", parent)
        if self._nodes > MOST_NODES:
            raise _TooMuch(f"the file has more than {MOST_NODES} values", parent)

    def ascend_resolver(self) -> None:
        self._depth -= 1


@contextlib.contextmanager
def no_collecting() -> Iterator[None]:
    """Reading makes hundreds of thousands of small objects and no cycles (a test says so): the collector would take two thirds of the time.
    Afterwards they count as old, else it would look at all of them at once, which nothing can interrupt."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            if not gc.get_freeze_count():
                gc.freeze()
                gc.unfreeze()
            gc.enable()


def read_text(path: Path, room: int = ALL_BYTES) -> str:
    """The text of a file of at most `room` bytes, and of no more than MOST_BYTES. Raises BadFile."""
    try:
        data = read_small(path, MOST_BYTES)
    except OSError as error:
        raise BadFile(_unreadable(path, error), hint=_remedy(path, error)) from None
    if len(data) > room:
        raise BadFile("the file makes the configuration larger than 64 MiB")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        good = data[: error.start].decode("utf-8")
        raise BadFile("the file is not UTF-8 text", *_place(good, len(good)), "save it as UTF-8") from None
    if text.startswith("\ufeff"):
        raise BadFile("the file begins with a byte order mark", 1, 1, "save it as UTF-8 without BOM")
    return clean(text)


def clean(text: str) -> str:
    """`text`, which holds nothing but what files may hold. Raises BadFile."""
    if bad := _control.search(text):
        raise BadFile(f"the file contains the character U+{ord(bad[0]):04X}", *_place(text, bad.start()), "remove it")
    return text


def _unreadable(path: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        return f"the file is a symbolic link to {os.readlink(path)}, which does not exist"
    return f"the file cannot be read: {why(error)}"


def _remedy(path: Path, error: OSError) -> str | None:
    if isinstance(error, PermissionError):
        try:
            owner, mode = path.owner(), stat.S_IMODE(path.stat().st_mode)
        except (OSError, KeyError):
            return "read it as root, or change whose it or a folder above it is"
        readers = "as root" if owner == "root" else f"as {owner} or as root"
        return f"it belongs to {owner}, mode {mode:04o}: read it {readers}, or change that"
    return "make several files of it, and name them in `include`" if "larger" in str(error) else None


def compose(path: Path, text: str) -> yaml.Node | None:
    """The tree of one file; None when it holds only comments. Raises BadFile with the parser's place."""
    lines = key_lines(str(path), text)
    if lines is not None:
        with contextlib.suppress(BadFile):  # what is wrong is told of the whole text
            node = _composed(path, lines.rest)
            if lines.put_back(node):
                return node
    return _composed(path, text)


def _composed(path: Path, text: str) -> yaml.Node | None:
    if ("&" in text or "*" in text) and _maybe_anchor.search(text):
        _refuse_anchors(text)
    stream = _Stream(text.encode())
    stream.name = str(path)
    loader = _Composer(stream)
    try:
        node: yaml.Node | None = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        raise _translated(error, text) from None
    except _TooMuch as error:
        raise BadFile(str(error), *position(error.node)) from None
    except yaml.YAMLError as error:
        raise BadFile(str(error).split("\n")[0]) from None
    finally:
        loader.dispose()
    return node


def data_of(node: yaml.Node | None) -> Any:
    """A tree as plain data, of which nothing is checked."""
    if isinstance(node, KeyLine):
        return node.data()
    if isinstance(node, yaml.MappingNode):
        return {str(key.value): data_of(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [data_of(item) for item in node.value]
    return plain(node.value) if isinstance(node, yaml.ScalarNode) and not node.style else node and node.value


def empty(path: Path, text: str = "") -> yaml.MappingNode:
    """The tree of a file that says nothing."""
    mark = Mark(str(path), len(text), text.count("\n"), 0, None, None)
    return yaml.MappingNode("", [], mark, mark, False)  # type: ignore[arg-type]  # the stubs know only the Python mark


def position(thing: Any) -> tuple[int, int]:
    """Line and column, from 1, where a node or event begins."""
    return thing.start_mark.line + 1, thing.start_mark.column + 1


def is_null(node: yaml.Node) -> bool:
    """Whether a node is written as nothing: `name:` alone, `~` or `null`."""
    return isinstance(node, yaml.ScalarNode) and not node.style and plain(node.value) is None


def _refuse_anchors(text: str) -> None:
    """Aliases let a small file become a huge one, and a stray & or * swallows text. Errors are left to `compose`."""
    first: yaml.NodeEvent | None = None
    merged = False
    aliases: set[str | None] = set()
    with contextlib.suppress(yaml.YAMLError):
        for event in yaml.parse(text, Loader=yaml.CLoader):
            if isinstance(event, yaml.AliasEvent):
                aliases.add(event.anchor)
            if first is None:
                if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
                    first = event
                elif isinstance(event, yaml.ScalarEvent):
                    merged = event.value == "<<"
    if first is not None:
        raise _anchored(first, meant=merged or (first.anchor in aliases and not isinstance(first, yaml.AliasEvent)))


def _anchored(event: yaml.NodeEvent, meant: bool) -> BadFile:
    """meant: as a part that is named once and used in other places; else it may be text. Its name is not said: it may be a secret."""
    line, column = position(event)
    if isinstance(event, yaml.AliasEvent):
        hint = "write out what it stands for" if meant else "quote text that begins with *"
        return BadFile("* makes this an alias; they are not used here", line, column, hint)
    if meant:
        hint = "leave it out, and write out what its aliases stand for"
    elif isinstance(event, yaml.ScalarEvent):
        hint = "quote text that begins with &"
    else:
        hint = "leave it out"
    return BadFile("& makes this an anchor; they are not used here", line, column, hint)


def _place(text: str, index: int) -> tuple[int, int]:
    """Line and column, from 1, of a character."""
    before = re.split("\r\n|\n|\r", text[:index])
    return len(before), len(before[-1]) + 1


_PROBLEMS: Final = (
    ("could not find expected ':'", "a key without its colon", "write `key: value`"),
    ("mapping values are not allowed", 'a ": " that does not belong here', 'check the indentation; quote text that contains ": "'),
    ("did not find expected key", "this does not fit the lines above", "check the indentation"),
    ("did not find expected '-' indicator", "this does not fit the list above", "check the indentation"),
    ("block sequence entries are not allowed", "a list item is not allowed here", "put it on a line of its own"),
    ("block mapping start", "this does not fit the lines above", "check the indentation"),
    ("found undefined alias", "text that begins with *", "quote text that begins with *"),
    ("found another document", "a second document", "one file is one document: remove the `---`"),
    ("but found another document", "a second document", "one file is one document: remove the `---`"),
)


_WIDE: Final = {"\uff1a": ":", "\uff0c": ",", "\uff5b": "{", "\uff5d": "}", "\uff3b": "[", "\uff3d": "]", "\u3000": " ", "\xa0": " "}
"""Signs of an input method, or of a page that was copied from, and what YAML takes in their place."""
_no_sign = re.compile(r"""(?:"[^"]*"|'[^']*'|(?:^|[ \t])\#.*)""")


def _translated(error: yaml.MarkedYAMLError, text: str) -> BadFile:
    """The parser's words as an operator's."""
    mark = error.problem_mark or error.context_mark
    if mark is not None:
        begun = error.context_mark if error.context == "while scanning a simple key" else None
        last = (begun or mark).line
        first = last - 1 if "mapping values" in (error.problem or "") else last  # a line without its colon goes on in the next one
        for number, line in list(enumerate(re.split("\r\n|\n|\r", text)))[max(0, first) : last + 1]:
            bare = _no_sign.sub(lambda found: "." * len(found[0]), line)
            column = next((at for at, sign in enumerate(bare) if sign in _WIDE), None)
            if column is not None:
                sign, instead = bare[column], _WIDE[bare[column]]
                named = "a space that is none for YAML" if instead == " " else f"a full-width {sign}"
                return BadFile(named, number + 1, column + 1, "write a plain space" if instead == " " else f"write {instead}")
    return _in_our_words(error, text)


def _in_our_words(error: yaml.MarkedYAMLError, text: str) -> BadFile:
    """Of an unclosed bracket or quote, the place where it was opened."""
    problem, mark, opened = error.problem or "", error.problem_mark or error.context_mark, error.context_mark
    if mark is None:
        return BadFile(problem or "the file is not YAML")
    line, column = mark.line + 1, mark.column + 1
    if opened is not None and "expected ',' or" in problem:
        bracket = text[opened.index : opened.index + 1]
        hint = 'quote "${…}" inside [ ] and { }' if "${" in text[opened.index : mark.index] else f"it began at line {opened.line + 1}"
        if not text[mark.index :].strip():
            return BadFile(f"the file ends inside this {bracket}", opened.line + 1, opened.column + 1, "is it half-written?")
        return BadFile(f"the {bracket} … is not closed before this, or a comma is missing", line, column, hint)
    if opened is not None and "unexpected end of stream" in problem:
        return BadFile("this quote is never closed", opened.line + 1, opened.column + 1, "is the file half-written?")
    if "cannot start any token" in problem:
        sign = text[mark.index : mark.index + 1]
        if sign == "\t":
            return BadFile("a tab", line, column, "YAML is indented with spaces")
        return BadFile(f"text cannot begin with {sign}", line, column, "quote it")
    if opened is not None and error.context in ("while scanning a simple key", "while scanning an alias", "while scanning an anchor"):
        line, column = opened.line + 1, opened.column + 1
    if opened is not None and "did not find expected alphabetic or numeric character" in problem:
        sign, follows = text[opened.index : opened.index + 1], text[opened.index + 1 : opened.index + 2]
        if not follows.strip(" \r\n,]}"):
            return BadFile(f"a lone {sign}", line, column, f'quote it: "{sign}"')
        return BadFile(f"text that begins with {sign}", line, column, f"quote text that begins with {sign}")
    for words, message, hint in _PROBLEMS:
        if words in problem or words in (error.context or ""):
            return BadFile(message, line, column, hint)
    if not text[mark.index :].strip():
        before = text[: mark.index].rstrip()
        return BadFile("the file ends too early", *_place(before, max(0, len(before) - 1)), "is it half-written?")
    return BadFile(problem, line, column)

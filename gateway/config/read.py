"""The files of a configuration, merged into plain data, with marks: includes, references, duplicates.

Knows no field but the few that name files.
"""

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from gateway.config.compose import ALL_BYTES, BadFile, compose, empty, is_null, position, read_text
from gateway.config.expand import ExpandError, expand, why
from gateway.config.included import files_of, folders_of, is_pattern
from gateway.config.key_lines import KeyLine
from gateway.config.marks import Loc, Marks, Pair, dotted
from gateway.config.redact import SECRET_MAPS, SECRET_WORDS
from gateway.config.scalars import Expanded, plain
from gateway.config.schema import Config
from gateway.errors import Mistake

MERGED: Final = frozenset({"listeners", "registries", "channels", "models", "schedules", "tenants"})
"""Sections whose names may be spread over files."""
_TLS_FILES: Final = frozenset({"ca", "cert", "key", "client_ca"})
_DEEPEST_INCLUDE: Final = 8
_ours = re.compile(rf"""^[\s{{,]*["']?(?:{"|".join(Config.model_fields)})["']?\s*:""", re.M)
"""Of a file that does not parse, a line is shown only if it has one of our words: `include` may name any file."""
_LOOKED_AT: Final = 64


class Reading:
    """What reading found. `broken`: some file could not be used, so that absences prove nothing."""

    def __init__(self, path: Path, environ: Mapping[str, str], instead: Mapping[str, str] | None = None) -> None:
        """instead: texts that files are read as if they had, by their real paths."""
        self._instead = instead or {}
        self.path = path
        self.environ = environ
        self.marks = Marks(str(path))
        self.data: dict[str, Any] = {}
        self.mistakes: list[Mistake] = []
        self.broken = False
        self.watch: dict[Path, None] = {path: None}
        self.folders: dict[Path, None] = {}
        """Where patterns look, also what is not there; they are in `watch` too."""
        self.referred: dict[Path, None] = {}
        """Files of `${file:…}`; they are in `watch` too."""
        self.expanded: list[str] = []
        self._size = 0
        self._seen: set[str] = set()
        self._open: list[str] = []

    def run(self) -> None:
        """Reads everything. Never raises for what the files hold; `mistakes` says it."""
        pairs: list[Pair] = []
        self._file(self.path, pairs, None)
        merged = self._merge(pairs)
        self.marks.root = empty(self.path)
        self.marks.root.value = merged
        self.data = {key.value: self._value(value, (key.value,)) for key, value in merged}

    def _file(self, path: Path, pairs: list[Pair], asked: yaml.Node | None) -> None:
        real = os.path.realpath(path)
        if real in self._seen:
            return
        self._seen.add(real)
        self.watch[path] = None
        self.watch[Path(real)] = None
        try:
            text = self._instead[real] if real in self._instead else read_text(path, ALL_BYTES - self._size)
            self._size += len(text.encode())
            self.marks.files[str(path)] = text
            if not text.strip():
                raise BadFile(
                    "the file is empty",
                    hint="a file that says nothing on purpose holds a comment" if asked else "`gatewayctl init` writes a starter",
                )
            node = compose(path, text)
        except BadFile as bad:
            self._bad(path, bad, asked)
            return
        if node is None:
            if asked is None:
                self._bad(path, BadFile("the file holds only comments", hint="`gatewayctl init` writes a starter"), None)
            return
        if not isinstance(node, yaml.MappingNode):
            self._bad(path, BadFile("the file does not begin with a word and a colon", *position(node)), asked)
            return
        if not _is_ours(node):
            self._stranger(path, asked)
            return
        self._pairs(node, ())
        pairs += node.value
        self._open.append(real)
        for key, value in node.value:
            if key.value in MERGED and isinstance(value, yaml.MappingNode):
                self._pairs(value, (key.value,))  # names that two files have are found when they are merged
            elif key.value == "include":
                self._include(path, value, pairs)
            elif key.value == "data_dir" and asked:
                self.mistakes.append(self.marks.on(key, "data_dir", "data_dir belongs in the main file", f"write it in {self.path}"))
        self._open.pop()

    def _bad(self, path: Path, bad: BadFile, asked: yaml.Node | None) -> None:
        self.broken = True
        text = self.marks.files.get(str(path), "")
        if bad.line and _ours.search(text):
            self.mistakes.append(self.marks.line(str(path), bad.line, bad.column, "", bad.message, bad.hint))
        elif bad.line:
            self.mistakes.append(Mistake(str(path), bad.line, bad.column, "", bad.message, bad.hint))
        elif asked and str(path) not in self.marks.files:
            self.mistakes.append(self.marks.on(asked, "include", bad.message.replace("the file", str(path), 1), bad.hint))
        else:
            self.mistakes.append(Mistake(str(path), 0, 0, "", bad.message, bad.hint))

    def _stranger(self, path: Path, asked: yaml.Node | None) -> None:
        """Whatever it is, nothing of it is repeated: `include` may name any file."""
        self.broken = True
        message = f"{path} is no part of a configuration: it has none of its words"
        self.mistakes.append(self.marks.on(asked, "include", message) if asked else Mistake(str(path), 0, 0, "", message))

    def _include(self, path: Path, node: yaml.Node, pairs: list[Pair]) -> None:
        items = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for item in items:
            if not isinstance(item, yaml.ScalarNode) or not item.value or "\0" in item.value:
                continue
            if len(self._open) > _DEEPEST_INCLUDE:
                self.mistakes.append(self.marks.on(item, "include", f"files include each other more than {_DEEPEST_INCLUDE} deep"))
                continue
            try:
                wanted = expand(item.value, self.environ, path.parent)
            except ExpandError:  # told when the value is read
                continue
            for name in self._matching(path.parent, wanted, item):
                self._file(Path(os.path.normpath(name)), pairs, item)

    def _matching(self, folder: Path, wanted: str, item: yaml.Node) -> list[Path]:
        if "**" in wanted.split("/"):
            hint = "write a pattern for each depth, as conf.d/*.yaml and conf.d/*/*.yaml"
            self.mistakes.append(self.marks.on(item, "include", "`**` cannot stand for folders of any depth", hint))
            return []
        if not is_pattern(folder, wanted):
            if (real := os.path.realpath(folder / wanted)) in self._open:
                self._circle(item, self._open[self._open.index(real) :])
            return [folder / wanted]
        folders = dict.fromkeys(folders_of(folder, wanted))
        self.folders |= folders
        self.watch |= folders
        try:
            return files_of(folder, wanted)
        except OSError as error:
            self.broken = True
            self.mistakes.append(self.marks.on(item, "include", f"{error.filename} cannot be listed: {why(error)}"))
            return []

    def _circle(self, item: yaml.Node, files: list[str]) -> None:
        """A file that is named while it is being read. What a pattern matches may be such a file: then nobody meant it."""
        if len(files) == 1:
            self.mistakes.append(self.marks.on(item, "include", "this file includes itself", "leave it out"))
            return
        way = " → ".join(os.path.basename(file) for file in (*files, files[0]))
        self.mistakes.append(self.marks.on(item, "include", "files include each other in a circle", way))

    def _merge(self, pairs: list[Pair]) -> list[Pair]:
        """One mapping out of those of all files; a name written twice is a mistake that names both places."""
        merged: dict[str, Pair] = {}
        for key, value in pairs:
            name = key.value
            before = merged.get(name)
            if before is None:
                copied = value
                if name in MERGED and isinstance(value, yaml.MappingNode):
                    copied = yaml.MappingNode("", list(value.value), value.start_mark, value.end_mark, value.flow_style)
                elif name == "keys" and isinstance(value, yaml.SequenceNode):
                    copied = yaml.SequenceNode("", list(value.value), value.start_mark, value.end_mark, value.flow_style)
                merged[name] = (key, copied)
            elif name in MERGED and _is_map(before[1]) and _is_map(value):
                self._join(before, value, name)
                if isinstance(before[1], yaml.ScalarNode):
                    merged[name] = (key, value)
            elif name == "keys" and _is_list(before[1]) and _is_list(value):
                if isinstance(before[1], yaml.ScalarNode):
                    merged[name] = (key, value)
                elif isinstance(value, yaml.SequenceNode):
                    before[1].value.extend(value.value)
            elif name == "version" and before[1].value == value.value:
                continue
            elif name != "include":
                self._twice(key, before[0], name)
        return list(merged.values())

    def _join(self, before: Pair, value: yaml.Node, section: str) -> None:
        if not isinstance(value, yaml.MappingNode) or not isinstance(before[1], yaml.MappingNode):
            return
        names = {key.value: key for key, _ in before[1].value if isinstance(key, yaml.ScalarNode)}
        for key, item in value.value:
            if isinstance(key, yaml.ScalarNode) and key.value in names:
                self._twice(key, names[key.value], f"{section}.{key.value}")
            else:
                before[1].value.append((key, item))

    def _twice(self, key: yaml.Node, first: yaml.Node, path: str) -> None:
        there = first.start_mark
        where = f"line {there.line + 1}" if there.name == key.start_mark.name else f"{there.name}:{there.line + 1}"
        self.mistakes.append(self.marks.on(key, path, f'"{key.value}" is written twice', f"first at {where}"))

    def _pairs(self, node: yaml.MappingNode, loc: Loc) -> None:
        """Drops from a mapping what is no word, and what stands twice; says so."""
        names: dict[Any, yaml.Node] = {}
        kept: list[Pair] = []
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag or not key.value:
                self.mistakes.append(self.marks.on(key, dotted(loc), "this cannot be a name", 'quote "${…}"; a name is a single word'))
            elif key.value == "<<" and key.style == "":
                self.mistakes.append(self.marks.on(key, dotted(loc), "merge keys (<<) are not used here", "write out what it would bring"))
            elif key.value in names:
                self._twice(key, names[key.value], dotted((*loc, key.value)))
            else:
                names[key.value] = key
                kept.append((key, value))
        if len(kept) != len(node.value):
            node.value = kept

    def _value(self, node: yaml.Node, loc: tuple[str | int, ...]) -> Any:
        """A node as plain data. Places of files (TLS, data_dir) are made absolute here, where their file is known."""
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, loc)
        if isinstance(node, KeyLine):
            return node.data()
        if node.tag:
            self.mistakes.append(self.marks.on(node, dotted(loc), "! makes this a tag; they are not used here", "leave it out"))
            return None
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*loc, number)) for number, item in enumerate(node.value)]
        assert isinstance(node, yaml.MappingNode)
        if len(loc) > 1 or loc[0] not in MERGED:
            self._pairs(node, loc)
        return {key.value: self._value(value, (*loc, key.value)) for key, value in node.value}

    def _scalar(self, node: yaml.ScalarNode, loc: tuple[str | int, ...]) -> Any:
        text: str = node.value
        if node.tag:
            self.mistakes.append(
                self.marks.on(node, dotted(loc), "! makes this a tag; they are not used here", "quote what is meant as text")
            )
            return None
        if "\0" in text:  # written as "\0": nothing that is meant has it, and no path may
            self.mistakes.append(self.marks.on(node, dotted(loc), "this holds the character U+0000", "remove it"))
            self.broken = True
            return Expanded("")
        names_file = loc == ("data_dir",) or (len(loc) > 1 and loc[-1] in _TLS_FILES and loc[-2] == "tls")
        if "${" in text:
            return self._expanded(node, loc, names_file)
        if names_file and text and (node.style != "" or isinstance(plain(text), str)):
            return os.path.normpath(Path(node.start_mark.name).parent / text)
        if loc[0] != "keys" and (loc[-1] in SECRET_WORDS or (not SECRET_MAPS.isdisjoint(loc[-3:-1]) and "when" not in loc)):
            self.marks.secrets.add(text)
        return plain(text) if node.style == "" else text

    def _expanded(self, node: yaml.ScalarNode, loc: tuple[str | int, ...], names_file: bool) -> Any:
        folder = Path(node.start_mark.name).parent
        text: str = node.value
        if names_file and text.startswith("${file:") and text.endswith("}") and text.count("${") == 1:
            return os.path.normpath(folder / text[7:-1])
        try:
            value = expand(text, self.environ, folder, self._refer)
        except ExpandError as error:
            raw = self.marks.files[node.start_mark.name][node.start_mark.index : node.end_mark.index]
            skip = max(0, raw.find(text[error.at : error.at + 8])) if "\n" not in raw else 0
            self.mistakes.append(self.marks.on(node, dotted(loc), str(error), error.hint, skip))
            self.broken = True
            return Expanded("")
        self.expanded.append(value)
        self.marks.secrets.add(value)
        return os.path.normpath(folder / value) if names_file and value else Expanded(value)

    def _refer(self, path: Path) -> None:
        self.watch[path] = self.referred[path] = None


def _is_ours(node: yaml.MappingNode) -> bool:
    """Whether one of a file's first words is one of ours, or near one: then it is a configuration with a slip."""
    names = [key.value for key, _ in node.value[:_LOOKED_AT] if isinstance(key, yaml.ScalarNode)]
    return not names or any(difflib.get_close_matches(name, Config.model_fields, 1, 0.6) for name in names)


def _is_map(node: yaml.Node) -> bool:
    return isinstance(node, yaml.MappingNode) or is_null(node)


def _is_list(node: yaml.Node) -> bool:
    return isinstance(node, yaml.SequenceNode) or is_null(node)

"""Editing a YAML file for an operator: under a lock, whole or not at all, comments kept, and never over someone else's change."""

import contextlib
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from gateway.config import files, surgery
from gateway.config.compose import MOST_BYTES, BadFile, compose, empty, no_collecting, read_text
from gateway.config.flow import Scalar, flow, literal
from gateway.config.key_lines import KeyLine
from gateway.config.surgery import refused
from gateway.errors import ConfigError as ConfigError

PathLike = str | os.PathLike[str]
_lately = lru_cache(maxsize=2)(compose)
"""A command looks for the file that it edits before it does: so it is read once."""


@dataclass(frozen=True, slots=True)
class Edited:
    """A file that was changed, and how it was before; None = it was not there."""

    file: Path
    before: str | None = field(repr=False)
    after: str = field(repr=False)

    def undo(self) -> None:
        """As it was, unless somebody has changed it since. Raises ConfigError then, and OSError."""
        if self.before is None:
            with files.locked(self.file):
                if _now(self.file) != self.after:
                    raise _changed(self.file)
                self.file.unlink()
            return

        def cut(text: str, root: yaml.MappingNode, file: Path) -> str:
            if text != self.after:
                raise _changed(file)
            assert self.before is not None
            return self.before

        _edit(self.file, cut, None)


def add_keys(path: PathLike, keys: Sequence[Mapping[str, Any]], *, dry: bool = False) -> Edited:
    """Adds keys to the file's `keys`, each as one line at the end. References in them are text. dry: only says what the file would be.

    Raises ConfigError (nothing was written), OSError.
    """
    items = [flow(literal(key)) for key in keys]
    made = [surgery.data(surgery.tree(f"keys:\n  - {item}\n", Path(path)))["keys"][0] for item in items]

    def expected(data: Any) -> None:
        known = {_id(one) for one in _keys(data)}
        for key in keys:
            if key["id"] in known:
                raise refused(Path(path), f'there is a key "{key["id"]}" already')
        data["keys"] = [*_keys(data), *made]

    return _edit(Path(path), lambda text, root, file: surgery.add_items(text, root, file, items), expected, dry=dry)


def add_prices(path: PathLike, prices: Sequence[Mapping[str, Any]]) -> Edited:
    """Adds entries to the file's `prices`, each as one line at the end; a file that is not there is made. Raises as `add_keys` does."""
    items = [flow(price) for price in prices]
    made = surgery.data(surgery.tree("prices:\n" + "".join(f"  - {item}\n" for item in items), Path(path)))["prices"]

    def expected(data: Any) -> None:
        there = data.get("prices")
        data["prices"] = [*(there if isinstance(there, list) else []), *made]

    return _edit(Path(path), lambda text, root, file: surgery.add_items(text, root, file, items, "prices"), expected)


def remove_key(path: PathLike, id: str) -> Edited:
    """Removes the key of that id. Raises ConfigError (nothing was written; also when there is no such key), OSError."""

    def expected(data: Any) -> None:
        data["keys"].pop(next(number for number, item in enumerate(data["keys"]) if _id(item) == id))

    return _edit(Path(path), lambda text, root, file: surgery.remove_key(text, root, file, id), expected)


def set_in_key(path: PathLike, id: str, words: Mapping[str, Any]) -> Edited:
    """Lets words of a key say something else, as plain data; None: takes the word out. Raises as `add_keys` does."""
    made = surgery.data(
        surgery.tree(f"keys:\n  - {flow({word: value for word, value in words.items() if value is not None})}\n", Path(path))
    )

    def cut(text: str, root: yaml.MappingNode, file: Path) -> str:
        for number, (word, value) in enumerate(words.items()):
            root = surgery.tree(text, file) if number else root
            text = surgery.set_in_key(text, root, file, id, word, None if value is None else flow(value))
        return text

    def expected(data: Any) -> None:
        number = next(number for number, item in enumerate(data["keys"]) if _id(item) == id)
        item = data["keys"][number] = _raw(data["keys"][number])
        for word, value in words.items():
            item.pop(word, None) if value is None else item.update({word: made["keys"][0][word]})

    return _edit(Path(path), cut, expected)


def set_words(path: PathLike, words: Mapping[tuple[str, str], Any], *, fleeting: Collection[str] = ()) -> Edited:
    """Lets words of groups, (`tenants.retail`, `priority`), say something else, as plain data; None: takes the word out. fleeting: groups
    that go with their last word. Raises as `add_keys` does."""

    def cut(text: str, root: yaml.MappingNode, file: Path) -> str:
        for number, ((group, word), value) in enumerate(words.items()):
            root = surgery.tree(text, file) if number else root
            if value is None:
                text = surgery.remove_word(text, root, group, word)
            else:
                text = surgery.set_word(text, root, file, group, word, flow(value))
        for group in fleeting:
            if _group(surgery.data(root := surgery.tree(text, file)), group, made=False) == {}:
                text = surgery.remove_word(text, root, *group.rsplit(".", 1))
        return text

    def expected(data: Any) -> None:
        for (group, word), value in words.items():
            if value is not None:
                _group(data, group)[word] = surgery.data(surgery.tree(f"x: {flow(value)}\n", Path(path)))["x"]
            elif (found := _group(data, group, made=False)) is not None:
                found.pop(word, None)
        for group in fleeting:
            if _group(data, group, made=False) == {}:
                above, _, last = group.rpartition(".")
                _group(data, above).pop(last)

    return _edit(Path(path), cut, expected)


def set_scalar(path: PathLike, dotted: str, value: Scalar) -> Edited:
    """Sets a single value, `models.qwen.targets[0].weight`. Raises ConfigError (nothing was written), OSError."""
    return _edit(Path(path), lambda text, root, file: surgery.set_scalar(text, root, file, dotted, value), None)


def keys_file(path: PathLike) -> Path:
    """The file of a configuration where keys are written: the first that has `keys`, else an included keys.yaml, else `path` itself."""
    with no_collecting():
        found = _files(Path(os.path.abspath(path)), set())
    with_keys = [file for file, root in found if surgery.section(root, "keys")]
    named = [file for file, _ in found[1:] if file.name == "keys.yaml"]
    return (with_keys or named or [Path(os.path.abspath(path))])[0]


def make_keys_file(path: PathLike) -> Path | None:
    """An included `keys.yaml` that does not exist yet is made, empty: the first key will stand in it. None: nothing is missing."""
    if (file := missing_keys_file(path)) is not None:
        files.write(file, b"keys: []\n", 0o640)
    return file


def missing_keys_file(path: PathLike) -> Path | None:
    """An included `keys.yaml` that does not exist yet; None: nothing is missing."""
    path = Path(os.path.abspath(path))
    try:
        root = compose(path, read_text(path))
    except BadFile:
        return None
    include = surgery.section(root, "include") if isinstance(root, yaml.MappingNode) else None
    items = include[1].value if include and isinstance(include[1], yaml.SequenceNode) else [include[1]] if include else []
    for item in items:
        file = path.parent / str(item.value)
        if file.name == "keys.yaml" and not os.path.lexists(file) and file.parent.is_dir():
            return file
    return None


def file_of(path: PathLike, section: str, name: str | None = None) -> Path | None:
    """The file of a configuration that has a section; with a name: this part of it."""
    for file, root in _files(Path(os.path.abspath(path)), set()):
        found = surgery.section(root, section)
        if found and (name is None or (isinstance(found[1], yaml.MappingNode) and surgery.section(found[1], name))):
            return file
    return None


def file_of_key(path: PathLike, id: str) -> Path | None:
    """The file of a configuration that holds the key of that id."""
    with no_collecting():
        return next((file for file, root in _files(Path(os.path.abspath(path)), set()) if surgery.has_key(root, id)), None)


def _files(path: Path, seen: set[Path]) -> list[tuple[Path, yaml.MappingNode]]:
    """The files that can be read and their trees; includes in order. Tolerant: what is broken is left out."""
    if path in seen:
        return []
    seen.add(path)
    try:
        root = _lately(path, read_text(path))
    except BadFile:
        return []
    if root is None:
        root = empty(path)
    if not isinstance(root, yaml.MappingNode):
        return []
    found = [(path, root)]
    include = surgery.section(root, "include")
    for item in include[1].value if include and isinstance(include[1], yaml.SequenceNode) else [include[1]] if include else []:
        for name in (
            sorted(path.parent.glob(str(item.value)))
            if isinstance(item, yaml.ScalarNode) and not os.path.isabs(item.value)
            else [Path(str(item.value))]
        ):
            found += _files(name, seen)
    return found


def _keys(data: Any) -> list[Any]:
    found = data.get("keys")
    return found if isinstance(found, list) else []


def _id(item: Any) -> str | None:
    if isinstance(item, KeyLine):
        return item.key_id
    return item.get("id", (None,))[0] if isinstance(item, dict) else None


def _raw(item: Any) -> Any:
    return item.raw() if isinstance(item, KeyLine) else item


def _group(data: Any, dotted: str, *, made: bool = True) -> Any:
    """The group at a path, made where it is not there, or else None. Names may hold dots: the longest that fits is taken."""
    while dotted and isinstance(data, dict):
        word = max((word for word in data if f"{dotted}.".startswith(f"{word}.")), key=len, default=dotted.partition(".")[0])
        if made and not isinstance(data.get(word), dict):
            data[word] = {}
        data, dotted = data.get(word), dotted[len(word) :].removeprefix(".")
    return data if isinstance(data, dict) else None


def _changed(path: Path) -> ConfigError:
    return refused(path, f"{path} has been changed since", "look at it, and edit it by hand")


def _edit(
    path: Path, cut: Callable[[str, yaml.MappingNode, Path], str], expected: Callable[[Any], None] | None, *, dry: bool = False
) -> Edited:
    """Reads, cuts, checks that only what was meant has changed, and replaces the file unless it changed meanwhile. dry: it stays."""
    with contextlib.nullcontext() if dry else files.locked(path), no_collecting():
        text = _now(path)
        root = surgery.tree(text, path, _lately)
        new = cut(text, root, path)
        if len(encoded := new.encode()) > MOST_BYTES and len(new) > len(text):
            hint = "begin another file, and name it before this one in `include`"
            raise refused(
                path, f"the file would be larger than {MOST_BYTES // 2**20} MiB, and nobody could read it; nothing was written", hint
            )
        now = surgery.data(surgery.tree(new, path))
        if expected is not None:
            was = surgery.data(root)
            expected(was)
            if was != now:
                raise refused(
                    path, "the file is written in a way that a command cannot edit safely; nothing was changed", "edit it by hand"
                )
        if text != _now(path):
            raise refused(path, "the file changed while it was being edited; nothing was written", "try again")
        before = text if os.path.lexists(path) else None
        if not dry:
            files.write(path, encoded, 0o640)
        return Edited(path, before, new)


def _now(path: Path) -> str:
    """The text; nothing when there is no such file yet."""
    try:
        return read_text(path) if path.exists() or path.is_symlink() else ""
    except BadFile as bad:
        raise refused(path, bad.message) from None

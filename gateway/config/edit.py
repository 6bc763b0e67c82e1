"""Editing a YAML file for an operator: under a lock, whole or not at all, comments kept, and never over someone else's change."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from gateway.config import files, surgery
from gateway.config.compose import BadFile, compose, empty, no_collecting, read_text
from gateway.config.resolved import Key
from gateway.config.surgery import Scalar, refused
from gateway.errors import ConfigError as ConfigError

PathLike = str | os.PathLike[str]


def add_key(path: PathLike, key: Key, label: str | None = None) -> None:
    """Adds a key to the file's `keys`, as one line at the end. Raises ConfigError (nothing was written), OSError."""
    item = surgery.key_text(key, label)
    made = surgery.data(surgery.tree(f"keys:\n  - {item}\n", Path(path)))["keys"]

    def cut(text: str, root: yaml.MappingNode, file: Path) -> str:
        return surgery.add_key(text, root, file, item)

    def expected(data: Any) -> None:
        if any(_is(one, key.id) for one in _keys(data)):
            raise refused(Path(path), f'there is a key "{key.id}" already')
        data["keys"] = [*_keys(data), *made]

    _edit(Path(path), cut, expected)


def remove_key(path: PathLike, id: str) -> None:
    """Removes the key of that id. Raises ConfigError (nothing was written; also when there is no such key), OSError."""

    def expected(data: Any) -> None:
        data["keys"].pop(next(number for number, item in enumerate(data["keys"]) if _is(item, id)))

    _edit(Path(path), lambda text, root, file: surgery.remove_key(text, root, file, id), expected)


def set_scalar(path: PathLike, dotted: str, value: Scalar) -> None:
    """Sets a single value, `models.qwen.targets[0].weight`. Raises ConfigError (nothing was written), OSError."""
    _edit(Path(path), lambda text, root, file: surgery.set_scalar(text, root, file, dotted, value), None)


def keys_file(path: PathLike) -> Path:
    """The file of a configuration where keys are written: the first that has `keys`, else an included keys.yaml, else `path` itself."""
    found = _files(Path(os.path.abspath(path)), set())
    with_keys = [file for file, root in found if surgery.section(root, "keys")]
    named = [file for file, _ in found[1:] if file.name == "keys.yaml"]
    return (with_keys or named or [Path(os.path.abspath(path))])[0]


def make_keys_file(path: PathLike) -> Path | None:
    """An included `keys.yaml` that does not exist yet is made, empty: the first key will stand in it. None: nothing is missing."""
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
            files.write(file, b"keys: []\n", 0o640)
            return file
    return None


def file_of_key(path: PathLike, id: str) -> Path | None:
    """The file of a configuration that holds the key of that id."""
    for file, root in _files(Path(os.path.abspath(path)), set()):
        if any(_is(item, id) for item in _keys(surgery.data(root))):
            return file
    return None


def _files(path: Path, seen: set[Path]) -> list[tuple[Path, yaml.MappingNode]]:
    """The files that can be read and their trees; includes in order. Tolerant: what is broken is left out."""
    if path in seen:
        return []
    seen.add(path)
    try:
        root = compose(path, read_text(path))
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


def _is(item: Any, id: str) -> bool:
    return isinstance(item, dict) and item.get("id", ("",))[0] == id


def _edit(path: Path, cut: Callable[[str, yaml.MappingNode, Path], str], expected: Callable[[Any], None] | None) -> None:
    """Reads, cuts, checks that only what was meant has changed, and replaces the file unless it changed meanwhile."""
    with files.locked(path), no_collecting():
        text = _now(path)
        root = surgery.tree(text, path)
        new = cut(text, root, path)
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
        files.write(path, new.encode(), 0o640)


def _now(path: Path) -> str:
    """The text; nothing when there is no such file yet."""
    try:
        return read_text(path) if path.exists() or path.is_symlink() else ""
    except BadFile as bad:
        raise refused(path, bad.message) from None

"""A registry of type `file`: a list that another program writes, as Prometheus' file_sd reads it. Looked at every second, read in
a thread when it is another one and has come to rest; a list that cannot be used changes nothing.
"""

import asyncio
import json
import re
from pathlib import Path
from typing import Final

import yaml

from gateway.config.compose import BadFile, compose, is_null, position, read_text
from gateway.discover.files import Mark, marks
from gateway.discover.registries.known import Found, Known, endpoint_at

EVERY: Final = 1.0
"""Seconds between two looks at the file's mark."""
RESTLESS: Final = 10
"""Looks after which a file is read although it changes each time."""
LARGEST: Final = 65_535
"""Of weights and priorities: what SRV records can hold."""
EMPTY: Final = "the file is empty"
_ESCAPE: Final = re.compile(r"\\(?:u[dD][89a-fA-F][0-9a-fA-F]{2}|.)")
"""JSON's escapes, those of a surrogate apart. One after the other, since a backslash may stand for itself."""


async def watch(known: Known) -> None:
    """For ever. A change counts when the file stayed the same for one look: a half-written list may be a good, shorter one."""
    path = Path(known.config.path)
    read: Mark | str = "never"
    seen: Mark | str = "never"
    moving = 0
    while True:
        mark = (await asyncio.to_thread(marks, [path]))[path]
        moving = moving + 1 if mark != seen else 0
        if mark != read and (read == "never" or not moving or moving >= RESTLESS):
            await _read(known, path)
            read, moving = mark, 0
        elif read != "never":
            known.remind()
        seen = mark
        await asyncio.sleep(EVERY)


async def _read(known: Known, path: Path) -> None:
    try:
        found = await asyncio.to_thread(listed, path)
    except BadFile as bad:
        place = f"{path}:{bad.line}" if bad.line else str(path)
        known.failed(f"{place}: {bad.message}" + (f" ({bad.hint})" if bad.hint else ""))
    else:
        known.found(found)


def listed(path: Path) -> list[Found]:
    """The endpoints that a file lists. Raises BadFile with the line, when it is no such list."""
    text = read_text(path)
    if not text.strip():
        raise BadFile(EMPTY, hint="a list without endpoints is []")
    if path.suffix == ".json":
        try:
            json.loads(text)
        except RecursionError:
            raise BadFile("it is nested too deep") from None
        except ValueError as error:
            line, column = getattr(error, "lineno", 0), getattr(error, "colno", 0)
            raise BadFile(f"it is not JSON: {getattr(error, 'msg', error)}", line, column) from None
        text = _as_yaml(text)
    root = compose(path, text)
    if root is None:
        raise BadFile(EMPTY, hint="a list without endpoints is []")
    return [found for group in _items(root, "the file is not a list of groups") for found in _group(group)]


def _as_yaml(text: str) -> str:
    """JSON is YAML, but for tabs between values and for characters that it writes as two escapes (emoji). Those can stand in labels alone
    that nobody looks at. Everything stays at its place, for what is said of lines."""
    return _ESCAPE.sub(lambda found: "\\ufffd" if len(found[0]) == 6 else found[0], text.replace("\t", " "))


def _items(node: yaml.Node, message: str) -> list[yaml.Node]:
    if not isinstance(node, yaml.SequenceNode):
        raise BadFile(message, *position(node), 'it is like [{"targets": ["10.0.0.6:8000"], "labels": {}}]')
    items: list[yaml.Node] = node.value
    return items


def _group(node: yaml.Node) -> list[Found]:
    words = _pairs(node, "this is not a group of targets and labels")
    if "targets" not in words:
        raise BadFile("`targets` is missing", *position(node))
    labelled = "labels" in words and not is_null(words["labels"])  # programs write null for none
    labels = _pairs(words["labels"], "labels are not a group of `name: text`") if labelled else {}
    scheme = _text(labels["__scheme__"]) if "__scheme__" in labels else "http"
    numbers: dict[str, int] = {}
    for word in ("weight", "priority"):
        if word in labels:
            numbers[word] = _number(labels[word], word)
    return [_target(target, scheme, numbers) for target in _items(words["targets"], "`targets` is not a list")]


def _pairs(node: yaml.Node, message: str) -> dict[str, yaml.Node]:
    if not isinstance(node, yaml.MappingNode) or not all(isinstance(key, yaml.ScalarNode) for key, _ in node.value):
        raise BadFile(message, *position(node))
    return {key.value: value for key, value in node.value}


def _text(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise BadFile("this is not text", *position(node))
    text: str = node.value
    return text


def _number(node: yaml.Node, word: str) -> int:
    text = _text(node)
    least = 1 if word == "weight" else 0
    if not text.isascii() or not text.isdigit() or not least <= int(text[:9]) <= LARGEST:
        raise BadFile(f"the {word} is not a whole number from {least} to {LARGEST}", *position(node))
    return int(text)


def _target(node: yaml.Node, scheme: str, numbers: dict[str, int]) -> Found:
    text = _text(node)
    url = text if "://" in text else f"{scheme}://{text}"
    try:
        return endpoint_at(url, **numbers)
    except ValueError as error:
        raise BadFile(f"a target {str(error).partition('; ')[0]}", *position(node), 'targets are like "10.0.0.6:8000"') from None

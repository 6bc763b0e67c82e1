"""From a file's path to a checked configuration, or to every mistake in it at once. Control and gatewayctl share it; workers never do."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from gateway.config.check import Facts, check
from gateway.config.compose import no_collecting
from gateway.config.expand import read_small
from gateway.config.marks import Loc
from gateway.config.read import Reading
from gateway.config.redact import NOBODY
from gateway.config.schema import Config
from gateway.config.wording import worded
from gateway.errors import ConfigError as ConfigError
from gateway.errors import Mistake as Mistake

_LISTS: Final = (("alerts", "rules"), ("prices",))
"""Lists whose items are checked each by itself, as rules of models and limits of anything are."""
_NAMED = ("listeners", "registries", "channels", "models", "schedules", "tenants")


@dataclass(frozen=True)
class Loaded:
    """A configuration without mistakes.

    files: each YAML file's path and text. watch: files and folders whose change matters. digest: SHA-256 over files,
    references' values and certificates; equal content = equal digest. certificates: SHA-256 of each TLS file's bytes.
    names: what looks like a token and is a name (`redact.covered`).
    """

    path: Path
    config: Config = field(repr=False)
    files: dict[str, str] = field(repr=False)
    watch: tuple[Path, ...]
    digest: str
    certificates: dict[str, str] = field(repr=False)
    names: frozenset[str] = NOBODY


def load(path: str | os.PathLike[str], environ: Mapping[str, str] | None = None, instead: Mapping[str, str] | None = None) -> Loaded:
    """Reads and checks everything. instead: texts that files are read as if they had, by their real paths.

    Raises ConfigError with all mistakes, in the order of the files and lines.
    """
    with no_collecting():
        return _loaded(Reading(Path(os.path.abspath(path)), os.environ if environ is None else environ, instead))


def _loaded(reading: Reading) -> Loaded:
    reading.run()
    config, mistakes = validated(reading)
    facts = Facts()
    if config is not None:
        mistakes += check(config, reading, facts)
    mistakes = _ordered(reading, [*reading.mistakes, *mistakes])
    if mistakes or config is None:
        raise ConfigError(mistakes)
    certificates = {file: _digest_of(file) for file in sorted(facts.files)}
    watch = tuple(dict.fromkeys([*reading.watch, *(Path(file) for file in certificates)]))
    return Loaded(reading.path, config, reading.marks.files, watch, _digest(reading, certificates), certificates, reading.marks.known())


def watched(path: str | os.PathLike[str], environ: Mapping[str, str] | None = None) -> tuple[Path, ...]:
    """What to watch while the configuration is broken: as far as it can be read. Never raises."""
    reading = Reading(Path(os.path.abspath(path)), os.environ if environ is None else environ)
    reading.run()
    config, _ = validated(reading)
    facts = Facts()
    if config is not None:
        check(config, reading, facts)
    return tuple(dict.fromkeys([*reading.watch, *map(Path, sorted(facts.files))]))


def validated(reading: Reading) -> tuple[Config | None, list[Mistake]]:
    """The configuration; with mistakes, what is left of it without the parts that hold them, so that checking can go on."""
    if not reading.data:
        return None, []
    try:
        return Config.model_validate(reading.data), []
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
    mistakes = worded(errors, reading)
    pruned = _pruned(reading.data, [e["loc"] for e in errors], reading.marks.left)
    try:
        return Config.model_validate(pruned), mistakes
    except ValidationError:
        return None, mistakes


def _pruned(data: dict[str, Any], locs: list[Loc], numbers_left: dict[Loc, list[int]]) -> dict[str, Any]:
    """The data without each section, named part, key, or item of a list that holds a mistake. numbers_left: of each list from which items
    were taken, those that are left."""
    left: dict[str, Any] = {"version": 1, **data}
    bad: dict[str, set[str | int]] = {}
    items: dict[Loc, set[int]] = {}
    for loc in locs:
        at = _item(loc, data)
        if at is not None:
            items.setdefault(at[:-1], set()).add(int(at[-1]))
        elif len(loc) > 1 and (loc[0] in _NAMED or loc[0] == "keys"):
            bad.setdefault(str(loc[0]), set()).add(loc[1])
        elif loc:
            left.pop(str(loc[0]), None)
    left["version"] = 1
    for path, wrong in items.items():  # before keys are left out, which have numbers of their own
        left = _without(left, path, wrong, numbers_left, path)
    for section, names in bad.items():
        part = left.get(section)
        if isinstance(part, dict):
            left[section] = {name: item for name, item in part.items() if name not in names}
            if section == "listeners" and not left[section]:
                del left[section]
        elif isinstance(part, list):
            left[section] = [item for number, item in enumerate(part) if number not in names]
    return left


def _item(loc: Loc, data: Any) -> Loc | None:
    """The item of a list that a mistake is in, where those beside it can be checked without it."""
    for depth, step in enumerate(loc):
        listed = loc[depth - 1] == "limits" or loc[:depth] in _LISTS or (depth == 3 and (loc[0], loc[2]) == ("models", "rules"))
        if depth and listed and isinstance(step, int) and isinstance(data, list):
            return loc[: depth + 1]
        if isinstance(data, dict):
            data = data.get(step)
        elif isinstance(data, list) and isinstance(step, int) and step < len(data):
            data = data[step]
        else:
            return None
    return None


def _without(node: Any, path: Loc, wrong: set[int], numbers_left: dict[Loc, list[int]], whole: Loc) -> Any:
    """A copy of `node` without those items of the list at `path`."""
    if not path:
        stay = numbers_left[whole] = [number for number in range(len(node)) if number not in wrong]
        return [node[number] for number in stay]
    if isinstance(node, list):
        return [_without(item, path[1:], wrong, numbers_left, whole) if n == path[0] else item for n, item in enumerate(node)]
    return {**node, path[0]: _without(node[path[0]], path[1:], wrong, numbers_left, whole)} if path[0] in node else node


def _ordered(reading: Reading, mistakes: list[Mistake]) -> list[Mistake]:
    order = {file: number for number, file in enumerate(reading.marks.files)}
    return sorted(dict.fromkeys(mistakes), key=lambda m: (order.get(m.file, -1), m.line, m.column))


def _digest_of(file: str) -> str:
    try:
        return hashlib.sha256(read_small(Path(file))).hexdigest()
    except OSError:
        return ""


def _digest(reading: Reading, certificates: dict[str, str]) -> str:
    total = hashlib.sha256()
    folder = reading.path.parent
    names = {os.path.relpath(file, folder): text for file, text in reading.marks.files.items()}
    for part in (*(piece for name in sorted(names) for piece in (name, names[name])), *reading.expanded, *certificates.values()):
        encoded = part.encode("utf-8", "surrogateescape")
        total.update(len(encoded).to_bytes(8, "big") + encoded)
    return total.hexdigest()

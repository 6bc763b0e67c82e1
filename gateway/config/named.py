"""Every file that a configuration names, and what it is: for who looks after the files, not for who serves. Never raises for mistakes."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from gateway.config.check import Facts, check
from gateway.config.expand import read_small
from gateway.config.load import validated
from gateway.config.read import Reading
from gateway.config.redact import NOBODY
from gateway.config.schema import Config

Kind = Literal["yaml", "secret", "other"]
"""`yaml`: the main file and what it includes, read or not. `secret`: a file of `${file:…}`, or one that holds a private key.
`other`: certificates, tokenizers, lists of endpoints."""
_environment: Final = re.compile(r"(?<!\$)\$\{env:([A-Za-z_][A-Za-z0-9_]*)")
_no_comment: Final = re.compile(r"(?:^|\s)#.*")


@dataclass(frozen=True)
class Named:
    """files: by path, as they are named. texts: of the YAML files. literal: YAML files with a secret in plain text. variables: those of
    `${env:…}`. secrets: values that nothing may show. names: see `redact.covered`."""

    files: dict[Path, Kind]
    texts: dict[str, str] = field(repr=False)
    literal: tuple[Path, ...]
    variables: tuple[str, ...]
    secrets: frozenset[str] = field(repr=False)
    names: frozenset[str] = NOBODY


def named(path: str | os.PathLike[str], environ: Mapping[str, str] | None = None) -> Named:
    """All of them, as far as the files can be read."""
    reading = Reading(Path(os.path.abspath(path)), os.environ if environ is None else environ)
    reading.run()
    config, _ = validated(reading)
    facts = Facts()
    if config is not None:
        check(config, reading, facts)
    texts = reading.marks.files
    found: dict[Path, Kind] = {Path(file): "yaml" for file in texts}
    yaml = {os.path.realpath(file) for file in texts}
    others = [*map(Path, sorted(facts.files)), *_lists(config, reading.path.parent)]
    for file in others:
        found.setdefault(file, "secret" if _holds_a_key(file) else "other")
    for file in reading.watch:  # what is no folder and no reference is an include that could not be read
        if file not in found and file not in reading.folders and os.path.realpath(file) not in yaml and not os.path.isdir(file):
            found[file] = "secret" if file in reading.referred else "yaml"
    written = reading.marks.secrets - set(reading.expanded) - {""}
    literal = tuple(Path(file) for file, text in texts.items() if any(secret in text for secret in written))
    lines_of_all = (_no_comment.sub("", line) for text in texts.values() for line in text.splitlines())
    variables = dict.fromkeys(name for line in lines_of_all for name in _environment.findall(line))
    secrets = frozenset(secret for secret in reading.marks.secrets if secret)
    return Named(found, dict(texts), literal, tuple(variables), secrets, reading.marks.known())


def _lists(config: Config | None, folder: Path) -> list[Path]:
    """What registries of type file read."""
    registries = config.registries.values() if config is not None else ()
    return [Path(os.path.normpath(folder / one.path)) for one in registries if one.path]


def _holds_a_key(file: Path) -> bool:
    try:
        return b"PRIVATE KEY-----" in read_small(file)
    except OSError:
        return False

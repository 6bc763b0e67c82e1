"""Which values are secret on this host: so that they are found wherever they turn up. Reads them, shows none."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from gateway.config.expand import read_small
from gateway.config.named import Named
from gateway.config.redact import pieces_of
from gateway.config.revisions import Damaged, Revisions

REVISIONS: Final = 10
"""The newest ones are looked at: a secret that was replaced may still stand in a log."""
TOKEN: Final = 8
"""Characters from which on a piece of a sink's URL is more than a port or a word."""
_secret_variable: Final = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH|COOKIE", re.I)
_paths: Final = re.compile(r"/[\w./-]*")


def secrets_of(named: Named, environ: Mapping[str, str], data_dir: Path) -> set[str]:
    """All that are found. Errors: none; what cannot be read is not known."""
    found = set(named.secrets)
    found.update(environ[name] for name in named.variables if name in environ)
    found.update(value for name, value in environ.items() if _secret_variable.search(name) and not _paths.fullmatch(value))
    found.update(line for file, kind in named.files.items() if kind == "secret" for line in _lines(file))
    found.update(_of_revisions(data_dir))
    return {secret.strip() for secret in found if secret.strip()}


def _lines(file: Path) -> list[str]:
    try:
        lines = read_small(file).decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    return [line for line in lines if not line.startswith("-----")]


def _of_revisions(data_dir: Path) -> Iterator[str]:
    revisions = Revisions(data_dir)
    try:
        numbers = revisions.numbers()[-REVISIONS:]
    except OSError:
        return
    for number in numbers:
        try:
            revision = revisions.get(number)
        except (Damaged, OSError):
            continue
        for channel in revision.resolved.channels.values():
            yield channel.credential or ""
            yield from channel.headers.values()
        for sink in revision.resolved.alerts.sinks.values():
            yield from (sink.url, sink.credential, *(piece for piece in pieces_of(sink.url) if len(piece) >= TOKEN))
            yield from pieces_of(sink.alertmanager.partition("://")[2].rpartition("@")[0])

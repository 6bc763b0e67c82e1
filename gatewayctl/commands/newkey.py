"""A new key: made or imported, written to its file, and taken out again when it does not fit."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.config import edit
from gateway.config.keys import hash_of, new_id, new_secret
from gateway.config.resolved import Key
from gateway.config.resolved_access import Access, Models
from gatewayctl.trouble import USAGE, Trouble


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a key shall be. id None: by chance. secret: an imported one; None: a new one."""

    tenant: str
    project: str
    models: tuple[str, ...]
    label: str | None = None
    id: str | None = None
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Added:
    """A key that is in `file`."""

    id: str
    secret: str = field(repr=False)
    wanted: Wanted = field(repr=False)
    file: Path

    def undo(self) -> None:
        """Take it out again."""
        edit.remove_key(self.file, self.id)

    def told(self, live: bool) -> dict[str, Any]:
        """For stdout. An imported secret is known already and not repeated."""
        said = {} if self.wanted.secret else {"secret": self.secret}
        wanted = self.wanted
        return {
            "id": self.id,
            **said,
            "tenant": wanted.tenant,
            "project": wanted.project,
            "models": list(wanted.models),
            "label": wanted.label,
            "file": str(self.file),
            "live": live,
        }


def add(config: Path, wanted: Wanted) -> Added:
    """Write it. Whether it fits the rest of the configuration is for the caller to find out, and to `undo`."""
    id, secret, hashed = _made(wanted)
    file = edit.keys_file(config)
    digest = bytes.fromhex(hashed.removeprefix("sha256:"))
    key = Key(id=id, digest=digest, tenant=wanted.tenant, project=wanted.project, access=Access(Models(wanted.models)))
    edit.add_key(file, key, wanted.label)
    return Added(id, secret, wanted, file)


def _made(wanted: Wanted) -> tuple[str, str, str]:
    if wanted.secret is not None:
        return wanted.id or new_id(), wanted.secret, hash_of(wanted.secret)
    try:
        return new_secret(wanted.id)
    except ValueError as error:
        raise Trouble(str(error), code=USAGE) from error

"""Numbered revisions of the configuration under `data_dir/revisions`, and which of them is in force.

A damaged one is reported, never fatal.

A file is `GWREV1\\n`, the SHA-256 of the rest, and the rest in MessagePack; 0600, because it holds secrets.
`current` is a small file that names a revision; replacing it is the commit.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from gateway.config import files
from gateway.config.resolved import FORMAT, Key, Referee, Resolved
from gateway.config.restore import Restored, differing, restore
from gateway.errors import ConfigError

KEEP: Final = 50
_MAGIC: Final = b"GWREV1\n"
_SUFFIX: Final = ".rev"


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a revision says of itself. ts: seconds since 1970. by: who made it, why: through what."""

    format: int
    rev: int
    ts: float
    digest: str
    by: str
    why: str


class Revision(Summary, frozen=True, kw_only=True):
    """A whole revision. files: the YAML files' paths and texts."""

    files: dict[str, str]
    resolved: Resolved
    keys: list[Key]


Kind = TypeVar("Kind", bound=Summary)


class Damaged(Exception):
    """A revision cannot be used: cut off, changed, missing, or written by a newer gateway."""


_revision = msgspec.msgpack.Decoder(Revision)
_summary = msgspec.msgpack.Decoder(Summary)
_encode = msgspec.msgpack.Encoder().encode


class Revisions:
    """The revisions of one data directory. One process writes (control); any may read."""

    def __init__(self, data_dir: str | os.PathLike[str]) -> None:
        self.folder = Path(data_dir) / "revisions"
        self.damaged: tuple[str, ...] = ()

    def save(self, *, digest: str, files: Mapping[str, str], resolved: Resolved, keys: Iterable[Key], by: str, why: str) -> int:
        """Writes the next revision, through to the disk, and forgets the oldest. Not yet in force: `commit` does that. Raises OSError."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        rev = self.upcoming()
        revision = Revision(
            format=FORMAT,
            rev=rev,
            ts=round(time.time(), 3),
            digest=digest,
            by=by,
            why=why,
            files=dict(files),
            resolved=resolved,
            keys=[*keys],
        )
        body = _encode(revision)
        _write(self._path(rev), _framed(body))
        self._forget()
        return rev

    def upcoming(self) -> int:
        """The number that `save` will give next."""
        return max([*self._numbers(), self._current() or 0]) + 1

    def commit(self, rev: int) -> None:
        """Puts a revision in force: an fsynced rename of `current`. Raises Damaged when there is no such revision, OSError."""
        if not self._path(rev).exists():
            raise Damaged(f"there is no revision {rev}")
        _write(self.folder / "current", f"{rev}\n".encode())

    def current(self) -> Revision | None:
        """The revision in force; None when there is none, or when it cannot be used (`damaged` then says why)."""
        rev = self._current()
        if rev is None:
            return None
        try:
            return self.get(rev)
        except Damaged as error:
            self._note(str(error))
            return None

    def get(self, rev: int) -> Revision:
        """Raises Damaged."""
        return self._read(rev, _revision)

    def without_secrets(self, rev: int) -> bytes:
        """The file of a revision with its YAML texts and nothing that was resolved: enough for history and rollback. Raises Damaged."""
        whole = self.get(rev)
        empty: dict[str, Any] = {word: {} for word in ("channels", "models", "tenants", "schedules", "registries", "limits", "access")}
        http = msgspec.structs.replace(whole.resolved.http, trusted_proxies=(), cors=None)
        bare = msgspec.structs.replace(whole.resolved, listeners=(), http=http, referee=Referee(), **empty)
        return _framed(_encode(msgspec.structs.replace(whole, resolved=bare, keys=[])))

    def numbers(self) -> Sequence[int]:
        """Those that there are, usable or not."""
        return self._numbers()

    def list(self) -> Sequence[Summary]:
        """All usable revisions, the oldest first. `damaged` names the others."""
        found = []
        for rev in self._numbers():
            try:
                found.append(self._read(rev, _summary))
            except Damaged as error:
                self._note(str(error))
        return found

    def unusable(self) -> Sequence[str]:
        """Why those that are kept and not in the list cannot be had, now."""
        now = Revisions(self.folder.parent)
        now.list()
        return now.damaged

    def restore(self, rev: int) -> Restored:
        """Writes a revision's YAML files back to their places, but never a key: see `restore`. Raises Damaged, ConfigError, OSError."""
        now = self.current()
        return restore(self.get(rev).files, now.files if now else {})

    def back(self, live: int) -> tuple[int, str]:
        """Which revision a sysadmin means who says "back" and no number, and why; 0: there is none, and why.

        Files that are not what is live, such as an edit that was refused, are taken back to what is; only then to the one before.
        """
        try:
            other = differing(self.get(live).files)
        except (Damaged, ConfigError, OSError):
            other = []  # what is live cannot be told from its file: the one before it can be had nevertheless
        if other:
            more = f" and {len(other) - 1} more" if len(other) > 1 else ""
            return live, f"{other[0]}{more} on disk is not what is live: back to revision {live}, which is live"
        before = max((told.rev for told in self.list() if told.rev < live), default=0)
        if not before:
            return 0, "there is no earlier revision to go back to"
        return before, f"the files on disk are those of revision {live}, which is live: back to the one before, revision {before}"

    def _path(self, rev: int) -> Path:
        return self.folder / f"{rev:06d}{_SUFFIX}"

    def _numbers(self) -> Sequence[int]:
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        return sorted(int(stem) for name in names if name.endswith(_SUFFIX) and (stem := name.removesuffix(_SUFFIX)).isdigit())

    def _current(self) -> int | None:
        try:
            text = (self.folder / "current").read_text("ascii", "replace").strip()
        except OSError:
            return None
        if not text.isdigit():
            self._note(f"{self.folder / 'current'} names no revision")
            return None
        return int(text)

    def _read(self, rev: int, decoder: msgspec.msgpack.Decoder[Kind]) -> Kind:
        path = self._path(rev)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise Damaged(f"there is no revision {rev} (the last {KEEP} are kept)") from None
        except OSError as error:
            raise Damaged(f"revision {rev} cannot be read: {error.strerror}") from None
        body = data[len(_MAGIC) + 32 :]
        if not data.startswith(_MAGIC) or data[len(_MAGIC) : len(_MAGIC) + 32] != hashlib.sha256(body).digest():
            raise Damaged(f"revision {rev} is damaged: {path}; {self._remedy(rev)}")
        try:
            found = _summary.decode(body)
            if found.format > FORMAT:
                raise Damaged(f"revision {rev} was written by a newer gateway (format {found.format}, this one reads {FORMAT})")
            return decoder.decode(body)
        except msgspec.MsgspecError as error:
            raise Damaged(f"revision {rev} is not understood: {error}") from None

    def _remedy(self, rev: int) -> str:
        if rev == self._current():
            mended = "the next change of the files, or a start with files that are right, puts a whole one in its place"
            return f"a gateway that serves it goes on; {mended}"
        return "nothing but going back to it needs it: bring it back from a backup, or remove it"

    def _forget(self) -> None:
        keep = self._current()
        for rev in self._numbers()[:-KEEP]:
            if rev != keep:
                with contextlib.suppress(FileNotFoundError):
                    self._path(rev).unlink()

    def _note(self, text: str) -> None:
        if text not in self.damaged:
            self.damaged = (*self.damaged, text)


def _framed(body: bytes) -> bytes:
    return _MAGIC + hashlib.sha256(body).digest() + body


def _write(path: Path, data: bytes) -> None:
    files.write(path, data, 0o600)

"""Verifies a backup from its first byte to its last, and unpacks one that is whole. Trusts no name in it."""

import hashlib
import os
import pwd
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from grp import getgrnam
from pathlib import Path, PurePosixPath
from typing import IO, Final

from gatewayctl.backup.contents import CONFIG, DATA
from gatewayctl.backup.manifest import NAME, Entry, Manifest, decoded
from gatewayctl.trouble import Trouble

BLOCK: Final = 1 << 20
LARGEST: Final = 256 << 20
"""Bytes of a manifest."""
_torn = (tarfile.TarError, EOFError, zlib.error, OSError)


def verified(path: Path) -> Manifest:
    """The manifest of a backup every byte of which is as it was written. Raises Trouble, or OSError when it cannot be read."""
    seen: list[Entry] = []
    manifest: Manifest | None = None
    with _opened(path) as tar:
        for member in tar:
            if manifest is not None:
                raise Trouble(f"{path} is damaged: something follows its manifest")
            if member.name == NAME:
                manifest = decoded(_read(tar, member).read(LARGEST))
            elif not member.isdir():
                seen.append(Entry(_checked(path, member), member.size, _sum(_read(tar, member))))
    if manifest is None:
        raise Trouble(f"{path} is torn: it ends before its manifest", "It was not finished, or not copied whole. Nothing was changed.")
    _compare(path, seen, manifest.files)
    return manifest


def _compare(path: Path, seen: list[Entry], listed: list[Entry]) -> None:
    if seen == listed:
        return
    there, wanted = {one.name: one for one in seen}, {one.name: one for one in listed}
    wrong = next((name for name in wanted if there.get(name) != wanted[name]), None) or next(iter(there.keys() - wanted.keys()), "a file")
    raise Trouble(f"{path} is damaged: {wrong} is not what its manifest says", "Take another backup. Nothing was changed.")


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    with path.open("rb") as file:
        try:
            with tarfile.open(fileobj=file, mode="r:*") as tar:
                yield tar
        except _torn as error:
            if isinstance(error, OSError) and error.errno:
                raise
            said = str(error).partition("\n")[0].rstrip(":")  # tarfile tells of each way that it has tried
            raise Trouble(f"{path} is torn or no backup: {said}", "Nothing was changed.") from error


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = tar.extractfile(member)
    if file is None:
        raise tarfile.ReadError(f"{member.name} is no file")
    return file


def _sum(file: IO[bytes]) -> str:
    total = hashlib.sha256()
    while data := file.read(BLOCK):
        total.update(data)
    return total.hexdigest()


def _checked(path: Path, member: tarfile.TarInfo) -> str:
    parts = PurePosixPath(member.name).parts
    if not member.isreg() or not parts or parts[0] not in (CONFIG, DATA) or ".." in parts or member.name.startswith("/"):
        raise Trouble(f"{path} is no backup of a gateway: it holds {member.name!r}")
    return member.name


def unpack(path: Path, part: str, folder: Path) -> None:
    """The files below `part` (`data`, or a file's folder in `config`) into `folder`, which exists and is empty; through to the disk."""
    with _opened(path) as tar:
        for member in tar:
            if member.name != part and not member.name.startswith(part + "/"):
                continue
            target = folder / member.name[len(part) :].lstrip("/")
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                _checked(path, member)
                target.parent.mkdir(parents=True, exist_ok=True)
                _write(_read(tar, member), target)
            _own(target, member)
    for place, _, _ in os.walk(folder):
        _sync(Path(place))


def unpack_one(path: Path, name: str, target: Path) -> None:
    """One file to `target`, which does not exist; its folder, when that has to be made, as it was."""
    with _opened(path) as tar:
        for member in tar:
            if member.name == name.rpartition("/")[0] and not target.parent.exists():
                target.parent.mkdir(mode=0o750, parents=True)
                _own(target.parent, member)
            elif member.name == name:
                _write(_read(tar, member), target)
                _own(target, member)
                return


def _write(file: IO[bytes], target: Path) -> None:
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with open(handle, "wb") as out:
            while data := file.read(BLOCK):
                out.write(data)
            out.flush()
            os.fsync(handle)
    except OSError as error:
        hint = "All of it has to fit beside what is there. Make room, or on another disk: --into DIR"
        raise Trouble(f"{target}: {error.strerror or error}; everything is as it was", hint) from error


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _own(target: Path, member: tarfile.TarInfo) -> None:
    """Mode and, for root, owner as they were: by name, because another host may count its users otherwise."""
    if os.geteuid() == 0:
        os.chown(target, _uid(member), _gid(member))
    target.chmod(member.mode & 0o777)


def unknown_owners(path: Path) -> list[str]:
    """Users and groups that own something in it and are nobody here: `user gateway`."""
    with _opened(path) as tar:
        members = [member for member in tar if member.name != NAME]
    users, groups = {member.uname for member in members}, {member.gname for member in members}
    return [
        *(f"user {name}" for name in sorted(users) if name and not _known(pwd.getpwnam, name)),
        *(f"group {name}" for name in sorted(groups) if name and not _known(getgrnam, name)),
    ]


def _known(ask: Callable[[str], object], name: str) -> bool:
    try:
        ask(name)
    except KeyError:
        return False
    return True


def _uid(member: tarfile.TarInfo) -> int:
    """Of a name that is nobody here root's, because its number may be anybody's; the number of a user that had no name."""
    try:
        return pwd.getpwnam(member.uname).pw_uid
    except KeyError:
        return 0 if member.uname else member.uid


def _gid(member: tarfile.TarInfo) -> int:
    try:
        return getgrnam(member.gname).gr_gid
    except KeyError:
        return 0 if member.gname else member.gid

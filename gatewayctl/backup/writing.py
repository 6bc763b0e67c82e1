"""Writes a backup beside its final name, and renames it when it is whole and on the disk. Files may come and go meanwhile."""

import contextlib
import fcntl
import glob
import hashlib
import io
import os
import shutil
import stat
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Final

from gateway.config import files
from gatewayctl.backup.contents import DATA, PACKED, Item, Left
from gatewayctl.backup.manifest import NAME, Entry, Manifest

PASSES: Final = 5
"""Looks at data_dir: after one in which a file vanished under our hands, what took its place has to be found."""

WORK: Final = ".work"

More = Callable[[set[str]], Iterable[Item | Left]]
"""Items that are not in the backup yet, given the names that are."""


class Writing:
    """One backup that is being written."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._folders: set[Path] = set()
        self.entries: list[Entry] = []
        self.left: dict[str, str] = {}
        self.vanished = False

    def take(self, items: Iterable[Item | Left]) -> None:
        """Copies each whole. Raises OSError for one that may not be read."""
        for item in items:
            if isinstance(item, Left):
                self.left[item.path] = item.why
                continue
            try:
                self._copy(item)
            except FileNotFoundError:  # a segment was merged, a revision forgotten
                self.vanished = True

    def take_all(self, more: More) -> None:
        """Again, until nothing vanished meanwhile."""
        for _ in range(PASSES):
            self.vanished = False
            self.take(more({entry.name for entry in self.entries}))
            if not self.vanished:
                return

    def finish(self, manifest: Manifest) -> None:
        data = manifest.encoded()
        facts = tarfile.TarInfo(NAME)
        facts.size, facts.mtime, facts.mode = len(data), int(manifest.created), 0o600
        self._tar.addfile(facts, io.BytesIO(data))

    def _copy(self, item: Item) -> None:
        with item.path.open("rb") as file:
            facts = self._tar.gettarinfo(arcname=item.name, fileobj=file)
        facts.type = tarfile.REGTYPE  # a second name of the same file would become a link
        with (item.bytes_of or item.path).open("rb") if item.data is None else io.BytesIO(item.data) as file:
            reader = _Sum(file)
            facts.size = file.seek(0, os.SEEK_END)
            file.seek(0)
            self.folder(item.path.parent, item.name.rpartition("/")[0])
            self._tar.addfile(facts, reader)
        self.entries.append(Entry(item.name, facts.size, reader.sum.hexdigest()))

    def folder(self, folder: Path, name: str) -> None:
        """A folder without what is in it, for its mode and owner; once. Before it those of data_dir that it lies in: what a restore
        has to make of itself would be root's. A link to a folder counts as what it leads to."""
        if folder in self._folders:
            return
        self._folders.add(folder)
        if name.startswith(f"{DATA}/"):
            self.folder(folder.parent, name.rpartition("/")[0])
        self._tar.addfile(self._tar.gettarinfo(os.path.realpath(folder), name))


class _Sum:
    """A file whose bytes are summed as they are read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sum = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.sum.update(data)
        return data


@contextlib.contextmanager
def writing(target: Path) -> Iterator[Writing]:
    """`target` appears, whole and mode 0600, when the block ends well; otherwise nothing is left. Raises OSError."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = partial_of(target)
    handle = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(handle, "wb") as file:
            fcntl.flock(handle, fcntl.LOCK_EX)  # a later backup knows by it that we are no leftover
            with tarfile.open(fileobj=file, mode="w:gz" if target.suffix in (".gz", ".tgz") else "w", format=tarfile.PAX_FORMAT) as tar:
                yield Writing(tar)
            file.flush()
            os.fsync(handle)
            os.replace(partial, target)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(target)  # a write that fails, as on a full disk, does not say of what
        raise
    files.sync_folder(target.parent)


def partial_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}.partial")


@contextlib.contextmanager
def working_file(target: Path) -> Iterator[Path]:
    """The name of a file beside `target` that is not there and goes at the end, or with the next backup."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = partial_of(target)
    handle = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield partial.with_name(f"{partial.name}{WORK}")
    finally:
        _remove(partial)
        os.close(handle)


def _remove(partial: Path) -> None:
    """What is half-written, and the file that was worked with."""
    for path in partial.parent.glob(f"{glob.escape(partial.name)}{WORK}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    partial.unlink(missing_ok=True)


def sweep(folder: Path, pattern: str) -> None:
    """Removes what killed backups have left: half-written files whose lock is free."""
    for path in folder.glob(f".{pattern}.*.partial"):
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(path)
            finally:
                os.close(handle)


def need(data_dir: Path, ledger: Path | None) -> int:
    """Bytes that a backup of this data_dir may take, with this ledger (None = without), which is copied into a file of its own first."""
    total = 64 << 20
    with contextlib.suppress(OSError):
        total += os.lstat(ledger).st_size if ledger is not None else 0
    for folder, _, names in os.walk(data_dir):
        for name in names:
            with contextlib.suppress(OSError):
                facts = os.lstat(os.path.join(folder, name))
                taken = stat.S_ISREG(facts.st_mode) and name != "reserve" and not name.endswith(PACKED)
                total += facts.st_size if taken else 0
    return total


def name_of(node: str, now: float) -> str:
    return f"gateway-backup-{node}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}.tar"


def keep(folder: Path, node: str, number: int) -> list[Path]:
    """Removes all but the newest `number` backups of this node; returns those that went."""
    stamp = "[0-9]" * 8 + "T" + "[0-9]" * 6 + "Z"
    found = sorted(folder.glob(f"gateway-backup-{node}-{stamp}.tar"), key=lambda path: path.name)
    gone = found[:-number]
    for path in gone:
        path.unlink()
    return gone

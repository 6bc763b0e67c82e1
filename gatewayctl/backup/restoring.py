"""Brings a verified backup back: everything is unpacked beside its place first, then all of it changes places at once."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.config.locate import moved
from gatewayctl.backup.contents import CONFIG, DATA
from gatewayctl.backup.manifest import Manifest
from gatewayctl.backup.reading import unknown_owners, unpack, unpack_one
from gatewayctl.backup.swapping import Pair, swap, unused
from gatewayctl.trouble import Trouble


@dataclass(frozen=True, slots=True)
class Restored:
    """config: the main file, where it is now. before: what was there, where it is now. missing: secrets that have to be put back.
    strangers: owners that are nobody here, and root in their place."""

    config: Path
    data_dir: Path
    before: list[Path]
    missing: list[str]
    strangers: list[str]


def in_place(path: Path, manifest: Manifest) -> Restored:
    """Where it was; where data_dir is a link, in the place that it leads to. Raises Trouble; then everything is as it was."""
    data_dir = Path(os.path.realpath(manifest.data_dir))
    if data_dir.is_mount():
        raise Trouble(f"{data_dir} is a mount point, which cannot be replaced", "--into DIR on that disk, then move what is in DIR/data.")
    strangers = _strangers(path)  # asked first: the backup may lie in what is about to change places
    with unused(data_dir), _ready(path, manifest, data_dir) as pairs:
        before = swap(pairs)
    return Restored(Path(manifest.config), data_dir, before, _missing(manifest, Path("/")), strangers)


@contextlib.contextmanager
def _ready(path: Path, manifest: Manifest, data_dir: Path) -> Iterator[list[Pair]]:
    """Everything unpacked beside its place; what is left of it at the end goes."""
    pairs: list[Pair] = []
    try:
        data_dir.parent.mkdir(parents=True, exist_ok=True)
        for left in data_dir.parent.glob(f".{data_dir.name}.*.restoring"):  # by one that was killed; we hold the lock
            shutil.rmtree(left, ignore_errors=True)
        ready = Path(tempfile.mkdtemp(prefix=f".{data_dir.name}.", suffix=".restoring", dir=data_dir.parent))
        pairs.append((ready, data_dir))
        unpack(path, DATA, ready)
        for entry in manifest.files:
            if entry.name.startswith(f"{CONFIG}/"):
                place = Path(entry.name.removeprefix(CONFIG))
                beside = place.with_name(f".{place.name}.restoring")
                beside.unlink(missing_ok=True)
                pairs.append((beside, place))
                unpack_one(path, entry.name, beside)
        yield pairs
    finally:
        for ready, _ in pairs:
            if ready.is_dir():
                shutil.rmtree(ready, ignore_errors=True)
            else:
                ready.unlink(missing_ok=True)


def into(path: Path, manifest: Manifest, folder: Path) -> Restored:
    """Below `folder`: the files as `config/…`, and `data`, which the main file then names. Raises Trouble; then everything is as it was."""
    folder, strangers = folder.absolute(), _strangers(path)
    with unused(folder / DATA):
        folder.parent.mkdir(parents=True, exist_ok=True)
        ready = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".restoring", dir=folder.parent))
        try:
            for part in (CONFIG, DATA):
                (ready / part).mkdir(mode=0o750)
                unpack(path, part, ready / part)
            main = ready / CONFIG / manifest.config.lstrip("/")
            main.write_text(moved(main.read_text(), folder / DATA))
            ready.chmod(0o750)
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
            before = swap([(ready, folder)])
        finally:
            shutil.rmtree(ready, ignore_errors=True)
    config = folder / CONFIG / manifest.config.lstrip("/")
    return Restored(config, folder / DATA, before, _missing(manifest, folder / CONFIG), strangers)


def _strangers(path: Path) -> list[str]:
    """Only root gives files away."""
    return unknown_owners(path) if os.geteuid() == 0 else []


def _missing(manifest: Manifest, root: Path) -> list[str]:
    """Of what the backup left out, what is not here either. Variables nobody can look for."""
    paths = [one["path"] for one in manifest.left_out if "secret" in one["why"] or one["path"].startswith("${")]
    return [path for path in paths if path.startswith("${") or not (root / path.lstrip("/")).exists()]

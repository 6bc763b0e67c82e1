"""Which files an item of `include` means, and in which folders. Looks at folders, reads no file.

A folder that cannot be listed is an error and not an empty one: else a mode that somebody changed, or a share that does not answer,
would take everything away that stands in its files.
"""

import glob
import os
from pathlib import Path


def is_pattern(folder: Path, wanted: str) -> bool:
    """Whether `wanted` may mean several files or none. One without `*` that is there means itself, whatever else its name holds."""
    return glob.has_magic(wanted) and ("*" in wanted or not os.path.lexists(folder / wanted))


def folders_of(folder: Path, wanted: str) -> list[Path]:
    """Those that a pattern looks into, all on the way included. One that is not there stands among them: it may come, and is waited for."""
    above = os.path.dirname(wanted)
    if not above:
        return [folder]
    if not glob.has_magic(above):
        return [folder / above]
    up, last = os.path.split(above)
    there = glob.glob(above if glob.has_magic(last) else up, root_dir=folder)
    here = there if glob.has_magic(last) else [os.path.join(one, last) for one in there]
    return [*folders_of(folder, above), *map(folder.joinpath, here)]


def files_of(folder: Path, wanted: str) -> list[Path]:
    """Those that a pattern matches, in the order of their names; one without `*` has to match any. Raises OSError."""
    _look(folder, wanted)
    found = sorted(str(folder / name) for name in glob.glob(wanted, root_dir=folder))
    return [Path(name) for name in found] or ([] if "*" in wanted else [folder / wanted])


def _look(folder: Path, wanted: str) -> None:
    """Does what `glob` does and keeps to itself when it fails. What is not there is no failure, but a link to nowhere is."""
    above, name = os.path.split(wanted)
    if glob.has_magic(above):
        _look(folder, above)
        places = glob.glob(above, root_dir=folder)
    else:
        places = [above]
    for place in map(folder.joinpath, places):
        try:
            os.scandir(place).close() if glob.has_magic(name) else os.lstat(place / name)
        except (FileNotFoundError, NotADirectoryError):
            if place.is_symlink() and not place.exists():  # to a share that is not mounted
                raise

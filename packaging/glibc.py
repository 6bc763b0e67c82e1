"""Which glibc does what we ship need, and for which size of pages was it linked? Read from the ELF files themselves.

`python packaging/glibc.py [--most 2.28] FOLDER`: exit code 1 when something needs more. --most 2.28 is Kylin V10, 2.34 openEuler 22.03.
"""

import argparse
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

NEEDED = 0x6FFFFFFE
"""sh_type of .gnu.version_r"""
LOAD = 1
PAGE = 65_536
"""Bytes of the largest pages that aarch64 has (Kylin V10, openEuler 20.03)."""
AARCH64 = 183
Version = tuple[int, ...]


class Elf:
    """One ELF file, 64 bits, little end first; everything that we ship is."""

    def __init__(self, path: Path) -> None:
        self._data = path.read_bytes()
        self.machine = struct.unpack_from("<H", self._data, 18)[0]
        self._at, self._size, self._number = self._table(40, 58)

    def _table(self, offset: int, sizes: int) -> tuple[int, int, int]:
        at = struct.unpack_from("<Q", self._data, offset)[0]
        return at, *struct.unpack_from("<HH", self._data, sizes)

    def alignment(self) -> int:
        """The smallest alignment of what is loaded: pages may not be larger than that."""
        at, size, number = self._table(32, 54)
        headers = [struct.unpack_from("<II6Q", self._data, at + index * size) for index in range(number)]
        return min((header[7] for header in headers if header[0] == LOAD), default=PAGE)

    def versions(self) -> Iterator[str]:
        """Names of the symbol versions that it wants of other libraries: GLIBC_2.17."""
        sections = [struct.unpack_from("<IIQQQQIIQQ", self._data, self._at + index * self._size) for index in range(self._number)]
        for section in sections:
            if section[1] == NEEDED:
                yield from self._wanted(section[4], section[7], sections[section[6]][4])

    def _wanted(self, at: int, files: int, names: int) -> Iterator[str]:
        for _ in range(files):
            _, count, _, first, following = struct.unpack_from("<HHIII", self._data, at)
            entry = at + first
            for _ in range(count):
                name, further = struct.unpack_from("<II", self._data, entry + 8)
                start = names + name
                yield self._data[start : self._data.index(b"\0", start)].decode()
                entry += further
            at += following


def elves(folder: Path) -> Iterator[Path]:
    for path in sorted([folder] if folder.is_file() else folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                if file.read(5) == b"\x7fELF\x02":
                    yield path


def needs(folder: Path, family: str = "GLIBC") -> dict[Path, Version]:
    """Each ELF file, and the highest version of the family that it names. GLIBCXX: of libstdc++, which a folder has with it."""
    found = {}
    for path in elves(folder):
        numbers = [re.fullmatch(rf"{family}_([\d.]+)", name) for name in Elf(path).versions()]
        found[path] = max((tuple(map(int, one[1].split("."))) for one in numbers if one), default=(0,))
    return found


def small_pages(folder: Path) -> list[Path]:
    """Files for aarch64 that cannot be loaded where pages have 64 KB."""
    return [path for path in elves(folder) for elf in [Elf(path)] if elf.machine == AARCH64 and elf.alignment() < PAGE]


def named(version: Version) -> str:
    return ".".join(map(str, version))


def report(folder: Path) -> str:
    """One line."""
    found = needs(folder)
    highest = max(found.values(), default=(0,))
    worst = [str(path.relative_to(folder)) for path, version in found.items() if version == highest]
    more = f" and {len(worst) - 3} more" if len(worst) > 3 else ""
    plus = named(max(needs(folder, "GLIBCXX").values(), default=(0,)))
    who = f"{', '.join(worst[:3])}{more}; {len(found)} files looked at"
    return f"needs glibc {named(highest)} or newer ({who}), and GLIBCXX {plus} of libstdc++"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--most", metavar="VERSION", help="fail when something needs a newer one")
    parser.add_argument("--all", action="store_true", help="list every file")
    options = parser.parse_args()
    found = needs(options.folder)
    if not found:
        print(f"{options.folder}: no ELF file in it", file=sys.stderr)
        return 1
    most = tuple(map(int, options.most.split("."))) if options.most else max(found.values())
    for path, version in sorted(found.items(), key=lambda item: item[1]):
        if options.all or version > most:
            print(f"{named(version):>6}  {path.relative_to(options.folder)}{'  TOO NEW' if version > most else ''}")
    small = small_pages(options.folder)
    for path in small:
        print(f"{path.relative_to(options.folder)}: cannot be loaded where pages have 64 KB")
    print(report(options.folder))
    return 1 if small or max(found.values()) > most else 0


if __name__ == "__main__":
    sys.exit(main())

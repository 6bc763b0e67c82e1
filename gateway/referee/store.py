"""What counters have counted, on disk, so that no restart forgets it: `data_dir/limits/`, 64 files of JSON.

A file holds, per counter, the amounts by place (a part of a rolling window, a calendar period), and `upto`: everything that
ended until then is in it. What ended later is in the journal (see `recount`). Only files with something new are written,
one after another, each by a rename; a file is read when one of its counters is first asked for.
"""

import contextlib
import logging
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from gateway.referee.gauges import Bucket
from gateway.referee.windows.calendar import KEPT
from gateway.referee.windows.rolling import PARTS, SECONDS
from gateway.steady import Steady

log = logging.getLogger("gateway.referee")

FORMAT: Final = 1
SHELVES: Final = 64
BROKEN: Final = -1.0
"""In place of `upto`: the file could not be read."""
DELAY: Final = 1.0
"""Seconds that the end of a request may take to be told to control, before what is written counts on having heard of it."""
JUMP: Final = 3600.0
"""Seconds by which a clock may jump, or have gone on while nobody looked, without being doubted."""


class _File(msgspec.Struct):
    format: int
    upto: float
    counters: dict[str, dict[int, int]]


class Store:
    """The files of one directory. Control reads all of them and writes; a worker without control reads those that it needs."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._shelves: dict[int, _File] = {}
        self._dirty: set[int] = set()
        self._fresh: dict[int, Bucket] = {}
        self._begun = True
        self._wall = self._newest = 0.0
        self._steady = Steady(jump=JUMP, long=JUMP)
        """By a clock that jumped nothing is over: it may be put right."""
        self._doubted = ""
        self.upto = 0.0
        """Seconds since 1970: of what ended later, the files may know nothing."""

    def load(self, wall: float) -> float:
        """Reads all files; for control, when it begins. Returns since when the journal knows more, in seconds since 1970: a file that
        cannot be read is put aside and told, and made anew from the journal."""
        since = wall
        path = self._directory / "upto.json"
        begun = path.exists()
        if begun:
            found = _read(path, aside=True)
            since = self.upto = found.upto if found is not None else 0.0
        for number in range(SHELVES):
            if self._path(number).exists():
                shelf = _read(self._path(number), aside=True)
                if shelf is None:
                    since, shelf = 0.0, _File(FORMAT, BROKEN, {})
                self._shelves[number] = shelf
        self._begun = begun
        if not begun:
            self.upto = wall
        self._newest, self._wall = self.upto, wall
        return max(since, wall - LASTS["month"])

    def get(self, counter: str) -> dict[int, int]:
        """The amounts of a counter by place, those included that are not in the files yet; what was used last comes last."""
        kept = {**(self._shelf(_number(counter)).counters.get(counter) or {})}
        for bucket in self._fresh.values():
            for place, amount in bucket.get(counter, {}).items():
                if place is not None:
                    kept[place] = kept.pop(place, 0) + amount
        return kept

    def knows(self, counter: str, ended: float) -> bool:
        """Whether what ended then is in the file of this counter."""
        upto = self._shelf(_number(counter)).upto
        return upto != BROKEN and ended < max(self.upto, upto)

    def _add(self, counter: str, place: int | None, amount: int) -> None:
        if place is None or not amount:
            return
        number = _number(counter)
        amounts = self._shelf(number).counters.setdefault(counter, {})
        amounts[place] = amounts.pop(place, 0) + amount
        self._dirty.add(number)
        if len(amounts) > PARTS + KEPT:
            here = _here(_per(counter), self._wall)
            for far in sorted(amounts, key=lambda one: abs(one - here))[PARTS:]:
                del amounts[far]

    # -- what ends now ------------------------------------------------------------------------------------------------

    def bucket(self, ended: float) -> Bucket:
        """Where to note what a request used that ended then."""
        second = int(ended)
        found = self._fresh.get(second)
        if found is None:
            found = self._fresh[second] = {}
        return found

    def fold(self, wall: float, steady: float, most: int = 500) -> bool:
        """Takes in what ended in seconds that are over for a while. steady: monotonic seconds. False: there is more."""
        until = int(wall - DELAY)
        self._wall = wall
        self._steady.see(wall, steady, self._newest)
        self._doubted = self._steady.doubted(steady)
        for second in [second for second in self._fresh if second < until]:
            bucket = self._fresh[second]
            while bucket:
                counter, places = bucket.popitem()
                for place, amount in places.items():
                    self._add(counter, place, amount)
                most -= 1
                if most <= 0:
                    return False
            del self._fresh[second]
        self.upto = max(self.upto, float(until))
        return True

    def begin(self) -> None:
        """Something is counted here: from now on the journal is needed to begin again."""
        if not self._begun:
            self._begun = True
            try:
                write(self._directory / "upto.json", msgspec.json.encode(_File(FORMAT, self.upto, {})))
            except OSError as error:
                log.error("what limits count cannot be written: %s", error)

    @property
    def dirty(self) -> bool:
        """Whether a file has to be written."""
        return bool(self._dirty)

    def pages(self) -> Iterator[tuple[Path, bytes]]:
        """Each file with something new, to be written by `write`; at last how far they all reach."""
        upto = self.upto
        for number in sorted(self._dirty):
            shelf = self._shelves[number]
            shelf.upto = upto
            if not self._doubted:
                shelf.counters = {name: amounts for name, amounts in shelf.counters.items() if not _over(name, amounts, self._wall)}
            self._dirty.discard(number)
            yield self._path(number), msgspec.json.encode(shelf)
        yield self._directory / "upto.json", msgspec.json.encode(_File(FORMAT, upto, {}))

    def failed(self, path: Path) -> None:
        """This file could not be written: it is tried again."""
        with contextlib.suppress(ValueError):
            self._dirty.add(int(path.stem))

    # -- files --------------------------------------------------------------------------------------------------------

    def _path(self, number: int) -> Path:
        return self._directory / f"{number:02d}.json"

    def _shelf(self, number: int) -> _File:
        shelf = self._shelves.get(number)
        if shelf is None:
            shelf = self._shelves[number] = _read(self._path(number), aside=False) or _File(FORMAT, 0.0, {})
        return shelf


def write(path: Path, data: bytes) -> None:
    """A crash leaves the old file or the new one. Raises OSError."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    temporary = path.with_suffix(".new")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(handle, "wb") as file:
        file.write(data)
    os.replace(temporary, path)


def _read(path: Path, *, aside: bool) -> _File | None:
    """None: there is no such file, or it cannot be read, which is told. aside: then it is renamed."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_File)
        if found.format != FORMAT:
            raise ValueError(f"it is in format {found.format}, this gateway reads {FORMAT}")
        return found
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # msgspec's errors are ValueErrors
        log.error("%s cannot be read; its counters are made anew from the journal: %s", path, error)
        if aside:
            with contextlib.suppress(OSError):
                os.replace(path, path.with_suffix(".bad"))
        return None


def _number(counter: str) -> int:
    return zlib.crc32(counter.encode()) % SHELVES


LASTS: Final = {"second": 2, "minute": 120, "hour": 7200, "day": 4 * 86_400, "month": 100 * 86_400}
"""Seconds after which nothing of a counter can matter any more."""


def _per(counter: str) -> str:
    """Its name says of what kind it is."""
    return counter.split("#", 1)[1].split("|")[2]


def _here(per: str, wall: float) -> float:
    """The place that a moment has in counters of a kind: to the day, or to some days of a month."""
    if per in SECONDS:
        return wall * PARTS / SECONDS[per]
    return 719_163 + wall / 86_400 if per == "day" else 12 * (1970 + wall / 31_556_952)  # ordinals; months counted from year 0


def _over(counter: str, amounts: dict[int, int], wall: float) -> bool:
    """Whether a counter has counted nothing for so long that it need not be kept."""
    per = _per(counter)
    return max(amounts, default=0) < _here(per, wall - LASTS[per])

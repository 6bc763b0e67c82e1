"""A damaged ledger: set aside, and was everything brought back? What months it had is written beside it, for that question alone."""

import json
import os
import time
from pathlib import Path
from typing import Final

DEATHS_MOST: Final = 3


class Attempts:
    """How often in a row somebody died while opening the ledger: a file beside it that only a death leaves there."""

    def __init__(self, ledger: Path) -> None:
        self._path = ledger.with_name(f"{ledger.name}.opening")

    def too_many(self) -> bool:
        return self._deaths() >= DEATHS_MOST

    def begin(self) -> None:
        try:
            self._path.write_text(str(self._deaths() + 1))
        except OSError:
            return  # the ledger's own opening says what is wrong with the disk

    def forget(self) -> None:
        try:
            self._path.unlink(missing_ok=True)
        except OSError:
            return

    def _deaths(self) -> int:
        try:
            return int(self._path.read_text())
        except (OSError, ValueError):
            return 0


class Expected:
    """Requests of each month, as the ledger had them when it was well."""

    def __init__(self, ledger: Path) -> None:
        self._path = ledger.with_name(f"{ledger.name}.counts")

    def note(self, counts: dict[str, int]) -> None:
        self._write({"counts": counts})

    def await_rebuilding(self) -> None:
        """The ledger is empty now: once the journal is loaded, what is missing is to be said."""
        self._write({"counts": self._read().get("counts", {}), "awaited": True})

    def known(self) -> bool:
        return bool(self._read().get("counts"))

    def awaited(self) -> bool:
        return bool(self._read().get("awaited"))

    def missing(self, counts: dict[str, int]) -> list[str]:
        """What a rebuilt ledger has less than it had, one sentence for each month."""
        had: dict[str, int] = self._read().get("counts", {})
        return [
            f"{number - counts.get(month, 0)} request(s) of {month} are in no archive and no longer in the journal: they are lost"
            for month, number in sorted(had.items())
            if number > counts.get(month, 0)
        ]

    def settle(self) -> None:
        self._write({"counts": self._read().get("counts", {})})

    def _read(self) -> dict[str, dict[str, int]]:
        try:
            found = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self, what: dict[str, object]) -> None:
        temporary = self._path.with_name(f"{self._path.name}.new")
        try:
            temporary.write_text(json.dumps(what))
            os.replace(temporary, self._path)
        except OSError:
            return  # a full disk: the question stays unanswered, nothing else


def set_aside(ledger: Path, now: float) -> list[str]:
    """Renames the file and its log of changes; returns the new names. now: Unix seconds. Raises OSError."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now))
    done = []
    for path in (ledger, ledger.with_name(f"{ledger.name}.wal")):
        if path.exists():
            number, aside = 1, ledger.with_name(f"{ledger.name}.corrupt-{stamp}{path.name.removeprefix(ledger.name)}")
            while aside.exists():
                number += 1
                aside = ledger.with_name(f"{ledger.name}.corrupt-{stamp}-{number}{path.name.removeprefix(ledger.name)}")
            os.rename(path, aside)
            done.append(aside.name)
    return done

"""Control's end of the kill switch: what is frozen, on the disk and in every worker. Decides nothing about requests.

A freeze counts at once and is written then, so that a full disk stops nobody from stopping things; a thaw is written first.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from gateway.admin.freeze_file import FreezeFile
from gateway.auth.freezes import Freeze
from gateway.bus.frames import frame
from gateway.bus.hearing import Hearing
from gateway.bus.server import BusServer, Link
from gateway.moment import stroke

log = logging.getLogger("gateway.freezes")

AGAIN: Final = 5.0
"""Seconds between two attempts to write down what could not be written."""


class Freezing:
    """All freezes of this gateway."""

    def __init__(self, data_dir: Path, bus: BusServer, workers: Callable[[], int]) -> None:
        """workers: how many there should be. One that is not connected may serve without having heard."""
        self._file = FreezeFile.of(data_dir)
        self._freezes = {str(one): one for one in self._file.freezes}
        self._bus = bus
        self._hearing = Hearing(bus, "frozen", workers)
        self._number = 0
        self._changing = asyncio.Lock()
        self.unwritten = ""
        """Why what is frozen is not on the disk; "" = it is."""
        bus.greet(self._greet)

    @property
    def trouble(self) -> str:
        """Why the file cannot be read; "" = it can."""
        return self._file.trouble

    def all(self) -> list[Freeze]:
        return list(self._freezes.values())

    def find(self, kind: str, name: str) -> Freeze | None:
        return self._freezes.get(f"{kind} {name}".rstrip())

    async def freeze(self, freeze: Freeze) -> tuple[Freeze, list[int]]:
        """Returns when every worker was told: what is frozen, and the slots of workers that did not answer. A second one of the
        same keeps the time of the first. `unwritten` says if it could not be written down."""
        async with self._changing:
            before = self._freezes.get(str(freeze))
            freeze = msgspec.structs.replace(freeze, since=before.since if before is not None else freeze.since)
            self._freezes[str(freeze)] = freeze
            number = self._tell()
            log.warning("%s is frozen by %s%s", freeze, freeze.by, f": {freeze.reason}" if freeze.reason else "")
            await self._write()
        return freeze, await self._hearing.all_heard(number)

    async def unfreeze(self, kind: str, name: str, *, by: str) -> tuple[Freeze | None, list[int]]:
        """Returns what was frozen (None: it was not), and as `freeze`. Raises OSError when it cannot be written: then it stays frozen."""
        async with self._changing:
            found = self.find(kind, name)
            if found is not None:
                rest = [one for one in self._freezes.values() if one is not found]
                await asyncio.to_thread(self._file.save, rest)
                self._freezes = {str(one): one for one in rest}
                self.unwritten = ""
                self._tell()
                log.warning("%s is no longer frozen (%s)", found, by)
        return found, await self._hearing.all_heard(self._number)

    async def keep(self) -> None:
        """Writes down, as soon as that works, what could not be written."""
        while True:
            await stroke(AGAIN)
            async with self._changing:
                if self.unwritten:
                    await self._write()

    async def _write(self) -> None:
        try:
            await asyncio.to_thread(self._file.save, self.all())
        except OSError as error:
            self.unwritten = f"what is frozen cannot be written down, and is forgotten when control ends: {error.strerror or error}"
            log.error("%s", self.unwritten)
        else:
            self.unwritten = ""

    # -- workers ------------------------------------------------------------------------------------------------------

    def _tell(self) -> int:
        self._number += 1
        self._bus.broadcast(self._frame())
        return self._number

    def _greet(self, link: Link) -> None:
        link.send(self._frame())

    def _frame(self) -> bytes:
        freezes: list[Any] = [msgspec.to_builtins(one) for one in self._freezes.values()]
        return frame("frozen", number=self._number, freezes=freezes)

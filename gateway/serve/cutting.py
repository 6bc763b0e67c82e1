"""A worker's end of what ends requests before their time: something is frozen, or a key revoked. Tells control when it is done."""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import msgspec

from gateway.accept.caller import Door
from gateway.admin.freeze_file import FreezeFile
from gateway.auth.freezes import Freeze, Frozen
from gateway.auth.keyring import Keyring
from gateway.bus.frames import frame
from gateway.errors import Refusal
from gateway.exchange import Exchange

log = logging.getLogger("gateway.worker")


class Live(Protocol):
    """Where requests look (pipeline.Live)."""

    frozen: Frozen | None


class Cutting:
    """What is frozen, as this worker knows it, and the end of those whom that concerns."""

    def __init__(self, live: Live, door: Door, say: Callable[[bytes], bool]) -> None:
        """say: sends a frame to control."""
        self._live = live
        self._door = door
        self._say = say
        self._told = False

    def recall(self, data_dir: Path) -> None:
        """Before the first request: what the file says, unless control has said it already."""
        if not self._told:
            self._adopt(FreezeFile.of(data_dir).freezes)

    def heard(self, message: dict[str, Any]) -> None:
        """Control says what is frozen, all of it."""
        self._told = True
        self._adopt(msgspec.convert(message["freezes"], list[Freeze]))
        self._say(frame("frozen", number=message["number"]))

    def _adopt(self, freezes: list[Freeze]) -> None:
        frozen = self._live.frozen = Frozen(freezes) if freezes else None
        if frozen is not None and (ended := self._door.end(frozen.stops)):
            log.warning("%d open request(s) ended by what is frozen", ended)

    def revoked(self, keyring: Keyring, spared: Iterable[str]) -> None:
        """Other keys count from now on. spared: ids of keys that are gone, but whose requests may end in peace."""
        ids = frozenset(spared)

        def gone(x: Exchange) -> Refusal | None:
            no = keyring.lost(x.key) if x.key is not None and not x.spared else None
            if no is not None and x.key.id in ids:
                x.spared = True
                return None
            return no

        ended = self._door.end(gone)
        if ended:
            log.warning("%d open request(s) ended: their keys are good no longer", ended)

"""Control's end: which workers have heard which of its numbered frames, and a wait until all have."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from gateway.bus.server import BusServer, Link
from gateway.moment import comes

HEARD_PATIENCE: Final = 2.0
"""Seconds that workers have to say that they heard."""


class Hearing:
    """Of one sort of frame. Workers answer each with a frame `kind` and its number."""

    def __init__(self, bus: BusServer, kind: str, workers: Callable[[], int], *, now: Callable[[], float] = time.monotonic) -> None:
        """workers: how many there should be. One that is not connected may serve without having heard."""
        self._bus = bus
        self._workers = workers
        self._now = now
        self._heard: dict[int, tuple[Link, int]] = {}
        self._hearing = asyncio.Event()
        bus.on(kind, self._has_heard)

    def _has_heard(self, link: Link, message: dict[str, Any]) -> None:
        self._heard[link.slot] = (link, message["number"])
        self._hearing.set()

    def _deaf(self, number: int) -> list[int]:
        """Slots of workers that have not heard frame `number` yet."""
        heard = self._heard
        return [
            slot for slot, link in self._bus.links.items() if slot not in heard or heard[slot][0] is not link or heard[slot][1] < number
        ]

    async def all_heard(self, number: int) -> list[int]:
        """Until every worker heard the frame, also those that have not met a control that was just started; the slots of those that did not
        in time, or are not there to be asked."""
        workers = self._workers()
        await self._bus.gathered(workers)
        end = self._now() + HEARD_PATIENCE
        while (deaf := self._deaf(number)) and (left := end - self._now()) > 0:
            self._hearing.clear()
            if not await comes(self._hearing, left):
                break
        return sorted({*deaf, *range(workers)} - (self._bus.links.keys() - deaf))

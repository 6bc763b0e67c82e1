"""A worker's talk with control about one matter: everything of one turn of the loop in one frame, and when control is lost.

Frames have numbers; control says which it has read last. A question that it leaves unread for a second, or a lost
connection, means that this worker is alone. Whatever control says next (`tell`: say what there is) begins the talk again: the
worker is not alone any more, and what control said before it has read what there is, is not for us.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

PATIENCE: Final = 1.0
"""Seconds that control may leave a question unread."""
LINGER: Final = 0.001
"""Seconds that what nobody waits for is kept back: most of it then travels with a question, for nothing."""


class Talk:
    """The worker's side. `ops` travel in the order in which they were noted."""

    def __init__(
        self,
        say: Callable[[dict[str, Any]], bool],
        loop: asyncio.AbstractEventLoop,
        met: Callable[[], tuple[dict[str, Any], list[list[Any]]]],
        lost: Callable[[str], None],
    ) -> None:
        """say: sends a frame; False = control is away. met: control is here; gives what there is, and the ops that are still asked.
        lost: called once when control is (why: `away` or `silent`)."""
        self._say = say
        self._loop = loop
        self._met = met
        self._lost = lost
        self._ops: list[list[Any]] = []
        self._asks = self._leaving = self._lingers = False
        self._frames = 0
        self._first = self._question = self._read = 0
        self._heard = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.alone = True

    def note(self, op: list[Any], *, asks: bool, soon: bool = False) -> None:
        """asks: somebody waits for an answer. soon: nobody here does, but it is not to be kept back."""
        self._ops.append(op)
        if asks:
            self._asks = True
        if self._leaving:
            return
        if asks or soon:
            self._leaving = True
            self._loop.call_soon(self._flush)
        elif not self._lingers:
            self._lingers = True
            self._loop.call_later(LINGER, self._linger)

    def heard(self, frame: dict[str, Any]) -> bool:
        """A frame from control. True: what it says is for us. n: the last frame that control had read when it said this."""
        if self.alone or "tell" in frame:
            self._begin()
            return False
        number: int = frame["n"]
        if number < self._first:
            return False
        self._read = number
        self._heard = self._loop.time()
        return True

    def lost(self, why: str = "away") -> None:
        if self.alone:
            return
        if why == "silent":
            self._flush()  # it will read this yet, before what there is
        if not self.alone:
            self.alone = True
            self._ops.clear()
            self._lost(why)

    def hurry(self) -> None:
        """What was noted leaves at once."""
        if not self._leaving and not self.alone:
            self._flush()

    def close(self) -> None:
        """The worker ends: it is not lost to control, and nothing is left to decide."""
        self.alone = True
        if self._timer is not None:
            self._timer.cancel()

    def _begin(self) -> None:
        """Tells control what there is, and what is still asked."""
        first, asked = self._met()
        self.alone = False
        self._ops.clear()
        self._asks = False
        self._first = self._frames + 1
        self._question = self._read = 0
        self._send({**first, "ops": asked}, asks=bool(asked))

    def _linger(self) -> None:
        self._lingers = False
        if not self._leaving:
            self._flush()

    def _flush(self) -> None:
        self._leaving = False
        if self._ops:
            ops, self._ops = self._ops, []
            asks, self._asks = self._asks, False
            self._send({"ops": ops}, asks=asks)

    def _send(self, frame: dict[str, Any], *, asks: bool) -> None:
        self._frames += 1
        frame["n"] = self._frames
        if not self._say(frame):
            self.lost()
        elif asks:
            if self._read >= self._question:
                self._heard = self._loop.time()
            self._question = self._frames
            if self._timer is None:
                self._timer = self._loop.call_later(PATIENCE, self._look)

    def _look(self) -> None:
        """Has control left us without an answer?"""
        self._timer = None
        if self.alone or self._read >= self._question:
            return
        left = self._heard + PATIENCE - self._loop.time()
        if left <= 0:
            self.lost("silent")
        else:
            self._timer = self._loop.call_later(left, self._look)

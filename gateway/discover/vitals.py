"""How one endpoint feels between two looks at its model list: its own health path, and the figures of its metrics plane.

Both are free of charge. What is missing there is no fault: many engines have no metrics, or only when they are told to.
"""

import re
import time
from typing import Final

from gateway.config.resolved import Channel, Endpoint
from gateway.discover.ask import Asker
from gateway.discover.planes import Lines
from gateway.discover.trouble import Trouble
from gateway.discover.wedged import Wedged
from gateway.engine.base import Load, Planes
from gateway.engine.detect import Answer
from gateway.engine.family import DIALECTS

ABSENT: Final = 60.0
"""Seconds until a path that was not there is asked for again."""
STALE: Final = 30.0
"""Seconds after which figures say nothing any more."""
_PULSE: Final = re.compile(r"(?!#)[^{\s]*token|llamacpp:n_decode_total\s")
"""Figures that move when an engine works, by their names."""


class Vitals:
    """health: `good`, `busy`, `bad`, `silent` or `unknown`; health_why: what it said. load: the newest figures, read `at` (monotonic)."""

    __slots__ = ("_again", "_lines", "at", "health", "health_why", "load", "stuck")

    def __init__(self) -> None:
        self.health, self.health_why = "unknown", ""
        self.load = Load()
        self.at = float("-inf")
        self.stuck = Wedged()
        self._again = {"health": 0.0, "metrics": 0.0}
        self._lines: Lines | None = None

    def figures(self, now: float) -> Load:
        """The figures as far as they still say something."""
        return self.load if now - self.at < STALE else Load()

    async def look(self, channel: Channel, endpoint: Endpoint, engine: str, *, health: bool, keep: bool, total: float) -> bool:
        """Asks; whether there are new figures. keep: leave connections open, for the next look is soon. Errors: none."""
        lines = self._lines or Lines(total)
        self._lines = lines if keep else None
        planes = DIALECTS[engine].planes
        try:
            if health and (path := health_path(planes)):
                await self._health(await lines.to(channel, endpoint, planes.health_plane), path)
            asker = await lines.to(channel, endpoint, planes.metrics_plane)
            return await self._metrics(asker, engine, channel.wedged_after)
        except (OSError, ValueError):  # a file of a plane's TLS: the whole probe says more, and traffic does not depend on it
            return False
        finally:
            if not keep:
                await lines.close()

    async def close(self) -> None:
        lines, self._lines = self._lines, None
        if lines is not None:
            await lines.close()

    async def _health(self, asker: Asker | None, path: str) -> None:
        now = time.monotonic()
        if asker is None or now < self._again["health"]:
            return
        self.health, self.health_why = health_of(await asker.get(path), path)
        if self.health == "unknown":
            self._again["health"] = now + ABSENT

    async def _metrics(self, asker: Asker | None, engine: str, wedged_after: float) -> bool:
        dialect = DIALECTS[engine]
        now = time.monotonic()
        if asker is None or dialect.planes.metrics is None or now < self._again["metrics"]:
            return False
        answer = await asker.get(dialect.planes.metrics)
        if isinstance(answer, Trouble):  # a gap; whether it answers at all is the model list's to say
            return False
        if answer[0] != 200:
            self._again["metrics"] = now + ABSENT
            self.load = Load()
            self.stuck.forget()
            return False
        text = answer[2].decode("utf-8", "replace")
        self.load, self.at = dialect.load(text), time.monotonic()
        self.stuck.see(self.load.running, pulse_of(text, self.load.kv_use), wedged_after, self.at)
        return True

    def forget(self) -> None:
        """Another engine stands there now, or none: what was known of the last one says nothing of it."""
        self.health, self.health_why, self.load = "unknown", "", Load()
        self._again = dict.fromkeys(self._again, 0.0)
        self.stuck.forget()


def health_path(planes: Planes) -> str | None:
    """The path that says how the engine is, at no cost; None = there is none, or the model list says the same.

    `openai` is any server: some have a /health that sends requests to models, so theirs is left alone.
    """
    return None if planes.health == planes.models else planes.health


def health_of(answer: Answer | Trouble, path: str) -> tuple[str, str]:
    """`good`, `busy`, `bad`, `silent` or `unknown`, and why. MindIE's 503 says that it is busy; vLLM's means that its engine is dead."""
    if isinstance(answer, Trouble):
        return "silent", f"its health path {path} does not answer: {answer.text}"
    status, _, body = answer
    if status < 300:
        return "good", ""
    if status < 500:
        return "unknown", f"{path} is answered with {status}"
    if status == 503 and b"busy" in body:
        return "busy", "the engine says that it is busy"
    return "bad", f"the engine says that it is not well: {path} is answered with {status}"


def pulse_of(exposition: str, kv_use: float | None) -> int | None:
    """A number that changes whenever a figure about tokens does, or the use of the cache; None = there are no such figures.

    All of them, because the totals alone may rest while an engine works: SGLang and llama.cpp add a request's tokens when it has ended.
    llama.cpp counts its steps meanwhile.
    """
    samples = [line for line in exposition.splitlines() if _PULSE.match(line)]
    return hash((*samples, kv_use)) if samples else None

"""Brings notices to sinks: a bounded line for each, one message for all that wait, retries with bounds. Nobody waits for it.

What waits is kept by who calls (`waiting`), so that a restart neither loses nor repeats it.
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from gateway.alert import message
from gateway.alert.sinks import way_of
from gateway.alert.sinks.alertmanager import EVERY
from gateway.alert.state import FIRING, Alert, Notice
from gateway.config.resolved_alerts import Sink
from gateway.moment import comes

log = logging.getLogger("gateway.alerts")

GATHER: Final = 1.5
"""Seconds in which further notices join a message."""
APART: Final = 10.0
"""Seconds between two messages to people: endpoints that go down together are found down one after another."""
PAUSES: Final = (2.0, 5.0, 15.0, 60.0, 120.0, 300.0, 600.0)
"""Seconds between attempts; after the last one a message is given up."""
WAITING_MOST: Final = 500
"""Notices that wait for a sink; of more the oldest are given up."""
LEVELS: Final = {"critical": logging.ERROR, "warning": logging.WARNING}


class Waiting(NamedTuple):
    """A notice on its way. since: when it came (Unix seconds)."""

    sink: str
    notice: Notice
    since: float


class Line:
    """One sink's."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.notices: deque[Waiting] = deque()
        self.come = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.trouble = ""
        """Why the last attempt failed; "" = it did not."""
        self.last = float("-inf")
        """When it was last told something (the loop's time)."""


class Delivery:
    """All sinks. counts: messages by (sink, outcome): `ok`, `failed` (an attempt), `given_up`."""

    def __init__(self, node: str, moved: Callable[[], None], firing: Callable[[str], Sequence[Alert]]) -> None:
        """moved: called when something no longer waits. firing: what fires and is for a sink."""
        self.node = node
        self.pauses: Sequence[float] = PAUSES
        self.counts: Counter[tuple[str, str]] = Counter()
        self._moved = moved
        self._firing = firing
        self._lines: dict[str, Line] = {}

    def adopt(self, sinks: Mapping[str, Sink], left: Iterable[Waiting] = ()) -> None:
        """The sinks of the configuration that is served now; what waits for those that are gone is forgotten. left: from before."""
        for name in [name for name, line in self._lines.items() if sinks.get(name) != line.sink]:
            old = self._lines.pop(name)
            if old.task is not None:
                old.task.cancel()
            left = [*left, *old.notices]
        for name, sink in sinks.items():
            if name not in self._lines:
                line = self._lines[name] = Line(sink)
                line.task = asyncio.get_running_loop().create_task(self._serve(line))
                for outcome in ("ok", "failed", "given_up"):
                    self.counts[name, outcome] += 0
        for one in left:
            self._put(one)

    def tell(self, notices: Sequence[Notice], now: float) -> None:
        """Says them in the log at once, and to their sinks as soon as that works. Never waits."""
        for notice in notices:
            level = logging.INFO if notice.what != FIRING else LEVELS.get(notice.alert.severity, logging.INFO)
            log.log(level, "%s", message.line(notice))
            for name in notice.alert.to:
                self._put(Waiting(name, notice, now))

    def _put(self, one: Waiting) -> None:
        line = self._lines.get(one.sink)
        if line is None:
            return
        if len(line.notices) >= WAITING_MOST:
            line.notices.popleft()
            self._give_up(line, 1, "too many wait")
        line.notices.append(one)
        line.come.set()

    def waiting(self) -> list[Waiting]:
        return [one for line in self._lines.values() for one in line.notices]

    def told(self) -> list[dict[str, object]]:
        """Of each sink what people may see."""
        return [
            {
                "name": name,
                "kind": "alertmanager" if line.sink.alertmanager else "apprise",
                "waiting": len(line.notices),
                "trouble": line.trouble,
                **{outcome: self.counts[name, outcome] for outcome in ("ok", "failed", "given_up")},
            }
            for name, line in self._lines.items()
        ]

    def names(self) -> list[str]:
        return list(self._lines)

    async def send_now(self, name: str, notice: Notice) -> str:
        """Past the line, once. Returns why it did not work, "" = it did. Raises KeyError for an unknown sink."""
        return await self._attempt(self._lines[name], [notice])

    async def close(self) -> None:
        tasks = [line.task for line in self._lines.values() if line.task is not None]
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    # -- one sink -----------------------------------------------------------------------------------------------------

    async def _serve(self, line: Line) -> None:
        while True:
            await self._something(line)
            try:
                await self._deliver(line)
            except Exception:
                log.exception("sink %s: a message is given up", line.sink.name)
                line.notices.clear()

    async def _something(self, line: Line) -> None:
        """Until there is something to tell. An Alertmanager is told again meanwhile."""
        while not line.notices:
            line.come.clear()
            if not await comes(line.come, EVERY if line.sink.alertmanager else None):
                firing = [Notice(what="firing", alert=alert, again=True) for alert in self._firing(line.sink.name)]
                if firing:
                    await self._attempt(line, firing)
        apart = 0.0 if line.sink.alertmanager else line.last + APART - asyncio.get_running_loop().time()
        await asyncio.sleep(max(GATHER, apart))

    async def _deliver(self, line: Line) -> None:
        for pause in (*self.pauses, None):
            batch = list(line.notices)
            said = await self._attempt(line, [one.notice for one in batch])
            if not said:
                line.last = asyncio.get_running_loop().time()
                self._done(line, batch)
                return
            if pause is None:
                self._done(line, batch)
                self._give_up(line, len(batch), said)
                return
            log.warning("sink %s: %s; tried again in %g s", line.sink.name, said, pause)
            await asyncio.sleep(pause)

    async def _attempt(self, line: Line, notices: Sequence[Notice]) -> str:
        line.trouble = await way_of(line.sink)(self.node, line.sink, notices, time.time())
        self.counts[line.sink.name, "failed" if line.trouble else "ok"] += 1
        return line.trouble

    def _done(self, line: Line, batch: Sequence[Waiting]) -> None:
        """They wait no longer; some may have been pushed out meanwhile."""
        for one in batch:
            with contextlib.suppress(ValueError):
                line.notices.remove(one)
        self._moved()

    def _give_up(self, line: Line, notices: int, why: str) -> None:
        self.counts[line.sink.name, "given_up"] += 1
        log.error("sink %s: %d notice(s) are given up: %s", line.sink.name, notices, why)

"""The process that decides what is served: reads and checks the YAML, moves all workers to a new revision or none,
watches files, closes the journal of dead workers, answers gatewayctl, serves /metrics.

Serving never waits for it: while it is down, workers go on with what they have.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

from gateway.admin.server import AdminServer, serve_admin
from gateway.bus.frames import Parcel
from gateway.bus.leash import BEAT_EVERY, Leash
from gateway.bus.memory import to_memfd
from gateway.bus.server import BusServer
from gateway.config.report import render
from gateway.config.resolved import Resolved
from gateway.config.revisions import Revisions
from gateway.discover.endpoints import Endpoints
from gateway.discover.files import changes
from gateway.errors import ConfigError
from gateway.log.lines import start_logging
from gateway.meter.exposition import Exposition, Facts
from gateway.meter.orphans import close_orphans
from gateway.meter.records import Records
from gateway.meter.reserve import keep_reserve
from gateway.office import Office
from gateway.rollout import Outcome, Rollout

log = logging.getLogger("gateway.control")

BAD_CONFIG = 78
"""sysexits' EX_CONFIG."""

ORPHANS_EVERY = 1.0
RESERVE_EVERY = 10.0


class SupervisorLine:
    """The leash, as `rollout.Sockets` needs it: addresses are asked for and answered by message."""

    def __init__(self) -> None:
        self.leash: Leash | None = None
        self._asked: asyncio.Future[tuple[str, list[int], dict[str, int]]] | None = None
        self._known: dict[str, Any] = {}
        self.metrics: Any = None

    async def prepare(self, config: Resolved) -> None:
        wanted = addresses(config)
        if wanted == self._known:
            return
        assert self.leash is not None
        self._asked = asyncio.get_running_loop().create_future()
        self.leash.say({"say": "prepare", **wanted})
        trouble, fds, places = await asyncio.wait_for(self._asked, 5.0)
        if trouble:
            raise OSError(trouble)
        for place in places.values():
            await self.metrics.listen(socket.socket(fileno=fds[place]))

    def commit(self, config: Resolved, parcel: Parcel) -> None:
        assert self.leash is not None
        self._known = addresses(config)
        fd = to_memfd(parcel.to_bytes())
        self.leash.say({"say": "commit", "drain_timeout": config.http.drain_timeout, **self._known}, [fd])
        os.close(fd)

    def abort(self) -> None:
        if self.leash is not None:
            self.leash.say({"say": "abort"})

    def started(self, config: Resolved) -> None:
        self._known = addresses(config)

    def answered(self, trouble: str, fds: list[int], places: dict[str, int]) -> None:
        if self._asked is not None and not self._asked.done():
            self._asked.set_result((trouble, fds, places))


def addresses(config: Resolved) -> dict[str, Any]:
    """What the supervisor must listen on, and for how many workers."""
    api = sorted({(one.host, one.port) for one in config.listeners if one.serves == "api"})
    metrics = sorted({(one.host, one.port) for one in config.listeners if one.serves == "metrics"})
    return {"api": api, "metrics": metrics, "workers": config.workers}


class Control:
    """Everything that the control process holds."""

    def __init__(self, path: Path, leash: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._leash = Leash(leash, self._heard, self._orphaned)
        self._line = SupervisorLine()
        self._line.leash = self._leash
        self.endpoints = Endpoints(on_detected=self._detected)
        self.rollout = Rollout(path, self.endpoints)
        self.rollout.before = lambda: self._tell({"say": "reloading"})
        self.rollout.after = self._reloaded
        self.processes: list[dict[str, Any]] = []
        self.stopping = False
        self._go: asyncio.Future[tuple[dict[str, int], list[int]]] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._dead = asyncio.Event()

    async def run(self, resume: bool, again: bool) -> int:
        """Until told to exit. Returns 78 when there is no configuration to serve."""
        self._keep(self._beat())
        status = self._read(resume, again)
        if status:
            return status
        config = self.rollout.config
        assert config is not None
        self._tell({"say": "boot", "data_dir": config.data_dir, **addresses(config)})
        metrics, fds = await self._go
        data_dir = Path(config.data_dir)
        (data_dir / "journal").mkdir(parents=True, exist_ok=True, mode=0o700)
        if not again:
            shutil.rmtree(data_dir / "metrics", ignore_errors=True)  # counters begin anew with the service
        close_orphans(data_dir / "journal")
        parcel = await self.rollout.settle_in(Revisions(data_dir))
        self.bus = BusServer(data_dir / "bus.sock")
        self.bus.current = parcel
        await self.bus.open()
        self.records = Records(data_dir / "journal")
        self.office = Office(self)
        admin = await serve_admin(self.office, data_dir / "admin.sock")
        await self._open_metrics(data_dir, metrics, fds)
        self._line.started(config)
        fd = to_memfd(parcel.to_bytes())
        self._leash.say({"say": "snapshot", "drain_timeout": config.http.drain_timeout}, [fd])
        os.close(fd)
        for work in (self._watch_files(), self._close_orphans(data_dir), self._keep_reserve(data_dir), self.endpoints.run()):
            self._keep(work)
        await self._ended
        await self._close(admin)
        return 0

    def _read(self, resume: bool, again: bool) -> int:
        """The file; or, when it is bad and that is wished (`--resume`) or we were only restarted, the last good revision."""
        try:
            self.rollout.read()
            return 0
        except ConfigError as error:
            print(render(error.mistakes), file=sys.stderr)
            if not (resume or again):
                return BAD_CONFIG
            from gateway.config.locate import data_dir_of

            revisions = Revisions(data_dir_of(self.rollout.path))
            if not self.rollout.recall(revisions):
                print("gateway: there is no last good configuration to resume from", file=sys.stderr)
                return BAD_CONFIG
            first = error.mistakes[0]
            self.refused_at_start = Outcome(False, f"{first.file}:{first.line}:{first.column}: {first.message}", mistakes=error.mistakes)
            log.error("the configuration is refused; revision %d, the last good one, is served", self.rollout.rev)
            return 0

    refused_at_start: Outcome | None = None

    async def _open_metrics(self, data_dir: Path, places: dict[str, int], fds: list[int]) -> None:
        self.metrics = self._line.metrics = Exposition(
            data_dir / "metrics", Facts(lambda: self.office.status(), lambda: self.office.endpoint_states())
        )
        await self.metrics.open()
        for place in places.values():
            await self.metrics.listen(socket.socket(fileno=fds[place]))
        if self.refused_at_start is not None:
            self.rollout.last = self.refused_at_start
            self.rollout.last.rev = self.rollout.rev

    # -- the supervisor -------------------------------------------------------------------------------------------

    def _heard(self, message: dict[str, Any], fds: list[int]) -> None:
        match message.get("say"):
            case "go":
                self._go.set_result((message["metrics"], fds))
            case "prepared":
                self._line.answered("", fds, message["metrics"])
            case "cannot":
                self._line.answered(message["message"], fds, {})
            case "processes":
                self.processes = message["table"]
                self.stopping = message["stopping"]
                self._dead.set()
            case "reload":
                self._keep(self.reload(by="signal", why="SIGHUP"))
            case "exit":
                self._end()

    def _tell(self, message: dict[str, Any]) -> None:
        self._leash.say(message)

    def _orphaned(self) -> None:
        log.error("the supervisor is gone; control ends too")
        self._end()

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    async def _beat(self) -> None:
        while True:
            self._tell({"say": "beat"})
            await asyncio.sleep(BEAT_EVERY)

    # -- the configuration ------------------------------------------------------------------------------------------

    async def reload(self, *, by: str, why: str, force: bool = False) -> Outcome:
        return await self.rollout.reload(self.bus, self._line, by=by, why=why, force=force)

    def _reloaded(self, outcome: Outcome) -> None:
        text = f"revision {self.rollout.rev}" + ("" if outcome.ok else f"; last reload refused: {outcome.message}")
        self._tell({"say": "reloaded", "status": text})

    def _detected(self, channel: str, engine: str) -> None:
        """An `auto` channel's engine became known, or is another one now."""
        log.info("channel %s: its engine is %s", channel, engine)
        config = self.rollout.config
        if (
            config is not None
            and hasattr(self, "office")
            and config.channels.get(channel) is not None
            and config.channels[channel].engine != engine
        ):
            self._keep(self.reload(by="gateway", why=f"channel {channel} is {engine}", force=True))

    async def _watch_files(self) -> None:
        def watched() -> list[Path]:
            loaded = self.rollout.loaded
            return [self.rollout.path, *loaded.watch] if loaded is not None else [self.rollout.path]

        async for why in changes(watched):
            await self.reload(by="gateway", why=f"files changed ({why})")

    # -- the journal --------------------------------------------------------------------------------------------------

    async def _close_orphans(self, data_dir: Path) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._dead.wait(), ORPHANS_EVERY)
            self._dead.clear()
            try:
                await asyncio.to_thread(close_orphans, data_dir / "journal")
            except OSError as error:
                log.error("journal: what dead workers left open cannot be closed: %s", error)

    async def _keep_reserve(self, data_dir: Path) -> None:
        while True:
            assert self.rollout.config is not None
            await asyncio.to_thread(keep_reserve, data_dir / "journal", self.rollout.config.journal.reserve)
            await asyncio.sleep(RESERVE_EVERY)

    # -- the end ------------------------------------------------------------------------------------------------------

    def _keep(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a task of control failed; the supervisor starts control again", exc_info=task.exception())
            self._failed = True
            self._end()

    async def _close(self, admin: AdminServer) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await admin.close()
        await self.metrics.close()
        await self.bus.close()
        self._leash.close()


def main(arguments: list[str]) -> int:
    """The role `control`; only the supervisor starts it."""
    parser = argparse.ArgumentParser(prog="gateway control")
    parser.add_argument("--leash", type=int, required=True)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--again", action="store_true")
    options = parser.parse_args(arguments)
    start_logging("control")

    async def run() -> int:
        return await Control(options.config, socket.socket(fileno=options.leash)).run(options.resume, options.again)

    import uvloop

    return uvloop.run(run())

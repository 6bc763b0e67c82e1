"""The process that decides what is served: reads and checks the YAML, moves all workers to a new revision or none,
watches files, closes the journal of dead workers, answers gatewayctl, serves /metrics.

Serving never waits for it: while it is down, workers go on with what they have.
"""

import argparse
import asyncio
import json
import logging
import shutil
import socket
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from gateway.admin.announced import Announced
from gateway.admin.audit import Audit
from gateway.admin.server import AdminServer, serve_admin
from gateway.bus.child import end_soon, obey_the_supervisor_alone
from gateway.bus.frames import frame
from gateway.bus.leash import BEAT_EVERY, Leash
from gateway.bus.server import BusServer, Link
from gateway.config import tokenizers
from gateway.config.locate import data_dir_of
from gateway.config.report import render
from gateway.config.resolved import Resolved
from gateway.config.revisions import Revisions
from gateway.discover.drains import Drains
from gateway.discover.endpoints import Endpoints
from gateway.discover.files import changes
from gateway.errors import ConfigError
from gateway.govern.acts import Acts, note_reload
from gateway.govern.agreement import Agreement
from gateway.govern.alerting import Alerting
from gateway.govern.freezing import Freezing
from gateway.govern.proving import Prover
from gateway.govern.recount import adopt, killed, open_limits
from gateway.govern.rollout import Outcome, Rollout
from gateway.govern.sockets import SupervisorLine
from gateway.ledger.keeper import Ledger
from gateway.log.lines import start_logging
from gateway.meter.exposition import Exposition, Facts
from gateway.meter.orphans import close_orphans
from gateway.meter.records import Records
from gateway.meter.reserve import keep_reserve
from gateway.moment import comes, stroke, until_stroke
from gateway.referee.desk import Desk
from gateway.referee.line import limits_of
from gateway.report.reports import ledger_book
from gateway.report.truth import Truth
from gateway.route.build import figured
from gateway.tokens.kept import kept_in
from gateway.upgrade import formats

log = logging.getLogger("gateway.control")

BAD_CONFIG = 78
"""sysexits' EX_CONFIG."""

ORPHANS_EVERY = 5.0
"""Seconds between two looks for what a dead worker left open, beside the one when the supervisor tells of a death."""
QUEUED_EVERY = 0.5
REFILL_EVERY = 1.0
"""Seconds between two changes of workers' endpoints at least, whatever registries say."""
RESERVE_EVERY = 10.0


class Control:
    """Everything that the control process holds."""

    def __init__(self, path: Path, leash: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._leash = Leash(leash, self._heard, self._orphaned)
        self._line = SupervisorLine(self._leash, lambda: self.metrics)
        self.endpoints = Endpoints(on_detected=self._detected)
        self.rollout = Rollout(path, self.endpoints)
        self.rollout.before = lambda: self._tell({"say": "reloading"})
        self.rollout.after = self._reloaded
        self.announced = Announced(time.monotonic)
        self.rollout.spared = self.announced.spared
        self.processes: list[dict[str, Any]] = []
        self.stopping = False
        self._serving = False
        self._started = time.time()
        self._ended: asyncio.Future[int] = self._loop.create_future()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._dead = asyncio.Event()
        self._unclosed = ""

    async def run(self, resume: bool, again: Path | None) -> int:
        """Until told to exit. Returns 78 when there is no configuration to serve. again: the data directory, when only
        control was started again and workers serve on."""
        self._keep(self._beat())
        if not self._read(resume, again):
            return BAD_CONFIG
        config = self.rollout.config
        assert config is not None
        await self._line.boot(config)
        data_dir = Path(config.data_dir)
        await self._prepare_directory(data_dir, fresh=again is None)
        tokenizers.prove = Prover(kept_in(data_dir))
        for work in (self.rollout.registries.run(), self.endpoints.run()):
            self._keep(work)
        self.audit = Audit(data_dir)
        self.bus = BusServer(data_dir / "bus.sock")
        parcel = self.bus.current = await self.rollout.settle_in(Revisions(data_dir), again=again is not None)
        if self.rollout.begun is not None:
            await note_reload(self.audit, self.rollout.begun, "start", by="gateway")
        self.bus.greet(lambda link: link.send(self.rollout.endpoints_frame()))
        self.agreement = Agreement(self.endpoints, Drains.of_file(data_dir / "drains.json"), self.bus, self.rollout.workers)
        self.freezing = Freezing(data_dir, self.bus, self.rollout.workers)
        self.seats = self._open_seats(config)
        self.records = Records(data_dir / "journal")
        self.limits = await open_limits(partial(self._say, "limits"), data_dir, self.records, config, self.rollout.keys)
        self.bus.on("limits", lambda link, message: self.limits.heard(link.slot, message))
        self.bus.greet(lambda link: self.limits.greet(link.slot, link.pid))
        self.bus.mourn(lambda link: self.limits.lost(link.slot))
        self.ledger = Ledger(data_dir, config.ledger)
        self.ledger.price_by(ledger_book(config))
        self.truth = Truth(self.ledger, data_dir / "journal", self.endpoints)
        self.office = Acts(self)
        self.alerting = Alerting(self, data_dir, self.office.endpoint_states)
        self.alerting.looking.listen(self.truth)
        self.admin = await serve_admin(self.office, data_dir / "admin.sock")
        await self.bus.open()
        self.metrics: Exposition = self._exposition(data_dir)
        await self.metrics.open()
        self._tell({"say": "standing", "status": self._standing(self.rollout.last)})
        await self._line.commit(config, parcel)
        self._serving = True
        for work in (self._tell_queued(), self.agreement.keep(), self._watch_files(again is not None), self._refill()):
            self._keep(work)
        for work in (
            self._close_orphans(data_dir),
            self._keep_reserve(data_dir),
            self.limits.run(),
            self.freezing.keep(),
            self.ledger.run(),
            self.truth.run(),
            self.alerting.keep(),
        ):
            self._keep(work)
        status = await self._ended
        await self._close(self.admin)
        return status

    def _exposition(self, data_dir: Path) -> Exposition:
        return Exposition(
            data_dir / "metrics",
            Facts(
                self.office.status,
                self.office.endpoint_states,
                self.seats.figures,
                self.limits.refusals,
                self.ledger.told,
                self.alerting.figures,
                self.truth.ratios,
                lambda: self.truth.without_price(self.rollout.config),
            ),
        )

    def _open_seats(self, config: Resolved) -> Desk:
        """The referee's end: who may use a limited channel now."""
        desk = Desk(partial(self._say, "seats"), self._loop, config.workers)
        desk.adopt(limits_of(config.channels))
        self.agreement.tell_barred(desk.bar)
        self.endpoints.watch_closely(figured(config.models.values()))
        self.bus.on("seats", lambda link, message: desk.heard(link.slot, message))
        self.bus.greet(lambda link: desk.greet(link.slot, link.pid))
        self.bus.greet(lambda link: link.send(frame("queued", channels=desk.queued())))
        self.bus.mourn(lambda link: desk.lost(link.slot))
        self.bus.on("moves", self._pass_on)
        return desk

    def _pass_on(self, link: Link, message: dict[str, Any]) -> None:
        """What one worker remembers of conversations, to the others."""
        data = frame("moves", moves=message["moves"])
        for other in self.bus.links.values():
            if other is not link:
                other.send(data)

    def referee_figures(self) -> dict[str, dict[str, object]]:
        """Of each limited channel: seats taken, who waits, how fast they come free."""
        return self.seats.figures()

    def _say(self, kind: str, slot: int, message: dict[str, Any]) -> None:
        link = self.bus.links.get(slot)
        if link is not None:
            link.send(frame(kind, **message))

    async def _tell_queued(self) -> None:
        """How many wait for each channel, for rules that look at it."""
        told: dict[str, object] = {}
        while True:
            await stroke(QUEUED_EVERY)
            if (queued := self.seats.queued()) != told:
                told = queued
                self.bus.broadcast(frame("queued", channels=queued))

    def _read(self, resume: bool, again: Path | None) -> bool:
        """What to serve. At a start: the file, or when it is bad and that is wished (`--resume`) the last good revision.
        Started again: the revision that workers serve; the file is looked at once everything stands."""
        rollout = self.rollout
        if again is not None and rollout.recall(Revisions(again)):
            return True
        try:
            rollout.read()
        except ConfigError as error:
            print(render(error.mistakes), file=sys.stderr)
            if not resume:
                return False
            if not rollout.recall(revisions := Revisions(data_dir_of(rollout.path))):
                print("gateway: there is no last good configuration to resume from", *revisions.damaged, sep=": ", file=sys.stderr)
                return False
            rollout.refused_at_start(error)
        return True

    async def _prepare_directory(self, data_dir: Path, *, fresh: bool) -> None:
        formats.check(data_dir)
        formats.stamp(data_dir)
        (data_dir / "journal").mkdir(parents=True, exist_ok=True, mode=0o700)
        if fresh:
            shutil.rmtree(data_dir / "metrics", ignore_errors=True)  # counters begin anew with the service
        await self._close_dead(data_dir)

    # -- the supervisor -------------------------------------------------------------------------------------------

    def _heard(self, message: dict[str, Any], fds: list[int]) -> None:
        match message.get("say"):
            case "go" | "prepared":
                self._line.answered("", fds, message["metrics"])
            case "cannot":
                self._line.answered(message["message"], fds, {})
            case "processes":
                self.processes = message["table"]
                self.stopping = message["stopping"]
                self._dead.set()
            case "upgrading":
                self._line.upgrade_answered("", message["upgrades"])
            case "not upgraded":
                self._line.upgrade_answered(message["message"], -1)
            case "reload":
                self._keep(self.reload(by="signal", why="SIGHUP", what="reload (SIGHUP)"))
            case "exit":
                self._end()

    async def upgrade(self, to: str) -> tuple[str, int]:
        return await self._line.upgrade(to)

    def _tell(self, message: dict[str, Any]) -> None:
        self._leash.say(message)

    def _orphaned(self) -> None:
        log.error("the supervisor is gone; control ends too")
        end_soon()
        self._end()

    def _end(self, status: int = 0) -> None:
        if not self._ended.done():
            self._ended.set_result(status)

    async def _beat(self) -> None:
        while True:
            self._tell({"say": "beat"})
            await stroke(BEAT_EVERY)

    # -- the configuration ------------------------------------------------------------------------------------------

    async def reload(self, *, by: str, why: str, what: str = "reload", force: bool = False, undone: bool = False) -> Outcome:
        if self.stopping or not self._serving:
            outcome = Outcome(False, "the gateway is stopping" if self.stopping else "the gateway is starting", rev=self.rollout.rev)
        else:
            outcome = await self.rollout.reload(self.bus, self._line, by=by, why=why, force=force, undone=undone)
        await note_reload(self.audit, outcome, what, by=by)
        return outcome

    def _reloaded(self, outcome: Outcome) -> None:
        if outcome.changed and self.rollout.config is not None:
            self.seats.adopt(limits_of(self.rollout.config.channels))
            adopt(self.limits, self.rollout.config, self.rollout.keys)
            self.ledger.adopt(self.rollout.config.ledger)
            self.ledger.price_by(ledger_book(self.rollout.config))
            self.endpoints.watch_closely(figured(self.rollout.config.models.values()))
        self._tell({"say": "reloaded", "status": self._standing(outcome)})

    def _standing(self, outcome: Outcome) -> str:
        return f"revision {self.rollout.rev}" + ("" if outcome.ok else f"; last reload refused: {outcome.message}")

    def _detected(self, channel: str, engine: str) -> None:
        """An `auto` channel's engine became known, or is another one now."""
        log.info("channel %s: its engine is %s", channel, engine)
        config = self.rollout.config
        now = config.channels.get(channel) if config is not None else None
        if self._serving and now is not None and now.engine != engine:
            self._keep(
                self.reload(by="gateway", why=f"channel {channel} is {engine}", what=f"reload (channel {channel} is {engine})", force=True)
            )

    async def _refill(self) -> None:
        while True:
            await stroke(REFILL_EVERY)
            try:
                if not self.stopping:
                    await self.rollout.refill(self.bus, self._line)
            except Exception:
                log.exception("what registries found was brought to the workers in vain")

    async def _watch_files(self, again: bool) -> None:
        """again: control was started again; which files there are is known when they have been read."""
        if again:
            await self.reload(by="gateway", why="control was started again", what="reload (control was started again)")
        async for why in changes(lambda: self.rollout.watched, since=self._started):
            await self.announced.quiet()
            if self.rollout.as_read():  # a command has edited them, and has brought them to the workers
                continue
            await self.reload(by="gateway", why=f"files changed ({why})", what="reload (the files changed)")

    # -- the journal --------------------------------------------------------------------------------------------------

    async def _close_orphans(self, data_dir: Path) -> None:
        while True:
            await comes(self._dead, until_stroke(ORPHANS_EVERY, time.monotonic()))
            self._dead.clear()
            closed = await self._close_dead(data_dir)
            if closed and self.rollout.config is not None:
                killed(closed, self.limits, self.rollout.config)

    async def _close_dead(self, data_dir: Path) -> list[dict[str, Any]]:
        """Returns the records that this made."""
        closed: list[dict[str, Any]] = []
        said, self._unclosed = self._unclosed, ""
        try:
            await asyncio.to_thread(close_orphans, data_dir / "journal", lambda line: closed.append(json.loads(line)))
        except Exception as error:  # a file that nobody can read must not keep the gateway from serving
            self._unclosed = str(error)
            if self._unclosed != said:  # it is tried again and again
                log.error("journal: what dead workers left open cannot be closed: %s", error, exc_info=not isinstance(error, OSError))
        return closed

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
            self._end(1)

    async def _close(self, admin: AdminServer) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await admin.close()
        self.seats.close()
        self.limits.close()
        await self.truth.close()
        await self.ledger.close()
        await self.metrics.close()
        await self.bus.close()
        self._leash.close()


def main(arguments: list[str]) -> int:
    """The role `control`; only the supervisor starts it."""
    parser = argparse.ArgumentParser(prog="gateway control")
    parser.add_argument("--leash", type=int, required=True)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--again", type=Path, metavar="DATA_DIR")
    options = parser.parse_args(arguments)
    start_logging("control")
    obey_the_supervisor_alone()

    async def run() -> int:
        try:
            return await Control(options.config, socket.socket(fileno=options.leash)).run(options.resume, options.again)
        except OSError as error:
            named = f"{error.filename}: " if error.filename else ""
            print(f"gateway: {named}{error.strerror or error}", file=sys.stderr)
            return 1
        except formats.Newer as newer:
            print(f"gateway: {newer}", file=sys.stderr)
            return formats.UNREADABLE

    import uvloop

    return uvloop.run(run())

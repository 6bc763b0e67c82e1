"""How a changed file becomes what every worker serves, or changes nothing: read, check, prepare everywhere, commit, swap.

The commit is the fsynced rename of `current` in the data directory; before it any trouble leaves the old revision in
place everywhere, after it every worker that lives or is started has the new one.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import msgspec

from gateway.admin.desk import NoSuch
from gateway.bus.frames import Parcel, frame
from gateway.bus.server import BusServer
from gateway.config.certificates import lapsed
from gateway.config.diff import Change, diff
from gateway.config.load import Loaded, load, watched
from gateway.config.report import place
from gateway.config.resolve import resolve
from gateway.config.resolved import Channel, Key, Resolved
from gateway.config.revisions import Damaged, Revisions
from gateway.config.unfinished import unfinished
from gateway.discover.endpoints import Endpoints
from gateway.discover.files import Marks, marks
from gateway.discover.registries.registries import Registries
from gateway.discover.supply import Supply, moved
from gateway.errors import ConfigError, Mistake

log = logging.getLogger("gateway.rollout")

DETECT_PATIENCE = 3.0
"""Seconds that `engine: auto` channels may hold up a revision; what has not answered by then is detected later."""
REGISTRY_PATIENCE = 3.0
"""Seconds that registries may hold up a revision with their first answers."""


def _warn(loaded: Loaded) -> None:
    """Of what is no mistake, and yet serves nobody."""
    for said in (*unfinished(loaded.config), *lapsed(loaded.config, time.time())):
        log.warning("%s", said)


@dataclass
class Outcome:
    """What became of one load of the configuration."""

    ok: bool
    message: str
    ts: float = field(default_factory=time.time)
    changed: bool = False
    rev: int = 0
    mistakes: list[Mistake] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    unaudited: str = ""

    def told(self) -> dict[str, Any]:
        """For the admin API. unaudited: why it is not in the audit log; most often it is."""
        missing = {"unaudited": self.unaudited} if self.unaudited else {}
        return {
            **missing,
            "ok": self.ok,
            "message": self.message,
            "ts": self.ts,
            "changed": self.changed,
            "rev": self.rev,
            "mistakes": [msgspec.to_builtins(mistake) for mistake in self.mistakes],
            "changes": [str(change) for change in self.changes],
        }


class Sockets(Protocol):
    """The supervisor, as far as a change of addresses needs it."""

    async def prepare(self, config: Resolved) -> None:
        """Makes the sockets that `config` needs. Raises OSError naming the address that cannot be had."""
        ...

    async def commit(self, config: Resolved, parcel: Parcel) -> None: ...
    def abort(self) -> None: ...


class Rollout:
    """The configuration that is served, and the way to the next one. One change at a time."""

    def __init__(self, path: Path, endpoints: Endpoints, registries: Registries | None = None) -> None:
        self.path = path
        self.endpoints = endpoints
        self.registries = registries or Registries()
        self.supply = Supply(self.registries, endpoints)
        self.loaded: Loaded | None = None
        self.config: Resolved | None = None
        self.keys: list[Key] = []
        self.rev = 0
        self.ts = 0.0
        self.digest = ""
        self.last = Outcome(True, "not loaded yet")
        self.counts = {"accepted": 0, "refused": 0, "unchanged": 0}
        self.begun: Outcome | None = None
        """What a start changed of what was served before, or why it could not; None: nothing."""
        self.watched: list[Path] = [path]
        self._read: Marks | None = None
        self._changing = asyncio.Lock()
        self._undone = False
        self._listed: dict[str, Channel] = {}
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[Outcome], None] = lambda outcome: None
        self.spared: Callable[[], list[str]] = list
        """Ids of keys that may be gone in the next revision without an end of their open requests."""

    # -- start ------------------------------------------------------------------------------------------------------

    def read(self) -> None:
        """The file as it is now. Raises ConfigError."""
        loaded = load(self.path)
        self.config, self.keys = resolve(loaded)
        _warn(loaded)
        self.loaded, self.digest = loaded, loaded.digest
        self.watched = self._watched(loaded.watch)

    def recall(self, revisions: Revisions) -> bool:
        """The last good revision instead of the file; False when there is none."""
        found = revisions.current()
        if found is None:
            return False
        self.config, self.keys, self.rev, self.ts, self.digest = found.resolved, found.keys, found.rev, found.ts, found.digest
        return True

    def refused_at_start(self, error: ConfigError) -> None:
        """The file was bad and a revision is served in its place."""
        self.last = self.begun = self._refused(error)
        self.counts["refused"] += 1
        self.watched = self._watched(watched(self.path))

    def workers(self) -> int:
        """How many there should be."""
        return self.config.workers if self.config is not None else 0

    async def settle_in(self, revisions: Revisions, *, again: bool) -> Parcel:
        """At the start: what was read or recalled becomes the current revision. Needs the data directory's lock.
        again: workers serve it already, exactly as it is."""
        assert self.config is not None
        self._revisions = revisions
        await asyncio.to_thread(self.supply.recall, self._remembered())
        if again:
            self.registries.adopt(self.config.registries)
            self.config = self.supply.handed(self.config)
        else:
            self.config = await self._with_endpoints(self.config)
        if self.loaded is not None:
            current = self._peek(revisions)
            if current is not None and current.digest == self.digest:
                self.rev, self.ts = current.rev, current.ts
            else:
                changes = diff((current.resolved, current.keys), (self.config, self.keys)) if current is not None else []
                self.rev, self.ts = self._save(self.loaded, self.config, self.keys, "start", "gateway"), time.time()
                told = f"revision {self.rev} is served{'' if current is not None else '; of one before it nothing is known'}"
                self.begun = Outcome(True, told, changed=True, rev=self.rev, changes=changes)
            self.counts["accepted"] += 1
        if self.last.ok:
            self.last = Outcome(True, "loaded at start", changed=True, rev=self.rev)
        self.last.rev = self.rev
        await self._keep()
        return self.parcel()

    def parcel(self) -> Parcel:
        assert self.config is not None
        return Parcel.pack(self.rev, self.config, self.keys)

    # -- change -----------------------------------------------------------------------------------------------------

    async def reload(self, bus: BusServer, sockets: Sockets, *, by: str, why: str, force: bool = False, undone: bool = False) -> Outcome:
        """Reads the file and brings every worker to it, or none. force: even when the text is the same. undone: what is refused is taken
        back at once by whoever asks, and is told to nobody else."""
        async with self._changing:
            self._undone = undone
            self.before()
            try:
                outcome = await self._reload(bus, sockets, by, why, force)
            except Exception as error:
                log.exception("a reload ended in a fault of ours")
                outcome = Outcome(False, f"the gateway made a mistake while reloading: {type(error).__name__}", rev=self.rev)
            if undone and not outcome.ok:
                self.after(replace(self.last, changed=False))
                return outcome
            self.counts["refused" if not outcome.ok else "accepted" if outcome.changed else "unchanged"] += 1
            if outcome.changed or not outcome.ok or not self.last.ok:
                self.last = outcome
            self.after(outcome)
            return outcome

    async def _reload(self, bus: BusServer, sockets: Sockets, by: str, why: str, force: bool) -> Outcome:
        before, self._read = marks(self.watched), None
        try:
            loaded = await asyncio.to_thread(load, self.path)
            config, keys = await asyncio.to_thread(resolve, loaded)
        except ConfigError as error:
            self.watched = self._watched(await asyncio.to_thread(watched, self.path))
            return self._refused(error)
        self.watched = self._watched(loaded.watch)
        after = marks(self.watched)
        self._read = after if after == before else None  # else something changed while it was read
        if loaded.digest == self.digest and not force:
            self.loaded = loaded
            if by == "signal":  # whoever sent it has nothing but the log to look at
                log.info("nothing changed, revision %d stays", self.rev)
            return Outcome(True, "nothing changed", rev=self.rev)
        _warn(loaded)
        assert self.config is not None
        if config.data_dir != self.config.data_dir or config.node != self.config.node:
            return self._refusal("data_dir and node cannot change while the gateway runs; restart it")
        try:
            config = await self._with_endpoints(config)
            return await self._move(bus, sockets, loaded, config, keys, by, why)
        finally:
            await self._keep()

    def as_read(self) -> bool:
        """Whether every file is as it was when it was read last, so that reading again would find nothing."""
        return self._read is not None and self._read == marks(self.watched)

    def _watched(self, found: Iterable[Path]) -> list[Path]:
        """What the file names, as far as it can be read, and the certificates of what is served."""
        assert self.config is not None
        channels = self.config.channels.values()
        named = [*(one.tls for one in self.config.listeners), *(tls for one in channels for tls in (one.tls, *one.plane_tls.values()))]
        certificates = {Path(file) for tls in named if tls is not None for file in (tls.cert, tls.key, tls.ca) if file}
        return [self.path, *found, *certificates]

    def _refused(self, error: ConfigError) -> Outcome:
        first = error.mistakes[0]
        more = f" (and {len(error.mistakes) - 1} more)" if len(error.mistakes) > 1 else ""
        outcome = self._refusal(f"{place(first)}: {first.message}{more}")
        outcome.mistakes = error.mistakes
        return outcome

    def _refusal(self, why: str) -> Outcome:
        level, what = (logging.INFO, "an edit is refused and taken back") if self._undone else (logging.ERROR, "configuration refused")
        log.log(level, "%s, revision %d stays: %s", what, self.rev, why)
        return Outcome(False, why, rev=self.rev)

    async def _move(
        self, bus: BusServer, sockets: Sockets, loaded: Loaded, config: Resolved, keys: list[Key], by: str, why: str
    ) -> Outcome:
        assert self.config is not None
        changes = diff((self.config, self.keys), (config, keys))
        parcel = Parcel.pack(self._revisions.upcoming(), config, keys)
        committed = False
        try:
            await sockets.prepare(config)
            await bus.gathered(self.config.workers)
            trouble = await bus.prepare(parcel)
            if trouble:
                return self._refusal("; ".join(f"worker-{slot} cannot serve it: {what}" for slot, what in sorted(trouble.items())))
            self.rev = await asyncio.to_thread(self._save, loaded, config, keys, why, by)
            committed = True
        except OSError as error:
            return self._refusal(error.strerror or str(error))
        finally:
            if not committed:
                bus.abort()
                sockets.abort()
        self.ts, self.loaded, self.config, self.keys, self.digest = time.time(), loaded, config, keys, loaded.digest
        bus.current, bus.spared = parcel, self.spared()
        await sockets.commit(config, parcel)
        await bus.commit(parcel)
        for change in changes[:50]:
            log.info("revision %d: %s", self.rev, change)
        log.info("revision %d is served by all workers (%d change(s), %s)", self.rev, len(changes), why)
        return Outcome(True, f"revision {self.rev} is served", changed=True, rev=self.rev, changes=changes)

    def _save(self, loaded: Loaded, config: Resolved, keys: list[Key], why: str, by: str) -> int:
        """Writes the next revision and puts it in force; its number. Raises OSError, which says where and what to do."""
        try:
            rev = self._revisions.save(files=loaded.files, digest=loaded.digest, resolved=config, keys=keys, by=by, why=why)
            self._revisions.commit(rev)
        except OSError as error:
            said = f"{self._revisions.folder}: it cannot be written: {error.strerror or error}; when it can, gatewayctl reload"
            raise OSError(error.errno, said) from error
        return rev

    # -- what is found out --------------------------------------------------------------------------------------------

    async def refill(self, bus: BusServer, sockets: Sockets) -> list[str]:
        """Brings the endpoints that registries found, or no longer find, to all workers, under the present revision.
        The channels that have others now."""
        async with self._changing:
            assert self.config is not None and bus.current is not None
            listed = self.supply.listed(self.config)
            if moved(self._listed, listed):
                self._probe(listed, self.config)
            config = self.supply.handed(self.config)
            changed = moved(self.config.channels, config.channels)
            if changed:
                self.config = config
                parcel = bus.current = Parcel(self.rev, Parcel.pack(self.rev, config, []).head, bus.current.slices)
                await sockets.commit(config, parcel)  # a worker that starts from now on has them too
                bus.broadcast(frame("endpoints", channels=changed))
                await self._keep()
            for name, endpoints in changed.items():
                log.info("channel %s: %d endpoint(s) from registry %s", name, len(endpoints), config.channels[name].registry)
            return list(changed)

    def endpoints_frame(self) -> bytes:
        """For a worker that has just connected: what it began with may be old."""
        channels = self.config.channels.values() if self.config is not None else ()
        return frame("endpoints", channels={channel.name: channel.endpoints for channel in channels if channel.registry})

    async def _with_endpoints(self, config: Resolved) -> Resolved:
        """With what registries list, as far as they answer and a probe has seen it in time, and with engines for `auto`."""
        self.registries.adopt(config.registries)
        if config.registries:
            await self.registries.settled(REGISTRY_PATIENCE)
        listed = self.supply.listed(config)
        config = await self._with_engines(config, listed)
        if config.registries:
            self._probe(listed, config)
            await self.supply.seen(config, DETECT_PATIENCE)
        return self.supply.handed(config)

    async def _keep(self) -> None:
        """After a change, or one that was refused: looked at and remembered is what is served."""
        assert self.config is not None
        self.registries.adopt(self.config.registries)
        if self.supply.keep(self.config):
            await asyncio.to_thread(self.supply.write, self._remembered())
        self._probe(self.supply.listed(self.config), self.config)

    def _probe(self, listed: dict[str, Channel], config: Resolved) -> None:
        """config: whose models say what each channel's engines must have."""
        self._listed = listed
        self.endpoints.adopt(listed, config.models)

    def _remembered(self) -> Path:
        assert self.config is not None
        return Path(self.config.data_dir) / "endpoints.json"

    async def _with_engines(self, config: Resolved, listed: dict[str, Channel]) -> Resolved:
        """`engine: auto` replaced by what the engines say they are, as far as they answer in time."""
        auto = {name: channel for name, channel in config.channels.items() if channel.auto}
        if not auto:
            return config
        self._probe(listed, config)
        with contextlib.suppress(TimeoutError):
            await self.endpoints.detect_all(DETECT_PATIENCE)
        found = {name: self.endpoints.engine_of(name) for name in auto}
        channels = {
            name: msgspec.structs.replace(channel, engine=found[name]) if found.get(name) else channel
            for name, channel in config.channels.items()
        }
        return msgspec.structs.replace(config, channels=channels)

    @staticmethod
    def _peek(revisions: Revisions) -> Any:
        try:
            return revisions.current()
        except Exception as error:  # a damaged `current` is replaced by what was just read
            log.error("the current revision cannot be read: %s", error)
            return None

    # -- the past -----------------------------------------------------------------------------------------------------

    def history(self) -> list[dict[str, Any]]:
        """Every revision kept, the oldest first."""
        return [{**msgspec.to_builtins(told), "running": told.rev == self.rev} for told in self._revisions.list()]

    def back(self) -> tuple[int, str]:
        """Where a rollback leads that names no revision, and why; 0: nowhere, and why."""
        rev, why = self._revisions.back(self.rev)
        if rev == self.rev or self.last.ok or not self.last.mistakes:
            return rev, why
        why = f"the files are those of revision {self.rev}, which is live, and yet they are refused: {self.last.message}"
        return 0, f"{why}. Mend that, or say to which revision to go back"

    def restore(self, rev: int | None) -> tuple[int, str]:
        """Puts the files of a revision (None: see `back`) back in place; a reload then serves them. Gives its number and what was done to
        which file. Raises NoSuch when there is none."""
        if rev is None:
            rev, why = self.back()
            if not rev:
                raise NoSuch(why)
        try:
            return rev, self._revisions.restore(rev).said
        except Damaged as error:
            raise NoSuch(str(error)) from None

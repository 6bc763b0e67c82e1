"""The ledger as control keeps it: one thread writes, others read, and the loop only waits. Whatever happens to it, serving goes on.

what happens                 what is done
locked, disk full, denied    said, and tried again until it works; the journal waits
damaged, removed             set aside as `.corrupt-<time>`, made anew, filled from archives, bundles and segments
dies while it opens, thrice  the same: what kills us cannot be kept
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from gateway.config.resolved import Ledger as Settings
from gateway.ledger.duck import DuckStore
from gateway.ledger.ingest import KEEP_EVERY, Ingest, Step
from gateway.ledger.repair import Attempts, Expected, set_aside
from gateway.ledger.store import DAMAGED, UNUSABLE, Facts, Loaded, Rows, Store, StoreFailure
from gateway.moment import comes, until_stroke
from gateway.price.book import PriceBook
from gateway.steady import LONG, Steady

log = logging.getLogger("gateway.ledger")

T = TypeVar("T")
STEP_EVERY: Final = 1.0
STEP_MOST: Final = 2.0
"""Seconds between steps while much comes: a transaction of many rows costs less for each."""
STEP_SHARE: Final = 20.0
"""Much comes when a step takes more than one part in so many of the time between two."""
RETRY_MOST: Final = 30.0
FACTS_EVERY: Final = 10.0
"""Seconds between two looks at all that the store holds: it goes through the whole table."""
BEHIND: Final = 60.0
"""Seconds of waiting above which something is wrong."""
READERS: Final = 2
"""Reports at once; further ones wait."""
DOUBTED: Final = 4
"""A clock that stands after the newest request by more than this part of `ledger.keep` at the start is doubted."""
FIRST_KEEP: Final = 60.0
"""Seconds after the start until months are archived for the first time."""


def pause_after(took: float) -> float:
    """Seconds until the next step, when this one took so long and nothing waits."""
    return STEP_EVERY if STEP_SHARE * took <= STEP_EVERY else STEP_MOST


def path_of(data_dir: Path, settings: Settings) -> Path:
    return data_dir / settings.url.removeprefix("duckdb:")


class Ledger:
    """Everything that control knows of its ledger."""

    def __init__(self, data_dir: Path, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        self.path = path_of(data_dir, settings)
        self.journal = data_dir / "journal"
        self.settings = settings
        self.trouble = ""
        """Why it is not well; "" = it is."""
        self.lost: list[str] = []
        """What the last repair could not bring back."""
        self.loaded = Loaded()
        """Since control began."""
        self.repairs = 0
        self.repaired: dict[str, Any] | None = None
        """When and why it was built anew for the last time."""
        self.facts = Facts()
        self.waiting, self.oldest = 0, 0.0
        self._clock = clock
        self._data_dir = data_dir
        self._book: PriceBook | None = None
        self._writer = ThreadPoolExecutor(1, "ledger")
        self._readers = asyncio.Semaphore(READERS)
        self._store: Store = self._made()
        self.ingest = Ingest(self._store, self.journal, clock=clock)
        self._open = False
        self._counted = False
        self._failures = 0
        self._steady = Steady(long=min(LONG, settings.keep / DOUBTED))
        self._unkept = ""
        """Why months that are over are not archived; "" = they are."""
        self._looked = self._kept = 0.0
        self._closing = asyncio.Event()

    def _made(self) -> Store:
        made = DuckStore(self.path, memory=self.settings.memory, journal=self.journal, clock=self._clock)
        made.book = self._book
        return made

    # -- running -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        self._kept = time.monotonic() - KEEP_EVERY + FIRST_KEEP
        while not self._closing.is_set():
            pause = await self._in_writer(self._turn)
            await comes(self._closing, pause)

    async def close(self) -> None:
        """Lets go of the file. What is not loaded yet waits in the journal."""
        self._closing.set()
        self._store.stop()
        await self._in_writer(self._store.close)
        self._writer.shutdown(wait=False)

    def adopt(self, settings: Settings) -> None:
        """A new revision's words. Another place or other memory is another file, opened at the next turn."""
        before, self.settings = self.settings, settings
        if (before.url, before.memory) != (settings.url, settings.memory):
            self._writer.submit(self._reopen)

    def price_by(self, book: PriceBook) -> None:
        """What is loaded from now on comes to what this book says. Nobody else may use it."""

        def taking() -> None:
            self._book = self._store.book = book

        self._writer.submit(taking)

    def _reopen(self) -> None:
        self._shut()
        self.path = path_of(self._data_dir, self.settings)
        self._store = self._made()
        self.ingest = Ingest(self._store, self.journal, clock=self._clock)

    async def _in_writer(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, work)

    # -- the writer's thread -------------------------------------------------------------------------------------------

    def _turn(self) -> float:
        """One step of everything; returns the seconds until the next."""
        try:
            if not self._open:
                self._begin()
            began = time.monotonic()
            step = self.ingest.step()
            took = time.monotonic() - began
            self._note(step)
            if not step.waiting:
                self._afterwards()
            self._failures = 0
            self._say("; ".join(filter(None, (self._absent(), self.ingest.full, self._unkept, self._doubt(), self.facts.unwritten))))
            return 0.0 if step.waiting else until_stroke(pause_after(took), time.monotonic())
        except StoreFailure as failure:
            return self._failed(failure)
        except OSError as error:  # the disk's or the operator's doing: a traceback tells neither
            return self._failed(StoreFailure(UNUSABLE, f"{error.filename or self.path}: {error.strerror or error}"))
        except Exception as error:
            log.exception("ledger: a step failed")
            return self._failed(StoreFailure(UNUSABLE, f"{type(error).__name__}: {error}"))

    def _begin(self) -> None:
        attempts = Attempts(self.path)
        if attempts.too_many():
            attempts.forget()
            raise StoreFailure(DAMAGED, "control died each time it opened the ledger")
        expected = Expected(self.path)
        if not self.path.exists() and expected.known() and not expected.awaited():
            log.error("ledger: %s is missing; it is built anew from archives and the journal", self.path)
            expected.await_rebuilding()
            self._repaired("it was missing")
        attempts.begin()
        try:
            self._store.open()
        finally:
            attempts.forget()
        self._open = True
        self._looked = 0.0

    def _note(self, step: Step) -> None:
        self.loaded.add(step.loaded)
        self.waiting, self.oldest = step.waiting, step.oldest
        if step.loaded.quarantined:
            log.error("ledger: %d line(s) of the journal are no records and were put aside", step.loaded.quarantined)
        now = time.monotonic()
        if not self._looked or now - self._looked >= FACTS_EVERY:
            self._looked = now
            self.facts = self._store.facts()
        elif step.loaded.sources:
            self.facts = self.facts.grown(step.loaded)

    def _afterwards(self) -> None:
        """What is done when nothing waits."""
        expected = Expected(self.path)
        if expected.awaited():
            self.lost = expected.missing(self._store.counts())
            for sentence in self.lost:
                log.error("ledger: %s", sentence)
            expected.settle()
        if self.ingest.due():
            self.ingest.bundle(most=1)  # segments come meanwhile
            self._counted = self._counted and self.ingest.more
        if not self._counted:
            expected.note(self._store.counts(absent=True))
            self._counted = True
        self._steady.see(self._clock(), time.monotonic(), self.facts.last)
        if time.monotonic() - self._kept >= KEEP_EVERY and not self._doubt():
            self._keep()

    def _doubt(self) -> str:
        return self._steady.doubted(time.monotonic())

    def _keep(self) -> None:
        """Months that are over, and what is too old. What fails here is said until it works, and what is loaded waits for none of it."""
        self._kept = time.monotonic()
        try:
            self.ingest.keep(self.settings)
            self._unkept = ""
        except StoreFailure as failure:
            if failure.kind == DAMAGED:
                raise
            self._unkept = f"what is over cannot be archived: {failure}"
            self._kept -= KEEP_EVERY - RETRY_MOST
        self._counted = False
        self.facts = self._store.facts()

    def _absent(self) -> str:
        names = ", ".join(self.facts.absent)
        return f"archives are missing or damaged, reports do without them: {names}" if names else ""

    def _failed(self, failure: StoreFailure) -> float:
        self._shut()
        if self._closing.is_set():
            return 0.0
        self._failures += 1
        self._say(str(failure))
        self._count_waiting()
        if failure.kind == DAMAGED:
            try:
                aside = set_aside(self.path, self._clock())
            except OSError as error:
                self._say(f"{failure}; it cannot be set aside: {error.strerror or error}")
                return RETRY_MOST
            Expected(self.path).await_rebuilding()
            self._repaired(f"{failure}; set aside as {', '.join(aside) or 'nothing'}")
            log.error("ledger: set aside as %s; it is built anew from archives and the journal", ", ".join(aside) or "nothing")
            if self._failures < 3:
                return 0.0
        return min(RETRY_MOST, 2.0 ** (self._failures - 1))

    def _repaired(self, why: str) -> None:
        self.repairs += 1
        self.repaired = {"ts": round(self._clock(), 3), "why": why}

    def _count_waiting(self) -> None:
        """While the ledger is away, all that is sealed waits."""
        with contextlib.suppress(OSError):
            self.waiting, self.oldest = self.ingest.backlog()

    def _shut(self) -> None:
        self._open = self._counted = False
        self._store.close()
        self.ingest.reset()

    def _say(self, trouble: str) -> None:
        if trouble != self.trouble:
            if trouble:
                log.error("ledger: %s", trouble)
            elif self.trouble:
                log.info("ledger: it is well")
            self.trouble = trouble

    # -- what others ask -----------------------------------------------------------------------------------------------

    @property
    def store(self) -> Store:
        """For questions from other threads (`Store.query`)."""
        return self._store

    async def act(self, work: Callable[[Store, Ingest], T]) -> T:
        """By the writer's thread, between two turns. Raises StoreFailure, also when the ledger is not open."""

        def doing() -> T:
            if not self._open:
                self._begin()
            try:
                done = work(self._store, self.ingest)
            except StoreFailure as failure:
                if failure.kind != "refused":
                    self._failed(failure)
                raise
            self.facts = self._store.facts()
            return done

        return await self._in_writer(doing)

    async def mend(self, *, keeping: bool = True) -> None:
        """Opens it, mends what is damaged, loads what waits: for who has no loop that does it. keeping: False = archives nothing and
        deletes nothing for its age. Raises StoreFailure."""

        def mending() -> None:
            if not keeping:
                self._kept = time.monotonic()
            for _ in range(3):
                pause = self._turn()
                while self._open and pause == 0.0:
                    pause = self._turn()
                if self._open:
                    return
            raise StoreFailure(UNUSABLE, self.trouble or "it is being opened")

        await self._in_writer(mending)

    async def query(self, sql: str, params: Sequence[Any] = (), *, seconds: float = 30.0, most: int = 10_000) -> Rows:
        """See `Store.query`. Waits for other reports, never for what is being loaded."""
        return await self.read(lambda store: store.query(sql, params, seconds=seconds, most=most))

    async def read(self, work: Callable[[Store], T]) -> T:
        """Something that only reads, in a thread of its own."""
        async with self._readers:
            try:
                return await asyncio.to_thread(work, self._store)
            except StoreFailure as failure:
                if failure.kind == DAMAGED and self._open:
                    await self._in_writer(partial(self._failed, failure))
                elif not self._open and failure.kind == UNUSABLE:
                    raise StoreFailure(UNUSABLE, f"it cannot be read now: {self.trouble or 'it is being opened'}") from failure
                raise

    def lag(self) -> float:
        """Seconds that the oldest sealed segment has waited."""
        return max(0.0, self._clock() - self.oldest) if self.waiting and self.oldest else 0.0

    def ready(self) -> bool:
        """Whether it has what the journal has, but for the last moments: who compares hours must wait for that."""
        return self._open and bool(self._looked) and self.lag() <= BEHIND

    def _state(self) -> str:
        if self.trouble:
            return "failing"
        return "opening" if not self._open else "behind" if self.lag() > BEHIND else "ok"

    def told(self) -> dict[str, Any]:
        """For `gatewayctl status` and `gatewayctl ledger status`."""
        facts = self.facts
        return {
            "url": self.settings.url,
            "path": str(self.path),
            "state": self._state(),
            "trouble": self.trouble,
            "rows": facts.rows + sum(one.rows for one in facts.archives),
            "first": facts.first or None,
            "last": facts.last or None,
            "waiting": self.waiting,
            "lag": round(self.lag(), 1),
            "loaded": self.loaded.rows,
            "duplicates": self.loaded.duplicates,
            "quarantined": facts.quarantined,
            "unpriced": facts.unpriced,
            "bytes": facts.bytes,
            "unused": facts.unused,
            "memory": facts.memory,
            "repairs": self.repairs,
            "repaired": self.repaired,
            "lost": self.lost,
            "archives": [{"name": one.name, "month": one.month, "rows": one.rows, "bytes": one.bytes} for one in facts.archives],
            "absent": facts.absent,
        }

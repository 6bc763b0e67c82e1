"""What the ledger does with the journal, step by step: sealed segments in, loaded ones into bundles, months that are over into archives,
what is too old away. Blocks; the writer's thread calls it."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from gateway.config.resolved import Ledger as Settings
from gateway.failpoint import failpoint
from gateway.ledger import bundles
from gateway.ledger.store import REFUSED, Archive, Loaded, Source, Store, StoreFailure

log = logging.getLogger("gateway.ledger")

BATCH: Final = 20 * 1024 * 1024
"""Bytes of the journal in one transaction: two segments of the usual size are a little more than 16 MiB."""
SETTLE_EVERY: Final = 600.0
SETTLE_ROWS: Final = 98_304
"""New rows after which the file is settled. DuckDB keeps rows in groups of 122,880 and at each checkpoint writes neighbours again that fit
into fewer groups, which costs more than loading them; groups that are four fifths full stay as they are."""
BUNDLE_EVERY: Final = 900.0
YOUNG: Final = 120.0
"""Seconds for which a loaded segment stays as it is: whoever looks at the newest requests reads it."""
LATE: Final = 86_400.0
"""Seconds that a month's last requests have to arrive, before it is archived by itself."""
KEEP_EVERY: Final = 3600.0
CALM: Final = 1.0
"""Seconds after a folder's last change from which another change shows in its time, whatever file system and clock are."""
ANYWAY: Final = 60.0
"""Seconds after which a journal is looked through whatever its folders say."""
CHECKED: Final = 256 * 1024 * 1024
"""Bytes of the journal that are compared with the ledger at once."""


@dataclass(slots=True)
class Step:
    """waiting: sources that are not loaded yet. oldest: when the first of them was written, Unix seconds."""

    loaded: Loaded = field(default_factory=Loaded)
    waiting: int = 0
    oldest: float = 0.0


class Ingest:
    """One journal into one open store."""

    def __init__(self, store: Store, journal: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._journal = journal
        self._clock = clock
        self._known: set[str] | None = None
        self._quiet: tuple[int, ...] | None = None
        """When the journal's folders had changed last, as of a step that left nothing waiting in them."""
        self._looked = 0.0
        self._dirty = False
        self._rows = 0
        """Loaded since the file was settled."""
        self._settled = self._bundled = time.monotonic()
        self._loose = True
        """Whether compacting the file may be worth it although it says of no space that it is unused, as when a month has left it:
        rows stand in groups, and of a group that has a row left nothing is free."""
        self.more = False
        """Whether the last bundling left segments that it might have had."""
        self.full = ""
        """Why it takes more disk than it may; "" = it does not."""

    # -- acts -------------------------------------------------------------------------------------------------------

    def catch_up(self) -> Loaded:
        """Everything that is sealed."""
        loaded = Loaded()
        while True:
            step = self.step()
            loaded.add(step.loaded)
            if not step.waiting:
                self.settle()
                return loaded

    def rebuild(self, *, force: bool = False) -> dict[str, int]:
        """See `Store.rebuild`."""
        lost = self._store.rebuild(lambda fresh: Ingest(fresh, self._journal, clock=self._clock).catch_up(), force=force)
        self.reset()
        return lost

    def verify(self) -> list[str]:
        """What is wrong with the ledger, its archives and the files it was made from. What waits is loaded first, or else said why not."""
        while self.step().waiting:
            continue
        wrong = self._store.verify()
        known = self._store.known()
        sources = [one for one in (*bundles.bundles(self._journal), *bundles.segments(self._journal)) if one.name in known]
        wrong += [f"{name} of the journal is not the file that was loaded" for name in self._store.altered(sources)]
        missing = 0
        for group in bundles.portions(sources, CHECKED):
            try:
                missing += self._store.missing(group)
            except StoreFailure as failure:
                if failure.kind != REFUSED:
                    raise
                wrong.append(f"{group[0].name} and {len(group) - 1} other file(s) of the journal cannot be compared: {failure}")
        if missing:
            wrong.append(f"{missing} request(s) of the journal are not in the ledger: gatewayctl ledger rebuild")
        return wrong

    # -- in ----------------------------------------------------------------------------------------------------------

    def step(self) -> Step:
        """Loads one batch of what waits."""
        changed = self._changed()
        if self._quiet is not None and changed == self._quiet and time.monotonic() - self._looked < ANYWAY:
            self._settle_in_time()
            return Step()
        first = self._known is None
        self._known = known = self._store.known()
        loose, kept = bundles.segments(self._journal), bundles.bundles(self._journal)
        if first:
            loose, kept = self._tidied(loose, kept, known)
        waiting = [source for source in (*kept, *loose) if source.name not in known]
        batch = next(bundles.portions(waiting, BATCH), [])
        loaded = self._load(batch) if batch else Loaded()
        self._dirty = self._dirty or bool(batch)
        self._rows += loaded.rows
        self._settle_in_time()
        rest = waiting[len(batch) :]
        self._quiet, self._looked = None if rest else changed, time.monotonic()
        return Step(loaded, len(rest), _written(rest))

    def _changed(self) -> tuple[int, ...] | None:
        """When the journal's folders changed last; None = just now, so that another change might not show."""
        folders = [folder for folder in (self._journal, self._journal / bundles.FOLDER) if folder.exists()]
        times = tuple(folder.stat().st_mtime_ns for folder in folders)
        return times if max(times, default=0) + int(CALM * 1e9) < time.time_ns() else None

    def _settle_in_time(self) -> None:
        if self._rows >= SETTLE_ROWS or (self._dirty and time.monotonic() - self._settled >= SETTLE_EVERY):
            self._could_settle()

    def _load(self, batch: list[Source]) -> Loaded:
        """What makes a batch too large is loaded alone."""
        try:
            return self._store.load(batch)
        except StoreFailure as failure:
            if failure.kind != REFUSED or len(batch) == 1:
                raise
        loaded = Loaded()
        for source in batch:
            loaded.add(self._store.load([source]))
        return loaded

    def _tidied(self, loose: list[Source], kept: list[Source], known: set[str]) -> tuple[list[Source], list[Source]]:
        """What a bundling that was cut off has left: a bundle that nobody knows while all its segments are there goes; segments go that
        the last known bundle has."""
        for path in (self._journal / bundles.FOLDER).glob("*.new"):
            path.unlink()
        there = {source.name: source for source in loose}
        for bundle in kept[-1:]:
            names = bundles.members(bundle.path)
            made = bundle.path.stat().st_mtime_ns
            left = [there[name] for name in names if name in there and there[name].path.stat().st_mtime_ns <= made]
            if bundle.name in known:
                self._store.settle()
                bundles.remove(left)
            elif names and len(left) == len(names):
                bundles.remove([bundle])
        return bundles.segments(self._journal), bundles.bundles(self._journal)

    def settle(self) -> None:
        self._store.settle()
        self._dirty, self._rows, self._settled = False, 0, time.monotonic()

    def _could_settle(self) -> bool:
        """False: a long report is in the way; it is tried again later."""
        try:
            self.settle()
        except StoreFailure as failure:
            if failure.kind != REFUSED:
                raise
            return False
        return True

    def backlog(self) -> tuple[int, float]:
        """Sealed segments, and when the first of them was written: what waits while no store is open."""
        loose = bundles.segments(self._journal)
        return len(loose), _written(loose)

    def reset(self) -> None:
        """The store was closed: what is known is to be asked anew."""
        self._known = self._quiet = None

    # -- afterwards --------------------------------------------------------------------------------------------------

    def bundle(self, *, young: float = YOUNG, most: int = 1000) -> int:
        """Loaded segments that nobody looks at any more, into at most so many bundles; returns how many."""
        old = self._clock() - young
        known = self._store.known()
        loose = [one for one in bundles.segments(self._journal) if one.name in known and one.path.stat().st_mtime <= old]
        if not loose or not self._could_settle():
            return 0
        done = 0
        for group in islice(bundles.portions(loose, bundles.BUNDLE_MOST), most):
            made = bundles.make(self._journal, group)
            self._store.merged([one.name for one in group], made)
            failpoint("bundle.known")
            self._store.settle()
            bundles.remove(group)
            done += len(group)
        self.more = done < len(loose)
        return done

    def due(self) -> bool:
        """Whether it is time to bundle."""
        if not self.more and time.monotonic() - self._bundled < BUNDLE_EVERY:
            return False
        self.more = False
        self._bundled = time.monotonic()
        return True

    def archive(self, *, late: float = LATE) -> list[Archive]:
        """Every month that was over `late` seconds ago."""
        done = []
        for month in self._store.months(self._clock() - late):
            done.append(self._store.archive(month))
            log.info("ledger: %s is archived, %d request(s)", month, done[-1].rows)
        return done

    def keep(self, settings: Settings) -> None:
        """Archives what is over, and lets go of what is too old or too much."""
        store, cut = self._store, self._clock() - settings.keep
        if self.archive():
            self._loose = True
        for one in store.facts().archives:
            if one.last < cut:
                store.expire(one.name)
                log.info("ledger: the archive %s is older than ledger.keep and was deleted", one.name)
        if dropped := store.drop(cut):
            log.info("ledger: %d request(s) are older than ledger.keep and were deleted", dropped)
        if not self._could_settle():
            return
        spent = set(store.spent(cut))
        gone = [one for one in bundles.bundles(self._journal) if one.name in spent]
        bundles.remove(gone)
        store.forget([one.name for one in gone])
        if settings.size:
            self._fit(settings.size)
        else:
            self.full = ""

    def _fit(self, most: int) -> None:
        """The oldest archives go while it takes more than `most` bytes."""
        taken = self.taken()
        if taken > most and (self._loose or self._store.facts().unused > taken // 20):
            before, after = self._store.compact()
            log.info("ledger: it took more than ledger.size, so the file was compacted: %d bytes before, %d now", before, after)
            self._loose = False
            taken = self.taken()
        for one in self._store.facts().archives:
            if taken <= most:
                break
            self._store.expire(one.name)
            taken -= one.bytes
            log.warning("ledger: it took more than ledger.size, so the archive %s with %d request(s) was deleted", one.name, one.rows)
        self.full = f"it takes {taken} bytes, and ledger.size allows {most}" if taken > most else ""

    def taken(self) -> int:
        """Bytes on the disk: database, archives, bundles."""
        facts = self._store.facts()
        return (
            facts.bytes + sum(one.bytes for one in facts.archives) + sum(one.path.stat().st_size for one in bundles.bundles(self._journal))
        )


def _written(sources: list[Source]) -> float:
    """When the first was written, Unix seconds; 0.0 when nobody knows."""
    try:
        return sources[0].path.stat().st_mtime if sources else 0.0
    except FileNotFoundError:
        return 0.0

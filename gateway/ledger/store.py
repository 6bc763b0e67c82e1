"""What a ledger's database must be able to do, and how it fails. DuckDB does it now (`duck.py`); a shared store may stand in its place.

Every method but `query`, `together`, `write`, `export`, `copy` and `stop` belongs to one thread, the writer's; these may be called
from any.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeVar

from gateway.price.book import PriceBook

T = TypeVar("T")

LOCKED: Final = "locked"
"""Another process has it."""
DAMAGED: Final = "damaged"
"""What stands there is no ledger, or no whole one: it is set aside and built anew."""
UNUSABLE: Final = "unusable"
"""The disk is full, a directory cannot be written, the file is of a newer version: it may be well again by itself."""
REFUSED: Final = "refused"
"""This one call cannot be done: too long, too large, a query with a mistake. The ledger is well."""

Kind = Literal["locked", "damaged", "unusable", "refused"]
Format = Literal["csv", "json", "parquet"]


class StoreFailure(Exception):
    """Anything that goes wrong in a store. Its text is the sentence that the operator reads."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Source:
    """A sealed file of records: a segment of the journal, or many of them bundled and compressed. name: unique for ever."""

    name: str
    path: Path
    bundle: bool = False


@dataclass(slots=True)
class Loaded:
    """What loading brought. rows: new ones. duplicates: records that were there already, and left out. quarantined: lines put aside."""

    sources: int = 0
    rows: int = 0
    duplicates: int = 0
    quarantined: int = 0

    def add(self, other: "Loaded") -> None:
        self.sources += other.sources
        self.rows += other.rows
        self.duplicates += other.duplicates
        self.quarantined += other.quarantined


@dataclass(frozen=True, slots=True)
class Rows:
    """A query's answer. cut: there were more than asked for. UUIDs are text, times naive and in UTC, money Decimal."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    cut: bool = False

    def dicts(self) -> list[dict[str, Any]]:
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


@dataclass(frozen=True, slots=True)
class Archive:
    """A month, or a later part of one, as a Parquet file. digest: SHA-256 of the file. sums: of the columns in `schema.SUMMED`."""

    name: str
    month: str
    rows: int
    bytes: int
    digest: str
    sums: tuple[int, ...]
    first: float
    last: float


@dataclass(slots=True)
class Facts:
    """What a store holds. rows: outside archives. sources: files that are loaded and still known. bytes: on the disk, archives apart.
    unused: of these, what compacting gives back."""

    rows: int = 0
    sources: int = 0
    quarantined: int = 0
    bytes: int = 0
    unused: int = 0
    memory: int = 0
    first: float = 0.0
    last: float = 0.0
    archives: list[Archive] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    """Archives whose files are missing or damaged: reports do without them."""
    unpriced: int = 0
    """Requests outside archives whose price is unknown."""
    unwritten: str = ""
    """Why something that belongs beside it is not on the disk; "" = it is."""

    def grown(self, loaded: Loaded) -> "Facts":
        """With what was loaded since, as far as that is told without a look."""
        return replace(
            self,
            rows=self.rows + loaded.rows,
            sources=self.sources + loaded.sources,
            quarantined=self.quarantined + loaded.quarantined,
        )


class Change(NamedTuple):
    """Requests of a model whose price becomes another one. rev, currency, amount: None = unknown."""

    model: str
    rows: int
    rev_before: str | None
    currency_before: str | None
    before: Decimal | None
    rev: str | None
    currency: str | None
    after: Decimal | None


@dataclass(slots=True)
class Repriced:
    """rows: looked at. changed: of them. archived: of those looked at, rows in archives. costs: of those looked at, rows whose engine cost
    is another. archives: names of the archives that differ. absent: archives of that time whose files are missing or damaged, and stay."""

    rows: int = 0
    changed: int = 0
    costs: int = 0
    archived: int = 0
    changes: list[Change] = field(default_factory=list)
    archives: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)


class Ask(Protocol):
    """Reads, always the same moment of the ledger."""

    def __call__(self, sql: str, params: Sequence[Any] = (), most: int = 10_000) -> Rows: ...


class Increase(NamedTuple):
    """What an engine's counters grew by in a stretch of an hour. hour, since, until: Unix seconds. covered: seconds of it that are sure.
    resets: how often the engine was started again."""

    hour: float
    channel: str
    endpoint: str
    prompt: int
    generation: int
    resets: int
    covered: float
    since: float
    until: float


class Raw(NamedTuple):
    """What an engine's counters of tokens showed. at: Unix seconds."""

    channel: str
    endpoint: str
    prompt: int
    generation: int
    at: float


class Store(Protocol):
    """A ledger's database. Everything may raise StoreFailure."""

    book: PriceBook | None
    """Says what records come to when they are loaded; None = nobody knows."""

    def open(self) -> None:
        """Makes it when it is missing. Files of archives that it does not know are taken in."""

    def close(self) -> None: ...

    def known(self) -> set[str]:
        """Names of sources that are loaded."""

    def load(self, sources: Sequence[Source]) -> Loaded:
        """All of them in one transaction, each exactly once: a source that is loaded already is passed over, and so is a record whose id is
        there. What is no record is put aside with its reason."""

    def settle(self) -> None:
        """From here on what was loaded survives whatever happens to a log of changes: sources may be bundled or go. Refused
        while a report runs that began before the last archive was written or expired."""

    def merged(self, names: Iterable[str], bundle: Source) -> None:
        """These sources' records are in that bundle now: it is known in their place."""

    def forget(self, names: Iterable[str]) -> None:
        """These sources' files are gone."""

    def spent(self, before: float) -> list[str]:
        """Bundles that nothing needs: every record is in an archive, or began before (Unix seconds)."""

    def query(self, sql: str, params: Sequence[Any] = (), *, seconds: float = 30.0, most: int = 10_000) -> Rows:
        """Reads, with its own cursor: neither waits for the writer nor holds it up. Tables: see docs/ledger.md, above all `usage`."""

    def together(self, work: Callable[[Ask], T], *, seconds: float = 30.0) -> T:
        """Several queries of one moment, whatever is loaded meanwhile."""

    def write(self, path: Path, sql: str, params: Sequence[Any], form: Format, *, seconds: float = 600.0) -> int:
        """A query's answer into a file below `scratch`; returns how many rows."""

    def reprice(self, since: float, until: float, globs: Sequence[str], *, dry: bool) -> Repriced:
        """Prices requests anew, by `book`, archives included: from `since` until before `until`, of models that match any of the globs.
        All of it or nothing. dry: only says what it would change."""

    def export(self, path: Path, since: float, until: float, form: Format, *, seconds: float = 3600.0) -> int:
        """Requests that began from `since` until before `until` (Unix seconds) into a file below `scratch`; returns how many."""

    def copy(self, path: Path, *, seconds: float = 600.0) -> None:
        """Everything of one moment, archives apart, as a ledger of its own: a file below `scratch`. Refused without room for it."""

    @property
    def scratch(self) -> Path:
        """Where temporary files are. Emptied by `open`."""

    def months(self, before: float) -> list[str]:
        """Months (`2026-10`) that were over at `before`, in UTC, and have requests outside archives."""

    def archive(self, month: str) -> Archive:
        """Moves the month's requests into a Parquet file, which stays part of `usage`."""

    def expire(self, name: str) -> None:
        """Takes an archive out of `usage` and deletes its file."""

    def drop(self, before: float) -> int:
        """Deletes requests outside archives that began before; returns how many."""

    def compact(self) -> tuple[int, int]:
        """Gives unused space back. Returns bytes before and after."""

    def rebuild(self, fill: "Callable[[Store], object]", *, force: bool = False) -> dict[str, int]:
        """Everything anew: archives, and what `fill` loads into an empty store. Returns how many requests of which months
        it would lose; then nothing is changed unless that is forced."""

    def verify(self) -> list[str]:
        """Reads everything. Returns what is wrong, one sentence each."""

    def missing(self, sources: Sequence[Source]) -> int:
        """How many records of sources are not in `usage`. Lines that are no records do not count, nor what was deleted on purpose."""

    def altered(self, sources: Sequence[Source]) -> list[str]:
        """Names of loaded sources whose files are not what was loaded."""

    def note_counters(self, increases: Sequence[Increase], last: Sequence[Raw]) -> None:
        """Adds to what engines counted, and keeps what each showed last, both or neither."""

    def last_counters(self) -> list[Raw]:
        """What was kept last of each engine."""

    def counts(self, *, absent: bool = False) -> dict[str, int]:
        """Requests of each month (`2026-10`), archives included. absent: also those whose files are missing or damaged."""

    def facts(self) -> Facts: ...

    def stop(self) -> None:
        """Ends whatever runs, as if it had failed."""

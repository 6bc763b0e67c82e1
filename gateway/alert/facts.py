"""What the kinds of rules look at: what control knows now, without I/O and clocks. None = it is not known (yet)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from gateway.config.globs import matches

Labels = dict[str, str]
Pair = tuple[str, str]
"""Model and channel."""


class Condition(NamedTuple):
    """Something holds now. labels: what it is about, short names. text: a sentence without secrets."""

    labels: Labels
    value: float
    text: str


class Found(NamedTuple):
    """What holds now. sure: False when not everything is known, so that what is missing may hold all the same."""

    conditions: list[Condition]
    sure: bool = True


class Series(Protocol):
    """Hourly figures of the past: the ledger's."""

    def series(self, kind: str, by: str, hours: int) -> Mapping[str, Sequence[float | None]] | None:
        """kind: `tokens` or `cost`. by: `total`, `tenant`, … The last hour is the one that goes on; None = nothing is known of an hour.
        None in place of all: the ledger cannot say yet."""
        ...


@dataclass(frozen=True, slots=True)
class Endpoint:
    """seen: it was looked at. not_after: when its certificate ends (Unix seconds), 0 = none was seen."""

    channel: str
    url: str
    state: str
    why: str = ""
    seen: bool = True
    drained: bool = False
    not_after: float = 0.0


@dataclass(slots=True)
class Counted:
    """What was counted in some time. complete: all of that time was watched. first: streams by bucket, not added up, keys are the
    upper bounds in seconds."""

    complete: bool = True
    requests: dict[Pair, float] = field(default_factory=dict)
    failed: dict[Pair, float] = field(default_factory=dict)
    first: dict[Pair, dict[float, float]] = field(default_factory=dict)
    lost: float = 0.0


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit per day or month. share: used, in percent. tenant: whose, "" = nobody's alone. warn: the percent at which a budget itself
    wants to be told of."""

    labels: Labels
    tenant: str
    share: float
    text: str
    warn: tuple[int, ...] = ()


class Certificate(NamedTuple):
    """Unix seconds."""

    file: str
    not_after: float


class KeyEnd(NamedTuple):
    """Unix seconds."""

    id: str
    tenant: str
    expires: float


class Process(NamedTuple):
    """since: when it was started (Unix seconds)."""

    name: str
    restarts: int
    since: float


class Ledger(NamedTuple):
    """lag: seconds behind the journal. trouble: why it cannot be written, "" = it can. aside: lines that were no records, in a day."""

    lag: float
    trouble: str = ""
    aside: int = 0


class Drift(NamedTuple):
    """What a channel's engines counted beyond the ledger in an hour, negative when the ledger has more. hour: its begin, Unix seconds."""

    channel: str
    percent: float
    tokens: int
    hour: float


def _nothing_counted(seconds: float) -> Counted | None:
    return None


@dataclass(frozen=True, slots=True)
class Facts:
    """One look. now: Unix seconds. hour: seconds of the running hour that are over."""

    now: float
    endpoints: Sequence[Endpoint] | None = None
    counted: Callable[[float], Counted | None] = _nothing_counted
    budgets: Sequence[Budget] | None = None
    disk: float | None = None
    """Percent of the disk of `data_dir` in use."""
    free: int = 0
    ledger: Ledger | None = None
    drift: Sequence[tuple[str, str]] | None = None
    """What differs (`worker-1`, `files`), and how."""
    usage: Sequence[Drift] | None = None
    """Where engines and ledger do not agree."""
    certificates: Sequence[Certificate] | None = None
    keys: Sequence[KeyEnd] | None = None
    refused: str | None = None
    """Why the configuration in the files was refused; "" = it was not."""
    unpriced: Mapping[str, int] | None = None
    """Requests by model."""
    journal_failing: bool | None = None
    processes: Sequence[Process] | None = None
    frozen: Sequence[tuple[str, str, str]] | None = None
    """Kind, name, reason."""
    series: Series | None = None


def wanted(glob: str, name: str) -> bool:
    """Whether a rule's glob means the name."""
    return not glob or matches(glob, name)


def span(seconds: float) -> str:
    """`12 s`, `3 min`, `5 h`, `12 days`: one unit, rounded down."""
    for most, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < most:
            return f"{int(max(0.0, seconds) // unit)} {name}"
    return f"{int(seconds // 86400)} days"


def number(value: float) -> str:
    """`950`, `12,300`, `0.25`."""
    return f"{value:,.0f}" if abs(value) >= 10 or value == int(value) else f"{value:.2f}"

"""The one place where an exchange becomes a record: opened at dispatch, settled once, whatever happens."""

from collections.abc import Callable
from functools import partial

from gateway.exchange import Exchange
from gateway.meter.journal import Journal, Release
from gateway.meter.metrics import Metrics
from gateway.meter.progress import OPEN_MOST
from gateway.record import Record, encode_record


class Account:
    """A worker's book-keeper. Never awaits and never raises for the disk's sake."""

    def __init__(self, journal: Journal, metrics: Metrics, node: str, slot: int) -> None:
        self.journal = journal
        self.table = journal.progress
        self.metrics = metrics
        self._node = node
        self._slot = slot
        self.recount: Callable[[Exchange, Callable[[], None]], bool] = lambda x, then: False
        """Counts what an answer has that broke off, then calls back, soon; False = there is nothing to count."""

    def open(self, x: Exchange) -> None:
        """Before the first byte goes to an engine: from here on even a killed worker leaves a trace of `x`."""
        if x.opened:
            return
        record = x.opening(self._node, self._slot, x.snapshot.rev)
        line = encode_record(record)
        x.progress = self.table.take(line if len(line) <= OPEN_MOST else encode_record(_shortened(record)))
        if x.progress < 0:  # the table is full
            self.journal.write(line)

    def settle(self, x: Exchange, now: float, release: Release | None = None) -> None:
        """Writes the `done` line; the first call counts. `release` lets go of the bytes that end the answer: it is
        called when the line is in the journal."""
        if x.settled:
            return
        x.settled = True
        if x.source != "counted" or not self.recount(x, partial(self._settle, x, now, release)):
            self._settle(x, now, release)

    def _settle(self, x: Exchange, now: float, release: Release | None) -> None:
        self.journal.write(encode_record(x.closing(self._node, self._slot, x.snapshot.rev, now)), release, x.progress)
        if x.lease is not None:
            x.lease.settle(x, now)
        self.metrics.account(x, now)


def _shortened(record: Record) -> Record:
    """What fits into the progress table even when every name has its greatest length."""
    return Record(
        record.v, record.kind, record.id, record.node[:64], record.slot, record.rev, record.ts,
        tenant=record.tenant[:64], project=record.project[:64], key=record.key[:64],
        api=record.api, model=record.model[:96], stream=record.stream, reserved=record.reserved,
        channel=record.channel[:64], endpoint=record.endpoint[:96],
    )  # fmt: skip

"""Counts of a worker, gathered in plain numbers and handed to prometheus-client's shared files about once a second.

One file set per worker slot, so that counters go on when a worker is replaced. A killed worker loses at most the last
second of its metrics; its records are complete. Labels are names from the configuration, never what a caller wrote.
"""

import os
from bisect import bisect_left
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values

from gateway.exchange import Exchange
from gateway.meter.backed import Backed

DURATION: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
FIRST: Final = (0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
PER_TOKEN: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)

Labels = tuple[str, ...]


class _Tally:
    """A counter with labels: numbers since the last flush."""

    def __init__(self, metric: Counter) -> None:
        self._metric = metric
        self._children: dict[Labels, Any] = {}
        self.new: dict[Labels, float] = {}

    def add(self, labels: Labels, amount: float = 1) -> None:
        new = self.new
        new[labels] = new.get(labels, 0) + amount

    def flush(self) -> None:
        new, self.new = self.new, {}
        for labels, amount in new.items():
            child = self._children.get(labels)
            if child is None:
                child = self._children[labels] = self._metric.labels(*labels) if labels else self._metric
            child.inc(amount)


class _Spread:
    """A histogram with labels: handed buckets and sums of many observations at once."""

    def __init__(self, metric: Histogram) -> None:
        self._metric = metric
        self._children: dict[Labels, Any] = {}

    def flush(self, labels: Labels, cell: list[float]) -> None:
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = self._metric.labels(*labels)
        child._sum.inc(cell[-1])  # prometheus-client has no public way to add many observations at once
        for number, amount in enumerate(cell[:-1]):
            if amount:
                child._buckets[number].inc(amount)


class _Cell:
    """What one api, model and channel did since the last flush. Lists: a count per bucket, then the sum."""

    __slots__ = ("cached", "duration", "first", "input", "ok", "output", "per_token", "reasoning", "requests")

    def __init__(self) -> None:
        self.requests: dict[tuple[int, str], int] = {}
        self.duration = [0.0] * (len(DURATION) + 2)
        self.first: list[float] | None = None
        self.per_token: list[float] | None = None
        self.input = self.output = self.cached = self.reasoning = self.ok = 0


class Metrics:
    """A worker's view of its exchanges. `account` costs about a microsecond; `flush` belongs on a timer."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        kind: dict[str, Any] = {} if registry is None else {"registry": registry}
        by = ["api", "model", "channel"]
        self._requests = _Tally(Counter("gateway_requests_total", "Requests, however they ended.", [*by, "status", "end"], **kind))
        self._duration = _Spread(Histogram("gateway_request_duration_seconds", "Accept to the last byte.", by, buckets=DURATION, **kind))
        self._first = _Spread(
            Histogram(
                "gateway_time_to_first_token_seconds", "Accept to the first event with content, streams only.", by, buckets=FIRST, **kind
            )
        )
        self._per_token = _Spread(
            Histogram(
                "gateway_time_per_output_token_seconds",
                "Time per output token after the first, streams only.",
                by,
                buckets=PER_TOKEN,
                **kind,
            )
        )
        self._tokens = _Tally(
            Counter("gateway_tokens_total", "LLM tokens: input, cached, output, reasoning.", ["model", "channel", "kind"], **kind)
        )
        self._attempts = _Tally(
            Counter("gateway_attempts_total", "Tries at engines, by outcome reason.", ["channel", "kind", "reason"], **kind)
        )
        self._errors = _Tally(
            Counter("gateway_upstream_errors_total", "Failed tries at engines, by reason.", ["channel", "reason"], **kind)
        )
        self._failovers = _Tally(
            Counter(
                "gateway_failovers_total",
                "Failed tries that another one followed, by why they failed.",
                ["channel", "reason", "kind"],
                **kind,
            )
        )
        self._connections = _Tally(
            Counter("gateway_upstream_connections_total", "Connections opened to engines (handshakes).", ["channel"], **kind)
        )
        self._lost = _Tally(
            Counter("gateway_journal_lost_lines_total", "Journal lines given up because the disk refused them.", [], **kind)
        )
        self._unpriced = _Tally(
            Counter("gateway_unpriced_total", "Answers that a limit on money could not count, for want of a price.", ["model"], **kind)
        )
        self._in_flight = Gauge("gateway_requests_in_flight", "Requests being served now.", multiprocess_mode="livesum", **kind)
        self._failing = Gauge(
            "gateway_journal_failing", "1 while a worker's disk refuses journal lines.", multiprocess_mode="livemax", **kind
        )
        self.in_flight = 0
        self.failing = False
        """The disk has no room for what was counted: it is kept in memory and shown later."""
        self._cells: dict[Labels, _Cell] = {}

    def account(self, x: Exchange, now: float) -> None:
        """One settled exchange. now: monotonic seconds."""
        labels = (x.api, x.virtual.name if x.virtual is not None else "", x.channel)
        cell = self._cells.get(labels)
        if cell is None:
            cell = self._cells[labels] = _Cell()
        end = (x.status, x.end)
        cell.requests[end] = cell.requests.get(end, 0) + 1
        duration, took = cell.duration, now - x.accepted
        duration[bisect_left(DURATION, took)] += 1
        duration[-1] += took
        tokens = x.tokens
        cell.input += tokens.input
        cell.output += tokens.output
        cell.cached += tokens.cached
        cell.reasoning += tokens.reasoning
        if x.stream and x.first:
            self._account_stream(x, cell, now)
        if x.lease is not None and x.lease.unpriced:
            self._unpriced.add((x.virtual.name,))
        attempts = x.attempts
        if len(attempts) == 1 and attempts[0].reason == "ok":
            cell.ok += 1
        else:
            self._account_attempts(x)

    def _account_stream(self, x: Exchange, cell: _Cell, now: float) -> None:
        if cell.first is None or cell.per_token is None:
            cell.first, cell.per_token = [0.0] * (len(FIRST) + 2), [0.0] * (len(PER_TOKEN) + 2)
        _observe(cell.first, FIRST, x.first - x.accepted)
        per_token = x.tpot(now)
        if per_token:
            _observe(cell.per_token, PER_TOKEN, per_token / 1000)

    def _account_attempts(self, x: Exchange) -> None:
        for attempt in x.attempts:
            self._attempts.add((attempt.channel, attempt.kind, attempt.reason))
            if attempt.reason != "ok":
                self._errors.add((attempt.channel, attempt.reason))
        for failed, following in pairwise(x.attempts):
            self._failovers.add((failed.channel, failed.reason, following.kind))

    def connected(self, channel: str, connections: int) -> None:
        self._connections.add((channel,), connections)

    def journal(self, failing: bool, lost: int) -> None:
        """lost: lines given up since the last call."""
        self._failing.set(failing)
        if lost:
            self._lost.add((), lost)

    def flush(self) -> None:
        """Hands everything since the last flush to prometheus-client."""
        self._in_flight.set(self.in_flight)
        cells, self._cells = self._cells, {}
        for labels, cell in cells.items():
            self._flush_cell(labels, cell)
        for tally in (self._requests, self._tokens, self._attempts, self._errors, self._failovers):
            tally.flush()
        for tally in (self._connections, self._lost, self._unpriced):
            tally.flush()
        self.failing = not Backed.catch_up()

    def _flush_cell(self, labels: Labels, cell: _Cell) -> None:
        _, model, channel = labels
        for (status, end), count in cell.requests.items():
            self._requests.add((*labels, str(status), end), count)
        self._duration.flush(labels, cell.duration)
        if cell.first is not None and cell.per_token is not None:
            self._first.flush(labels, cell.first)
            self._per_token.flush(labels, cell.per_token)
        for kind in ("input", "output", "cached", "reasoning"):
            if count := getattr(cell, kind):
                self._tokens.add((model, channel, kind), count)
        if cell.ok:
            self._attempts.add((channel, "first", "ok"), cell.ok)


def _observe(cell: list[float], bounds: tuple[float, ...], value: float) -> None:
    cell[bisect_left(bounds, value)] += 1
    cell[-1] += value


def slot_metrics(directory: Path, slot: int) -> Metrics:
    """The metrics of a worker slot, in files named after the slot: a successor goes on counting where the last one died."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    for gauge in directory.glob(f"gauge_*_{slot}.db"):
        gauge.unlink()
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    values.MmapedDict = Backed  # type: ignore[attr-defined]
    values.ValueClass = values.MultiProcessValue(process_identifier=lambda: slot)  # type: ignore[no-untyped-call]
    return Metrics()

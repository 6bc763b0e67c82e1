"""Counts of a worker, gathered in plain numbers and handed to prometheus-client's shared files about once a second.

One file set per worker slot, so that counters go on when a worker is replaced. A killed worker loses at most the last
second of its metrics; its records are complete. Labels are names from the configuration, never what a caller wrote.
"""

import os
from bisect import bisect_left
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values

from gateway.exchange import Exchange

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
                child = self._children[labels] = self._metric.labels(*labels)
            child.inc(amount)


class _Spread:
    """A histogram with labels: bucket counts and sums since the last flush."""

    def __init__(self, metric: Histogram, bounds: tuple[float, ...]) -> None:
        self._metric = metric
        self._bounds = bounds
        self._children: dict[Labels, Any] = {}
        self.new: dict[Labels, list[float]] = {}

    def observe(self, labels: Labels, value: float) -> None:
        cell = self.new.get(labels)
        if cell is None:
            cell = self.new[labels] = [0.0] * (len(self._bounds) + 2)
        cell[bisect_left(self._bounds, value)] += 1
        cell[-1] += value

    def flush(self) -> None:
        new, self.new = self.new, {}
        for labels, cell in new.items():
            child = self._children.get(labels)
            if child is None:
                child = self._children[labels] = self._metric.labels(*labels)
            child._sum.inc(cell[-1])  # prometheus-client has no public way to add many observations at once
            for number, amount in enumerate(cell[:-1]):
                if amount:
                    child._buckets[number].inc(amount)


class Metrics:
    """A worker's view of its exchanges. `account` costs about a microsecond; `flush` belongs on a timer."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        kind: dict[str, Any] = {} if registry is None else {"registry": registry}
        by = ["api", "model", "channel"]
        self._requests = _Tally(Counter("gateway_requests_total", "Requests, however they ended.", [*by, "status", "end"], **kind))
        self._duration = _Spread(
            Histogram("gateway_request_duration_seconds", "Accept to the last byte.", by, buckets=DURATION, **kind), DURATION
        )
        self._first = _Spread(
            Histogram(
                "gateway_time_to_first_token_seconds", "Accept to the first event with content, streams only.", by, buckets=FIRST, **kind
            ),
            FIRST,
        )
        self._per_token = _Spread(
            Histogram(
                "gateway_time_per_output_token_seconds",
                "Time per output token after the first, streams only.",
                by,
                buckets=PER_TOKEN,
                **kind,
            ),
            PER_TOKEN,
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
        self._connections = _Tally(
            Counter("gateway_upstream_connections_total", "Connections opened to engines (handshakes).", ["channel"], **kind)
        )
        self._lost = _Tally(
            Counter("gateway_journal_lost_lines_total", "Journal lines given up because the disk refused them.", [], **kind)
        )
        self._in_flight = Gauge("gateway_requests_in_flight", "Requests being served now.", multiprocess_mode="livesum", **kind)
        self._failing = Gauge(
            "gateway_journal_failing", "1 while a worker's disk refuses journal lines.", multiprocess_mode="livemax", **kind
        )
        self.in_flight = 0

    def account(self, x: Exchange, now: float) -> None:
        """One settled exchange. now: monotonic seconds."""
        model = x.virtual.name if x.virtual is not None else ""
        labels = (x.api, model, x.channel)
        self._requests.add((*labels, str(x.status), x.end))
        self._duration.observe(labels, now - x.accepted)
        if x.first and x.stream:
            self._first.observe(labels, x.first - x.accepted)
            per_token = x.tpot(now)
            if per_token:
                self._per_token.observe(labels, per_token / 1000)
        tokens = x.tokens
        for kind, count in (("input", tokens.input), ("output", tokens.output), ("cached", tokens.cached), ("reasoning", tokens.reasoning)):
            if count:
                self._tokens.add((model, x.channel, kind), count)
        for attempt in x.attempts:
            self._attempts.add((attempt.channel, attempt.kind, attempt.reason))
            if attempt.reason != "ok":
                self._errors.add((attempt.channel, attempt.reason))

    def connected(self, channel: str, connections: int) -> None:
        self._connections.add((channel,), connections)

    def journal(self, failing: bool, lost: int) -> None:
        """lost: lines given up since the last call."""
        self._failing.set(failing)
        if lost:
            self._lost.add((), lost)

    def flush(self) -> None:
        self._in_flight.set(self.in_flight)
        for tally in (self._requests, self._tokens, self._attempts, self._errors, self._connections):
            tally.flush()
        for spread in (self._duration, self._first, self._per_token):
            spread.flush()


def slot_metrics(directory: Path, slot: int) -> Metrics:
    """The metrics of a worker slot, in files named after the slot: a successor goes on counting where the last one died."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    for gauge in directory.glob(f"gauge_*_{slot}.db"):
        gauge.unlink()
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    values.ValueClass = values.MultiProcessValue(process_identifier=lambda: slot)  # type: ignore[no-untyped-call]
    return Metrics()

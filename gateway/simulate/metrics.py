"""Prometheus text from plain numbers. It counts nothing itself except what falls into a histogram's buckets."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Labels = Mapping[str, str]
Sample = tuple[Labels, float]

LATENCY_BUCKETS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
E2E_BUCKETS = (1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0)
PER_TOKEN_BUCKETS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
LENGTH_BUCKETS = (10, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 16000, 20000, 32000, 50000, 64000, 128000)


@dataclass(slots=True)
class Histogram:
    """Buckets are upper bounds in the unit of the observed value."""

    bounds: Sequence[float]
    total: float = 0.0
    counts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass(frozen=True, slots=True)
class Metric:
    """One family: a number, several labelled numbers, or a histogram."""

    name: str
    help: str
    type: Literal["counter", "gauge", "histogram"]
    value: float | Histogram | Sequence[Sample]


def exposition(metrics: Iterable[Metric], labels: Labels) -> bytes:
    """The text format, version 0.0.4. `labels` stand on every sample."""
    lines: list[str] = []
    for metric in metrics:
        lines.append(f"# HELP {metric.name} {metric.help}")
        lines.append(f"# TYPE {metric.name} {metric.type}")
        if isinstance(metric.value, Histogram):
            lines += _histogram(metric.name, metric.value, labels)
        elif isinstance(metric.value, int | float):
            lines.append(f"{metric.name}{_labels(labels)} {number(metric.value)}")
        else:
            lines += [f"{metric.name}{_labels({**labels, **extra})} {number(value)}" for extra, value in metric.value]
    return ("\n".join(lines) + "\n").encode()


def number(value: float) -> str:
    """`12`, `0.25`: what prometheus-cpp and the Python client both read back unchanged."""
    return str(int(value)) if value == int(value) else repr(round(value, 9))


def _histogram(name: str, histogram: Histogram, labels: Labels) -> list[str]:
    lines = []
    running = 0
    for bound, count in zip([*map(number, histogram.bounds), "+Inf"], histogram.counts, strict=True):
        running += count
        lines.append(f"{name}_bucket{_labels({**labels, 'le': bound})} {running}")
    lines.append(f"{name}_sum{_labels(labels)} {number(histogram.total)}")
    lines.append(f"{name}_count{_labels(labels)} {running}")
    return lines


def _labels(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "}"

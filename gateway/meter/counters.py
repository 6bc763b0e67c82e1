"""The workers' counters as plain numbers, for who looks at how much they grow. Reads the shared files of `metrics`; blocks."""

from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

Key = tuple[str, ...]

_REQUESTS, _FIRST, _LOST = "gateway_requests_total", "gateway_time_to_first_token_seconds_bucket", "gateway_journal_lost_lines_total"


def counters(directory: Path) -> dict[Key, float]:
    """`("requests" | "failed", model, channel)`: failed are those with a status from 500 on, and those that the engine or we broke off.
    `("first", model, channel, bound)`: streams by the time to their first token, not added up. `("lost",)`: records given up."""
    found: dict[Key, float] = {("lost",): 0.0}
    if not directory.is_dir():
        return found
    up_to: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for family in MultiProcessCollector(CollectorRegistry(), path=str(directory)).collect():  # type: ignore[no-untyped-call]
        for sample in family.samples:
            labels = sample.labels
            if sample.name == _REQUESTS:
                failed = labels["status"] >= "500" or labels["end"][:1] in ("U", "K", "I")
                for word in ("requests", "failed") if failed else ("requests",):
                    key = (word, labels["model"], labels["channel"])
                    found[key] = found.get(key, 0.0) + sample.value
            elif sample.name == _FIRST:
                streams = up_to.setdefault((labels["api"], labels["model"], labels["channel"]), [])
                streams.append((float(labels["le"]), sample.value))
            elif sample.name == _LOST:
                found["lost",] += sample.value
    for (_, model, channel), streams in up_to.items():
        below = 0.0
        for bound, value in sorted(streams):
            place = ("first", model, channel, str(bound))
            found[place] = found.get(place, 0.0) + value - below
            below = value
    return found

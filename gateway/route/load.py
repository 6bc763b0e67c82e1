"""How much an endpoint has to do: what its engine said at the last scrape, corrected by what this worker sent since.

Assumptions. The engine's figures come from control and are the same in all workers; they cover everybody's requests. Own
starts and ends are this worker's alone: what other workers sent since the scrape is not seen until the next one. That is
at most one interval old, and the luck in `least_busy` keeps workers from acting alike meanwhile. A request that began
between the scrape and the moment its figures arrived here is counted as if the scrape had seen it.
"""

from typing import Final

STALE: Final = 10.0
"""Seconds after which an engine's figures say nothing about now."""
WAITING: Final = 4.0
"""A waiting request weighs as much as so many running ones: running ones share the engine, behind waiting ones a new one queues."""
KV_FROM: Final = 0.9
KV_FULL: Final = 64.0
"""What a full KV cache weighs, in requests, rising from KV_FROM: beyond it an engine preempts what it runs."""


class Load:
    """An endpoint's figures. ttft: seconds to a stream's first content, a moving average; 0.0 = none yet.

    running, waiting: requests at the engine; kv_use: 0..1; scraped: when (monotonic seconds), 0.0 = never.
    others: requests at the engine, at the scrape, that were not this worker's.
    """

    __slots__ = ("_more", "errors", "in_flight", "kv_use", "others", "running", "scraped", "ttft", "waiting")

    def __init__(self) -> None:
        self.in_flight = 0
        self.errors = 0
        self.ttft = 0.0
        self.running = self.waiting = self.kv_use = 0.0
        self.scraped = 0.0
        self.others = 0.0
        self._more = 0.0

    def began(self, seconds: float) -> None:
        self.ttft = self.ttft * 0.8 + seconds * 0.2 if self.ttft else seconds

    def figures(self, scraped: float, running: float | None, waiting: float | None, kv_use: float | None) -> None:
        """A scrape's result. None = this engine does not say; who says neither running nor waiting says nothing of use."""
        if running is None and waiting is None:
            return
        self.running, self.waiting, self.kv_use = running or 0.0, waiting or 0.0, kv_use or 0.0
        self.scraped = scraped
        self.others = max(0.0, self.running + self.waiting - self.in_flight)
        self._more = self.others + (WAITING - 1.0) * self.waiting
        if self.kv_use > KV_FROM:
            self._more += KV_FULL * (self.kv_use - KV_FROM) / (1.0 - KV_FROM)

    def fresh(self, now: float) -> bool:
        """Whether the engine's figures are of now."""
        return bool(self.scraped) and now - self.scraped <= STALE

    def busy(self, now: float) -> float:
        """Outstanding work, in running requests. Of stale figures nothing is used: then it is this worker's in-flight alone."""
        return self.in_flight + self._more if self.fresh(now) else float(self.in_flight)

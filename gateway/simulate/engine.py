"""What one engine knows about its load: requests waiting and running, tokens, latencies. Time is an argument."""

import itertools
from collections import Counter
from dataclasses import dataclass, field

from gateway.simulate import reply
from gateway.simulate.metrics import E2E_BUCKETS, LATENCY_BUCKETS, LENGTH_BUCKETS, PER_TOKEN_BUCKETS, Histogram
from gateway.simulate.prompt import Ask
from gateway.simulate.reply import Reply
from gateway.simulate.settings import Health, Settings
from gateway.simulate.tokens import Vocabulary

KV_TOKENS = 131_072
"""Size of the simulated KV cache; its use is what the running requests hold."""
BLOCK_SIZE = 128


@dataclass(slots=True)
class Work:
    """What one request costs the engine, and how far it has come."""

    prompt_tokens: int
    finishes: tuple[str, ...] = ()
    generated: int = 0
    started_at: float = 0.0
    first_token_at: float | None = None


@dataclass(slots=True)
class Histograms:
    ttft: Histogram = field(default_factory=lambda: Histogram(LATENCY_BUCKETS))
    per_token: Histogram = field(default_factory=lambda: Histogram(PER_TOKEN_BUCKETS))
    e2e: Histogram = field(default_factory=lambda: Histogram(E2E_BUCKETS))
    queue: Histogram = field(default_factory=lambda: Histogram(LATENCY_BUCKETS))
    prompt: Histogram = field(default_factory=lambda: Histogram(LENGTH_BUCKETS))
    generation: Histogram = field(default_factory=lambda: Histogram(LENGTH_BUCKETS))


class Engine:
    """Counters behind /metrics, and the model."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.health: Health = "ready"
        self.vocabulary = Vocabulary()
        self.histograms = Histograms()
        self.working: dict[int, Work] = {}
        self.waiting = 0
        self.received = self.failed = self.aborted = self.rejected = 0
        self.finished: Counter[str] = Counter()
        self.prompt_tokens = self.generation_tokens = 0
        self._numbers = itertools.count(1)

    @property
    def running(self) -> int:
        return len(self.working)

    @property
    def succeeded(self) -> int:
        return self.finished.total()

    @property
    def full(self) -> bool:
        limit = self.settings.max_queued
        return bool(limit) and self.running + self.waiting >= limit

    @property
    def kv_tokens(self) -> int:
        return sum(work.prompt_tokens + work.generated for work in self.working.values())

    @property
    def kv_use(self) -> float:
        return min(1.0, self.kv_tokens / KV_TOKENS)

    def number(self) -> int:
        """A number for an id: endpoint_common_<number>."""
        return next(self._numbers)

    def replies(self, ask: Ask) -> list[Reply]:
        return reply.replies(ask, reply_tokens=self.settings.reply_tokens, seed=self.settings.seed)

    def begin(self, work: Work, now: float, waited: float) -> None:
        work.started_at = now - waited
        self.working[id(work)] = work
        self.prompt_tokens += work.prompt_tokens
        self.histograms.queue.observe(waited)
        self.histograms.prompt.observe(work.prompt_tokens)

    def token(self, work: Work, number: int, now: float) -> None:
        """`number` new tokens left the model."""
        if work.first_token_at is None:
            work.first_token_at = now
            self.histograms.ttft.observe(now - work.started_at)
        work.generated += number
        self.generation_tokens += number

    def end(self, work: Work, now: float, *, how: str) -> None:
        """The request leaves the engine: `done`, `aborted` or `failed`."""
        del self.working[id(work)]
        self.histograms.generation.observe(work.generated)
        if how == "aborted":
            self.aborted += 1
        elif how == "failed":
            self.failed += 1
        else:
            self.finished.update(work.finishes[:1])
            self.histograms.e2e.observe(now - work.started_at)
            if work.first_token_at is not None and work.generated > 1:
                self.histograms.per_token.observe((now - work.first_token_at) / (work.generated - 1))

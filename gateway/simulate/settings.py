"""What one simulator is told at its start. Values only; nothing here acts."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["vllm", "sglang", "mindie"]
Reasoning = Literal["", "field", "inline"]
Health = Literal["ready", "busy", "down"]

KINDS: tuple[Kind, ...] = ("vllm", "sglang", "mindie")
DEFAULT_PORT: dict[Kind, int] = {"vllm": 8000, "sglang": 30000, "mindie": 1025}
DEFAULT_VERSION: dict[Kind, str] = {"vllm": "0.33.0", "sglang": "0.5.23", "mindie": "3.0.0"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that can be chosen. Times are seconds, rates are tokens per second, 0 means "no limit"."""

    kind: Kind
    host: str = "127.0.0.1"
    port: int = 0
    models: tuple[str, ...] = ("qwen3",)
    version: str = ""
    tps: float = 0.0
    ttft: float = 0.0
    burst: int = 1
    """Events that leave in one write; real engines with speculative decoding send several."""
    reply_tokens: int = 16
    """Length of a reply that is allowed to come to its natural end (an echo of the prompt may make it longer)."""
    max_model_len: int = 32768
    max_running: int = 0
    """Requests that generate at once; the others wait (the `waiting` gauge)."""
    max_queued: int = 0
    """From this many requests in the engine on, a further one gets the engine's own "queue full"."""
    reasoning: Reasoning = ""
    """`field`: a parser splits reasoning off; `inline`: it stays in the content as `<think>...</think>`."""
    api_key: str = ""
    keepalive: float = 5.0
    seed: int = 0
    keep: int = 10_000
    """How many received requests are remembered (the oldest half is forgotten above it)."""
    tls_cert: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""
    management_port: int | None = None
    """MindIE only; None: the business port, as GPUStack installs it; 0: any free port."""
    metrics_port: int | None = None
    max_iter_times: int = 512
    """MindIE only: `maxIterTimes`, the default and the ceiling of max_tokens."""
    max_input_len: int = 0
    """MindIE only: `maxInputTokenLen`; 0: only `max_model_len` (its maxSeqLen) counts."""
    monitor: bool = True
    """MindIE only: MIES_SERVICE_MONITOR_MODE=1; without it /metrics answers 500."""

    @property
    def release(self) -> tuple[int, ...]:
        """The version as numbers: (0, 33, 0)."""
        return tuple(int(part) for part in self.engine_version.split(".") if part.isdigit())

    @property
    def engine_version(self) -> str:
        return self.version or DEFAULT_VERSION[self.kind]

    @property
    def scheme(self) -> str:
        return "https" if self.tls_cert else "http"

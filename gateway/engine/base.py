"""What an engine's dialect must say. Dialects are pure: bytes and dicts in, bytes and dicts out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.errors import UpstreamFailure
from gateway.wire.openai import Fields as Fields

Normalise = Callable[[dict[str, Any], str], dict[str, Any]]
"""What `Dialect.event` is."""


@dataclass(frozen=True, slots=True)
class Planes:
    """Paths of an engine's own cheap questions. None = it has none. `*_plane`: which address answers (business, management, metrics)."""

    models: str = "/v1/models"
    health: str | None = "/health"
    health_plane: str = "business"
    metrics: str | None = "/metrics"
    metrics_plane: str = "business"
    version: str | None = None
    context: str | None = None
    """Where `Dialect.context` is to be read from when the model list has no context length. `{model}` stands for the model's name."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """One model that an engine lists. context_length in tokens, None = the engine does not say."""

    id: str
    owned_by: str = ""
    context_length: int | None = None
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """What an engine's metrics say of it now. kv_use 0..1; token counters are totals since it started; None = not said."""

    running: float | None = None
    waiting: float | None = None
    kv_use: float | None = None
    prompt_tokens: float | None = None
    generation_tokens: float | None = None


class Dialect(Protocol):
    """The differences of one engine family, and nothing else."""

    name: str
    paths: Mapping[str, str]
    """api (words.APIS value) → the engine's path. A missing api is refused with 404 before the engine is asked."""
    planes: Planes
    transform: str
    """`splice` when its stream is OpenAI's shape already; `decode` when each event must be rewritten."""
    continuous_usage: bool
    """Whether it understands stream_options.continuous_usage_stats."""
    answer_needs_room: bool
    """Whether it refuses a request whose prompt and `max_tokens` together are longer than its context (False: it cuts the answer)."""
    continues: bool
    """Whether it goes on with an assistant's message that is given as the last one (`continue_final_message`)."""
    final_usage: bool
    """Whether it understands stream_options.include_usage (False: MindIE, which always sends usage)."""

    def request(self, api: str, fields: Fields) -> list[str]:
        """Rewrites the request in place for this engine; returns the names of the rewrites made, for the record.

        Errors: Refusal (400) for what this engine cannot do at all.
        """
        ...

    def answer(self, api: str, body: bytes, reasoning: str, asked: Fields | None = None) -> Fields:
        """A whole (non-stream) 200 answer in the shape of OpenAI (rerank, score, tokenize: vLLM). `reasoning` is the field callers see.
        asked: the request, of which an engine may not heed all.

        `model` is still the engine's. Errors: ValueError when the body is not what this API answers.
        """
        ...

    def event(self, event: dict[str, Any], reasoning: str) -> dict[str, Any]:
        """Normalises one decoded stream event in place. Must not depend on the generated text: splice decides by one event for many.

        The reasoning field is renamed by the transform, not here.
        """
        ...

    def events(self) -> Normalise:
        """`event` for one stream, which may keep in mind what that stream has said; only with `transform = "decode"`."""
        ...

    def failure(self, status: int, body: bytes, headers: Mapping[str, str]) -> UpstreamFailure:
        """Translates an engine's error answer. Never puts engine names, addresses or file paths into the message."""
        ...

    def event_failure(self, event: dict[str, Any]) -> UpstreamFailure:
        """Translates an in-band error event (`{"error": …}` or SGLang's flat form inside it)."""
        ...

    def text_failure(self, text: bytes) -> UpstreamFailure | None:
        """Translates bare text where an event of a stream should stand; None = nothing that this engine is known to say."""
        ...

    def context(self, body: bytes) -> int | None:
        """The context length in tokens, from the answer of `planes.context`; None = it does not say."""
        ...

    def models(self, body: bytes) -> list[ModelFacts]:
        """Reads the engine's model list. Raises ValueError on anything else."""
        ...

    def load(self, exposition: str) -> Load:
        """Reads the engine's Prometheus text: running, waiting, KV use, token counters."""
        ...


@dataclass(slots=True)
class Detected:
    """What a probe concluded. evidence: one line per question asked, for `channels probe`."""

    engine: str | None = None
    version: str | None = None
    models: list[ModelFacts] = field(default_factory=list)
    evidence: list[str] = field(default_factory=list)

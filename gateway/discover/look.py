"""What control knows of one endpoint of one channel, and how a probe's findings change it. Asks nobody."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gateway.config.resolved import Channel, Endpoint
from gateway.discover.ask import Handshake
from gateway.discover.finding import PROXYS, ModelSeen, Probe

UP, DEGRADED, DOWN = "up", "degraded", "down"
NOT_YET = "not looked at yet"


@dataclass(slots=True, eq=False)
class Look:
    """state: up; degraded: it answers, but not as the configuration expects; down: it does not answer. since: wall clock, seconds."""

    channel: Channel
    endpoint: Endpoint
    wanted: tuple[str, ...]
    """The engine's names of the models that are asked of it."""
    since: float
    state: str = UP
    why: str = NOT_YET
    engine: str | None = None
    """The family that it says it is, None = unknown."""
    version: str | None = None
    models: list[ModelSeen] = field(default_factory=list)
    tls: Handshake | None = None
    asked_all_at: float = float("-inf")
    """Monotonic: when the whole probe last succeeded. A look between two of them asks for the model list only."""
    failures: int = 0
    gone: bool = False

    def told(self) -> dict[str, Any]:
        first = self.wanted or tuple(model.id for model in self.models)
        lengths = {model.id: model.context_length for model in self.models}
        return {
            "channel": self.channel.name,
            "endpoint": self.endpoint.url,
            "engine": self.engine or ("" if self.channel.auto else self.channel.engine),
            "state": self.state,
            "since": self.since,
            "why": self.why,
            "models": [model.id for model in self.models],
            "context_length": next((lengths[name] for name in first if lengths.get(name)), None),
            "version": self.version,
            "tls": msgspec.to_builtins(self.tls) if self.tls else None,
        }

    def learn(self, found: Probe, now: float, channel_engine: Callable[[], str | None]) -> bool:
        """Takes over what a probe found. Returns whether the state is another one. channel_engine: what the channel is, after that."""
        if found.engine and (found.engine != "openai" or self.engine is None or self.state == DOWN):  # the generic one is a guess
            self.engine = found.engine
        self.version = found.version or self.version
        self.tls = found.tls or self.tls
        if found.models:
            known = {model.id: model.context_length for model in self.models}
            self.models = [ModelSeen(id=m.id, context_length=m.context_length or known.get(m.id)) for m in found.models]
        state, self.why = judge(found, self.wanted, self.engine, channel_engine())
        self.failures = self.failures + 1 if state == DOWN else 0
        if state == self.state:
            return False
        self.state, self.since = state, now
        return True


def judge(found: Probe, wanted: tuple[str, ...], engine: str | None, channel_engine: str | None) -> tuple[str, str]:
    """State and reason. engine: what the endpoint says it is; channel_engine: what its channel is spoken to as."""
    if not found.reachable:
        return DOWN, found.error or "it does not answer"
    if found.error:
        return (DOWN if found.status in PROXYS else DEGRADED), found.error
    if engine not in (None, "openai", channel_engine) and channel_engine not in (None, "openai"):  # "openai" is a guess, not a finding
        return DEGRADED, f"it answers as {engine}, its channel is {channel_engine}"
    listed = {model.id for model in found.models}
    missing = [name for name in wanted if name not in listed and not (engine == "sglang" and name.partition(":")[0] in listed)]
    if missing:
        shown = ", ".join(sorted(listed)[:5]) or "none"
        return DEGRADED, f"model missing: {', '.join(missing)} (the engine lists {shown})"
    return UP, ""

"""What control knows of one endpoint of one channel, and how what was found changes it. Asks nobody; time is an argument.

found                                        failing looks in a row   state
nothing listens there                        any                      down
no answer, or a proxy's 502 or 504,          1                        as before: looked at again at once
  or its health path says 5xx                2                        down
none of the models that are asked of it      any                      down (generic `openai`: degraded)
some of them missing, another engine, …      -                        degraded
requests run and no token comes              -                        wedged
its health path does not answer              -                        degraded
its health path says busy                    -                        busy
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from gateway.config.resolved import Channel, Endpoint
from gateway.discover.ask import Handshake
from gateway.discover.finding import PROXYS, ModelSeen, Probe
from gateway.discover.vitals import Vitals

STATES: Final = ("up", "degraded", "busy", "ejected", "wedged", "draining", "down")
"""All states of an endpoint, from best to worst. Who sees several at once shows the worst."""
UP, DEGRADED, BUSY, EJECTED, WEDGED, DRAINING, DOWN = STATES
NEW: Final = "new"
"""The verdict on an endpoint that a registry has just named: no traffic before the first look. Shown as `degraded`."""
NOT_YET: Final = "not looked at yet"
FAILING_LOOKS: Final = 2
"""In a row: one lost packet is no outage."""

State = tuple[str, str]
"""One of STATES, and why."""


def worst(states: Iterable[State]) -> State:
    """The worst of several, the first of equally bad ones."""
    return max(states, key=lambda one: STATES.index(one[0]), default=(UP, ""))


@dataclass(slots=True, eq=False)
class Look:
    """state: see above. since: wall clock, seconds. verdict: what workers are told, `""` = it may serve."""

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
    reached: float = float("-inf")
    """Monotonic: when a look last got an answer from it and had nothing against it."""
    failures: int = 0
    """Looks in a row that failed."""
    gone: bool = False
    new: bool = False
    """A registry has just named it, and others serve meanwhile."""
    listed: State = (UP, NOT_YET)
    """What its model list says, without its vitals."""
    vitals: Vitals = field(default_factory=Vitals)
    wedgings: int = 0
    """How often it was found wedged."""
    list_due: float = 0.0
    """Monotonic: when it is looked at whole again; in between only its figures are read."""
    planned: int = 0
    """The number of its newest plan: older ones do not count any more."""
    visited: bool = False
    """Somebody is asking it now."""

    @property
    def known(self) -> bool:
        """Whether there is anything to say: it was looked at, or nobody may use it before that."""
        return self.new or self.listed[1] != NOT_YET

    @property
    def verdict(self) -> str:
        if self.state in (DOWN, WEDGED):
            return self.state
        return NEW if self.new else ""

    @property
    def shown(self) -> State:
        return (DEGRADED, "new: no requests before it was looked at") if self.verdict == NEW else (self.state, self.why)

    @property
    def context_lengths(self) -> dict[str, int]:
        """Of the models that are asked of it, as far as the engine says, in tokens."""
        lengths = {model.id: model.context_length for model in self.models}
        found = {name: lengths.get(name) or lengths.get(name.partition(":")[0]) for name in self.wanted}
        return {name: length for name, length in found.items() if length}

    def told(self, now: float) -> dict[str, Any]:
        """For people and programs. now: monotonic."""
        first = self.wanted or tuple(model.id for model in self.models)
        lengths = {model.id: model.context_length for model in self.models}
        state, why = self.shown
        load = self.vitals.figures(now)
        return {
            "channel": self.channel.name,
            "endpoint": self.endpoint.url,
            "engine": self.engine or ("" if self.channel.auto else self.channel.engine),
            "state": state,
            "since": self.since,
            "why": why,
            "models": [model.id for model in self.models],
            "context_length": next((lengths[name] for name in first if lengths.get(name)), None),
            "version": self.version,
            "tls": msgspec.to_builtins(self.tls) if self.tls else None,
            "running": load.running,
            "waiting": load.waiting,
            "kv_use": load.kv_use,
            "wedgings": self.wedgings,
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
        judged = judge(found, self.wanted, self.engine, channel_engine())
        unwell = judged[0] != DOWN and self.vitals.health == "bad"
        failing = unwell or judged[0] == DOWN
        self.failures = self.failures + 1 if failing else 0
        if not failing:
            self.listed = judged
        elif self.failures >= FAILING_LOOKS or (surely(found) and not unwell):
            self.listed = (DOWN, self.vitals.health_why if unwell else judged[1])
        self.new = self.new and self.listed[1] == NOT_YET
        if found.trouble == "refused":
            self.vitals.forget()
        return self.feel(now)

    def feel(self, now: float) -> bool:
        """The state from all that is known; whether it is another one. now: wall clock."""
        seen = [self.listed]
        if self.listed[0] != DOWN:
            if self.vitals.stuck.wedged:
                seen.append((WEDGED, f"requests run in it, and no token came for {self.channel.wedged_after:g} s"))
            if self.vitals.health == "silent":
                seen.append((DEGRADED, self.vitals.health_why))
            if self.vitals.health == "busy":
                seen.append((BUSY, self.vitals.health_why))
        state, self.why = worst(seen)
        if state == self.state:
            return False
        self.wedgings += state == WEDGED
        self.state, self.since = state, now
        return True


def surely(found: Probe) -> bool:
    """Whether one look is enough for `down`: the host itself says that nothing listens, or the engine that it serves other models."""
    return found.trouble == "refused" or (found.reachable and not found.error)


def judge(found: Probe, wanted: tuple[str, ...], engine: str | None, channel_engine: str | None) -> State:
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
        none_left = len(missing) == len(wanted) and engine not in (None, "openai")  # a generic server's names need not be what it takes
        return (DOWN if none_left else DEGRADED), f"model missing: {', '.join(missing)} (the engine lists {shown})"
    return UP, ""

"""Whether a request goes on after a failure, where to, and what its caller is told in the end. Does nothing itself."""

from collections.abc import Sequence
from time import monotonic
from typing import Final

from gateway.errors import Refusal, UpstreamFailure
from gateway.exchange import Exchange
from gateway.route.fit import NOBODY
from gateway.serve.live import ModelLive
from gateway.words import End

COST_NOTHING: Final = frozenset({"connect", "tls", "timeout_connect", "exhausted", "unsupported"})
"""Failures that no engine has worked for: what follows them needs no retry budget."""


def led(x: Exchange, model: ModelLive, through: Sequence[str]) -> list[ModelLive]:
    """The models on a request's way: the one that it came to, and those that rules led to from there. The last one's settings count."""
    return [model, *(x.snapshot.models[name] for name in through)]


def onward(way: Sequence[ModelLive]) -> list[ModelLive]:
    """The models that follow when everything failed: the fallbacks of the last one on the way, then of those that led there."""
    return [other for model in reversed(way) for other in model.fallbacks]


def may_go_on(x: Exchange, model: ModelLive, failure: UpstreamFailure, started: float, begun: int) -> bool:
    """Another attempt? Within the model's attempts and time, and within what an ailing engine can bear."""
    retry = model.config.retry
    now = monotonic()
    if len(x.attempts) - begun >= retry.attempts or now - started >= retry.within:
        return False
    return failure.reason in COST_NOTHING or bool(model.budget.spend(now))


def told(before: UpstreamFailure | Refusal, further: UpstreamFailure | Refusal) -> UpstreamFailure | Refusal:
    """Of what a model and then a fallback said, what the caller is told. That it is too long for the fallback alone is not its mistake:
    the model itself may serve it, later."""
    if isinstance(further, UpstreamFailure):
        return worth_telling(before, further) if isinstance(before, UpstreamFailure) else further
    too_long = isinstance(before, Refusal) and before.phase == End.ROUTE
    return further if too_long or further.phase != End.ROUTE else before


def word(no: UpstreamFailure | Refusal) -> str:
    return no.reason if isinstance(no, UpstreamFailure) else no.log or no.code


def elsewhere(failure: UpstreamFailure | Refusal, model: ModelLive) -> bool:
    """Whether another model may serve what failed here: never what the caller is to blame for, but a longer context may help."""
    if isinstance(failure, Refusal):
        return failure.who != End.OPERATOR and failure.phase in (End.ROUTE, End.QUEUE)
    if failure.blame == "caller":
        return False
    return failure.reason in NOBODY or (failure.retryable and listed(failure, model.config.retry.on))


def listed(failure: UpstreamFailure, reasons: tuple[str, ...]) -> bool:
    """Whether the model's `retry.on` names this kind of failure."""
    status = failure.upstream_status or 0
    if failure.reason in COST_NOTHING:
        return "connect" in reasons
    if failure.reason.startswith("timeout"):
        return "timeout" in reasons
    if not failure.reason.startswith("status_"):
        return "stream" in reasons
    return ("429" if status == 429 else "5xx") in reasons


def worth_telling(before: UpstreamFailure | None, now: UpstreamFailure) -> UpstreamFailure:
    """Of two failures, the one that helps the caller: an engine's answer says more than a missing connection."""
    if before is not None and before.upstream_status and not now.upstream_status and now.retryable:
        return before
    return now

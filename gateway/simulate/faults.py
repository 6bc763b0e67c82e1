"""Which fault meets which request: a table of words, and a counter. Pure; the doing is in delivery and simulator.

Rules are tried in order and the first that matches wins. A rule without `path` counts inference requests only.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

Word = Literal[
    "refuse", "reset", "stall", "cut", "bare_text", "status", "slow_body", "garbage",
    "queue_full", "error_event", "no_done", "restart", "flap",
]  # fmt: skip
At = Literal["headers", "first_event", "mid_stream"]

FOREVER = float("inf")
BARE_TEXT = "Engine callback timeout: server tokenTimeout"
GARBAGE = "\x00\x7f{]<garbage>\x1b"

OPTIONS: dict[Word, tuple[str, ...]] = {
    "refuse": (),
    "reset": ("after",),
    "stall": ("at", "after", "for"),
    "cut": ("after",),
    "bare_text": ("after", "text"),
    "status": ("status", "body", "headers"),
    "slow_body": ("rate",),
    "garbage": ("after", "text"),
    "queue_full": (),
    "error_event": ("after", "text"),
    "no_done": (),
    "restart": ("for",),
    "flap": ("up", "down"),
}
"""Each fault and the words it understands besides the selectors."""
SELECTORS = ("on", "every", "share", "path")
STREAM_FAULTS: tuple[Word, ...] = ("reset", "stall", "cut", "bare_text", "garbage", "error_event")
"""Those that strike between two events (or in the middle of a body) when `after` says how many come first."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One rule: selectors (which requests) and what happens. Durations are seconds, rates bytes per second."""

    do: Word
    on: tuple[range, ...] = ()
    every: int = 0
    share: float | None = None
    path: str = ""
    at: At = "headers"
    after: int | None = None
    seconds: float = FOREVER
    text: str = ""
    status: int = 0
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    rate: float = 100.0
    up: float = 5.0
    down: float = 1.0

    @property
    def before_answer(self) -> bool:
        """It strikes before a byte of the answer has left."""
        if self.do in ("reset", "garbage"):
            return self.after is None
        if self.do == "stall":
            return self.at == "headers"
        return self.do in ("refuse", "status", "queue_full", "restart")

    @property
    def events_before(self) -> int:
        """How many events of a stream come first."""
        if self.do == "stall" and self.at == "first_event":
            return 0
        if self.after is not None:
            return self.after
        return 0 if self.do == "error_event" else 1


@dataclass(frozen=True, slots=True)
class Script:
    """The rules of one fault file, in order. `faults.Script()` is an engine without faults."""

    rules: tuple[Fault, ...] = ()

    @property
    def flap(self) -> Fault | None:
        """The rule that goes by the clock and not by requests."""
        return next((rule for rule in self.rules if rule.do == "flap"), None)


class Play:
    """A script at work: it counts the requests that each rule sees. A new script starts at request 1 again."""

    def __init__(self, script: Script, seed: int = 0) -> None:
        self.script = script
        self._rules = [rule for rule in script.rules if rule.do != "flap"]
        self._seen = [0] * len(self._rules)
        self._chance = random.Random(seed)

    def next(self, path: str, *, inference: bool) -> Fault | None:
        """The fault for this request, if any. Every rule counts every request of its kind, struck or not."""
        struck: Fault | None = None
        for position, rule in enumerate(self._rules):
            if not (fnmatchcase(path, rule.path) if rule.path else inference):
                continue
            self._seen[position] += 1
            if self._matches(rule, self._seen[position]) and struck is None:
                struck = rule
        return struck

    def _matches(self, rule: Fault, number: int) -> bool:
        if rule.share is not None:
            return self._chance.random() < rule.share
        if rule.every:
            return number % rule.every == 0
        return not rule.on or any(number in numbers for numbers in rule.on)

"""Is an endpoint worth trying? A circuit breaker as a table; time is an argument (monotonic seconds).

    state       event                next
    closed      failure x FAILURES   open       (ejected for COOLDOWN)
    open        cooldown up          half-open  (one trial request)
    half-open   success              closed
    half-open   failure              open

An engine's own Retry-After makes its endpoint rest without counting as broken.
"""

from typing import Final

FAILURES: Final = 5
COOLDOWN: Final = 10.0
REST_MOST: Final = 60.0
"""Seconds of an engine's Retry-After that are honoured at most."""


class Breaker:
    """One endpoint's recent luck, as one worker saw it."""

    __slots__ = ("_failures", "_opened", "_rest_until", "_trial", "reason", "since", "well")

    def __init__(self) -> None:
        self._failures = 0
        self._opened = 0.0
        self._rest_until = 0.0
        self._trial = False
        self.reason = ""
        self.since = 0.0
        self.well = True
        """Neither ejected nor resting when last looked at: what the hot path asks, instead of `allows`."""

    def allows(self, now: float) -> bool:
        """Whether a request should be tried here before others are."""
        if not self._opened:
            self.well = now >= self._rest_until
            return self.well
        if now < self._rest_until:
            return False
        return not self._trial and now - self._opened >= COOLDOWN

    def rests(self, now: float) -> float:
        """Seconds that the engine still asked to be left alone; 0.0 = it did not."""
        return max(0.0, self._rest_until - now)

    def state(self, now: float) -> str:
        """`up`, `busy` (asked to be left alone), `ejected` or `half-open`."""
        if self._opened:
            return "half-open" if now - self._opened >= COOLDOWN else "ejected"
        return "busy" if now < self._rest_until else "up"

    def begin(self, now: float) -> None:
        """A request is sent there. The first after the cooldown is the trial."""
        if self._opened and now - self._opened >= COOLDOWN:
            self._trial = True

    def success(self) -> None:
        if self._failures or self._opened:
            self._failures = 0
            self._opened = 0.0
            self._trial = False
            self.reason = ""
            self.well = not self._rest_until  # a rest goes on; `allows` sees its end

    def failure(self, now: float, reason: str) -> bool:
        """Returns True when this failure ejects the endpoint."""
        self._failures += 1
        self._trial = False
        self.reason = reason
        if self._opened or self._failures >= FAILURES:
            newly = not self._opened
            self._opened = now
            self.well = False
            if newly:
                self.since = now
            return newly
        return False

    def abandoned(self) -> None:
        """A trial that neither succeeded nor failed (the caller left): another may be tried."""
        self._trial = False

    def rest(self, now: float, seconds: float) -> None:
        """The engine asked to be left alone for a while. As a trial's answer that is neither success nor failure."""
        self._trial = False
        self.well = False
        self._rest_until = max(self._rest_until, now + min(seconds, REST_MOST))

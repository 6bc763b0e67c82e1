"""Is an endpoint worth trying? A circuit breaker as a table; time is an argument (monotonic seconds).

    state       event                                                     next
    closed      `failures` in a row, or `share` of the window's requests  open       (ejected for `cooldown`)
    closed      the same, but half of the channel is ejected already      degraded   (serves on; the next failure asks again)
    degraded    success, and the window is better                         closed
    open        cooldown over                                             half-open  (one trial at a time, the others serve)
    open        success of a request that was sent since                  closed     (tried because nobody else was left)
    half-open   its trial succeeds                                        closed     (slow start)
    half-open   its trial fails                                           open       (twice as long, at most 8 x)
    half-open   its trial is abandoned, or takes TRIAL_MOST               half-open  (another trial)
    open        cooldown over, but another worker's turn, or trial        the same   (for TURN, or OTHERS_MOST)
    any         answer to a request sent before the last change           the same   (late: counts for nothing)

An engine's own Retry-After makes its endpoint rest without counting as broken. What control found out (`adopt`) stands
above all of it. Every worker has a table of its own; `adopt_ejected`, `adopt_trial` and `adopt_recovered` tell it what others met: one
trial is enough for all, and it is the turn of the worker that ejected the endpoint.
"""

from dataclasses import dataclass
from typing import Final

from gateway.route.ward import Ward

REST_MOST: Final = 60.0
"""Seconds of an engine's Retry-After that are honoured at most."""
TRIAL_MOST: Final = 60.0
"""Seconds after which a trial without an answer stands in nobody's way."""
TURN: Final = 0.5
"""Seconds after the cooldown for which the trial is that of the worker that ejected the endpoint."""
OTHERS_MOST: Final = 15.0
"""Seconds that another worker's trial may take before one of ours is tried as well."""
LONGEST: Final = 8
"""How many cooldowns the cooldown grows to."""
LEAST_SHARE: Final = 0.1
"""What of its share an endpoint gets right after it came back."""
BUCKETS: Final = 6
"""Parts of the window. It forgets one at a time, so it looks back between 5/6 of its length and all of it."""
BARRED: Final = ("draining", "new")
"""Verdicts that bar an endpoint altogether. `down` and `wedged` ones are still tried when nobody else is left."""


@dataclass(frozen=True, kw_only=True)
class BreakerSettings:
    """share: 0..1, of at least `least` requests in `window`. Times in seconds. slow_start: 0.0 = none."""

    failures: int = 5
    share: float = 0.5
    least: int = 20
    window: float = 30.0
    cooldown: float = 10.0
    slow_start: float = 30.0


class Breaker:
    """One endpoint's recent luck, as one worker knows it."""

    __slots__ = (
        "_bad", "_cause", "_degraded", "_era", "_failures", "_good", "_length", "_others", "_past", "_rest_until", "_slow",
        "_state", "_trial", "_tried", "_turn", "_until", "_verdict", "_verdict_why", "_ward", "reason", "settings", "since",
        "well", "why",
    )  # fmt: skip

    def __init__(self, settings: BreakerSettings | None = None, ward: Ward | None = None) -> None:
        """ward: its channel's; None = nobody limits how many are ejected. settings: may be set anew at any time."""
        self.settings = settings or BreakerSettings()
        self._ward = ward
        self._failures = 0
        self._good = self._bad = 0
        self._past: list[tuple[int, int]] = []
        self._turn = 0.0
        self._until = 0.0
        """When the cooldown is over; 0.0 = not ejected."""
        self._length = 0.0
        """The last cooldown's length; 0.0 = it is long forgotten."""
        self._trial = 0.0
        """When the trial began that is under way; 0.0 = none."""
        self._others = 0.0
        """Until when the trial is another worker's."""
        self._tried = 0.0
        """When it was last tried since it is ejected; 0.0 = not yet."""
        self._era = 0
        self._degraded = False
        self._cause = ""
        self._slow: float | None = None
        self._rest_until = 0.0
        self._verdict = self._verdict_why = ""
        self._state = "up"
        self.well = True
        """Nothing is unusual, at the last look: what the hot path asks, instead of `allows`."""
        self.reason = ""
        """Of the last failure; "" = the last request succeeded."""
        self.why = ""
        """A short sentence when the state is not simply up. As `since`, it is fresh after `state` or `allows`."""
        self.since = 0.0
        """When the present state began; 0.0 = at the start."""

    # -- questions ------------------------------------------------------------------------------------------------------

    def allows(self, now: float) -> bool:
        """Whether a request should be tried here before others are. True for the trial of one that is ejected."""
        if self.well:
            return True
        self._look(now)
        if self._verdict or self._rest_until:
            return False
        return not self._until or (now >= self._until and now >= self._others and not self._on_trial(now))

    def due(self, now: float) -> bool:
        """Whether it is ejected and the next request should be its trial, wherever a policy ranks it: who is never asked never
        comes back."""
        return bool(self._until) and self.allows(now)

    def tries(self, now: float) -> bool:
        """Whether what began now is its trial: the other workers are to know."""
        return bool(self._trial) and self._trial == now

    @property
    def barred(self) -> bool:
        """Not to be used at all, not even when nobody else is left: the operator drains it, or no probe has seen it yet."""
        return self._verdict in BARRED

    def share_now(self, now: float) -> float:
        """What of its share it should get, 0.1 to 1.0: less than 1.0 only while it comes back slowly."""
        if self._slow is None:
            return 1.0
        passed = max(0.0, now - self._slow) / max(self.settings.slow_start, 1e-9)
        return min(1.0, LEAST_SHARE + (1.0 - LEAST_SHARE) * passed)

    def rests(self, now: float) -> float:
        """Seconds that the engine still asked to be left alone; 0.0 = it did not."""
        return max(0.0, self._rest_until - now)

    def remaining(self, now: float) -> float:
        """Seconds until an ejected endpoint may have its trial; 0.0 = it may, or it is not ejected."""
        return max(0.0, self._until - now)

    def state(self, now: float) -> str:
        """`up`, `degraded`, `busy` (asked to be left alone), `ejected`, `wedged`, `draining` or `down`."""
        if not self.well:
            self._look(now)
        return self._state

    # -- what happens ---------------------------------------------------------------------------------------------------

    def begin(self, now: float) -> int:
        """A request is sent there: the first one after the cooldown is the trial.

        Returns its ticket. Who hands it to `success`, `failure`, `abandoned` and `rest` has late answers recognised; without
        tickets every answer counts as if its request had been sent just now.
        """
        if now >= self._turn:
            self._turn_to(now)
        if not self._until:
            return self._era
        self._tried = now
        if now < self._until:
            return self._era
        if self._on_trial(now):
            return -1  # not the trial: its answer decides nothing
        if now < self._others:
            return self._era
        self._trial = now
        self._era += 1
        self._place(now)
        return self._era

    def success(self, now: float | None = None, ticket: int | None = None) -> bool:
        """Returns True when this success ends its ejection: the other workers are to know. now: None = when it was sent."""
        self._good += 1
        if self.well and not self._failures:
            return False
        if ticket is not None and ticket != self._era:
            return False
        if self._until:
            if not self._tried:
                return False
            self._recover(self._tried if now is None else now)
            return True
        self._failures = 0
        self.reason = ""
        if self._degraded and not self._ailing():
            self._degraded = False
            self._place(self.since if now is None else now)
        return False

    def failure(self, now: float, reason: str, ticket: int | None = None) -> bool:
        """Returns True when this failure ejects the endpoint, or its trial's failure does again: the other workers are to know."""
        if ticket is not None and ticket != self._era:
            return False
        if now >= self._turn:
            self._turn_to(now)
        if self._until:
            if not self._trial:
                return False
            if now < self._until:  # another worker's trial failed meanwhile: this is the same round's
                self._trial = 0.0
                self._place(now)
                return False
            self._open(now, self._longer(), f"trial failed: {reason}")
            self.reason = reason
            return True
        self._bad += 1
        self._failures += 1
        self.reason = reason
        if self._failures >= self.settings.failures:
            return self._eject(now, self._longer(), f"{self.settings.failures} failures in a row: {reason}")
        if self._ailing():
            return self._eject(now, self._longer(), f"at least {self.settings.share:.0%} of requests failed: {reason}")
        return False

    def abandoned(self, ticket: int | None = None) -> None:
        """A trial that neither succeeded nor failed (the caller left): another may be tried."""
        if ticket is None or ticket == self._era:
            self._trial = 0.0

    def rest(self, now: float, seconds: float, ticket: int | None = None) -> None:
        """The engine asked to be left alone for a while. As a trial's answer that is neither success nor failure."""
        self.abandoned(ticket)
        self._rest_until = max(self._rest_until, now + min(seconds, REST_MOST))
        self._place(now)

    # -- what others say ------------------------------------------------------------------------------------------------

    def adopt(self, verdict: str, why: str, since: float) -> None:
        """What control says of it: `down`, `wedged`, `draining`, `new` (no probe has seen it yet), or "" = nothing against it.

        Once it is over it comes back slowly, unless it was new: when the gateway starts, everybody is.
        """
        before, self._verdict, self._verdict_why = self._verdict, verdict, why
        if before and before != "new" and not verdict and not self._until:
            self._slow = since
        self._look(since)

    def adopt_ejected(self, now: float, remaining: float, reason: str, *, others: bool = False) -> None:
        """Another worker ejected it, for so many seconds more. An own trial that is under way may still bring it back; its failure
        would be the same round's, and is not counted twice. others: the next trial is not ours, unless nobody else makes it."""
        if self._until:
            self._until = max(self._until, now + remaining)
            self._length = max(self._length, remaining)
            self._place(now)
        elif remaining > 0:
            self._eject(now, remaining, reason)
        if others and self._until:
            self._others = now + remaining + TURN

    def adopt_trial(self, now: float) -> None:
        """Another worker has begun a trial."""
        if self._until:
            self._others = max(self._others, now + OTHERS_MOST)
            self._place(now)

    def adopt_recovered(self, now: float) -> None:
        """Another worker's trial succeeded."""
        if self._until or self._degraded:
            self._recover(now)

    def readmit(self, now: float) -> None:
        """Its ward shrank: it serves on, degraded, until a request succeeds."""
        self._recover(now)
        self._slow = None
        self._degraded = True
        self._failures = self.settings.failures
        self._place(now)

    def let_go(self) -> None:
        """The endpoint is gone: it takes no place among the ejected any more."""
        if self._ward is not None:
            self._ward.leave(self)

    # -- inside -----------------------------------------------------------------------------------------------------------

    def _on_trial(self, now: float) -> bool:
        return bool(self._trial) and now - self._trial < TRIAL_MOST

    def _eject(self, now: float, seconds: float, cause: str) -> bool:
        self._cause = cause
        if self._ward is not None and not self._ward.take(self):
            self._degraded = True
            self._place(now)
            return False
        self._degraded = False
        self._open(now, seconds, cause)
        return True

    def _open(self, now: float, seconds: float, cause: str) -> None:
        self._until, self._length, self._cause = now + seconds, seconds, cause
        self._trial = self._tried = self._others = 0.0
        self._slow = None
        self._fresh()
        self._place(now)

    def _recover(self, now: float) -> None:
        self._until = self._trial = self._tried = self._others = 0.0
        self._degraded = False
        self._slow = now
        self.reason = ""
        self._fresh()
        if self._ward is not None:
            self._ward.leave(self)
        self._look(now)

    def _fresh(self) -> None:
        """What was sent or met before counts no more."""
        self._era += 1
        self._failures = self._good = self._bad = 0
        self._past.clear()

    def _longer(self) -> float:
        """The next cooldown: twice the last one, as long as that is not forgotten."""
        cooldown = self.settings.cooldown
        return min(max(cooldown, self._length * 2), cooldown * LONGEST)

    def _turn_to(self, now: float) -> None:
        width = self.settings.window / BUCKETS
        turns = int((now - self._turn) / width) + 1
        self._past.append((self._good, self._bad))
        self._past += [(0, 0)] * min(turns - 1, BUCKETS)
        del self._past[: 1 - BUCKETS]
        self._turn += turns * width
        self._good = self._bad = 0

    def _ailing(self) -> bool:
        """Whether too many of the window's requests failed."""
        bad = self._bad + sum(bad for _, bad in self._past)
        count = bad + self._good + sum(good for good, _ in self._past)
        return count >= self.settings.least and bad >= self.settings.share * count

    def _look(self, now: float) -> None:
        """What time alone changes."""
        if now >= self._rest_until:
            self._rest_until = 0.0
        if self._slow is not None and now - self._slow >= self.settings.slow_start:
            self._slow = None
            self._length = 0.0
        if self._degraded and self._failures < self.settings.failures:
            if now >= self._turn:
                self._turn_to(now)
            self._degraded = self._ailing()
        self._place(now)

    def _place(self, now: float) -> None:
        """Works out the state."""
        if self._verdict:
            state, why = "down" if self._verdict == "new" else self._verdict, self._verdict_why
        elif self._until:
            tried = "; on trial" if self._trial or self._until <= now < self._others else "; a trial is due" if now >= self._until else ""
            state, why = "ejected", self._cause + tried
        elif self._rest_until:
            state, why = "busy", "asked to be left alone"
        elif self._degraded:
            state, why = "degraded", f"{self._cause}; not ejected, because half of its channel is"
        else:
            state, why = "up", "" if self._slow is None else f"coming back slowly: {self.share_now(now):.0%} of its share"
        if state != self._state:
            self._state, self.since = state, now
        self.why = why
        self.well = state == "up" and self._slow is None

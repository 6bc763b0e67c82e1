"""Does an engine that says it works produce anything? Told by its own figures, without spending a token; time is an argument.

    figures                               what they mean
    unknown                               nothing is known, and the time that was counted is forgotten
    nothing runs                          idle: not wedged
    something runs, token figures moved   it works; backwards too, for then it was restarted
    something ran and runs, none moved    the time since the last look counts, but LONGEST_GAP at most
    none moved for `after` seconds        wedged, until one of the lines above holds again

A prompt that takes longer than `after` to be read looks the same, unless the engine fills its cache piece by piece meanwhile.
"""

from typing import Final

LONGEST_GAP: Final = 15.0
"""Seconds between two looks that count: what happened in a longer silence nobody has seen."""


class Wedged:
    """One engine's figures, one look after another."""

    __slots__ = ("_at", "_flat", "_pulse", "_ran", "since", "wedged")

    def __init__(self) -> None:
        self.wedged = False
        self.since = 0.0
        """Monotonic seconds: when it was found, as long as it is."""
        self._flat = 0.0
        self._at = 0.0
        self._ran = False
        self._pulse: int | None = None

    def see(self, running: float | None, pulse: int | None, after: float, now: float) -> bool:
        """Whether it is wedged. running: requests that it says it works on. pulse: another number whenever a figure about tokens
        moved. after: seconds. now: monotonic seconds."""
        if running is None or pulse is None:
            self.forget()
            return False
        stands_still = self._ran and running > 0 and pulse == self._pulse
        self._flat = self._flat + min(now - self._at, LONGEST_GAP) if stands_still else 0.0
        self._ran, self._pulse, self._at = running > 0, pulse, now
        wedged = self._flat >= after
        if wedged and not self.wedged:
            self.since = now
        self.wedged = wedged
        return wedged

    @property
    def flat(self) -> float:
        """Seconds that count against it so far."""
        return self._flat

    def forget(self) -> None:
        """The engine has no figures (any more), or is another one."""
        self.wedged, self._flat, self._ran, self._pulse = False, 0.0, False, None

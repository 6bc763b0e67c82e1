"""Is the clock on the wall to be believed, when something is to be deleted for its age? Decides nothing else; both clocks are arguments.

A clock that jumps, or that stands long after the newest that is known when control begins, is believed once it has gone on evenly for a
day: what was deleted because of a wrong one never comes back. One that is set for the first time, on a machine
that keeps no time while it is off, is looked at as at the start.
"""

from typing import Final

NO_CLOCK: Final = 1_577_836_800.0
"""2020-01-01: a clock that stands before that was never set."""
SLEWED: Final = 1.0
"""Seconds by which a clock may be off between two looks: it is being corrected, or we were late."""
DAY: Final = 86_400.0
LONG: Final = 60 * DAY
"""Seconds after the newest request from which on a clock is doubted at the start."""


class Steady:
    """One clock. wall: Unix seconds. steady: monotonic seconds."""

    def __init__(self, *, jump: float = DAY, long: float = LONG) -> None:
        """jump, long: seconds by which it may jump, and stand after the newest at the start, and is believed all the same."""
        self._jump, self._long = jump, long
        self._last: tuple[float, float] | None = None
        self._since = float("-inf")
        self._what = ""

    def see(self, wall: float, steady: float, newest: float) -> None:
        """newest: when the newest request was, 0 = there is none."""
        if self._last is None or self._last[0] < NO_CLOCK:
            if newest and wall - newest > self._long:
                self._doubt(steady, f"the clock is {(wall - newest) / DAY:.0f} days after the newest request")
        else:
            jump = (wall - self._last[0]) - (steady - self._last[1])
            if abs(jump) > self._jump:
                self._doubt(steady, f"the clock jumped by {jump / DAY:+.0f} days")
        self._last = (wall, steady)

    def _doubt(self, steady: float, what: str) -> None:
        self._since, self._what = steady, what

    def doubted(self, steady: float) -> str:
        """Why nothing may be deleted for its age now; "" = it may."""
        if steady - self._since >= DAY:
            return ""
        return f"{self._what}: nothing is archived or deleted for its age before that has been so for a day"


class Pace:
    """Is the clock on the wall put forward or back while somebody looks? Times as of `Steady`."""

    def __init__(self, wall: float, steady: float) -> None:
        self._ahead = wall - steady

    def jump(self, wall: float, steady: float) -> float:
        """Seconds by which it was since the last look, 0 = it was not. Whoever tells since when something holds adds them to that."""
        ahead = wall - steady
        jump = ahead - self._ahead
        self._ahead = ahead
        return jump if abs(jump) > SLEWED else 0.0

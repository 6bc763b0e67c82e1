"""Is an hour's usage far from what such an hour usually has? Pure: hourly figures in, a verdict out.

normal     the median of the same hour of the week in the last eight weeks, each week in units of its own level
level      the mean of the week before, its highest twentieth cut off: growth is not an anomaly
lasting    the median of actual ÷ usual in the last day: what lasts half a day is the new normal
spread     the median distance from normal (MAD) at this time of the day in the last four weeks
spike      above normal × `times`, and more than `deviations` spreads away
drop       below normal ÷ `times`, and more than `deviations` spreads away, in a busy hour (above the level); a day that
           looks like the quietest day of the week from its beginning is a holiday, not a drop
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from statistics import median
from typing import Final

WEEK: Final = 168
DAY: Final = 24
WEEKS: Final = 8
"""Weeks that are looked back."""
LEAST_WEEKS: Final = 2
"""Weeks of history before anything is said."""
HOURS: Final = WEEK * (WEEKS + 1)
"""Hours of history that can matter."""
_NORMAL_SPREAD: Final = 1.4826
"""From a median distance to a standard deviation, of a normal distribution."""
_NARROWEST: Final = 0.10
"""Nobody's usage is steadier than that (a tenth, as a logarithm)."""
_QUIET: Final = 0.25
"""Hours below this share of the level are looked at as if they had it: ten times of next to nothing is nothing."""
SPREAD_DAYS: Final = 28
NEAR: Final = 2
"""Hours of the day on both sides that are as unsteady as one hour."""
_BEFORE: Final = 6
"""Hours before a drop, a third of which must have been those of a usual working day."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """times: how many times the normal. deviations: how many spreads. Both must be exceeded."""

    times: float
    deviations: float


SENSITIVITIES: Final = {"low": Sensitivity(3.5, 6.0), "normal": Sensitivity(2.2, 4.0), "high": Sensitivity(1.7, 3.0)}


@dataclass(frozen=True, slots=True)
class Verdict:
    """kind: `spike` or `drop`. expected: what was normal. deviations: how many spreads away."""

    kind: str
    value: float
    expected: float
    deviations: float


class Baseline:
    """One series of hourly figures, None = not known. Position 0 is any hour; what is asked of one hour looks only at those before it."""

    def __init__(self, hours: Sequence[float | None], least: float = 0.0) -> None:
        """least: an anomaly is at least that large in absolute figures."""
        self._hours = hours
        self._least = least
        self._levels: dict[int, float] = {}
        self._known: dict[int, float | None] = {}
        self._distances: dict[int, float | None] = {}

    def judge(self, at: int, sensitivity: str = "normal", *, whole: bool = True) -> Verdict | None:
        """What is wrong with the hour at this position. whole: it is over; of an hour that goes on only a spike can be told."""
        value, wanted = self._hours[at], SENSITIVITIES[sensitivity]
        usual = self._usual(at)
        if value is None or usual is None:
            return None
        floor = _QUIET * self._level(at)
        if value <= max(usual, floor) * wanted.times and (not whole or value * wanted.times > usual):
            return None  # the usual case: what follows only makes the bounds wider
        lasting = self._lasting(at)
        spread = self._spread(at)
        high = max(usual, usual * lasting, floor)
        if value > high * wanted.times and value - high >= self._least and log(value / high) > wanted.deviations * spread:
            return Verdict("spike", value, high, log(value / high) / spread)
        if not whole:
            return None
        low = min(usual, usual * lasting)
        away = log(low / max(value, low / 100)) if low else 0.0
        if low < self._level(at) or low - value < self._least or value * wanted.times > low or away <= wanted.deviations * spread:
            return None
        quietest = min(low, self._quietest(at) * min(1.0, lasting))
        if self._was_usual(at) or (quietest >= floor and value * wanted.times < quietest):
            return Verdict("drop", value, low, away / spread)
        return None

    def _level(self, at: int) -> float:
        """The mean of the week before that day, its highest twentieth cut down; 0 = not known."""
        day = at // DAY
        if day not in self._levels:
            known = sorted(value for value in self._hours[max(0, day * DAY - WEEK) : day * DAY] if value is not None)
            cut = len(known) // 20
            if cut:
                known[-cut:] = [known[-cut - 1]] * cut
            self._levels[day] = sum(known) / len(known) if len(known) >= WEEK // 2 else 0.0
        return self._levels[day]

    def _past(self, at: int) -> list[float]:
        """The same hour of earlier weeks, in units of those weeks' levels."""
        found = []
        for week in range(1, WEEKS + 1):
            then = at - WEEK * week
            if then < 0:
                break
            value, level = self._hours[then], self._level(then)
            if value is not None and level:
                found.append(value / level)
        return found

    def _usual(self, at: int) -> float | None:
        """What such an hour usually has, at the present level. None: too little is known."""
        if at not in self._known:
            past, level = self._past(at), self._level(at)
            self._known[at] = median(past) * level if len(past) >= LEAST_WEEKS and level else None
        return self._known[at]

    def _lasting(self, at: int) -> float:
        ratios = []
        for then in range(max(0, at - DAY), at):
            value, usual = self._hours[then], self._usual(then)
            if value is not None and usual is not None and usual > 0:
                ratios.append(value / usual)
        return median(ratios) if len(ratios) >= DAY // 2 else 1.0

    def _spread(self, at: int) -> float:
        """As a logarithm. With few weeks it is taken to be wider, because little is known of it."""
        distances = []
        for day in range(1, SPREAD_DAYS + 1):
            for then in range(max(0, at - DAY * day - NEAR), at - DAY * day + NEAR + 1):
                distance = self._distance(then)
                if distance is not None:
                    distances.append(distance)
        weeks = len(distances) / (7 * (2 * NEAR + 1))
        wide = median(distances) * _NORMAL_SPREAD if distances else 0.0
        return max(_NARROWEST, wide) * (1 + 0.5 / max(weeks, 1))

    def _distance(self, at: int) -> float | None:
        """How far an hour was from what was usual then, as a logarithm. None: not known, or next to nothing was usual."""
        if at not in self._distances:
            value, usual, least = self._hours[at], self._usual(at), _QUIET / 2 * self._level(at)
            known = value is not None and usual is not None and usual > least
            self._distances[at] = abs(log(max(value or 0.0, least) / usual)) if known and usual else None
        return self._distances[at]

    def _quietest(self, at: int) -> float:
        """What this hour of the day has on the quietest day of the week."""
        days = [median(past) for day in range(1, 7) if (past := self._past(at - DAY * day + WEEK))]
        return min(days, default=0.0) * self._level(at)

    def _was_usual(self, at: int) -> bool:
        """Whether it was a usual working day until just now: one that does not look like the quietest day."""
        seen = 0
        for then in range(max(0, at - _BEFORE), at):
            value, usual, quiet = self._hours[then], self._usual(then), self._quietest(then)
            seen += bool(value is not None and usual and usual > 2 * quiet and usual / 1.5 < value < usual * 1.5)
        return seen >= _BEFORE // 3

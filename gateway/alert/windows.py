"""How much counters have grown in the last minutes. Time is an argument, monotonic; what a counter lost by a restart counts from 0."""

from bisect import bisect_right
from collections.abc import Mapping
from typing import Final

from gateway.alert.facts import Counted

Key = tuple[str, ...]
"""`("requests" | "failed", model, channel)`, `("first", model, channel, bound)`, `("lost",)`."""
SAMPLES: Final = 60
"""Looks that the longest time is divided into, at least."""
OFTEN: Final = 10.0


class Windows:
    """Looks at all counters, as many as the longest time needs."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._looks: list[dict[Key, float]] = []

    def due(self, now: float, longest: float) -> bool:
        """Whether another look is worth its price. longest: the longest time that anybody asks about, in seconds."""
        return not self._times or now - self._times[-1] >= max(OFTEN, longest / SAMPLES / 5)

    def add(self, now: float, counters: Mapping[Key, float], longest: float) -> None:
        self._times.append(now)
        self._looks.append(dict(counters))
        gone = bisect_right(self._times, now - longest) - 1  # one that is older stays: what came after it is asked for
        if gone > 0:
            del self._times[:gone], self._looks[:gone]

    def counted(self, now: float, seconds: float) -> Counted | None:
        """What was counted in the last so many seconds. None: there was no look yet."""
        if not self._looks:
            return None
        at = max(0, bisect_right(self._times, now - seconds) - 1)
        before, after = self._looks[at], self._looks[-1]
        found = Counted(complete=self._times[at] <= now - seconds)
        for key, value in after.items():
            was = before.get(key, 0.0)
            grown = value - was if value >= was else value
            if grown or key[0] == "first":  # an empty bucket says where the next one begins
                _put(found, key, grown)
        return found


def _put(found: Counted, key: Key, grown: float) -> None:
    if key[0] == "lost":
        found.lost = grown
    elif key[0] == "first":
        found.first.setdefault((key[1], key[2]), {})[float(key[3])] = grown
    else:
        (found.requests if key[0] == "requests" else found.failed)[key[1], key[2]] = grown

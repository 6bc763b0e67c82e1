"""How many second tries an ailing engine may cause: a fifth of the first tries, and one a second for those who try seldom.

Without it, retries double the load just when an engine is dying of it. Connections that were never made cost an
engine nothing and are not counted. Time is an argument (monotonic seconds).
"""

from typing import Final

SHARE: Final = 0.2
PER_SECOND: Final = 1.0
RESERVE: Final = 10.0
"""What may be spent at once from a standing start, and what a quiet time refills."""
MOST: Final = 100.0


class RetryBudget:
    """One model's budget, in one worker."""

    __slots__ = ("_left", "_looked")

    def __init__(self) -> None:
        self._left = RESERVE
        self._looked = 0.0

    def first_try(self) -> None:
        if self._left < MOST:
            self._left += SHARE

    def spend(self, now: float) -> bool:
        """Takes one further try; False = the budget is used up and the failure stands."""
        passed, self._looked = now - self._looked, now
        if self._left < RESERVE:
            self._left = min(RESERVE, self._left + passed * PER_SECOND)
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

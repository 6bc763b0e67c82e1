"""How many second tries an ailing engine may cause: a fifth of the first tries, with a small reserve to start from.

Without it, retries double the load just when an engine is dying of it. Connections that were never made cost an
engine nothing and are not counted.
"""

from typing import Final

SHARE: Final = 0.2
RESERVE: Final = 10.0
MOST: Final = 100.0


class RetryBudget:
    """One model's budget, in one worker."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = RESERVE

    def first_try(self) -> None:
        if self._left < MOST:
            self._left += SHARE

    def spend(self) -> bool:
        """Takes one further try; False = the budget is used up and the failure stands."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

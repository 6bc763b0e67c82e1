"""Money of one currency in another: by the rates of the configuration, in whole numbers."""

from gateway.config.resolved_prices import NANO, Currencies
from gateway.price.entry import Priced, rounded

MILLIONTHS_OF_NANOS = 1_000
"""Nanos in a millionth."""
LARGEST = 2**53
"""Millionths: nine thousand million of a currency. What a caller asks for may come to more; a frame's numbers end somewhere."""


class Rates:
    """What each currency is worth. The same currency needs no rate."""

    __slots__ = ("_worth", "base")

    def __init__(self, currencies: Currencies) -> None:
        self.base = currencies.base
        self._worth = {**currencies.rates, **({currencies.base: NANO} if currencies.base else {})}

    def nanos(self, nanos: int, currency: str, wanted: str) -> int | None:
        """Rounded half to even. None: no rate leads there."""
        if currency == wanted:
            return nanos
        worth, other = self._worth.get(currency), self._worth.get(wanted)
        return rounded(nanos * worth, other) if worth and other else None

    def millionths(self, priced: Priced, wanted: str) -> int | None:
        """As limits count: rounded up, so that what was used is never less than what was paid."""
        nanos, currency, _ = priced
        if currency == wanted:
            return min(LARGEST, -(-nanos // MILLIONTHS_OF_NANOS))
        worth, other = self._worth.get(currency), self._worth.get(wanted)
        return min(LARGEST, -(-nanos * worth // (other * MILLIONTHS_OF_NANOS))) if worth and other else None

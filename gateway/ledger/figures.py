"""What a report counts: the same figures of every group, bucket and total, as SQL, as sums, and as they are told. Money is Decimal."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from gateway.config.resolved_prices import NANO, Currencies

Figures = dict[str, Any]
COUNTED: Final = {
    "requests": "count(*)",
    "errors": "count(*) FILTER (status >= 400 OR left(\"end\", 1) IN ('U', 'K', 'I'))",
    "tokens_in": "coalesce(sum(tokens_in), 0)",
    "tokens_cached": "coalesce(sum(tokens_cached), 0)",
    "tokens_out": "coalesce(sum(tokens_out), 0)",
    "tokens_reasoning": "coalesce(sum(tokens_reasoning), 0)",
    "unpriced": "count(*) FILTER (amount IS NULL)",
    "unpriced_tokens": "coalesce(sum(tokens_in + tokens_out) FILTER (amount IS NULL), 0)",
    "paced_tokens": "coalesce(sum(tokens_out - 1) FILTER (tpot > 0 AND tokens_out > 1), 0)",
    "paced_micros": "coalesce(sum(CAST(tpot * (tokens_out - 1) * 1000 AS BIGINT)) FILTER (tpot > 0 AND tokens_out > 1), 0)",
}
"""Whole numbers that add up. paced: tokens after the first of streams, and how long they took."""
HIDDEN: Final = ("paced_tokens", "paced_micros")


class Measures:
    """Columns of one report: `COUNTED`, then an amount and an engine's cost for each currency of the time."""

    def __init__(self, currencies: Sequence[str], engine_currencies: Sequence[str], rates: Currencies) -> None:
        self.currencies, self.engine_currencies = list(currencies), list(engine_currencies)
        self._worth = {**rates.rates, **({rates.base: NANO} if rates.base else {})}
        self.base = rates.base if all(one in self._worth for one in currencies) else ""
        """"" = none is configured, or there is a currency without a rate: then nothing is summed across currencies."""

    @property
    def names(self) -> list[str]:
        amounts = [f"amount{number}" for number in range(len(self.currencies))]
        return [*COUNTED, *amounts, *(f"cost{number}" for number in range(len(self.engine_currencies)))]

    def sql(self) -> str:
        """Of rows. Currencies are three letters (checked by `known`)."""
        amounts = [f"sum(amount) FILTER (currency = '{one}')" for one in self.currencies]
        costs = [f"sum(engine_cost) FILTER (engine_currency = '{one}')" for one in self.engine_currencies]
        return ", ".join(f"{made} AS {name}" for made, name in zip([*COUNTED.values(), *amounts, *costs], self.names, strict=True))

    def added(self) -> str:
        """SQL of sums of these sums."""
        return ", ".join(f"sum({name}) AS {name}" for name in self.names)

    def ranks(self, order: str) -> str:
        """SQL to order groups by, the largest first. Money: in the base currency, else the first currency first."""
        if order == "tokens":
            return "sum(tokens_in + tokens_out) DESC"
        if order not in ("amount", "engine_cost"):
            return f"sum({order}) DESC"
        column, currencies = ("amount", self.currencies) if order == "amount" else ("cost", self.engine_currencies)
        if not currencies:
            return "sum(requests) DESC"
        if self.base and all(one in self._worth for one in currencies):
            return (
                " + ".join(f"coalesce(CAST(sum({column}{n}) AS DOUBLE), 0) * {self._worth[one]}" for n, one in enumerate(currencies))
                + " DESC"
            )
        return ", ".join(f"sum({column}{number}) DESC NULLS LAST" for number in range(len(currencies)))

    # -- sums ----------------------------------------------------------------------------------------------------------

    def nothing(self) -> list[Any]:
        """Money of which there is none is None: 0 is what is free."""
        return [0] * len(COUNTED) + [None] * (len(self.currencies) + len(self.engine_currencies))

    def sum(self, rows: Iterable[Sequence[Any]]) -> list[Any]:
        total = self.nothing()
        for row in rows:
            total = [one if other is None else other if one is None else one + other for one, other in zip(total, row, strict=True)]
        return total

    def told(self, sums: Sequence[Any]) -> Figures:
        """amount, engine_cost: text by currency, exact, of currencies in which anything is known. base_amount: in the base currency, exact;
        None = it cannot be said, or all of it is unknown."""
        made = dict(zip(self.names, sums, strict=True))
        found: Figures = {name: int(made[name]) for name in COUNTED if name not in HIDDEN}
        found["tokens"] = found["tokens_in"] + found["tokens_out"]
        found["amount"] = self._known(made, "amount", self.currencies)
        found["engine_cost"] = self._known(made, "cost", self.engine_currencies)
        unknown = not found["amount"] and found["unpriced"]
        found["base_amount"] = text(self.in_base(found["amount"])) if self.base and not unknown else None
        micros = int(made["paced_micros"])
        found["tokens_per_second"] = round(int(made["paced_tokens"]) * 1_000_000 / micros, 1) if micros else None
        return found

    @staticmethod
    def _known(made: Mapping[str, Any], word: str, currencies: Sequence[str]) -> dict[str, str]:
        sums = ((one, made[f"{word}{number}"]) for number, one in enumerate(currencies))
        return {one: text(amount) for one, amount in sums if amount is not None}

    def in_base(self, amounts: Mapping[str, str]) -> Decimal:
        """Exact: amounts and rates have nine digits after the point, so that this has eighteen."""
        whole = sum(int(Decimal(amount).scaleb(9)) * self._worth[one] for one, amount in amounts.items())
        return Decimal(f"{whole}e-18")

    def of_order(self, told: Figures, order: str) -> Decimal | None:
        """What shares and changes are of. None: amounts of several currencies, which nobody can add."""
        if order not in ("amount", "engine_cost"):
            return Decimal(told[order])
        if order == "amount" and self.base:
            return None if told["base_amount"] is None else Decimal(told["base_amount"])
        if len(self.currencies if order == "amount" else self.engine_currencies) > 1:
            return None
        amounts = list(told[order].values())
        return Decimal(amounts[0]) if amounts else None if told["unpriced"] else Decimal(0)


def known(codes: Iterable[Any]) -> list[str]:
    """Currencies that are such, in alphabetical order."""
    return sorted(code for code in codes if code and len(code) == 3 and code.isascii() and code.isalpha())


def text(amount: Decimal | int) -> str:
    """`2.5`, never `25E-1`."""
    written = f"{Decimal(amount):f}"
    return written.rstrip("0").rstrip(".") if "." in written else written


def ratio(part: Decimal | None, whole: Decimal | None) -> float | None:
    return round(float(part / whole), 6) if part is not None and whole else None

"""Which price counts for a request, and what it comes to. Unknown is None, never 0.

Callers pay the price of their virtual model; where none counts, that of the channel that served. A channel's price is what it
costs us. A name in full goes before a pattern, a longer pattern before a shorter; of one name a price whose schedule lets it
count goes before one without, and of those the latest that has begun.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from gateway.config.globs import matches
from gateway.config.resolved_prices import Price
from gateway.price.entry import Entry, Open, Priced, Use

REMEMBERED: Final = 20_000
"""Names of which the prices are known at once; beyond, they are looked for anew."""
Series = tuple[Open | None, tuple[Entry, ...]]
"""Prices of one name and schedule, the latest first."""


class PriceBook:
    """All prices of a configuration. Answers depend on arguments alone.

    To price many rows, ask `entry` once for each model, channel and `moment`: what is found for a model and a channel is remembered,
    and a schedule remembers its last minute.
    """

    def __init__(
        self,
        prices: Sequence[Price],
        schedules: Mapping[str, Open],
        discounts: Mapping[str, int],
        name: Callable[[str], str] = str,
        channels: Callable[[str], Iterable[str]] = lambda model: (),
    ) -> None:
        """discounts: by tenant, in millionths of the whole. name: the virtual model that a caller's name means. channels: where its
        requests may go."""
        self._entries = [Entry(price, _hours(price, schedules)) for price in prices]
        self._begins = {entry.begins // 60 for entry in self._entries if entry.begins % 60}
        """Minutes within which a price begins."""
        self._discounts = discounts
        self._name = name
        self._channels = channels
        self._plans: dict[tuple[str, str], tuple[Series, ...]] = {}

    @property
    def empty(self) -> bool:
        return not self._entries

    def price(self, model: str, channel: str, tenant: str, use: Use, ts: float) -> Priced | None:
        """What the caller pays. model: as the caller wrote it. channel: "" = none served. ts: seconds since 1970, when it came."""
        entry = self.entry(model, channel, ts)
        return None if entry is None else entry.priced(use, self.discount(tenant))

    def cost(self, channel: str, use: Use, ts: float) -> Priced | None:
        """What we pay for it, by the channel's own price."""
        entry = self.engine(channel, ts)
        return None if entry is None else entry.priced(use)

    def engine(self, channel: str, ts: float) -> Entry | None:
        """The price that counts for us."""
        return self._find(self._plan("", channel), ts)

    def discount(self, tenant: str) -> int:
        """In millionths of the whole."""
        return self._discounts.get(tenant, 0)

    def moment(self, ts: float) -> float:
        """The same for moments at which the same prices count: the minute's beginning, if none begins within it."""
        minute = ts // 60
        return ts if minute in self._begins else minute * 60

    def estimate(self, model: str, tenant: str, input: int, output: int, ts: float) -> list[Priced]:
        """What it may come to before it is known who serves: several when that turns on the channel, none when nobody knows."""
        discount = self._discounts.get(tenant, 0)
        entry = self._find(self._plan(model, ""), ts)
        entries = [entry] if entry else [self.entry(model, channel, ts) for channel in self._channels(self._name(model))]
        found = (entry.estimate(input, output, discount) for entry in dict.fromkeys(entries) if entry is not None)
        return [one for one in found if one is not None]

    def entry(self, model: str, channel: str, ts: float) -> Entry | None:
        """The price that counts for a caller. Within a minute it is the same, but for the moment at which one begins."""
        return self._find(self._plan(model, channel), ts)

    def table(self) -> list[dict[str, Any]]:
        """Every price as a row: whose, when it counts, and its amounts in nanos; -1 = not said. `until`: when the next of its name and
        schedule begins."""
        rows = []
        for entry in self._entries:
            price = entry.price
            later = [o.begins for o in self._entries if _series(o.price) == _series(price) and o.begins > price.begins]
            words = {word: getattr(price, word) for word in Price.__struct_fields__ if word != "tiers"}
            tiers = [{word: getattr(tier, word) for word in tier.__struct_fields__} for tier in price.tiers]
            rows.append({**words, "until": min(later, default=None), "tiers": tiers, "rev": entry.rev(0)})
        return rows

    @staticmethod
    def _find(plan: tuple[Series, ...], ts: float) -> Entry | None:
        for hours, entries in plan:
            if hours is None or hours(ts):
                for entry in entries:
                    if entry.begins <= ts:
                        return entry
        return None

    def _plan(self, model: str, channel: str) -> tuple[Series, ...]:
        plan = self._plans.get((model, channel))
        if plan is None:
            if len(self._plans) >= REMEMBERED:
                self._plans.clear()
            name = self._name(model) if model else ""
            of_model = self._ranked([entry for entry in self._entries if entry.price.model and model], lambda price: price.model, name)
            of_channel = self._ranked(
                [entry for entry in self._entries if entry.price.channel and channel], lambda price: price.channel, channel
            )
            plan = self._plans[model, channel] = (*of_model, *of_channel)
        return plan

    @staticmethod
    def _ranked(entries: list[Entry], glob_of: Callable[[Price], str], name: str) -> list[Series]:
        series: dict[tuple[str, ...], list[Entry]] = {}
        for entry in entries:
            if matches(glob_of(entry.price), name):
                series.setdefault(_series(entry.price), []).append(entry)

        def rank(known: tuple[str, ...]) -> tuple[bool, int, bool]:
            glob = known[0] or known[1]
            return glob != name, -len(glob), not (known[2] or known[3])

        ordered = sorted(series, key=rank)
        return [(series[known][0].hours, tuple(sorted(series[known], key=lambda entry: -entry.begins))) for known in ordered]


def _series(price: Price) -> tuple[str, ...]:
    return price.model, price.channel, price.during, price.outside


def _hours(price: Price, schedules: Mapping[str, Open]) -> Open | None:
    if price.during:
        return schedules[price.during]
    if price.outside:
        closed = schedules[price.outside]
        return lambda ts: not closed(ts)
    return None

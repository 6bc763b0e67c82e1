"""What is wrong with prices beyond single fields: names that lead nowhere, one that starts twice, tiers that do not rise, currencies."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gateway.config.access import instant
from gateway.config.globs import matches
from gateway.config.marks import Loc
from gateway.config.prices import CHARGES, Price
from gateway.config.read import Reading
from gateway.config.schema import Config
from gateway.config.wording import nearest
from gateway.errors import Mistake

Meaning = Callable[[str], str | None]
"""None when a pattern means some model by its own name; else what to say."""


def prices(config: Config, reading: Reading, channels: Mapping[str, object], meaning: Meaning) -> Iterator[Mistake]:
    """Of `prices`, `currencies` and channels' costs. channels: all that are known, those that are wrong in themselves included."""
    currencies = config.currencies
    if currencies is not None and currencies.base in currencies.rates:
        at: Loc = ("currencies", "rates", currencies.base)
        yield reading.marks.at(at, f"{currencies.base} is the base currency: it is worth 1", "leave it out", key=True)
    for name, channel in config.channels.items():
        if channel.cost is not None:
            yield from currency(channel.cost.currency, ("channels", name, "cost"), config, reading)
    seen: dict[object, int] = {}
    for number, price in enumerate(config.prices):
        at = ("prices", number)
        check = _Check(price, at, config, reading)
        yield from check.run(channels, meaning)
        known = (price.model, price.channel, instant(price.begins) if price.begins else 0.0, price.during, price.outside)
        first = seen.setdefault(known, number)
        if first != number:
            word = "from" if price.begins else "model" if price.model else "channel"
            said = f"this price of {price.model or price.channel} starts twice"
            yield reading.marks.at((*at, word), said, f"first at {reading.marks.place(('prices', first))}; leave one out", key=True)


def currency(written: str | None, at: Loc, config: Config, reading: Reading) -> Iterator[Mistake]:
    """Of an amount of money: is it known, and is there a rate for it where rates are given? at: the group it stands in."""
    known, unread = config.currencies, config.currencies is None and reading.data.get("currencies") is not None
    if written is None:
        if known is None and not unread:
            hint = "add currency: CNY here, or once for all: currencies: {base: CNY}"
            yield reading.marks.at(at, "money of which currency?", hint)
    elif known is not None and written != known.base and written not in known.rates:
        near = nearest(written, dict.fromkeys((known.base, *known.rates)))
        hint = near or f'add what one {written} is worth: currencies: {{base: {known.base}, rates: {{{written}: "…"}}}}'
        yield reading.marks.at((*at, "currency"), f"there is no rate for the currency {written}", hint)


class _Check:
    """The checks of one price."""

    def __init__(self, price: Price, at: Loc, config: Config, reading: Reading) -> None:
        self.price, self.at, self.config, self.reading = price, at, config, reading

    def run(self, channels: Mapping[str, object], meaning: Meaning) -> Iterator[Mistake]:
        yield from self._whose(channels, meaning)
        yield from currency(self.price.currency, self.at, self.config, self.reading)
        yield from self._says_something()
        yield from self._tiers()
        yield from self._schedules()

    def _say(self, word: str, message: str, hint: str | None = None, *, key: bool = False) -> Mistake:
        return self.reading.marks.at((*self.at, word), message, hint, key=key)

    def _whose(self, channels: Mapping[str, object], meaning: Meaning) -> Iterator[Mistake]:
        model, channel = self.price.model, self.price.channel
        if model is not None and channel is not None:
            yield self._say("channel", "a price is of a model or of a channel", "make it two prices", key=True)
        elif model is None and channel is None:
            yield self.reading.marks.at(self.at, "the price of what?", "add model: or channel:, and a name")
        elif self.reading.broken:
            return
        elif model is not None:
            said = meaning(model)
            if said is not None:
                yield self._say("model", f'"{model}" matches nothing', said)
        elif channel is not None and not any(matches(channel, name) for name in channels):
            hint = nearest(channel, dict.fromkeys(channels)) or "no channel has such a name"
            yield self._say("channel", f'there is no channel "{channel}"', hint)

    def _says_something(self) -> Iterator[Mistake]:
        price = self.price
        if all(getattr(price, word) is None for word in (*CHARGES, "request", "second")) and not price.tiers:
            yield self.reading.marks.at(self.at, "this price says no amount", 'add input and output, request or second; "0" is free')
        for word, part in (("cached", "input"), ("reasoning", "output")):
            if getattr(price, word) is not None and getattr(price, part) is None:
                said = f"{word} tokens have a price, but {part} tokens have none"
                yield self._say(word, said, f"they are part of them: add {part}", key=True)

    def _tiers(self) -> Iterator[Mistake]:
        last = 0
        for number, tier in enumerate(self.price.tiers):
            at: Loc = (*self.at, "tiers", number)
            if tier.over <= last:
                yield self.reading.marks.at((*at, "over"), f"tiers rise: this is not over {last}", "the shortest prompts first")
            last = max(last, tier.over)
            if all(getattr(tier, word) is None for word in CHARGES):
                yield self.reading.marks.at(at, "this tier changes nothing", "say what is otherwise: input, cached, output, reasoning")

    def _schedules(self) -> Iterator[Mistake]:
        price, known = self.price, self.config.schedules
        if price.during is not None and price.outside is not None:
            yield self._say("outside", "both during and outside", "a price is for one of them; make it two prices", key=True)
        written: Any = self.reading.data.get("schedules")
        for word, name in (("during", price.during), ("outside", price.outside)):
            if name is None or self.reading.broken or name in known or (isinstance(written, dict) and name in written):
                continue
            hint = nearest(name, known) or (f"known are: {', '.join(list(known)[:12])}" if known else "no schedule is configured")
            yield self._say(word, f'there is no schedule "{name[:64]}"', hint)

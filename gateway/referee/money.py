"""What requests come to in the currencies that limits on money count in: before, as an estimate, and afterwards. No clock, no I/O."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from gateway.config.resolved import Resolved
from gateway.config.resolved_limits import Limit
from gateway.exchange import Exchange
from gateway.price.bill import is_free, micros
from gateway.price.build import book_of
from gateway.price.entry import Priced, Use
from gateway.price.rates import Rates
from gateway.referee.rules import NO_MONEY, Money
from gateway.route.schedule import compile_schedule


def currencies_of(limits: Iterable[Limit]) -> Iterator[str]:
    """That limits on money count in."""
    return (limit.currency for limit in limits if limit.count == "money")


class Guess(NamedTuple):
    """What a request may use. told: how much of input and output is no guess."""

    input: int
    output: int
    told_input: int
    told_output: int


class Till:
    """Prices for limits; made only where some limit counts money. What has no price comes to nothing, and that is said (None)."""

    def __init__(self, config: Resolved, currencies: Iterable[str]) -> None:
        """currencies: of all limits on money. Raises ValueError when a schedule's zone is not known (any more)."""
        named = {name for price in config.prices for name in (price.during, price.outside) if name}
        schedules = {name: compile_schedule(config.schedules[name]).open_at for name in named}
        self.book = book_of(config, schedules)
        self.currencies = tuple(dict.fromkeys(currencies))
        self._rates = Rates(config.currencies)

    # -- a worker's ---------------------------------------------------------------------------------------------------

    def before(self, x: Exchange, guess: Guess, most: Mapping[str, int]) -> Money:
        """To be set aside. most: by currency, what a limit allows at all: a mere guess must not close a door for good."""
        model, tenant = x.virtual.name, x.key.tenant
        full = self.reserve(model, tenant, guess.input, guess.output, x.ts, tuple(most))
        if isinstance(full, int) or guess[:2] == guess[2:]:
            return full
        told = self.reserve(model, tenant, guess.told_input, guess.told_output, x.ts, tuple(most))
        known = {} if isinstance(told, int) else told
        return {code: max(known.get(code, 0), min(amount, most[code])) for code, amount in full.items()}

    def after(self, x: Exchange, now: float, currencies: tuple[str, ...]) -> Money | None:
        """What a request came to. now: monotonic seconds. None: nobody knows its price."""
        tokens, read = x.tokens, x.read - x.accepted if x.read else 0.0
        took = int((now - x.accepted) * 1_000_000) - int(read * 1_000_000) - int(x.queued * 1_000_000)
        use = Use(tokens.input, tokens.cached, tokens.output, tokens.reasoning, max(0, took))
        free = is_free(x.api, x.status, x.source, tokens.output)
        return self._spent(free, x.virtual.name, x.channel, x.key.tenant, use, x.ts, currencies)

    # -- the journal's ------------------------------------------------------------------------------------------------

    def recorded(self, record: Mapping[str, Any]) -> Money:
        """What a record came to, in every currency: the same as when its worker settled it."""
        tokens, ms = record.get("tokens", {}), record.get("ms", {})
        took = micros(ms.get("read", 0.0), ms.get("queue", 0.0), ms.get("total", 0.0))
        use = Use(tokens.get("in", 0), tokens.get("cached", 0), tokens.get("out", 0), tokens.get("reasoning", 0), took)
        who = record.get("model", ""), record.get("channel", ""), record.get("tenant", "")
        free = is_free(record.get("api", ""), record.get("status", 0), record.get("source", "none"), use.output)
        return self._spent(free, *who, use, float(record["ts"]), self.currencies) or NO_MONEY

    def reserved(self, record: Mapping[str, Any]) -> Money:
        """What was set aside for it, as far as a record tells."""
        tokens = record.get("reserved", {})
        who = record.get("model", ""), record.get("tenant", "")
        return self.reserve(*who, tokens.get("in", 0), tokens.get("out", 0), float(record["ts"]), self.currencies)

    # -- both ---------------------------------------------------------------------------------------------------------

    def reserve(self, model: str, tenant: str, input: int, output: int, ts: float, currencies: tuple[str, ...]) -> Money:
        """What it may come to, of several channels the dearest."""
        found: dict[str, int] = {}
        for priced in self.book.estimate(model, tenant, input, output, ts):
            for currency, amount in self._told(priced, currencies).items():
                found[currency] = max(amount, found.get(currency, 0))
        return found or NO_MONEY

    def _spent(self, free: bool, model: str, channel: str, tenant: str, use: Use, ts: float, currencies: tuple[str, ...]) -> Money | None:
        if free:
            return NO_MONEY
        priced = self.book.price(model, channel, tenant, use, ts)
        return None if priced is None else self._told(priced, currencies) or NO_MONEY

    def _told(self, priced: Priced, currencies: tuple[str, ...]) -> dict[str, int]:
        found = {one: self._rates.millionths(priced, one) for one in currencies}
        return {currency: amount for currency, amount in found.items() if amount}


def till_of(config: Resolved, currencies: Iterable[str]) -> Till | None:
    """None: no limit counts money."""
    wanted = tuple(dict.fromkeys(currencies))
    return Till(config, wanted) if wanted else None

"""How far budgets and other calendar limits on money are spent, and what will be spent at their period's end. Changes nothing."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from gateway.config.resolved import Key, Resolved
from gateway.config.resolved_limits import Limit
from gateway.price.forecast import forecast
from gateway.referee.gauges import Gauge
from gateway.referee.moment import Moment
from gateway.referee.rules import Placed
from gateway.referee.windows.calendar import calendar_of


class Spent(NamedTuple):
    """One budget. place: whose. used, budget, ahead (what will be used at the end): millionths. warned: the percent that are reached.

    stop: percent, 0 = never. begin, end: of its period, seconds since 1970."""

    place: str
    currency: str
    per: str
    used: int
    budget: int
    warned: tuple[int, ...]
    stop: int
    ahead: int
    begin: float
    end: float

    @property
    def percent(self) -> int:
        """Rounded down: 100 means that all is spent."""
        return self.used * 100 // self.budget


def budgets_of(config: Resolved, keys: Iterable[Key]) -> Iterator[Placed]:
    """Every budget with its place."""
    yield from ((place, limit) for place, limits in config.limits.items() for limit in limits if limit.budget)
    yield from ((f"keys/{key.id}", limit) for key in keys if key.limits for limit in key.limits if limit.budget)


def spent(gauges: Iterable[tuple[str, Gauge]], now: Moment) -> Iterator[Spent]:
    """gauges: each with its place; those of other limits are left out."""
    for place, gauge in gauges:
        limit = gauge.rule.limit
        if not limit.budget:
            continue
        used = max(0, gauge.window.used(now))
        begin, end = period(limit, now)
        warned = tuple(percent for percent in limit.warn if used * 100 >= limit.budget * percent)
        yield Spent(place, limit.currency, limit.per, used, limit.budget, warned, limit.stop, ahead(limit, used, now), begin, end)


def period(limit: Limit, now: Moment) -> tuple[float, float]:
    """Of a limit per day or month."""
    periods = calendar_of(limit.per, limit.zone)
    return periods.begin(now.wall), periods.end(now.wall)


def ahead(limit: Limit, used: int, now: Moment) -> int:
    """What will be used when the period is over, by the share of it that has passed."""
    begin, end = period(limit, now)
    return forecast(used, begin, now.wall, end)

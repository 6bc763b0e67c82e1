"""What limits are counted in: counters, the counters of one kind of request, what a request took of them, what it is told."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from gateway.referee.moment import Moment
from gateway.referee.pace import Pace
from gateway.referee.rules import Amounts, Rule
from gateway.referee.users import Users
from gateway.referee.windows import window_of

NEVER: Final = -1.0
"""In place of seconds to wait: waiting is of no use."""

Seed = Callable[[str], Mapping[int, int]]
"""What is kept on disk of a counter."""


class Gauge:
    """One counter of one rule. lent: loans that are out (see `lending`)."""

    __slots__ = ("lent", "name", "plans", "rule", "users", "window")

    def __init__(self, name: str, rule: Rule) -> None:
        self.name = name
        self.rule = rule
        self.window = window_of(rule.limit.per, rule.limit.zone)
        self.users = Users()
        self.plans = self.lent = 0


class Plan:
    """The counters of all requests of one key, model and address. key: whose. pace: how often it is asked for."""

    __slots__ = ("asked", "gauges", "key", "missing", "pace")

    def __init__(self, key: str, asked: Sequence[tuple[str, str]], gauges: tuple[Gauge | None, ...]) -> None:
        self.key = key
        self.asked = asked
        self.gauges = gauges
        self.missing = None in gauges
        self.pace = Pace()


class Lease(NamedTuple):
    """What one request took, or all that were lent for together. marks: where, of each counter; None = nothing."""

    plan: Plan
    amounts: Amounts
    marks: list[int | None]
    since: Moment


class Figures(NamedTuple):
    """The tightest limits of requests and of tokens: at most, left, seconds until all is free again. -1 = there is none."""

    requests: int = -1
    requests_left: int = -1
    requests_reset: float = 0.0
    tokens: int = -1
    tokens_left: int = -1
    tokens_reset: float = 0.0


class Verdict(NamedTuple):
    """number: which of the plan's limits refuses, -1 = granted. after: seconds until it might not, or NEVER. used: of it, now."""

    figures: Figures
    number: int = -1
    after: float = 0.0
    used: int = 0


Bucket = dict[str, dict[int | None, int]]
"""What is to be kept of requests that ended in the same second: counter → place → amount."""


def note(bucket: Bucket, counter: str, place: int | None, amount: int) -> None:
    """Adds to what is to be kept."""
    places = bucket.get(counter)
    if places is None:
        places = bucket[counter] = {}
    places[place] = places.get(place, 0) + amount

"""Limits as they are counted by: which of them a request comes under, and the name of each one's counter. No clock, no I/O."""

from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any, Final

from gateway.config.globs import matches
from gateway.config.resolved_limits import Limit, Limits
from gateway.referee.windows.rolling import SECONDS
from gateway.route.schedule import compile_schedule
from gateway.words import End

MEASURES: Final = {"requests": 0, "concurrency": 0, "input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
"""Where in a request's amounts stands what a limit counts."""
TOKENS: Final = frozenset({"input_tokens", "output_tokens", "total_tokens"})

Money = Mapping[str, int] | int
"""Millionths of each currency that is counted in; 0 = none of any."""
Amounts = tuple[int, int, int, int, Money]
"""1 (the request itself), input, output and all tokens, money."""
NO_MONEY: Final = 0
NONE: Final[Amounts] = (0, 0, 0, 0, NO_MONEY)
_LEFT: Final = End.CALLER + End.WAIT


def amounts(input: int, output: int, money: Money) -> Amounts:
    """What one request uses."""
    return 1, input, output, input + output, money


def is_unsaid(status: int, end: str, reason: str) -> bool:
    """Of a request whose tokens nobody told: whether an engine was at work on it all the same. Its answer came without counts, or its
    caller left before it came. reason: of its last attempt."""
    return status == 200 or (end == _LEFT and reason == "abandoned")


def _of(limit: Limit) -> Callable[[Amounts], int]:
    """What a limit counts of a request's amounts."""
    if limit.count != "money":
        found: Callable[[Amounts], Any] = itemgetter(MEASURES[limit.count])
        return found
    currency = limit.currency

    def money(amounts: Amounts) -> int:
        told = amounts[4]
        return 0 if isinstance(told, int) else told.get(currency, 0)

    return money


class Rule:
    """One limit of one place. What it allows may change while it counts; what it counts never does: that would be another rule.

    of: how much of a request's amounts it counts. place: `""`, `tenants/T`, `tenants/T/projects/P`, `keys/K`, `models/M`. most: the
    largest amount, None = any, when the limit is gone.
    """

    __slots__ = ("count", "each", "hours", "id", "limit", "most", "of", "place", "refused", "shadow", "shadowed", "soon", "sort")

    def __init__(self, place: str, limit: Limit, hours: "Hours") -> None:
        self.id = rule_id(place, limit)
        self.place = place
        self.count = limit.count
        self.of = _of(limit)
        self.sort = 1 if limit.count == "requests" else 2 if limit.count in TOKENS else 0
        self.soon = limit.count != "money" and (not limit.per or limit.per in SECONDS)
        self.refused = self.shadowed = 0
        self.adopt(limit, hours)

    def adopt(self, limit: Limit, hours: "Hours") -> None:
        """What a new revision says of it."""
        self.limit = limit
        self.most: int | None = limit.max
        self.each = limit.each
        self.shadow = limit.shadow
        self.hours = hours.of(limit)

    def vanish(self) -> None:
        """It is in no revision any more, but requests under the last one may still come."""
        self.most = None

    @property
    def scope(self) -> str:
        """`global`, `tenant`, `project`, `key` or `model`."""
        parts = self.place.split("/")
        return {"": "global", "tenants": "project" if len(parts) > 2 else "tenant", "keys": "key", "models": "model"}[parts[0]]

    def counter(self, key: str, ip: str, model: str) -> str:
        """The name of the counter of one caller."""
        each = self.each
        return f"{self.id}={key if each == 'key' else model if each == 'model' else ip}" if each else self.id


def rule_id(place: str, limit: Limit) -> str:
    """Who a limit is, over reloads: its place, and its name or what it counts. Another unit or zone makes it another one."""
    each = f"*{limit.each}" if limit.each else ""
    return f"{place}#{limit.word}|{limit.count}|{limit.per}|{limit.zone if limit.per in ('day', 'month') else ''}{limit.currency}{each}"


class Hours:
    """The schedules of a revision, as conditions on a limit."""

    def __init__(self, limits: Limits) -> None:
        self._schedules = {name: compile_schedule(schedule) for name, schedule in limits.schedules.items()}

    def of(self, limit: Limit) -> Callable[[float], bool] | None:
        """Whether a limit applies at a moment in seconds since 1970; None = always."""
        if limit.during:
            return self._schedules[limit.during].open_at
        if limit.outside:
            closed = self._schedules[limit.outside].open_at
            return lambda wall: not closed(wall)
        return None


Placed = tuple[str, Limit]


def matching(by: Mapping[str, tuple[Limit, ...]], own: Iterable[Limit], key: str, tenant: str, project: str, model: str) -> list[Placed]:
    """Every limit that a request comes under, with its place. own: the key's. What is wider comes first."""
    places = ("", f"models/{model}", f"tenants/{tenant}", f"tenants/{tenant}/projects/{project}")
    found = [(place, limit) for place in places for limit in by.get(place, ())]
    found += [(f"keys/{key}", limit) for limit in own]
    return [(place, limit) for place, limit in found if not limit.models or any(matches(glob, model) for glob in limit.models)]


def places_of(by: Mapping[str, tuple[Limit, ...]]) -> dict[str, Placed]:
    """All limits but those of keys, by rule."""
    return {rule_id(place, limit): (place, limit) for place, limits in by.items() for limit in limits}

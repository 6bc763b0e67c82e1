"""The compact form of limits: what is counted, how much of it may be used, and in which time. No I/O here."""

from typing import Final

from msgspec import Struct

from gateway.config.resolved_when import Schedule

MONEY: Final = 1_000_000
"""Money is counted in whole millionths of its unit, so that sums are exact."""
UNBOUNDED: Final = 2**62
"""The `max` of a budget that only warns."""
BUDGET: Final = "budget"
"""The name of the limit that a budget is."""


class Limit(Struct, frozen=True, array_like=True, gc=False):
    """At most `max` of `count` per `per`. See config.limits for the words. max: of money in millionths. per: "" for concurrency.

    budget: the whole of a budget in millionths, 0 = it is none; warn, stop: percent of it; stop 0 = never.
    """

    count: str
    max: int
    per: str = ""
    name: str = ""
    zone: str = "UTC"
    during: str = ""
    outside: str = ""
    each: str = ""
    models: tuple[str, ...] = ()
    shadow: bool = False
    currency: str = ""
    budget: int = 0
    warn: tuple[int, ...] = ()
    stop: int = 0

    @property
    def word(self) -> str:
        """What it is called among those of its place."""
        return self.name or self.count


class Limits(Struct, frozen=True, kw_only=True):
    """All limits but those of keys. by: place → its limits; a place is `""` (everybody), `tenants/T`, `tenants/T/projects/P`
    or `models/M`. on_loss: `local` or `refuse`, what workers do without control. workers: over how many what is local is shared."""

    by: dict[str, tuple[Limit, ...]] = {}
    on_loss: str = "local"
    workers: int = 1
    schedules: dict[str, Schedule] = {}

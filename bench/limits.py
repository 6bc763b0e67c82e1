"""What limits cost a request: `python bench/limits.py --limits 6`. How it is measured: `over_bus`."""

import asyncio
from collections.abc import Callable
from time import time
from typing import Any

from over_bus import Control, Frame, Given, Matter, Worker

from gateway.config.resolved_limits import Limit, Limits
from gateway.referee.claims import Claim
from gateway.referee.limits import Limiter
from gateway.referee.referee import Referee
from gateway.referee.rules import amounts
from gateway.referee.store import Store
from gateway.referee.terms import Table

MANY = 10**12
SIX = (
    ("tenants/acme", Limit("requests", MANY, "minute")),
    ("tenants/acme", Limit("total_tokens", MANY, "day", zone="Asia/Shanghai")),
    ("tenants/acme/projects/bot", Limit("requests", MANY, "hour")),
    ("", Limit("total_tokens", MANY, "minute")),
    ("", Limit("concurrency", MANY)),
    ("models/m", Limit("requests", MANY, "second")),
)
WANTED, USED = amounts(120, 256, 0), amounts(110, 80, 0)


def limits_of(number: int) -> Limits:
    by: dict[str, tuple[Limit, ...]] = {}
    for place, limit in SIX[:number]:
        by[place] = (*by.get(place, ()), limit)
    return Limits(by=by)


class Granting:
    """An exchange, as far as `granted` needs one."""

    reserved: object = None


def control(say: Callable[[int, Frame], None], given: Given) -> Control:
    store = Store(given.path.parent / "limits")
    store.load(time())
    referee = Referee(say, asyncio.get_running_loop(), store, given.workers)
    referee.adopt(limits_of(given.limits), lambda id: ("acme", "bot", ()), limited=True)
    return Control(referee, lambda: f"{len(referee.quotas.gauges)} counters", referee.run())


def worker(say: Callable[[Frame], bool], given: Given) -> Worker:
    limiter = Limiter(say, asyncio.get_running_loop())
    table = Table(limits_of(given.limits))
    limiter.adopt(table, given.path.parent / "limits")
    exchange: Any = Granting()

    async def take() -> Claim:
        terms = table.terms("k1", "acme", "bot", (), "m", "10.0.0.1")
        assert terms is not None
        claim = limiter.claim(terms, WANTED)
        if claim.waits:
            await limiter.granted(exchange, claim)
        claim.lines()
        return claim

    def give_back(claim: Claim) -> None:
        limiter.end(claim, USED, time(), "01234567-89ab-7cde-8f01-23456789abcd")

    return Worker(limiter, take, give_back)


if __name__ == "__main__":
    Matter("limits", "it may go on", control, worker, {"limits": 6}).main()

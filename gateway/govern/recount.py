"""What limits have counted that their files do not know yet, from the journal. For control, when it begins, and when a worker died.

A record counts when it has `reserved`: then its request was let through by some limit.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from gateway.config.aliases import names as names
from gateway.config.resolved import Key, Resolved
from gateway.config.resolved_limits import Limit
from gateway.meter.records import Records
from gateway.referee.money import Till, currencies_of, till_of
from gateway.referee.referee import Owner, Referee
from gateway.referee.rules import NO_MONEY, Amounts, amounts, is_unsaid
from gateway.referee.store import Store

Found = dict[str, Any]


def owners(keys: Iterable[Key]) -> Owner:
    """Who owns keys. Made when first asked: with a hundred thousand keys that takes a moment."""
    known: dict[str, Key] = {}

    def owner(id: str) -> tuple[str, str, tuple[Limit, ...]] | None:
        if not known:
            known.update((key.id, key) for key in keys)
        key = known.get(id)
        return (key.tenant, key.project, key.limits) if key is not None else None

    return owner


Say = Callable[[int, dict[str, Any]], object]


async def open_limits(say: Say, data_dir: Path, records: Records, config: Resolved, keys: Sequence[Key]) -> Referee:
    """Control's referee of limits, with what was counted before. say: sends a frame of ours to the worker of a slot."""
    store = Store(data_dir / "limits")
    since = await asyncio.to_thread(store.load, time.time())
    referee = Referee(say, asyncio.get_running_loop(), store, config.workers)
    adopt(referee, config, keys)
    await asyncio.to_thread(recount, records.since(since), referee, config)
    return referee


def adopt(referee: Referee, config: Resolved, keys: Sequence[Key]) -> None:
    """The limits of a new revision."""
    limited = bool(config.limits) or any(key.limits for key in keys)
    counted = [limits for limits in (*config.limits.values(), *(key.limits for key in keys)) if limits] if config.prices else []
    till = till_of(config, (currency for limits in counted for currency in currencies_of(limits)))
    referee.adopt(config.counted(), owners(keys), limited=limited, till=till)


def recount(records: Iterable[tuple[Found, float]], referee: Referee, config: Resolved) -> None:
    """records: each with when it ended, in seconds since 1970."""
    virtual = names(config)
    for record, ended in records:
        if record.get("reserved"):
            reserved = _reserved(record, referee.till)
            used = _used(record, reserved, referee.till)
            who = record.get("key", ""), virtual(record.get("model", "")), record.get("ip", "")
            referee.recount(record["id"], *who, used, reserved, float(record["ts"]), ended)


def killed(records: Iterable[Found], referee: Referee, config: Resolved) -> None:
    """Records of a dead worker that were just closed."""
    virtual = names(config)
    for record in records:
        if record.get("reserved"):
            who = record.get("key", ""), virtual(record.get("model", "")), record.get("ip", "")
            money = referee.till.recorded(record) if referee.till is not None else NO_MONEY
            referee.killed(*who, amounts(*_tokens(record), money), float(record["ts"]))


def _used(record: Found, reserved: Amounts, till: Till | None) -> Amounts:
    """As the worker settled it, see `claims.unsaid`."""
    if record.get("source", "none") == "none":
        status, attempts = record.get("status", 0), record.get("attempts", ())
        if is_unsaid(status, record.get("end", ""), attempts[-1].get("reason", "") if attempts else ""):
            if status == 200 or not record.get("stream"):
                return reserved
            return _reserved({**record, "reserved": {"in": record["reserved"].get("in", 0)}}, till)
    return amounts(*_tokens(record), till.recorded(record) if till is not None else NO_MONEY)


def _tokens(record: Found) -> tuple[int, int]:
    tokens = record.get("tokens", {})
    return int(tokens.get("in", 0)), int(tokens.get("out", 0))


def _reserved(record: Found, till: Till | None) -> Amounts:
    tokens = record["reserved"]
    money = till.reserved(record) if till is not None else NO_MONEY
    return amounts(int(tokens.get("in", 0)), int(tokens.get("out", 0)), money)

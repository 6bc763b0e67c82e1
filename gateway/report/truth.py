"""Is what the ledger says true? Keeps how the engines' own counters grow, compares both once an hour, and tells alerts and metrics.

Owns no data: increases and last values are in the ledger, together, so that `kill -9` loses nothing that an engine still shows.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from gateway.admin.desk import Failed
from gateway.alert.facts import Drift
from gateway.alert.facts import Ledger as LedgerSeen
from gateway.config.aliases import names
from gateway.config.resolved import Resolved
from gateway.discover.endpoints import Endpoints
from gateway.discover.look import Look
from gateway.ledger.growth import Growth
from gateway.ledger.keeper import Ledger
from gateway.ledger.reconcile import BYPASSED, ENOUGH, HOUR, INCOMPLETE, MISSING, UNCERTAIN, UNKNOWN, Stretch, compared
from gateway.ledger.store import StoreFailure
from gateway.meter.underway import underway
from gateway.moment import stroke
from gateway.report.unusual import LATE, Hours, unusual

log = logging.getLogger("gateway.truth")

TICK: Final = 1.0
AFTER_A_FAULT: Final = 60.0
KEEP_EVERY: Final = 30.0
COUNT_EVERY: Final = 20.0
DAY: Final = 86_400.0


class Truth:
    """Control's. Everything that it is asked for may raise Failed."""

    def __init__(
        self, ledger: Ledger, journal: Path, endpoints: Endpoints | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        """endpoints: whose counters are kept; None = nobody's, for who only reads."""
        self._ledger, self._journal, self._endpoints, self._clock = ledger, journal, endpoints, clock
        self._growth: Growth | None = None
        self._kept = self._counted = time.monotonic()
        self._hour = 0.0
        self.hours = Hours(lambda: ledger.store if ledger.ready() else None, clock)
        self.last: list[dict[str, Any]] | None = None
        """The newest hour that is over, as `reconcile` tells it; None = not compared yet."""
        self.unpriced: dict[str, int] | None = None
        """Requests without an amount in the last day, by model."""
        self._aside = 0
        if endpoints is not None:
            endpoints.on_figures = self._seen

    # -- always ---------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled. What the ledger cannot take now is tried again."""
        while True:
            try:
                await self._turn()
            except StoreFailure:  # the ledger itself says it
                pass
            except Exception:  # what is compared must stop nobody from being served
                log.exception("engines and ledger could not be compared")
                await asyncio.sleep(AFTER_A_FAULT)
            await stroke(TICK)

    async def close(self) -> None:
        """Keeps what has come."""
        with contextlib.suppress(StoreFailure):
            await self._keep()

    def _seen(self, look: Look) -> None:
        load = look.vitals.load
        if self._growth is not None and load.generation_tokens is not None:
            key = (look.channel.name, look.endpoint.url)
            self._growth.see(key, int(load.prompt_tokens or 0), int(load.generation_tokens), self._clock())

    async def _turn(self) -> None:
        now = time.monotonic()
        if self._growth is None:
            self._growth = Growth(await self._ledger.act(lambda store, ingest: store.last_counters()))
            await self._count()
        if now - self._kept >= KEEP_EVERY:
            self._kept = now
            await self._keep()
        if now - self._counted >= COUNT_EVERY:
            self._counted = now
            await self._count()
        over = (self._clock() - LATE) // HOUR * HOUR
        if over != self._hour:
            await self._keep()
            self.last = await self._compared(over - HOUR, over)
            self._hour = over

    async def _keep(self) -> None:
        if self._growth is None or self._endpoints is None:
            return
        self._growth.forget(self._endpoints.looks())
        increases, last = self._growth.take()
        if not increases:
            return
        try:
            await self._ledger.act(lambda store, ingest: store.note_counters(increases, last))
        except StoreFailure:
            self._growth.give_back(increases)
            raise

    async def _count(self) -> None:
        """What alerts look at more often than once an hour."""
        since = self._clock() - DAY
        moment = "make_timestamp(CAST(? * 1000000 AS BIGINT))"
        free = f"SELECT model, count(*) FROM usage WHERE ts >= {moment} AND amount IS NULL AND tokens_in + tokens_out > 0 GROUP BY model"
        self.unpriced = dict((await self._ledger.query(free, [since])).rows)
        aside = await self._ledger.query(f"SELECT count(*) FROM quarantine WHERE noted_at >= {moment}", [since])
        self._aside = aside.rows[0][0]

    async def _compared(self, since: float, until: float) -> list[dict[str, Any]]:
        now = self._clock()

        def stretches() -> list[Stretch]:
            found = underway(self._journal)
            return [(one.channel, one.endpoint, one.begun, now, one.tokens.input, one.tokens.output) for one in found if one.begun < now]

        open_now = await asyncio.to_thread(stretches)
        return await self._ledger.read(lambda store: compared(store, since, until, now, open_now))

    # -- alerts and metrics ---------------------------------------------------------------------------------------------

    def ledger_seen(self) -> LedgerSeen | None:
        """None: it is not open yet."""
        told = self._ledger.told()
        return LedgerSeen(told["lag"], told["trouble"], self._aside) if told["state"] != "opening" else None

    def drifts(self) -> list[Drift] | None:
        """Channels whose engines counted something else than the ledger has, in the last hour that is over."""
        if self.last is None:
            return None
        wrong = [row for row in self.last if row["state"] in (BYPASSED, MISSING) and row["coverage"] >= ENOUGH]
        return [Drift(row["channel"], row["percent"], row["drift"], row["hour"]) for row in wrong]

    def ratios(self) -> dict[str, float]:
        """For /metrics: of each channel, what its engines counted beyond the ledger, as a share of the larger."""
        rows = self.last or ()
        return {row["channel"]: row["percent"] / 100 for row in rows if row["state"] not in (UNKNOWN, INCOMPLETE, UNCERTAIN)}

    def without_price(self, config: Resolved | None) -> dict[str, int]:
        """For /metrics: the same as `unpriced`, by virtual model; "" = of models that the configuration no longer has."""
        found: dict[str, int] = {}
        if config is not None:
            name, found = names(config), dict.fromkeys(config.models, 0) if self.unpriced is not None else {}
            for model, requests in (self.unpriced or {}).items():
                known = name(model) if name(model) in config.models else ""
                found[known] = found.get(known, 0) + requests
        return found

    # -- for people -----------------------------------------------------------------------------------------------------

    async def reconcile(self, since: float, channel: str = "") -> list[dict[str, Any]]:
        """Engines and ledger since then (Unix seconds), by hour and channel; see `ledger.reconcile.judged`."""
        try:
            with contextlib.suppress(StoreFailure):
                await self._keep()
            rows = await self._compared(since, self._clock())
        except StoreFailure as failure:
            raise Failed(f"the ledger: {failure}") from failure
        return [row for row in rows if channel in ("", row["channel"])]

    async def anomalies(self, since: float, sensitivity: str) -> list[dict[str, Any]]:
        """Hours since then that are out of the ordinary; see `unusual.unusual`."""
        now = self._clock()
        try:
            return await self._ledger.read(lambda store: unusual(store, since, now, sensitivity))
        except StoreFailure as failure:
            raise Failed(f"the ledger: {failure}") from failure

"""The ledger's desk: what an operator may ask of it, and what may be done with it, each act with its line in the audit log."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any

from gateway.admin.desk import Failed, Misasked
from gateway.ledger.ingest import Ingest
from gateway.ledger.keeper import Ledger
from gateway.ledger.records import find, newest
from gateway.ledger.scratch import pieces_of, written
from gateway.ledger.store import Format, Store, StoreFailure
from gateway.meter.records import MOST_ALIKE

_numbers = count(1)


class Books:
    """What `admin.desk.LedgerDesk` says."""

    def __init__(self, ledger: Ledger, note: Callable[..., Awaitable[str]]) -> None:
        """note: writes a line of the audit log, see `Audit.note`."""
        self._ledger = ledger
        self._note = note
        self._copying = asyncio.Lock()

    def status(self) -> dict[str, Any]:
        return self._ledger.told()

    async def verify(self) -> dict[str, Any]:
        started = time.monotonic()
        wrong = await self._do(lambda store, ingest: ingest.verify())
        return {"ok": not wrong, "wrong": wrong, "rows": self._ledger.told()["rows"], "seconds": round(time.monotonic() - started, 3)}

    async def compact(self, *, by: str) -> dict[str, Any]:
        async def doing() -> dict[str, Any]:
            before, after = await self._do(lambda store, ingest: store.compact())
            return {"before": before, "after": after}

        return await self._noted("ledger compact", by, doing())

    async def archive(self, *, by: str) -> dict[str, Any]:
        def work(store: Store, ingest: Ingest) -> list[dict[str, Any]]:
            ingest.catch_up()
            made = ingest.archive(late=0.0)
            ingest.bundle(young=0.0)
            return [{"name": one.name, "month": one.month, "rows": one.rows, "bytes": one.bytes} for one in made]

        async def doing() -> dict[str, Any]:
            return {"archived": await self._do(work)}

        return await self._noted("ledger archive", by, doing())

    async def rebuild(self, force: bool, *, by: str) -> dict[str, Any]:
        async def doing() -> dict[str, Any]:
            lost = await self._do(lambda store, ingest: ingest.rebuild(force=force))
            return {"rebuilt": force or not lost, "lost": lost, "rows": self._ledger.told()["rows"]}

        return await self._noted(f"ledger rebuild{' --force' if force else ''}", by, doing())

    async def export(self, form: Format, since: float, until: float) -> AsyncIterator[bytes]:
        """The file, piece by piece. What goes wrong goes wrong before the first one."""
        path = await self._exported(form, since, until)
        return pieces_of(path)

    async def _exported(self, form: Format, since: float, until: float) -> Path:
        def work(store: Store) -> Path:
            with written(store.scratch / f"export-{next(_numbers)}.{form}") as path:
                store.export(path, since, until, form)
            return path

        try:
            return await self._ledger.read(work)
        except StoreFailure as failure:
            raise Failed(f"the ledger: {failure}") from failure

    async def copy(self) -> AsyncIterator[bytes]:
        """The database as a file, piece by piece. What goes wrong goes wrong before the first one."""

        def work(store: Store) -> Path:
            path = store.scratch / f"copy-{next(_numbers)}.duckdb"
            try:
                store.copy(path)
            except BaseException:
                for left in path.parent.glob(f"{path.name}*"):
                    left.unlink(missing_ok=True)
                raise
            return path

        async with self._copying:
            try:
                return pieces_of(await self._ledger.read(work))
            except StoreFailure as failure:
                raise Failed(f"the ledger: {failure}") from failure

    # -- records -------------------------------------------------------------------------------------------------------

    async def newest(self, limit: int, before: float) -> list[dict[str, Any]]:
        """Requests that began before (Unix seconds), the oldest first; none when the ledger cannot say."""
        try:
            return await self._ledger.read(lambda store: newest(store, limit, before))
        except StoreFailure:
            return []

    async def find(self, id: str, settled: list[dict[str, Any]]) -> dict[str, Any] | None:
        """The request of this id, or of the beginning of one. settled: those that the journal has. Misasked: several begin so."""
        found = {record["id"]: record for record in settled}
        if not any(id in (record["id"], record.get("trace")) for record in settled):
            with contextlib.suppress(StoreFailure):
                found = {record["id"]: record for record in await self._ledger.read(lambda store: find(store, id, MOST_ALIKE))} | found
        exact = [record for record in found.values() if id in (record["id"], record.get("trace"))]
        if not exact and len(found) > 1:
            alike = sorted(found, reverse=True)
            many = f"{len(found)} requests or more" if len(found) >= MOST_ALIKE else f"{len(found)} requests"
            raise Misasked(f"{many} begin with {id}, say more of the one you mean: {', '.join(alike[:MOST_ALIKE])}")
        return next(iter(exact or found.values()), None)

    # -- acts ----------------------------------------------------------------------------------------------------------

    async def _do(self, work: Callable[[Store, Ingest], Any]) -> Any:
        try:
            return await self._ledger.act(work)
        except StoreFailure as failure:
            raise Failed(f"the ledger: {failure}") from failure

    async def _noted(self, what: str, by: str, doing: Awaitable[dict[str, Any]]) -> dict[str, Any]:
        try:
            answer = await doing
        except Exception as error:
            await self._note(what, by=by, ok=False, message=str(error))
            raise
        unaudited = await self._note(what, by=by, after=answer)
        return {**answer, "unaudited": unaudited} if unaudited else answer

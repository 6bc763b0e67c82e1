"""The reports' desk: what may be asked of the ledger, by control while it runs and by `gateway ledger` when it does not. Same code, same
answers."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import msgspec

from gateway.admin.desk import Failed, Misasked
from gateway.config.aliases import names
from gateway.config.resolved import Key, Resolved
from gateway.ledger.capacity import capacity
from gateway.ledger.figures import text
from gateway.ledger.keeper import Ledger
from gateway.ledger.question import BadQuestion, Question, period_before
from gateway.ledger.report import flat, report
from gateway.ledger.scratch import pieces_of, written
from gateway.ledger.store import Ask, Format, Repriced, Store, StoreFailure
from gateway.price.book import PriceBook
from gateway.price.build import book_of
from gateway.report.spending import budgets, forecasts
from gateway.route.schedule import compile_schedule

T = TypeVar("T")
Told = dict[str, Any]
SECONDS: Final = 120.0
"""That one report may take."""
QUESTIONS_MOST: Final = 20
_numbers = count(1)


class Questions(msgspec.Struct, forbid_unknown_fields=True):
    """Answered of one moment, so that their totals agree."""

    questions: tuple[Question, ...]


class Forecast(msgspec.Struct, forbid_unknown_fields=True):
    """per: what is forecast, the end of the day or of the month."""

    by: tuple[str, ...] = ()
    where: dict[str, tuple[str, ...]] = {}
    zone: str = "UTC"
    top: int = 10
    per: Literal["day", "month"] = "month"


class Reprice(msgspec.Struct, forbid_unknown_fields=True):
    """models: globs; none = all. dry: change nothing."""

    since: float
    until: float
    models: tuple[str, ...] = ()
    dry: bool = False


def ledger_book(config: Resolved) -> PriceBook:
    """The price book for the ledger alone: what it remembers is not for two threads."""
    return book_of(config, {name: compile_schedule(schedule).open_at for name, schedule in config.schedules.items()})


class Reports:
    """What `admin.desk.ReportDesk` says."""

    def __init__(
        self,
        ledger: Ledger,
        config: Callable[[], Resolved],
        keys: Callable[[], Sequence[Key]],
        note: Callable[..., Awaitable[str]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """note: writes a line of the audit log, see `Audit.note`. clock: Unix seconds."""
        self._ledger, self._config, self._keys, self._note, self._clock = ledger, config, keys, note, clock

    async def report(self, asked: Told) -> Told:
        wanted = _understood(asked, Questions).questions
        if len(wanted) > QUESTIONS_MOST:
            raise Misasked(f"{QUESTIONS_MOST} questions at once are enough")
        rates = self._config().currencies
        found = await self._read(lambda ask: [report(ask, one, rates) for one in wanted])
        return {"reports": found, "absent": self._absent(wanted)}

    def _absent(self, asked: Sequence[Question]) -> list[str]:
        """Archives that the answers had to do without."""
        facts, found = self._ledger.facts, set()
        for one in asked:
            since = period_before(one.since, one.until, one.tz) if one.before else one.since
            found |= {archive.name for archive in facts.archives if archive.first < one.until and archive.last >= since}
        return sorted(found & set(facts.absent))

    async def capacity(self, asked: Told) -> Told:
        question, costs, now = _understood(asked, Question), self._config().costs, self._clock()
        return {"capacity": await self._read(lambda ask: capacity(ask, question, costs, now))}

    async def budgets(self) -> Told:
        config, keys, now = self._config(), list(self._keys()), self._clock()
        return {"budgets": await self._read(lambda ask: budgets(ask, config, keys, names(config), now))}

    async def forecast(self, asked: Told) -> Told:
        wanted, now, rates = _understood(asked, Forecast), self._clock(), self._config().currencies
        question = Question(since=0, until=now, by=wanted.by, where=wanted.where, zone=wanted.zone, top=wanted.top)
        return {"forecast": await self._read(lambda ask: forecasts(ask, question, rates, now, wanted.per))}

    async def reprice(self, asked: Told, *, by: str) -> Told:
        wanted = _understood(asked, Reprice)
        if not 0 <= wanted.since <= wanted.until <= 253_402_300_799:
            raise Misasked("since is after until")
        what = f"cost reprice{''.join(f' --model {glob}' for glob in wanted.models)}"
        try:
            done = await self._ledger.act(lambda store, ingest: store.reprice(wanted.since, wanted.until, wanted.models, dry=wanted.dry))
        except StoreFailure as failure:
            if not wanted.dry:
                await self._note(what, by=by, ok=False, message=str(failure))
            raise Failed(f"the ledger: {failure}") from failure
        answer = {"since": wanted.since, "until": wanted.until, "dry": wanted.dry, **_repriced(done)}
        if wanted.dry:
            return {"repriced": answer}
        before = [
            f"{one['model']}: {one['requests']} at {one['rev_before'] or 'no price'}, {_sum(one, 'before')}" for one in answer["changes"]
        ]
        after = [f"{one['model']}: {one['requests']} at {one['rev'] or 'no price'}, {_sum(one, 'after')}" for one in answer["changes"]]
        unaudited = await self._note(what, by=by, before=before, after=after, message=f"{done.changed} of {done.rows} requests")
        return {"repriced": {**answer, "unaudited": unaudited} if unaudited else answer}

    async def write(self, asked: Told, form: Format) -> AsyncIterator[bytes]:
        """A report as a file, piece by piece. What goes wrong goes wrong before the first one."""
        question = _understood(asked, Question)

        def work(store: Store) -> Path:
            sql, params = flat(question, form)
            with written(store.scratch / f"report-{next(_numbers)}.{form}") as path:
                store.write(path, sql, params, form)
            return path

        path = await self._done(work)
        return pieces_of(path)

    async def _read(self, work: Callable[[Ask], T]) -> T:
        return await self._done(lambda store: store.together(work, seconds=SECONDS))

    async def _done(self, work: Callable[[Store], T]) -> T:
        try:
            return await self._ledger.read(work)
        except BadQuestion as bad:
            raise Misasked(str(bad)) from bad
        except StoreFailure as failure:
            raise Failed(f"the ledger: {failure}") from failure


def _understood(asked: Told, kind: type[T]) -> T:
    try:
        return msgspec.convert(asked, kind)
    except msgspec.ValidationError as error:
        raise Misasked(f"this cannot be asked: {error}") from error


def _repriced(done: Repriced) -> Told:
    return {
        "requests": done.rows,
        "changed": done.changed,
        "costs": done.costs,
        "archived": done.archived,
        "archives": done.archives,
        "absent": done.absent,
        "changes": [
            {
                "model": one.model, "requests": one.rows, "rev_before": one.rev_before, "currency_before": one.currency_before or None,
                "before": None if one.before is None else text(one.before),
                "rev": one.rev, "currency": one.currency or None, "after": None if one.after is None else text(one.after),
            }
            for one in done.changes
        ],
    }  # fmt: skip


def _sum(change: Told, side: str) -> str:
    currency = change["currency_before" if side == "before" else "currency"] or ""
    return "unknown" if change[side] is None else f"{change[side]} {currency}".rstrip()

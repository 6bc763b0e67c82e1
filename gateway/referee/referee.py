"""Control's end of the limits: counts for all workers, answers each frame with one, and keeps what was counted.

When control begins it waits a moment until each worker has said what its requests hold. The frames are described in `limits`.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Final

from gateway.config.resolved_limits import Limit, Limits
from gateway.moment import stroke
from gateway.referee.budgets import Spent, spent
from gateway.referee.gauges import NEVER, Gauge, Plan, note
from gateway.referee.lending import Lending, Parked
from gateway.referee.limits import ASK, FORGET, LEFT, OVER, TERMS
from gateway.referee.loans import BACK, PART
from gateway.referee.moment import Moment
from gateway.referee.money import Till
from gateway.referee.quotas import Quotas
from gateway.referee.rules import NONE, Amounts, Hours, Placed, Rule, amounts, matching, places_of, rule_id
from gateway.referee.store import DELAY, Store, write
from gateway.referee.view import counters
from gateway.referee.windows import Window, window_of

log = logging.getLogger("gateway.referee")

GATHER: Final = 1.0
"""Seconds that control waits at most for workers to say what they hold."""
WRITE_EVERY: Final = 2.0
SWEEP_EVERY: Final = 30.0
QUIET: Final = 60.0
"""Seconds between two notes of how far the files reach, when nothing was counted."""
INFINITE: Final = float("inf")
SLICE: Final = 2_000
"""Counters looked at between two pauses."""

Owner = Callable[[str], tuple[str, str, tuple[Limit, ...]] | None]
"""Tenant, project and limits of a key's id; None = there is no such key."""


class Referee:
    """Decides for all workers. It needs its loop and the files; everything else is `Quotas`."""

    def __init__(self, say: Callable[[int, dict[str, Any]], object], loop: asyncio.AbstractEventLoop, store: Store, workers: int) -> None:
        """say: sends a frame of ours to the worker of a slot. workers: how many are expected to say what they hold."""
        self._say = say
        self._loop = loop
        self._store = store
        self.quotas = Quotas(store.get)
        self._lending = Lending(self.quotas, self._recall, self._again, loop)
        self._rules: dict[str, Rule] = {}
        self._placed: dict[str, Placed] = {}
        self._by: dict[str, tuple[Limit, ...]] = {}
        self._hours = Hours(Limits())
        self._key: Owner = lambda id: None
        self.till: Till | None = None
        """None: no limit counts money."""
        self._plans: dict[int, dict[int, Plan]] = {}
        self._windows: dict[str, Window] = {}
        self._read: dict[int, int] = {}
        self._unheard: dict[int, float] = {}
        self._pids: dict[int, int] = {}
        self._told_until = time.time() - DELAY
        self._replayed: set[str] = set()
        """What ended before control began, the journal told: all until a moment before, and after that these records."""
        self._missing = workers
        self._early: dict[int, list[list[Any]]] | None = {}
        self._begins = loop.call_later(GATHER, self._begin)

    # -- the configuration --------------------------------------------------------------------------------------------

    def adopt(self, limits: Limits, key: Owner, *, limited: bool, till: Till | None = None) -> None:
        """The limits of a new revision; what is counted goes on. limited: whether there are any, those of keys included."""
        self.till = till
        if limited:
            self._store.begin()
        self._by, self._key = limits.by, key
        self._placed = places_of(limits.by)
        self._hours = Hours(limits)
        for id, rule in self._rules.items():
            placed = self._find(id)
            if placed is None:
                rule.vanish()
            else:
                rule.adopt(placed[1], self._hours)
        self._lending.recall()
        now = self._now()
        for plans in self._plans.values():
            for plan in plans.values():
                if plan.missing:
                    self.quotas.complete(plan, self._rule, now)

    def _find(self, id: str) -> Placed | None:
        place = id.partition("#")[0]
        if not place.startswith("keys/"):
            return self._placed.get(id)
        known = self._key(place[5:])
        return next(((place, limit) for limit in known[2] if rule_id(place, limit) == id), None) if known is not None else None

    def _rule(self, id: str) -> Rule | None:
        rule = self._rules.get(id)
        if rule is None or rule.most is None:
            placed = self._find(id)
            if placed is None:
                return None
            if rule is None:
                rule = self._rules[id] = Rule(*placed, self._hours)
            else:
                rule.adopt(placed[1], self._hours)
        return rule

    # -- workers ------------------------------------------------------------------------------------------------------

    def greet(self, slot: int, pid: int) -> None:
        """A worker is here, for the first time or again. Until it has said what it holds, what was known of it stands."""
        if self._pids.get(slot, pid) != pid:
            self.quotas.bury(slot)
        self._pids[slot] = pid
        self._unheard.setdefault(slot, time.time())
        self._say(slot, {"n": 0, "tell": True})

    def lost(self, slot: int) -> None:
        """A worker is gone. If only its connection is, it says again what it holds."""
        if self._early is not None:
            self._early.pop(slot, None)
        self._unheard.pop(slot, None)
        self.quotas.forget(slot)
        self._lending.lost(slot)
        self._forget_terms(slot)

    def heard(self, slot: int, frame: dict[str, Any]) -> None:
        """A frame from a worker."""
        ops: list[list[Any]] = frame["ops"]
        number = self._read[slot] = frame["n"]
        if "hold" in frame:
            self._take_over(slot, frame)
        if self._early is None:
            said = self._do(slot, ops)
        else:
            said = []
            if "hold" in frame:
                self._missing -= slot not in self._early
                self._early[slot] = ops
            else:
                self._early.setdefault(slot, []).extend(ops)
        if said or "hold" in frame or any(op[0] == ASK for op in ops):  # it wants to know that we are here
            self._say(slot, {"n": number, "said": said})
        if self._early is not None and self._missing <= 0:
            self._begin()

    def _begin(self) -> None:
        """From now on questions are answered."""
        self._begins.cancel()
        early, self._early = self._early or {}, None
        for slot, ops in early.items():
            said = self._do(slot, ops)
            if said:
                self._say(slot, {"n": self._read[slot], "said": said})

    def _do(self, slot: int, ops: list[list[Any]]) -> list[list[Any]]:
        """In their order: an end that was noted after its question must not come before it."""
        now, quotas, said, back = self._now(), self.quotas, [], False
        plans = self._plans.get(slot) or {}
        for op in ops:
            kind = op[0]
            if kind == ASK:
                plan = plans[op[2]]
                plan.pace.note(1, now.mono)
                answer = self._ask(slot, op, plan, now)
                if answer is not None:
                    said.append(answer)
            elif kind == OVER:
                _, lease, input, output, money, ended = op
                used = (1, input, output, input + output, money)
                quotas.settle(slot, lease, used, Moment(now.mono, ended), self._store.bucket(ended))
            elif kind == PART:
                _, loan, many, input, output, used_input, used_output, ended = op
                took, used = (many, input, output, input + output, 0), (many, used_input, used_output, used_input + used_output, 0)
                quotas.part(slot, loan, took, used, Moment(now.mono, ended), self._store.bucket(ended))
            elif kind == BACK:
                _, loan, many, input, output = op
                quotas.part(slot, loan, (many, input, output, input + output, 0), NONE, now)
                self._lending.back(slot, loan)
                back = True
            elif kind == LEFT:
                quotas.undo(slot, op[1])
                self._lending.left(slot, op[1])
            elif kind == TERMS:
                plans = self._learn(slot, op, now)
            elif kind == FORGET:
                self._forget_terms(slot)
                plans = {}
        if back:
            self._lending.resume()
        return said

    def _ask(self, slot: int, op: list[Any], plan: Plan, now: Moment, until: float = 0.0) -> list[Any] | None:
        """The answer to a question; None: it waits for what is lent. until: of one that has waited already."""
        _, lease, _, input, output, money, wants = op
        wanted = (1, input, output, input + output, money)
        figures, number, after, beyond = self.quotas.ask(slot, lease, plan, wanted, now)
        if number >= 0:
            full = plan.gauges[number]
            assert full is not None
            if after != NEVER and self._lending.waits(slot, op, plan, full, now, until):
                return None
            full.rule.refused += 1
            return [lease, *figures, number, after, beyond]
        loan = self._lending.offer(slot, plan, wanted, now) if wants else None
        return [lease, *figures] if loan is None else [lease, *figures, loan]

    def _again(self, parked: list[Parked]) -> None:
        """Questions that waited."""
        now = self._now()
        said: dict[int, list[list[Any]]] = {}
        for slot, op, plan, until in parked:
            answer = self._ask(slot, op, plan, now, until)
            if answer is not None:
                said.setdefault(slot, []).append(answer)
        for slot, answers in said.items():
            self._say(slot, {"n": self._read[slot], "said": answers})

    def _recall(self, slot: int) -> None:
        self._say(slot, {"n": self._read.get(slot, 0), "said": [], "recall": True})

    def _learn(self, slot: int, op: list[Any], now: Moment) -> dict[int, Plan]:
        plans = self._plans.setdefault(slot, {})
        _, number, key, asked = op
        plans[number] = self.quotas.plan(key, asked, self._rule, now)
        return plans

    def _forget_terms(self, slot: int) -> None:
        for plan in self._plans.pop(slot, {}).values():
            self.quotas.drop(plan)

    def _take_over(self, slot: int, frame: dict[str, Any]) -> None:
        """What a worker's requests hold, and what ended while nobody listened. What the journal told already is known."""
        now = self._now()
        self._unheard.pop(slot, None)
        self._forget_terms(slot)
        for op in frame["terms"]:
            self._learn(slot, op, now)
        plans = self._plans.setdefault(slot, {})
        over = [one for one in frame["over"] if one[9] >= self._told_until and one[10] not in self._replayed]
        told = {one[0]: (plans[one[1]], amounts(*one[2:5]), now.ago(one[5])) for one in (*frame["hold"], *over)}
        self.quotas.reassert(slot, told)
        self._lending.lost(slot)
        for one in over:
            self.quotas.settle(slot, one[0], amounts(*one[6:9]), Moment(now.mono, one[9]), self._store.bucket(one[9]))

    def _now(self) -> Moment:
        return Moment(self._loop.time(), time.time())

    # -- what is known ------------------------------------------------------------------------------------------------

    async def counters(self, placed: Iterable[Placed], *, key: str = "", model: str = "") -> list[dict[str, Any]]:
        """Of these limits, see `view`. key, model: only theirs, where each has its own."""
        now, rules = self._now(), []
        for place, limit in placed:
            id = rule_id(place, limit)
            if not limit.each and (key or not place.startswith("keys/")):  # few enough to be looked up on the disk
                self.quotas.look_up(self._rule(id), id, now)
            rules.append(((place, limit), self._rules.get(id)))
        return await counters(self.quotas, rules, now, key, model)

    def budgets(self, placed: Iterable[Placed]) -> list[Spent]:
        """Those of these limits that are budgets (`budgets_of`), and how far each is spent: cheap, for whoever warns of them."""
        now, found = self._now(), []
        for place, limit in placed:
            if limit.budget:
                id = rule_id(place, limit)
                self.quotas.look_up(self._rule(id), id, now)
                gauge = self.quotas.gauges.get(id)
                if gauge is not None:
                    found.append((place, gauge))
        return list(spent(found, now))

    def refusals(self) -> dict[tuple[str, str, bool], int]:
        """Requests refused, or that a shadow would have refused (True), by scope and what was counted."""
        found: dict[tuple[str, str, bool], int] = {}
        for rule in self._rules.values():
            for shadow, number in ((False, rule.refused), (True, rule.shadowed)):
                if number or shadow == rule.shadow:
                    labels = rule.scope, rule.count, shadow
                    found[labels] = found.get(labels, 0) + number
        return found

    # -- the journal --------------------------------------------------------------------------------------------------

    def recount(self, record: str, key: str, model: str, ip: str, used: Amounts, reserved: Amounts, begun: float, ended: float) -> None:
        """When control begins: a request of the journal that the files do not know. Times in seconds since 1970."""
        if ended >= self._told_until:
            self._replayed.add(record)
        for rule, name in self._matching(key, model, ip):
            spent = rule.of(used)
            if rule.count == "concurrency" or not spent or (rule.hours is not None and not rule.hours(begun)):
                continue
            if not self._store.knows(name, ended):
                window = self._windows.get(rule.id) or self._windows.setdefault(rule.id, window_of(rule.limit.per, rule.limit.zone))
                took = min(spent, rule.of(reserved) or spent)
                bucket = self._store.bucket(ended)
                note(bucket, name, window.place(begun), took)
                note(bucket, name, window.place(ended), spent - took)

    def killed(self, key: str, model: str, ip: str, used: Amounts, begun: float) -> None:
        """A dead worker's request was found and closed: its tokens count now. That it was made counts already."""
        now = self._now()
        bucket = self._store.bucket(now.wall)
        for rule, name in self._matching(key, model, ip):
            spent = rule.of(used)
            if rule.count == "concurrency" or not spent or (rule.hours is not None and not rule.hours(begun)):
                continue
            gauge = self.quotas.gauges.get(name) or Gauge(name, rule)
            if rule.count != "requests":
                gauge.window.add(spent, now.at(begun))
            note(bucket, name, gauge.window.place(begun), spent)

    def _matching(self, key: str, model: str, ip: str) -> Iterable[tuple[Rule, str]]:
        tenant, project, own = self._key(key) or ("", "", ())
        for place, limit in matching(self._by, own, key, tenant, project, model):
            rule = self._rule(rule_id(place, limit))
            if rule is not None:
                yield rule, rule.counter(key, ip, model)

    # -- files --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keeps the files up to date, for ever. A disk that refuses is told once, and tried again."""
        failing, written, swept = False, 0.0, 0.0
        while True:
            await stroke(WRITE_EVERY)
            now = self._loop.time()
            for _ in iter(self.fold, True):
                await asyncio.sleep(0)
            if self._store.dirty or (self._rules and now - written > QUIET):
                failed = await self._write()
                if failed is not None and not failing:
                    log.error("what limits have counted cannot be written, a restart would forget it: %s", failed)
                failing, written = failed is not None, now
            if now - swept > SWEEP_EVERY:
                swept = now
                await self._sweep()

    def fold(self) -> bool:
        """Takes in what ended before a moment ago. False: there is more. While a worker has not said yet what ended without us, the
        files must not claim to know."""
        return self._early is not None or self._store.fold(min(time.time(), *self._unheard.values(), INFINITE), self._loop.time())

    async def _write(self) -> OSError | None:
        for path, data in self._store.pages():
            try:
                await asyncio.to_thread(write, path, data)
            except OSError as error:
                self._store.failed(path)
                return error
        return None

    async def _sweep(self) -> None:
        names = iter(list(self.quotas.gauges))
        while some := list(islice(names, SLICE)):
            self.quotas.sweep(some, self._now())
            await asyncio.sleep(0)

    def close(self) -> None:
        """At control's end: what is still to be written is, at once."""
        self._begins.cancel()
        if not self._rules:
            return
        try:
            while not self.fold():
                pass
            for path, data in self._store.pages():
                write(path, data)
        except OSError as error:
            log.error("what limits have counted cannot be written: %s", error)

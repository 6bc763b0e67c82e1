"""A worker's end of the limits: asks control before a request goes on, tells it afterwards what was used. See `referee` for control's.

`ask` notes the question for this turn's frame and returns at once; `granted` waits for the answer; `settle` never waits.
Without control, or when it is silent, this worker decides for itself: with its share of each limit, beginning with what the
files say was used (`referee.on_loss: local`), or not at all (`refuse`).

A request of a kind that control has lent for (`loans`) is granted at once.

worker → control: n; ops, in their order: [0, lease, terms, input, output, money, loan] may it, and would a loan be of use, [1, lease,
input, output, money, ended] it is over, [2, lease] it left, [3, terms, key, [[rule, counter]]] what these terms are, [4] forget all
terms, [5, loan, requests, input, output, used input, used output, ended] part of a loan is over, [6, loan, requests, input, output]
comes back; at the beginning hold: [[lease, terms, input, output, money, seconds]] and over: [[…, what it used, ended, record]] what
ended without control.
control → worker: n of the last frame that was read, said: [lease, figures…], [lease, figures…, loan] or [lease, figures…, limit,
seconds, used]; recall: all loans; or tell.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from gateway.errors import Refusal
from gateway.exchange import Exchange
from gateway.record import Tokens
from gateway.referee.claims import ASKED, ENDED, GRANTED, Claim, spent_money, unsaid
from gateway.referee.gauges import Plan, Verdict
from gateway.referee.loans import BACK, PATIENCE, Loan, Loans
from gateway.referee.moment import Moment
from gateway.referee.money import Guess, Till
from gateway.referee.quotas import Quotas
from gateway.referee.recent import Recent
from gateway.referee.refusing import refusal, unheard
from gateway.referee.rules import NO_MONEY, Amounts, Money, Rule, amounts
from gateway.referee.store import Store
from gateway.referee.talk import Talk
from gateway.referee.terms import REMEMBERED, Table, Terms
from gateway.wire.openai import prompts_in
from gateway.words import STREAMING_APIS

log = logging.getLogger("gateway.referee")

ASK, OVER, LEFT, TERMS, FORGET = range(5)
"""The kinds of operation."""
SELF: Final = 0
"""The slot that a worker has in its own quotas."""
OVER_MOST: Final = 100_000
"""Ends that a worker keeps to tell control when it is back; of more, only the journal knows."""


class Limiter:
    """All claims of one worker."""

    def __init__(self, say: Callable[[dict[str, Any]], bool], loop: asyncio.AbstractEventLoop) -> None:
        """say: sends a frame of ours to control; False = control is away."""
        self._loop = loop
        self._talk = Talk(say, loop, self._met, self._lost)
        self._table: Table | None = None
        self._directory = Path()
        self._claims: dict[int, Claim] = {}
        self._loans = Loans(partial(self._talk.note, asks=False), loop)
        self._over: list[list[Any]] = []
        self._recent = Recent()
        self._number = 0
        self._terms = 0
        self._epoch = 0
        self._own: Quotas | None = None
        self._rules: dict[str, Rule] = {}

    def adopt(self, table: Table | None, directory: Path) -> None:
        """The limits of a new revision (None: there are none). directory: where control keeps what was counted."""
        self._table = table
        self._directory = directory

    # -- requests -----------------------------------------------------------------------------------------------------

    def ask(self, x: Exchange) -> Claim | None:
        """Notes what the request may use. None: nothing limits it."""
        key = x.key
        terms: Terms | None = x.snapshot.limits.terms(key.id, key.tenant, key.project, key.limits, x.virtual.name, x.ip)
        if terms is None:
            return None
        facts = x.facts
        answers = x.api in STREAMING_APIS
        many = max(1, facts.n)
        if x.api == "completions" and "prompt" in x.fields:
            many *= prompts_in(x.fields["prompt"])
        input, output = terms.estimate(x.body_bytes, facts.prompt_est, facts.max_tokens, answers=answers, many=many)
        money: Money = NO_MONEY
        till: Till | None = None
        if terms.money_most and (till := x.snapshot.limits.till) is not None:
            told = facts.prompt_est, facts.max_tokens * many if answers else 0
            money = till.before(x, Guess(input, output, *told), terms.money_most)
        wanted = amounts(input, output, money)
        claim = self.claim(terms, wanted)
        if claim.state == GRANTED:  # by a loan, or by this worker itself
            x.reserved = Tokens(input, 0, output)
        claim.till = till
        claim.free = answers and not facts.max_tokens
        x.lease = claim
        return claim

    def claim(self, terms: Terms, wanted: Amounts) -> Claim:
        """Of whatever amounts: granted at once from what is lent, or one question."""
        loop = self._loop
        self._number += 1
        number, now = self._number, loop.time()
        loan: Loan | None = terms.loan
        if loan is not None and loan.take(wanted[1], wanted[2], now):
            claim = self._claims[number] = Claim(self, number, terms, wanted, now, None)
            claim.state, claim.loan, claim._lines = GRANTED, loan, loan.lines()
            return claim
        claim = self._claims[number] = Claim(self, number, terms, wanted, now, loop.create_future())
        if self._talk.alone:
            self._decide(claim)
        else:
            self._ask_control(claim)
        return claim

    def _ask_control(self, claim: Claim) -> None:
        terms, wanted = claim.terms, claim.wanted
        if terms.epoch != self._epoch:
            self._introduce(terms)
        wants = terms.lendable and claim.since >= terms.asks
        if wants:
            terms.asks = claim.since + PATIENCE
        self._talk.note([ASK, claim.number, terms.number, wanted[1], wanted[2], wanted[4], wants], asks=True)

    async def granted(self, x: Exchange, claim: Claim) -> None:
        """Waits for the answer. Raises Refusal: 429, or 503 when nobody counts and that is to be so."""
        assert claim.answer is not None
        try:
            no = await claim.answer
        except asyncio.CancelledError:
            self._leave(claim)
            raise
        if no is not None:
            raise no
        x.reserved = Tokens(claim.wanted[1], 0, claim.wanted[2])

    def _leave(self, claim: Claim) -> None:
        """The caller left before it was told, or in this very turn."""
        if claim.state == ENDED:
            return
        claim.state = ENDED
        self._claims.pop(claim.number, None)
        if self._talk.alone:
            if self._own is not None:
                self._own.undo(SELF, claim.number)
        else:
            self._talk.note([LEFT, claim.number], asks=False)

    def over(self, claim: Claim, x: Exchange, now: float) -> None:
        """The end of a request that was granted."""
        used = unsaid(claim, x) if x.source == "none" else None
        if used is None:
            tokens = x.tokens
            input, output = tokens.input, tokens.output
            if x.source != "none" and x.status == 200:
                claim.terms.learn(x.body_bytes, input, output, free=claim.free)
            used = amounts(input, output, spent_money(claim, claim.till, x, now) if claim.till is not None else NO_MONEY)
        self.end(claim, used, x.ts + int((now - x.accepted) * 1_000_000) / 1000 / 1000, x.id)

    def end(self, claim: Claim, used: Amounts, ended: float, record: str) -> None:
        """ended: as the journal has it: seconds since 1970."""
        number = claim.number
        self._claims.pop(number, None)
        self._recent.note(claim.terms, used, ended, self._loop.time())
        if claim.loan is not None:
            self._loans.over(claim.loan, (claim, used, ended, record))
            return
        if not self._talk.alone:
            self._talk.note([OVER, number, used[1], used[2], used[4], ended], asks=False)
            return
        if self._own is not None:
            self._own.settle(SELF, number, used, self._now())
        if len(self._over) < OVER_MOST:
            self._over.append([claim, used, ended, record])

    # -- with control -------------------------------------------------------------------------------------------------

    def heard(self, frame: dict[str, Any]) -> None:
        """A frame from control."""
        if not self._talk.heard(frame):
            return
        claims = self._claims
        for said in frame["said"]:
            claim = claims.get(said[0])
            if len(said) == 8:
                loan = said.pop()
                if claim is not None:
                    self._loans.lent(claim.terms, loan)
                else:
                    self._talk.note([BACK, loan[0], *loan[2:5]], asks=False)
            if claim is not None and claim.state == ASKED:  # of the others the end was told
                claim.figures = said[1:7]
                if len(said) == 7:
                    self._answer(claim, None)
                else:
                    self._refuse(claim, *said[7:])
        if "recall" in frame:
            self._loans.recall()
            self._talk.hurry()

    def lost(self) -> None:
        """The connection to control is lost."""
        self._talk.lost()

    def _introduce(self, terms: Terms) -> None:
        """Tells control what these terms are. It needs to know but so many."""
        if self._terms >= REMEMBERED:
            self._epoch += 1
            self._terms = 0
            self._talk.note([FORGET], asks=False)
        self._talk.note(self._introduction(terms), asks=False)

    def _introduction(self, terms: Terms) -> list[Any]:
        terms.epoch, terms.number = self._epoch, self._terms
        self._terms += 1
        return [TERMS, terms.number, terms.key, terms.pairs()]

    def _met(self) -> tuple[dict[str, Any], list[list[Any]]]:
        """Control is here: tells it what there is and leaves deciding to it."""
        now = self._loop.time()
        self._own = None
        self._rules.clear()
        self._epoch += 1
        self._terms = 0
        self._end_loans()
        over, self._over = self._over, []
        ops: list[list[Any]] = []
        for terms in [claim.terms for claim in (*self._claims.values(), *(one[0] for one in over))]:
            if terms.epoch != self._epoch:
                ops.append(self._introduction(terms))

        def told(claim: Claim) -> list[Any]:
            wanted = claim.wanted
            return [claim.number, claim.terms.number, wanted[1], wanted[2], wanted[4], now - claim.since]

        first = {
            "hold": [told(claim) for claim in self._claims.values() if claim.state == GRANTED],
            "over": [[*told(claim), used[1], used[2], used[4], ended, record] for claim, used, ended, record in over],
            "terms": ops,
        }
        asks = [[ASK, *told(claim)[:5], False] for claim in self._claims.values() if claim.state == ASKED]
        return first, asks

    # -- without it ---------------------------------------------------------------------------------------------------

    def _lost(self, why: str) -> None:
        """From now on this worker decides for itself."""
        if self._table is not None:
            log.warning(
                "control %s; until it is back this worker %s",
                "does not answer" if why == "silent" else "is away",
                "goes on with its share of the limits" if self._table.on_loss == "local" else "refuses what is limited",
            )
        self._end_loans()
        for claim in list(self._claims.values()):
            if claim.state == ASKED:
                self._decide(claim)

    def _end_loans(self) -> None:
        """What was lent is not any more: its requests hold what they hold by themselves."""
        for claim, *end in self._loans.drop():
            claim.loan = None
            if len(self._over) < OVER_MOST:
                self._over.append([claim, *end])
        for claim in self._claims.values():
            claim.loan = None

    def _alone(self, table: Table) -> Quotas:
        """Made when first needed: counts on from what the files say, with what this worker's requests used lately and hold."""
        if self._own is None:
            store = Store(self._directory)
            own = self._own = Quotas(store.get, table.workers)
            now = self._loop.time()
            for spent in self._recent:
                for gauge in self._own_plan(spent.terms).gauges:
                    if gauge is not None and gauge.rule.count != "concurrency" and not store.knows(gauge.name, spent.ended):
                        gauge.window.add(gauge.rule.of(spent.amounts()), self._now().at(spent.ended))
            held = [claim for claim in self._claims.values() if claim.state == GRANTED]
            own.reassert(SELF, {c.number: (self._own_plan(c.terms), c.wanted, self._now().ago(now - c.since)) for c in held})
        return self._own

    def _own_plan(self, terms: Terms) -> Plan:
        assert self._own is not None
        known = terms.own
        if isinstance(known, tuple) and known[0] is self._own:
            plan: Plan = known[1]
            return plan
        rules = {rule.id: self._rules.setdefault(rule.id, rule) for rule, _ in terms.rules}
        plan = self._own.plan(terms.key, terms.pairs(), rules.get, self._now())
        terms.own = (self._own, plan)
        return plan

    def _decide(self, claim: Claim) -> None:
        if self._table is not None and self._table.on_loss == "refuse" and claim.terms.may_refuse(time.time()):
            self._answer(claim, unheard())
            return
        own = self._alone(self._table) if self._table is not None else None
        if own is None:  # the limits that it asked under are gone
            self._answer(claim, None)
            return
        verdict: Verdict = own.ask(SELF, claim.number, self._own_plan(claim.terms), claim.wanted, self._now())
        claim.figures = verdict.figures
        if verdict.number < 0:
            self._answer(claim, None)
        else:
            self._refuse(claim, *verdict[1:])

    def _now(self) -> Moment:
        return Moment(self._loop.time(), time.time())

    # -- both ---------------------------------------------------------------------------------------------------------

    def _refuse(self, claim: Claim, limit: int, after: float, used: int) -> None:
        rule, _ = claim.terms.rules[limit]
        most = rule.limit.max if self._own is None else self._own.most(rule) or 0
        self._answer(claim, refusal(rule, most, claim.wanted, after, used))

    def _answer(self, claim: Claim, no: Refusal | None) -> None:
        assert claim.answer is not None
        if claim.answer.done():  # its caller left in this very turn; `granted` tells
            return
        if no is None:
            claim.state = GRANTED
        else:
            claim.state = ENDED
            self._claims.pop(claim.number, None)
        claim.answer.set_result(no)

    def close(self) -> None:
        """At the worker's end, while the bus is still there: control is told what it was not told yet, and gets back what is lent."""
        self._loans.recall()
        self._talk.hurry()
        self._talk.close()

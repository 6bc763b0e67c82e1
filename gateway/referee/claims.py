"""What one request has asked of the limits, and what became of it."""

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from gateway.exchange import Exchange
from gateway.referee.loans import Loan
from gateway.referee.money import Till
from gateway.referee.refusing import lines
from gateway.referee.rules import NO_MONEY, Amounts, Money, amounts, is_unsaid
from gateway.referee.terms import Terms

ASKED, GRANTED, ENDED = range(3)


class Limits(Protocol):
    """Whoever is told of its end (`limits.Limiter`)."""

    def over(self, claim: "Claim", x: Exchange, now: float) -> None: ...


class Claim:
    """What one request has asked for. Times are the loop's."""

    __slots__ = ("_lines", "answer", "figures", "free", "limits", "loan", "number", "since", "state", "terms", "till", "unpriced", "wanted")

    def __init__(
        self, limits: "Limits", number: int, terms: Terms, wanted: Amounts, since: float, answer: asyncio.Future[Any] | None
    ) -> None:
        """answer: None = it is granted, from a loan."""
        self.limits = limits
        self.number = number
        self.terms = terms
        self.wanted = wanted
        self.since = since
        self.answer = answer
        self.state = ASKED
        self.loan: Loan | None = None
        self.free = False
        self.till: Till | None = None
        self.unpriced = False
        """A limit counts its money, and nobody knows its price."""
        self.figures: Sequence[Any] = ()
        self._lines: bytes | None = None

    def lines(self) -> bytes:
        """The header lines that every answer of a limited request carries."""
        if self._lines is None:
            self._lines = lines(*self.figures) if self.figures else b""
        return self._lines

    def told(self) -> None:
        """The caller has these lines."""
        self._lines = b""

    @property
    def waits(self) -> bool:
        """Whether its caller was never told."""
        return self.state != GRANTED

    def settle(self, x: Exchange, now: float) -> None:
        """The request is over, whatever happened; the first call counts. now: monotonic seconds."""
        if self.state == GRANTED:
            self.state = ENDED
            self.limits.over(self, x, now)


def unsaid(claim: Claim, x: Exchange) -> Amounts | None:
    """What a request is taken to have used of which no engine told any counts: what was reserved, but of a stream that was left before it
    began the prompt alone. None: it came to nothing. `recount` makes the same of its record."""
    if not is_unsaid(x.status, x.end, x.attempts[-1].reason if x.attempts else ""):
        return None
    wanted, till = claim.wanted, claim.till
    if x.status == 200 or not x.stream:
        return wanted
    currencies = tuple(claim.terms.money_most)
    money = till.reserve(x.virtual.name, x.key.tenant, wanted[1], 0, x.ts, currencies) if till is not None else NO_MONEY
    return amounts(wanted[1], 0, money)


def spent_money(claim: Claim, till: Till, x: Exchange, now: float) -> Money:
    """What it cost, as its limits count it."""
    found = till.after(x, now, tuple(claim.terms.money_most))
    claim.unpriced = found is None
    return found or NO_MONEY

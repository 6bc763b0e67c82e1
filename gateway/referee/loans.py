"""A worker's end of loans: what control has lent it for its next requests of one kind, so that it need not ask for each of them.

A loan is some requests, and tokens for them, until a moment. What is not used by then goes back, also when control asks for it; what its
requests have used is told together, some hundred times a second. See `lending` for control's end.
"""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from gateway.referee.refusing import lines
from gateway.referee.rules import Amounts
from gateway.referee.terms import Terms

PART, BACK = 5, 6
"""The kinds of operation, beside those of `limits`."""
TELL: Final = 0.005
"""Seconds in which ends are gathered."""
RENEW: Final = 4
"""When only one of so many parts is left, the next loan is asked for."""
PATIENCE: Final = 0.1
"""Seconds after which it is asked for once more."""

End = tuple[Any, Amounts, float, str]
"""A request that ended: its claim, what it used, when (seconds since 1970), its record."""


class Loan:
    """until: monotonic seconds, by a clock that all processes of a host share. left, input, output: requests and tokens that may
    still be used. open: requests in flight. ends: what was not told yet."""

    __slots__ = ("_counts", "_form", "_left", "_low", "ends", "input", "left", "number", "open", "output", "telling", "terms", "until")

    def __init__(self, terms: Terms, told: list[Any]) -> None:
        """told: as `Lending.offer` tells it."""
        self.number, self.until, self.left, self.input, self.output, self._counts, *figures = told
        requests, requests_left, requests_reset, tokens, tokens_left, tokens_reset = figures
        self.terms = terms
        self.open = 0
        self.ends: list[End] = []
        self.telling = False
        self._low = self.left // RENEW
        self._left = requests_left, tokens_left
        self._form = lines(requests, "%d", requests_reset, tokens, "%d", tokens_reset)

    def take(self, input: int, output: int, now: float) -> bool:
        """Whether there is enough for this request, which then has it. The first that finds little left has to ask control."""
        left = self.left
        if not left or now >= self.until or input > self.input or output > self.output or (left <= self._low and now >= self.terms.asks):
            return False
        self.left = left - 1
        self.input -= input
        self.output -= output
        self.open += 1
        return True

    def lines(self) -> bytes:
        """The header lines of the request that has just been let through. What is lent and not used is left."""
        requests, tokens = self._left
        if tokens < 0:
            return self._form % (requests + self.left) if requests >= 0 else b""
        tokens += (self.input if self._counts & 1 else 0) + (self.output if self._counts & 2 else 0)
        return self._form % (requests + self.left, tokens) if requests >= 0 else self._form % tokens

    def parts(self) -> Iterator[list[Any]]:
        """What its requests have used that ended meanwhile, second by second. They are told then."""
        sums: dict[int, list[Any]] = {}
        for claim, used, ended, _ in self.ends:
            wanted = claim.wanted
            part = sums.get(int(ended))
            if part is None:
                part = sums[int(ended)] = [PART, self.number, 0, 0, 0, 0, 0, 0.0]
            part[2] += 1
            part[3] += wanted[1]
            part[4] += wanted[2]
            part[5] += used[1]
            part[6] += used[2]
            part[7] = max(part[7], ended)
        self.ends.clear()
        yield from sums.values()


class Loans:
    """All loans of one worker."""

    def __init__(self, note: Callable[[list[Any]], None], loop: asyncio.AbstractEventLoop) -> None:
        """note: of an operation that control is to be told soon."""
        self._note = note
        self._loop = loop
        self._all: dict[int, Loan] = {}

    def lent(self, terms: Terms, told: list[Any]) -> None:
        """Control lends. What is left of the loan before goes back."""
        if terms.loan is not None:
            self.give_back(terms.loan)
        loan = terms.loan = self._all[told[0]] = Loan(terms, told)
        terms.asks = 0.0
        self._loop.call_later(max(0.0, loan.until - self._loop.time()), partial(self.give_back, loan))

    def give_back(self, loan: Loan) -> None:
        """What is not in use. Once; after that, nothing."""
        terms = loan.terms
        if terms.loan is not loan:
            return
        terms.loan = None
        self._note([BACK, loan.number, loan.left, loan.input, loan.output])
        loan.left = loan.input = loan.output = 0
        if not loan.open and not loan.ends:
            del self._all[loan.number]

    def recall(self) -> None:
        """Everything that is lent, because control asks for it."""
        for loan in list(self._all.values()):
            self.give_back(loan)
            self._tell(loan)

    def over(self, loan: Loan, end: End) -> None:
        """One of its requests has ended."""
        loan.open -= 1
        loan.ends.append(end)
        if not loan.telling:
            loan.telling = True
            self._loop.call_later(TELL, partial(self._tell, loan))

    def _tell(self, loan: Loan) -> None:
        loan.telling = False
        for part in loan.parts():
            self._note(part)
        if not loan.open and loan.terms.loan is not loan:
            self._all.pop(loan.number, None)

    def drop(self) -> list[End]:
        """Control knows nothing of them any more. Returns what was not told of their requests."""
        ends = [end for loan in self._all.values() for end in loan.ends]
        for loan in self._all.values():
            loan.ends.clear()
            if loan.terms.loan is loan:
                loan.terms.loan = None
        self._all.clear()
        return ends

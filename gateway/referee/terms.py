"""Which limits a request of one key, model and address comes under. Found out once and remembered; no clock, no I/O."""

from collections.abc import Iterable
from typing import Any, Final

from gateway.config.resolved_limits import Limit, Limits
from gateway.referee.money import Till
from gateway.referee.rules import Hours, Placed, Rule, matching

REMEMBERED = 20_000
"""Terms of which a worker knows at once; beyond, it begins anew."""
FIRST_GUESS: Final = 256
"""Tokens of an answer, when neither the caller nor experience says more."""
WEIGHT: Final = 16
"""The last so many answers make the moving average, about."""
BYTES_PER_TOKEN: Final = 4
"""Of a request's body, before experience says more."""


class Terms:
    """What one kind of request comes under. number, epoch: under which name control knows it, and since when."""

    __slots__ = (
        "asks",
        "average",
        "bytes_per_token",
        "epoch",
        "input_most",
        "key",
        "lendable",
        "loan",
        "money_most",
        "number",
        "output_most",
        "own",
        "rules",
        "spent",
        "total_most",
    )

    def __init__(self, key: str, rules: list[tuple[Rule, str]]) -> None:
        """rules: each with the name of its counter."""
        self.key = key
        self.rules = rules
        self.number = self.epoch = -1
        self.average = float(FIRST_GUESS)
        self.bytes_per_token = float(BYTES_PER_TOKEN)
        self.own: object = None
        """What the worker's own quotas make of it, when it counts for itself."""
        self.loan: Any = None
        """What control has lent for such requests (`loans.Loan`); None = nothing."""
        self.spent: Any = None
        """What its requests used in the second that ended last (`recent.Spent`); None = nothing."""
        self.asks = 0.0
        """Until when (monotonic seconds) an answer is awaited that may bring a loan."""
        self.lendable = all(rule.count != "money" and rule.hours is None for rule, _ in rules)
        self.input_most, self.output_most, self.total_most = (
            _least(rules, count) for count in ("input_tokens", "output_tokens", "total_tokens")
        )
        self.money_most = {
            code: _least([one for one in rules if one[0].limit.currency == code], "money")
            for code in dict.fromkeys(rule.limit.currency for rule, _ in rules if rule.count == "money")
        }
        """By currency, of limits on money; empty = there are none."""

    def pairs(self) -> list[tuple[str, str]]:
        return [(rule.id, counter) for rule, counter in self.rules]

    def may_refuse(self, wall: float) -> bool:
        """At this moment (seconds since 1970): a shadow never does, nor a budget that does not stop, nor a limit outside its hours."""
        for rule, _ in self.rules:
            if rule.shadow or (rule.limit.budget and not rule.limit.stop):
                continue
            if rule.hours is None or rule.hours(wall):
                return True
        return False

    def estimate(self, size: int, prompt: int, wanted: int, *, answers: bool, many: int) -> tuple[int, int]:
        """Tokens to reserve for the prompt and the answer.

        size: bytes of the body. prompt: its tokens, when they were counted. wanted: what the caller allows for one answer, 0 = not
        said. answers: whether there is one to be counted. many: how many are asked for. What is only guessed is never guessed to
        be more than a limit allows at all: a guess must not close a door for good."""
        output = 0
        if answers:
            output = wanted * max(1, many) or min(int(self.average) + 1, self.output_most, max(1, self.total_most // 2))
        if prompt:
            return prompt, output
        guess = int(size / self.bytes_per_token) + 1
        if guess > self.input_most:
            guess = self.input_most
        room = self.total_most - output
        return (guess if guess <= room else room if room > 1 else 1), output

    def learn(self, size: int, input: int, output: int, *, free: bool) -> None:
        """A body of `size` bytes had so many tokens, and its answer so many. free: the caller had set no limit to that."""
        if input:
            self.bytes_per_token += (max(1.0, size / input) - self.bytes_per_token) / WEIGHT
        if free:
            self.average += (output - self.average) / WEIGHT


def _least(rules: Iterable[tuple[Rule, str]], count: str) -> int:
    return max(1, min((rule.limit.max for rule, _ in rules if rule.count == count and not rule.shadow), default=2**62))


class Table:
    """The limits of one snapshot, as a worker needs them."""

    __slots__ = ("_addressed", "_hours", "_limits", "_plain", "on_loss", "till", "workers")

    def __init__(self, limits: Limits, till: Till | None = None) -> None:
        """till: of limits on money, None = there are none. Raises ValueError when a schedule's zone is not known (any more)."""
        self._limits = limits
        self.till = till
        self._hours = Hours(limits)
        self.on_loss = limits.on_loss
        self.workers = limits.workers
        self._plain: dict[tuple[str, str], Terms | bool] = {}
        self._addressed: dict[tuple[str, str, str], Terms] = {}

    def terms(self, key: str, tenant: str, project: str, own: tuple[Limit, ...], model: str, ip: str) -> Terms | None:
        """None: nothing limits it."""
        found = self._plain.get((key, model))
        if found is None:
            if len(self._plain) >= REMEMBERED:
                self._plain.clear()
            found = self._plain[key, model] = self._compile(matching(self._limits.by, own, key, tenant, project, model), key, model)
        if isinstance(found, Terms):
            return found
        if not found:
            return None
        terms = self._addressed.get((key, model, ip))
        if terms is None:
            if len(self._addressed) >= REMEMBERED:
                self._addressed.clear()
            placed = matching(self._limits.by, own, key, tenant, project, model)
            terms = self._addressed[key, model, ip] = Terms(key, self._counters(placed, key, ip, model))
        return terms

    def _compile(self, placed: list[Placed], key: str, model: str) -> Terms | bool:
        """False: nothing matches. True: it depends on the address."""
        if any(limit.each == "address" for _, limit in placed):
            return True
        return Terms(key, self._counters(placed, key, "", model)) if placed else False

    def _counters(self, placed: list[Placed], key: str, ip: str, model: str) -> list[tuple[Rule, str]]:
        rules = [Rule(place, limit, self._hours) for place, limit in placed]
        return [(rule, rule.counter(key, ip, model)) for rule in rules]

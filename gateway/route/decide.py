"""Where one request goes: the first rule that matches, else the model's own targets; then the ways where it fits, by health.

No I/O: when a prompt's exact length is needed, the answer is `None`, and the caller counts and asks again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.errors import Refusal
from gateway.route import fit
from gateway.route.ask import Ask
from gateway.route.conditions import Condition
from gateway.route.plan import Node, Ways
from gateway.words import STREAMING_APIS

Bounds = Callable[[Ask], tuple[int, int]]
"""Sound lower and upper bounds of a prompt's tokens."""


class Decision:
    """What was decided. rule: the one that matched, "" = none. via: the model that it led to, if it did; through: all models on the way.

    resting: seconds until the first endpoint may be asked, when all rest. Each request makes one: no dataclass, whose `__init__` would
    be run by the interpreter.
    """

    __slots__ = ("policy", "resting", "rule", "through", "via", "ways")

    def __init__(self, rule: str, policy: str, ways: Ways, resting: float = 0.0) -> None:
        self.rule, self.policy, self.ways, self.resting = rule, policy, ways, resting
        self.via = ""
        self.through: tuple[str, ...] = ()


@dataclass(eq=False)
class RuleLive:
    """A rule, compiled. It leads to a node of its own, or to another model's route."""

    name: str
    conditions: Sequence[Condition]
    matches: Callable[[Ask], bool | None]
    policy: str = ""
    node: Node | None = None
    route: "Route | None" = None


class Route:
    """A virtual model's way of deciding. `fallback` is filled in when all models are built."""

    __slots__ = ("_shortest", "asks", "bounds", "counts", "fallback", "limits", "name", "node", "policy", "rules", "tokenizer")

    def __init__(self, name: str, policy: str, node: Node, bounds: Bounds, *, asks: bool, counts: bool = True, tokenizer: str = "") -> None:
        """asks: whether its policies or rules look at the request at all. counts: whether it has a tokenizer; without one a token is
        taken to be four bytes, so that nothing is looked at closer before that says so. tokenizer: its name, "" = another model's
        count will do, when a rule leads here."""
        self.name, self.policy, self.node = name, policy, node
        self.rules: list[RuleLive] = []
        self.fallback: list[Route] = []
        self.asks = asks
        self.counts = counts
        self.tokenizer = tokenizer
        self.bounds = bounds
        self.limits: list[int] = []
        """Lengths of prompts that rules turn on."""
        self._shortest: dict[Node, int] = {}

    # -- context lengths --------------------------------------------------------------------------------------------

    def measured(self) -> None:
        """Some endpoint's context length, or which endpoints there are, became known or another one."""
        self._shortest.clear()

    def shortest(self, node: Node) -> int:
        """The shortest context length below a node: what is shorter in bytes fits everywhere. 0 = nobody says."""
        found = self._shortest.get(node)
        if found is None:
            found = self._shortest[node] = min((way.length() for way in node.ways() if way.length()), default=0)
        return found

    def is_short(self, node: Node, api: str, body: int, max_tokens: int) -> bool:
        """Whether a request fits everywhere below a node by its bytes alone. A tokenize call always does: it generates nothing."""
        shortest = self.shortest(node)
        return not shortest or (body if self.counts else body >> 2) + max_tokens < shortest or api == "tokenize"

    def led(self) -> list["Route"]:
        """Itself and all routes that rules lead to from here."""
        found = [self]
        for one in found:
            found += [rule.route for rule in one.rules if rule.route is not None and rule.route not in found]
        return found

    def most_length(self) -> int:
        """The longest context length that a request can find, its rules' targets included; 0 = nobody says."""
        nodes = [self.node, *(rule.node for rule in self.rules if rule.node is not None)]
        here = max((way.length() for node in nodes for way in node.ways()), default=0)
        return max([here, *(rule.route.most_length() for rule in self.rules if rule.route is not None)])

    def enough(self) -> int:
        """Tokens from which on it does not matter how many more a prompt has; 0 = it always may."""
        most = self.most_length()
        return max([most, *self.turning()]) + 1 if most else 0

    def turning(self) -> list[int]:
        """Lengths of prompts that rules turn on, also those of models that rules lead to."""
        return [*self.limits, *(limit for rule in self.rules if rule.route is not None for limit in rule.route.turning())]

    # -- deciding -----------------------------------------------------------------------------------------------------

    def decide(self, ask: Ask) -> Decision | None:
        """None: the prompt's tokens must be counted first (`ask.tokens`). Errors: Refusal, when it fits nowhere."""
        for rule in self.rules:
            found = rule.matches(ask)
            if found is None:
                return None
            if found:
                return self._follow(rule, ask)
        return self._from(self.node, self.policy, "", ask)

    def _follow(self, rule: RuleLive, ask: Ask) -> Decision | None:
        """Where a rule leads that matched. Errors: Refusal, with the rule's name."""
        try:
            return self._followed(rule, ask)
        except Refusal as no:
            no.rule = f"{rule.name} > {no.rule}" if no.rule else rule.name
            if rule.route is not None:
                no.via = no.via or rule.route.name
                no.through = (rule.route.name, *no.through)
            raise

    def _followed(self, rule: RuleLive, ask: Ask) -> Decision | None:
        if rule.route is None:
            assert rule.node is not None
            return self._from(rule.node, rule.policy, rule.name, ask)
        before = ask.tokens, ask.sure
        anew = self.leads(ask, rule.route)
        further = rule.route.decide(ask)
        if further is None and anew:
            ask.tokens, ask.sure = before
            ask.by = ask.by or rule.route.name
        if further is not None:
            further.rule = f"{rule.name} > {further.rule}" if further.rule else rule.name
            further.via = further.via or rule.route.name
            further.through = (rule.route.name, *further.through)
        return further

    def leads(self, ask: Ask, other: "Route") -> bool:
        """A rule leads to another model: whether that one counts by a tokenizer of its own. Then that one's count is the length."""
        anew = bool(other.tokenizer) and other.tokenizer != self.tokenizer
        if anew:
            ask.count_by(other.tokenizer)
        return anew

    def _from(self, node: Node, policy: str, rule: str, ask: Ask) -> Decision | None:
        long = not self.is_short(node, ask.api, ask.size, ask.max_tokens)
        if long and ask.tokens is None and fit.undecided(node.ways(), *self.bounds(ask), ask.max_tokens):
            return None  # where it fits turns on the exact number of tokens
        self.limit(node, ask, long=long)
        ways = node.order(ask)
        if ask.only is not None:
            ways = [way for way in ways if way in ask.only]
        chosen = sorted_by_health(ways, ask.now)
        return Decision(rule, policy, chosen, 0.0 if chosen else rest(ways, ask.now))

    def limit(self, node: Node, ask: Ask, *, long: bool) -> None:
        """Notes which ways below a node can take the request, if not all can. Errors: Refusal, when it fits nowhere."""
        ways = node.ways()
        if long:
            can = self.fitting(ways, ask)
        elif ask.api in STREAMING_APIS:  # every engine has those
            can = ways
        else:
            can = [way for way in ways if way.serves(ask.api)] or ways
        ask.only = frozenset(can) if len(can) < len(ways) else None

    def fitting(self, ways: Ways, ask: Ask) -> Ways:
        """Where it fits by the best number there is; else where it may, for the engine to judge. Errors: Refusal, when surely nowhere."""
        offered = [way for way in ways if way.serves(ask.api)]
        if ask.api == "tokenize" or not offered:  # whoever sends it says that no engine has the API
            return ways
        ways = offered
        least, most = self.bounds(ask) if ask.tokens is None else (ask.sure, ask.tokens)
        fits = fit.fitting(ways, most, ask.max_tokens) or fit.fitting(ways, least, ask.max_tokens)
        if not fits and ways:
            raise fit.too_long(ways, ask.tokens, least, ask.max_tokens)
        return fits


def sorted_by_health(ways: Ways, now: float) -> Ways:
    """The ways that may be tried now: who serves keeps its place, who is ejected, down or wedged comes last (tried when nobody else
    can serve), who drains, is unprobed or asked to be left alone not at all.

    Whose trial is due comes before all: one request finds out whether it is well again.
    """
    for way in ways:
        if not way.at.breaker.well:
            break
    else:
        return ways
    trial: list[Any] = []
    first: list[Any] = []
    later: list[Any] = []
    last: list[Any] = []
    for way in ways:
        breaker = way.at.breaker
        if breaker.well:
            first.append(way)
        elif breaker.barred or breaker.rests(now):
            continue
        elif breaker.due(now):
            (later if trial else trial).append(way)
        elif breaker.allows(now):
            first.append(way)
        else:
            last.append(way)
    return trial + first + later + last


def rest(ways: Ways, now: float) -> float:
    """Seconds until the first endpoint that asked to be left alone may be asked again; 0.0 = none asked for that."""
    return min((wait for way in ways if (wait := way.at.breaker.rests(now))), default=0.0)


def fallbacks(route: Route) -> list[Route]:
    """The models to go on with when everything of `route` failed, theirs included, each once."""
    found: dict[str, Route] = {}
    _walk(route, route, found)
    return list(found.values())


def _walk(one: Route, start: Route, found: dict[str, Route]) -> None:
    """No closure: one that calls itself would keep `start`, and with it a whole snapshot, until the collector comes."""
    for other in one.fallback:
        if other.name not in found and other is not start:
            found[other.name] = other
            _walk(other, start, found)

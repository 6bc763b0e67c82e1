"""From a model's targets to the ways that one request may be tried, in order. A tree: leaves are channels, groups are policies.

A policy orders what is below it; what is not well is moved back or left out at the end, in one place (`decide.sorted_by_health`).
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from gateway.route.ask import Ask
from gateway.route.breaker import Breaker
from gateway.route.least_busy import LeastBusy
from gateway.route.load import Load
from gateway.route.prefix_affinity import PrefixAffinity
from gateway.route.primary_backup import PrimaryBackup
from gateway.route.proportional import Proportional


class At(Protocol):
    """An endpoint, as far as decisions look at it."""

    @property
    def url(self) -> str: ...
    @property
    def weight(self) -> int: ...
    @property
    def priority(self) -> int: ...
    @property
    def breaker(self) -> Breaker: ...
    @property
    def load(self) -> Load: ...


class Way(Protocol):
    """One possible attempt: an endpoint of a channel, under an engine's name for the model (snapshot.Hop)."""

    @property
    def name(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def at(self) -> Any: ...
    def serves(self, api: str) -> bool: ...
    def length(self) -> int: ...


FURTHER: Final = 997.0
"""Makes another number out of a request's luck, so that two decisions do not fall together."""
PLANS: Final = 1024
"""Orders of one group's members that are remembered: sticky values may ask for any of a dozen targets' millions."""
SUBSETS: Final = 64
"""Sets of members that serve while others do not, of which the turns are remembered. Endpoints that flap make ever more of them."""
Ways = Sequence[Any]
"""Ways in the order they are to be tried."""


class Node(Protocol):
    """A leaf or a group."""

    def order(self, ask: Ask, *, peek: bool = False, aside: int = 0) -> Ways:
        """Every way below, each once, the pick first. peek: nothing is taken from anybody's turn. aside: how far below a group that
        picked another member, 0 = below none. Then it is for failover, and luck says who is first: turns that passed while others serve
        would fall together with the group's own, so that some below are never picked."""
        ...

    def ways(self) -> Ways:
        """Every way below, in no order."""
        ...

    def share(self, now: float, only: frozenset[Any] | None = None) -> float:
        """What of its share it can take now: 1.0 when any way below is well, less while the best of them comes back slowly, 0.0 = none.
        only: `Ask.only`."""
        ...

    def told(self, ask: Ask) -> str:
        """How it picks, for explanations."""
        ...

    def on_change(self, forget: Callable[[], None]) -> None:
        """`forget` is called when the ways below became others."""
        ...


class Leaf:
    """A channel under one model name: its endpoints take turns, by priority (lowest first) and weight as a registry gave them."""

    __slots__ = ("_forget", "_left", "_rotations", "_tiers", "_turn", "_ways", "name")

    def __init__(self, name: str, ways: Sequence[Way], turn: list[int]) -> None:
        """turn: where its rotation stands, one number, shared by all leaves of the channel and kept through reloads."""
        self.name = name
        self._turn = turn
        self._forget: list[Callable[[], None]] = []
        self.refill(ways)

    def refill(self, ways: Sequence[Way]) -> None:
        """The channel's endpoints became others."""
        self._ways = list(ways)
        self._tiers = _tiers(self._ways)
        self._rotations = [] if self._tiers else [self._ways[n:] + self._ways[:n] for n in range(len(self._ways))]
        self._left = Left([1] * len(self._ways))
        for forget in self._forget:
            forget()

    def let_go(self) -> None:
        """Its ways stay as they are from now on: nobody has to hear of others."""
        self._forget.clear()

    def order(self, ask: Ask, *, peek: bool = False, aside: int = 0) -> Ways:
        if self._tiers:
            luck = ask.luck * FURTHER % 1.0
            ways = [way for tier in self._tiers for way in tier.order(ask, luck, peek, aside)]
            return sorted(ways, key=lambda way: luck >= _share(way, ask.now, ask.only))
        if len(self._rotations) < 2:
            return self._ways
        if ask.only is not None:
            return self._of_some(ask, peek, aside)
        turn = int(_draw(ask, aside) * len(self._rotations)) if aside else self._turn[0] + 1
        if not (peek or aside):
            self._turn[0] = turn
        if all(way.at.breaker.well for way in self._ways):
            return self._rotations[turn % len(self._rotations)]
        luck = ask.luck * FURTHER % 1.0
        serve = [way for way in self._ways if luck < _share(way, ask.now, None)]  # who is out leaves its turns to all others alike
        rest = [way for way in self._ways if way not in serve]
        first = turn % len(serve) if serve else 0
        return serve[first:] + serve[:first] + rest

    def _of_some(self, ask: Ask, peek: bool, aside: int) -> Ways:
        """Turns of their own: those of all pass with other requests, too, so that every second turn might be the same endpoint's."""
        luck = ask.luck * FURTHER % 1.0
        serve = tuple([n for n, way in enumerate(self._ways) if luck < _share(way, ask.now, ask.only)])
        return _by(self._ways, self._left.order(serve, ask, peek, aside)) if serve else self._ways

    def ways(self) -> Ways:
        return self._ways

    def share(self, now: float, only: frozenset[Any] | None = None) -> float:
        return max((_share(way, now, only) for way in self._ways), default=0.0)

    def told(self, ask: Ask) -> str:
        if self._tiers:
            return "endpoints by priority, then weight, in turn"
        return f"{len(self._ways)} endpoints in turn" if len(self._ways) > 1 else ""

    def on_change(self, forget: Callable[[], None]) -> None:
        self._forget.append(forget)


def _share(way: Any, now: float, only: frozenset[Any] | None) -> float:
    """What of its share a way takes now. Who waits for its trial takes none: that one request is `sorted_by_health`'s. only: `Ask.only`."""
    if only is not None and way not in only:
        return 0.0
    breaker: Breaker = way.at.breaker
    if breaker.well:
        return 1.0
    return breaker.share_now(now) if breaker.allows(now) and not breaker.due(now) else 0.0


class Left:
    """The turns of those of a list that serve while others do not, so that the part of these goes to all the rest alike."""

    __slots__ = ("_kept", "weights")

    def __init__(self, weights: Sequence[int]) -> None:
        self.weights = tuple(weights)
        self._kept: dict[tuple[int, ...], Proportional] = {}

    def order(self, serve: tuple[int, ...], ask: Ask, peek: bool, aside: int) -> tuple[int, ...]:
        """All numbers of the list, one that serves first. serve: their numbers."""
        shares = self._kept.get(serve)
        if shares is None:
            if len(self._kept) >= SUBSETS:
                self._kept.clear()
            shares = self._kept[serve] = Proportional([self.weights[n] for n in serve])
        picked = tuple([serve[n] for n in _turn(shares, ask, peek, aside)])
        return picked + tuple([n for n in range(len(self.weights)) if n not in serve])


class Priority:
    """A channel's endpoints of one priority, with the weights that a registry gave them."""

    __slots__ = ("_left", "_shares", "_ways")

    def __init__(self, ways: list[Any]) -> None:
        self._ways = ways
        weights = [way.at.weight for way in ways]
        self._shares, self._left = Proportional(weights), Left(weights)

    def order(self, ask: Ask, luck: float, peek: bool, aside: int) -> list[Any]:
        """luck: what a way's share is compared with."""
        if ask.only is not None or not all(way.at.breaker.well for way in self._ways):
            serve = tuple([n for n, way in enumerate(self._ways) if luck < _share(way, ask.now, ask.only)])
            if 0 < len(serve) < len(self._ways):
                return _by(self._ways, self._left.order(serve, ask, peek, aside))
        return _by(self._ways, _turn(self._shares, ask, peek, aside))


def _tiers(ways: Sequence[Any]) -> list[Priority]:
    """Ways by priority, with the shares of each; empty when all are alike, so that they simply rotate."""
    if len({(way.at.priority, way.at.weight) for way in ways}) < 2:
        return []
    found = []
    for priority in sorted({way.at.priority for way in ways}):
        tier = [way for way in ways if way.at.priority == priority]
        found.append(Priority(tier))
    return found


def _draw(ask: Ask, aside: int) -> float:
    """The request's luck anew for each level below a group that picked another member, so that they do not fall together."""
    return ask.luck * (FURTHER + 2 * aside) % 1.0


def _turn(shares: Proportional, ask: Ask, peek: bool, aside: int) -> tuple[int, ...]:
    if aside:
        return shares.aside(_draw(ask, aside), ask)
    return shares.peek(ask) if peek else shares.order(ask)


def _by(items: Sequence[Any], order: Sequence[int]) -> list[Any]:
    return [items[n] for n in order]


class Group:
    """What the groups have in common."""

    __slots__ = ("_ways", "members")

    def __init__(self, members: Sequence[Node]) -> None:
        self.members = list(members)
        self._ways: list[Any] | None = None
        for member in members:
            member.on_change(self.forget)

    def ways(self) -> Ways:
        if self._ways is None:
            self._ways = list(dict.fromkeys(way for member in self.members for way in member.ways()))
        return self._ways

    def _once(self, ways: list[Any]) -> list[Any]:
        """A channel that stands in several places below is tried in the first of them alone."""
        return ways if len(ways) == len(self.ways()) else list(dict.fromkeys(ways))

    def share(self, now: float, only: frozenset[Any] | None = None) -> float:
        return max(member.share(now, only) for member in self.members)

    def forget(self) -> None:
        self._ways = None

    def on_change(self, forget: Callable[[], None]) -> None:
        for member in self.members:
            member.on_change(forget)


class Shares(Group):
    """proportional: the picked member's first way, then the other members' first ones, then the second ways of each."""

    __slots__ = ("_full", "_left", "_plans", "policy", "weights")

    def __init__(self, members: Sequence[Node], policy: Proportional, weights: Sequence[int]) -> None:
        super().__init__(members)
        self.policy = policy
        self.weights = tuple(weights)
        self._full: bool | None = None
        """Whether there is a way below each member; None = not looked yet. A registry may list nothing."""
        self._plans: dict[tuple[int, ...], list[Any]] = {}
        self._left = Left(weights)

    def forget(self) -> None:
        super().forget()
        self._full = None
        self._plans.clear()

    def order(self, ask: Ask, *, peek: bool = False, aside: int = 0) -> Ways:
        if len(self.members) == 1:
            return self.members[0].order(ask, peek=peek, aside=aside)
        order = self._order(ask, peek, aside)
        ways = self._plans.get(order)
        if ways is None:
            picked = aside and aside + 1
            columns = [self.members[n].order(ask, peek=peek, aside=picked if n == order[0] else aside + 1) for n in order]
            depth = max(map(len, columns), default=0)
            ways = self._once([column[row] for row in range(depth) for column in columns if row < len(column)])
            lone = all(isinstance(member, Leaf) and len(column) < 2 for member, column in zip(self.members, columns, strict=True))
            if lone and len(self._plans) < PLANS:
                self._plans[order] = ways
        return ways

    def _order(self, ask: Ask, peek: bool, aside: int) -> tuple[int, ...]:
        if self._full is None:
            self._full = all(member.ways() for member in self.members)
        some = ask.only is not None or not self._full
        if not self.policy.is_sticky and (some or not all(way.at.breaker.well for way in self.ways())):
            luck = ask.luck * FURTHER % 1.0
            serve = tuple(n for n, member in enumerate(self.members) if luck < member.share(ask.now, ask.only))
            if len(serve) < len(self.members) and any(self.weights[n] for n in serve):
                return self._left.order(serve, ask, peek, aside)
        return _turn(self.policy, ask, peek, aside)

    def told(self, ask: Ask) -> str:
        return self.policy.told(ask) if len(self.members) > 1 else ""


class Tiers(Group):
    """primary-backup: all ways of the first tier that is well, then those of the next ones."""

    __slots__ = ("policy",)

    def __init__(self, members: Sequence[Node], policy: PrimaryBackup) -> None:
        super().__init__(members)
        self.policy = policy

    def order(self, ask: Ask, *, peek: bool = False, aside: int = 0) -> Ways:
        well = [member.share(ask.now) > 0 for member in self.members]
        order = self.policy.peek(ask, well) if peek or aside else self.policy.order(ask, well)
        first, picked = order[0], aside and aside + 1
        if ask.only is not None:  # the tier that serves stays what it is for others
            first = next((n for n in order if self.members[n].share(ask.now, ask.only)), first)
        found = (self.members[n].order(ask, peek=peek, aside=picked if n == first else aside + 1) for n in order)
        return self._once([way for ways in found for way in ways])

    def told(self, ask: Ask) -> str:
        return self.policy.told(ask, [member.share(ask.now) > 0 for member in self.members])


class Ranked(Group):
    """least-busy and prefix-affinity: all endpoints below in one ranking, but of each channel those of the lowest priority alone;
    the others, and then those that do not serve now, come after them."""

    __slots__ = ("_front", "_ids", "_later", "_loads", "policy")

    def __init__(self, members: Sequence[Node], policy: LeastBusy | PrefixAffinity) -> None:
        super().__init__(members)
        self.policy = policy
        self._front: list[Any] = []
        self._later: list[Any] = []
        self._ids: list[str] = []
        self._loads: list[Load] = []

    def forget(self) -> None:
        super().forget()
        self._ids, self._loads = [], []

    def order(self, ask: Ask, *, peek: bool = False, aside: int = 0) -> Ways:
        ways, peek = self.ways(), peek or aside > 0
        if len(ways) < 2:
            return ways
        if ask.only is None and all(way.at.breaker.well for way in ways):
            if not self._loads:
                self._front, self._later = _by_priority(ways)
                self._ids, self._loads = _figures(self._front)
            ranked = _by(self._front, self._rank(ask, self._ids, self._loads, peek))
            return ranked + self._later if self._later else ranked
        luck = ask.luck * FURTHER % 1.0
        serve = [luck < _share(way, ask.now, ask.only) for way in ways]
        well = [way for way, serves in zip(ways, serve, strict=True) if serves]
        rest = [way for way, serves in zip(ways, serve, strict=True) if not serves]
        front, later = _by_priority(well)
        return _by(front, self._rank(ask, *_figures(front), peek)) + later + rest

    def _rank(self, ask: Ask, ids: list[str], loads: list[Load], peek: bool) -> Sequence[int]:
        if isinstance(self.policy, PrefixAffinity):
            return self.policy.peek(ask, ids, loads) if peek else self.policy.order(ask, ids, loads)
        return self.policy.order(ask, loads)

    def told(self, ask: Ask) -> str:
        return self.policy.told(ask)


def _by_priority(ways: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Those of the lowest priority that their channel has among them, and the others, lowest first."""
    best: dict[str, int] = {}
    for way in ways:
        best[way.name] = min(way.at.priority, best.get(way.name, way.at.priority))
    later = [way for way in ways if way.at.priority > best[way.name]]
    return [way for way in ways if way.at.priority == best[way.name]], sorted(later, key=lambda way: way.at.priority)


def _figures(ways: Sequence[Any]) -> tuple[list[str], list[Load]]:
    return [f"{way.name} {way.at.url}" for way in ways], [way.at.load for way in ways]

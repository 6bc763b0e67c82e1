"""prefix-affinity: to the endpoint whose KV cache knows the beginning of this conversation, unless it has too much to do.

A prompt's chain of keys (`prefix.chain`) is walked from coarse to fine. A key gets as many endpoints as its share of the
requests deserves: a rare system prompt is held by one or two, which serve all its conversations; a frequent one is held
by several, and finer keys divide conversations among them. Which ones is rendezvous hashing, nested level by level, so
workers agree without speaking: they see the same mix of requests, and shares are all that they count. A new conversation
takes the one of its first two with less in flight; where it went is remembered, so that it stays. What hashing alone
would not have said is told to the other workers, when somebody carries it (`moves`, `learn`): without that, they find
each such conversation's home by missing it.

The bound: nobody gets more than 1.25 times its share of what is in flight, rounded up. Who is at the bound is passed
over, and the next in the ranking takes over and keeps the conversation. In flight is what the engines say of all
workers' requests, as long as all of them have said it lately; else this worker's own, and each worker keeps the bound.
"""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Final

from gateway.route.ask import Ask
from gateway.route.load import Load
from gateway.route.prefix import chain
from gateway.route.rendezvous import mark, mix

BOUND: Final = 1.25
WIDEN: Final = 1.5
"""How many times the endpoints that its share would fill a key gets: room, so that the bound moves few conversations."""
SPAN: Final = 2048
"""Requests over which shares are counted; then each counts half."""
UNSURE: Final = 64
"""Requests that are imagined before the first one, so that it does not have all of the share."""
KNOWN: Final = 16384
"""Conversations that are remembered."""
MOVES: Final = 1024
"""Moves that wait to be told. Of more, the latest."""
MARKS: Final = 4096
"""Endpoints whose hashes are remembered."""


class PrefixAffinity:
    """One group's policy, in one worker."""

    __slots__ = ("_counts", "_homes", "_marks", "_moves", "_total")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._total = 0
        self._homes: dict[int, str] = {}
        self._marks: dict[str, int] = {}
        self._moves: dict[int, str] = {}

    def order(self, ask: Ask, ids: Sequence[str], loads: Sequence[Load]) -> list[int]:
        """Endpoint numbers, the pick first. Of a known conversation the others follow by what they have in flight.

        ids: what makes an endpoint the same one, in every worker. Hand in only those that may be used: the bound divides the
        load among all of them.
        """
        keys = chain(ask)
        found, moved = self._order(keys, ask.now, ids, loads)
        if keys and found:
            self._count(keys)
            self._keep(self._homes, keys[-1], ids[found[0]], KNOWN)
            if moved:
                self._keep(self._moves, keys[-1], ids[found[0]], MOVES)
        return found

    def peek(self, ask: Ask, ids: Sequence[str], loads: Sequence[Load]) -> list[int]:
        """What `order` would answer now."""
        return self._order(chain(ask), ask.now, ids, loads)[0]

    def moves(self) -> dict[int, str]:
        """Where conversations went that hashing would have sent elsewhere, since the last call: for the other workers."""
        found, self._moves = self._moves, {}
        return found

    def learn(self, moves: Mapping[int, str]) -> None:
        """Another worker's moves."""
        for key, id in moves.items():
            self._keep(self._homes, key, id, KNOWN)

    def told(self, ask: Ask) -> str:
        keys = chain(ask)
        home = self._home(keys[-1], 2) if keys else None
        if not keys:
            return "prefix-affinity: no prompt, so the least in flight"
        if home is None:
            return f"prefix-affinity: beginning {keys[-1]:016x} is not remembered, so its hash decides"
        return f"prefix-affinity: beginning {keys[-1]:016x} was last served by {home}"

    def _order(self, keys: list[int], now: float, ids: Sequence[str], loads: Sequence[Load]) -> tuple[list[int], bool]:
        """The order, and whether others could not have guessed its first."""
        count = len(ids)
        if count < 2:
            return list(range(count)), False
        flying = _flying(now, loads)
        if not keys:
            return sorted(range(count), key=flying.__getitem__), False
        most = ceil(BOUND * (sum(flying) + 1) / count)
        home = self._home(keys[-1], count)
        if home is not None and home in ids and flying[number := ids.index(home)] + 1 <= most:
            others = sorted(range(count), key=flying.__getitem__)
            others.remove(number)
            return [number, *others], False
        ranked = self._ranked(keys, ids)
        first = ranked[0]
        if max(flying) + 1 > most:
            over = [number for number in ranked if flying[number] + 1 > most]
            ranked = [number for number in ranked if flying[number] + 1 <= most] + sorted(over, key=flying.__getitem__)
        if home is None and flying[ranked[1]] < flying[ranked[0]]:
            ranked[:2] = ranked[1], ranked[0]
        return ranked, home is not None or ranked[0] != first

    def _ranked(self, keys: list[int], ids: Sequence[str]) -> list[int]:
        """All endpoints by the chain alone."""
        group = list(range(len(ids)))
        rest: list[int] = []
        key = keys[-1]
        for key in keys:
            wanted = self._deserves(key, len(ids))
            if wanted < len(group):
                group = self._by(key, group, ids)
                rest = group[wanted:] + rest
                group = group[:wanted]
            if wanted == 1:
                break
        if len(group) > 1:
            group = self._by(key, group, ids)
        return group + rest

    def _by(self, key: int, group: list[int], ids: Sequence[str]) -> list[int]:
        marks = self._marks
        scores = {}
        for number in group:
            found = marks.get(ids[number])
            if found is None:
                if len(marks) >= MARKS:
                    marks.clear()  # registries bring new addresses for ever
                found = marks[ids[number]] = mark(ids[number].encode())
            scores[number] = mix(key, found)
        return sorted(group, key=scores.__getitem__, reverse=True)

    def _deserves(self, key: int, count: int) -> int:
        """Of so many endpoints, how many the key should have."""
        return max(1, ceil(self._counts.get(key, 0) * count * WIDEN / (self._total + UNSURE)))

    def _home(self, key: int, count: int) -> str | None:
        """Where the conversation went last. Of a beginning that many have in common that says nothing."""
        return self._homes.get(key) if self._deserves(key, count) == 1 else None

    def _count(self, keys: list[int]) -> None:
        counts = self._counts
        for key in keys:
            counts[key] = counts.get(key, 0) + 1
        self._total += 1
        if self._total >= SPAN:
            self._counts = {key: half for key, count in counts.items() if (half := count >> 1)}
            self._total >>= 1

    def _keep(self, kept: dict[int, str], key: int, id: str, most: int) -> None:
        kept.pop(key, None)  # the last in the dict is the latest
        kept[key] = id
        if len(kept) > most:
            del kept[next(iter(kept))]


def _flying(now: float, loads: Sequence[Load]) -> list[float]:
    """Like with like: everybody's requests at each engine, or only this worker's at each."""
    for load in loads:
        if not load.fresh(now):
            return [load.in_flight for load in loads]
    return [load.others + load.in_flight for load in loads]

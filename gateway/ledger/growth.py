"""How much engines' own token counters have grown, by hour. Asks nobody; time is an argument (Unix seconds).

what is seen                      what is counted
a counter for the first time      nothing: from here on
it has grown                      the difference; over the end of an hour it is divided by time
it has fallen                     the engine was started again: all that it shows now, and a reset
after more than FAR               the same; but which hour it was is only known within one hour: else that time is not covered
after more than LONGEST           nothing: from here on
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from gateway.ledger.store import Increase, Raw

HOUR: Final = 3600.0
FAR: Final = 120.0
"""Seconds between two looks after which nobody knows what belongs to which hour."""
LONGEST: Final = 7 * 86_400.0

Key = tuple[str, str]
"""Channel and endpoint."""


@dataclass(slots=True)
class _Sum:
    prompt: int = 0
    generation: int = 0
    resets: int = 0
    covered: float = 0.0
    since: float = float("inf")
    until: float = 0.0

    def add(self, more: "Increase | _Sum") -> None:
        self.prompt += more.prompt
        self.generation += more.generation
        self.resets += more.resets
        self.covered += more.covered
        self.since, self.until = min(self.since, more.since), max(self.until, more.until)


class Growth:
    """What was seen of all engines since the last `take`."""

    def __init__(self, last: Iterable[Raw] = ()) -> None:
        """last: what was seen before, however long ago."""
        self._last = {(raw.channel, raw.endpoint): raw for raw in last}
        self._sums: dict[tuple[float, Key], _Sum] = {}

    def see(self, key: Key, prompt: int, generation: int, at: float) -> None:
        """What an engine's counters show now."""
        last = self._last.get(key)
        self._last[key] = Raw(*key, prompt, generation, at)
        if last is None or at - last.at > LONGEST:
            self._sum(at, key).add(_Sum(since=at, until=at))
            return
        fallen = prompt < last.prompt or generation < last.generation
        grown = (prompt, generation) if fallen else (prompt - last.prompt, generation - last.generation)
        begin = min(last.at, at)
        sure = at - begin <= FAR or (not fallen and begin // HOUR == at // HOUR)
        gone = [0, 0]
        for lo, hi, share in _pieces(begin, at):
            so_far = [int(amount * share) for amount in grown]
            part = _Sum(so_far[0] - gone[0], so_far[1] - gone[1], 0, hi - lo if sure else 0.0, lo, hi)
            self._sum(lo, key).add(part)
            gone = so_far
        if fallen:
            self._sum(at, key).resets += 1

    def _sum(self, at: float, key: Key) -> _Sum:
        return self._sums.setdefault((at // HOUR * HOUR, key), _Sum())

    def take(self) -> tuple[list[Increase], list[Raw]]:
        """What is to be kept: increases since the last time, and what was last seen of each engine. They must be kept together."""
        increases = [
            Increase(hour, *key, one.prompt, one.generation, one.resets, one.covered, min(one.since, one.until), one.until)
            for (hour, key), one in self._sums.items()
            if one.until
        ]
        self._sums = {}
        return increases, list(self._last.values())

    def give_back(self, increases: Iterable[Increase]) -> None:
        """They could not be kept."""
        for one in increases:
            self._sums.setdefault((one.hour, (one.channel, one.endpoint)), _Sum()).add(one)

    def forget(self, known: Iterable[Key]) -> None:
        """Engines that are not among these are gone; whoever has their place later is new."""
        kept = set(known)
        self._last = {key: raw for key, raw in self._last.items() if key in kept}


def _pieces(begin: float, end: float) -> Iterator[tuple[float, float, float]]:
    """The parts of the hours between two moments: from, to, and how much of the whole is over then (1 at the end)."""
    at = begin
    while True:
        border = min(end, at // HOUR * HOUR + HOUR)
        if border >= end:
            yield at, end, 1.0
            return
        yield at, border, (border - begin) / (end - begin)
        at = border

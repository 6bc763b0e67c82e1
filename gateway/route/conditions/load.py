"""`load`: how busy a channel is. The figures come from whoever knows them."""

from collections.abc import Callable
from typing import Final, NamedTuple

from gateway.config import resolved_when as form
from gateway.route.ask import Ask
from gateway.route.conditions.condition import compared, within


class Figures(NamedTuple):
    """Of one channel, all endpoints together; None = not known. kv_use: 0 to 1. The rest: numbers of requests."""

    running: float | None = None
    waiting: float | None = None
    queue: float | None = None
    kv_use: float | None = None


FiguresOf = Callable[[str], Figures]

_PLACES: Final = {name: number for number, name in enumerate(Figures._fields)}
_SAID: Final = {"running": "requests running", "waiting": "requests waiting", "queue": "requests queued", "kv_use": "KV cache use"}


class Busy:
    """One of some channels is as busy as described. A figure that is not known holds in no case."""

    __slots__ = ("_figures", "_limits", "_wanted", "word")

    def __init__(self, wanted: tuple[form.Load, ...], figures: FiguresOf) -> None:
        self.word = "load"
        self._wanted, self._figures = wanted, figures
        self._limits = [
            (f"load of {one.channel}", one.channel, [(_PLACES[name], limit) for name, limit in one.figures.items()]) for one in wanted
        ]

    def holds(self, ask: Ask) -> bool:
        once = ask.once
        for place, channel, limits in self._limits:
            known = once.get(place)
            if known is None:
                known = once[place] = self._figures(channel)
            for number, limit in limits:
                figure = known[number]
                if figure is None or not within(figure, limit):
                    break
            else:
                return True
        return False

    def told(self, ask: Ask) -> str:
        return "; ".join(self._one(wanted) for wanted in self._wanted)

    def _one(self, wanted: form.Load) -> str:
        known = self._figures(wanted.channel)
        said = []
        for name, limits in wanted.figures.items():
            figure: float | None = getattr(known, name)
            said.append(f"{_SAID[name]}: {'not known' if figure is None else compared(figure, limits)}")
        return f"{wanted.channel}: " + ", ".join(said)

"""`during` and `outside`: whether schedules are open when the request comes."""

from gateway.route.ask import Ask
from gateway.route.schedule import Schedule


class Open:
    """`during`: one of the schedules is open. `outside`: none of them is."""

    __slots__ = ("_during", "_named", "_schedules", "word")

    def __init__(self, word: str, schedules: dict[str, Schedule]) -> None:
        self.word = word
        self._during, self._named, self._schedules = word == "during", schedules, tuple(schedules.values())

    def holds(self, ask: Ask) -> bool:
        at = ask.at
        for schedule in self._schedules:
            if schedule.open_at(at):
                return self._during
        return not self._during

    def told(self, ask: Ask) -> str:
        return "; ".join(f"{name} is {schedule.told(ask.at)}" for name, schedule in self._named.items())

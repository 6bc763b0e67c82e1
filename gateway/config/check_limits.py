"""What is wrong with limits beyond single fields: names that lead nowhere, and limits that could never count or never hold."""

from collections.abc import Callable, Iterator, Sequence

from gateway.config.hours import DAY, hours_of
from gateway.config.limits import Limit, millionths
from gateway.config.marks import Loc
from gateway.config.read import Reading
from gateway.config.schema import Config
from gateway.config.when import Schedule
from gateway.config.wording import nearest
from gateway.config.zones import zone_mistakes
from gateway.errors import Mistake

Meaning = Callable[[str], str | None]
"""None when a pattern means some model by its own name; else what to say."""
_WEEK = 7 * DAY


def limits(config: Config, reading: Reading, keys: Sequence[int], meaning: Meaning) -> Iterator[Mistake]:
    """Of all places. keys: where in the file each key stands."""
    for at, found in _places(config, keys):
        seen: dict[str, int] = {}
        for number, limit in enumerate(found):
            here: Loc = (*at, number)
            word = limit.name or limit.count
            if seen.setdefault(word, number) != number:
                first = reading.marks.as_written((*at, seen[word]))[-1]
                hint = f"number {int(first) + 1} of this list is known by the same word; give one of them a `name`"
                yield reading.marks.at(here, f'two limits of one place are "{word}"', hint)
            yield from _Check(limit, here, config, reading).run(meaning)


def _places(config: Config, keys: Sequence[int]) -> Iterator[tuple[Loc, Sequence[Limit]]]:
    yield ("limits",), config.limits
    for name, tenant in config.tenants.items():
        yield ("tenants", name, "limits"), tenant.limits
        for project, one in tenant.projects.items():
            yield ("tenants", name, "projects", project, "limits"), one.limits
    for name, model in config.models.items():
        yield ("models", name, "limits"), model.limits
    for number, key in zip(keys, config.keys, strict=True):
        if key.limits:
            yield ("keys", number, "limits"), key.limits


class _Check:
    """The checks of one limit."""

    def __init__(self, limit: Limit, at: Loc, config: Config, reading: Reading) -> None:
        self.limit, self.at, self.config, self.reading = limit, at, config, reading

    def run(self, meaning: Meaning) -> Iterator[Mistake]:
        yield from self._time()
        yield from self._amount()
        yield from self._schedules()
        yield from self._whose(meaning)

    def _say(self, word: str, message: str, hint: str | None = None, *, key: bool = False) -> Mistake:
        return self.reading.marks.at((*self.at, word), message, hint, key=key)

    def _time(self) -> Iterator[Mistake]:
        limit = self.limit
        if limit.count == "concurrency" and limit.per is not None:
            yield self._say("per", "what is in flight is counted now, not per time", "leave `per` out", key=True)
        elif limit.count != "concurrency" and limit.per is None:
            yield self.reading.marks.at(self.at, "this limit does not say in which time", "add per: second, minute, hour, day or month")
        if limit.zone is None:
            return
        if limit.per not in ("day", "month"):
            yield self._say(
                "zone", "a zone is for the calendar", f"per: {limit.per or 'nothing'} does not go by it; leave `zone` out", key=True
            )
        else:
            yield from zone_mistakes(limit.zone, (*self.at, "zone"), self.reading)

    def _amount(self) -> Iterator[Mistake]:
        limit = self.limit
        if limit.count == "money":
            try:
                millionths(limit.max)
            except ValueError as error:
                yield self._say("max", f"this amount of money {error}")
            return
        if limit.currency is not None:
            yield self._say("currency", f"{limit.count} have no currency", "leave it out", key=True)
        if limit.max != limit.max.to_integral_value():
            yield self._say("max", f"{limit.count} come in whole numbers", f"write {int(limit.max)}")

    def _schedules(self) -> Iterator[Mistake]:
        limit, known = self.limit, self.reading.data.get("schedules")
        if limit.during is not None and limit.outside is not None:
            yield self._say("outside", "both during and outside", "a limit is for one of them; make it two limits with names", key=True)
        for word, name in (("during", limit.during), ("outside", limit.outside)):
            if name is None or self.reading.broken:
                continue
            schedule = self.config.schedules.get(name)
            if schedule is None and not (isinstance(known, dict) and name in known):
                names = dict.fromkeys(self.config.schedules)
                hint = nearest(name, names) or (f"known are: {', '.join(list(names)[:12])}" if names else "no schedule is configured")
                yield self._say(word, f'there is no schedule "{name[:64]}"', hint)
            elif schedule is not None and word == "outside" and _always_open(schedule):
                yield self._say(word, f'the schedule "{name}" is always open, so this limit never applies', "leave the limit out")

    def _whose(self, meaning: Meaning) -> Iterator[Mistake]:
        limit, place = self.limit, self.at[0]
        if place == "models" and limit.models:
            yield self._say(
                "models", "this limit is one model's already", "leave `models` out, or write the limit under `limits`", key=True
            )
            return
        if (place, limit.each) in (("models", "model"), ("keys", "key")):
            yield self._say("each", f"there is but one {limit.each} here", "leave `each` out", key=True)
        if not self.reading.broken:
            for number, glob in enumerate(limit.models):
                said = meaning(glob)
                if said is not None:
                    yield self.reading.marks.at((*self.at, "models", number), f'"{glob}" matches nothing', said)


def _always_open(schedule: Schedule) -> bool:
    """Whether its weekly hours leave no minute out, and nothing of a date takes their place."""
    if schedule.holidays:
        return False
    hours = [hours_of(text) for text in schedule.when]
    if any(one.first for one in hours):
        return False
    spans = sorted((day * DAY + one.begin, day * DAY + one.end) for one in hours for day in range(-1, 7) if one.days >> day % 7 & 1)
    covered = 0
    for begin, end in spans:
        if begin > covered:
            return False
        covered = max(covered, end)
    return covered >= _WEEK

"""What is wrong with rules and schedules beyond single fields: names that lead nowhere, conditions that can never hold.

Only what is certain is refused: a rule that merely looks odd is the operator's business.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final, Protocol

import yaml

from gateway.config.covering import Said, covers, said
from gateway.config.hours import hours_of, zone_of
from gateway.config.marks import Loc
from gateway.config.read import Reading
from gateway.config.regex import globbed
from gateway.config.resolved_when import Hours
from gateway.config.schema import Config
from gateway.config.when import Content, HeaderTest, Load, Schedule, When
from gateway.config.wording import nearest
from gateway.config.zones import zone_mistakes
from gateway.errors import Mistake
from gateway.words import STREAMING_APIS

_PLACED: Final = ("in", "ignore_case")


class RuleLike(Protocol):
    """What is looked at of a rule."""

    @property
    def when(self) -> When: ...


@dataclass(frozen=True)
class Known:
    """Names that conditions may refer to, those of parts that are wrong in themselves included.

    tenants: by name, their projects (None = not known). keys: by id, (tenant, project); None = not known.
    """

    channels: Iterable[str] = ()
    schedules: Iterable[str] = ()
    tenants: Mapping[str, Iterable[str] | None] = field(default_factory=dict)
    keys: Mapping[str, tuple[str, str] | None] = field(default_factory=dict)


def conditions(config: Config, reading: Reading) -> Iterator[Mistake]:
    """Of all schedules, and of the rules of all models."""
    yield from schedules(config.schedules, reading)
    known = _known(config, reading)
    for name, model in config.models.items():
        yield from rules(model.rules, ("models", name, "rules"), known, reading)


def _known(config: Config, reading: Reading) -> Known:
    def named(section: str) -> list[str]:
        data = reading.data.get(section)
        return [str(name) for name in data] if isinstance(data, dict) else []

    keys = reading.data.get("keys")
    written = [str(key.get("id")) for key in keys if isinstance(key, dict)] if isinstance(keys, list) else []
    return Known(
        channels=named("channels"),
        schedules=named("schedules"),
        tenants={name: config.tenants[name].projects if name in config.tenants else None for name in named("tenants")},
        keys={**dict.fromkeys(written), **{key.id: (key.tenant, key.project) for key in config.keys}},
    )


def rules(found: Sequence[RuleLike], at: Loc, known: Known, reading: Reading) -> Iterator[Mistake]:
    """Of all rules of one model, in their order. at: where the list stands. In a broken configuration, absences prove nothing."""
    always: int | None = None
    before: list[Said] = []
    for number, rule in enumerate(found):
        here: Loc = (*at, number)
        yield from _When(rule.when, (*here, "when"), known, reading).run()
        words = said(rule.when)
        wider = next((earlier for earlier, other in enumerate(before) if covers(other, words)), None) if always is None else None
        if always is not None:
            yield reading.marks.at(
                here, "this rule is never reached", f"rule number {always + 1} has no conditions, so it takes every request"
            )
        elif wider is not None:
            same = covers(words, before[wider])
            hint = "has the same conditions" if same else "takes every request that this one would; move this one up"
            yield reading.marks.at((*here, "when"), "this rule is never reached", f"rule number {wider + 1} {hint}")
        elif holds_always(rule.when):
            always = number
        before.append(words)


def holds_always(when: When) -> bool:
    """Whether there is no condition that anything could fail."""
    asked = [name for name in type(when).model_fields if getattr(when, name) not in (None, {})]
    return not asked or (asked == ["share"] and when.share is not None and when.share.percent == 100)


def schedules(found: Mapping[str, Schedule], reading: Reading) -> Iterator[Mistake]:
    """Of all schedules by name."""
    marks = reading.marks
    for name, schedule in found.items():
        at: Loc = ("schedules", name)
        yield from zone_mistakes(schedule.zone, (*at, "zone"), reading)
        for word, values in (("when", schedule.when), ("holidays", schedule.holidays)):
            yield from _twice((*at, word), values, reading)
        if not _opens_ever(schedule):
            hint = "the clocks are put forward over these hours; write others"
            yield marks.at((*at, "when"), "this schedule is never open", hint, key=True)
        if split := _split((*at, "when"), reading):
            number, text = split
            hint = f'quote the days and hours that belong together: "{text}"; a whole day beside others is Mon 00:00-24:00'
            yield marks.at((*at, "when", number), "inside [ ] a comma ends the entry, so this is a whole day", hint)
    yield from _of_the_others(found, reading)


def _of_the_others(found: Mapping[str, Schedule], reading: Reading) -> Iterator[Mistake]:
    """Schedules that are left out because a field of theirs is wrong: what can be said of their other fields is said at once as well."""
    written = reading.data.get("schedules")
    for name, words in written.items() if isinstance(written, dict) else ():
        if name in found or not isinstance(words, dict):
            continue
        if isinstance(words.get("zone"), str):
            yield from zone_mistakes(words["zone"], ("schedules", name, "zone"), reading)
        for word in ("when", "holidays"):
            if isinstance(words.get(word), list):
                yield from _twice(("schedules", name, word), words[word], reading)


def _opens_ever(schedule: Schedule) -> bool:
    """Whether there is any moment at which it is, or was, open: hours of the week come again, but those of a date may be hours that the
    clocks skip. Dates that are over are no mistake: else a file would be wrong from one day to the next."""
    hours = [hours_of(text) for text in schedule.when]
    try:
        zone = zone_of(schedule.zone)
    except ValueError:
        return True
    return any(not one.first or any(_opens_on(day, one, zone) for day in range(one.first, one.last + 1)) for one in hours)


def _opens_on(day: int, hours: Hours, zone: tzinfo) -> bool:
    midnight = datetime.fromordinal(day)
    for minute in range(hours.begin, hours.end):
        wall = midnight + timedelta(minutes=minute)
        if wall.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=None) == wall:
            return True
    return False


def _split(at: Loc, reading: Reading) -> tuple[int, str] | None:
    """The first of `[Mon, Wed, Fri 09:00-18:00]`, where a list of days was meant and three entries came out; and what was meant."""
    pair, depth = reading.marks.pair(at)
    node = pair[1] if pair and depth == len(at) else None
    if not isinstance(node, yaml.SequenceNode) or not node.flow_style:
        return None
    texts = [item.value if isinstance(item, yaml.ScalarNode) and item.style == "" else "" for item in node.value]
    for number in range(len(texts) - 1):
        if texts[number] and ":" not in texts[number] and not texts[number][0].isdigit():
            after = next((end for end in range(number + 1, len(texts)) if " " in texts[end] or not texts[end]), None)
            if after is not None and texts[after] and not hours_of(texts[after]).first:
                return number, ",".join(texts[number : after + 1])
    return None


class _When:
    """The checks of one rule's conditions."""

    def __init__(self, when: When, at: Loc, known: Known, reading: Reading) -> None:
        self.when, self.at, self.known = when, at, known
        self.reading, self.marks = reading, reading.marks

    def run(self) -> Iterator[Mistake]:
        when, at = self.when, self.at
        yield from self._unsaid(when, at)
        for word in ("prompt_tokens", "max_tokens"):
            if (limits := getattr(when, word)) is not None:
                yield from self._range(limits, (*at, word))
        yield from self._headers()
        for here, content in self._items((*at, "content"), when.content or ()):
            yield from self._content(content, here)
        yield from self._kinds()
        yield from self._consumers()
        yield from self._hours()
        if when.share is not None and when.share.by is not None and (when.share.by.of is None) == (when.share.by.header is None):
            yield self.marks.at((*at, "share", "by"), "this names nobody, or two", "write key, tenant, project or {header: x-user}")
        for here, load in self._items((*at, "load"), when.load or ()):
            yield from self._load(load, here)

    # -- helpers ------------------------------------------------------------------------------------------------------

    def _items(self, at: Loc, values: Sequence[Any]) -> Iterator[tuple[Loc, Any]]:
        """Each item and where it is written: a list of one may be written without brackets."""
        return _items(at, values, self.reading)

    def _unsaid(self, part: Any, at: Loc) -> Iterator[Mistake]:
        """A word with nothing behind it would be no condition, and the rule would hold more often than it says."""
        for name in type(part).model_fields:
            if name in part.model_fields_set and getattr(part, name) in (None, {}):
                yield self.marks.at((*at, name), f"nothing is written after `{name}`", "write a value, or leave the word out", key=True)

    def _range(self, limits: Any, at: Loc) -> Iterator[Mistake]:
        yield from self._unsaid(limits, at)
        if limits.over is None and limits.up_to is None:
            if not limits.model_fields_set:
                yield self.marks.at(at, "this says neither over nor up_to", "write {over: 30000}, {up_to: 100000} or both")
        elif limits.over is not None and limits.up_to is not None and limits.up_to <= limits.over:
            hint = f"it is up to {limits.up_to:.15g} and over {limits.over:.15g}"
            yield self.marks.at((*at, "up_to"), "nothing is above `over` and not above `up_to`: this can never match", hint)

    def _name(self, name: str, known: Iterable[str], what: str, at: Loc) -> Iterator[Mistake]:
        names = dict.fromkeys(known)
        if self.reading.broken or name in names:
            return
        hint = nearest(name, names) or (f"known are: {', '.join(list(names)[:12])}" if names else f"no {what} is configured")
        yield self.marks.at(at, f'there is no {what} "{name[:64]}"', hint)

    # -- what a request says ------------------------------------------------------------------------------------------

    def _headers(self) -> Iterator[Mistake]:
        at: Loc = (*self.at, "headers")
        lower: dict[str, str] = {}
        for name, tests in (self.when.headers or {}).items():
            if lower.setdefault(name.lower(), name) != name:
                yield self.marks.at((*at, name), f'the header "{name}" is written twice', "write its values as one list", key=True)
            for here, test in self._items((*at, name), tests):
                yield from self._header(test, here)
            yield from _twice((*at, name), tests, self.reading)

    def _header(self, test: HeaderTest, at: Loc) -> Iterator[Mistake]:
        yield from self._unsaid(test, at)
        written = [word for word in type(test).model_fields if getattr(test, word) is not None]
        if not written and not test.model_fields_set:
            yield self.marks.at(at, "this says nothing about the header", "write its value, or {prefix: …}, {match: …}, {present: true}")
        elif len(written) > 1:
            hint = "write two rules, or one pattern for both"
            yield self.marks.at(at, f"both {written[0]} and {written[1]}: a header is tested in one way", hint)
        if test.equals is not None and test.equals != test.equals.strip():
            yield self.marks.at((*at, "equals"), "a header's value has no space at its ends: this can never match")

    def _content(self, content: Content, at: Loc) -> Iterator[Mistake]:
        yield from self._unsaid(content, at)
        yield from _twice((*at, "words"), [_folded(word, content) for word in content.words or ()], self.reading)
        yield from _twice((*at, "equals"), [(type(value), value) for value in content.equals or ()], self.reading)
        for word in ("words", *_PLACED) if content.path else ("equals", "over", "up_to", "present"):
            if word in content.model_fields_set:
                said = f"{word} looks at the text, path at a value" if content.path else f"{word} without path"
                yield self.marks.at((*at, word), said, "write two items of the list, or one of both" if content.path else None, key=True)
                return
        if content.path is None:
            if not content.words and content.match is None:
                yield self.marks.at(at, "this looks for nothing", "write words, match, or path with equals")
            elif "ignore_case" in content.model_fields_set and not content.words:
                yield self.marks.at((*at, "ignore_case"), "ignore_case without words", "in match, write (?i)", key=True)
            return
        ways = [bool(content.equals), content.match is not None, content.over is not None or content.up_to is not None]
        if sum(ways) + (content.present is not None) != 1:
            hint = "one of equals, match, over with up_to, and present"
            yield self.marks.at((*at, "path"), "this says nothing about the value" if not any(ways) else "this asks two things", hint)
        elif ways[2]:
            yield from self._range(content, at)

    def _kinds(self) -> Iterator[Mistake]:
        when, at = self.when, self.at
        yield from _twice((*at, "api"), when.api or (), self.reading)
        has = when.has
        if has is None:
            return
        listed = self._listed()
        yield from _twice(listed, has.any or (), self.reading)
        yield from self._unsaid(has, (*at, "has"))
        if not has.model_fields_set:
            yield self.marks.at((*at, "has"), "this asks for nothing", "write [tools], or {tools: true}")
        if when.api and not STREAMING_APIS.intersection(when.api) and (has.stream or has.any == ["stream"]):
            where = (*at, "has", "stream") if has.stream else listed
            yield self.marks.at(
                where, f"{' and '.join(when.api)} never stream: this can never match", f"only {', '.join(sorted(STREAMING_APIS))} do"
            )
        if has.any and all(getattr(has, name) is False for name in has.any):
            yield self.marks.at((*at, "has"), "what is asked for is ruled out as well: this can never match")

    def _listed(self) -> Loc:
        """Where the list of `has` stands: behind the word itself, or behind `any`."""
        data: Any = _written(self.at, self.reading)
        grouped = isinstance(data, dict) and isinstance(data.get("has"), dict)
        return (*self.at, "has", "any") if grouped else (*self.at, "has")

    # -- who calls, and when ------------------------------------------------------------------------------------------

    def _consumers(self) -> Iterator[Mistake]:
        when, at, known = self.when, self.at, self.known
        for word, values in (("tenant", when.tenant or ()), ("project", when.project or ()), ("key", when.key or ())):
            yield from _twice((*at, word), values, self.reading)
        broken = [
            *self._each("tenant", when.tenant, known.tenants, "tenant"),
            *self._each("project", when.project, self._projects(), "project"),
            *self._each("key", when.key, known.keys, "key"),
        ]
        yield from broken
        if broken or self.reading.broken or not when.key or not (when.tenant or when.project):
            return
        mine = [owner for key, owner in known.keys.items() if _means(when.key)(key)]
        tenant, project = _means(when.tenant), _means(when.project)
        if all(owner is not None and not (tenant(owner[0]) and project(owner[1])) for owner in mine):
            whose = " or ".join(dict.fromkeys(f"{owner[0]}'s project {owner[1]}" for owner in mine[:4] if owner))
            yield self.marks.at(
                (*at, "key"), "no such key belongs to this tenant and project: this can never match", f"it belongs to {whose}"
            )

    def _each(self, word: str, names: Sequence[str] | None, known: Iterable[str] | None, what: str) -> Iterator[Mistake]:
        if known is None:
            return
        for here, name in self._items((*self.at, word), names or ()):
            if "*" not in name:
                yield from self._name(name, known, what, here)
            elif not self.reading.broken and not any(map(_means([name]), known)):
                yield self.marks.at(here, f'"{name}" means no {what} at all', nearest(name, known))

    def _projects(self) -> set[str] | None:
        """Projects of the tenants that the rule means; None when some tenant's are not known."""
        means = _means(self.when.tenant)
        found: set[str] = set()
        for tenant, projects in self.known.tenants.items():
            if means(tenant):
                if projects is None:
                    return None
                found.update(projects)
        return found

    def _hours(self) -> Iterator[Mistake]:
        when, at = self.when, self.at
        for word, names in (("during", when.during or ()), ("outside", when.outside or ())):
            yield from _twice((*at, word), names, self.reading)
            for here, name in self._items((*at, word), names):
                yield from self._name(name, self.known.schedules, "schedule", here)
        if when.during and set(when.during) <= set(when.outside or ()):
            yield self.marks.at((*at, "outside"), "during and outside the same schedule: this can never match")

    def _load(self, load: Load, at: Loc) -> Iterator[Mistake]:
        yield from self._unsaid(load, at)
        yield from self._name(load.channel, self.known.channels, "channel", (*at, "channel"))
        figures = [word for word in ("running", "waiting", "queue", "kv_use") if getattr(load, word) is not None]
        if not figures and load.model_fields_set == {"channel"}:
            yield self.marks.at(at, "this asks for no figure", "write running, waiting, queue or kv_use")
        for word in figures:
            yield from self._range(getattr(load, word), (*at, word))
        if load.kv_use is not None and load.kv_use.over is not None and load.kv_use.over >= 1:
            yield self.marks.at((*at, "kv_use", "over"), "nothing is fuller than full: this can never match", "a fraction: 0.9")


def _written(at: Loc, reading: Reading) -> Any:
    """What is written at a place, as plain data; None = nothing."""
    data: Any = reading.data
    for step in at:
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def _items(at: Loc, values: Sequence[Any], reading: Reading) -> Iterator[tuple[Loc, Any]]:
    listed = isinstance(_written(at, reading), list)
    for number, value in enumerate(values):
        yield (*at, number) if listed else at, value


def _twice(at: Loc, values: Sequence[Any], reading: Reading) -> Iterator[Mistake]:
    """Items that stand in a list already."""
    seen: dict[str, int] = {}
    for number, value in enumerate(values):
        first = seen.setdefault(repr(value), number)
        if first != number:
            yield reading.marks.at((*at, number), "this is listed twice", f"first as number {first + 1}")


def _folded(word: str, content: Content) -> str:
    return word.casefold() if content.ignore_case else word


def _means(names: Sequence[str] | None) -> Callable[[str], bool]:
    """Whether a name is one of `names`, in which `*` stands for anything. No names = any."""
    if not names:
        return lambda name: True
    exact = frozenset(names)
    globs = tuple(name for name in names if "*" in name)
    pattern = globbed(globs) if globs else None
    return lambda name: name in exact or (pattern is not None and pattern.search(name.encode()) is not None)

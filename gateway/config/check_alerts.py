"""What is wrong with alerts beyond single fields: sinks that lead nowhere, words that a kind of rule does not have."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from gateway.config.alert_kinds import DAY, KINDS, NUMBER, SHARE, TIME
from gateway.config.alerts import AlertRule, Sink, measure
from gateway.config.globs import matches
from gateway.config.marks import Loc
from gateway.config.read import Reading
from gateway.config.schema import Config
from gateway.config.service import understood
from gateway.config.wording import nearest
from gateway.errors import Mistake

OWN: Final = ("over", "within", "share", "requests", "sensitivity", "by", "channel", "model", "tenant")
"""Words that some kinds of rules have."""
BACK: Final = ("error_share", "ttft", "journal_lost", "control_restarted", "worker_restarted")
"""Kinds that look back in time `within`."""
_MEASURES: Final = {SHARE: "a share, like 5%", TIME: "a time, like 3s", NUMBER: "a number, like 100"}
_EXAMPLES: Final = 'one that begins with "slack://", "dingtalk://", "mailtos://" or "json://"; docs/alerts.md has one for each service'


def alerts(config: Config, reading: Reading) -> Iterator[Mistake]:
    """Of the whole section."""
    for name, sink in config.alerts.sinks.items():
        yield from _sink(sink, ("alerts", "sinks", name), reading)
    names: dict[str, int] = {}
    for number, rule in enumerate(config.alerts.rules or ()):
        at: Loc = ("alerts", "rules", number)
        yield from _words(rule, at, reading)
        yield from _to(rule, at, config, reading)
        yield from _globs(rule, at, config, reading)
        if rule.name is not None and names.setdefault(rule.name, number) != number:
            hint = f"first at {reading.marks.place(('alerts', 'rules', names[rule.name]))}"
            yield reading.marks.at((*at, "name"), f'two rules have the name "{rule.name}"', hint)


def _sink(sink: Sink, at: Loc, reading: Reading) -> Iterator[Mistake]:
    marks = reading.marks
    if (sink.url is None) == (sink.alertmanager is None):
        said = "both url and alertmanager" if sink.url is not None else "this sink leads nowhere"
        yield marks.at(at, said, 'write a URL of apprise, or {alertmanager: "http://host:9093"}')
        return
    if sink.url is None:
        return
    written = _written(reading, at)
    place = at if isinstance(written, str) else (*at, "url")
    if sink.credential:
        yield marks.at((*at, "credential"), "a credential is only for alertmanager", "it belongs into the URL", key=True)
    if not reading.broken and not understood(str(sink.url)):
        plain = sink.url.lower().startswith(("http://", "https://"))
        hint = "for a webhook write json:// or jsons:// in place of http:// or https://; for Alertmanager {alertmanager: …}"
        yield marks.at(place, "no service is known for this URL, or a part of it is missing", hint if plain else f"write {_EXAMPLES}")


def _words(rule: AlertRule, at: Loc, reading: Reading) -> Iterator[Mistake]:
    kind, marks = KINDS[rule.on], reading.marks
    for word in OWN:
        if getattr(rule, word) is not None and word not in kind.words:
            known = ", ".join(kind.words)
            hint = f"of these it has: {known}" if known else f"none of {', '.join(OWN)} is for it"
            yield marks.at((*at, word), f"{rule.on} has no `{word}`", hint, key=True)
    if rule.over is not None and kind.over and measure(rule.over)[0] != kind.over:
        yield marks.at((*at, "over"), f"`over` of {rule.on} is {_MEASURES[kind.over].partition(',')[0]}", f"write {_MEASURES[kind.over]}")
    if rule.within is not None and rule.on in BACK and rule.within > DAY:
        yield marks.at((*at, "within"), "this is too large", f"{rule.on} looks back one day at most")
    if rule.over is not None and rule.on in ("error_share", "disk") and measure(rule.over)[1] >= 100:
        yield marks.at((*at, "over"), "this can never be exceeded", "less than 100%")


def _to(rule: AlertRule, at: Loc, config: Config, reading: Reading) -> Iterator[Mistake]:
    sinks = config.alerts.sinks
    seen: dict[str, int] = {}
    for number, name in enumerate(rule.to or ()):
        if name not in sinks:
            hint = nearest(name, sinks) or (f"known are: {', '.join(list(sinks)[:12])}" if sinks else "add it under alerts.sinks")
            yield reading.marks.at((*at, "to", number), f'there is no sink "{name[:64]}"', hint)
        elif seen.setdefault(name, number) != number:
            yield reading.marks.at((*at, "to", number), "this is listed twice", f"first as number {seen[name] + 1}")


def _globs(rule: AlertRule, at: Loc, config: Config, reading: Reading) -> Iterator[Mistake]:
    if reading.broken:
        return
    known: dict[str, Iterable[str]] = {
        word: dict.fromkeys([*parsed, *_named(reading, f"{word}s")])
        for word, parsed in (("channel", config.channels), ("model", config.models), ("tenant", config.tenants))
    }
    for word, names in known.items():
        glob = getattr(rule, word)
        if glob is not None and word in KINDS[rule.on].words and not any(matches(glob, name) for name in names):
            yield reading.marks.at((*at, word), f'"{glob}" matches nothing', nearest(glob, names) or f"no {word} has such a name")


def _named(reading: Reading, section: str) -> Iterable[str]:
    written = reading.data.get(section)
    return written if isinstance(written, dict) else ()


def _written(reading: Reading, at: Loc) -> Any:
    data: Any = reading.data
    for step in at:
        data = data[step]
    return data

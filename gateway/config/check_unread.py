"""Names that lead nowhere in models and rules that have another mistake and are left out of the other checks: all is told at once."""

from collections.abc import Iterable, Iterator
from typing import Any

from gateway.config.marks import Loc, dotted
from gateway.config.read import Reading
from gateway.config.schema import Config
from gateway.config.wording import nearest
from gateway.errors import Mistake

Named = tuple[str, Any, Loc]
"""What a name should be one of (`channel`, `model`, `schedule`), what is written, and where."""


def unread(config: Config, reading: Reading, channels: Iterable[str], models: Iterable[str]) -> Iterator[Mistake]:
    """channels, models: all names of them, those that are wrong in themselves included. In a broken configuration, absences prove
    nothing."""
    if reading.broken:
        return
    schedules = reading.data.get("schedules")
    known = {"channel": channels, "model": models, "schedule": schedules if isinstance(schedules, dict) else ()}
    for what, name, at in _left_out(config, reading):
        if isinstance(name, str) and name and name not in known[what]:
            pair, _ = reading.marks.pair(at)
            names = list(known[what])
            hint = nearest(name, names) or (f"known are: {', '.join(names[:12])}" if names else f"no {what} is configured")
            if pair is not None:
                yield reading.marks.on(pair[1], dotted(at), f'there is no {what} "{name[:64]}"', hint)


def _left_out(config: Config, reading: Reading) -> Iterator[Named]:
    """All names in models that are left out, and in the rules that are left out of others."""
    models = reading.data.get("models")
    for name, model in models.items() if isinstance(models, dict) else ():
        at: Loc = ("models", name)
        rules = _list(model, "rules")
        if name not in config.models:
            yield from _targets(_list(model, "targets"), (*at, "targets"))
            yield from (("model", other, (*at, "fallback", n)) for n, other in enumerate(_list(model, "fallback")))
            stay: list[int] | None = []
        else:
            stay = reading.marks.left.get((*at, "rules"))
        if stay is not None:
            for number, rule in enumerate(rules):
                if number not in stay and isinstance(rule, dict):
                    yield from _rule(rule, (*at, "rules", number))


def _rule(rule: dict[str, Any], at: Loc) -> Iterator[Named]:
    to, when = rule.get("to"), rule.get("when")
    if isinstance(to, dict) and "channel" not in to and "targets" not in to:
        yield "model", to.get("model"), (*at, "to", "model")
    elif isinstance(to, dict):
        yield from _target(to, (*at, "to"))
    elif isinstance(to, list):
        yield from _targets(to, (*at, "to"))
    if isinstance(when, dict):
        for word in ("during", "outside"):
            yield from (("schedule", name, place) for name, place in _items(when.get(word), (*at, "when", word)))
        for load, place in _items(when.get("load"), (*at, "when", "load")):
            if isinstance(load, dict):
                yield "channel", load.get("channel"), (*place, "channel")


def _targets(targets: list[Any], at: Loc) -> Iterator[Named]:
    for number, target in enumerate(targets):
        if isinstance(target, dict):
            yield from _target(target, (*at, number))


def _target(target: dict[str, Any], at: Loc) -> Iterator[Named]:
    yield "channel", target.get("channel"), (*at, "channel")
    yield from _targets(_list(target, "targets"), (*at, "targets"))


def _list(part: Any, word: str) -> list[Any]:
    found = part.get(word) if isinstance(part, dict) else None
    return found if isinstance(found, list) else []


def _items(value: Any, at: Loc) -> Iterator[tuple[Any, Loc]]:
    """Each item and where it is: one may be written without a list."""
    if isinstance(value, list):
        yield from ((item, (*at, number)) for number, item in enumerate(value))
    else:
        yield value, at

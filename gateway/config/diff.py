"""What differs between two revisions, in the words of the YAML. Secrets are said to have changed, never shown."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from gateway.config.diff_prices import Said, amount_text, cost_changes, currency_changes, discount_changes, price_changes
from gateway.config.diff_routes import is_secret_test, spoken, target_text, tidy
from gateway.config.flow import flow
from gateway.config.resolved import Key, Resolved, Target
from gateway.config.resolved_access import OPEN, Access, Switch
from gateway.config.scalars import duration_text, size_text

Pair = tuple[Resolved, list[Key]]

_DURATIONS: Final = frozenset(
    "http.body_timeout http.write_idle http.sse_keepalive http.keepalive http.drain_timeout http.cors.max_age journal.every "
    "ledger.keep".split()
)
_PLAIN: Final = frozenset("percent share over up_to equals".split())
"""Words whose numbers are no times; as those of `caps` and `defaults`."""
_SIZES: Final = frozenset(
    ("http.body", "http.body_memory", "http.header", "journal.segment", "journal.reserve", "ledger.memory", "ledger.size")
)
_MONEY: Final[dict[str, Callable[[Any, Any], Iterator[Said]]]] = {
    "prices": price_changes,
    "currencies": currency_changes,
    "discounts": discount_changes,
    "costs": cost_changes,
}
_SECRETS: Final = frozenset(("credential", "digest"))
_WRITTEN: Final = {
    "endpoint_in_flight": "max_in_flight.endpoint",
    "queue_length": "queue.length",
    "queue_wait": "queue.wait",
    "registry": "endpoints.registry",
}
"""Fields that are written as another word."""
_NONE_AT_ZERO: Final = frozenset("max_in_flight endpoint context_length".split())
_MISSING: Final = object()


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. kind: `+`, `-`, `->` (old and new say what), `changed` (a secret)."""

    path: str
    kind: str
    old: str = ""
    new: str = ""

    def __str__(self) -> str:
        match self.kind:
            case "->":
                return f"{self.path} {self.old} -> {self.new}"
            case "changed":
                return f"{self.path} changed"
            case _:
                return f"{self.path} {self.kind} {self.old or self.new}"


def diff(old: Pair, new: Pair) -> list[Change]:
    """Every difference, in the order of the YAML's sections; keys last."""
    found: list[Change] = []
    for word in Resolved.__struct_fields__:
        before, after = getattr(old[0], word), getattr(new[0], word)
        if before == after:
            continue
        if word in _MONEY:
            found += (
                Change(path, "->" if was and now else "-" if was else "+", was, now) for path, was, now in _MONEY[word](before, after)
            )
            continue
        if word == "listeners":
            before, after = {one.name: one for one in before}, {one.name: one for one in after}
        if word in ("limits", "access"):
            found += _places(word, before, after)
            continue
        found += _members(word, before, after) if isinstance(before, dict) else _values(word, before, after)
    return [*found, *_keys(old[1], new[1])]


def _places(word: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[Change]:
    """Limits and access stand where they are written."""
    for place in dict.fromkeys([*old, *new]):
        path = place.replace("/", ".")
        if word == "limits":
            yield from _values(f"{path}.limits".lstrip("."), old.get(place, ()), new.get(place, ()))
        else:
            yield from _access(path, old.get(place, OPEN), new.get(place, OPEN))


def _access(path: str, old: Access, new: Access) -> Iterator[Change]:
    """In the words of the YAML."""
    path = f"{path}." if path else ""
    yield from _values(f"{path}models", old.models.allow, new.models.allow)
    yield from _values(f"{path}models.deny", old.models.deny, new.models.deny)
    yield from _values(f"{path}ip.allow", old.allow, new.allow)
    yield from _values(f"{path}ip.deny", old.deny, new.deny)
    yield from _values(f"{path}apis", old.apis, new.apis)
    yield from _values(f"{path}priority", _said(old.priority), _said(new.priority))
    yield from _values(f"{path}hours", old.hours, new.hours)


def _said(priority: int) -> int | None:
    return None if priority < 0 else priority


def _members(section: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[Change]:
    """Differences of a section whose parts have names."""
    for name in old:
        if name not in new:
            yield Change(section, "-", old=name)
    for name, after in new.items():
        if name not in old:
            yield Change(section, "+", new=_summary(name, after))
        elif old[name] != after:
            yield from _values(f"{section}.{name}", old[name], after)


def _summary(name: str, part: Any) -> str:
    engine, targets = getattr(part, "engine", None), getattr(part, "targets", None)
    if engine:
        return f"{name} ({engine}, {len(part.endpoints)} endpoint{'s' if len(part.endpoints) != 1 else ''})"
    return f"{name} ({', '.join(dict.fromkeys(t.channel for t in targets))})" if targets else name


def _values(path: str, old: Any, new: Any) -> Iterator[Change]:
    """Differences below one path. Groups are followed; a list of groups item by item; everything else is a value."""
    if old == new:
        return
    word = path.rpartition(".")[2]
    old, new = spoken(old), spoken(new)
    if word in _SECRETS or is_secret_test(path):
        yield Change(path.replace(".digest", " file"), "changed")
    elif word in ("headers", "sinks") and not path.startswith("models."):
        for name in dict.fromkeys([*old, *new]):
            if old.get(name) != new.get(name):
                yield (
                    Change(path, "-", old=name)
                    if name not in new
                    else Change(path, "+", new=name)
                    if name not in old
                    else Change(f"{path}.{name}", "changed")
                )
    elif isinstance(old, Target) and isinstance(new, Target) and bool(old.targets) != bool(new.targets):
        yield Change(path, "->", target_text(old), target_text(new))
    elif isinstance(old, msgspec.Struct) and type(old) is type(new):
        for name in old.__struct_fields__:
            yield from _values(f"{path}.{_WRITTEN.get(name, name)}", getattr(old, name), getattr(new, name))
    elif isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys([*old, *new]):
            yield from _values(f"{path}.{name}", old.get(name), new.get(name))
    elif (
        isinstance(old, tuple)
        and isinstance(new, tuple)
        and all(hasattr(item, "name") and (hasattr(item, "when") or hasattr(item, "severity")) for item in (*old, *new))
    ):
        yield from _rules(path, {item.name: item for item in old}, {item.name: item for item in new})
    elif isinstance(old, tuple) and isinstance(new, tuple) and any(isinstance(item, msgspec.Struct) for item in (*old, *new)):
        for number in range(max(len(old), len(new))):
            before, after = (items[number] if number < len(items) else None for items in (old, new))
            yield from _items(f"{path}[{number}]", before, after)
    else:
        yield Change(path, "->", _shown(path, old), _shown(path, new))


def _warned(limit: Any) -> str:
    warned = f", warns at {', '.join(map(str, limit.warn))}%" if limit.warn else ""
    stops = f", stops at {limit.stop}%" if limit.stop else ""
    return f"{warned}{stops}"


def _rules(path: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[Change]:
    """Rules go by their names; when only their order is another one, that is said."""
    yield from (Change(path, "-", old=name) for name in old if name not in new)
    yield from (Change(path, "+", new=name) for name in new if name not in old)
    for name, after in new.items():
        if name in old:
            yield from _values(f"{path}[{name}]", old[name], after)
    stayed, stays = ([name for name in one if name in other] for one, other in ((old, new), (new, old)))
    if stayed != stays:
        yield Change(f"{path} order", "->", ", ".join(old), ", ".join(new))


def _word(path: str) -> str:
    return path.rpartition(".")[2]


def _items(path: str, old: Any, new: Any) -> Iterator[Change]:
    """One place of a list of groups. An endpoint is its URL; a target of another channel is another target."""
    if old == new:
        return
    if old is None or new is None:
        yield Change(path, "-" if new is None else "+", *((_shown(path, old), "") if new is None else ("", _shown(path, new))))
    elif getattr(new, "count", "") == "money" == getattr(old, "count", ""):  # in the unit of the YAML
        yield Change(path, "->", *(f"{_shown(path, one)}{_warned(one)}" for one in (old, new)))
    elif hasattr(new, "url"):
        if old.url != new.url:
            yield Change(path, "->", old.url, new.url)
    else:
        yield from _values(path, old, new)


def _shown(path: str, value: Any) -> str:
    if value is None or value == "" or (value == 0 and _word(path) in _NONE_AT_ZERO):
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if hasattr(value, "url"):
        return str(value.url)
    if isinstance(value, Target):
        return target_text(value)
    if isinstance(value, dict | list) or (isinstance(value, tuple) and any(isinstance(item, dict) for item in value)):
        return flow(tidy(value))
    if path.endswith(".breaker.share"):
        return f"{value * 100:g}"
    if isinstance(value, Switch):
        models = "" if value.models is None else f" models {_shown(path, value.models.allow)}"
        priority = "" if value.priority < 0 else f" priority {value.priority}"
        return f"{'during' if value.during else 'outside'} {value.during or value.outside}:{models}{priority}"
    if hasattr(value, "count") and hasattr(value, "per"):
        if value.count == "money":
            return f"{value.word} {amount_text((value.budget or value.max) * 1000)} {value.currency} per {value.per}"
        return f"{value.word} {value.max}{f' per {value.per}' if value.per else ''}"
    if _word(path) == "expires":
        return datetime.fromtimestamp(value, UTC).isoformat().replace("+00:00", "Z") if value else "never"
    if path in _SIZES:
        return size_text(value)
    if isinstance(value, float) and (_word(path) in _PLAIN or ".caps." in path or ".defaults." in path):
        return f"{value:g}"
    if isinstance(value, float) or path in _DURATIONS:
        return duration_text(value)
    if isinstance(value, tuple):
        return f"[{', '.join(str(item) for item in value)}]"
    return "set" if isinstance(value, msgspec.Struct) else str(value)


def _keys(old: list[Key], new: list[Key]) -> Iterator[Change]:
    if old == new:
        return
    before, after = {key.id: key for key in old}, {key.id: key for key in new}
    for id, key in before.items():
        if id not in after:
            yield Change("keys", "-", old=f"{id} (tenant {key.tenant})")
    for id, key in after.items():
        was = before.get(id)
        if was is None:
            yield Change("keys", "+", new=f"{id} (tenant {key.tenant})")
        elif was != key:
            if was.digest != key.digest:
                yield Change(f"keys.{id}.hash", "changed")
            if was.previous != key.previous:
                yield Change(f"keys.{id}.previous", "changed")
            for word in ("tenant", "project", "enabled", "expires", "systems", "limits"):
                yield from _values(f"keys.{id}.{word}", getattr(was, word), getattr(key, word))
            yield from _access(f"keys.{id}", was.access, key.access)

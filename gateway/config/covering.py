"""Whether a rule takes every request that a later one would: what can be said for certain from how their conditions are written."""

from collections.abc import Mapping
from typing import Any

from gateway.config.when import When

Said = Mapping[str, Any]
"""A rule's words, each as something that can be compared: a range as (over, up_to), a list as the set of its items."""

_LISTS = ("content", "api", "tenant", "project", "key", "during", "outside", "load")
_RANGES = ("prompt_tokens", "max_tokens")


def said(when: When) -> Said:
    """The conditions of a rule, for `covers`."""
    words: dict[str, Any] = {name: frozenset(map(repr, items)) for name in _LISTS if (items := getattr(when, name)) is not None}
    for name in _RANGES:
        if (limits := getattr(when, name)) is not None:
            words[name] = (-1 if limits.over is None else limits.over, float("inf") if limits.up_to is None else limits.up_to)
    for name, tests in (when.headers or {}).items():
        words[f"header {name.lower()}"] = frozenset(map(repr, tests))
    if when.has is not None:
        words["has"] = repr(when.has)
    if when.share is not None and when.share.percent < 100:
        words["share"] = object()  # each rule draws anew: no share is like another one, not even of the same words
    return words


def covers(first: Said, second: Said) -> bool:
    """Whether `first` holds whenever `second` does: each of its words is there too, and is no narrower."""
    return first.keys() <= second.keys() and all(_wider(word, first[word], second[word]) for word in first)


def _wider(word: str, one: Any, other: Any) -> bool:
    if word in _RANGES:
        return bool(one[0] <= other[0] and other[1] <= one[1])
    if word == "outside":  # of none of them: the more are named, the fewer requests are left
        return bool(one <= other)
    return bool(other <= one if isinstance(one, frozenset) else one == other)

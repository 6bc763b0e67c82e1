"""What pydantic found, in the operator's words and at the line where it is written."""

import bisect
import difflib
import heapq
from collections.abc import Iterable, Sequence
from functools import lru_cache
from os.path import commonprefix
from typing import Any, Final

from pydantic_core import ErrorDetails

from gateway.config.fields import PATTERNS
from gateway.config.flow import flow
from gateway.config.marks import Loc, dotted
from gateway.config.read import Reading
from gateway.config.redact import word
from gateway.config.tree import example_at, model_at, words
from gateway.errors import Mistake

MISTAKES_MOST: Final = 200
"""Of one kind. A file that is wrong throughout is not worth more time."""
_COMPARED_MOST: Final = 40

_WANTED = {
    "string_type": ("this is not text", 'quote it: "…"'),
    "int_type": ("this is not a whole number", None),
    "int_from_float": ("this is not a whole number", None),
    "bool_type": ("this is neither true nor false", "YAML's yes, no, on and off are text here"),
    "list_type": ("this is not a list", "write [ ] around it, or one `- ` line for each"),
    "dict_type": ("this is not a group of `name: value`", None),
    "model_type": ("this is not a group of `word: value`", None),
    "string_too_short": ("this is empty", None),
}
_GROUPS: Final = frozenset({"list_type", "dict_type", "model_type"})


def nearest(word: str, known: Iterable[str]) -> str | None:
    """`did you mean "…"?`, when one of the known words is near."""
    some = list(known)
    if len(some) > _COMPARED_MOST:
        some = _alike(word, tuple(some))
    found = difflib.get_close_matches(word, some, 1, 0.6)
    return f'did you mean "{found[0]}"?' if found else None


def _alike(word: str, known: tuple[str, ...]) -> list[str]:
    """Those of many names that begin and end most alike, which are few enough to be compared letter by letter."""

    def alike(one: str) -> int:
        return len(commonprefix((one, word))) + len(commonprefix((one[::-1], word[::-1])))  # noqa: RUF071  # characters are meant

    forwards, backwards = _sorted(known)
    near = {*_around(word, forwards), *(one[::-1] for one in _around(word[::-1], backwards))}
    return heapq.nlargest(_COMPARED_MOST, sorted(near), key=alike)


def _around(word: str, known: list[str]) -> list[str]:
    """What stands beside it in a sorted list begins as it does."""
    at = bisect.bisect(known, word)
    return known[max(0, at - _COMPARED_MOST) : at + _COMPARED_MOST]


@lru_cache(maxsize=4)
def _sorted(known: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """From the front and from the back; a file with one mistake in such a name may have many."""
    return sorted(known), sorted(one[::-1] for one in known)


def worded(errors: Sequence[ErrorDetails], reading: Reading) -> list[Mistake]:
    """One mistake for each error; where a reference failed already, nothing more is said."""
    silent = {mistake.path for mistake in reading.mistakes}
    made = []
    for error in errors[:MISTAKES_MOST]:
        loc: Loc = error["loc"]
        if dotted(loc) not in silent:
            made.append(_one(error, loc, reading))
    return made


def _one(error: ErrorDetails, loc: Loc, reading: Reading) -> Mistake:
    marks, kind, context = reading.marks, error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        hint = nearest(str(loc[-1]), known := model_at(loc[:-1]))
        hint = hint or _elsewhere(str(loc[-1])) or (f"known are: {', '.join(known)}" if len(known) <= 16 else None)
        mistake = marks.at(loc, f'unknown word "{word(str(loc[-1]))[:80]}"', hint, key=True)
        return Mistake(mistake.file, mistake.line, mistake.column, dotted(loc[:-1]), mistake.message, mistake.hint, mistake.source)
    if kind == "missing":
        mistake = marks.at(loc, f"`{loc[-1]}` is missing", _example(loc), key=True)
        return Mistake(
            mistake.file, mistake.line or 1, mistake.column or 1, dotted(loc[:-1]), mistake.message, mistake.hint, mistake.source
        )
    if loc and loc[-1] == "[key]":
        message, hint = _said(kind, context)
        return marks.at(loc[:-1], message.replace("this", f'"{str(loc[-2])[:80]}"', 1) if "pattern" in kind else message, hint, key=True)
    message, hint = _said(kind, context)
    if kind == "literal_error":
        message, hint = _choice(loc, context, reading)
    elif kind == "model_type" and isinstance(example := example_at(loc), list):  # a list, or a group in its place
        message, hint = _WANTED["list_type"][0], f"write it like {flow(example)}"
    elif kind in _GROUPS:
        hint = _likeness(loc) or hint
    return marks.at(loc, message, hint)


def _elsewhere(name: str) -> str | None:
    """Where a word belongs that stands in the wrong group, when there is but one such place."""
    places = [full.rpartition(".")[0] for full in words() if full.rpartition(".")[2] == name]
    if len(places) != 1:
        return None
    return f"it belongs in `{places[0]}`" if places[0] else "it belongs at the top of the file"


def _likeness(loc: Loc) -> str | None:
    """What a group, or a list of groups, looks like."""
    example = example_at(loc)
    if isinstance(example[0] if isinstance(example, list) and example else example, dict):
        return f"write it like {flow(example)}"
    known = model_at(loc)
    return f"its words are: {', '.join(known)}" if known and example is None else None


def _said(kind: str, context: dict[str, Any]) -> tuple[str, str | None]:
    if kind == "wrong":
        return context["text"], context["hint"]
    if kind == "string_pattern_mismatch":
        message, hint = PATTERNS.get(context["pattern"], ("has the wrong form", None))
        return f"this {message}", hint
    if kind in ("greater_than_equal", "less_than_equal"):
        limit = context.get("ge", context.get("le"))
        return (
            "this is too small" if "ge" in context else "this is too large"
        ), f"{'at least' if 'ge' in context else 'at most'} {getattr(limit, 'text', limit)}"
    if kind == "too_short":
        return "this list is empty", None
    if kind == "string_too_long":
        return "this is too long", f"at most {context['max_length']} characters"
    return _WANTED.get(kind, (f"this is not understood ({kind})", None))


def _choice(loc: Loc, context: dict[str, Any], reading: Reading) -> tuple[str, str]:
    words = [word.strip("'") for word in context["expected"].replace(" or ", ", ").split(", ")]
    given: Any = reading.data
    try:
        for step in loc:
            given = given[step]
    except (KeyError, IndexError, TypeError):
        given = None
    near = nearest(given, words) if isinstance(given, str) else None
    if len(words) == 1:
        return "this has to be " + words[0], f"write {words[0]}"
    return "this is none of " + ", ".join(words), near or "write one of them"


def _example(loc: Loc) -> str | None:
    return "add `version: 1`" if loc == ("version",) else None

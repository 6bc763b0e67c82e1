"""What a word of the configuration means: `channels.timeouts.connect`, with or without a name in between."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic.fields import FieldInfo

from gateway.config.show import value_of
from gateway.config.tree import inner, type_text, words
from gateway.config.wording import nearest


@dataclass(frozen=True, slots=True)
class Explained:
    """A field's meaning. default: as it would be written; None when there is none. below: the words inside a group."""

    path: str
    description: str
    type: str
    required: bool
    default: Any
    example: Any
    below: tuple[str, ...]


def explain(path: str) -> Explained:
    """The field at `path`. Raises LookupError, with what was probably meant, when there is none."""
    found = _find(path)
    info = words()[found]
    step, model = inner(info.annotation)
    below = tuple(f"{found}{step}.{name}" for name in model.model_fields) if model else ()
    example = info.examples[0] if info.examples else None
    return Explained(found, info.description or "", type_text(info.annotation), info.is_required(), default_of(info), example, below)


def default_of(info: FieldInfo) -> Any:
    """A field's default as it would be written; None when it has none of its own."""
    if info.default_factory in (list, dict):
        return info.default_factory()
    if info.is_required() or info.default_factory is not None:
        return None
    return value_of(info.default)


def _find(path: str) -> str:
    """The full path of what was asked for: names (`channels.gpu.engine`) and numbers (`targets[0]`) may be left out or be any."""
    asked = re.sub(r"\[\d*\]", "", path.strip().strip(".")).split(".")
    known = {full: re.sub(r"\[\]|\.<name>", "", full) for full in words()}
    wanted = ".".join(word for word in asked if word != "<name>")
    fits = [full for full, short in known.items() if wanted == short or _fits(asked, full.replace("[]", "").split("."))]
    if fits:
        return max(fits, key=lambda full: (known[full] == wanted, full.count(".")))
    ends = [full for full, short in known.items() if short.endswith("." + wanted)]
    if len(ends) == 1:
        return ends[0]
    if ends:
        hint: str | None = f"did you mean {' or '.join(ends[:4])}?"
    elif (begun := _begun(asked, known)) is not None:
        group, rest = begun
        step, model = inner(words()[group].annotation)
        if step.startswith(".<name>") and len(rest) == 1 and nearest(rest[0], model.model_fields if model else ()) is None:
            return group  # one of its parts by name, and nothing of it
        hint = _below(known[group], rest[-1], list(model.model_fields) if model else [], known)
    else:
        hint = _last(asked[-1], known.values()) or nearest(wanted, known.values())
    raise LookupError(f'"{path}" is not part of the configuration' + (f"; {hint}" if hint else ""))


def _begun(asked: list[str], known: dict[str, str]) -> tuple[str, list[str]] | None:
    """How far a path is right, as the field that it leads to, and what follows."""
    for length in range(len(asked) - 1, 0, -1):
        begin = asked[:length]
        for full, short in known.items():
            if short == ".".join(begin) or _fits(begin, full.replace("[]", "").split(".")):
                return full, asked[length:]
    return None


def _below(group: str, word: str, names: list[str], known: dict[str, str]) -> str:
    """For a path that is right as far as `group`: what was meant of that which is below it, or else what there is."""
    if not names:
        return f"{group} has no words below it"
    if closest := difflib.get_close_matches(word, names, 1, 0.85):
        return f'did you mean "{group}.{closest[0]}"?'
    near = _last(word, [short for short in known.values() if short.startswith(f"{group}.")])
    elsewhere = next((short for short in known.values() if short.endswith(f".{word}")), None)
    return near or (f'did you mean "{elsewhere}"?' if elsewhere else f"{group} has {', '.join(names)}")


def _fits(asked: list[str], full: list[str]) -> bool:
    """Whether the words are those of the path, with any name where it has `<name>` (a model's name may hold dots)."""
    pattern = r"\.".join(".+" if word == "<name>" else re.escape(word) for word in full)
    return re.fullmatch(pattern, ".".join(asked)) is not None


def _last(word: str, known: Iterable[str]) -> str | None:
    """Of these paths the one whose last word is meant."""
    ends: dict[str, str] = {}
    for short in known:
        ends.setdefault(short.rpartition(".")[2], short)
    near = nearest(word, ends)
    return f'did you mean "{ends[near.split(chr(34))[1]]}"?' if near else None

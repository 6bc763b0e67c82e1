"""The schema as a tree of words: which stand where, of which type. For suggestions, `explain`, and the test of the docs."""

from decimal import Decimal
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from gateway.config.fields import DurationField, SizeField
from gateway.config.marks import Loc
from gateway.config.part import Part
from gateway.config.schema import Config


def unwrapped(annotation: Any) -> Any:
    """The type without Annotated and without `| None`."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, UnionType):
        inner = [a for a in get_args(annotation) if a is not NoneType]
        return unwrapped(inner[0]) if len(inner) == 1 else annotation
    return annotation


def inner(annotation: Any) -> tuple[str, type[Part] | None]:
    """How the parts below a field are reached (`""`, `.<name>`, `[]`), and their model."""
    kind = unwrapped(annotation)
    if isinstance(kind, type) and issubclass(kind, Part):
        return "", kind
    if get_origin(kind) in (Union, UnionType):  # a list, or a group in its place: the group has words
        return next((("", one) for one in map(unwrapped, get_args(kind)) if isinstance(one, type) and issubclass(one, Part)), ("", None))
    if get_origin(kind) in (dict, list):
        step, below = inner(get_args(kind)[-1])
        if below is not None:
            return (".<name>" if get_origin(kind) is dict else "[]") + step, below
    return "", None


@cache
def words() -> dict[str, FieldInfo]:
    """Every field by its dotted path: `channels.<name>.timeouts.connect`, `models.<name>.targets[].weight`."""
    found: dict[str, FieldInfo] = {}

    def walk(model: type[Part], prefix: str, above: tuple[type[Part], ...]) -> None:
        for name, info in model.model_fields.items():
            found[prefix + name] = info
            step, below = inner(info.annotation)
            if below is not None and not any(issubclass(one, below) for one in above):  # targets have targets: told once
                walk(below, f"{prefix}{name}{step}.", (*above, below))

    walk(Config, "", (Config,))
    return found


def model_at(loc: Loc) -> list[str]:
    """The words that may stand in the group at `loc`."""
    model: type[Part] | None = Config
    way = ""
    for step in loc:
        if way.startswith(".<name>"):
            way = way.removeprefix(".<name>")
        elif way and isinstance(step, int):  # a list of one may be written as that one: then there is no number
            way = way.removeprefix("[]")
        elif model is None or step not in model.model_fields:
            return []
        else:
            way, model = inner(model.model_fields[str(step)].annotation)
    return list(model.model_fields) if model is not None and ".<name>" not in way else []


def example_at(loc: Loc) -> Any:
    """What might stand at `loc`, from the example of the field that it is in; None when there is none."""
    model: type[Part] | None = Config
    way, found = "", None
    for step in loc:
        if way.startswith(".<name>"):
            way, found = way.removeprefix(".<name>"), next(iter(found.values()), None) if isinstance(found, dict) else None
        elif isinstance(step, int):
            way, found = way.removeprefix("[]"), found[0] if isinstance(found, list) and found else None
        elif model is None or step not in model.model_fields:
            return None
        else:
            info = model.model_fields[step]
            (way, model), found = inner(info.annotation), info.examples[0] if info.examples else None
    return found


def type_text(annotation: Any) -> str:
    """A type as a sysadmin reads it."""
    kind = unwrapped(annotation)
    if get_origin(kind) is Literal:
        return " | ".join(str(word) for word in get_args(kind))
    if get_origin(kind) is list:
        return f"list of {type_text(get_args(kind)[0])}"
    if get_origin(kind) is dict:
        return f"name: {type_text(get_args(kind)[1])}"
    if get_origin(kind) in (Union, UnionType) and inner(kind)[1] is not None:
        return " | ".join(type_text(one) for one in get_args(kind))
    names: dict[Any, str] = {
        DurationField: "duration",
        SizeField: "size",
        bool: "true | false",
        int: "number",
        str: "text",
        int | str: "number or auto",
        float: "number",
        Decimal: "decimal number",
        str | int | float | bool: "text, number, true or false",
    }
    return names.get(kind, "group")

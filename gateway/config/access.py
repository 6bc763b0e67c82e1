"""The part of the configuration that says who may do what: `models`, `apis`, `ip`, `hours` of tenants, projects and keys."""

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import PlainValidator, TypeAdapter, WrapValidator

from gateway.config.fields import Cidr, Glob, Hash, Whole, quoted, wrong
from gateway.config.part import Part, field
from gateway.config.when import Api

_globs: TypeAdapter[list[str]] = TypeAdapter(list[Glob])


class ModelSet(Part):
    """Models by name or alias. A list alone stands for `{allow: …}`."""

    allow: list[Glob] = field("Those that may be used; `*` stands for anything.", ["qwen*"], ["*"])
    deny: list[Glob] = field("Those of them that may not. A model is denied by any of its names.", ["qwen-large"], [])


def _model_set(value: Any, read: Any) -> Any:
    return ModelSet(allow=_globs.validate_python(value, strict=True)) if isinstance(value, list) else read(value)


Models = Annotated[ModelSet, WrapValidator(_model_set, json_schema_input_type=list[Glob] | ModelSet)]


class Ip(Part):
    """Addresses of callers, as they are after `http.trusted_proxies` were asked."""

    allow: list[Cidr] = field("Networks that may call. Default: all.", ["10.0.0.0/8"], [])
    deny: list[Cidr] = field("Networks that may not, even where `allow` has them.", ["10.0.9.0/24"], [])


class Switch(Part):
    """What is otherwise in some hours. Of several the first that applies counts, for each word by itself."""

    during: str | None = field("It applies while this schedule is open.", "office", None)
    outside: str | None = field("It applies while this schedule is closed.", "office", None)
    models: Models | None = field("Takes the place of `models`.", ["small*"], None)
    priority: Whole | None = field("Takes the place of `priority`.", 8, None, ge=0, le=9)


def instant(text: str) -> float:
    """`2027-01-01` (its beginning in UTC) or `2027-01-01T18:00+08:00`, as seconds since 1970. Raises ValueError with what to write."""
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is None and len(text) > len("2027-01-01"):
            raise ValueError("does not say in which zone; write 2027-01-01T18:00+08:00, or Z at its end for UTC")
    except ValueError as error:
        said = str(error)
        raise ValueError(said if "zone" in said else "is not a date; write 2027-01-01 or 2027-01-01T18:00+08:00") from None
    return found.replace(tzinfo=found.tzinfo or UTC).timestamp()


def _instant(value: Any) -> str:
    if not isinstance(value, str):
        raise wrong(f"{quoted(value)} is not a date", "write 2027-01-01 or 2027-01-01T18:00+08:00")
    try:
        instant(value)
    except ValueError as error:
        message, _, hint = str(error).partition("; ")
        raise wrong(f"{quoted(value)} {message}", hint) from None
    return str(value)


Instant = Annotated[str, PlainValidator(_instant, json_schema_input_type=str)]


class Previous(Part):
    """The secret that a key had before `gatewayctl keys rotate`."""

    hash: Hash = field("SHA-256 of the old secret.", "sha256:" + "1e" * 32)
    until: Instant = field("From then on the old secret is refused.", "2027-01-01T12:00:00Z")


def models_field(whose: str) -> Any:
    return field(f"Models that {whose} may use, by name or alias; `*` stands for anything. Default: all.", ["qwen*"], None)


def apis_field() -> Any:
    return field("APIs that may be called. Default: all. `/v1/models` always may.", ["chat", "embeddings"], [])


def ip_field(whose: str) -> Any:
    return field(f"Addresses from which {whose} may call.", {"allow": ["10.0.0.0/8"]}, None)


def hours_field() -> Any:
    return field("Other models or another priority in some hours.", [{"outside": "office", "models": ["*"]}], [])


Apis = list[Api]
Hours = list[Switch]

"""What every part of the configuration's language is made with: frozen groups of words, each saying what it means."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from gateway.config.scalars import Duration, Size


def field(description: str, example: Any, default: Any = ..., **rules: Any) -> Any:
    """A field with what `explain` says of it. default `...` = must be written."""
    if default in ([], {}):  # made anew is a tenth of the price of copied, and there may be a hundred thousand keys
        return Field(
            default_factory=type(default), description=description, examples=[example], json_schema_extra={"default": default}, **rules
        )
    return Field(default, description=description, examples=[example], **rules)


def duration(default: str, description: str, example: str, least: str = "1ms", most: str = "3650d") -> Any:
    low, high = Duration.of(least), Duration.of(most)
    return Field(Duration.of(default), description=description, examples=[example], ge=low, le=high)


def size(default: str, description: str, example: str, least: str = "1B", most: str = "1TiB") -> Any:
    low, high = Size.of(least), Size.of(most)
    return Field(Size.of(default), description=description, examples=[example], ge=low, le=high)


class Part(BaseModel):
    """What all parts of the configuration have in common: unknown words are refused, and nothing changes once read."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, protected_namespaces=())


def group(model: type[Part], description: str, example: Any) -> Any:
    """A group of words that need not be written: then each has its own default."""
    made = model.model_construct()
    return Field(default_factory=lambda: made, description=description, examples=[example])

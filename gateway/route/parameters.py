"""A model's defaults and caps: parameters for callers who send none, and the largest that callers may have."""

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Raw

from gateway.wire.openai import Fields, encode, number_of

APIS: Final = frozenset({"chat", "completions"})
"""Where parameters of sampling mean something."""
ANSWER: Final = ("max_completion_tokens", "max_tokens")
"""Both limit the answer; engines take the first of them."""


class Parameters:
    """One model's, encoded once."""

    __slots__ = ("_caps", "_defaults")

    def __init__(self, defaults: Mapping[str, Any], caps: Mapping[str, float]) -> None:
        self._defaults = {name: Raw(encode(value)) for name, value in defaults.items()}
        self._caps = {name: (most, Raw(encode(most))) for name, most in caps.items()}

    def apply(self, fields: Fields) -> list[str]:
        """Changes `fields` in place; names what was changed, for the record: `+temperature`, `max_tokens<=8192`."""
        done = []
        for name, value in self._defaults.items():
            if name not in fields and not (name in ANSWER and any(other in fields for other in ANSWER)):
                fields[name] = value
                done.append(f"+{name}")
        for name, (most, raw) in self._caps.items():
            names: list[str] = [other for other in ANSWER if other in fields] or [name] if name == "max_tokens" else [name]
            for one in names:
                if _over(fields.get(one), most, missing=name == "max_tokens"):
                    fields[one] = raw
                    done.append(f"{one}<={most}")
        return done


def _over(raw: Raw | None, most: float, *, missing: bool) -> bool:
    """Whether a value is above its cap. missing: so is none at all, or null, because the engine's own may be. What is no number is the
    engine's to refuse."""
    if raw is None or bytes(raw) == b"null":
        return missing
    value = number_of(raw)
    return value is not None and value > most

"""Records of requests as support may see them. They hold no prompts and no answers, but words that a caller chose may be secrets.

Kept is what the gateway or the configuration chose: ids of records, tenants, projects, keys, channels, configured models, ends, numbers.
`trace` (the caller's request id), `system`, `ip` and names of models that are not configured become pseudonyms, and so does every text in a
field that is not listed here.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from gatewayctl.bundle.cover import Cover

OURS: Final = frozenset(
    "kind id node tenant project key api rule policy channel endpoint upstream_model status end source rewrites via format".split()
)
NAMES: Final = frozenset(("model", "upstream_model"))
WORDS: Final = frozenset(("error", "reason"))
"""Ours or the engine's: kept when it is a single word."""
_word: Final = re.compile(r"[a-z][a-z0-9_]{0,59}")


class Clean:
    """models: every name of the configuration, aliases and the engines' own included."""

    def __init__(self, cover: Cover, models: frozenset[str]) -> None:
        self._cover, self._models = cover, models

    def record(self, record: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self._value(name, value) for name, value in record.items()}

    def _value(self, name: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return self.record(value)
        if isinstance(value, list):
            return [self._value(name, one) for one in value]
        if not isinstance(value, str) or not value:
            return value
        if name in NAMES:
            return value if value in self._models else self._cover.pseudonym(value)
        if name in WORDS:
            return value if _word.fullmatch(value) else self._cover.pseudonym(value)
        return self._cover.text(value) if name in OURS else self._cover.pseudonym(value)

"""Reads LiteLLM's price map (model_prices_and_context_window.json) into entries of `prices`. Numbers are decimals, exactly as written."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import repeat
from typing import Any, Final

from gateway.config.fields import GLOB
from gateway.config.flow import flow
from gateway.config.prices import CHARGES, DIGITS, LARGEST, LONGEST
from gateway.config.scalars import decimal_text

_TOKENS: Final = {
    "input_cost_per_token": "input",
    "cache_read_input_token_cost": "cached",
    "output_cost_per_token": "output",
    "output_cost_per_reasoning_token": "reasoning",
}
"""Prices of one token, and our word for each; with `_above_128k_tokens` at their end they make a tier."""
_REQUEST: Final = ("input_cost_per_request", "input_cost_per_query")
"""Of a request; a rerank is one query."""
_PER: Final = 1_000_000
_above = re.compile(r"(?P<word>\w+?)_above_(?P<thousands>\d+)k_tokens\Z")
_glob = re.compile(GLOB)
_EXAMPLE: Final = "sample_spec"


@dataclass(slots=True)
class Imported:
    """One model of the map. words: as in the YAML, amounts as text for a million tokens; empty = nothing of it can be used.

    skipped: fields about money that have no counterpart here, or an amount that is none."""

    name: str
    words: dict[str, Any] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


def read_price_map(text: str) -> list[Imported]:
    """In the order of the map. Raises ValueError with what is wrong with it as a whole."""
    try:
        found = json.loads(text, parse_float=Decimal, parse_int=Decimal, parse_constant=lambda word: None)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not JSON: {error}") from None
    if not isinstance(found, dict) or not any(isinstance(one, dict) for one in found.values()):
        raise ValueError("is not a price map: an object with one object for each model")
    return [_model(name, one) for name, one in found.items() if isinstance(one, dict) and name != _EXAMPLE]


def _model(name: str, said: Mapping[str, Any]) -> Imported:
    found = Imported(name)
    if not _glob.match(name) or "*" in name:
        found.skipped.append("its name, which no model here can have")
        return found
    tiers: dict[int, dict[str, str]] = {}
    for word, value in said.items():
        above = _above.match(word)
        ours = _TOKENS.get(above["word"] if above else word)
        if ours is not None:
            over = _over(Decimal(above["thousands"]) * 1000) if above else None
            if above and over is None:
                found.skipped.append(word)
            else:
                _put(found, found.words if over is None else tiers.setdefault(over, {}), ours, value, word)
        elif word in _REQUEST:
            _put(found, found.words, "request", value, word, per=1)
        elif word == "tiered_pricing":
            _ranges(found, value, tiers)
        elif "cost" in word and value is not None:
            found.skipped.append(word)
    _finish(found, tiers)
    if any(map(_charges, found.skipped, repeat(said))) and _is_free(found.words):
        found.words = {}
        found.skipped.append("prices of 0, for what it does cost has no counterpart")
    return found


def _charges(word: str, said: Mapping[str, Any]) -> bool:
    return said.get(word) not in (None, 0)


def _is_free(words: Mapping[str, Any]) -> bool:
    return bool(words) and all(Decimal(amount) == 0 for amount in words.values() if isinstance(amount, str))


def _over(tokens: Any) -> int | None:
    """From where on a tier counts; None = no tier of ours can."""
    return int(tokens) if isinstance(tokens, Decimal) and 1 <= tokens <= LONGEST and tokens == int(tokens) else None


def _put(found: Imported, place: dict[str, Any], ours: str, value: Any, word: str, per: int = _PER) -> None:
    if value is None:
        return
    believed = isinstance(value, Decimal) and value.is_finite() and 0 <= value <= LARGEST  # looked at first: a product may overflow
    amount = value * per if believed else None
    if amount is None or amount > LARGEST:
        found.skipped.append(word)
    else:
        exact = round(amount, DIGITS)
        vanished = bool(value) and not exact  # too little to be told is not free
        if vanished or exact != amount:
            found.skipped.append(f"{word} beyond {DIGITS} digits")
        if not vanished:
            place[ours] = decimal_text(exact)


def _ranges(found: Imported, value: Any, tiers: dict[int, dict[str, str]]) -> None:
    """Prices by the length of the prompt: `[{"range": [0, 32000], "input_cost_per_token": …}, …]`."""
    for one in value if isinstance(value, list) else ():
        low = _begin(one.get("range")) if isinstance(one, dict) else None
        over = _over(low)
        if over is None and low != 0:
            found.skipped.append("tiered_pricing")
            continue
        place = found.words if over is None else tiers.setdefault(over, {})
        for word, ours in _TOKENS.items():
            _put(found, place, ours, one.get(word), f"tiered_pricing.{word}")


def _begin(range_: Any) -> Any:
    return range_[0] if isinstance(range_, list) and range_ else None


def _finish(found: Imported, tiers: dict[int, dict[str, str]]) -> None:
    """In the order of our words. What is part of something that has no price cannot have one."""
    words = found.words
    for part, whole in (("cached", "input"), ("reasoning", "output")):
        if part in words and whole not in words:
            del words[part]
            found.skipped.append(f"{part} tokens, for {whole} tokens have no price")
    found.words = {word: words[word] for word in (*CHARGES, "request") if word in words}
    rising = [{"over": over, **{word: one[word] for word in CHARGES if word in one}} for over, one in sorted(tiers.items()) if one]
    if rising and found.words:
        found.words["tiers"] = rising


def lines(found: Iterable[Mapping[str, Any]]) -> str:
    """Entries as the YAML of a `prices` section, one a line."""
    return "prices:\n" + "".join(f"  - {flow(entry)}\n" for entry in found)

"""Prometheus' and OpenMetrics' text as far as routing needs it: some gauges and counters, over all series of an engine.

prometheus-client has a parser, which makes an object of each of ten thousand samples and refuses a page for one bad line.
"""

import re
from collections.abc import Mapping
from typing import Final

from gateway.engine.base import Load

_name: Final = re.compile(r"[ \t]*([a-zA-Z_:][a-zA-Z0-9_:]*)[ \t]*")
_labels: Final = re.compile(r'\{(?:[^"}]|"(?:[^"\\]|\\.)*")*\}')
"""With quoted values, in which anything may stand."""
_FIELDS = {"running": sum, "waiting": sum, "kv_use": max, "prompt_tokens": sum, "prompt_cached": sum, "generation_tokens": sum}


def load(exposition: str, names: Mapping[str, str]) -> Load:
    """names: metric → field of Load, or `prompt_cached`: tokens of prompts that the engine leaves out of `prompt_tokens`. Several series
    (data parallelism) are summed; of cache use the fullest counts.

    Errors: none; lines that are no samples are passed over.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for line in exposition.split("\n"):
        found_name = _name.match(line)
        if found_name is None or (field := names.get(name := found_name[1])) is None:
            continue
        labels = _labels.match(line, found_name.end())
        value = _value(line[(labels or found_name).end() :])
        if value is not None:
            found.setdefault(field, {}).setdefault(name, []).append(value)
    # an engine between two versions may show a figure under both names: the first one counts, not the sum
    figures = {field: float(_FIELDS[field](next(iter(series.values())))) for field, series in found.items()}  # type: ignore[operator]
    cached = figures.pop("prompt_cached", 0.0)
    if "prompt_tokens" in figures:
        figures["prompt_tokens"] += cached
    return Load(**figures)


def _value(text: str) -> float | None:
    """The sample's number; a timestamp may follow it, and an exemplar (`# {…} 1`) that is another one's."""
    try:
        value = float(text.split()[0])
    except (ValueError, IndexError):
        return None
    return value if 0 <= value < float("inf") else None

"""Prometheus' text as far as routing needs it: some gauges and counters, over all series of an engine."""

from collections.abc import Mapping

from gateway.engine.base import Load

_FIELDS = {"running": sum, "waiting": sum, "kv_use": max, "prompt_tokens": sum, "prompt_cached": sum, "generation_tokens": sum}


def load(exposition: str, names: Mapping[str, str]) -> Load:
    """names: metric → field of Load, or `prompt_cached`: tokens of prompts that the engine leaves out of `prompt_tokens`. Several series
    (data parallelism) are summed; of cache use the fullest counts.

    Errors: none; lines that are no samples are passed over.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for line in exposition.splitlines():
        if line[:1] in ("#", ""):
            continue
        end = line.find("{")
        name = line[:end] if end > 0 else line.partition(" ")[0]
        field = names.get(name)
        if field is None:
            continue
        value = _value(line[line.rfind("}") + 1 :] if end > 0 else line[len(name) :])
        if value is not None:
            found.setdefault(field, {}).setdefault(name, []).append(value)
    # an engine between two versions may show a figure under both names: the first one counts, not the sum
    figures = {field: float(_FIELDS[field](next(iter(series.values())))) for field, series in found.items()}  # type: ignore[operator]
    cached = figures.pop("prompt_cached", 0.0)
    if "prompt_tokens" in figures:
        figures["prompt_tokens"] += cached
    return Load(**figures)


def _value(text: str) -> float | None:
    """The sample's number; a timestamp may follow it."""
    try:
        value = float(text.split()[0])
    except (ValueError, IndexError):
        return None
    return value if 0 <= value < float("inf") else None

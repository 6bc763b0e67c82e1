"""What `gatewayctl init` could not find out and left to be written. It is no mistake: the rest can be served meanwhile."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from gateway.config.schema import Config

PLACEHOLDER: Final = "name-at-the-engine"
"""Stands where the engine's own name of a model belongs."""


def unfinished(config: Config) -> list[str]:
    """A sentence for each model that asks its engine for a name that no engine has."""
    found: dict[tuple[str, str], None] = {}
    for name, model in config.models.items():
        leaves = _leaves([*(model.targets or ()), *(rule.to for rule in model.rules)])
        found |= {(name, leaf.channel): None for leaf in leaves if leaf.channel and leaf.model == PLACEHOLDER}
    return [
        f"models.{name}: `{PLACEHOLDER}` only stands for the name that the engine of channel {channel} gives the model, "
        f"and callers get 404; `gatewayctl channels probe {channel}` tells its names"
        for name, channel in found
    ]


def _leaves(targets: Iterable[Any]) -> Iterator[Any]:
    for target in targets:
        yield from _leaves(target.targets) if target.targets else (target,)

"""Which virtual model a caller's name means, by a configuration alone: exact before the longest beginning. Pure."""

from collections.abc import Callable

from gateway.config.resolved import Resolved


def names(config: Resolved) -> Callable[[str], str]:
    """The virtual model that a caller's name means, as `Snapshot.model` finds it."""
    exact = {alias: model.name for model in config.models.values() for alias in (model.name, *model.aliases)}
    prefixes = sorted(((alias[:-1], name) for alias, name in exact.items() if alias.endswith("*")), key=lambda one: -len(one[0]))

    def name(asked: str) -> str:
        return exact.get(asked) or next((found for prefix, found in prefixes if asked.startswith(prefix)), asked)

    return name

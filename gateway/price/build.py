"""The price book of a resolved configuration."""

from collections.abc import Iterator, Mapping

from gateway.config.aliases import names
from gateway.config.resolved import Model, Resolved
from gateway.price.book import PriceBook
from gateway.price.entry import Open


def book_of(config: Resolved, schedules: Mapping[str, Open]) -> PriceBook:
    """schedules: whether each of the configuration's is open at a moment; those that no price names are not needed."""
    known: dict[str, tuple[str, ...]] = {}

    def channels(model: str) -> tuple[str, ...]:
        found = known.get(model)
        if found is None:
            found = known[model] = tuple(dict.fromkeys(_channels(config.models, model, set())))
        return found

    return PriceBook(config.prices, schedules, config.discounts, names(config), channels)


def _channels(models: Mapping[str, Model], name: str, seen: set[str]) -> Iterator[str]:
    """Where a model's requests may go, its rules and fallbacks included. seen: models that were followed already."""
    model = models.get(name)
    if model is None or name in seen:
        return
    seen.add(name)
    yield from (leaf.channel for leaf in model.leaves())
    for other in (*(rule.model for rule in model.rules if rule.model), *model.fallback):
        yield from _channels(models, other, seen)

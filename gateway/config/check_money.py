"""What is wrong with budgets and limits on money: models they cover that have no price, and currencies that cannot be told in theirs."""

from collections.abc import Iterator, Sequence
from functools import lru_cache

from gateway.config.check_prices import currency
from gateway.config.globs import matches
from gateway.config.marks import Loc
from gateway.config.model import Model, Target
from gateway.config.prices import Budget
from gateway.config.read import Reading
from gateway.config.resolved_limits import BUDGET
from gateway.config.schema import Config, Key, Project, Tenant
from gateway.config.zones import zone_mistakes
from gateway.errors import Mistake

Part = Tenant | Project | Key | Model
Globs = tuple[str, ...]
Opened = tuple[tuple[Globs, Globs], ...]
"""Of each place that must let a model through: globs that allow at some hour or other, globs that deny at every hour."""
_NAMED = 6
"""Models named in one message."""


def money(config: Config, reading: Reading, keys: Sequence[int]) -> Iterator[Mistake]:
    """Of all places. keys: where in the file each key stands."""
    check = _Check(config, reading)
    yield from check.limits(config, ("limits",), ())
    for name, tenant in config.tenants.items():
        yield from check.part(tenant, ("tenants", name), (_opened(tenant),))
        for project, one in tenant.projects.items():
            yield from check.part(one, ("tenants", name, "projects", project), (_opened(tenant), _opened(one)))
    for name, model in config.models.items():
        yield from check.part(model, ("models", name), (((name,), ()),))
    for number, key in zip(keys, config.keys, strict=True):
        if key.limits or key.budget is not None:
            above = config.tenants.get(key.tenant)
            parts = (above, above.projects.get(key.project)) if above is not None else ()
            yield from check.part(key, ("keys", number), tuple(_opened(part) for part in (*parts, key) if part is not None))


class _Check:
    def __init__(self, config: Config, reading: Reading) -> None:
        self.config, self.reading = config, reading
        self.base = config.currencies.base if config.currencies else None
        self.known = {config.currencies.base, *config.currencies.rates} if config.currencies else set()
        self.unread = reading.broken or ("prices",) in reading.marks.left or (not config.prices and bool(reading.data.get("prices")))
        self._known: dict[tuple[str, Globs, Opened], tuple[list[str], list[str]]] = {}

    def part(self, part: Part, at: Loc, opened: Opened) -> Iterator[Mistake]:
        """Of one place."""
        yield from self.limits(part, (*at, "limits"), opened)
        if part.budget is not None:
            yield from self._budget(part.budget, part, at, opened)

    def limits(self, holder: Config | Part, at: Loc, opened: Opened) -> Iterator[Mistake]:
        for number, limit in enumerate(holder.limits):
            here: Loc = (*at, number)
            if limit.count == "money":
                yield from currency(limit.currency, here, self.config, self.reading)
                yield from self._covered(limit.currency or self.base, here, "count", tuple(limit.models), opened)

    def _budget(self, budget: Budget, part: Part, at: Loc, opened: Opened) -> Iterator[Mistake]:
        marks, here = self.reading.marks, (*at, "budget")
        yield from currency(budget.currency, here, self.config, self.reading)
        if budget.zone is not None:
            yield from zone_mistakes(budget.zone, (*here, "zone"), self.reading)
        if not budget.warn and budget.stop is None:
            yield marks.at(here, "this budget neither warns nor stops", "add stop: 100, or warn: [80] for alerts alone")
        for number, percent in enumerate(budget.warn):
            if number and percent <= budget.warn[number - 1]:
                yield marks.at((*here, "warn", number), "warnings rise", "the smallest percent first, each once")
            elif budget.stop is not None and percent > budget.stop:
                yield marks.at((*here, "warn", number), f"it stops at {budget.stop} before it warns", "warn at less")
        if any((limit.name or limit.count) == BUDGET for limit in part.limits):
            yield marks.at(here, f'a limit here is called "{BUDGET}", as the budget is', "give it another name", key=True)
        yield from self._covered(budget.currency or self.base, here, "", (), opened)

    def _covered(self, code: str | None, at: Loc, word: str, globs: Globs, opened: Opened) -> Iterator[Mistake]:
        if self.unread or code is None:
            return
        unpriced, foreign = self._trouble(code, globs or ("*",), opened)
        marks = self.reading.marks
        if unpriced:
            shown = ", ".join(unpriced[:_NAMED]) + (", …" if len(unpriced) > _NAMED else "")
            has = "has" if len(unpriced) == 1 else "have"
            hint = 'add it to `prices` ("0" is free)' + (", or name the models meant: models: […]" if word else "")
            yield marks.at((*at, word) if word else at, f"{shown} {has} no price, so money cannot be counted", hint)
        for other in foreign:
            if other in self.known and code not in self.known:  # said already
                continue
            if self.known and other not in self.known:
                continue
            hint = f'add what one is worth: currencies: {{base: {code}, rates: {{{other}: "…"}}}}'
            yield marks.at((*at, "currency"), f"prices here are in {other}, and there is no rate from {other} to {code}", hint)

    def _trouble(self, code: str, globs: Globs, opened: Opened) -> tuple[list[str], list[str]]:
        """As `_find_trouble`; thousands of keys ask the same."""
        asked = code, globs, opened
        found = self._known.get(asked)
        if found is None:
            found = self._known[asked] = self._find_trouble(*asked)
        return found

    def _find_trouble(self, code: str, globs: Globs, opened: Opened) -> tuple[list[str], list[str]]:
        """Models without a price, and currencies that cannot be told in this one."""
        unpriced: list[str] = []
        foreign: dict[str, None] = {}
        for name, model in self.config.models.items():
            names = (name, *model.aliases)
            if not any(matches(glob, name) for glob in globs) or not all(_lets(*place, names) for place in opened):
                continue
            codes = self._codes(name)
            if codes is None:
                unpriced.append(name)
            else:
                foreign.update(dict.fromkeys(one for one in codes if one != code and not {one, code} <= self.known))
        return unpriced, list(foreign)

    def _codes(self, model: str) -> list[str] | None:
        """Currencies of what a model may cost; None = it has no price at all."""
        own = [price.currency or self.base for price in self.config.prices if price.model and matches(price.model, model)]
        if own:
            return [code for code in own if code]
        found: list[str] = []
        for channel in channels_of(self.config.models, model, set()):
            of = [price.currency or self.base for price in self.config.prices if price.channel and matches(price.channel, channel)]
            if not of:
                return None
            found += [code for code in of if code]
        return found or None


@lru_cache(maxsize=10_000)
def _lets(allow: Globs, deny: Globs, names: Globs) -> bool:
    """names: of one model."""
    denied = any(matches(glob, name) for glob in deny for name in names)
    return not denied and any(matches(glob, name) or (name[-1] == "*" and glob.startswith(name[:-1])) for glob in allow for name in names)


def _opened(part: Tenant | Project | Key) -> tuple[Globs, Globs]:
    models = [*([part.models] if part.models else []), *(switch.models for switch in part.hours if switch.models is not None)]
    if part.models is None:
        return ("*",), ()
    denied = [glob for glob in models[0].deny if all(glob in one.deny for one in models)]
    return tuple(dict.fromkeys(glob for one in models for glob in one.allow)), tuple(denied)


def channels_of(models: dict[str, Model], name: str, seen: set[str]) -> Iterator[str]:
    """Where a model's requests may go, its rules and fallbacks included. seen: models that were followed already."""
    model = models.get(name)
    if model is None or name in seen:
        return
    seen.add(name)
    yield from _leaves(model.targets)
    for rule in model.rules:
        if rule.to.channel is not None:
            yield rule.to.channel
        yield from _leaves(rule.to.targets or [])
        if rule.to.model is not None and rule.to.channel is None and rule.to.targets is None:
            yield from channels_of(models, rule.to.model, seen)
    for other in model.fallback:
        yield from channels_of(models, other, seen)


def _leaves(targets: Sequence[Target]) -> Iterator[str]:
    for target in targets:
        if target.targets is not None:
            yield from _leaves(target.targets)
        elif target.channel is not None:
            yield target.channel

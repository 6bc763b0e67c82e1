"""Prices and budgets as checked, in the compact form that workers take. Decides nothing."""

from gateway.config import resolved_prices as form
from gateway.config.access import instant
from gateway.config.limits import millionths
from gateway.config.prices import CHARGES, Budget, Money, Price, Tier, nanos
from gateway.config.resolved_limits import BUDGET, UNBOUNDED
from gateway.config.resolved_limits import Limit as LimitForm
from gateway.config.schema import Config

PER = {"1M": 1_000_000, "1K": 1_000}


def resolve_prices(config: Config) -> tuple[form.Price, ...]:
    """In their order."""
    base = config.currencies.base if config.currencies else ""
    return tuple(_price(price, base) for price in config.prices)


def resolve_currencies(config: Config) -> form.Currencies:
    found = config.currencies
    return form.Currencies(base=found.base, rates={code: nanos(rate) for code, rate in found.rates.items()}) if found else form.Currencies()


def resolve_costs(config: Config) -> dict[str, form.Cost]:
    """By channel, of those that say what they cost."""
    base = config.currencies.base if config.currencies else ""
    return {
        name: form.Cost(per_hour=nanos(channel.cost.per_hour), currency=channel.cost.currency or base)
        for name, channel in config.channels.items()
        if channel.cost is not None
    }


def resolve_discounts(config: Config) -> dict[str, int]:
    """Millionths of the whole, by tenant."""
    return {name: int(tenant.discount * form.PARTS / 100) for name, tenant in config.tenants.items() if tenant.discount}


def resolve_budget(budget: Budget | None, base: str) -> tuple[LimitForm, ...]:
    """A budget is a limit on money; one that never stops is a limit that is never reached."""
    if budget is None:
        return ()
    whole = millionths(budget.amount)
    return (
        LimitForm(
            count="money",
            max=max(1, whole * budget.stop // 100) if budget.stop is not None else UNBOUNDED,
            per=budget.per,
            name=BUDGET,
            zone=budget.zone or "UTC",
            currency=budget.currency or base,
            budget=whole,
            warn=tuple(budget.warn),
            stop=budget.stop or 0,
        ),
    )


def _price(price: Price, base: str) -> form.Price:
    charges = {word: _said(getattr(price, word)) for word in (*CHARGES, "request", "second")}
    return form.Price(
        model=price.model or "",
        channel=price.channel or "",
        currency=price.currency or base,
        begins=instant(price.begins) if price.begins else 0.0,
        per=PER[price.per],
        tiers=tuple(map(_tier, price.tiers)),
        during=price.during or "",
        outside=price.outside or "",
        **charges,
    )


def _tier(tier: Tier) -> form.Tier:
    return form.Tier(tier.over, *(_said(getattr(tier, word)) for word in CHARGES))


def _said(amount: Money | None) -> int:
    return form.UNSAID if amount is None else nanos(amount)

"""What differs between the prices of two revisions, in the words of the YAML: amounts as they are written, never in nanos."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from gateway.config.resolved_prices import UNSAID, Cost, Currencies, Price, Tier
from gateway.config.scalars import decimal_text

Said = tuple[str, str, str]
"""Path, old, new; "" = there is none."""


def price_changes(old: tuple[Price, ...], new: tuple[Price, ...]) -> Iterator[Said]:
    """A price is known by whose it is, its schedule, and when it begins."""
    before, after = ({price_name(price): price for price in prices} for prices in (old, new))
    yield from (("prices", name, "") for name in before if name not in after)
    yield from (("prices", "", name) for name in after if name not in before)
    for name, price in after.items():
        was = before.get(name)
        if was is None or was == price:
            continue
        for word in Price.__struct_fields__:
            mine, theirs = getattr(was, word), getattr(price, word)
            if mine != theirs:
                yield f"prices {name}: {word}", _shown(word, mine), _shown(word, theirs)


def price_name(price: Price) -> str:
    """`qwen during night from 2027-01-01T00:00:00Z`."""
    whose = price.model or f"channel {price.channel}"
    hours = f" during {price.during}" if price.during else f" outside {price.outside}" if price.outside else ""
    begins = datetime.fromtimestamp(price.begins, UTC).isoformat().replace("+00:00", "Z") if price.begins else ""
    return f"{whose}{hours}{f' from {begins}' if begins else ''}"


def currency_changes(old: Currencies, new: Currencies) -> Iterator[Said]:
    if old.base != new.base:
        yield "currencies.base", old.base or "none", new.base or "none"
    for code in dict.fromkeys([*old.rates, *new.rates]):
        mine, theirs = old.rates.get(code, UNSAID), new.rates.get(code, UNSAID)
        if mine != theirs:
            yield f"currencies.rates.{code}", amount_text(mine), amount_text(theirs)


def discount_changes(old: dict[str, int], new: dict[str, int]) -> Iterator[Said]:
    for tenant in dict.fromkeys([*old, *new]):
        mine, theirs = old.get(tenant), new.get(tenant)
        if mine != theirs:
            yield f"tenants.{tenant}.discount", _percent(mine), _percent(theirs)


def cost_changes(old: dict[str, Cost], new: dict[str, Cost]) -> Iterator[Said]:
    for channel in dict.fromkeys([*old, *new]):
        mine, theirs = old.get(channel), new.get(channel)
        if mine != theirs:
            yield f"channels.{channel}.cost", _cost(mine), _cost(theirs)


def amount_text(nanos: int) -> str:
    """`12.5`, exactly; UNSAID is `none`."""
    return "none" if nanos == UNSAID else decimal_text(Decimal(nanos).scaleb(-9))


def _percent(parts: int | None) -> str:
    return "none" if parts is None else f"{decimal_text(Decimal(parts).scaleb(-4))}%"


def _cost(cost: Cost | None) -> str:
    return "none" if cost is None else f"{amount_text(cost.per_hour)} {cost.currency} per hour"


def _shown(word: str, value: Any) -> str:
    if word == "tiers":
        return "; ".join(map(_tier, value)) or "none"
    if word == "per":
        return "1K" if value == 1000 else "1M"
    return amount_text(value) if isinstance(value, int) else str(value)


def _tier(tier: Tier) -> str:
    said = [f"{word} {amount_text(getattr(tier, word))}" for word in Tier.__struct_fields__[1:] if getattr(tier, word) != UNSAID]
    return f"over {tier.over}: {', '.join(said)}"

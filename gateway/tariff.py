"""The role `tariff`: what a model costs at a moment, or which schedules are open then, by the files alone. Started by gatewayctl, which
knows no schedules."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gateway.config.absent import Environment
from gateway.config.aliases import names
from gateway.config.diff_prices import amount_text, price_name
from gateway.config.load import load
from gateway.config.prices import CHARGES
from gateway.config.resolve import resolve
from gateway.config.resolved import Resolved
from gateway.config.resolved_prices import PARTS, UNSAID, Price
from gateway.price.build import book_of
from gateway.price.entry import Entry
from gateway.route.schedule import compile_schedule


def main(argv: Sequence[str]) -> int:
    """One JSON object. Raises ConfigError when the files have mistakes."""
    parser = argparse.ArgumentParser(prog="gateway tariff", description="What does a model cost at a moment?")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--model", help="without it: which schedules are open")
    parser.add_argument("--tenant", default="")
    parser.add_argument("--at", type=float, required=True, help="seconds since 1970")
    options = parser.parse_args(argv)
    config, _ = resolve(load(options.config, Environment()))
    asked = schedules(config, options.at) if options.model is None else told(config, options.model, options.tenant, options.at)
    print(json.dumps(asked, ensure_ascii=False))
    return 0


def schedules(config: Resolved, at: float) -> dict[str, bool]:
    """Of each whether it is open."""
    return {name: compile_schedule(schedule).open_at(at) for name, schedule in config.schedules.items()}


def told(config: Resolved, asked: str, tenant: str, at: float) -> dict[str, Any]:
    """price: what callers pay, None = unknown. channels: what each costs us, and callers where no price of the model counts."""
    book = book_of(config, {name: compile_schedule(schedule).open_at for name, schedule in config.schedules.items()})
    name, discount = names(config)(asked), config.discounts.get(tenant, 0)
    channels = dict.fromkeys(leaf.channel for leaf in config.models[name].leaves()) if name in config.models else {}
    return {
        "model": name,
        "known": name in config.models,
        "tenant": tenant,
        "discount": amount_text(discount * 1000 * 100) + "%" if discount else "",
        "price": _entry(book.entry(name, "", at), discount),
        "channels": {channel: _entry(book.entry("", channel, at), 0) for channel in channels},
    }


def _entry(entry: Entry | None, discount: int) -> dict[str, Any] | None:
    """Amounts as text, for a million tokens, with the discount taken off; None = unknown."""
    if entry is None:
        return None
    price = entry.price
    tiers = [{"over": 0, **_charges(entry, price, 0, discount)}]
    tiers += [{"over": tier.over, **_charges(entry, price, tier.over + 1, discount)} for tier in price.tiers]
    return {
        "name": price_name(price),
        "currency": price.currency,
        "rev": entry.rev(discount),
        "tokens": tiers,
        "request": _said(price.request, discount),
        "second": _said(price.second, discount),
    }


def _charges(entry: Entry, price: Price, prompt: int, discount: int) -> dict[str, str | None]:
    """Of one tier, what is not written filled in."""
    scale = 1_000_000 // price.per
    amounts = zip(CHARGES, entry.tier(prompt), strict=True)
    return {word: _said(amount * scale, discount) if amount >= 0 else None for word, amount in amounts}


def _said(nanos: int, discount: int) -> str | None:
    return None if nanos == UNSAID else amount_text(nanos * (PARTS - discount) // PARTS)

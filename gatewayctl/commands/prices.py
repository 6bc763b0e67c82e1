"""`gatewayctl prices`: what models cost by the files, and prices from LiteLLM's price map."""

import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gatewayctl import show
from gatewayctl.command import command, noun
from gatewayctl.commands.done import well_done
from gatewayctl.commands.live import changing, client_of_these_files, load_for_keys
from gatewayctl.incoming import given
from gatewayctl.programs import open_schedules, tariff
from gatewayctl.session import Session
from gatewayctl.show import Column
from gatewayctl.trouble import BAD_CONFIG, USAGE, Trouble
from gatewayctl.words import plural

if TYPE_CHECKING:
    from gateway.config.litellm import Imported
    from gateway.config.prices import Price
    from gateway.config.schema import Config

MOST_BYTES: Final = 64 * 1024 * 1024
_SHOWN: Final = 5
"""Skipped models named one by one."""

app = noun(
    "prices",
    "What models cost, and prices from LiteLLM's map.",
    """
    gatewayctl prices                                           every price in the files
    gatewayctl prices show qwen                                 what a model costs now
    gatewayctl prices import map.json --model 'gpt-4o*'         LiteLLM's prices as YAML
    gatewayctl prices import map.json --model gpt-4o --as qwen --into /etc/gateway/prices.yaml
    """,
    default="list",
)

COLUMNS = [
    Column("of", lambda p: p["model"] or f"channel {p['channel']}"),
    Column("from", lambda p: p["from"]),
    Column("when", lambda p: f"during {p['during']}" if p["during"] else f"outside {p['outside']}" if p["outside"] else None),
    Column("currency", lambda p: p["currency"]),
    *(Column(word, lambda p, word=word: p[word], "right") for word in ("input", "cached", "output", "reasoning")),  # type: ignore[misc]
    Column("per", lambda p: p["per"]),
    Column("request", lambda p: p["request"], "right"),
    Column("second", lambda p: p["second"], "right"),
    Column("tiers", lambda p: [f"over {tier['over']}" for tier in p["tiers"]] or None),
    Column("state", lambda p: p["state"]),
]


@command(app, "list", "gatewayctl prices\ngatewayctl prices list -o json")
def list_prices(session: Session) -> None:
    """Every price in the files, in their order, and whether it applies now.

    `at its hours`: its schedule does not hold now. `at other hours`: another price of the same name goes before it now.
    """
    config = load_for_keys(session.config).config
    now = time.time()
    timed = any(price.during or price.outside for price in config.prices)
    found = _listed(config, now, open_schedules(session.config, now) if timed else {})
    show.items(session, found, COLUMNS, "no prices: what requests cost is unknown")


def _listed(config: "Config", now: float, is_open: Mapping[str, bool]) -> list[dict[str, Any]]:
    states = _states(config.prices, now, is_open)
    base = config.currencies.base if config.currencies else None
    return [
        {**price.model_dump(mode="json"), "currency": price.currency or base, "state": state}
        for price, state in zip(config.prices, states, strict=True)
    ]


def _states(prices: "Sequence[Price]", now: float, is_open: Mapping[str, bool]) -> list[str]:
    """Of each price. Of those of one name that have begun, one with a schedule that holds goes before one without, in the files' order."""
    from gateway.config.access import instant

    series: dict[tuple[Any, ...], float] = {}
    begins = [instant(price.begins) if price.begins else 0.0 for price in prices]
    for price, begun in zip(prices, begins, strict=True):
        known = (price.model, price.channel, price.during, price.outside)
        if begun <= now:
            series[known] = max(begun, series.get(known, 0.0))
    states = [""] * len(prices)
    taken: set[tuple[Any, ...]] = set()
    for number in sorted(range(len(prices)), key=lambda number: not (prices[number].during or prices[number].outside)):
        price, begun = prices[number], begins[number]
        known, name = (price.model, price.channel, price.during, price.outside), (price.model, price.channel)
        holds = is_open[price.during] if price.during else not is_open[price.outside] if price.outside else True
        if begun > now:
            states[number] = "begins later"
        elif begun < series[known]:
            states[number] = "replaced"
        else:
            states[number] = "at its hours" if not holds else "at other hours" if name in taken else "applies now"
            taken |= {name} if holds else set()
    return states


@command(
    app,
    "show",
    """
    gatewayctl prices show qwen
    gatewayctl prices show qwen --tenant retail --at "2027-01-01 02:00"
    gatewayctl prices show qwen -o json
    """,
)
def show_price(
    session: Session,
    model: Annotated[str, typer.Argument(help="A virtual model's name or alias.")],
    tenant: Annotated[str, typer.Option("--tenant", help="Whose discount is taken off.")] = "",
    at: Annotated[str, typer.Option("--at", help="When: 2027-01-01 02:00 (this machine's zone). Default: now.")] = "",
) -> None:
    """What a model costs callers at a moment by the files, schedules and discounts included, and what its channels cost us."""
    from gateway.config.wording import nearest

    config = load_for_keys(session.config).config
    if tenant and tenant not in config.tenants:
        raise Trouble(f"there is no tenant {tenant!r}", nearest(tenant, config.tenants) or "`gatewayctl tenants list` shows them.")
    found = tariff(session.config, model, tenant, _moment(at))
    if not found["known"]:
        raise Trouble(f"there is no model {model!r}", nearest(model, config.models) or "`gatewayctl models list` shows them.")
    if session.machine:
        show.data(session, found)
        return
    off = f", {found['discount']} off for {tenant}" if found["discount"] else ""
    print(show.text_of(f"{found['model']}: callers pay{off}"))
    _print(session, found["price"], "unknown, unless its channel has a price" if any(found["channels"].values()) else "unknown")
    for channel, cost in found["channels"].items():
        if cost is not None:
            print(show.text_of(f"channel {channel}: costs"))
            _print(session, cost, "")


def _print(session: Session, price: Mapping[str, Any] | None, otherwise: str) -> None:
    if price is None:
        print(f"  {otherwise}")
        return
    pairs: list[tuple[str, Any]] = [("price", price["name"]), ("revision", price["rev"])]
    for tier in price["tokens"]:
        said = [f"{word} {tier[word]}" for word in ("input", "cached", "output", "reasoning") if tier[word] is not None]
        over = f" (prompts over {tier['over']})" if tier["over"] else ""
        pairs.append((f"per 1M tokens{over}", f"{', '.join(said)} {price['currency']}" if said else None))
    pairs += [(f"per {word}", f"{price[word]} {price['currency']}" if price[word] is not None else None) for word in ("request", "second")]
    show.facts(session, pairs, 2)


def _moment(text: str) -> float:
    if not text:
        return time.time()
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise Trouble(f"this is no time: {text!r}", 'Write --at "2027-01-01 02:00"', USAGE) from error


@command(
    app,
    "import",
    """
    gatewayctl prices import model_prices_and_context_window.json > prices.yaml
    gatewayctl prices import map.json --model 'deepseek/*' --currency USD
    gatewayctl prices import map.json --model gpt-4o --as qwen --into /etc/gateway/prices.yaml
    """,
)
def import_prices(
    session: Session,
    file: Annotated[str, typer.Argument(metavar="FILE", help="LiteLLM's model_prices_and_context_window.json; - = stdin.")],
    model: Annotated[list[str] | None, typer.Option("--model", "-m", metavar="GLOB", help="Only these of the map. Repeatable.")] = None,
    name: Annotated[str, typer.Option("--as", metavar="NAME", help="The virtual model here, when --model means one of the map.")] = "",
    currency: Annotated[str, typer.Option("--currency", metavar="CODE", help="The map does not say it.")] = "USD",
    begins: Annotated[str, typer.Option("--from", metavar="DATE", help="From when they count. Default: always.")] = "",
    into: Annotated[str, typer.Option("--into", metavar="FILE", help="Add them to this file of the configuration, and reload.")] = "",
) -> None:
    """Prices of LiteLLM's map as `prices` of ours: amounts exactly, for a million tokens. Prints YAML, or adds it to a file.

    What has no counterpart here (images, audio, seconds of audio, cache writes, batches) is named on stderr. With --into only models
    that the configuration has are added, all or none.
    """
    found = [one for one in _read(file) if not model or any(fnmatchcase(one.name, glob) for glob in model)]
    if not found:
        raise Trouble(f"no model of {file} is meant", "Its names are the keys of the map; * stands for anything.", USAGE)
    if name and len(found) != 1:
        raise Trouble(f"--as names one model, and --model means {len(found)} of the map", "Say which: --model gpt-4o", USAGE)
    _tell_skipped(session, found)
    head = {"from": begins} if begins else {}
    entries = [{"model": name or one.name, **head, "currency": currency, **one.words} for one in found if one.words]
    if not entries:
        raise Trouble("nothing of it has a price that counts here")
    if into:
        _add(session, Path(into), entries)
        return
    if session.machine:
        show.data(session, entries)
        return
    from gateway.config.litellm import lines

    sys.stdout.write(lines(entries))


def _read(file: str) -> "list[Imported]":
    from gateway.config.litellm import read_price_map

    try:
        return read_price_map(given(file, MOST_BYTES).decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise Trouble(f"{file} is not UTF-8 text", code=BAD_CONFIG) from error
    except ValueError as error:
        raise Trouble(f"{file} {error}", code=BAD_CONFIG) from error


def _tell_skipped(session: Session, found: "list[Imported]") -> None:
    skipped = [one for one in found if one.skipped]
    for one in skipped[:_SHOWN]:
        session.say(f"gatewayctl: {one.name}: skipped {', '.join(dict.fromkeys(one.skipped))}")
    if len(skipped) > _SHOWN:
        session.say(f"gatewayctl: and fields of {plural(len(skipped) - _SHOWN, 'more model')}; --model shows them one by one")
    empty = sum(not one.words for one in found)
    if empty:
        session.say(f"gatewayctl: {plural(empty, 'model')} without a price of tokens or requests: left out")


def _add(session: Session, into: Path, entries: list[dict[str, Any]]) -> None:
    from gateway.config.edit import add_prices

    known = load_for_keys(session.config).config.models
    mine = [entry for entry in entries if entry["model"] in known]
    if not mine:
        raise Trouble("the configuration has none of these models", "Say which of yours it is: --model gpt-4o --as qwen", USAGE)
    if len(mine) < len(entries):
        session.say(f"gatewayctl: {plural(len(entries) - len(mine), 'model')} that the configuration does not have: left out")
    client = client_of_these_files(session)
    with changing(session.config, client, f"prices import of {len(mine)}") as change:
        change.undo.callback(add_prices(into, mine).undo)
        files = {Path(file).resolve() for file in load_for_keys(session.config).files}
    if into.resolve() not in files:
        session.warn(f"gatewayctl: {into} is not part of {session.config}: name it under `include`")
    live = ", live in every worker" if client else "; the gateway is not running"
    session.say(f"gatewayctl: {plural(len(mine), 'price')} added to {into}{live}")
    well_done(change.answer)

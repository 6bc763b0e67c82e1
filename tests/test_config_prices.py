"""Prices, currencies, costs, discounts and budgets in YAML: what they become, and each mistake where it is."""

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from gateway.config.diff import diff
from gateway.config.resolve import resolve
from gateway.config.resolved_limits import UNBOUNDED, Limit
from gateway.config.resolved_prices import Cost, Currencies, Price, Tier
from tests.config_text import loaded, mistakes, only

HASH = "sha256:" + "0f" * 32
FREE = '{model: "*", currency: CNY, request: 0}'


def text(
    prices: str = f"[{FREE}]", tenant: str = "", project: str = "", key: str = "", model: str = "", channel: str = "", top: str = ""
) -> str:
    """A configuration of two models, one channel, a tenant and a key, with these words in each."""
    return f"""version: 1
channels: {{gpu: {{engine: vllm, endpoints: ["http://h:1"]{channel}}}}}
models:
  qwen: {{aliases: [q, "gpt-4o*"], targets: [{{channel: gpu}}]{model}}}
  small: {{targets: [{{channel: gpu}}], fallback: [qwen]}}
schedules: {{night: {{zone: Asia/Shanghai, when: ["22:00-06:00"]}}}}
tenants:
  retail: {{projects: {{chat: {{{project}}}}}{tenant}}}
keys:
  - {{id: k1, hash: "{HASH}", tenant: retail, project: chat, models: [qwen]{key}}}
{top}prices: {prices}
"""


def test_everything_that_can_be_said(tmp_path):
    config, (key,) = resolve(
        loaded(
            tmp_path,
            text(
                """
  - {model: qwen, from: 2026-01-01, currency: USD, per: 1K, input: 0.002, cached: "0.0005", output: "0.008", reasoning: 1e-2,
     tiers: [{over: 32000, input: "0.004"}, {over: 128000, output: "0.016", reasoning: 0, cached: 1}]}
  - {model: "q*", during: night, from: "2026-06-01T00:00+08:00", input: 1, output: 4}
  - {channel: "g*", outside: night, request: "0.000000001", second: "999999999.123456789"}
""",
                tenant=', discount: 12.5%, budget: {amount: "50000", per: month, zone: Asia/Shanghai, warn: [80, 95], stop: 110}',
                project="budget: {amount: 10, currency: USD, per: day, warn: [50]}",
                key=', budget: {amount: "0.000001", stop: 100}, limits: [{count: money, max: 5, per: hour}]',
                model=", budget: {amount: 7, stop: 50}",
                channel=', cost: {per_hour: "12.50"}',
                top='currencies: {base: CNY, rates: {USD: "7.1"}}\n',
            ),
        )
    )
    june = datetime(2026, 5, 31, 16, tzinfo=UTC).timestamp()
    assert config.prices == (
        Price(
            "qwen", "", "USD", datetime(2026, 1, 1, tzinfo=UTC).timestamp(), 1000, 2_000_000, 500_000, 8_000_000, 10_000_000,
            tiers=(Tier(32_000, 4_000_000), Tier(128_000, -1, 10**9, 16_000_000, 0)),
        ),
        Price("q*", "", "CNY", june, input=10**9, output=4 * 10**9, during="night"),
        Price("", "g*", "CNY", request=1, second=999_999_999_123_456_789, outside="night"),
    )  # fmt: skip
    assert config.currencies == Currencies(base="CNY", rates={"USD": 7_100_000_000})
    assert config.discounts == {"retail": 125_000} and config.costs == {"gpu": Cost(per_hour=12_500_000_000, currency="CNY")}
    budget: dict[str, Any] = {"name": "budget", "currency": "CNY"}
    assert config.limits == {
        "tenants/retail": (
            Limit("money", 55_000_000_000, "month", zone="Asia/Shanghai", budget=50_000_000_000, warn=(80, 95), stop=110, **budget),
        ),
        "tenants/retail/projects/chat": (Limit("money", UNBOUNDED, "day", "budget", currency="USD", budget=10_000_000, warn=(50,)),),
        "models/qwen": (Limit("money", 3_500_000, "month", budget=7_000_000, stop=50, **budget),),
    }
    assert key.limits == (Limit("money", 5_000_000, "hour", currency="CNY"), Limit("money", 1, "month", budget=1, stop=100, **budget))


def test_without_prices_nothing_costs_anything(tmp_path):
    config, _ = resolve(loaded(tmp_path, text("")))
    assert (config.prices, config.currencies, config.discounts, config.costs) == ((), Currencies(), {}, {})


def entry(words: str) -> str:
    return text(f"[{{model: qwen, currency: CNY, {words}}}]")


USD = '[{model: qwen, currency: USD, input: 1, output: 1}, {model: small, currency: CNY, input: "1", output: 1}]'
BASE = "currencies: {base: CNY, rates: {EUR: 8}}\n"
BAD: dict[str, tuple[str, str, str]] = {
    # name: (text, what is said, hint)
    "starts twice": (
        text("[{model: qwen, from: 2026-01-01, currency: CNY, input: 1}, {model: qwen, ▸from: 2026-01-01, currency: USD, input: 2}]"),
        "this price of qwen starts twice",
        "gateway.yaml:11; leave one out",
    ),
    "starts twice in other words": (
        text(
            "[{model: qwen, from: 2026-01-01, currency: CNY, input: 1}, "
            "{model: qwen, currency: CNY, ▸from: '2026-01-01T08:00+08:00', input: 2}]"
        ),
        "starts twice",
        "leave one out",
    ),
    "always, twice": (
        text("[{channel: gpu, currency: CNY, input: 1}, {▸channel: gpu, currency: CNY, input: 2}]"),
        "this price of gpu starts twice",
        "first at",
    ),
    "at night, twice": (
        text("[{model: q*, currency: CNY, input: 1, during: night}, {▸model: q*, currency: CNY, input: 2, during: night}]"),
        "starts twice",
        "first at",
    ),
    "of nothing": (text("[▸{currency: CNY, input: 1}]"), "the price of what?", "add model: or channel:"),
    "of both": (text("[{model: qwen, ▸channel: gpu, currency: CNY, input: 1}]"), "of a model or of a channel", "two prices"),
    "of no amount": (text("[▸{model: qwen, currency: CNY}]"), "says no amount", '"0" is free'),
    "unknown model": (text("[{model: ▸qwem, currency: CNY, input: 1}]"), '"qwem" matches nothing', '"qwen"?'),
    "an alias": (text("[{model: ▸gpt-4o, currency: CNY, input: 1}]"), "matches nothing", "`gpt-4o` is an alias of qwen; write qwen"),
    "unknown channel": (text("[{channel: ▸gpi, currency: CNY, input: 1}]"), 'no channel "gpi"', '"gpu"?'),
    "unknown schedule": (entry("input: 1, during: ▸nigth"), 'no schedule "nigth"', '"night"?'),
    "both schedules": (entry("input: 1, during: night, ▸outside: night"), "both during and outside", "two prices"),
    "no currency": (text("[▸{model: qwen, input: 1}]"), "money of which currency?", "currencies: {base: CNY}"),
    "a currency that is none": (text("[{model: qwen, currency: ▸Yuan, input: 1}]"), "is not a currency", "CNY"),
    "a currency without a rate": (
        text("[{model: qwen, currency: ▸USD, input: 1}]", top=BASE),
        "there is no rate for the currency USD",
        'currencies: {base: CNY, rates: {USD: "…"}}',
    ),
    "a rate of the base": (text(top="currencies: {base: CNY, rates: {▸CNY: 1}}\n"), "CNY is the base currency", "leave it out"),
    "a rate of nothing": (text(top="currencies: {base: CNY, rates: {USD: ▸0}}\n"), "a rate of nothing", ""),
    "no base": (text(top="▸currencies: {rates: {USD: 7}}\n"), "`base` is missing", ""),
    "below zero": (entry("input: ▸-1"), "is below zero", "0 (free)"),
    "no number": (entry("input: ▸cheap"), "is not an amount of money", '"0.5"'),
    "endless": (entry("input: ▸.inf"), "is not an amount of money", ""),
    "true": (entry("input: ▸true"), "this is not an amount of money", ""),
    "too many digits": (entry("input: ▸'0.0000000001'"), "more than 9 digits", "per: 1M"),
    "more digits than a bare number has": (entry("request: ▸999999999.123456789"), "more digits than a bare number keeps", "quotes"),
    "too much": (entry("input: ▸1e10"), "is not an amount of money", "0 to 1000000000"),
    "per": (entry("input: 1, per: ▸1B"), "none of 1M, 1K", ""),
    "cached alone": (entry("▸cached: 1, output: 2"), "cached tokens have a price, but input", "add input"),
    "reasoning alone": (entry("input: 1, ▸reasoning: 2"), "reasoning tokens have a price, but output", "add output"),
    "tiers fall": (entry("input: 1, tiers: [{over: 200, input: 2}, {over: ▸100, input: 3}]"), "not over 200", "shortest"),
    "tiers stay": (entry("input: 1, tiers: [{over: 200, input: 2}, {over: ▸200, input: 3}]"), "not over 200", "shortest"),
    "a tier of nothing": (entry("input: 1, tiers: [▸{over: 200}]"), "changes nothing", "input"),
    "no date": (entry("input: 1, from: ▸soon"), "is not a date", "2027-01-01"),
    "unknown word": (entry("input: 1, ▸outptu: 2"), 'unknown word "outptu"', '"output"'),
    "a discount": (text(tenant=", discount: ▸110%"), "is not a share in percent", "0 to 100"),
    "a surcharge": (text(tenant=", discount: ▸-5"), "is below zero", ""),
    "a cost without a currency": (text(channel=", cost: ▸{per_hour: 1}"), "money of which currency?", "add currency"),
    "a cost below zero": (text(channel=", cost: {per_hour: ▸-1, currency: CNY}"), "is below zero", ""),
    "a cost without a rate": (text(channel=", cost: {per_hour: 1, currency: ▸USD}", top=BASE), "no rate for the currency USD", ""),
    "a budget of nothing": (text(tenant=", budget: {amount: ▸0, currency: CNY, stop: 100}"), "a budget of nothing", "max: 0"),
    "a budget below zero": (text(key=", budget: {amount: ▸-5, currency: CNY, stop: 100}"), "is below zero", ""),
    "a budget of no currency": (text(tenant=", budget: ▸{amount: 5, stop: 100}"), "money of which currency?", "add currency"),
    "a budget too fine": (text(tenant=", budget: {amount: ▸'0.0000001', currency: CNY, stop: 1}"), "more than 6 digits", ""),
    "a budget that does nothing": (text(model=", budget: ▸{amount: 5, currency: CNY}"), "neither warns nor stops", "stop: 100"),
    "warnings fall": (text(tenant=", budget: {amount: 5, currency: CNY, warn: [80, ▸50]}"), "warnings rise", "smallest"),
    "a warning too late": (text(tenant=", budget: {amount: 5, currency: CNY, warn: [▸95], stop: 90}"), "stops at 90 before it warns", ""),
    "per hour": (text(tenant=", budget: {amount: 5, currency: CNY, stop: 100, per: ▸hour}"), "none of month, day", ""),
    "a zone": (text(tenant=", budget: {amount: 5, currency: CNY, stop: 100, zone: ▸Asia/Shanghi}"), "no time zone", "Asia/Shanghai"),
    "two that are called budget": (
        text(tenant=", ▸budget: {amount: 5, currency: CNY, stop: 100}, limits: [{name: budget, count: requests, max: 1, per: day}]"),
        'a limit here is called "budget"',
        "another name",
    ),
    "a budget for a model without a price": (
        text("[{model: qwen, currency: CNY, input: 1}]", tenant=", budget: ▸{amount: 5, currency: CNY, stop: 100}"),
        "small has no price, so money cannot be counted",
        '"0" is free',
    ),
    "a budget for what an alias leads to": (
        text("[{model: small, currency: CNY, input: 1}]", key=", budget: ▸{amount: 5, currency: CNY, stop: 100}").replace(
            "models: [qwen]", "models: [gpt-4o-mini]"
        ),
        "qwen has no price",
        '"0" is free',
    ),
    "a limit for models without a price": (
        text("", top="limits: [{count: ▸money, max: 5, per: day, currency: CNY}]\n"),
        "qwen, small have no price",
        "models: […]",
    ),
    "a budget in a currency without a rate": (
        text(USD, key=", budget: {amount: 5, currency: ▸CNY, stop: 100}"),
        "prices here are in USD, and there is no rate from USD to CNY",
        'currencies: {base: CNY, rates: {USD: "…"}}',
    ),
    "a limit in a currency without a rate": (
        text(USD, top="limits: [{count: money, max: 5, per: day, currency: ▸USD}]\n"),
        "no rate from CNY to USD",
        "",
    ),
    "a budget in a currency nobody knows": (
        text(tenant=", budget: {amount: 5, currency: ▸USD, stop: 100}", top=BASE),
        "there is no rate for the currency USD",
        "rates: {USD:",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_each_mistake_is_told_alone_and_where_it_is(name, tmp_path):
    only(tmp_path, *BAD[name])


@pytest.mark.parametrize(
    "written",
    [
        text("[{model: qwen, currency: CNY, input: 1}]", key=", budget: {amount: 5, currency: CNY, stop: 100}"),  # it may use qwen alone
        text(  # nor may its project more, whatever it says itself
            "[{model: qwen, currency: CNY, input: 1}]",
            project="models: [q]",
            key=", budget: {amount: 5, currency: CNY, stop: 100}",
        ).replace("models: [qwen]", "models: ['*']"),
        text("[{model: qwen, currency: CNY, input: 1}]", tenant=", models: {deny: [small]}, budget: {amount: 5, currency: CNY, stop: 100}"),
        text("[{model: qwen, currency: CNY, input: 1}]", model=", budget: {amount: 5, currency: CNY, stop: 100}"),
        text(
            "[{model: qwen, currency: CNY, input: 1}]",
            tenant=", limits: [{count: money, max: 1, per: day, currency: CNY, models: [qwen]}]",
        ),
        text("[{channel: gpu, currency: CNY, input: 1}]", tenant=", budget: {amount: 5, currency: CNY, stop: 100}"),
        text(USD, tenant=", budget: {amount: 5, currency: CNY, stop: 100}", top="currencies: {base: USD, rates: {CNY: '0.14'}}\n"),
        text(USD, tenant=", budget: {amount: 5, currency: EUR, stop: 100}", top="currencies: {base: CNY, rates: {USD: 7, EUR: 8}}\n"),
        text("[{model: qwen, currency: CNY, input: 1}, {model: qwen, currency: CNY, input: 2, during: night}]"),
        text("[{model: qwen, currency: CNY, input: 1}, {model: qwen, currency: CNY, input: 2, from: 2027-01-01}]"),
        text("[{model: qwen, currency: CNY, input: 1}, {model: small, currency: USD, input: 2}]"),
    ],
)
def test_no_mistake(written, tmp_path):
    loaded(tmp_path, written)


def test_a_mistake_in_a_price_is_not_told_again_by_every_budget(tmp_path):
    budget = ", budget: {amount: 5, currency: CNY, stop: 100}"
    assert len(mistakes(tmp_path, text("[{model: qwen, currency: CNY, input: -1}]", tenant=budget, model=budget))) == 1


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            "{model: qwen, currency: CNY, input: 2}",
            "{model: qwen, currency: CNY, input: '2.5', output: 8}",
            ["prices qwen: input 2 -> 2.5", "prices qwen: output none -> 8"],
        ),
        (
            "{model: qwen, currency: CNY, input: 2}",
            "{model: qwen, currency: CNY, input: 2}, {model: qwen, from: 2027-01-01, currency: CNY, input: 3}",
            ["prices + qwen from 2027-01-01T00:00:00Z"],
        ),
        (
            "{model: qwen, currency: CNY, input: 2}, {channel: gpu, during: night, currency: CNY, second: 1}",
            "{model: qwen, currency: USD, input: 2, per: 1K}",
            ["prices - channel gpu during night", "prices qwen: currency CNY -> USD", "prices qwen: per 1M -> 1K"],
        ),
        (
            "{model: qwen, currency: CNY, input: 2}",
            "{model: qwen, currency: CNY, input: 2, tiers: [{over: 100, input: 4}]}",
            ["prices qwen: tiers none -> over 100: input 4"],
        ),
    ],
)
def test_differences_of_prices(before, after, said, tmp_path):
    old, new = (resolve(loaded(tmp_path, text(f"[{words}]"))) for words in (before, after))
    assert [str(change) for change in diff(old, new)] == said


def test_other_differences(tmp_path):
    old = resolve(loaded(tmp_path, text()))
    new = resolve(
        loaded(
            tmp_path,
            text(
                tenant=", discount: 10%, budget: {amount: 5, stop: 100}",
                channel=", cost: {per_hour: 12.5}",
                top="currencies: {base: CNY, rates: {USD: 7.1}}\n",
            ),
        )
    )
    assert [str(change) for change in diff(old, new)] == [
        "tenants.retail.limits[0] + budget 5 CNY per month",
        "currencies.base none -> CNY",
        "currencies.rates.USD none -> 7.1",
        "tenants.retail.discount none -> 10%",
        "channels.gpu.cost none -> 12.5 CNY per hour",
    ]


def test_a_budget_that_changes_is_told_as_it_is_written(tmp_path):
    words = ("{amount: 5, stop: 100}", "{amount: 6.5, warn: [50, 80], stop: 90}", "{amount: 6.5, warn: [50]}")
    pairs = [
        resolve(loaded(tmp_path, text(tenant=f", budget: {one}", top="currencies: {base: CNY}\nalerts: {rules: []}\n"))) for one in words
    ]
    assert [str(change) for old, new in pairwise(pairs) for change in diff(old, new)] == [
        "tenants.retail.limits[0] budget 5 CNY per month, stops at 100% -> budget 6.5 CNY per month, warns at 50, 80%, stops at 90%",
        "tenants.retail.limits[0] budget 6.5 CNY per month, warns at 50, 80%, stops at 90% -> budget 6.5 CNY per month, warns at 50%",
    ]

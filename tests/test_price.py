"""What requests cost: which price counts, what it comes to, to the last nano; unknown is None and never 0."""

import json
import time
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any
from unittest.mock import ANY

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.resolve import resolve
from gateway.config.resolved_prices import NANO, Currencies, Price, Tier
from gateway.price.bill import NOTHING, Fact, bill, micros
from gateway.price.book import PriceBook
from gateway.price.build import book_of
from gateway.price.entry import Entry, Priced, Use, rounded
from gateway.price.rates import Rates
from tests.config_text import loaded

USE = Use(1_000_000, 200_000, 500_000, 100_000, 3_000_000)


def price(**words: Any) -> Price:
    """Amounts as in the YAML."""
    amounts = {word: int(Decimal(str(value)) * NANO) for word, value in words.items() if word in Price.__struct_fields__[5:11]}
    return Price(**{"model": "", "channel": "", "currency": "CNY", **words, **amounts})


def book(*prices: Price, discounts: dict[str, int] | None = None, **schedules: Any) -> PriceBook:
    return PriceBook(prices, schedules, discounts or {})


def amount(found: Priced | None) -> str | None:
    return None if found is None else f"{found.amount.normalize():f}"


@pytest.mark.parametrize(
    ("words", "comes_to"),
    [
        ({"input": 2, "output": 8}, "6"),  # cached tokens cost as input, reasoning as output
        ({"input": 2, "cached": "0.5", "output": 8}, "5.7"),
        ({"input": 2, "cached": 0, "output": 8, "reasoning": 20}, "6.8"),
        ({"input": "0.002", "output": "0.008", "per": 1000}, "6"),
        ({"request": "0.01"}, "0.01"),  # tokens are in the price of the request
        ({"second": "0.002"}, "0.006"),
        ({"input": 2, "output": 8, "request": 1, "second": 1}, "10"),
        ({"input": 0, "output": 0}, "0"),  # free, and known
        ({"input": 2}, None),  # the answer has no price
        ({"output": 2}, None),
        ({"input": 2, "request": 1}, None),
        ({"input": 2, "output": 8, "tiers": (Tier(999_999, 4 * NANO, -1, 16 * NANO),)}, "12"),
        ({"input": 2, "output": 8, "tiers": (Tier(1_000_000, 4 * NANO),)}, "6"),  # over, not from
        ({"input": 2, "cached": 1, "output": 8, "tiers": (Tier(10, 4 * NANO), Tier(100, 6 * NANO))}, "9"),
        ({"tiers": (Tier(10, NANO, -1, NANO),)}, "1.5"),
    ],
)
def test_what_a_price_comes_to(words, comes_to):
    assert amount(book(price(model="m", **words)).price("m", "gpu", "t", USE, 0.0)) == comes_to


def test_a_short_prompt_below_the_only_tier_has_no_price():
    assert book(price(model="m", tiers=(Tier(10, NANO, -1, NANO),))).price("m", "", "", Use(5, 0, 1), 0.0) is None


def test_what_was_not_used_needs_no_price():
    assert amount(book(price(model="embed", input=2)).price("embed", "", "", Use(1_000_000), 0.0)) == "2"


def test_more_cached_than_there_was_is_no_present():
    assert amount(book(price(model="m", input=2, cached=1, output=1)).price("m", "", "", Use(1_000_000, 5_000_000), 0.0)) == "1"


@pytest.mark.parametrize(
    ("tokens", "nanos"),
    [(1, 2), (250_000, 500_000), (5, 10)],
)
def test_a_nano_is_not_lost(tokens, nanos):
    assert book(price(model="m", input="0.002", output=0)).price("m", "", "", Use(tokens), 0.0) == Priced(nanos, "CNY", ANY)


@pytest.mark.parametrize(("whole", "parts", "found"), [(1, 2, 0), (3, 2, 2), (5, 2, 2), (7, 4, 2), (5, 4, 1), (0, 7, 0)])
def test_a_half_goes_to_the_even_one(whole, parts, found):
    assert rounded(whole, parts) == found


TOKENS = st.integers(0, 2_000_000)
AMOUNT = st.integers(0, 10**12)


@given(TOKENS, TOKENS, TOKENS, TOKENS, st.integers(0, 10**9), st.lists(AMOUNT, min_size=6, max_size=6), st.integers(0, 1_000_000))
def test_the_same_as_decimals(input, cached, output, reasoning, took, amounts, discount):
    cached, reasoning = min(cached, input), min(reasoning, output)
    words = dict(zip(("input", "cached", "output", "reasoning", "request", "second"), amounts, strict=True))
    found = Entry(Price("m", "", "CNY", **words), None).priced(Use(input, cached, output, reasoning, took), discount)
    pay = {word: Decimal(nanos) for word, nanos in words.items()}
    whole = (input - cached) * pay["input"] + cached * pay["cached"] + (output - reasoning) * pay["output"] + reasoning * pay["reasoning"]
    exact = (whole / 10**6 + pay["request"] + pay["second"] * took / 10**6) * (10**6 - discount) / 10**6
    assert found is not None and found.nanos == exact.quantize(Decimal(1), ROUND_HALF_EVEN)


# -- which price counts ------------------------------------------------------------------------------------------------


def which(found: PriceBook, model: str = "qwen-7b", channel: str = "gpu", ts: float = 1000.0) -> str | None:
    """Prices are told apart by what a request costs."""
    return amount(found.price(model, channel, "", Use(), ts))


def test_a_name_in_full_goes_before_a_pattern_and_a_longer_pattern_before_a_shorter():
    prices = [price(model="*", request=1), price(model="qwen*", request=2), price(model="qwen-7b", request=3)]
    found = book(*prices)
    assert [which(found, name) for name in ("llama", "qwen-72b", "qwen-7b")] == ["1", "2", "3"]
    assert [which(book(*reversed(prices)), name) for name in ("llama", "qwen-72b", "qwen-7b")] == ["1", "2", "3"]


def test_the_latest_that_has_begun():
    begun = [(0.0, 1), (2000.0, 3), (500.0, 2)]
    found = book(*(price(model="qwen*", begins=begins, request=amount) for begins, amount in begun))
    assert [which(found, ts=ts) for ts in (0.0, 499.9, 500.0, 1999.9, 2000.0, 9e9)] == ["1", "1", "2", "2", "3", "3"]


def test_what_has_not_begun_leaves_room_for_what_is_wider():
    found = book(price(model="qwen-7b", begins=2000.0, request=3), price(model="*", request=1))
    assert [which(found, ts=ts) for ts in (1000.0, 2000.0)] == ["1", "3"]
    assert which(book(price(model="qwen-7b", begins=2000.0, request=3))) is None


def test_in_its_hours_an_off_peak_price_goes_first():
    found = book(
        price(model="qwen-7b", request=3),
        price(model="qwen-7b", request=1, during="night"),
        price(model="qwen-7b", request=4, begins=1500.0),
        price(model="*", request=9, during="night"),
        night=lambda ts: ts % 100 < 50,
    )
    assert [which(found, ts=ts) for ts in (1010.0, 1060.0, 1510.0, 1560.0)] == ["1", "3", "1", "4"]
    outside = book(price(model="*", request=1, outside="office"), price(model="*", request=2), office=lambda ts: ts < 500)
    assert [which(outside, ts=ts) for ts in (499.0, 500.0)] == ["2", "1"]


def test_callers_pay_the_models_price_or_else_the_channels_and_the_channels_is_what_it_costs_us():
    found = book(price(channel="gpu", request="0.4"), price(model="qwen*", request=1), discounts={"t": 500_000})
    assert amount(found.price("qwen-7b", "gpu", "t", Use(), 0.0)) == "0.5" and amount(found.cost("gpu", Use(), 0.0)) == "0.4"
    assert amount(found.price("llama", "gpu", "t", Use(), 0.0)) == "0.2"
    assert found.price("llama", "other", "", Use(), 0.0) is None and found.cost("other", Use(), 0.0) is None
    assert found.price("llama", "", "", Use(), 0.0) is None


def test_the_revision_is_that_of_the_price_and_of_the_discount():
    found = book(price(model="a", request=1), price(model="b", request=2), discounts={"t": 100_000})
    revs = {(model, tenant): _priced(found.price(model, "", tenant, Use(), 0.0)).rev for model in "ab" for tenant in ("", "t")}
    assert len(set(revs.values())) == 4 and all(len(rev) == 12 for rev in revs.values())
    again = book(price(model="b", request=2), price(model="a", request=1))
    assert _priced(again.price("a", "", "", Use(), 0.0)).rev == revs["a", ""]
    assert _priced(book(price(model="a", request="1.1")).price("a", "", "", Use(), 0.0)).rev != revs["a", ""]


def test_free_for_a_tenant():
    assert book(price(model="m", input=3, output=3), discounts={"t": 1_000_000}).price("m", "", "t", USE, 0.0) == Priced(0, "CNY", ANY)


# -- before it is known ------------------------------------------------------------------------------------------------


def test_an_estimate_is_of_the_dearest_that_may_come():
    found = book(price(model="m", input=2, cached=1, output=4, reasoning=8))
    assert [one.amount for one in found.estimate("m", "", 1_000_000, 1_000_000, 0.0)] == [Decimal(10)]
    assert [one.nanos for one in book(price(model="m", second=1)).estimate("m", "", 9, 9, 0.0)] == [1], "time costs something"
    assert book(price(model="m", input=2)).estimate("m", "", 9, 9, 0.0) == [] == book().estimate("m", "", 1, 1, 0.0)


def test_where_the_channel_decides_each_may_serve():
    prices = [price(channel="a", request=1), price(channel="b", request=2, currency="USD")]
    found = PriceBook(prices, {}, {}, channels=lambda model: ("a", "b", "c"))
    assert [(one.nanos, one.currency) for one in found.estimate("m", "", 1, 1, 0.0)] == [(NANO, "CNY"), (2 * NANO, "USD")]


# -- rates -------------------------------------------------------------------------------------------------------------


def test_currencies():
    rates = Rates(Currencies(base="CNY", rates={"USD": 7_100_000_000, "EUR": 8 * NANO}))
    assert rates.nanos(NANO, "USD", "CNY") == 7_100_000_000 and rates.nanos(8, "CNY", "EUR") == 1
    assert rates.nanos(71, "EUR", "USD") == 80 and rates.nanos(5, "GBP", "GBP") == 5
    assert rates.nanos(5, "GBP", "CNY") is None is rates.nanos(5, "CNY", "GBP")
    assert rates.millionths(Priced(1, "CNY", ""), "CNY") == 1 and rates.millionths(Priced(0, "CNY", ""), "USD") == 0
    assert rates.millionths(Priced(1000, "USD", ""), "CNY") == 8 and rates.millionths(Priced(7100, "CNY", ""), "USD") == 1
    assert rates.millionths(Priced(10**30, "USD", ""), "USD") == 2**53 == rates.millionths(Priced(10**30, "USD", ""), "CNY")
    assert Rates(Currencies()).millionths(Priced(1, "CNY", ""), "USD") is None


# -- records -----------------------------------------------------------------------------------------------------------


def fact(**words: Any) -> Fact:
    usual = Fact("chat", "m", "gpu", "t", 200, "final", 1_000_000, 0, 0, 0, 250.0, 500.0, 2750.5, 0.0)
    return usual._replace(**words)


def test_records():
    found = book(price(model="m", input=1, output=1), price(channel="gpu", second=1))
    assert [amount(one) for one in bill(found, fact())] == ["1", "2.0005"]
    for refused in (429, 502, 499):
        assert bill(found, fact(status=refused)) == (NOTHING, NOTHING)
    for ended in (499, 403, 503):
        cut = fact(status=ended, source="continuous", output=500_000)
        assert amount(bill(found, cut).price) == "1.5", "a stream that was left, frozen or stopped costs what was counted until then"
    assert bill(found, fact(status=0, source="none", input=0)) == (NOTHING, NOTHING), "its worker died before anything was counted"
    assert amount(bill(found, fact(status=0, source="continuous")).price) == "1", "and after that"
    assert bill(found, fact(api="tokenize", source="none", input=0)) == (NOTHING, NOTHING)
    assert bill(found, fact(api="models", model="", channel="", source="none", input=0, output=0)) == (NOTHING, NOTHING)
    assert bill(found, fact(source="none", input=0)) == (None, None), "an answer that nobody counted"
    assert amount(bill(book(price(model="m", request=1)), fact(source="none")).price) == "1", "it needs no counts"
    assert bill(found, fact(model="other", channel="other")) == (None, None)


def attempts(*parts: tuple[str, int, int]) -> str:
    """parts: channel, input and output tokens of each attempt; no tokens = it says nothing."""
    said = [{"channel": channel, "ms": 1000.0, "tokens": {"in": i, "out": o} if i or o else None} for channel, i, o in parts]
    return json.dumps(said)


def test_the_caller_pays_once_and_every_attempt_costs():
    found = book(
        price(model="m", input=1, output=1),
        price(channel="gpu", input=2, output=4),
        price(channel="npu", input=1, output=1, second=1),
        price(channel="abroad", input=1, currency="USD"),
    )
    whole = fact(output=500_000, attempts=attempts(("gpu", 1_000_000, 200_000), ("npu", 1_000_000, 300_000)))
    assert [amount(one) for one in bill(found, whole)] == ["1.5", "5.1"], "2.8 for the one that died, 2.3 for the one that went on"
    vain = fact(status=502, input=0, attempts=attempts(("gpu", 500_000, 0), ("npu", 0, 0)))
    assert bill(found, vain).price == NOTHING and amount(bill(found, vain).cost) == "1", "nobody pays, but an engine has worked"
    for other in ("abroad", "unknown"):
        assert bill(found, fact(attempts=attempts(("gpu", 1, 1), (other, 1, 1)))).cost is None
    assert amount(bill(found, fact(attempts=attempts(("npu", 0, 0), ("gpu", 0, 0)))).cost) == "2", "who says nothing has used nothing"


def test_time_that_is_paid_for():
    assert micros(250.0, 500.0, 2750.5) == 2_000_500 and micros(0.0, 0.0, 0.001) == 1 and micros(5.0, 0.0, 1.0) == 0


def test_the_book_of_a_configuration(tmp_path):
    text = """version: 1
channels: {gpu: {engine: vllm, endpoints: ["http://h:1"]}, cpu: {engine: vllm, endpoints: ["http://h:2"]}}
models:
  qwen: {aliases: [q, "gpt-4o*"], targets: [{channel: gpu}], rules: [{name: r, when: {api: chat}, to: {model: small}}]}
  small: {targets: [{channel: cpu}]}
  other: {targets: [{channel: gpu}], fallback: [small]}
tenants: {retail: {discount: 50%, projects: {p: }}}
schedules: {night: {when: ["00:00-06:00"]}}
prices:
  - {model: qwen, currency: CNY, input: "2", cached: "0.5", output: "8"}
  - {model: qwen, during: night, currency: CNY, input: "1", output: "4"}
  - {model: qwen, from: 2027-01-01, currency: CNY, input: "3", output: "9"}
  - {channel: "*", currency: CNY, request: "0.5"}
"""
    config, _ = resolve(loaded(tmp_path, text))
    found = book_of(config, {"night": lambda ts: ts % 86_400 < 6 * 3600})
    noon, one = 1_790_000_000 // 86_400 * 86_400 + 43_200.0, 1_790_000_000 // 86_400 * 86_400 + 3_600.0
    assert [amount(found.price(name, "gpu", "retail", USE, noon)) for name in ("qwen", "q", "gpt-4o-mini")] == ["2.85"] * 3
    assert amount(found.price("qwen", "gpu", "", USE, one)) == "3" and amount(found.price("small", "cpu", "", USE, noon)) == "0.5"
    assert [one.amount for one in found.estimate("other", "", 9, 9, noon)] == [Decimal("0.5")]
    rows = found.table()
    assert [row["until"] for row in rows] == [rows[2]["begins"], None, None, None] and rows[0]["input"] == 2 * NANO
    assert rows[1]["during"] == "night" and rows[0]["rev"] == _priced(found.price("qwen", "", "", USE, noon)).rev


def test_a_plain_loop_prices_many_rows():
    found = book(price(model="m*", input=2, cached=1, output=8), price(model="m*", input=1, output=4, during="n"), n=lambda ts: ts % 7 < 3)
    facts = [fact(model=f"m{number % 50}", ts=float(number), output=number % 4000) for number in range(20_000)]
    began = time.process_time()
    for one in facts:
        bill(found, one)
    assert len(facts) / (time.process_time() - began) > 30_000, "bench: a hundred thousand and more"


def _priced(found: Priced | None) -> Priced:
    assert found is not None
    return found


def test_a_minute_is_one_moment_unless_a_price_begins_within_it():
    found = book(price(model="m", request=1), price(model="m", request=2, begins=90.0), price(model="m", request=3, begins=240.0))
    assert [found.moment(ts) for ts in (0.5, 59.9, 61.0, 90.0, 241.0, 299.0)] == [0.0, 0.0, 61.0, 90.0, 240.0, 240.0]

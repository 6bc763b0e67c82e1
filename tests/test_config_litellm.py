"""LiteLLM's price map: what becomes of each field, to the last digit, and what is said to have no counterpart."""

import json
from decimal import Decimal
from typing import Any

import pytest
import yaml

from gateway.config.litellm import lines, read_price_map
from gateway.config.resolve import resolve
from gateway.config.resolved_prices import Price, Tier
from tests.config_text import loaded

MAP = """{
 "sample_spec": {"input_cost_per_token": 0.0, "output_cost_per_token": 0.0, "litellm_provider": "one of …"},
 "gpt-4o": {"max_tokens": 16384, "input_cost_per_token": 2.5e-06, "output_cost_per_token": 1e-05,
   "cache_read_input_token_cost": 1.25e-06, "input_cost_per_token_batches": 1.25e-06, "litellm_provider": "openai", "mode": "chat"},
 "gemini/pro": {"input_cost_per_token": 1.25e-06, "input_cost_per_token_above_200k_tokens": 2.5e-06, "output_cost_per_token": 1e-05,
   "output_cost_per_token_above_200k_tokens": 1.5e-05, "cache_read_input_token_cost": 3.125e-07,
   "cache_read_input_token_cost_above_200k_tokens": 6.25e-07, "output_cost_per_reasoning_token": 2e-05,
   "input_cost_per_token_above_128k_tokens": 0.000002},
 "qwen-plus": {"tiered_pricing": [
   {"range": [0, 128000.0], "input_cost_per_token": 4e-07, "output_cost_per_token": 1.2e-06, "output_cost_per_reasoning_token": 4e-06},
   {"range": [128000.0, 1000000], "input_cost_per_token": 1.2e-06, "output_cost_per_token": 3.6e-06}]},
 "free": {"input_cost_per_token": 0, "output_cost_per_token": 0.0},
 "embed": {"input_cost_per_token": 1.3e-07, "output_cost_per_token": null, "input_cost_per_request": 0.005},
 "dall-e-3": {"output_cost_per_image": 0.04, "search_context_cost_per_query": {"high": 1}},
 "two words": {"input_cost_per_token": 1e-06}
}"""


def test_a_map():
    found = {one.name: one for one in read_price_map(MAP)}
    assert {name: one.words for name, one in found.items()} == {
        "gpt-4o": {"input": "2.5", "cached": "1.25", "output": "10"},
        "gemini/pro": {
            "input": "1.25", "cached": "0.3125", "output": "10", "reasoning": "20",
            "tiers": [{"over": 128000, "input": "2"}, {"over": 200000, "input": "2.5", "cached": "0.625", "output": "15"}],
        },
        "qwen-plus": {"input": "0.4", "output": "1.2", "reasoning": "4", "tiers": [{"over": 128000, "input": "1.2", "output": "3.6"}]},
        "free": {"input": "0", "output": "0"},
        "embed": {"input": "0.13", "request": "0.005"},
        "dall-e-3": {},
        "two words": {},
    }  # fmt: skip
    assert {name: one.skipped for name, one in found.items() if one.skipped} == {
        "gpt-4o": ["input_cost_per_token_batches"],
        "dall-e-3": ["output_cost_per_image", "search_context_cost_per_query"],
        "two words": ["its name, which no model here can have"],
    }


def one(**said: Any) -> Any:
    return read_price_map(json.dumps({"m": said}))[0]


@pytest.mark.parametrize("amount", ["2.5e-06", "0.0000025", "25E-7", "2.500e-6"])
def test_however_a_number_is_written(amount):
    assert read_price_map(f'{{"m": {{"input_cost_per_token": {amount}}}}}')[0].words == {"input": "2.5"}


def test_no_digit_comes_from_a_float():
    found = read_price_map('{"m": {"input_cost_per_token": 0.000000100000000000003}}')[0]
    assert found.words == {"input": "0.1"} and found.skipped == ["input_cost_per_token beyond 9 digits"]
    assert Decimal(read_price_map('{"m": {"input_cost_per_token": 1e-15}}')[0].words["input"]) == Decimal("1e-9")


@pytest.mark.parametrize("amount", [-1, "1e-6", True, 1e6, [], {}])
def test_an_amount_that_is_none(amount):
    assert (one(input_cost_per_token=amount).words, one(input_cost_per_token=amount).skipped) == ({}, ["input_cost_per_token"])


def test_what_costs_in_another_way_is_not_imported_as_free():
    found = one(input_cost_per_token=0.0, output_cost_per_token=0, input_cost_per_second=0.0001)
    assert found.words == {} and "has no counterpart" in found.skipped[-1]
    assert one(input_cost_per_token=0.0, input_cost_per_second=0.0).words == {"input": "0"}
    assert one(input_cost_per_token=1e-6, input_cost_per_second=0.0001).words == {"input": "1"}


def test_a_rerank_is_one_query():
    assert one(input_cost_per_query=0.002, input_cost_per_token=0.0, output_cost_per_token=0.0).words == {
        "input": "0",
        "output": "0",
        "request": "0.002",
    }


def test_nan_is_no_price():
    assert read_price_map('{"m": {"input_cost_per_token": NaN}}')[0].words == {}


@pytest.mark.parametrize("amount", ["1e999999", "1e400", "1000.1", "-1e-6", "-1e999999"])
def test_an_amount_that_nobody_asks_is_left_out_and_nothing_else(amount):
    (found,) = read_price_map(f'{{"m": {{"input_cost_per_token": {amount}, "output_cost_per_token": 1e-6}}}}')
    assert found.words == {"output": "1"} and found.skipped == ["input_cost_per_token"]


@pytest.mark.parametrize("amount", ["1e-17", "1e-999999999"])
def test_what_is_too_little_to_be_told_is_not_free(amount):
    (found,) = read_price_map(f'{{"m": {{"input_cost_per_token": {amount}, "output_cost_per_token": 1e-6}}}}')
    assert found.words == {"output": "1"} and found.skipped == ["input_cost_per_token beyond 9 digits"]


@pytest.mark.parametrize("odd", ["0", "1000001", "9" * 5000])
def test_a_tier_that_can_be_none_is_left_out(odd):
    word = f"input_cost_per_token_above_{odd}k_tokens"
    found = one(**{"input_cost_per_token": 1e-6, word: 2e-6})
    assert found.words == {"input": "1"} and found.skipped == [word]


@pytest.mark.parametrize("range_", ["[]", '{"a": 1}', "[1e999999]", "[-1]", "[0.5]", "[null]", '["0"]'])
def test_a_range_that_can_be_none_is_left_out(range_):
    text = f'{{"m": {{"input_cost_per_token": 1e-6, "tiered_pricing": [{{"range": {range_}, "input_cost_per_token": 1e-6}}]}}}}'
    (found,) = read_price_map(text)
    assert found.words == {"input": "1"} and found.skipped == ["tiered_pricing"]


def test_a_part_without_its_whole():
    found = one(cache_read_input_token_cost=1e-6, output_cost_per_token=1e-6)
    assert found.words == {"output": "1"} and found.skipped == ["cached tokens, for input tokens have no price"]
    assert one(tiered_pricing=[{"range": "all"}, 7]).skipped == ["tiered_pricing"] * 2


@pytest.mark.parametrize(
    ("text", "said"), [("", "is not JSON"), ("{", "is not JSON"), ("[]", "is not a price map"), ('{"a": 1}', "not a price")]
)
def test_what_is_no_map(text, said):
    with pytest.raises(ValueError, match=said):
        read_price_map(text)


def test_what_is_written_loads_as_it_was(tmp_path):
    entries = [{"model": one.name.replace("gemini/pro", "qwen"), "currency": "USD", **one.words} for one in read_price_map(MAP)]
    written = lines([entry for entry in entries if entry["model"] == "qwen"])
    head = 'version: 1\nchannels: {gpu: {engine: vllm, endpoints: ["http://h:1"]}}\nmodels: {qwen: {targets: [{channel: gpu}]}}\n'
    config, _ = resolve(loaded(tmp_path, head + written))
    m = 1_000_000
    tiers = (Tier(128_000, 2000 * m), Tier(200_000, 2500 * m, 625 * m, 15_000 * m))
    own: dict[str, Any] = {"input": 1250 * m, "cached": 312_500_000, "output": 10_000 * m, "reasoning": 20_000 * m}
    assert config.prices == (Price("qwen", "", "USD", **own, tiers=tiers),)
    assert len(yaml.safe_load(lines(entries))["prices"]) == 7

"""docs/prices.md: its examples load and cost what it says; its worked example of own hardware is worked."""

import re
from decimal import Decimal
from pathlib import Path

import pytest

from gateway.config.resolve import resolve
from gateway.config.resolved import Resolved
from gateway.price.book import PriceBook
from gateway.price.build import book_of
from gateway.price.capacity import HOUR, Used, shares
from gateway.price.entry import Use
from gateway.route.schedule import compile_schedule
from tests.config_text import loaded

PAGE = (Path(__file__).parents[1] / "docs" / "prices.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
CHANNELS = 'channels: {gpu: {engine: vllm, endpoints: ["http://h:1"]}, rented: {engine: openai, endpoints: ["http://h:2"]}}\n'
MODELS = "models: {qwen: {targets: [{channel: gpu}]}, small: {targets: [{channel: rented}]}, embed-1: {targets: [{channel: gpu}]}}\n"
JANUARY = 1_798_761_600.0
"""2027-01-01 in UTC."""


def config(folder: Path, number: int) -> Resolved:
    text = EXAMPLES[number]
    head = "version: 1\n" + ("" if "channels:" in text else CHANNELS) + ("" if "models:" in text else MODELS)
    if "embed*" not in text and number:
        head = head.replace(", embed-1: {targets: [{channel: gpu}]}", "")
    return resolve(loaded(folder, head + text))[0]


def book(folder: Path, number: int) -> PriceBook:
    found = config(folder, number)
    return book_of(found, {name: compile_schedule(schedule).open_at for name, schedule in found.schedules.items()})


def paid(
    found: PriceBook, model: str, input: int, output: int = 0, cached: int = 0, ts: float = JANUARY - 1, tenant: str = ""
) -> str | None:
    priced = found.price(model, "rented", tenant, Use(input, cached, output, 0, 5_000_000), ts)
    return None if priced is None else f"{priced.amount.normalize():f}"


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_each_example_loads(number, tmp_path):
    config(tmp_path, number)


def test_prices(tmp_path):
    found = book(tmp_path, 0)
    assert paid(found, "qwen", 1_000_000, 1_000_000, 500_000) == "9.25"
    assert paid(found, "qwen", 1_000_000, 1_000_000, 500_000, ts=JANUARY) == "8.1"
    assert paid(found, "embed-1", 2_000) == "0.001" and paid(found, "embed-1", 2_000, 1) is None, "unknown is not free"
    assert paid(found, "small", 9, 9) == "0"
    cost = found.cost("rented", Use(9, 0, 9, 0, 5_000_000), JANUARY)
    assert cost is not None and (cost.amount, cost.currency) == (Decimal("0.003"), "USD")


def test_tiers(tmp_path):
    found = book(tmp_path, 1)
    assert [paid(found, "qwen", prompt, 1000) for prompt in (32_000, 32_001, 128_001)] == ["0.072", "0.108003", "0.776006"]


def test_off_peak(tmp_path):
    found = book(tmp_path, 2)
    evening = JANUARY - 8 * 3600 - 2 * 3600  # 22:00 in Shanghai
    assert [paid(found, "qwen", 1_000_000, 0, ts=ts) for ts in (evening - 1, evening, evening + 8 * 3600)] == ["2", "1", "2"]


def test_discounts_and_currencies(tmp_path):
    assert config(tmp_path, 3).discounts == {"retail": 125_000}
    assert config(tmp_path, 4).currencies.rates == {"USD": 7_100_000_000, "EUR": 7_800_000_000}


def test_budgets(tmp_path):
    found = config(tmp_path, 5).limits
    assert {place: (one.max, one.per, one.zone, one.warn) for place, (one,) in found.items()} == {
        "tenants/retail": (50_000_000_000, "month", "Asia/Shanghai", (80, 95)),
        "tenants/retail/projects/chatbot": (880_000_000, "day", "UTC", ()),
        "models/qwen": (2**62, "month", "UTC", (50,)),
    }


def test_the_worked_example_of_own_hardware(tmp_path):
    cost = config(tmp_path, 7).costs["ascend"]
    rows = re.findall(r"^\| (retail|research) \| (\d+) h \| (\d+) \| ([\d.]+) \|$", PAGE, re.M)
    uses = [Used(int(hours) * HOUR, int(tokens)) for _, hours, tokens, _ in rows]
    found = shares(cost.per_hour, 24 * HOUR, 6 * HOUR, uses)

    def told(nanos: int | None) -> str:
        assert nanos is not None
        return f"{Decimal(nanos).scaleb(-9).normalize():f}"

    assert [told(part) for part in found.parts] == [share for *_, share in rows] and len(rows) == 2
    assert f"| idle | | | {told(found.idle)} |" in PAGE and f"| **whole** | | | {told(found.whole)} |" in PAGE
    said = f"A million tokens came to {told(found.per_million)} CNY; without idle time to {told(found.busy_per_million)} CNY."
    assert said in PAGE

"""Money end to end: two real workers, callers who race for a budget, other currencies, kills; what callers, records and people see."""

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.harness import Rig
from tests.test_limits_lasting import end
from tests.test_limits_live import ask, key, race, secret

pytestmark = pytest.mark.asyncio(loop_scope="module")


def budget(rig: Rig, id: str, amount: str, project: str = "bot", **more: Any) -> None:
    key(rig, id, project=project)
    rig.config["keys"][-1]["budget"] = {"amount": amount, "currency": "CNY", "stop": 100, **more}


def priced(rig: Rig) -> None:
    rig.config["currencies"] = {"base": "CNY", "rates": {"USD": "7.1"}}
    rig.config["prices"] = [
        {"model": "m", "currency": "CNY", "request": "0.01"},
        {"model": "slow", "currency": "USD", "request": "0.01"},
        {"model": "tokens", "currency": "CNY", "input": 0, "output": "1000"},
        {"model": "all", "currency": "CNY", "per": "1K", "input": "1", "cached": "0.5", "output": "3"},
        {"model": "steady", "currency": "CNY", "per": "1K", "input": "1", "output": "3"},
        {"model": "half", "currency": "CNY", "input": 1},
        {"channel": "a", "currency": "USD", "request": "0.1"},
    ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with Rig(tmp_path_factory.mktemp("money"), workers=2) as rig:
        await rig.engine("a", model="m")
        await rig.engine("slow", model="m", ttft=0.5)
        for name in ("m", "tokens", "all", "half", "bychannel"):
            rig.model(name, {"a": 1})
        await rig.engine("steady", model="m", tps=100)
        rig.model("slow", {"slow": 1})
        rig.model("steady", {"steady": 1})
        priced(rig)
        budget(rig, "requests", "0.25")
        budget(rig, "dollars", "0.71")
        budget(rig, "output", "0.02")
        budget(rig, "both", "100000")
        budget(rig, "never", "100000")
        budget(rig, "warned", "0.02", stop=None, warn=[50, 100])
        budget(rig, "half", "5")
        budget(rig, "channel", "2.13", per="day", zone="Asia/Shanghai")
        rig.config["tenants"]["thrifty"] = {
            "discount": "50%",
            "projects": {"p": {"budget": {"amount": "0.05", "currency": "CNY", "stop": 80}}},
        }
        key(rig, "cheap", {"name": "usd", "count": "money", "max": "1", "per": "hour", "currency": "USD"}, project="p")
        rig.config["keys"][-1]["tenant"] = "thrifty"
        await rig.start()
        yield rig


async def counter(rig: Rig, id: str) -> dict[str, Any]:
    found: dict[str, Any] = (await rig.admin("GET", f"/v1/limits/counters?key={id}"))["counters"][0]
    return found


async def test_of_200_racing_callers_exactly_as_many_pass_as_are_paid_for(rig):
    assert await race(rig, "requests") == {200: 25, 429: 175}
    assert (await counter(rig, "requests"))["used"] == "0.25"


async def test_so_they_do_when_answers_take_a_while_and_cost_dollars(rig):
    assert await race(rig, "dollars", model="slow") == {200: 10, 429: 190}
    assert (await counter(rig, "dollars"))["used"] == "0.71"


async def test_so_they_do_by_the_tokens_of_their_answers(rig):
    assert await race(rig, "output", model="tokens", callers=60) == {200: 10, 429: 50}


async def test_a_caller_hears_of_a_quota(rig):
    no = await ask(rig, "requests")
    assert no.status == 429 and no.error is not None and no.error["code"] == "insufficient_quota"
    assert "your API key (limit `budget`) is reached: 0.25 CNY per month, of which 0.25 are used" in no.error["message"]
    assert no.headers["x-should-retry"] == "false"
    assert (await rig.record(id=no.headers["x-request-id"]))["error"] == "limit_key_budget"


async def test_what_nobody_could_ever_pay_is_said_so(rig):
    no = await ask(rig, "never", "all", max_tokens=999_999_999, n=999_999_999)
    assert no.status == 429 and no.error is not None and "it can never be served" in no.error["message"]
    assert "may use 9007199254.740992 CNY" in no.error["message"] and "`max_tokens`" in no.error["message"]
    assert (await ask(rig, "never", "m")).status == 200


async def test_a_budget_that_only_warns_stops_nobody_and_says_how_far_it_is_spent(rig):
    assert await race(rig, "warned", callers=5) == {200: 5}
    found = await counter(rig, "warned")
    assert (found["used"], found["max"], found["budget"], found["percent"], found["stop"]) == ("0.05", "0.02", "0.02", 250, None)
    assert found["warn"] == [50, 100] and float(found["forecast"]) >= 0.05 and found["left"] == "0"


async def test_what_was_set_aside_is_settled_with_what_it_really_came_to(rig):
    answer = await ask(rig, "both", "all", text="one two three four five", max_tokens=50)
    record = await rig.record(id=answer.headers["x-request-id"])
    tokens = record["tokens"]
    paid = (tokens["in"] - tokens.get("cached", 0)) * 1_000 + tokens.get("cached", 0) * 500 + tokens["out"] * 3_000
    assert record["reserved"]["out"] == 50
    await asyncio.sleep(0.3)  # its end is told in the next turn
    assert round(float((await counter(rig, "both"))["used"]) * 1_000_000) == paid > 0


@pytest.mark.parametrize("ended", ["left", "frozen"])
async def test_a_stream_that_does_not_end_by_itself_is_paid_until_then(rig, ended):
    """Whoever leaves before the end would otherwise pay nothing, however long it reads."""
    before = float((await counter(rig, "both"))["used"])
    record = await broken_off(rig, ended)
    output = record["tokens"]["out"]
    assert record["status"] == {"left": 499, "frozen": 403}[ended] and output > 10
    await asyncio.sleep(0.3)  # its end is told in the next turn
    paid = float((await counter(rig, "both"))["used"]) - before
    assert round(paid * 1_000_000) == record["tokens"]["in"] * 1_000 + output * 3_000


async def broken_off(rig: Rig, ended: str) -> dict[str, Any]:
    """The record of a long stream that its caller leaves, or that the kill switch ends."""
    headers = {"Authorization": f"Bearer {secret('both')}"}
    asked = {"model": "steady", "stream": True, "max_tokens": 3000, "ignore_eos": True, "messages": [{"role": "user", "content": "go on"}]}
    async with rig.session.post(f"{rig.url}/v1/chat/completions", json=asked, headers=headers) as answer:
        for _ in range(40):
            await answer.content.readline()
        if ended == "frozen":
            await rig.admin("POST", "/v1/freeze", {"kind": "key", "name": "both", "reason": ""})
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()
            await rig.admin("POST", "/v1/unfreeze", {"kind": "key", "name": "both"})
        id = answer.headers["x-request-id"]
    return await rig.record(id=id)


async def test_discounts_and_places_and_currencies_together(rig):
    """0.005 a request: of 0.05 CNY 80 percent are 8 requests; a limit in dollars counts beside it."""
    assert await race(rig, "cheap", callers=20) == {200: 8, 429: 12}
    found = {one["name"]: one for one in (await rig.admin("GET", "/v1/limits/counters?key=cheap"))["counters"]}
    assert (found["budget"]["used"], found["budget"]["percent"], found["budget"]["stop"]) == ("0.04", 80, 80)
    assert found["usd"]["used"] == "0.00564"  # 8 times 0.000704225 dollars, each rounded up to a millionth


async def test_without_a_price_of_the_model_the_channels_counts(rig):
    """0.1 dollars are 0.71 CNY: three times."""
    assert await race(rig, "channel", callers=9, model="bychannel") == {200: 3, 429: 6}


async def test_what_nobody_knows_the_price_of_passes_and_is_told(rig):
    assert (await ask(rig, "half", "half")).status == 200
    assert (await counter(rig, "half"))["used"] == "0"
    for _ in range(50):
        if 'gateway_unpriced_total{model="half"} 1.0' in (text := await rig.metrics()):
            break
        await asyncio.sleep(0.1)
    assert 'gateway_unpriced_total{model="half"} 1.0' in text


@pytest.mark.hard
@pytest.mark.parametrize("broken", [False, True])
async def test_counters_survive_a_kill_and_are_made_anew_from_the_journal(broken, tmp_path):
    async with Rig(tmp_path, workers=2) as rig:
        await rig.engine("a", model="m")
        for name in ("m", "slow", "tokens", "all", "half", "steady"):
            rig.model(name, {"a": 1})
        priced(rig)
        budget(rig, "k", "1000")
        await rig.start()
        for number in range(6):
            assert (await ask(rig, "k", ("m", "slow", "all")[number % 3], max_tokens=7)).status == 200
        await asyncio.sleep(0.3)  # the last one's end is told in the next turn
        before = (await counter(rig, "k"))["used"]
        assert float(before) > 0.16
        await end(rig, signal.SIGKILL)
        if broken:
            for file in (rig.data_dir / "limits/upto.json", *(rig.data_dir / "limits").glob("*.json")):
                file.write_text("broken")
        rig.log_path.unlink()
        await rig.start()
        assert (await counter(rig, "k"))["used"] == before

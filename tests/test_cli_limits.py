"""`gatewayctl limits`: what people see, and what programs get."""

import json

import pytest

from gateway.admin.server import serve_admin
from gateway.referee.view import COUNTERS_MOST
from tests.fixtures.cli import actl
from tests.fixtures.desk import FakeDesk, write_config


@pytest.fixture
async def config(tmp_path, monkeypatch):
    found = write_config(tmp_path)
    server = await serve_admin(FakeDesk(found), found.parent / "data/admin.sock")
    yield found
    await server.close()


async def ctl(config, *args, columns=200):
    return await actl("limits", *args, GATEWAY_CONFIG=str(config), COLUMNS=str(columns))


async def test_list_says_what_is_configured(config):
    ran = await ctl(config)
    assert ran.code == 0 and not ran.err
    assert "key ann" in ran.out and "600 requests per minute" in ran.out and "outside office" in ran.out and "qwen*" in ran.out
    assert "global" in ran.out and "1000000 total tokens per day (UTC) for each address" in ran.out and "shadow" in ran.out
    assert [one["name"] for one in json.loads((await ctl(config, "list", "-o", "json")).out)] == ["night", ""]


async def test_show_says_what_is_used_and_by_whom(config):
    ran = await ctl(config, "show")
    assert ran.code == 0 and not ran.err
    assert "global · 10.0.0.9" in ran.out and "900000" in ran.out and "in 2 h" in ran.out and "7 (shadow)" in ran.out
    assert "ann 900000" in ran.out and "does not apply now" in ran.out
    counters = json.loads((await ctl(config, "show", "--key", "ann", "-o", "json")).out)
    assert counters[1]["top"] == [{"key": "ann", "used": 900_000}]
    assert "left" in (await ctl(config, "show", "-o", "csv")).out.splitlines()[0]


async def test_what_a_forecast_of_money_goes_by_is_said(config, monkeypatch):
    budget = {
        "scope": "tenant", "owner": "retail", "name": "budget", "count": "money", "max": "50", "per": "month", "zone": "UTC",
        "currency": "CNY", "budget": "50", "used": "20", "left": "30", "percent": 40, "forecast": "41.5", "basis": "rate",
    }  # fmt: skip

    async def counters(self, **wanted):
        return [budget]

    monkeypatch.setattr(FakeDesk, "counters", counters)
    ran = await ctl(config, "show")
    assert "AT THIS RATE" in ran.out and "41.5" in ran.out
    assert json.loads((await ctl(config, "show", "-o", "json")).out)[0]["basis"] == "rate"


async def test_that_there_may_be_more_counters_is_said(config, monkeypatch):
    one = {"scope": "global", "owner": "", "count": "requests", "max": 3, "per": "hour", "each": "address", "used": 1, "left": 2}
    found = [{**one, "value": str(number)} for number in range(COUNTERS_MOST)]

    async def counters(self, **wanted):
        return found

    monkeypatch.setattr(FakeDesk, "counters", counters)
    ran = await ctl(config, "show")
    assert len(ran.out.splitlines()) == COUNTERS_MOST + 1 and "there may be others" in ran.err
    found.pop()
    assert "others" not in (await ctl(config, "show")).err


async def test_an_unknown_key_is_told(config):
    ran = await ctl(config, "show", "--key", "bob")
    assert ran.code != 0 and "there is no key 'bob'" in ran.err and not ran.out

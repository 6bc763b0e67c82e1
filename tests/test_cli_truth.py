"""`gatewayctl usage reconcile` and `gatewayctl cost anomalies`: what people see, what programs get, what is refused."""

import json
import time
from typing import Any

import pytest

from gateway.admin.server import serve_admin
from gateway.ledger.reconcile import Side, judged
from gatewayctl.commands.anomalies import FIELDS
from tests.fixtures.desk import FakeDesk, write_config

HOUR = 1_795_824_000.0


@pytest.fixture
async def desk(tmp_path, monkeypatch):
    config = write_config(tmp_path)
    desk = FakeDesk(config)
    server = await serve_admin(desk, config.parent / "data/admin.sock")
    monkeypatch.setenv("GATEWAY_CONFIG", str(config))
    yield desk
    await server.close()


def row(channel: str, side: Side, now: float = HOUR + 7200) -> dict[str, Any]:
    return judged(HOUR, channel, [("http://e", side)], now)


async def test_engines_and_ledger_side_by_side(desk, inside):
    whole = {"covered": 3600.0, "since": HOUR, "until": HOUR + 3600}
    desk.truth.hours = [
        row("gpu", Side(40, 1500, 1, prompt=30.0, output=1000.0, uncounted=2, **whole)),
        row("plain", Side(output=7.0)),
    ]
    code, out, _ = await inside("usage", "reconcile", "--last", "2h", "--channel", "gpu")
    since, channel = desk.truth.calls[-1]
    assert code == 0 and channel == "gpu" and abs(time.time() - 7200 - since) < 30
    first, second = (line.split() for line in out.splitlines()[1:])
    assert first[2:] == ["gpu", "bypassed", "1,500", "1,000", "0", "500", "+33.33%", "500", "0", "40", "30", "2", "1", "100%"]
    assert second[2:] == ["plain", "unknown", "-", "7", "0", "-", "-", "-", "0", "-", "0", "0", "0", "0%"]
    assert ",1500,1000,0,500," in (await inside("usage", "reconcile", "-o", "csv"))[1]
    code, out, _ = await inside("usage", "reconcile", "-o", "json")
    assert json.loads(out) == desk.truth.hours
    desk.truth.hours = [row("gpu", Side(40, 100, prompt=40.0, output=100.0, covered=100.0, since=HOUR + 3500, until=HOUR + 3600))]
    code, out, err = await inside("usage", "reconcile")
    assert code == 0 and "uncertain" in out and "agrees" not in out and "too little to tell" in err
    code, out, err = await inside("usage", "reconcile", "-o", "json")
    assert json.loads(out)[0]["state"] == "uncertain" and "1 line uncertain" in err
    desk.truth.hours = []
    code, out, err = await inside("usage", "reconcile")
    assert (code, out) == (0, "") and "nothing was used" in err


async def test_hours_that_are_out_of_the_ordinary(desk, inside):
    one = {"hour": HOUR, "what": "tokens", "by": "tenant", "name": "lab", "kind": "spike"}
    desk.truth.unusual = [{**one, "value": 330_000.0, "baseline": 30_000.0, "times": 11.0, "deviations": 7.5}]
    code, out, _ = await inside("cost", "anomalies", "--sensitivity", "high")
    assert code == 0 and out.splitlines()[1].split()[2:] == ["tokens", "tenant", "lab", "spike", "330,000", "30,000", "11.0", "7.5"]
    desk.truth.unusual[0] |= {"what": "amount", "currency": "USD", "value": 1234.5}
    _, out, _ = await inside("cost", "anomalies", "--sensitivity", "high")
    assert out.splitlines()[1].split()[2:8] == ["amount", "USD", "tenant", "lab", "spike", "1,234.50"], "of which currency"
    assert ",1234.5,30000.0," in (await inside("cost", "anomalies", "--sensitivity", "high", "-o", "csv"))[1]
    desk.truth.unusual = []
    assert (await inside("cost", "anomalies", "--sensitivity", "high", "-o", "csv"))[1] == f"{','.join(FIELDS)}\n"
    since, sensitivity = desk.truth.calls[-1]
    assert sensitivity == "high" and abs(time.time() - 7 * 86_400 - since) < 30


@pytest.mark.parametrize(
    "arguments",
    [("usage", "reconcile", "--last", "40x"), ("cost", "anomalies", "--last", "soon"), ("cost", "anomalies", "--sensitivity", "very")],
)
async def test_what_makes_no_sense_is_refused(desk, inside, arguments):
    code, out, _ = await inside(*arguments)
    assert (code, out, desk.truth.calls) == (2, "", [])


@pytest.mark.parametrize("last", ["4000d", "2030-01-01"])
async def test_a_time_that_nobody_can_have_meant_is_refused(desk, inside, last):
    code, _, err = await inside("usage", "reconcile", "--last", last)
    assert code == 1 and "92 days" in err and desk.truth.calls == []

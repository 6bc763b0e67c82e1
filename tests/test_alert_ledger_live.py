"""Alerts that go by the ledger, end to end: history through the journal, a live control, a webhook that hears of it."""

import time
from typing import Any

import pytest

from gateway.record import Record, Tokens
from gateway.report.unusual import LATE
from tests.harness import Rig, eventually
from tests.test_alert_live import Ears, begin, ears, listed  # noqa: F401
from tests.test_ledger_store import done, write

WEEKS = 4


def served(ts: float, model: str = "qwen") -> Record:
    return done(ts, tenant="acme", project="bot", key="k1", model=model, channel="a", tokens=Tokens(2000, 0, 0), source="final")


def history(hour: float, *, spike: int) -> list[Record]:
    """Two requests in each hour of these weeks, and so many more in the hour that goes on."""
    usual = [served(hour - ago * 3600 + n) for ago in range(WEEKS * 168, -1, -1) for n in (1, 2)]
    return [*usual, *(served(hour + 3 + n / 10) for n in range(spike))]


async def prepared(rig: Rig, rule: dict[str, Any], ears: Ears, records: list[Record]) -> None:  # noqa: F811
    """The gateway has these requests in its ledger before it judges for the first time."""
    rig.config["prices"] = [{"model": "qwen", "currency": "CNY", "input": "1000"}]
    (rig.data_dir / "journal").mkdir()
    write(rig.data_dir / "journal", "9-old-000001", *records)
    await begin(rig, ears, [{**rule, "for": "0s"}])


async def heard(ears: Ears, word: str) -> str:  # noqa: F811
    lines: list[str] = await eventually(lambda: ears.of(word), within=40, every=0.2)
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    ("rule", "labels", "said"),
    [
        ({"on": "usage_anomaly", "by": "model"}, {"by": "model", "model": "qwen"}, "tokens spike: 84,000 in an hour, usual are 4,000"),
        ({"on": "cost_anomaly"}, {"by": "tenant", "tenant": "acme"}, "cost spike: 84 in an hour, usual are 4"),
    ],
)
@pytest.mark.hard
async def test_a_spike_is_told_while_its_hour_goes_on(
    rig: Rig,
    ears: Ears,  # noqa: F811
    rule: dict[str, Any],
    labels: dict[str, str],
    said: str,
) -> None:
    hour = (time.time() - LATE) // 3600 * 3600
    await prepared(rig, rule, ears, history(hour, spike=40))
    assert said in await heard(ears, "FIRING")
    (alert,) = await listed(rig)
    assert alert["labels"] == labels
    assert (await rig.admin("GET", "/v1/alerts"))["rules"][0]["sure"]


@pytest.mark.hard
async def test_usual_hours_tell_nothing(rig: Rig, ears: Ears) -> None:  # noqa: F811
    hour = (time.time() - LATE) // 3600 * 3600
    await prepared(rig, {"on": "usage_anomaly"}, ears, history(hour, spike=0))

    async def judged() -> bool:
        return bool((await rig.admin("GET", "/v1/alerts"))["rules"][0]["sure"])

    await eventually(judged, within=40)
    assert await listed(rig) == [] and ears.messages == []


@pytest.mark.hard
@pytest.mark.timeout(180)
async def test_a_model_without_a_price_is_told_and_counted(rig: Rig, ears: Ears) -> None:  # noqa: F811
    rig.config["models"]["dear"] = {"targets": [{"channel": "b"}]}
    await prepared(rig, {"on": "unpriced"}, ears, [served(time.time() - n, "dear" if n < 3 else "qwen") for n in range(5)])
    assert "3 requests have no price" in await heard(ears, "FIRING")
    (alert,) = await listed(rig)
    assert alert["labels"] == {"model": "dear"}
    text = await rig.metrics()
    assert 'gateway_ledger_unpriced_requests{model="dear"} 3.0' in text and 'gateway_ledger_unpriced_requests{model="qwen"} 0.0' in text
    rig.config["prices"].append({"model": "dear", "currency": "CNY", "input": "1"})
    await rig.reload()
    await rig.admin("POST", "/v1/cost/reprice", {"since": 0, "until": time.time() + 9, "models": [], "dry": False})
    assert "dear" in (await eventually(lambda: ears.of("RESOLVED"), within=100, every=0.5))[0]

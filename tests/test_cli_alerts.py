"""`gatewayctl alerts`: what is asked of the gateway, what is printed, and the exit codes."""

import json
import time
from typing import Any

import pytest


def alert(state: str, rule: str = "endpoint_down", **more: Any) -> dict[str, Any]:
    now = time.time()
    return {
        "id": rule, "rule": rule, "kind": rule, "severity": "critical", "labels": {"channel": "gpu"}, "state": state, "since": now - 400,
        "fired": now - 300,
        "resolved": now - 200, "told": 0.0, "value": 1.0, "text": "down: refused", "to": ["ops"], "silenced": "", **more,
    }  # fmt: skip


SILENCE = {"id": "a1b2c3", "labels": {"channel": "g*"}, "since": 1.0, "until": 1e9, "by": "ann (uid 1)", "comment": "known", "covers": 1}


def everything() -> dict[str, Any]:
    return {
        "alerts": [alert("resolved", "disk"), alert("pending", "ledger"), alert("firing", "ttft", silenced="a1b2c3"), alert("firing")],
        "silences": [SILENCE],
        "sinks": [{"name": "ops", "kind": "apprise", "waiting": 2, "trouble": "no answer", "ok": 1, "failed": 2, "given_up": 0}],
        "rules": [{"name": "usage_anomaly", "sure": False}],
        "unwritten": "the disk is full",
    }


async def test_nothing_fires(desk, inside):
    assert await inside("alerts") == (0, "", "nothing fires\n")


async def test_what_fires_comes_first_and_what_is_wrong_is_said(desk, inside):
    desk.alerting = everything()
    code, out, err = await inside("alerts", "list")
    lines = [line.split() for line in out.splitlines()]
    assert code == 0 and [line[0] for line in lines[1:5]] == ["firing", "silenced", "pending", "resolved"]
    assert lines[1][1:] == ["5", "min", "ago", "critical", "endpoint_down", "channel=gpu", "down:", "refused", "-"]
    assert "a1b2c3" in out and "channel=g*" in out and "known" in out
    assert "sink ops: no answer (2 notices waiting)" in err and "the disk is full" in err


async def test_only_what_fires(desk, inside):
    desk.alerting = everything()
    _, out, _ = await inside("alerts", "list", "--firing")
    assert "endpoint_down" in out and "ttft" not in out and "a1b2c3" not in out
    _, out, _ = await inside("alerts", "list", "--firing", "-o", "csv")
    assert out.splitlines()[0].startswith("state,when,severity,rule,about") and len(out.splitlines()) == 2


async def test_json_has_everything(desk, inside):
    desk.alerting = everything()
    _, out, _ = await inside("alerts", "-o", "json")
    found = json.loads(out)
    assert (
        found["rules"] == everything()["rules"]
        and found["sinks"] == everything()["sinks"]
        and found["alerts"][0]["rule"] == "endpoint_down"
    )


@pytest.mark.parametrize(
    ("options", "asked"), [([], "test"), (["--sink", "ops"], "test ops"), (["--sink", "ops", "--kind", "disk"], "test ops disk")]
)
async def test_a_test_message(desk, inside, options, asked):
    desk.results = [{"sink": "ops", "ok": True, "said": ""}]
    code, out, _ = await inside("alerts", "test", *options)
    assert code == 0 and desk.calls[-1][0] == asked and "ops" in out and "yes" in out


async def test_a_test_that_does_not_arrive(desk, inside):
    desk.results = [{"sink": "ops", "ok": True, "said": ""}, {"sink": "am", "ok": False, "said": "Cannot connect"}]
    code, out, err = await inside("alerts", "test")
    assert code == 1 and "Cannot connect" in out and "1 sink of 2 did not take it" in err


async def test_a_test_without_sinks(desk, inside):
    assert await inside("alerts", "test") == (0, "", "no sink hears of it: the message is in the gateway's log\n")


async def test_silence_and_unsilence(desk, inside):
    code, out, err = await inside("alerts", "silence", "channel=gpu*", "kind=endpoint_down", "--for", "2h", "--comment", "driver")
    assert (code, out) == (0, "") and err.startswith("silence a1b2c3 until ") and err.endswith("; it covers 2 alerts now\n")
    assert desk.calls[-1][0] == "silence {'channel': 'gpu*', 'kind': 'endpoint_down'} 7200 driver"
    _, out, _ = await inside("alerts", "silence", "channel=gpu", "--for", "1d", "-o", "json")
    assert json.loads(out)["id"] == "a1b2c3"
    code, out, err = await inside("alerts", "unsilence", "a1b2c3")
    assert (code, out, err) == (0, "", "silence a1b2c3 (channel=gpu) is taken back\n")
    assert (await inside("alerts", "unsilence", "zzz"))[::2] == (1, "gatewayctl: there is no silence 'zzz'\n")


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["chanel=gpu", "--for", "1h"], 1, 'did you mean "channel"?'),
        (["channel", "--for", "1h"], 2, "is not LABEL=VALUE"),
        (["channel=", "--for", "1h"], 2, "is not LABEL=VALUE"),
        (["=gpu", "--for", "1h"], 2, "is not LABEL=VALUE"),
        (["channel=gpu", "--for", "soon"], 2, "--for wants a duration"),
        (["channel=gpu", "--for", "0s"], 2, "--for wants a duration"),
        (["channel=gpu", "--for", "2027-01-01"], 2, "--for wants a duration"),
        (["channel=gpu", "--for", "9999d"], 1, '"seconds" must be'),
        (["channel=gpu"], 2, "--for"),
        (["--for", "1h"], 2, "LABEL=VALUE"),
    ],
)
async def test_what_is_no_silence(desk, inside, args, code, said):
    found, out, err = await inside("alerts", "silence", *args)
    assert (found, out) == (code, "") and said in err


@pytest.mark.parametrize("word", ["unwritten", "unaudited"])
async def test_what_is_not_written_down_is_6(desk, inside, word):
    if word == "unwritten":
        desk.unwritten = "the disk is full"
    else:
        desk.unaudited = {"unaudited": "the disk is full"}
    code, _, err = await inside("alerts", "silence", "channel=gpu", "--for", "1h")
    assert code == 6 and "the disk is full" in err

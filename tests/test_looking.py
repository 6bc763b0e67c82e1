"""What control gathers for the alerts' rules: certificates, keys, budgets, drift, and each thing as often as it is worth."""

import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.config.load import ConfigError, load
from gateway.config.resolve import resolve
from gateway.config.resolved_alerts import rule_of
from gateway.errors import Mistake
from gateway.govern import looking
from gateway.govern.looking import Looking
from gateway.govern.rollout import Outcome
from gateway.meter.counters import counters

CONFIG = """\
version: 1
data_dir: {folder}
channels: {{gpu: {{engine: vllm, endpoints: ["http://h:1"]}}}}
models: {{qwen: {{targets: [{{channel: gpu}}]}}}}
tenants:
  retail: {{projects: {{chat: {{}}}}, limits: [{{count: requests, max: 10, per: day}}, {{count: input_tokens, max: 10, per: minute}}]}}
keys:
  - {{id: k1, hash: "sha256:{one}", tenant: retail, project: chat, models: ["*"], expires: 2027-01-01}}
  - {{id: k2, hash: "sha256:{two}", tenant: retail, project: chat, models: ["*"], expires: 2027-01-01, enabled: false}}
"""


class Limits:
    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def counters(self, placed: list[Any]) -> list[dict[str, Any]]:
        self.asked.append(placed)
        common = {"name": "", "per": "day", "each": "", "value": "", "currency": ""}
        return [
            {**common, "scope": "tenant", "owner": "retail", "count": "requests", "max": 10, "used": 9},
            {**common, "scope": "key", "owner": "k1", "count": "money", "max": "12.50", "used": "6.25", "currency": "CNY", "each": "model",
             "value": "qwen"},
            {**common, "scope": "global", "owner": "", "count": "requests", "max": 0, "used": 0},
        ]  # fmt: skip


@pytest.fixture
def control(tmp_path: Path) -> Any:
    path = tmp_path / "gateway.yaml"
    path.write_text(CONFIG.format(folder=tmp_path, one="0f" * 32, two="1f" * 32))
    loaded = load(path, {})
    config, keys = resolve(loaded)
    rollout = SimpleNamespace(
        path=path, config=config, keys=keys, rev=3, digest=loaded.digest, watched=[path], last=Outcome(True, ""), counts={"accepted": 1}
    )
    health = {"journal": {"failing": False, "lost": 0}}
    bus = SimpleNamespace(links={0: SimpleNamespace(rev=3, health=health), 1: SimpleNamespace(rev=3, health=health)})
    processes = [{"name": "control", "restarts": 1, "since": 5.0}]
    return SimpleNamespace(
        rollout=rollout, bus=bus, freezing=SimpleNamespace(all=list), limits=Limits(), processes=processes, data_dir=tmp_path
    )


def looks(control: Any, endpoints: list[dict[str, Any]] | None = None) -> Looking:
    return Looking(control, control.data_dir, lambda: endpoints or [])


async def test_what_nobody_asks_for_is_not_looked_up(control):
    facts = await looks(control).look([])
    assert facts.budgets is None and facts.drift is None and facts.series is None and facts.ledger is None and not control.limits.asked
    assert facts.disk is not None and 0 < facts.disk < 100 and facts.free > 0
    assert [key.id for key in facts.keys or ()] == ["k1"] and facts.processes and facts.processes[0].restarts == 1


async def test_budgets_are_limits_per_day_or_month(control):
    look = looks(control)
    facts = await look.look([rule_of("budget")])
    assert [(one.labels, one.tenant, one.share, one.text) for one in facts.budgets or ()] == [
        ({"scope": "tenant", "owner": "retail", "limit": "requests per day"}, "retail", 90.0, "9 of 10 requests per day"),
        ({"scope": "key", "owner": "k1", "limit": "money per day", "model": "qwen"}, "", 50.0, "6.25 of 12.50 CNY per day"),
        ({"scope": "global", "limit": "requests per day"}, "", 0.0, "0 of 0 requests per day"),
    ]
    assert [limit.per for _, limit in control.limits.asked[0]] == ["day"]
    await look.look([rule_of("budget")])
    assert len(control.limits.asked) == 1, "not asked at every look"


async def test_a_refused_configuration(control):
    control.rollout.last = Outcome(False, "3 mistakes", mistakes=[Mistake("g.yaml", 3, 5, "a", "this is wrong", None, None)] * 3)
    assert (await looks(control).look([])).refused == "g.yaml:3:5: this is wrong and 2 more"
    control.rollout.last = Outcome(False, "a worker cannot")
    assert (await looks(control).look([])).refused == "a worker cannot"
    control.rollout.last = Outcome(True, "")
    assert (await looks(control).look([])).refused == ""
    control.rollout.counts = {"accepted": 0}
    assert (await looks(control).look([])).refused is None, "nothing was read yet"


async def test_drift_of_workers_and_of_files(control, monkeypatch):
    monkeypatch.setattr(looking, "FILES_EVERY", 0.0)
    look, rules = looks(control), [rule_of("drift")]
    monkeypatch.setattr(looking, "load", lambda path: load(path, {}))
    assert (await look.look(rules)).drift == []
    control.bus.links[1].rev = 2
    assert (await look.look(rules)).drift == [("worker-1", "it serves revision 2, control has 3")]
    control.bus.links[1].rev = 3
    path, text = control.rollout.path, control.rollout.path.read_text()
    path.write_text(text + "node: other\n")
    assert [where for where, _ in (await look.look(rules)).drift or ()] == ["files"]
    path.write_text(text + "nonsense: 1\n")
    with pytest.raises(ConfigError):
        load(path, {})
    assert (await look.look(rules)).drift == [], "what is refused is another alert"


def test_ends_of_certificates(tmp_path):
    key, cert = tmp_path / "k.pem", tmp_path / "c.pem"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=gw -days 10 -keyout {key} -out {cert}"
    subprocess.run(command.split(), check=True, capture_output=True)
    (end,) = looking._ends(str(cert))
    assert abs(end - time.time() - 10 * 86400) < 120
    (tmp_path / "bundle.pem").write_text(cert.read_text() * 6)
    (tmp_path / "bad.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert [list(looking._ends(str(tmp_path / name))) for name in ("bundle.pem", "bad.pem", "k.pem", "none.pem")] == [[], [], [], []]


async def test_endpoints_as_rules_see_them(control):
    rows: list[dict[str, Any]] = [
        {"channel": "gpu", "endpoint": "https://h:1", "state": "up", "why": "not looked at yet", "drained": None, "tls": None},
        {"channel": "gpu", "endpoint": "https://h:2", "state": "down", "why": "x", "drained": {"by": "ann"},
         "tls": {"not_after": "2027-01-15T08:00:00+00:00"}},
    ]  # fmt: skip
    first, second = (await looks(control, rows).look([])).endpoints or ()
    assert not first.seen and not first.drained and second.seen and second.drained and second.not_after == 1_800_000_000


def test_without_metrics_nothing_was_counted(tmp_path):
    assert counters(tmp_path / "metrics") == {("lost",): 0.0}


async def test_counters_are_looked_at_by_a_clock_that_does_not_jump(control, monkeypatch):
    """A clock that was put back by a day would have stopped the looks for a day."""
    wall, steady, looked = [2e9], [1000.0], [0]

    def count(folder: Path) -> dict[tuple[str, ...], float]:
        looked[0] += 1
        return {("requests", "qwen", "gpu"): 10.0 * looked[0]}

    monkeypatch.setattr(looking, "counters", count)
    monkeypatch.setattr(time, "time", lambda: wall[0])
    monkeypatch.setattr(time, "monotonic", lambda: steady[0])
    look, rules = looks(control), [rule_of("error_share", within=60.0)]
    for jump in (0.0, -86_400.0, 2 * 86_400.0):
        wall[0] += jump
        for _ in range(4):
            facts = await look.look(rules)
            steady[0] += 20
            wall[0] += 20
        counted = facts.counted(60)
        assert facts.now == wall[0] - 20 and counted is not None and counted.requests == {("qwen", "gpu"): 30.0}

"""docs/limits.md: its examples load, and each policy of its cookbook does what it says."""

import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from gateway.config.load import load
from gateway.config.resolve import resolve
from gateway.config.resolved import Resolved
from gateway.referee.gauges import Plan
from gateway.referee.moment import Moment
from gateway.referee.quotas import Quotas
from gateway.referee.rules import amounts
from gateway.referee.terms import Table

PAGE = (Path(__file__).parents[1] / "docs" / "limits.md").read_text()
HEAD = 'version: 1\nchannels: {gpu: {engine: vllm, endpoints: ["http://10.0.0.6:8000"]}}\n'
MODELS = "models: {qwen: {targets: [{channel: gpu}]}, small: {targets: [{channel: gpu}]}}\n"
TENANTS = "tenants: {retail: {projects: {chatbot: {}}}}\n"
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
POLICIES = dict(re.findall(r"### (\d+)\. [^\n]*\n```yaml\n(.*?)```", PAGE, re.S))


def whole(text: str) -> str:
    """A part of a configuration with what it needs around it."""
    return HEAD + text + ("" if "models:\n" in text else MODELS) + ("" if "tenants:" in text else TENANTS)


def loaded(folder: Path, text: str) -> Resolved:
    (folder / "gateway.yaml").write_text(whole(text))
    return resolve(load(folder / "gateway.yaml", {}))[0]


class Gateway:
    """The limits of one configuration, asked at any time of any day."""

    def __init__(self, config: Resolved) -> None:
        self.table = Table(config.counted())
        self.quotas = Quotas(lambda name: {})
        self.lease = 0
        self.now = Moment(1000.0, 0.0)
        self.plans: dict[int, Plan] = {}
        self.at("2027-03-03 10:00")  # a Wednesday

    def at(self, text: str) -> "Gateway":
        wall = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Asia/Shanghai")).timestamp()
        self.now = Moment(self.now.mono + 10_000, wall)
        return self

    def later(self, seconds: float) -> "Gateway":
        self.now = self.now.ago(-seconds)
        return self

    def ask(self, key: str = "k1", model: str = "small", ip: str = "10.0.0.1", input: int = 1, output: int = 1) -> bool:
        terms = self.table.terms(key, "retail", "chatbot", (), model, ip)
        if terms is None:
            return True
        rules = {rule.id: rule for rule, _ in terms.rules}
        plan = self.plans.get(id(terms)) or self.plans.setdefault(id(terms), self.quotas.plan(key, terms.pairs(), rules.get, self.now))
        self.lease += 1
        return self.quotas.ask(0, self.lease, plan, amounts(input, output, 0), self.now).number < 0

    def pattern(self, times: int, **more: str) -> str:
        return "".join("+" if self.ask(**more) else "-" for _ in range(times))  # type: ignore[arg-type]

    def end(self, lease: int) -> None:
        self.quotas.settle(0, lease, amounts(1, 1, 0), self.now)


def office(g: Gateway) -> None:
    assert g.pattern(5) == "++---"
    assert g.at("2027-03-03 23:00").pattern(5) == "++++-"
    assert g.at("2027-03-06 10:00").pattern(5) == "++++-", "Saturday"


def share(g: Gateway) -> None:
    assert (g.pattern(5, key="k1"), g.pattern(5, key="k2")) == ("+++--", "+++--")


def places(g: Gateway) -> None:
    assert (g.pattern(3, key="k1"), g.pattern(3, key="k2")) == ("++-", "++-")
    g.end(1)
    assert g.pattern(2, key="k1") == "+-"


def month(g: Gateway) -> None:
    assert g.ask(input=500, output=500) and not g.ask()
    assert not g.at("2027-03-31 23:59").ask()
    assert g.at("2027-04-01 00:00").ask()


def scarce(g: Gateway) -> None:
    assert (g.pattern(3, model="qwen"), g.pattern(3, model="small"), g.pattern(2, key="k2", model="qwen")) == ("+--", "+++", "+-")


def flood(g: Gateway) -> None:
    assert (g.pattern(3, ip="10.0.0.1"), g.pattern(3, ip="2001:db8::1")) == ("++-", "++-")
    assert g.later(1.1).pattern(1, ip="10.0.0.1") == "+"


def answers(g: Gateway) -> None:
    assert not g.ask(output=501) and g.ask(output=500)
    assert g.at("2027-03-03 22:00").ask(output=501)


def trial(g: Gateway) -> None:
    assert g.pattern(3) == "+++"
    assert [gauge.rule.shadowed for gauge in g.quotas.gauges.values()] == [2]


def closed(g: Gateway) -> None:
    assert (g.pattern(2, model="qwen"), g.pattern(2, model="small")) == ("--", "++")


def burst(g: Gateway) -> None:
    assert g.pattern(4) == "+++-"
    assert g.later(2).pattern(4) == "++--"
    assert g.at("2027-03-04 10:00").pattern(4) == "+++-"


DO: dict[str, Callable[[Gateway], None]] = dict(
    zip("1 2 3 4 5 6 7 8 9 10".split(), (office, share, places, month, scarce, flood, answers, trial, closed, burst), strict=True)
)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_each_example_loads(number, tmp_path):
    loaded(tmp_path, EXAMPLES[number])


def test_every_policy_is_tried():
    assert list(POLICIES) == list(DO)


@pytest.mark.parametrize("number", DO)
def test_a_policy_of_the_cookbook_does_what_it_says(number, tmp_path):
    DO[number](Gateway(loaded(tmp_path, POLICIES[number])))

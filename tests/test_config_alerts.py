"""Alerts in the file: what they mean, each mistake where it is, and that nothing shows where messages go."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.admin.redact import running
from gateway.config import alert_kinds
from gateway.config.check_alerts import OWN
from gateway.config.diff import diff
from gateway.config.load import ConfigError, load
from gateway.config.redact import covered, sentence
from gateway.config.report import render
from gateway.config.resolve import resolve
from gateway.config.resolved import Resolved
from gateway.config.resolved_alerts import DEFAULT_RULES, Alerts, Rule, Sink
from gateway.config.service import understood
from gateway.config.show import effective
from tests.config_text import marked

TOP = """\
version: 1
channels: {gpu: {engine: vllm, endpoints: ["http://h:1"]}}
models: {qwen: {targets: [{channel: gpu}]}}
tenants: {retail: {}}
"""
SLACK = "slack://T1JJ3T3L2/A1BRTD4JD/TIcanarycanarycanary1234"
OPS = f'ops: "{SLACK}"'


def text(rules: str | None = None, sinks: str = OPS, more: str = "") -> str:
    said = "" if rules is None else f"  rules: [{rules}]\n"
    return f"{TOP}alerts:\n  sinks: {{{sinks}}}\n{said}{more}"


def resolved(folder: Path, written: str) -> Resolved:
    path = folder / "gateway.yaml"
    path.write_text(written)
    try:
        return resolve(load(path, {"URL": SLACK}))[0]
    except ConfigError as error:
        raise AssertionError(render(error.mistakes)) from None


def test_everything_that_can_be_said(tmp_path):
    found = resolved(
        tmp_path,
        text(
            "{on: endpoint_down, for: 2m, to: [ops], channel: 'g*'}, {on: disk, over: 80%, severity: info, repeat: 1d}, "
            "{on: ttft, over: 1500ms, share: 2.5%, within: 10m, requests: 5, model: qwen}, {on: disk, over: 95%, to: []}, "
            "{on: usage_anomaly, sensitivity: high, by: key, tenant: retail}, {on: key_expiry, within: 30d, name: keys}, "
            "{on: unpriced, over: 3}",
            f'{OPS}, am: {{alertmanager: "http://10.0.0.9:9093", credential: t0ken}}, env: "${{env:URL}}"',
            "  repeat: 1h\n",
        ),
    ).alerts
    assert found.sinks == {
        "ops": Sink(name="ops", url=SLACK),
        "am": Sink(name="am", alertmanager="http://10.0.0.9:9093", credential="t0ken"),
        "env": Sink(name="env", url=SLACK),
    }
    everyone, hour = ("ops", "am", "env"), 3600.0
    assert found.rules == (
        Rule(name="endpoint_down", kind="endpoint_down", severity="critical", wait=120, repeat=hour, to=("ops",), channel="g*"),
        Rule(name="disk", kind="disk", severity="info", wait=60, repeat=86400, to=everyone, over=80),
        Rule(
            name="ttft", kind="ttft", severity="warning", wait=0, repeat=hour, to=everyone, over=1.5, share=2.5, within=600, requests=5,
            model="qwen",
        ),
        Rule(name="disk-2", kind="disk", severity="critical", wait=60, repeat=hour, to=(), over=95),
        Rule(
            name="usage_anomaly", kind="usage_anomaly", severity="warning", wait=0, repeat=hour, to=everyone, sensitivity="high", by="key",
            tenant="retail",
        ),
        Rule(name="keys", kind="key_expiry", severity="warning", wait=0, repeat=hour, to=everyone, within=30 * 86400),
        Rule(name="unpriced", kind="unpriced", severity="warning", wait=0, repeat=hour, to=everyone, over=3),
    )  # fmt: skip


def test_what_is_always_watched_when_nothing_is_written(tmp_path):
    assert resolved(tmp_path, TOP).alerts == Alerts() == Alerts(rules=DEFAULT_RULES)
    assert resolved(tmp_path, TOP + "alerts:\n").alerts == Alerts()
    with_sink = resolved(tmp_path, text()).alerts
    assert [rule.kind for rule in with_sink.rules] == alert_kinds.DEFAULTS and all(rule.to == ("ops",) for rule in with_sink.rules)
    assert resolved(tmp_path, text("")).alerts.rules == ()
    assert resolved(tmp_path, text(None, OPS, "  rules:\n")).alerts == with_sink


def test_who_has_prices_hears_of_a_model_without_one_and_who_wrote_warn_that_it_is_reached(tmp_path):
    """Neither would be told to anybody else, and what has no price is in no bill."""
    priced = TOP + 'prices: [{model: "*", currency: CNY, input: 1, output: 1}]\n'
    kinds = [rule.kind for rule in resolved(tmp_path, priced).alerts.rules]
    assert kinds == [*alert_kinds.DEFAULTS, "unpriced"]
    for warn, more in (("", []), (", warn: [80]", ["budget"])):
        budget = f"tenants: {{retail: {{projects: {{bot: {{budget: {{amount: 5, currency: CNY, stop: 100{warn}}}}}}}}}}}\n"
        written = priced.replace("tenants: {retail: {}}\n", budget)
        rules = resolved(tmp_path, written).alerts.rules
        assert [rule.kind for rule in rules] == [*kinds, *more]
    assert rules[-1].over == 100 and rules[-2].over == 0
    assert [rule.kind for rule in resolved(tmp_path, written + "alerts: {rules: [{on: disk}]}\n").alerts.rules] == ["disk"]


def test_an_older_revision_has_what_is_always_watched(tmp_path):
    packed = msgspec.to_builtins(resolved(tmp_path, TOP))
    del packed["alerts"]
    assert msgspec.convert(packed, Resolved).alerts == Alerts()


def test_each_kind_has_words_that_rules_have_and_defaults_that_hold():
    for name, kind in alert_kinds.KINDS.items():
        assert set(kind.words) <= set(OWN) and ("over" in kind.words) == bool(kind.over), name
        assert kind.severity in alert_kinds.SEVERITIES and kind.meaning
    assert set(alert_kinds.DEFAULTS) <= set(alert_kinds.KINDS)


BAD: dict[str, tuple[str, str, str]] = {
    # name: (text, what is said, hint)
    "an unknown kind": (text("{on: ▸endpoint_dwn}"), "this is none of endpoint_down", '"endpoint_down"?'),
    "no kind": (text("▸{for: 1m}"), "`on` is missing", ""),
    "an unknown word": (text("{on: disk, ▸ovr: 5%}"), 'unknown word "ovr"', '"over"?'),
    "an unknown sink": (text("{on: disk, to: [▸opps]}"), 'there is no sink "opps"', '"ops"?'),
    "a sink of none": (text("{on: disk, to: [▸ops]}", ""), 'there is no sink "ops"', "alerts.sinks"),
    "a sink twice": (text("{on: disk, to: [ops, ▸ops]}"), "this is listed twice", "number 1"),
    "to is no list": (text("{on: disk, to: ▸ops}"), "this is not a list", "[ ]"),
    "a word of others": (text("{on: endpoint_down, ▸over: 5%}"), "endpoint_down has no `over`", "channel"),
    "a word of others, none of its own": (text("{on: config_refused, ▸model: qwen}"), "config_refused has no `model`", "none of over"),
    "sensitivity of others": (text("{on: disk, ▸sensitivity: high}"), "disk has no `sensitivity`", "over"),
    "a share that is a time": (text("{on: error_share, over: ▸3s}"), "`over` of error_share is a share", "5%"),
    "a share that is a number": (text("{on: error_share, over: ▸5}"), "`over` of error_share is a share", "5%"),
    "a time that is a share": (text("{on: ttft, over: ▸5%}"), "`over` of ttft is a time", "3s"),
    "a number that is a share": (text("{on: unpriced, over: ▸5%}"), "`over` of unpriced is a number", "100"),
    "no threshold": (text("{on: disk, over: ▸much}"), '"much" is no threshold', "5%"),
    "below nothing": (text("{on: unpriced, over: ▸-1}"), '"-1" is no threshold', "below 0"),
    "never exceeded": (text("{on: disk, over: ▸100%}"), "this can never be exceeded", "100%"),
    "no share": (text("{on: ttft, share: ▸5}"), "5 is not a share", "5%"),
    "a duration": (text("{on: endpoint_down, for: ▸60}"), "60 has no unit", "60s"),
    "too long": (text("{on: endpoint_down, for: ▸90d}"), "this is too large", "30d"),
    "too often": (text("{on: disk, repeat: ▸1s}"), "this is too small", "1m"),
    "repeat of all": (text(None, OPS, "  repeat: ▸1s\n"), "this is too small", "1m"),
    "a sensitivity": (text("{on: usage_anomaly, sensitivity: ▸hihg}"), "this is none of low, normal, high", '"high"?'),
    "whose": (text("{on: usage_anomaly, by: ▸user}"), "this is none of total", ""),
    "a severity": (text("{on: disk, severity: ▸fatal}"), "this is none of info, warning, critical", ""),
    "a channel": (text("{on: endpoint_down, channel: ▸gpi}"), '"gpi" matches nothing', '"gpu"?'),
    "a model": (text("{on: ttft, model: ▸'x*'}"), '"x*" matches nothing', "no model"),
    "a tenant": (text("{on: budget, tenant: ▸retial}"), '"retial" matches nothing', '"retail"?'),
    "a name twice": (text("{on: disk, name: a}, {on: frozen, name: ▸a}"), 'two rules have the name "a"', "gateway.yaml:7"),
    "too far back": (text("{on: ttft, within: ▸2d}"), "this is too large", "one day"),
    "few requests": (text("{on: ttft, requests: ▸0}"), "this is too small", "1"),
    "a service that is none": (text("", 'ops: ▸"slakc://a/b/canarycanary"'), "no service is known for this URL", "slack://"),
    "a service of parts": (text("", 'ops: ▸"slack://canary"'), "no service is known for this URL", "docs/alerts.md"),
    "a web page": (text("", 'ops: ▸"http://h:1/canary"'), "no service is known for this URL", "json://"),
    "a URL in words": (text("", 'ops: {url: ▸"nothing://canary"}'), "no service is known for this URL", "slack://"),
    "both": (text("", f'ops: ▸{{url: "{SLACK}", alertmanager: "http://h:1"}}'), "both url and alertmanager", "apprise"),
    "neither": (text("", "ops: ▸{}"), "this sink leads nowhere", "alertmanager"),
    "an empty sink": (text("", 'ops: ▸""'), "this is empty", "apprise"),
    "a number": (text("", "ops: ▸7"), "this is not a group", ""),
    "an alertmanager": (text("", 'am: {alertmanager: ▸"h:9093"}'), "does not begin with http://", "http://"),
    "a credential of apprise": (text("", f'ops: {{url: "{SLACK}", ▸credential: x}}'), "only for alertmanager", "URL"),
    "a sink's name": (text("", f'▸"a b": "{SLACK}"'), '"a b" is not a name', "letters"),
}


@pytest.mark.parametrize("name", BAD)
def test_each_mistake_is_found_where_it_is(name, tmp_path):
    written, said, hint = BAD[name]
    found = marked(tmp_path, written, said, hint)
    assert len(found) == 1, render(found)
    assert "canary" not in render(found)


def test_a_sink_in_the_wrong_place_is_not_repeated(tmp_path):
    for written in (text(f"{{on: disk, to: ['{SLACK}']}}"), text(f"{{on: '{SLACK}'}}"), TOP + f"alerts: {{rules: [], ops: '{SLACK}'}}\n"):
        with pytest.raises(AssertionError) as caught:
            resolved(tmp_path, written)
        assert "canary" not in str(caught.value)


def test_nothing_shows_where_messages_go(tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text(text("", f'{OPS}, am: {{alertmanager: "http://canary:1"}}'))
    loaded = load(path, {})
    shown = effective(loaded)["alerts"]["sinks"]
    assert shown == {"ops": "***", "am": "***"} and "canary" not in repr(loaded)
    told = running(*resolve(loaded))["config"]["alerts"]["sinks"]
    assert "canary" not in json.dumps(told) and told["ops"]["url"] == "(hidden)" and told["am"]["url"] == ""


@pytest.mark.parametrize(
    "written",
    [
        f"sinks: {{{OPS}}}",
        f"sinks: {{am: {{alertmanager: 'http://canary'}}, {OPS}, x: canary}}",
        "sinks:\n  a: canary\n  b: {alertmanager: canary}\n  c:\n    alertmanager: canary",
        f"- {SLACK}",
        "x: [json://h/canary, 'https://hooks.slack.com/services/T/B/canary', \"https://h/send?key=canary\"]",
        "mailto://u:canary@h?to=canary",
    ],
)
def test_lines_are_covered_where_sinks_stand(written):
    lines = written.split("\n")
    assert "canary" not in "\n".join(covered(lines)) and [len(line) for line in covered(lines)] == [len(line) for line in lines]


def test_plain_addresses_are_no_secrets():
    for said in ("see http://10.0.0.5:8000/v1/models", 'sinks: {ops: "${file:/etc/gateway/ops.url}"}'):
        assert covered([said]) == [said] == [sentence(said)]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (TOP, text(""), ["alerts.sinks + ops", *[f"alerts.rules - {kind}" for kind in alert_kinds.DEFAULTS]]),
        (text(""), text("", OPS.replace("canary", "other")), ["alerts.sinks.ops changed"]),
        (text("{on: disk}"), text("{on: disk, over: 80%, for: 2m}"),
         ["alerts.rules[disk].wait 1m -> 2m", "alerts.rules[disk].over 90 -> 80"]),
        (text("{on: disk}"), text("{on: disk, to: []}"), ["alerts.rules[disk].to [ops] -> []"]),
    ],
)  # fmt: skip
def test_each_difference_is_said(before: str, after: str, said: list[str], tmp_path: Path) -> None:
    old, new = (resolved(tmp_path, written) for written in (before, after))
    assert [str(change) for change in diff((old, []), (new, []))] == said


DOCS = (Path(__file__).parents[1] / "docs/alerts.md").read_text()


def test_the_examples_in_the_docs_are_understood(tmp_path):
    (example,) = re.findall(r"```yaml\n(.*?)```", DOCS, re.S)
    assert len(resolved(tmp_path, example).alerts.rules) == 5
    sinks = DOCS[DOCS.index("## Sinks") :]
    urls = [url for url in re.findall(r"`([a-z]+://[^`…]+)`", sinks[: sinks.index("## Silences")])]
    assert len(urls) >= 7
    for url in urls:
        filled = url.replace("TOKEN", "0123456789abcdef" * 2).replace("KEY", "0123456789abcdef" * 2)
        assert understood(filled), url
    for kind in alert_kinds.DEFAULTS:
        assert f"`{kind}`" in DOCS[: DOCS.index("## Rules")]


def test_apprise_is_loaded_only_when_a_sink_needs_it(tmp_path):
    def loads(written: str) -> Any:
        (tmp_path / "gateway.yaml").write_text(written)
        code = "import sys; from gateway.config.load import load; load(sys.argv[1], {}); print('apprise' in sys.modules)"
        return subprocess.run(
            [sys.executable, "-c", code, tmp_path / "gateway.yaml"], capture_output=True, text=True, check=True
        ).stdout.strip()

    assert loads(text("", 'am: {alertmanager: "http://h:1"}')) == "False" and loads(text("")) == "True"

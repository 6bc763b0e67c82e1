"""Mistakes in `models` beyond single fields: each is told once, where it is, with what to do. Rules are in test_config_rules.py."""

import pytest

from gateway.config.resolve import resolve
from tests.config_text import loaded, mistakes, only

BASE = """version: 1
auth: none
channels:
  a: {engine: vllm, endpoints: ["http://h:1"], model: m}
  b: {engine: vllm, endpoints: ["http://h:2"], max_in_flight: 5}
models:
"""

BAD = {
    "weights sum to zero": ("  m: {targets: [{channel: a, weight: ▸0}, {channel: b, weight: 0}]}\n", "every weight is 0", ""),
    "no channel": ("  m: {targets: [▸{weight: 3}]}\n", "names no channel", "targets: […]"),
    "unknown channel": ("  m: {targets: [{channel: ▸zz}]}\n", 'no channel "zz"', "known are: a, b"),
    "channel and targets": ("  m: {targets: [{▸channel: a, targets: [{channel: b}]}]}\n", "both channel and targets", "or a policy"),
    "weight elsewhere": ("  m: {policy: least-busy, targets: [{channel: a, ▸weight: 3}]}\n", "weight means nothing", "proportional"),
    "groups under least-busy": ("  m: {policy: least-busy, targets: [{▸targets: [{channel: a}]}]}\n", "targets are channels", "inside"),
    "policy without targets": ("  m: {targets: [{channel: a, ▸policy: least-busy}]}\n", "policy without targets", "`targets`"),
    "sticky elsewhere": ("  m: {policy: least-busy, ▸sticky: key, targets: [{channel: a}]}\n", "sticky means nothing", "proportional"),
    "sticky by no header": ("  m: {sticky: ▸\"x user\", targets: [{channel: a}]}\n", '"x user" cannot be a header', ""),
    "fail_back elsewhere": ("  m: {▸fail_back: 5s, targets: [{channel: a}]}\n", "fail_back means nothing", "primary-backup"),
    "the same twice, deep down": ("  m: {targets: [{targets: [{channel: a}, ▸{channel: a}]}]}\n", "listed twice", "whole weight"),
    "circle of fallbacks": (
        "  m: {targets: [{channel: a}], fallback: [n]}\n  n: {targets: [{channel: a}], fallback: [▸m]}\n",
        "in a circle: m → n → m",
        "",
    ),
    "circle by rule and fallback": (
        "  m: {targets: [{channel: a}], rules: [{name: r, when: {api: chat}, to: {model: n}}]}\n"
        "  n: {targets: [{channel: a}], fallback: [▸m]}\n",
        "in a circle: m → n → m",
        "",
    ),
    "itself": ("  m: {targets: [{channel: a}], fallback: [▸m]}\n", "leads back to itself", ""),
    "an alias as fallback": ("  m: {targets: [{channel: a}], aliases: [x], fallback: [▸x]}\n", 'no model "x"', "no alias"),
    "fallback twice": ("  m: {targets: [{channel: a}], fallback: [n, ▸n]}\n  n: {targets: [{channel: a}]}\n", "listed twice", ""),
    "rules of one name": (
        "  m: {targets: [{channel: a}], rules: [{name: r, when: {api: chat}, to: {channel: b}}, "
        "{name: ▸r, when: {api: score}, to: {channel: b}}]}\n",
        'two rules are called "r"',
        "number 1",
    ),
    "rule to nowhere": ("  m: {targets: [{channel: a}], rules: [{name: r, when: {api: chat}, to: ▸{}}]}\n", "leads nowhere", "{model: …}"),
    "rule with a weight": (
        "  m: {targets: [{channel: a}], rules: [{name: r, when: {api: chat}, to: {channel: b, ▸weight: 2}}]}\n",
        "needs no weight",
        "share",
    ),
    "a queue that is not there": (
        "  m: {targets: [{channel: a}], rules: [{name: r, when: {load: {channel: a, ▸queue: {over: 3}}}, to: {channel: b}}]}\n",
        "has no queue",
        "max_in_flight",
    ),
    "unknown tokenizer": ("  m: {targets: [{channel: a}], tokenizer: ▸qwn}\n", 'no tokenizer "qwn"', 'did you mean "qwen"?'),
    "missing tokenizer": ("  m: {targets: [{channel: a}], tokenizer: ▸./nope.json}\n", "no such file", ""),
    "unknown cap": ("  m: {targets: [{channel: a}], caps: {▸max_tokns: 5}}\n", "that can be capped", '"max_tokens"'),
    "cap that is no number": ("  m: {targets: [{channel: a}], caps: {max_tokens: ▸lots}}\n", "not a number", ""),
    "cap of nothing": ("  m: {targets: [{channel: a}], caps: {n: ▸0}}\n", "n cannot be at most 0", ""),
    "a default of the caller's own": ("  m: {targets: [{channel: a}], defaults: {▸stream: true}}\n", "caller's alone", ""),
    "a default over its cap": (
        "  m: {targets: [{channel: a}], caps: {max_tokens: 5}, defaults: {max_completion_tokens: ▸9}}\n",
        "over its cap",
        "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_each_mistake_is_told_alone_and_where_it_is(name, tmp_path):
    text, said, hint = BAD[name]
    only(tmp_path, BASE + text, said, hint)


def test_a_broken_rule_hides_nothing_of_the_model_and_its_other_rules(tmp_path):
    text = (
        "  m:\n"
        "    targets: [{channel: zz}]\n"
        "    rules:\n"
        "      - {name: r, when: {has: []}, to: {channel: b}}\n"
        "      - {name: s, when: {api: chat}, to: {channel: q}}\n"
    )
    found = mistakes(tmp_path, BASE + text)
    assert [(one.line, one.path) for one in found] == [
        (8, "models.m.targets[0].channel"),
        (10, "models.m.rules[0].when.has"),
        (11, "models.m.rules[1].to.channel"),
    ]


def test_conditions_on_headers_are_no_secrets(tmp_path):
    text = "  m: {targets: [{channel: a}], rules: [{name: r, when: {headers: {x-env: {match: '('}}}, to: {channel: b}}]}\n"
    (found,) = mistakes(tmp_path, BASE + text)
    assert found.source is not None and "x-env: {match: '('}" in found.source


def test_what_is_right_is_resolved_with_every_default(tmp_path):
    text = (
        "  m:\n    policy: primary-backup\n    targets: [{targets: [{channel: a, weight: 3}, {channel: b}]}, {channel: b, model: x}]\n"
        + "    caps: {max_tokens: 100, temperature: 1.5}\n"
    )
    config, _ = resolve(loaded(tmp_path, BASE + text))
    model = config.models["m"]
    assert model.fail_back == 30.0 and model.targets[0].policy == "proportional"
    assert [(leaf.channel, leaf.model, leaf.weight) for leaf in model.leaves()] == [("a", "m", 3), ("b", "m", 1), ("b", "x", 1)]
    assert model.caps == {"max_tokens": 100, "temperature": 1.5} and type(model.caps["max_tokens"]) is int, "engines refuse 100.0"
    assert config.channels["b"].max_in_flight == 5 and config.channels["b"].endpoint_in_flight == 0

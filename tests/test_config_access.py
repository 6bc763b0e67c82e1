"""Who may do what, in the file: what it means, and each mistake where it is."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.config.access import instant
from gateway.config.diff import diff
from gateway.config.load import ConfigError, load
from gateway.config.report import render
from gateway.config.resolve import resolve
from gateway.config.resolved import Key, Resolved
from gateway.config.resolved_access import OPEN, Access, Models, Switch
from tests.config_text import only

HASH = "sha256:" + "0f" * 32
OTHER = "sha256:" + "1f" * 32
TOP = """\
version: 1
channels: {gpu: {engine: vllm, endpoints: ["http://h:1"]}}
models:
  qwen: {aliases: [q, "gpt-4o*"], targets: [{channel: gpu}]}
  small: {targets: [{channel: gpu}]}
schedules: {office: {zone: Asia/Shanghai, when: ["Mon-Fri 09:00-18:00"]}}
"""


def text(tenant: str = "", project: str = "", key: str = "models: [qwen]", top: str = "") -> str:
    """tenant, project, key: words that each has."""
    tenants = f"tenants:\n  retail: {{projects: {{chat: {{{project}}}}}{', ' if tenant else ''}{tenant}}}\n"
    return f'{TOP}{top}{tenants}keys:\n  - {{id: k1, hash: "{HASH}", tenant: retail, project: chat, {key}}}\n'


def resolved(folder: Path, written: str) -> tuple[Resolved, list[Key]]:
    path = folder / "gateway.yaml"
    path.write_text(written)
    try:
        return resolve(load(path, {}))
    except ConfigError as error:
        raise AssertionError(render(error.mistakes)) from None


def test_everything_that_can_be_said(tmp_path):
    config, (key,) = resolved(
        tmp_path,
        text(
            tenant="models: {deny: [small]}, ip: {allow: [10.0.0.0/8]}, priority: 2",
            project="apis: [chat, embeddings], hours: [{outside: office, models: ['*'], priority: 9}]",
            key=f"models: {{allow: ['*'], deny: [gpt-4o-mini]}}, apis: [chat], "
            "ip: {deny: ['10.9.0.0/16', '2001:db8::/32']}, enabled: false, "
            f"expires: 2027-01-01, previous: {{hash: '{OTHER}', until: '2026-12-01T08:00+08:00'}}, systems: [crm, 'erp-*'], "
            "meta: {cost_centre: 4711, owner: ann}, label: x",
            top="ip: {deny: [192.0.2.0/24]}\n",
        ),
    )
    assert config.access == {
        "": Access(deny=("192.0.2.0/24",)),
        "tenants/retail": Access(Models(deny=("small",)), allow=("10.0.0.0/8",), priority=2),
        "tenants/retail/projects/chat": Access(
            apis=("chat", "embeddings"), hours=(Switch(outside="office", models=Models(("*",)), priority=9),)
        ),
    }
    assert key.access == Access(Models(("*",), ("gpt-4o-mini",)), ("chat",), (), ("10.9.0.0/16", "2001:db8::/32"))
    assert not key.enabled and key.systems == ("crm", "erp-*") and key.previous.hex() == "1f" * 32
    assert key.expires == datetime(2027, 1, 1, tzinfo=UTC).timestamp() and key.until == datetime(2026, 12, 1, tzinfo=UTC).timestamp()


def test_what_is_not_said_is_open(tmp_path):
    config, (key,) = resolved(tmp_path, text(key="models: ['*']"))
    assert config.access == {} and key.access == OPEN and key.enabled and not key.expires


def test_a_key_without_models_is_refused(tmp_path):
    with pytest.raises(AssertionError, match="`models` is missing"):
        resolved(tmp_path, text(key="label: x"))


BAD: dict[str, tuple[str, str, str]] = {
    # name: (text, what is said, hint)
    "key opens no model": (text(key="models: ▸[]"), "this opens no model", '"*" for all'),
    "key allows no model": (text(key="models: {▸allow: []}"), "this opens no model", '"*" for all'),
    "key's models": (text(key="models: {allow: [▸qwem]}"), '"qwem" matches nothing', '"qwen"?'),
    "key's denied models": (text(key="models: {deny: [▸qwem]}"), '"qwem" matches nothing', '"qwen"?'),
    "models of another type": (text(key="models: ▸qwen"), "this is not a list", "write it like"),
    "a model's pattern": (text(key="models: [▸'a?c']"), "is not a pattern of model names", "* for anything"),
    "key bound to nothing": (
        text("models: [small]", key="models: ▸[qwen]"),
        "this key may use no model at all",
        "the tenant and the project",
    ),
    "key bound to what is denied": (
        text("models: {deny: [q]}", key="models: ▸[qwen]"),
        "this key may use no model at all",
        "no model is open",
    ),
    "denies itself": (text(key="models: ▸{allow: [q*], deny: [qwen]}"), "this key may use no model at all", "no model is open"),
    "project bound to nothing": (
        text("models: [small]", "models: ▸[qwen]", key="models: ['*']"),
        "this project may use no model at all",
        "the tenant",
    ),
    "tenant bound to nothing": (
        text("▸models: {deny: ['*']}", key="models: ['*']"),
        "this tenant may use no model at all",
        "gatewayctl freeze",
    ),
    "tenant's models": (text("models: [▸qwem]", key="models: ['*']"), '"qwem" matches nothing', '"qwen"?'),
    "an api that is none": (text(key="models: ['*'], apis: [▸chats]"), "this is none of chat", '"chat"?'),
    "an api twice": (text(key="models: ['*'], apis: [chat, ▸chat]"), "this is listed twice", "number 1"),
    "no api left": (text("apis: [chat]", key="models: ['*'], ▸apis: [embeddings]"), "this key may call no API at all", "the tenant"),
    "no network": (text(key="models: ['*'], ip: {allow: [▸10.0.0.1/8]}"), "is not a network", "did you mean 10.0.0.0/8?"),
    "IPv4 that is written as IPv6": (
        text(key="models: ['*'], ip: {deny: [▸'::ffff:10.0.0.0/104']}"),
        "IPv4 written as IPv6, which no caller has",
        "write 10.0.0.0/8",
    ),
    "an address of IPv4 that is written as IPv6": (text(key="models: ['*'], ip: {allow: [▸'::ffff:a00:1']}"), "IPv4", "write 10.0.0.1/32"),
    "a zone of IPv6": (
        text(key="models: ['*'], ip: {allow: [▸'fe80::5%eth0']}"),
        "has a zone, which is not looked at",
        "write fe80::5/128",
    ),
    "a network with a zone": (text(top="ip: {deny: [▸'fe80::%eth0/64']}\n"), "has a zone, which is not looked at", "write fe80::/64"),
    "an address is denied whole": (
        text(key="models: ['*'], ip: {allow: [10.1.0.0/16], ▸deny: [10.0.0.0/8]}"),
        "every address that `allow` names is denied",
        "",
    ),
    "no address left": (
        text("ip: {allow: [10.0.0.0/8]}", key="models: ['*'], ip: {▸allow: [192.168.0.0/16]}"),
        "this key may be used from no address at all",
        "the tenant",
    ),
    "everybody's addresses": (text(top="ip: {allow: [▸all]}\n"), "is not a network", '"10.0.0.0/8"'),
    "no date": (text(key="models: ['*'], expires: ▸tomorrow"), "is not a date", "2027-01-01"),
    "a number for a date": (text(key="models: ['*'], expires: ▸2027"), "is not a date", "2027-01-01"),
    "a day that is none": (text(key="models: ['*'], expires: ▸2027-02-30"), "is not a date", "2027-01-01"),
    "a time of no zone": (text(key="models: ['*'], expires: ▸2027-01-01T08:00"), "does not say in which zone", "+08:00"),
    "the old secret is the new one": (
        text(key=f"models: ['*'], previous: {{until: 2027-01-01, hash: ▸'{HASH}'}}"),
        "this is another key's hash",
        "gateway.yaml:",
    ),
    "a priority": (text(key="models: ['*'], priority: ▸10"), "this is too large", "at most 9"),
    "hours of no schedule": (text(key="models: ['*'], hours: [▸{models: [qwen]}]"), "these hours have no schedule", "during:"),
    "hours of two": (
        text(key="models: ['*'], hours: [▸{during: office, outside: office, priority: 1}]"),
        "both during and outside",
        "during:",
    ),
    "hours that change nothing": (
        text(key="models: ['*'], hours: [▸{during: office}]"),
        "these hours change nothing",
        "models or priority",
    ),
    "hours twice": (
        text(key="models: ['*'], hours: [{during: office, priority: 1}, ▸{during: office, priority: 2}]"),
        "these hours are listed twice",
        "number 1",
    ),
    "a schedule that is none": (text(key="models: ['*'], hours: [{during: ▸offce, priority: 1}]"), 'no schedule "offce"', '"office"?'),
    "models of the hour": (text(key="models: ['*'], hours: [{during: office, models: [▸qwem]}]"), '"qwem" matches nothing', '"qwen"?'),
    "a system": (text(key="models: ['*'], systems: [▸'two words']"), "is not an application's name", "letters"),
    "a note that is a group": (text(key="models: ['*'], meta: {a: ▸{}}"), "this is not text", "quote it"),
    "enabled is a word": (text(key="models: ['*'], enabled: ▸yes"), "neither true nor false", "YAML"),
    "an unknown word": (text(key="models: ['*'], ▸expire: 2027-01-01"), 'unknown word "expire"', '"expires"?'),
}


@pytest.mark.parametrize("name", BAD)
def test_each_mistake_is_found_where_it_is(name, tmp_path):
    written, said, hint = BAD[name]
    only(tmp_path, written, said, hint)


def test_a_key_that_has_models_in_some_hours_only_is_no_mistake(tmp_path):
    resolved(tmp_path, text("models: [small]", key="models: [qwen], hours: [{outside: office, models: [small]}]"))


def test_a_name_that_begins_like_an_alias_is_no_mistake(tmp_path):
    resolved(tmp_path, text("models: ['gpt-4o*']", key="models: [gpt-4o-mini]"))


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({}, {"tenant": "models: {deny: [small]}"}, ["tenants.retail.models.deny [] -> [small]"]),
        ({}, {"project": "ip: {allow: [10.0.0.0/8]}"}, ["tenants.retail.projects.chat.ip.allow [] -> [10.0.0.0/8]"]),
        ({}, {"top": "ip: {deny: [10.0.0.0/8]}\n"}, ["ip.deny [] -> [10.0.0.0/8]"]),
        ({}, {"key": "models: [qwen, small]"}, ["keys.k1.models [qwen] -> [qwen, small]"]),
        ({}, {"key": "models: [qwen], priority: 7"}, ["keys.k1.priority none -> 7"]),
        ({}, {"key": "models: [qwen], enabled: false"}, ["keys.k1.enabled true -> false"]),
        ({}, {"key": "models: [qwen], expires: 2027-01-01"}, ["keys.k1.expires never -> 2027-01-01T00:00:00Z"]),
        ({}, {"key": f"models: [qwen], previous: {{hash: '{OTHER}', until: 2027-01-01}}"}, ["keys.k1.previous changed"]),
        ({}, {"key": "models: [qwen], systems: [crm]"}, ["keys.k1.systems [] -> [crm]"]),
        ({}, {"key": "models: [qwen], hours: [{during: office, priority: 1}]"}, ["keys.k1.hours[0] + during office: priority 1"]),
        ({}, {"key": "models: [qwen], meta: {a: b}"}, []),
    ],
)
def test_each_difference_is_said(before, after, said, tmp_path):
    old, new = (resolved(tmp_path, text(**words)) for words in (before, after))
    assert [str(change) for change in diff(old, new)] == said


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("2027-01-01", datetime(2027, 1, 1, tzinfo=UTC)),
        ("2027-01-01T00:00Z", datetime(2027, 1, 1, tzinfo=UTC)),
        ("2027-01-01T08:00:00+08:00", datetime(2027, 1, 1, tzinfo=UTC)),
        ("2027-01-01 08:00+08:00", datetime(2027, 1, 1, tzinfo=UTC)),
    ],
)
def test_moments(written, found):
    assert instant(written) == found.timestamp()

"""Limits in YAML: what they become, and what is refused where: `▸` marks the place."""

import pytest

from gateway.config.diff import diff
from gateway.config.resolve import resolve
from gateway.config.resolved_limits import Limit, Limits
from gateway.referee.rules import Hours, Rule, matching
from tests.config_text import loaded, mistakes, only

HEAD = f"""version: 1
channels: {{gpu: {{engine: vllm, endpoints: ["http://10.0.0.6:8000"]}}}}
schedules: {{office: {{zone: Asia/Shanghai, when: ["Mon-Fri 09:00-18:00"]}}, always: {{when: [Mon-Fri, "Sat,Sun"]}},
  split: {{when: ["00:00-12:00", "12:00-24:00"]}}, nights: {{when: ["20:00-08:00", "08:00-20:00"], holidays: [2027-01-01]}}}}
keys:
  - {{id: k1, hash: "sha256:{"0f" * 32}", tenant: retail, project: chat, models: ["*"], limits: KEY}}
tenants: {{retail: {{limits: TENANT, projects: {{chat: {{limits: PROJECT}}}}}}}}
models: {{qwen: {{aliases: [gpt-4o, o1*], targets: [{{channel: gpu}}], limits: MODEL}}}}
limits: GLOBAL
"""
GOOD = "{count: requests, max: 5, per: minute}"


def text(**lists: str) -> str:
    """A configuration with these limits: GLOBAL, TENANT, PROJECT, MODEL, KEY."""
    found = HEAD
    lists = {word: written.replace("DAILY", "count: requests, max: 5, per: day") for word, written in lists.items()}
    for word in ("GLOBAL", "TENANT", "PROJECT", "MODEL", "KEY"):
        found = found.replace(word, lists.get(word, "[]"))
    return found


def test_each_place_has_its_own(tmp_path):
    lists = {
        word: f"[{{count: requests, max: {number}, per: minute}}]"
        for number, word in enumerate(("GLOBAL", "TENANT", "PROJECT", "MODEL", "KEY"))
    }
    config, keys = resolve(loaded(tmp_path, text(**lists)))
    assert {place: limits[0].max for place, limits in config.limits.items()} == {
        "": 0, "tenants/retail": 1, "tenants/retail/projects/chat": 2, "models/qwen": 3,
    }  # fmt: skip
    assert keys[0].limits == (Limit("requests", 4, "minute"),)
    assert (config.referee.url, config.referee.on_loss) == ("local", "local")
    assert config.counted() == Limits(by=config.limits, workers=config.workers, schedules=config.schedules)


def test_everything_that_can_be_said(tmp_path):
    said = 'name: n, count: total_tokens, max: "2000000", per: day, zone: "+08:00", during: office, each: address, models: [qw*]'
    config, _ = resolve(loaded(tmp_path, text(GLOBAL=f"[{{{said}, shadow: true}}]") + "referee: {url: local, on_loss: refuse}\n"))
    assert config.limits[""] == (Limit("total_tokens", 2_000_000, "day", "n", "+08:00", "office", "", "address", ("qw*",), True),)
    assert config.counted().on_loss == "refuse"


def test_nothing_written_is_no_limit(tmp_path):
    config, keys = resolve(loaded(tmp_path, text(GLOBAL="", KEY="", TENANT="[]").replace("limits: \n", "limits:\n")))
    assert config.limits == {} and keys[0].limits == ()


BAD: dict[str, tuple[str, str, str]] = {
    # name: (text, what is said, hint)
    "unknown word": (text(GLOBAL="[{▸cont: requests, max: 5, per: day, count: requests}]"), 'unknown word "cont"', 'did you mean "count"?'),
    "unknown count": (text(KEY="[{count: ▸request, max: 5, per: day}]"), "request", ""),
    "no max": (text(MODEL="[▸{count: requests, per: day}]"), "max", ""),
    "no number": (text(TENANT="[{count: requests, max: ▸many, per: day}]"), '"many" is not an amount', "write a number"),
    "below zero": (text(TENANT="[{count: requests, max: ▸-1, per: day}]"), "-1 is not an amount", "from 0"),
    "not a number": (text(TENANT="[{count: requests, max: ▸.nan, per: day}]"), "is not an amount", "write a number"),
    "endless": (text(TENANT="[{count: requests, max: ▸.inf, per: day}]"), "is not an amount", "write a number"),
    "true": (text(TENANT="[{count: requests, max: ▸true, per: day}]"), "this is not an amount", "write a number"),
    "half a request": (text(KEY="[{count: requests, max: ▸1.5, per: day}]"), "whole numbers", "write 1"),
    "no time": (text(PROJECT="[▸{count: requests, max: 5}]"), "in which time", "add per"),
    "concurrency per time": (text(PROJECT="[{count: concurrency, max: 5, ▸per: day}]"), "counted now", "leave `per` out"),
    "zone of a rolling window": (text(GLOBAL="[{count: requests, max: 5, per: hour, ▸zone: UTC}]"), "for the calendar", "leave `zone` out"),
    "unknown zone": (text(GLOBAL="[{DAILY, zone: ▸Asia/Shanghi}]"), "no time zone", 'did you mean "Asia/Shanghai"?'),
    "unknown schedule": (text(KEY="[{DAILY, during: ▸ofice}]"), 'no schedule "ofice"', 'did you mean "office"?'),
    "during and outside": (text(KEY="[{DAILY, during: office, ▸outside: office}]"), "both", "two limits"),
    "outside always": (text(KEY="[{DAILY, outside: ▸always}]"), "always open", "leave the limit out"),
    "outside all hours": (text(KEY="[{DAILY, outside: ▸split}]"), "always open", "leave the limit out"),
    "unknown model": (text(KEY='[{DAILY, models: [▸qwem]}]'), '"qwem" matches nothing', 'did you mean "qwen"?'),
    "an alias": (text(GLOBAL="[{DAILY, models: [qwen, ▸gpt-4o]}]"), '"gpt-4o" matches nothing', "`gpt-4o` is an alias of qwen; write qwen"),
    "a pattern of aliases": (text(TENANT="[{DAILY, models: [▸gpt*]}]"), "nothing", "`gpt*` matches only aliases of qwen; write qwen"),
    "the beginning of an alias": (text(KEY="[{DAILY, models: [▸o1-mini]}]"), "nothing", "`o1-mini` is an alias of qwen; write qwen"),
    "an alias as it is written": (text(PROJECT="[{DAILY, models: [▸o1*]}]"), "nothing", "`o1*` is an alias of qwen; write qwen"),
    "models of a model": (text(MODEL="[{DAILY, ▸models: [qwen]}]"), "one model's already", "leave `models` out"),
    "each model of a model": (text(MODEL="[{DAILY, ▸each: model}]"), "one model here", "leave"),
    "each key of a key": (text(KEY="[{DAILY, ▸each: key}]"), "one key here", "leave"),
    "twice the same": (text(TENANT=f"[{GOOD}, ▸{{count: requests, max: 9, per: day}}]"), 'one place are "requests"', "`name`"),
    "a name that is a count": (text(TENANT=f"[{GOOD}, ▸{{name: requests, count: concurrency, max: 9}}]"), "requests", "`name`"),
    "currency of tokens": (text(TENANT="[{count: total_tokens, max: 5, per: day, ▸currency: CNY}]"), "no currency", "leave it out"),
    "money": (text(TENANT='[{count: ▸money, max: "5.25", per: month, currency: CNY}]'), "qwen has no price", "add it to `prices`"),
    "referee elsewhere": (text() + "referee: {url: ▸redis://x}\n", "has to be local", ""),
    "on_loss": (text() + "referee: {on_loss: ▸serve}\n", "none of local, refuse", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_each_mistake_is_told_alone_and_where_it_is(name, tmp_path):
    only(tmp_path, *BAD[name])


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ('{count: money, max: "1.1234567", per: day, currency: CNY}', "more than 6 digits"),
        ('{count: money, max: "1e12", per: day, currency: CNY}', "is more than"),
        ("{count: money, max: 5, per: day}", "which currency"),
    ],
)
def test_money_is_exact_or_refused(limit, said, tmp_path):
    assert any(said in one.message for one in mistakes(tmp_path, text(GLOBAL=f"[{limit}]")))


@pytest.mark.parametrize("place", ["GLOBAL", "TENANT", "PROJECT", "MODEL", "KEY"])
def test_a_wrong_limit_hides_nothing_of_the_others(place, tmp_path):
    """Wherever it stands: those after it are checked, and told by the numbers that they have in the file."""
    wrong = "{count: requests, max: many, per: hour}, {count: tokens, max: 5}"
    odd = "{count: requests, max: 5}, {count: requests, max: 6, per: day}"
    found = mistakes(tmp_path, text(**{place: f"[{wrong}, {odd}]"}))
    said = ["is not an amount", "none of requests", "in which time", "two limits of one place"]
    assert len(found) == 4, found
    for number, (one, words) in enumerate(zip(found, said, strict=True)):
        assert words in one.message and f"limits[{number}]" in one.path, one
    assert "number 3 of this list" in str(found[3].hint)


@pytest.mark.parametrize("glob", ["qwen", "qw*", "q*en", "*", "*n", "*w*"])
def test_a_pattern_that_matches_a_models_own_name_may_match_aliases_too(glob, tmp_path):
    config, _ = resolve(loaded(tmp_path, text(GLOBAL=f'[{{count: requests, max: 5, per: day, models: ["{glob}"]}}]')))
    assert [limit for _, limit in matching(config.limits, (), "k1", "retail", "chat", "qwen")] == list(config.limits[""])


def test_of_two_models_the_one_that_an_alias_leads_to_is_named(tmp_path):
    other = "models: {llama: {aliases: [gpt*, o1-pro], targets: [{channel: gpu}]}, "
    for glob, hint in (
        ("gpt-4o", "`gpt-4o` is an alias of qwen; write qwen"),
        ("gpt-5", "`gpt-5` is an alias of llama; write llama"),
        ("o1-pro", "`o1-pro` is an alias of llama; write llama"),
        ("o1-p*o", "`o1-p*o` matches only aliases of llama, qwen; write llama, qwen"),
    ):
        written = text(GLOBAL=f"[{{count: requests, max: 5, per: day, models: [{glob}]}}]").replace("models: {", other, 1)
        assert [one.hint for one in mistakes(tmp_path, written)] == [hint]


def test_a_schedule_with_holidays_closes_sometimes(tmp_path):
    resolve(loaded(tmp_path, text(KEY="[{count: requests, max: 5, per: day, outside: nights}]")))


def test_what_changed_is_said_in_the_words_of_the_file(tmp_path):
    more = "[{count: requests, max: 6, per: minute}, {count: concurrency, max: 9}]"
    old = resolve(loaded(tmp_path, text(TENANT=f"[{GOOD}]", KEY=f"[{GOOD}]")))
    new = resolve(loaded(tmp_path, text(TENANT=more, GLOBAL=f"[{GOOD}]")))
    assert [str(change) for change in diff(old, new)] == [
        "tenants.retail.limits[0].max 5 -> 6",
        "tenants.retail.limits[1] + concurrency 9",
        "limits[0] + requests 5 per minute",
        "keys.k1.limits[0] - requests 5 per minute",
    ]


@pytest.mark.parametrize("place", ["", "tenants/t", "tenants/t/projects/p", "keys/k", "models/a/b"])
def test_a_rule_knows_its_scope(place):
    rule = Rule(place, Limit("requests", 5, "minute"), Hours(Limits()))
    assert rule.scope == {"": "global", "tenants/t": "tenant", "keys/k": "key", "models/a/b": "model"}.get(place, "project")

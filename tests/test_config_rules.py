"""Rules and schedules in YAML: what loads and what it becomes, and what is refused where: `▸` marks the place, as in test_config_bad."""

from typing import get_args

import msgspec
import pytest

from gateway.config import resolved_when as form
from gateway.config.regex import compiled, globbed
from gateway.config.resolve_when import resolve_schedules, resolve_when
from gateway.config.when import Api, Feature
from gateway.route.conditions.kind import FEATURES
from gateway.route.conditions.load import Figures
from gateway.words import APIS
from tests.config_text import loaded, mistakes, only

HASH = "sha256:" + "0f" * 32
HEAD = f"""version: 1
channels: {{gpu: {{engine: vllm, endpoints: ["http://10.0.0.6:8000"]}}, npu: {{engine: vllm, endpoints: ["http://10.0.0.7:8000"]}}}}
tenants: {{retail: {{projects: {{chat: {{}}, search: {{}}}}}}, risk: {{projects: {{score: {{}}}}}}}}
keys:
  - {{id: k1, hash: "{HASH}", tenant: retail, project: chat, models: ["qwen"]}}
schedules: {{office: {{zone: Asia/Shanghai, when: ["Mon-Fri 09:00-18:00"]}}, night: {{when: 22:00-06:00}}}}
"""


def rule(when: str, more: str = "") -> str:
    """A configuration with one rule that has these conditions."""
    return (
        HEAD
        + f"models:\n  qwen:\n    targets: [{{channel: gpu}}]\n    rules:\n      - {{name: a, when: {when}, to: {{channel: npu}}}}\n{more}"
    )


def hours(schedule: str) -> str:
    """A configuration with one schedule more."""
    return HEAD.replace("night: {when: 22:00-06:00}", f"late: {schedule}") + "models: {qwen: {targets: [{channel: gpu}]}}\n"


# -- what loads ----------------------------------------------------------------------------------------------------------

R = form.Range
ENVIRON = {"ENV": "prod", "MANY": "30000"}
GOOD: dict[str, tuple[str, form.When]] = {
    "nothing": ("{}", form.When()),
    "nothing written": ("", form.When()),
    "lengths": (
        "{prompt_tokens: {over: 30000, up_to: 100000}, max_tokens: {up_to: 256}}",
        form.When(prompt_tokens=R(over=30000, up_to=100000), max_tokens=R(up_to=256)),
    ),
    "a reference for a number": ('{prompt_tokens: {over: "${env:MANY}"}}', form.When(prompt_tokens=R(over=30000))),
    "headers": (
        '{headers: {X-Env: "${env:ENV}", b: [x, {prefix: "p"}, {match: "^re2$"}], c: {present: false}}}',
        form.When(
            headers={
                "x-env": (form.HeaderTest(equals="prod"),),
                "b": (form.HeaderTest(equals="x"), form.HeaderTest(prefix="p"), form.HeaderTest(match="^re2$")),
                "c": (form.HeaderTest(present=False),),
            }
        ),
    ),
    "content, one": ("{content: {words: refund}}", form.When(content=(form.Content(words=("refund",)),))),
    "content, several": (
        "{content: [{words: [refund, 退款], in: any, ignore_case: false}, "
        "{match: '(?i)money', in: system}, {path: 'a.b[0]', equals: [1, x, true]}]}",
        form.When(
            content=(
                form.Content(words=("refund", "退款"), place="any", ignore_case=False),
                form.Content(match="(?i)money", place="system"),
                form.Content(path=("a", "b", "0"), equals=(1, "x", True)),
            )
        ),
    ),
    "content, a number": (
        "{content: {path: n, over: 0.5, up_to: 2}}",
        form.When(content=(form.Content(path=("n",), range=R(over=0.5, up_to=2)),)),
    ),
    "kinds": ("{api: chat, has: [tools, images]}", form.When(api=("chat",), has=form.Has(any=("tools", "images")))),
    "has, one": ("{has: stream}", form.When(has=form.Has(any=("stream",)))),
    "has, all": ("{has: {tools: true, stream: false}}", form.When(has=form.Has(each={"tools": True, "stream": False}))),
    "has, any and all": (
        "{has: {any: [tools, images], stream: true}}",
        form.When(has=form.Has(any=("tools", "images"), each={"stream": True})),
    ),
    "who": ("{tenant: ret*, project: [chat, search], key: k1}", form.When(tenant=("ret*",), project=("chat", "search"), key=("k1",))),
    "hours": ("{during: office, outside: [night]}", form.When(during=("office",), outside=("night",))),
    "share": ("{share: 0.5}", form.When(share=form.Share(percent=0.5))),
    "share by key": ("{share: {percent: 10, by: key}}", form.When(share=form.Share(percent=10, by="key"))),
    "share by header": (
        "{share: {percent: 10, by: {header: X-User}}}",
        form.When(share=form.Share(percent=10, by="header", header="x-user")),
    ),
    "load": (
        "{load: {channel: gpu, waiting: {over: 5}, kv_use: {up_to: 0.9}}}",
        form.When(load=(form.Load(channel="gpu", figures={"waiting": R(over=5), "kv_use": R(up_to=0.9)}),)),
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_is_written_is_what_workers_get(name, tmp_path):
    when, expected = GOOD[name]
    found = resolve_when(loaded(tmp_path, rule(when), ENVIRON).config.models["qwen"].rules[0].when)
    assert found == expected
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=form.When) == expected


def test_schedules_as_workers_get_them(tmp_path):
    config = loaded(
        tmp_path, hours("{zone: +08:00, when: [Sat-Sun, 2027-05-01 10:00-14:00], holidays: [2027-01-01, 2027-02-06..2027-02-12]}")
    ).config
    found = resolve_schedules(config.schedules)
    assert set(found) == {"office", "late"} and found["late"].zone == "+08:00" and len(found["late"].holidays) == 2
    assert [span.days for span in found["late"].hours] == [96, 0]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=dict[str, form.Schedule]) == found


def test_one_word_for_one_thing():
    """Words of the language, and what workers know by them."""
    assert set(get_args(Api)) == set(APIS.values())
    assert set(get_args(Feature)) == set(FEATURES)
    assert Figures._fields == ("running", "waiting", "queue", "kv_use")


def test_days_in_brackets_are_refused_only_where_a_list_of_days_was_meant(tmp_path):
    for when in (
        '["Mon,Wed,Fri 09:00-18:00"]',
        "[Sat, Sun]",
        "[09:00-12:00, Sat]",
        '["Sat", Mon-Fri 09:00-18:00]',
        "[2027-05-01, Mon 09:00-10:00]",
    ):
        loaded(tmp_path, hours(f"{{when: {when}}}"))
    block = "schedules:\n  office:\n    when:\n      - Sat\n      - Mon-Fri 09:00-18:00\n"
    loaded(tmp_path, HEAD[: HEAD.index("schedules")] + "models: {qwen: {targets: [{channel: gpu}]}}\n" + block)


# -- what is refused -------------------------------------------------------------------------------------------------------

TWO = "      - {name: b, when: %s, to: {channel: npu}}\n"
BAD: dict[str, tuple[str, str, str]] = {
    # name: (text, what is said, hint)
    "unknown word": (rule("{▸prompt_token: {over: 1}}"), 'unknown word "prompt_token"', 'did you mean "prompt_tokens"?'),
    "unknown word, range": (rule("{prompt_tokens: {▸ovr: 1}}"), 'unknown word "ovr"', 'did you mean "over"?'),
    "unknown word, content": (rule("{content: {▸word: [a]}}"), 'unknown word "word"', 'did you mean "words"?'),
    "unknown word, contents": (rule("{content: [{words: [a]}, {▸word: [a]}]}"), 'unknown word "word"', 'did you mean "words"?'),
    "unknown word, header": (rule("{headers: {x-env: {▸matches: a}}}"), 'unknown word "matches"', 'did you mean "match"?'),
    "unknown word, headers": (rule("{headers: {x-env: [a, {▸prefx: a}]}}"), 'unknown word "prefx"', 'did you mean "prefix"?'),
    "unknown word, has": (rule("{has: {▸tool: true}}"), 'unknown word "tool"', 'did you mean "tools"?'),
    "unknown word, share": (rule("{share: {percent: 1, ▸bye: key}}"), 'unknown word "bye"', 'did you mean "by"?'),
    "unknown word, load": (rule("{load: {channel: gpu, ▸wating: {over: 1}}}"), 'unknown word "wating"', 'did you mean "waiting"?'),
    "unknown feature": (rule("{has: [tools, ▸image]}"), "this is none of tools, images", 'did you mean "images"?'),
    "unknown feature alone": (rule("{has: ▸strem}"), "this is none of tools, images", 'did you mean "stream"?'),
    "unknown api": (rule("{api: [chat, ▸completion]}"), "this is none of chat, completions", 'did you mean "completions"?'),
    "unknown place": (rule("{content: {words: [a], in: ▸user}}"), "this is none of last_user, system", 'did you mean "last_user"?'),
    # -- values
    "not a number": (rule("{prompt_tokens: {over: ▸many}}"), "this is not a number", ""),
    "half a token": (rule("{prompt_tokens: {over: ▸1.5}}"), "this is not a whole number", ""),
    "below nothing": (rule("{prompt_tokens: {over: ▸-1}}"), "this is too small", "at least 0"),
    "up to nothing": (rule("{max_tokens: {up_to: ▸0}}"), "this is too small", "at least 1"),
    "neither": (rule("{prompt_tokens: ▸{}}"), "this says neither over nor up_to", "write {over: 30000}"),
    "nothing behind it": (rule("{▸prompt_tokens: , api: chat}"), "nothing is written after `prompt_tokens`", "leave the word out"),
    "nothing behind has": (rule("{▸has: }"), "nothing is written after `has`", "write a value"),
    "nothing behind over": (rule("{prompt_tokens: {▸over: }}"), "nothing is written after `over`", "write a value"),
    "no header": (rule("{▸headers: }"), "nothing is written after `headers`", "write a value"),
    "empty list": (rule("{tenant: ▸[]}"), "this list is empty", ""),
    "empty words": (rule("{content: {words: ▸[]}}"), "this list is empty", ""),
    "empty word": (rule('{content: {words: [a, ▸""]}}'), "this is empty", ""),
    "header of a number": (rule("{headers: {x-tier: ▸1}}"), "this is not text", "quote it"),
    "header's name": (rule('{headers: {▸"x env": a}}'), '"x env" cannot be a header\'s name', ""),
    "header twice": (rule("{headers: {x-env: a, ▸X-Env: b}}"), 'the header "X-Env" is written twice', "one list"),
    "header, two ways": (rule("{headers: {x-env: ▸{prefix: a, match: b}}}"), "both prefix and match", "write two rules"),
    "header, no way": (rule("{headers: {x-env: ▸{}}}"), "this says nothing about the header", "write its value"),
    "header, same value": (rule("{headers: {x-env: [a, b, ▸a]}}"), "this is listed twice", "first as number 1"),
    "header, spaces": (rule('{headers: {x-env: ▸" a"}}'), "this can never match", ""),
    "pattern": (rule("{headers: {x-env: {match: ▸'(a'}}}"), "re2 refuses this pattern: missing ): (a", "no look-around"),
    "look-ahead": (rule("{content: {match: ▸'refund(?!ed)'}}"), "re2 refuses this pattern: invalid perl operator: (?!", "no look-around"),
    "back-reference": (rule("{content: [{match: a}, {match: ▸'(a)\\1'}]}"), "re2 refuses this pattern: invalid escape sequence: \\1", ""),
    "huge pattern": (rule("{content: {match: ▸'((\\pL{500}){500}){9}'}}"), "re2 refuses this pattern:", ""),
    "share of nothing": (rule("{share: ▸0}"), "0 is not a share", "more than 0"),
    "share of more": (rule("{share: {percent: ▸100.5, by: key}}"), "100.5 is not a share", "at most 100"),
    "share by whom": (rule("{share: {percent: 1, by: ▸user}}"), "this is none of key, tenant, project", "write one of them"),
    "share by nobody": (rule("{share: {percent: 1, by: ▸{}}}"), "this names nobody, or two", "write key"),
    "share by two": (rule("{share: {percent: 1, by: ▸{of: key, header: a}}}"), "this names nobody, or two", "write key"),
    "percent for a fraction": (rule("{load: {channel: gpu, kv_use: {over: ▸90}}}"), "this is too large", "at most 1"),
    "a glob that is none": (rule("{tenant: ▸'ret?il'}"), '"ret?il" is not a name', "with * for anything"),
    # -- content
    "looks for nothing": (rule("{content: ▸{in: any}}"), "this looks for nothing", "write words, match"),
    "text and value": (rule("{content: {▸words: [a], path: b}}"), "words looks at the text, path at a value", "two items"),
    "place of a path": (rule("{content: {path: b, equals: 1, ▸in: any}}"), "in looks at the text, path at a value", ""),
    "value without path": (rule("{content: {words: [a], ▸equals: b}}"), "equals without path", ""),
    "path without value": (rule("{content: {path: ▸a.b}}"), "this says nothing about the value", "one of equals"),
    "path with two": (rule("{content: {path: ▸a.b, equals: 1, match: b}}"), "this asks two things", "one of equals"),
    "path with holes": (rule("{content: {path: ▸a..b, equals: 1}}"), '"a..b" is not a path', "metadata.kind"),
    "path with a star": (
        rule("{content: {path: ▸'messages[*].role', equals: user}}"),
        '"messages[*].role" is not a path',
        "messages[0].role",
    ),
    "path, deep": (rule("{content: {path: ▸" + ".".join("abcdefghijklmnopq") + ", equals: 1}}"), "is deeper than 16 steps", ""),
    "equals null": (rule("{content: {path: a, equals: [1, ▸null]}}"), "this is neither text, nor a number", "present: false"),
    "case without words": (rule("{content: {match: a, ▸ignore_case: true}}"), "ignore_case without words", "(?i)"),
    "word twice": (rule("{content: {words: [Refund, b, ▸refund]}}"), "this is listed twice", "first as number 1"),
    # -- names
    "schedule": (rule("{during: ▸ofice}"), 'there is no schedule "ofice"', 'did you mean "office"?'),
    "schedules": (rule("{outside: [office, ▸noon]}"), 'there is no schedule "noon"', "known are: office, night"),
    "tenant": (rule("{tenant: [risk, ▸retial]}"), 'there is no tenant "retial"', 'did you mean "retail"?'),
    "tenant, glob": (rule("{tenant: ▸hr-*}"), '"hr-*" means no tenant at all', ""),
    "project": (rule("{project: ▸serach}"), 'there is no project "serach"', 'did you mean "search"?'),
    "project of another": (rule("{tenant: risk, project: ▸chat}"), 'there is no project "chat"', "known are: score"),
    "key": (rule("{key: ▸k2}"), 'there is no key "k2"', "known are: k1"),
    "key of another": (
        rule("{tenant: risk, key: ▸k1}"),
        "no such key belongs to this tenant and project",
        "it belongs to retail's project chat",
    ),
    "channel": (rule("{load: {channel: ▸gpx, waiting: {over: 1}}}"), 'there is no channel "gpx"', 'did you mean "gpu"?'),
    # -- what can never be
    "over before up to": (rule("{prompt_tokens: {over: 100, up_to: ▸100}}"), "this can never match", "it is up to 100 and over 100"),
    "figure over before up to": (rule("{load: {channel: gpu, running: {over: 9, up_to: ▸5}}}"), "this can never match", "up to 5"),
    "value over before up to": (rule("{content: {path: a, over: 1, up_to: ▸0.5}}"), "this can never match", ""),
    "fuller than full": (rule("{load: {channel: gpu, kv_use: {over: ▸1}}}"), "nothing is fuller than full", "0.9"),
    "no figure": (rule("{load: ▸{channel: gpu}}"), "this asks for no figure", "write running"),
    "during and outside": (rule("{during: office, outside: ▸[night, office]}"), "during and outside the same schedule", ""),
    "embeddings never stream": (
        rule("{api: [embeddings, rerank], has: ▸stream}"),
        "embeddings and rerank never stream",
        "only chat, completions do",
    ),
    "rerank never streams": (rule("{api: rerank, has: {stream: ▸true}}"), "rerank never stream: this can never match", ""),
    "asked and ruled out": (rule("{has: ▸{any: [tools], tools: false}}"), "what is asked for is ruled out", ""),
    "has asks nothing": (rule("{has: ▸{}}"), "this asks for nothing", "write [tools]"),
    "api twice": (rule("{api: [chat, ▸chat]}"), "this is listed twice", "first as number 1"),
    "after everything": (
        rule("{}", TWO.replace("{name", "▸{name") % "{api: chat}"),
        "this rule is never reached",
        "rule number 1 has no conditions",
    ),
    "after all of the share": (
        rule("{share: 100}", TWO.replace("{name", "▸{name") % "{api: chat}"),
        "this rule is never reached",
        "rule number 1",
    ),
    "same conditions": (rule("{api: chat}", TWO % "▸{api: [chat]}"), "this rule is never reached", "rule number 1 has the same conditions"),
    "longer after long": (
        rule("{prompt_tokens: {over: 1000}}", TWO % "▸{prompt_tokens: {over: 2000, up_to: 9000}}"),
        "this rule is never reached",
        "rule number 1 takes every request that this one would; move this one up",
    ),
    "one of a list after the list": (
        rule(
            "{headers: {X-Env: [a, {prefix: b}]}, content: [{words: x}, {words: y}]}", TWO % "▸{content: {words: y}, headers: {x-env: a}}"
        ),
        "this rule is never reached",
        "rule number 1 takes every request",
    ),
    "one condition more": (
        rule("{api: [chat, completions]}", TWO % "▸{api: chat, share: 5, has: tools}"),
        "this rule is never reached",
        "rule number 1 takes every request",
    ),
    "outside more": (rule("{outside: office}", TWO % "▸{outside: [night, office]}"), "this rule is never reached", "rule number 1 takes"),
    # -- schedules
    "zone": (hours("{zone: ▸Asia/Shangai, when: [Sat]}"), 'there is no time zone "Asia/Shangai"', 'did you mean "Asia/Shanghai"?'),
    "zone in lower case": (hours("{zone: ▸asia/shanghai, when: [Sat]}"), "there is no time zone", 'did you mean "Asia/Shanghai"?'),
    "zone as an offset": (hours("{zone: ▸UTC+8, when: [Sat]}"), "there is no time zone", 'did you mean "+08:00"?'),
    "zone as a short offset": (hours('{zone: ▸"-0330", when: [Sat]}'), "there is no time zone", 'did you mean "-03:30"?'),
    "zone abbreviated": (hours("{zone: ▸CST, when: [Sat]}"), "there is no time zone", "write a name like Asia/Shanghai"),
    "zone like nothing": (
        hours("{zone: ▸Beijing Time, when: [Sat]}"),
        'there is no time zone "Beijing Time"',
        "write a name like Asia/Shanghai",
    ),
    "no hours": (hours("{when: ▸[]}"), "this list is empty", ""),
    "hours missing": (hours("{zone: UTC}").replace("late:", "▸late:"), "`when` is missing", ""),
    "day": (hours('{when: ["Mon-Fri 09:00-18:00", ▸"Mo-Fr 09:00-18:00"]}'), 'has a day that is none: "Mo"', "write Mon, Tue"),
    "hours that are none": (hours("{when: ▸Mon-Fri 9-18}"), "is not a day with hours", "Mon-Fri 09:00-18:00"),
    "hours of no clock": (hours("{when: [▸Mon-Fri 09:00-25:00]}"), "names a time that no clock shows", "24:00 as an end"),
    "no time at all": (hours("{when: [▸Mon 09:00-09:00]}"), "begins and ends at the same time", "leave the hours out"),
    "no such date": (
        hours("{when: [Sat], holidays: [2027-01-01, ▸2027-02-29]}"),
        '"2027-02-29" is a date that no calendar has',
        "check the month",
    ),
    "holidays reversed": (hours("{when: [Sat], holidays: [▸2027-02-12..2027-02-06]}"), "ends before it begins", "the earlier date"),
    "holiday twice": (hours("{when: [Sat], holidays: [2027-01-01, ▸2027-01-01]}"), "this is listed twice", "first as number 1"),
    "unquoted days": (
        hours("{when: [▸Mon,Wed,Fri 09:00-18:00]}"),
        "inside [ ] a comma ends the entry",
        'together: "Mon,Wed,Fri 09:00-18:00"',
    ),
    "never open": (hours('{zone: Europe/Berlin, ▸when: ["2027-03-28 02:15-02:45"]}'), "this schedule is never open", "put forward"),
    "unknown word, schedule": (hours("{when: [Sat], ▸holiday: []}"), 'unknown word "holiday"', 'did you mean "holidays"?'),
}


@pytest.mark.parametrize("name", BAD)
def test_each_mistake_is_told_alone_and_where_it_is(name, tmp_path):
    only(tmp_path, *BAD[name])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("{share: 5}", "{share: 5}"),
        ("{api: chat, share: 99}", "{api: chat}"),
        ("{prompt_tokens: {over: 2000}}", "{prompt_tokens: {over: 1000}}"),
        ("{prompt_tokens: {over: 1000, up_to: 2000}}", "{prompt_tokens: {over: 1500}}"),
        ("{outside: [night, office]}", "{outside: office}"),
        ("{during: office}", "{during: [night, office]}"),
        ("{headers: {x-env: a, x-team: b}}", "{headers: {x-env: a}}"),
        ("{has: tools}", "{has: [tools, images]}"),
        ("{prompt_tokens: {over: 5}}", "{max_tokens: {over: 50}}"),
    ],
)
def test_a_rule_that_some_requests_reach_is_no_mistake(first, second, tmp_path):
    assert len(loaded(tmp_path, rule(first, TWO % second)).config.models["qwen"].rules) == 2


def test_all_mistakes_of_a_rule_are_told_at_once(tmp_path):
    found = mistakes(
        tmp_path, rule("{during: ofice, tenant: nobody, key: k9, load: {channel: gpx, queue: {over: 2, up_to: 1}}, api: [chat, chat]}")
    )
    assert len(found) == 6


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ('{zone: Asia/Shanghia, when: ["25:00-06:00"]}', ["no time zone", "no clock shows"]),
        ('{when: [Sat, Sat], zone: Asia/Shanghia, holidays: ["2027-13-01"]}', ["listed twice", "no time zone", "no calendar has"]),
        ("{zone: Asia/Shanghia, wenn: [Sat]}", ["`when` is missing", "no time zone", "unknown word"]),
        ("{zone: 8, holidays: Sat}", ["`when` is missing", "not text", "is not a date"]),
        ("5", ["late"]),
    ],
)
def test_all_mistakes_of_a_schedule_are_told_at_once(schedule, said, tmp_path):
    found = mistakes(tmp_path, hours(schedule))
    assert len(found) == len(said) and all(word in str(one) for word, one in zip(said, found, strict=True)), found


def test_where_a_file_is_missing_names_prove_nothing(tmp_path):
    text = rule("{during: ofice, tenant: nobody, project: x, key: k9, load: {channel: gpx, queue: {over: 2}}}")
    found = mistakes(tmp_path, text + "include: [elsewhere.yaml]\n")
    assert ["elsewhere.yaml" in one.message for one in found] == [True]


@pytest.mark.parametrize(
    "schedule",
    [
        '{when: ["Mon-Fri 09:00-18:00", "Wed 08:00-12:00", "Wed 11:00-20:00"]}',
        '{when: ["2001-01-01"]}',
        "{when: [Mon-Sun], holidays: [2026-01-01..2026-12-31, 2027-01-01..2027-12-31]}",
        '{when: ["2027-01-01 10:00-11:00"], holidays: [2027-01-01]}',
        '{zone: Europe/Berlin, when: ["02:15-02:45"]}',
        '{zone: Europe/Berlin, when: ["2027-03-28 02:15-03:15"]}',
        '{zone: Europe/Berlin, when: ["2027-03-28 02:15-02:45", "2027-03-29 02:15-02:45"]}',
    ],
)
def test_schedules_that_overlap_or_are_over_are_no_mistake(schedule, tmp_path):
    """Entries add up, a year of holidays ends, and a file does not become wrong because a day is over."""
    loaded(tmp_path, hours(schedule))


def test_a_schedule_that_is_wrong_in_itself_is_still_known(tmp_path):
    found = mistakes(tmp_path, rule("{during: office}").replace("Mon-Fri 09", "Mon-Fry 09"))
    assert len(found) == 1 and "has a day that is none" in found[0].message


def test_globs_mean_what_they_say():
    for glob, name, means in [("a*", "abc", True), ("*", "", True), ("a.c", "abc", False), ("*x*", "axb", True), ("a*", "ba", False)]:
        assert (globbed((glob,)).search(name.encode()) is not None) is means


def test_patterns_are_compiled_once_and_say_nothing_on_their_own(capfd):
    assert compiled("a+b") is compiled("a+b")
    with pytest.raises(ValueError, match="missing"):
        compiled("(unclosed")
    assert capfd.readouterr() == ("", "")

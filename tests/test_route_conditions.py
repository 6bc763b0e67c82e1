"""Each condition of a rule: when it holds, what it says, and that strange requests do no harm. Conditions come from YAML's own words."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.config import resolved_when as form
from gateway.config.hours import hours_of
from gateway.config.resolve_when import resolve_when
from gateway.config.when import When
from gateway.route.ask import Ask
from gateway.route.conditions import Condition, Figures, Together, compile_when, matcher, matches
from gateway.route.conditions.words import FEW, MATCHES_MOST, Lists, finder
from gateway.route.schedule import compile_schedule

MONDAY_NOON = 1_795_406_400.0  # Mon 2026-11-23 04:00 UTC, 12:00 in Shanghai
OFFICE = compile_schedule(form.Schedule(zone="Asia/Shanghai", hours=(hours_of("Mon-Fri 09:00-18:00"),)))
NIGHT = compile_schedule(form.Schedule(zone="Asia/Shanghai", hours=(hours_of("22:00-06:00"),)))
FIGURES = {"gpu": Figures(running=40, waiting=6, queue=0, kv_use=0.95), "npu": Figures(waiting=1)}


def conditions(
    when: dict[str, Any], *, bounds: tuple[int, int] = (0, 0), salt: str = "", together: Together | None = None
) -> list[Condition]:
    """As a worker gets them: checked, resolved, packed, unpacked, compiled."""
    packed = msgspec.msgpack.encode(resolve_when(When.model_validate(when)))
    return compile_when(
        msgspec.msgpack.decode(packed, type=form.When),
        schedules={"office": OFFICE, "night": NIGHT},
        figures=lambda channel: FIGURES.get(channel, Figures()),
        bounds=lambda ask: bounds,
        salt=salt,
        together=together,
    )


def ask(body: dict[str, Any] | None = None, headers: dict[str, str] | None = None, **more: Any) -> Ask:
    fields = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in (body or {}).items()}
    given = {"api": "chat", "model": "qwen", "at": MONDAY_NOON, "size": 1_000_000, **more}
    return Ask(**given, fields=fields, headers=CIMultiDictProxy(CIMultiDict(headers or {})))


def user(text: Any) -> dict[str, Any]:
    return {
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "first"}, {"role": "user", "content": text}]
    }


PARTS = [{"type": "text", "text": "Where is my"}, {"type": "image_url", "image_url": {"url": "data:,"}}, {"type": "text", "text": "refund"}]
TOOLS = {"tools": [{"type": "function", "function": {"name": "get_weather"}}, {"type": "web_search", "name": "search"}]}

TABLE: dict[str, tuple[dict[str, Any], Ask, bool | None, str]] = {
    # name: (when, request, whether it holds, what is told)
    "nothing asked for": ({}, ask(), True, ""),
    # -- lengths
    "tokens over": ({"prompt_tokens": {"over": 100}}, ask(tokens=101), True, "the prompt's length is 101, over 100"),
    "tokens just not over": ({"prompt_tokens": {"over": 100}}, ask(tokens=100), False, "the prompt's length is 100, not over 100"),
    "tokens up to": ({"prompt_tokens": {"up_to": 100}}, ask(tokens=100), True, "the prompt's length is 100, not over 100"),
    "tokens over up to": ({"prompt_tokens": {"up_to": 100}}, ask(tokens=101), False, "the prompt's length is 101, over 100"),
    "tokens between": ({"prompt_tokens": {"over": 5, "up_to": 9}}, ask(tokens=7), True, "the prompt's length is 7, over 5 and not over 9"),
    "max_tokens": ({"max_tokens": {"up_to": 256}}, ask(max_tokens=256), True, "max_tokens is 256, not over 256"),
    "max_tokens too many": ({"max_tokens": {"up_to": 256}}, ask(max_tokens=257), False, "max_tokens is 257, over 256"),
    "max_tokens not named": ({"max_tokens": {"up_to": 256}}, ask(), False, "the caller names no max_tokens"),
    "max_tokens not named, over": ({"max_tokens": {"over": 0}}, ask(), False, "the caller names no max_tokens"),
    # -- headers
    "header": ({"headers": {"X-Env": "prod"}}, ask(headers={"x-ENV": "prod"}), True, 'x-env is "prod"'),
    "header, other": ({"headers": {"x-env": "prod"}}, ask(headers={"X-Env": "dev"}), False, 'x-env is "dev", not "prod"'),
    "header, other case": ({"headers": {"x-env": "prod"}}, ask(headers={"x-env": "Prod"}), False, 'x-env is "Prod", not "prod"'),
    "header, absent": ({"headers": {"x-env": "prod"}}, ask(), False, "there is no header x-env"),
    "header, list": ({"headers": {"x-env": ["prod", "stage"]}}, ask(headers={"x-env": "stage"}), True, 'x-env is "stage"'),
    "header, none of": ({"headers": {"x-env": ["a", "b", "c"]}}, ask(headers={"x-env": "d"}), False, 'x-env is "d", not "a", "b" or "c"'),
    "header, prefix": ({"headers": {"x-env": {"prefix": "pro"}}}, ask(headers={"x-env": "prod"}), True, 'x-env is "prod"'),
    "header, no prefix": (
        {"headers": {"x-env": ["a", {"prefix": "pro"}]}}, ask(headers={"x-env": "dev"}), False,
        'x-env is "dev", not "a" or beginning with "pro"'
    ),
    "header, pattern": ({"headers": {"x-env": {"match": "^p.*d$"}}}, ask(headers={"x-env": "prod"}), True, 'x-env is "prod"'),
    "header, pattern anywhere": ({"headers": {"x-env": {"match": "ro"}}}, ask(headers={"x-env": "prod"}), True, 'x-env is "prod"'),
    "header, no pattern": (
        {"headers": {"x-env": {"match": "^p$"}}}, ask(headers={"x-env": "prod"}), False, 'x-env is "prod", not matching "^p$"'
    ),
    "header, there": ({"headers": {"x-env": {"present": True}}}, ask(headers={"x-env": ""}), True, 'x-env is ""'),
    "header, wanted": ({"headers": {"x-env": {"present": True}}}, ask(), False, "there is no header x-env"),
    "header, not there": ({"headers": {"x-env": {"present": False}}}, ask(), True, "there is no header x-env"),
    "header, unwanted": ({"headers": {"x-env": {"present": False}}}, ask(headers={"x-env": "a"}), False, 'x-env is "a", not absent'),
    "header, absent or a value": ({"headers": {"x-env": ["a", {"present": False}]}}, ask(), True, "there is no header x-env"),
    "two headers": ({"headers": {"a": "1", "b": "2"}}, ask(headers={"a": "1", "b": "2"}), True, 'a is "1"'),
    "two headers, one wrong": ({"headers": {"a": "1", "b": "2"}}, ask(headers={"a": "1", "b": "3"}), False, 'b is "3", not "2"'),
    "header, long": ({"headers": {"a": "1"}}, ask(headers={"a": "x" * 100}), False, f'a is "{"x" * 60}…", not "1"'),
    "header, secret": ({"headers": {"x-api-key": "hush"}}, ask(headers={"x-api-key": "sesame"}), False, "x-api-key is not as it has to be"),
    "header, strange bytes": ({"headers": {"a": {"match": "^a.b$"}}}, ask(headers={"a": "a\udcffb"}), True, 'a is "a?b"'),
    "header, strange, exact": ({"headers": {"a": "é"}}, ask(headers={"a": "\udcff\ud800"}), False, 'a is "??", not "é"'),
    # -- the API, and what comes along
    "api": ({"api": ["chat", "completions"]}, ask(), True, "the API is chat"),
    "api, other": ({"api": "embeddings"}, ask(), False, "the API is chat, not embeddings"),
    "has tools": ({"has": "tools"}, ask(TOOLS), True, "the request has tools"),
    "has functions": ({"has": "tools"}, ask({"functions": [{"name": "f"}]}), True, "the request has tools"),
    "has no tools": ({"has": "tools"}, ask({"tools": []}), False, "the request has no tools"),
    "has null for tools": ({"has": "tools"}, ask({"tools": None}), False, "the request has no tools"),
    "has either": ({"has": ["tools", "stream"]}, ask(stream=True), True, "the request has stream, has no tools"),
    "has both": ({"has": {"tools": True, "stream": True}}, ask(TOOLS, stream=True), True, "the request has tools and stream"),
    "has one of both": ({"has": {"tools": True, "stream": True}}, ask(stream=True), False, "the request has stream, has no tools"),
    "has not": ({"has": {"stream": False}}, ask(), True, "the request has no stream"),
    "has what is unwanted": ({"has": {"stream": False}}, ask(stream=True), False, "the request has stream"),
    "has any and not": (
        {"has": {"any": ["tools", "images"], "stream": False}}, ask(user(PARTS)), True, "has images, has no tools and no stream"
    ),
    "has images": ({"has": "images"}, ask(user(PARTS)), True, "the request has images"),
    "has no images": ({"has": "images"}, ask(user("image")), False, "the request has no images"),
    "has a format": ({"has": "response_format"}, ask({"response_format": {"type": "json_object"}}), True, "has response_format"),
    "has plain text": ({"has": "response_format"}, ask({"response_format": {"type": "text"}}), False, "has no response_format"),
    # -- who calls
    "tenant": ({"tenant": "retail"}, ask(tenant="retail"), True, "the tenant is retail"),
    "tenant, other": ({"tenant": ["retail", "risk"]}, ask(tenant="hr"), False, "the tenant is hr, not retail or risk"),
    "tenant, nobody": ({"tenant": "*"}, ask(), False, "the caller has no tenant"),
    "project": ({"project": "chat*"}, ask(project="chatbot"), True, "the project is chatbot"),
    "project, glob": ({"project": "*-eu-*"}, ask(project="shop-eu-2"), True, "the project is shop-eu-2"),
    "project, no glob": ({"project": "a.c*"}, ask(project="abcd"), False, "the project is abcd, not a.c*"),
    "key": ({"key": ["k1", "ci-*"]}, ask(key="ci-7"), True, "the key is ci-7"),
    "all of them": ({"tenant": "retail", "key": "k1"}, ask(tenant="retail", key="k2"), False, "the key is k2, not k1"),
    # -- hours
    "during": ({"during": "office"}, ask(), True, "office is open until Mon 2026-11-23 18:00 (Asia/Shanghai)"),
    "during, closed": ({"during": "night"}, ask(), False, "night is closed until Mon 2026-11-23 22:00 (Asia/Shanghai)"),
    "during one of": ({"during": ["night", "office"]}, ask(), True, "office is open"),
    "outside": ({"outside": "night"}, ask(), True, "night is closed"),
    "outside all": ({"outside": ["night", "office"]}, ask(), False, "office is open"),
    # -- shares
    "share, below": ({"share": 10}, ask(luck=0.0999), True, "the request is at 10.0 % by chance, below 10"),
    "share, above": ({"share": 10}, ask(luck=0.1), False, "the request is at 10.0 % by chance, not below 10"),
    "share of all": ({"share": 100}, ask(luck=0.9999999999999999), True, "by chance, below 100"),
    "share, no header": (
        {"share": {"percent": 10, "by": {"header": "x-user"}}}, ask(luck=0.05), True, "by chance, having no x-user, below 10"
    ),
    "share, no key": ({"share": {"percent": 10, "by": "key"}}, ask(luck=0.5), False, "by chance, having no key, not below 10"),
    # -- load
    "load": ({"load": {"channel": "gpu", "waiting": {"over": 5}}}, ask(), True, "gpu: requests waiting: 6, over 5"),
    "load, less": ({"load": {"channel": "npu", "waiting": {"over": 5}}}, ask(), False, "npu: requests waiting: 1, not over 5"),
    "load, all figures": (
        {"load": {"channel": "gpu", "kv_use": {"over": 0.9}, "queue": {"over": 0}}}, ask(), False, "queued: 0, not over 0"
    ),
    "load, not known": ({"load": {"channel": "npu", "running": {"up_to": 5}}}, ask(), False, "npu: requests running: not known"),
    "load, either channel": (
        {"load": [{"channel": "npu", "waiting": {"over": 5}}, {"channel": "gpu", "kv_use": {"over": 0.9}}]}, ask(), True, "0.95, over 0.9"
    ),
    # -- content
    "word": ({"content": {"words": ["refund"]}}, ask(user("A REFUND, please")), True, "the word is in the last text of the user"),
    "word, in parts": ({"content": {"words": "refund"}}, ask(user(PARTS)), True, "the word is in"),
    "word, not there": (
        {"content": {"words": ["refund", "退款"]}}, ask(user("hello")), False, "none of 2 words is in the last text of the user"
    ),
    "word, earlier": ({"content": {"words": "first"}}, ask(user("hello")), False, "the word is not in"),
    "word, anywhere": ({"content": {"words": "first", "in": "any"}}, ask(user("hello")), True, "the word is in the prompt"),
    "word, system": ({"content": {"words": "BRIEF", "in": "system"}}, ask(user("hello")), True, "the word is in the system text"),
    "word, Chinese": ({"content": {"words": ["退款"]}}, ask(user("我要退款！")), True, "the word is in"),
    "word, case matters": ({"content": {"words": "Refund", "ignore_case": False}}, ask(user("refund")), False, "the word is not in"),
    "word, full width": ({"content": {"words": "refund"}}, ask(user("ｒｅｆｕｎｄ")), False, "the word is not in"),
    "word, prompt": ({"content": {"words": "refund"}}, ask({"prompt": ["a", "refund"]}, api="completions"), True, "the word is in"),
    "tool": ({"content": {"match": "^get_", "in": "tools"}}, ask(TOOLS), True, "the pattern is in the names of the tools"),
    "no tool": ({"content": {"words": "order", "in": "tools"}}, ask(TOOLS), False, "the word is not in the names of the tools"),
    "pattern": ({"content": {"match": "1[3-9][0-9]{9}"}}, ask(user("电话13812345678。")), True, "the pattern is in"),
    "pattern, case": ({"content": {"match": "refund"}}, ask(user("REFUND")), False, "the pattern is not in"),
    "word and pattern": ({"content": {"words": "a", "match": "b"}}, ask(user("ab")), True, "the word and the pattern are in"),
    "word without pattern": ({"content": {"words": "a", "match": "b"}}, ask(user("ac")), False, "the word and the pattern are not both in"),
    "one of two": ({"content": [{"words": "x"}, {"match": "^a"}]}, ask(user("ab")), True, "the pattern is in"),
    "path": ({"content": {"path": "metadata.kind", "equals": "batch"}}, ask({"metadata": {"kind": "batch"}}), True, "as it has to be"),
    "path, other": (
        {"content": {"path": "metadata.kind", "equals": ["a", "b"]}}, ask({"metadata": {"kind": "c"}}), False, "metadata.kind is not as it"
    ),
    "path, nothing": (
        {"content": {"path": "metadata.kind", "equals": "a"}}, ask({"metadata": 1}), False, "the request has no metadata.kind"
    ),
    "path, index": ({"content": {"path": "messages[0].role", "equals": "system"}}, ask(user("x")), True, "messages.0.role is as"),
    "path, a number": ({"content": {"path": "n", "equals": 1}}, ask({"n": 1.0}), True, "n is as it has to be"),
    "path, true is no number": ({"content": {"path": "n", "equals": 1}}, ask({"n": True}), False, "n is not as"),
    "path, true": ({"content": {"path": "n", "equals": True}}, ask({"n": True}), True, "n is as"),
    "path, text is no number": ({"content": {"path": "n", "equals": "1"}}, ask({"n": 1}), False, "n is not as"),
    "path, over": ({"content": {"path": "temperature", "over": 0.5}}, ask({"temperature": 0.7}), True, "temperature is as"),
    "path, not over": ({"content": {"path": "temperature", "over": 0.5}}, ask({"temperature": "hot"}), False, "temperature is not as"),
    "path, true is not over": ({"content": {"path": "n", "over": 0}}, ask({"n": True}), False, "n is not as"),
    "path, pattern": ({"content": {"path": "user", "match": "^vip-"}}, ask({"user": "vip-7"}), True, "user is as"),
    "path, pattern of a number": ({"content": {"path": "user", "match": "7"}}, ask({"user": 7}), False, "user is not as"),
    "path, in a list": ({"content": {"path": "metadata.tags", "equals": "b"}}, ask({"metadata": {"tags": ["a", "b"]}}), True, "as it has"),
    "path, there": ({"content": {"path": "logprobs", "present": True}}, ask({"logprobs": 5}), True, "the request has logprobs"),
    "path, null is nothing": ({"content": {"path": "logprobs", "present": False}}, ask({"logprobs": None}), True, "has no logprobs"),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_each_condition_holds_when_it_should_and_says_why(name):
    when, request, expected, said = TABLE[name]
    found = conditions(when)
    assert matches(found, request) is expected
    assert matcher(found)(request) is expected
    told = [condition.told(request) for condition in found]
    assert any(said in one for one in told) if said else not told
    assert all(condition.word.split(".")[0] in when for condition in found)


BROKEN = [
    Ask(api="chat", model="m", fields={name: msgspec.Raw(raw) for name in ("messages", "tools", "prompt", "metadata", "response_format")})
    for raw in (
        b"",
        b"{",
        b"null",
        b"7",
        b'"x"',
        b"[1,null]",
        b'[{"role":3}]',
        b'"\xff"',
        b"[" * 5000,
        b'[{"content":[{"type":null,"text":7}]}]',
    )
]


@pytest.mark.parametrize("request_", BROKEN, ids=lambda ask: bytes(ask.fields["tools"])[:20].decode("latin-1"))
def test_what_a_caller_gets_wrong_is_the_engines_to_refuse(request_):
    for when, _, _, _ in TABLE.values():
        for condition in conditions(when):
            assert condition.holds(request_) in (True, False, None)
            assert condition.told(request_)


@pytest.mark.parametrize("when", [when for name, (when, *_) in TABLE.items() if "content" in when])
def test_nothing_of_a_prompt_is_told(when):
    secret = "CANARY refund 退款 first abcdef 13812345678 vip-7"
    body = {**user(secret), "user": secret, "metadata": {"kind": secret, "tags": [secret]}, "prompt": secret, **TOOLS}
    for condition in conditions(when):
        assert "CANARY" not in condition.told(ask(body))


# -- lengths by bounds -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "bounds", "expected", "said"),
    [
        ({"over": 100}, (0, 100), False, "the prompt has 0 to 100 tokens: not over 100"),
        ({"over": 100}, (0, 101), None, "the prompt has 0 to 101 tokens: it has to be counted"),
        ({"over": 100}, (101, 500), True, "the prompt has 101 to 500 tokens: over 100"),
        ({"over": 100}, (100, 500), None, "it has to be counted"),
        ({"up_to": 100}, (0, 100), True, "the prompt has 0 to 100 tokens: not over 100"),
        ({"up_to": 100}, (101, 500), False, "the prompt has 101 to 500 tokens: over 100"),
        ({"over": 100, "up_to": 200}, (101, 200), True, "over 100 and not over 200"),
        ({"over": 100, "up_to": 200}, (201, 300), False, "over 200"),
        ({"over": 100, "up_to": 200}, (50, 100), False, "not over 100"),
        ({"over": 100, "up_to": 200}, (150, 250), None, "it has to be counted"),
    ],
)
def test_bounds_decide_where_they_can(limits, bounds, expected, said):
    (condition,) = conditions({"prompt_tokens": limits}, bounds=bounds)
    assert condition.holds(ask()) is expected
    assert said in condition.told(ask())


def test_what_is_far_too_short_is_not_looked_at():
    (condition,) = conditions({"prompt_tokens": {"over": 12_000}}, bounds=(20_000, 20_000))
    assert condition.holds(ask(size=1000)) is False and condition.holds(ask(size=1001)) is True


@given(over=st.integers(0, 50), width=st.integers(1, 50), least=st.integers(0, 120), spread=st.integers(0, 60), extra=st.integers(0, 60))
def test_bounds_never_contradict_the_count(over, width, least, spread, extra):
    limits = {"over": over, "up_to": over + width}
    tokens = least + min(extra, spread)
    by_bounds = matches(conditions({"prompt_tokens": limits}, bounds=(least, least + spread)), ask())
    assert by_bounds in (None, matches(conditions({"prompt_tokens": limits}), ask(tokens=tokens)))
    assert by_bounds is not None or spread > 0


def test_a_prompt_is_not_counted_when_another_condition_fails_anyway():
    cheap = {"prompt_tokens": {"over": 10}, "headers": {"x-env": "prod"}}
    dear = {"prompt_tokens": {"over": 10}, "content": {"words": "refund"}}
    for when, no, maybe in ((cheap, ask(), ask(headers={"x-env": "prod"})), (dear, ask(user("hi")), ask(user("refund")))):
        found = conditions(when, bounds=(5, 20))
        assert matches(found, no) is False
        assert matches(found, maybe) is None
    assert [condition.word for condition in conditions({**dear, **cheap, "api": "chat"})] == [
        "api",
        "headers.x-env",
        "prompt_tokens",
        "content",
    ]


# -- shares --------------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(percent=st.one_of(st.just(0.5), st.floats(1, 100)), salt=st.text(max_size=8))
def test_a_share_by_chance_is_exact_within_a_percent(percent, salt):
    found = matcher(conditions({"share": percent}, salt=salt))
    draws = 10_007  # a prime: whatever whole number they are stretched by, they stay as evenly spread
    held = sum(found(ask(luck=(number + 0.5) / draws)) is True for number in range(draws))
    assert abs(held * 100 / draws - percent) <= 1


@settings(max_examples=10, deadline=None)
@given(percent=st.floats(0.5, 100), salt=st.text(max_size=8))
def test_a_share_by_header_is_near_and_stays(percent, salt):
    share = {"share": {"percent": percent, "by": {"header": "X-User"}}}
    requests = [ask(headers={"x-user": f"user-{number}"}, luck=number / 10_000) for number in range(10_000)]
    found, again = matcher(conditions(share, salt=salt)), matcher(conditions(share, salt=salt))
    held = [found(one) for one in requests]
    assert abs(sum(one is True for one in held) / 100 - percent) <= 2.5  # users are drawn, not dealt: five standard deviations
    assert [again(one) for one in requests[:300]] == held[:300]


def test_who_is_in_stays_in_when_a_share_grows_and_workers_agree():
    def those(percent: float, salt: str = "qwen/trial") -> set[str]:
        found = conditions({"share": {"percent": percent, "by": "key"}}, salt=salt)
        return {f"k{number}" for number in range(2000) if matches(found, ask(key=f"k{number}", luck=0.99))}

    assert those(10) < those(20) < those(50)
    assert len(those(10) & those(10, "qwen/other")) < 60  # another rule draws anew: of 200 about 20
    assert sorted(those(0.5))[:4] == ["k1080", "k1166", "k1357", "k1465"]  # the same in every process, version and machine


def test_a_share_by_a_header_called_key_is_not_one_by_key():
    by_header = conditions({"share": {"percent": 50, "by": {"header": "key"}}}, salt="s")
    by_key = conditions({"share": {"percent": 50, "by": "key"}}, salt="s")
    for number in range(20):
        one, alone = (ask(headers={"key": "always the same"}, key=f"k{number}") for _ in range(2))
        matches(by_header, one)
        assert matches(by_key, one) == matches(by_key, alone)


def test_two_rules_do_not_pick_the_same_requests():
    first, second = conditions({"share": 10}, salt="qwen/a"), conditions({"share": 10}, salt="qwen/b")
    left = [one for number in range(10_000) if not matches(first, one := ask(luck=number / 10_000))]
    assert 0.085 < sum(matches(second, one) is True for one in left) / len(left) < 0.115


def test_patterns_of_many_rules_are_found_together_as_each_alone():
    patterns = ["^a", "b$", "(?i)refund.{0,3}card", "退款", "\\d{3}", "x*"]
    together = Together()
    rules = [conditions({"content": {"match": pattern}}, together=together) for pattern in patterns]
    for text in ("", "abc", "b", "REFUND my card", "我要退款 123", "line one\nab"):
        asked = ask(user(text))
        found = [matches(rule, asked) for rule in rules]
        assert found == [matches(conditions({"content": {"match": pattern}}), ask(user(text))) for pattern in patterns], text


def test_patterns_that_are_too_large_together_are_searched_one_by_one(monkeypatch):
    monkeypatch.setattr("gateway.config.regex._SET_MEMORY", 2000)
    together = Together()
    rules = [conditions({"content": {"match": f"refund{n}.{{0,9}}card"}}, together=together) for n in range(50)]
    asked = ask(user("refund7 to my card"))
    assert [n for n, rule in enumerate(rules) if matches(rule, asked)] == [7]


def test_a_header_that_is_missing_matches_no_pattern():
    together = Together()
    rules = [conditions({"headers": {"x-env": {"match": pattern}}}, together=together) for pattern in (".*", "^$", "prod")]
    assert [matches(rule, ask()) for rule in rules] == [False, False, False]
    assert [matches(rule, asked) for asked in [ask(headers={"X-Env": ""})] for rule in rules] == [True, True, False]
    assert [matches(rule, asked) for asked in [ask(headers={"X-Env": "prod-1"})] for rule in rules] == [True, False, True]


def test_what_rules_look_for_in_the_same_text_is_looked_for_once_a_request():
    looked = []

    def texts(asked):
        looked.append(asked)
        return [asked.last_user]

    together = Together()
    tests = [together.pattern("here", texts, f"word{n}") for n in range(5)]
    first, second = ask(user("word3")), ask(user("word4"))
    assert [test(first) for test in tests] == [False, False, False, True, False]
    assert [test(second) for test in tests] == [False, False, False, False, True]
    assert looked == [first, second]


# -- words ---------------------------------------------------------------------------------------------------------------

LETTERS = st.text("aAbBß退款İſ\u0301\U0001f600", max_size=30)
WORDS = st.lists(st.text("aAbBß退款İſ\u0301\U0001f600", min_size=1, max_size=4), min_size=1, max_size=FEW * 4)


@settings(max_examples=300)
@given(words=WORDS, text=LETTERS)
def test_words_are_found_as_a_plain_search_finds_them(words, text):
    assert finder(tuple(words))(text) == any(word in text for word in words)


@settings(max_examples=300)
@given(lists=st.lists(WORDS, min_size=1, max_size=6), text=LETTERS, fold=st.booleans())
def test_lists_of_words_are_found_together_as_each_alone(lists, text, fold):
    def fold_it(words: str) -> str:
        return words.casefold() if fold else words

    found = Lists([tuple(words) for words in lists], fold).found(text)
    assert found == {number for number, words in enumerate(lists) if any(fold_it(word) in fold_it(text) for word in words)}


def test_a_text_full_of_one_lists_words_hides_no_other():
    lists = Lists([("a",), ("last",), *((f"never{number}",) for number in range(20))], True)
    assert lists.found("a" * (MATCHES_MOST * 3) + " last") == {0, 1}
    assert lists.found("a" * (MATCHES_MOST * 3)) == {0}


def test_thousands_of_words_in_long_and_strange_texts():
    words = tuple(f"word{number}-退款{number}" for number in range(5000))
    one, other = Lists([words], True), Lists([words, ("nowhere",)], True)

    def found(text: str) -> bool:
        assert one.found(text) == other.found(text)
        return bool(one.found(text))

    text = "退款 word 🙂 \udcff" * 50_000
    assert not found(text) and found(text + "WORD4999-退款4999")
    assert Lists([()], True).found("anything") == {0} and finder(())("anything")


def test_a_hostile_pattern_takes_no_time():
    found = conditions({"content": {"match": "(a+)+(b+)+$"}})
    assert matches(found, ask(user("a" * 200_000 + "c"))) is False


def test_unknown_schedules_are_a_fault_of_ours():
    with pytest.raises(KeyError):
        conditions({"during": "nowhere"})

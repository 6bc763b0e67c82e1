"""Which requests allow another engine to go on with their answer, and what it is asked."""

from typing import Any

from gateway.engine.continuing import STOP_LONGEST, STOPS_MOST, continued, limit_of, may_continue, stops_of
from gateway.wire.openai import Fields, encode, parse_object, value_of

NOT_WITH: list[dict[str, Any]] = [
    {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
    {"response_format": {"type": "json_object"}},
    {"guided_regex": "a+"},
    {"structured_outputs": {"regex": "a+"}},
    {"logprobs": True},
    {"n": 2},
    {"echo": True},
]


def fields(**more: Any) -> Fields:
    return parse_object(encode({"messages": [{"role": "user", "content": "hi"}], **more}))


def test_which_requests() -> None:
    assert may_continue("chat", fields()) and may_continue("completions", fields(prompt="a"))
    assert may_continue("chat", fields(tools=[], n=1, logprobs=False, response_format={"type": "text"}, best_of=None))
    assert not may_continue("embeddings", fields()) and not may_continue("chat", fields(guided_json={}))
    for more in NOT_WITH:
        assert not may_continue("chat", fields(**more)), more
    for prompt in (["a", "b"], ["a"], [1, 2], None):
        assert not may_continue("completions", fields(prompt=prompt)), "one prompt's end is not the end of all"


def test_the_texts_that_end_an_answer() -> None:
    assert stops_of(fields()) == stops_of(fields(stop=None)) == stops_of(fields(stop=7)) == []
    assert stops_of(fields(stop="END")) == ["END"] and stops_of(fields(stop=["a", 1, None, "b"])) == ["a", "b"]
    assert len(stops_of(fields(stop=["a"] * 1000))) == STOPS_MOST and stops_of(fields(stop=["a" * (STOP_LONGEST + 1), "b"])) == ["b"]


def test_limits_and_what_cannot_be_asked() -> None:
    assert limit_of("chat", fields()) is None and limit_of("completions", fields()) == 16
    assert limit_of("chat", fields(max_tokens=9, max_completion_tokens=7)) == 7
    for nine in (9.0, "9", " 9 "):
        assert limit_of("chat", fields(max_tokens=nine, max_completion_tokens=None)) == 9, "engines take it for a number"
    assert limit_of("chat", fields(max_tokens=1e300)) is None
    wrong: list[dict[str, Any]] = [{"messages": []}, {"messages": "hi"}, {"messages": [{"role": "assistant", "content": "a"}]}]
    for more in wrong:
        assert continued("chat", fields(**more), "text", 1) is None
    for prompt in (["a"], [1, 2], None):
        assert continued("completions", fields(prompt=prompt), "text", 1) is None
    asked = continued("chat", fields(max_tokens=9), 'so "far"', 4)
    assert asked is not None and value_of(asked["messages"]) == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": 'so "far"'},
    ]
    assert value_of(asked["max_tokens"]) == 5
    texts = continued("chat", fields(max_tokens="9", min_tokens="6"), "text", 4)
    assert texts is not None and (value_of(texts["max_tokens"]), value_of(texts["min_tokens"])) == (5, 2)
    plain = continued("chat", fields(), "text", 4)
    assert plain is not None and "max_tokens" not in plain, "as many as there is room for"

"""JSON as callers and engines send it: parsed one level deep, refused with a place, counted without trust."""
# ruff: noqa: E501 - an engine's words are one line

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from gateway.wire.forms import Usage
from gateway.wire.openai import (
    MalformedJson,
    encode,
    error_body,
    error_event,
    json_string,
    number_of,
    parse_object,
    parse_request,
    prompts_in,
    value_of,
)
from gateway.wire.usage import usage_of

DEEP = 100_000


@pytest.mark.parametrize(
    ("body", "line", "column", "position", "what"),
    [
        (b'{"a":1,\n "b": x}', 2, 7, 14, "invalid character"),
        (b'{\n"a":1,\n  }', 3, 3, 11, "trailing comma in object"),
        (b'{"a":[1,]}', 1, 9, 8, "trailing comma in array"),
        (b'{"a":1} x', 1, 9, 8, "trailing characters"),
        (b'{"a":1}{"b":2}', 1, 8, 7, "trailing characters"),
        (b'{"a": "\xe4\xbd\xa0" x}', 1, 11, 12, ""),
        (b'{"a":', 1, 6, 5, "it ends too early"),
        (b"", 1, 1, 0, "it is empty"),
        (b" \n ", 1, 1, 0, "it is empty"),
        (b"[]", 1, 1, 0, "an object is expected, not array"),
        (b'\n "x"', 2, 2, 2, "an object is expected, not str"),
        (b"null", 1, 1, 0, "an object is expected, not null"),
        (b'\xef\xbb\xbf{"a":1}', 1, 1, 0, "it starts with a byte order mark"),
        (b'{"a":"\xff"}', 1, 7, 6, "it is not UTF-8"),
        (b'{"\xff":1}', 1, 3, 2, "it is not UTF-8"),
        (b'{"a":"\xed\xa0\x80"}', 1, 7, 6, "it is not UTF-8"),
        (b'{"a":"\xe4\xbd"}', 1, 7, 6, "it is not UTF-8"),
        (b'{"a":"' + b"x" * 70000 + b'\xff"}', 1, 70007, 70006, "it is not UTF-8"),
        (b'{"a":"' + b"x" * 65529 + b'\xe4\xbd"}', 1, 65536, 65535, "it is not UTF-8"),
        (b'{"a":' + b"[" * DEEP + b"]" * DEEP + b"}", 1, 1, 0, "it is nested too deeply"),
        (b'{"a":' * DEEP, 1, 1, 0, "it is nested too deeply"),
        (b'{"a":"\x01"}', 1, 7, 6, "invalid character"),
        (b'{"a":01}', 1, 7, 6, "invalid number"),
        (b"{'a':1}", 1, 2, 1, ""),
        (b'{"a":"\\ud83d"}', 1, 7, 6, "half of a surrogate pair"),
        (b'{"a":\n["\\ud83d\\ude00 \\\\ud83d \\udE00"]}', 2, 24, 29, "half of a surrogate pair"),
        (b'{"a":1,"\\uDC00":2}', 1, 9, 8, "half of a surrogate pair"),
        (b'{"a":"\\ud83d\\ud83d\\ude00"}', 1, 7, 6, "half of a surrogate pair"),
        (b'{"a":"\\ud83d","b":"a word"}', 1, 7, 6, "half of a surrogate pair"),
        (b'{"a":"\\\\ud83d"', 1, 15, 14, "it ends too early"),
    ],
)
def test_what_is_no_object_is_refused_with_its_place(body, line, column, position, what):
    with pytest.raises(MalformedJson) as caught:
        parse_object(body)
    no = caught.value
    assert (no.line, no.column, no.position) == (line, column, position)
    assert what in no.what and str(no) == f"invalid JSON at line {line} column {column}: {no.what}"


def test_an_object_is_parsed_one_level_deep_and_its_last_duplicate_wins():
    fields = parse_object(' {"model":"a","x":{"b": [1, 2]},"model":"你"}\n'.encode())
    assert {name: bytes(raw) for name, raw in fields.items()} == {"model": '"你"'.encode(), "x": b'{"b": [1, 2]}'}
    fields["model"] = json_string('v"')
    assert encode(fields) == b'{"model":"v\\"","x":{"b": [1, 2]}}'
    assert value_of(fields["x"]) == {"b": [1, 2]}


MANY = 100_001


def many_fields(*more: str) -> bytes:
    return ("{" + ",".join([f'"field-{number}":1' for number in range(MANY)] + list(more)) + "}").encode()


@pytest.mark.parametrize("more", [(), ('"messages":[{"role":"user"}]',), ('"prompt":"a:b:c"', '"input":"::"')])
def test_a_request_with_too_many_fields_is_refused_before_they_are_taken_apart(more):
    with pytest.raises(MalformedJson, match="it has too many fields"):
        parse_request(many_fields(*more))


@pytest.mark.parametrize(("broken", "what"), [(b"!", "trailing characters"), (b'{"x"}', "trailing characters")])
def test_one_that_is_no_json_either_is_refused_as_such(broken, what):
    with pytest.raises(MalformedJson, match=what):
        parse_request(many_fields() + broken)


@pytest.mark.parametrize("name", ["messages", "prompt", "input", "documents", "tools"])
def test_colons_inside_of_large_fields_are_no_fields(name):
    text = ":" * (1 << 20)
    fields = parse_request(encode({"model": "qwen", name: [{"text": text}] * 2}))
    assert list(fields) == ["model", name] and value_of(fields[name]) == [{"text": text}] * 2


@given(st.binary(max_size=60))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_parsed_or_refused(body):
    try:
        fields = parse_object(body)
    except MalformedJson:
        return
    assert isinstance(json.loads(body), dict) and encode(fields).decode()


def test_a_value_that_is_no_text_is_refused():
    with pytest.raises(MalformedJson):
        value_of(Raw(b'"\\ud800"'))


@pytest.mark.parametrize(
    ("raw", "usage"),
    [
        (b'{"prompt_tokens":5,"total_tokens":8,"completion_tokens":3}', Usage(5, 3, 8)),
        (b'{"prompt_tokens":0,"completion_tokens":0}', Usage(0, 0)),
        (b'{"prompt_tokens":5,"prompt_tokens_details":null,"completion_tokens_details":null,"reasoning_tokens":2}', Usage(5, reasoning=2)),
        (b'{"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":0},"reasoning_tokens":9}', Usage(None, None, None, 4, 0)),
        (b'{"prompt_tokens":-1,"completion_tokens":1.5,"total_tokens":"7"}', Usage()),
        (b'{"prompt_tokens":1e300,"completion_tokens":true,"total_tokens":99999999999999999999999}', Usage()),
        (b'{"prompt_tokens":1e999}', Usage()),
        (b'{"prompt_tokens":7,"prompt_tokens_details":[1]}', Usage(7)),
        (b"null", Usage()), (b"[]", Usage()), (b"{", Usage()), (b"", Usage()), (b"\xff", Usage()), (b'{"a":' * DEEP, Usage()),
    ],
)  # fmt: skip
def test_usage(raw, usage):
    assert usage_of(raw) == usage and usage_of(Raw(raw)) == usage


def test_errors_always_have_their_four_fields():
    assert json.loads(error_body("m", "t", None, None)) == {"error": {"message": "m", "type": "t", "param": None, "code": None}}
    assert error_event("m", "t", "p", "c") == b'data: {"error":{"message":"m","type":"t","param":"p","code":"c"}}\n\n'


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("7", 7), ("-7", -7), ("7.5", 7.5), ("4e3", 4000), ('"4000"', 4000), ('" 4e3 "', 4000), ('"\\u0037"', 7), ("9" * 400, 10**400 - 1),
        ("null", None), ("true", None), ('"many"', None), ('""', None), ("[7]", None), ("{}", None), ('"\\ud800"', None),
    ],
)  # fmt: skip
def test_numbers_as_engines_read_them(text, number):
    assert number_of(Raw(text.encode())) == number


@pytest.mark.parametrize(
    ("text", "prompts"),
    [('"one"', 1), ('["a"]', 1), ('["a", "b", "c"]', 3), ("[1, 2, 3]", 1), ("[[1, 2], [3]]", 2), ("[]", 1), ("null", 1), ("[{}, {}]", 1)],
)
def test_each_prompt_of_a_completion_counts(text, prompts):
    assert prompts_in(Raw(text.encode())) == prompts

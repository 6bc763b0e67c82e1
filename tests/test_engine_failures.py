"""What engines say when they fail, and what the caller hears of it."""
# ruff: noqa: E501 - an engine's words are one line

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.engine.failures import LONGEST, clean, retry_after
from gateway.engine.family import DIALECTS


def vllm(message, kind="BadRequestError", code=400, param=None):
    return json.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}})


def flat(message, kind="BadRequestError", code=400):
    return json.dumps({"object": "error", "message": message, "type": kind, "param": None, "code": code})


def llama(message):
    return json.dumps({"error": {"code": 500, "message": message, "type": "server_error"}})


def mindie(message, kind="Input Validation Error", key="error_type"):
    return json.dumps({"error": message, key: kind})


def ids(limit):
    return (
        f"Failed to enqueue inferRequest. This model's maximum input ids length cannot be greater than {limit},the input ids length is 5000"
    )


def fail(engine, status, body, headers=None):
    return DIALECTS[engine].failure(status, body if isinstance(body, bytes) else body.encode(), headers or {})


CONTEXT = "This model's maximum context length is 4096 tokens. However, "
OVERFLOWS = [
    (
        "vllm",
        400,
        flat(CONTEXT + "you requested 4150 tokens (4050 in the messages, 100 in the completion). Please reduce the length."),
        (4096, 4050, 100),
    ),
    (
        "vllm",
        400,
        vllm(
            "'max_tokens' or 'max_completion_tokens' is too large: 100. This model's maximum context length is 4096 tokens and your request has "
            "4050 input tokens (100 > 4096 - 4050)."
        ),
        (4096, 4050, 100),
    ),
    (
        "vllm",
        400,
        flat(CONTEXT + "you requested 5000 tokens in the messages, Please reduce the length of the messages."),
        (4096, 5000, None),
    ),
    (
        "vllm",
        400,
        vllm(CONTEXT + "your request has 5000 input tokens. Please reduce the length of the input messages."),
        (4096, 5000, None),
    ),
    (
        "vllm",
        400,
        vllm(
            CONTEXT + "you requested 100 output tokens and your prompt contains 4050 input tokens, for a total of 4150 tokens "
            "(4050 + 100 = 4150 > 4096). Please reduce the length of the input prompt or the number of requested output tokens."
        ),
        (4096, 4050, 100),
    ),
    (
        "vllm",
        400,
        vllm(
            CONTEXT
            + "your prompt contains 5000 input tokens, which exceeds this limit even without any output tokens. Please reduce the length of "
            "the input prompt. (parameter=input_tokens, value=5000)",
            param="input_tokens",
        ),
        (4096, 5000, None),
    ),
    (
        "vllm",
        400,
        vllm(CONTEXT + "your prompt contains at least 4097 input tokens, which exceeds this limit even without any output tokens."),
        (4096, 4097, None),
    ),
    (
        "vllm",
        400,
        vllm("max_tokens=9999 cannot be greater than max_model_len=4096. Please request fewer output tokens."),
        (4096, None, 9999),
    ),
    (
        "vllm",
        400,
        vllm(
            CONTEXT + "your prompt contains 99999 characters (more than 40960 characters, which is the upper bound for 4096 input tokens)."
        ),
        (4096, None, None),
    ),
    ("sglang", 400, flat("The input (5000 tokens) is longer than the model's context length (4096 tokens)."), (4096, 5000, None)),
    (
        "sglang",
        400,
        flat(
            "Requested token count exceeds the model's maximum context length of 4096 tokens. You requested a total of 5100 tokens: 5000 tokens from "
            "the input messages and 100 tokens for the completion. Please reduce the number of tokens."
        ),
        (4096, 5000, 100),
    ),
    (
        "sglang",
        400,
        flat("max_completion_tokens is too large: 9999.This model supports at most 4096 completion tokens."),
        (4096, None, 9999),
    ),
    ("mindie", 424, mindie(ids(2048), "Generation Error"), (2048, 5000, None)),
    ("mindie", 424, mindie(ids("maxPositionEmbeddings 32768"), "Generation Error", "type"), (32768, 5000, None)),
    ("mindie", 424, mindie(ids("maxSeqLen 2560"), "Generation Error"), (2560, 5000, None)),
    (
        "openai",
        400,
        '{"error":{"code":400,"message":"request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it",'
        '"type":"exceed_context_size_error","n_prompt_tokens":5000,"n_ctx":4096}}',
        (4096, 5000, None),
    ),
    (
        "openai",
        400,
        '{"error":{"code":400,"message":"too long","type":"exceed_context_size_error","n_prompt_tokens":50,"n_ctx":40}}',
        (40, 50, None),
    ),
    (
        "openai",
        400,
        '{"error":{"message":"Too long.","type":"invalid_request_error","code":"context_length_exceeded"}}',
        (None, None, None),
    ),
]


@pytest.mark.parametrize(("engine", "status", "body", "numbers"), OVERFLOWS)
def test_context_overflow_is_always_400_with_the_numbers(engine, status, body, numbers):
    no = fail(engine, status, body)
    assert (no.status, no.code, no.type, no.retryable, no.blame) == (
        400,
        "context_length_exceeded",
        "invalid_request_error",
        False,
        "caller",
    )
    assert no.param is None and no.upstream_status == status
    limit, prompt, completion = numbers
    assert limit is None or f"maximum context length is {limit} tokens" in no.message
    assert prompt is None or f"{prompt} in the prompt" in no.message
    assert completion is None or f"{completion} for the answer" in no.message


def test_a_prompt_too_long_to_be_counted_is_told_in_characters():
    """vLLM does not tokenise what cannot fit anyhow."""
    text = CONTEXT + "your prompt contains 99999 characters (more than 40960 characters, which is the upper bound for 4096 input tokens)."
    no = fail("vllm", 400, vllm(text))
    assert no.message == "This model's maximum context length is 4096 tokens, but the prompt has 99999 characters. Please shorten it."


CASES = [
    (
        "vllm",
        404,
        vllm("The model `x` does not exist. Valid aliases: qwen3.", "NotFoundError", 404, "model"),
        502,
        "upstream_model_missing",
        True,
        "engine",
    ),
    ("mindie", 422, mindie("Model not found"), 502, "upstream_model_missing", True, "engine"),
    ("mindie", 422, mindie("Got model X, but not found in server"), 502, "upstream_model_missing", True, "engine"),
    ("mindie", 404, mindie("Model x not found.", "NotFoundError"), 502, "upstream_model_missing", True, "engine"),
    ("vllm", 404, '{"detail":"Not Found"}', 502, "upstream_path_missing", True, "engine"),
    ("mindie", 404, "", 502, "upstream_path_missing", True, "engine"),
    ("vllm", 405, '{"detail":"Method Not Allowed"}', 502, "upstream_path_missing", True, "engine"),
    (
        "openai",
        501,
        '{"error":{"code":501,"message":"This server does not support reranking.","type":"not_supported_error"}}',
        502,
        "upstream_path_missing",
        True,
        "engine",
    ),
    *(
        (
            "openai",
            500,
            json.dumps({"error": {"code": 500, "message": words, "type": "server_error"}}),
            400,
            "invalid_request",
            False,
            "caller",
        )
        for words in (
            "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
            "Failed to parse messages: Missing 'role' in message: {}",
            "Failed to parse tools: Missing tool function: {}; tools = []",
        )
    ),
    ("vllm", 401, '{"error":"Unauthorized"}', 502, "upstream_auth", True, "engine"),
    ("vllm", 403, "no", 502, "upstream_auth", True, "engine"),
    ("vllm", 400, vllm("top_p must be in (0, 1], got 2."), 400, "invalid_request", False, "caller"),
    ("sglang", 400, flat("Tools cannot be empty if tool choice is set to required."), 400, "invalid_request", False, "caller"),
    ("mindie", 422, mindie("Parameter top_k must be in -1 || (0,2147483647], got 0"), 400, "invalid_request", False, "caller"),
    ("mindie", 422, mindie(json.dumps({"Error": "bad"})), 400, "invalid_request", False, "caller"),
    ("mindie", 413, '{"message":"Request body too large. Maximum allowed size is 40MB."}', 413, "request_too_large", False, "caller"),
    (
        "openai",
        400,
        '{"error":{"message":"no","type":"invalid_request_error","code":"unsupported_value"}}',
        400,
        "unsupported_value",
        False,
        "caller",
    ),
    (
        "vllm",
        503,
        vllm("The engine is currently busy and cannot accept new requests.", "x", 503),
        503,
        "upstream_overloaded",
        True,
        "engine",
    ),
    ("sglang", 503, flat("The request queue is full.", "503", 503), 503, "upstream_overloaded", True, "engine"),
    ("mindie", 503, mindie("The service has been stopped", "Service Unavailable"), 503, "upstream_unavailable", True, "engine"),
    ("mindie", 503, "MindIE-MS Coordinator is not ready\r\n", 503, "upstream_unavailable", True, "engine"),
    ("mindie", 429, "Too many requests\r\n", 429, "upstream_overloaded", True, "engine"),
    (
        "mindie",
        429,
        '{"error": {"message": "Memory limit exceeded", "type": "server_error", "code": 429}}',
        429,
        "upstream_overloaded",
        True,
        "engine",
    ),
    ("mindie", 500, mindie("Engine callback timeout: server e2eTimeout", "Incomplete Generation"), 504, "upstream_timeout", True, "engine"),
    (
        "mindie",
        500,
        mindie("Failed to enqueue inferRequest. Engine has been stopped.", "Incomplete"),
        502,
        "upstream_error",
        True,
        "engine",
    ),
    ("openai", 500, llama("image input is not supported - hint: if this is unexpected, …"), 400, "invalid_request", False, "caller"),
    ("openai", 500, llama("Failed to parse messages: Missing 'role' in message: {}"), 400, "invalid_request", False, "caller"),
    ("openai", 500, llama("Failed to parse its own answer"), 502, "upstream_error", True, "engine"),
    ("mindie", 500, "Server internal error", 502, "upstream_error", True, "engine"),
    ("mindie", 424, mindie("Other", "Generation Error"), 502, "upstream_error", True, "engine"),
    ("vllm", 504, '{"detail":"x"}', 504, "upstream_timeout", True, "engine"),
    ("vllm", 408, "", 504, "upstream_timeout", True, "engine"),
    ("vllm", 500, b"\xff\xfe", 502, "upstream_error", True, "engine"),
    ("vllm", 302, "", 502, "upstream_error", True, "engine"),
]


@pytest.mark.parametrize(("engine", "status", "body", "told", "code", "retryable", "blame"), CASES)
def test_every_engines_words_become_openais(engine, status, body, told, code, retryable, blame):
    no = fail(engine, status, body)
    assert (no.status, no.code, no.retryable, no.blame, no.upstream_status) == (told, code, retryable, blame, status)
    assert no.reason == f"status_{status}" and no.message
    assert no.type == {400: "invalid_request_error", 413: "invalid_request_error", 429: "rate_limit_error"}.get(told, "server_error")
    assert "MindIE" not in no.message and "qwen3" not in no.message


def test_validation_details_are_kept():
    body = '{"detail":[{"type":"missing","loc":["body","messages"],"msg":"Field required","input":{}}]}'
    assert fail("vllm", 422, body).message == "body.messages: Field required"
    no = fail("vllm", 400, vllm("1 validation error:\n  {'loc': 'body.messages'}", "Bad Request", param="body.messages"))
    assert no.param == "messages" and "body.messages" in no.message
    assert fail("mindie", 422, mindie(json.dumps({"Error": "bad"}))).message == "bad"


def test_every_code_and_every_dialect_is_in_the_docs():
    docs = (Path(__file__).parents[1] / "docs/engines.md").read_text()
    words = {code for _, _, _, _, code, _, _ in CASES if code != "unsupported_value"} | {"context_length_exceeded"} | DIALECTS.keys()
    assert not [word for word in words if f"`{word}`" not in docs]


@pytest.mark.parametrize("engine", DIALECTS)
def test_errors_in_a_stream(engine):
    read = DIALECTS[engine].event_failure
    full = read(
        {"error": {"object": "error", "message": "The request queue is full.", "type": "SERVICE_UNAVAILABLE", "param": None, "code": 503}}
    )
    assert (full.status, full.code, full.retryable, full.reason) == (503, "upstream_overloaded", True, "stream_error")
    assert read({"error": {"message": "x", "type": "SERVICE_UNAVAILABLE"}}).status == 503
    died = read({"error": {"message": "EngineCore encountered an issue. See stack trace.", "type": "InternalServerError", "code": 500}})
    assert (died.status, died.code, died.message) == (502, "upstream_error", "engine encountered an issue. See stack trace.")
    assert read({"error": {"message": CONTEXT + "your request has 5000 input tokens", "code": 400}}).code == "context_length_exceeded"
    for odd in (
        {"error": True},
        {"error": [1]},
        {"error": {"message": {"a": 1}, "code": "x", "param": 5}},
        {},
        {"error": {"code": 10**30}},
    ):
        assert read(odd).status == 502


def test_bare_text_in_a_stream():
    read = DIALECTS["mindie"].text_failure
    for text in (
        b"Engine callback timeout: server tokenTimeout",
        b"Engine callback timeout: server e2eTimeout",
        b"Engine callback timeout.",
    ):
        late = read(text)
        assert late is not None
        assert (late.status, late.code, late.reason, late.message) == (504, "upstream_timeout", "stream_error", "The engine took too long")
        assert late.retryable and late.blame == "engine"
    died = read(b"Failed to get engine response")
    assert died is not None and (died.status, died.code, died.message) == (502, "upstream_error", "Failed to get engine response")
    assert read(b"") is None and read(b"\xff<html>") is None and read(b"so they said: Engine callback timeout") is None
    assert all(dialect.text_failure(b"Engine callback timeout") is None for name, dialect in DIALECTS.items() if name != "mindie")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"Retry-After": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1e300"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers, seconds):
    assert retry_after(headers) == seconds
    assert fail("vllm", 503, "", headers).retry_after == seconds


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("open /usr/lib/python3/site-packages/vllm/engine.py failed", "open <path> failed"),
        ("see https://10.0.0.5:8000/docs for more", "see <address> for more"),
        ("cannot reach 10.0.0.5:8000 now", "cannot reach <address> now"),
        ("cannot reach [fd00::1]:8000", "cannot reach <address>"),
        ("peer node-3.lab.local:5557 is gone", "peer <address> is gone"),
        (r"no C:\models\qwen", "no <path>"),
        ("vLLM and SGLang and MindIE-MS and llama.cpp", "engine and engine and engine and engine"),
        ("The model `x` does not exist. Valid aliases: qwen3, secret.", "The model `x` does not exist."),
        ("top_p must be in (0, 1], got 2.5; use and/or 1/2", "top_p must be in (0, 1], got 2.5; use and/or 1/2"),
        ("bad\nTraceback (most recent call last):\n  File x", "bad"),
        ("a\x00b\x1b[31m", "ab[31m"),
        ("<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<center>nginx/1.25</center>", ""),
        ("<!DOCTYPE html><p>no", ""),
        ("<|im_start|> is no role", "<|im_start|> is no role"),
    ],
)
def test_messages_are_cleaned_and_stay_useful(message, told):
    assert clean(message) == told


@pytest.mark.parametrize("body", [b"", b'data: {"choices":[{"delta":{"content":"secret"}}]}\n\n', b'{"message":"secret"}'])
def test_a_success_that_is_none_here_never_shows_what_it_says(body):
    told = DIALECTS["vllm"].failure(201, body, {})
    assert (told.status, told.code, told.retryable, told.upstream_status) == (502, "upstream_error", True, 201)
    assert told.message == "The engine answered with a status that nothing asked for"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_named(status):
    told = fail("openai", status, "<html><body>Moved</body></html>", {"location": "http://10.0.0.9/v1"})
    assert (told.status, told.code, told.retryable, told.reason) == (502, "upstream_error", True, f"status_{status}")
    assert "redirects elsewhere, which is not followed" in told.message


def test_long_messages_are_cut():
    assert clean("x " * 5000) == ("x " * 5000)[:LONGEST] + "…"


@pytest.mark.parametrize("size", range(1, 20))
def test_a_long_message_is_not_cut_in_the_middle_of_a_name(size):
    """Half of the model's own name at the engine would be replaced by nobody."""
    before = "." * (LONGEST - size - 1) + " "
    assert clean(before + "secret-org/model_a:v1" + " " * LONGEST + "x") == before + "…"
    assert len(clean("x" * 2 * LONGEST)) > LONGEST / 2, "what is longer than any name is cut somewhere"


@given(st.binary(max_size=200), st.integers(300, 599))
@settings(max_examples=100, deadline=None)
def test_any_answer_is_some_failure(body, status):
    for dialect in DIALECTS.values():
        assert dialect.failure(status, body, {}).status in (400, 413, 429, 502, 503, 504)

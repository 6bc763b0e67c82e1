"""Who answers at an address, from a few answers."""
# ruff: noqa: E501 - an engine's words are one line

import pytest

from gateway.engine.base import ModelFacts
from gateway.engine.detect import QUESTIONS, detect, enough
from tests.fixtures.engines import MODELS

UVICORN = {"server": "uvicorn"}
MINDIE = {"requestuuid": "0123", "starttime": "1"}
GENERIC = b'{"object":"list","data":[{"id":"m","object":"model","owned_by":"me"}]}'


def ok(body, headers=UVICORN):
    return (200, headers, body.encode() if isinstance(body, str) else body)


@pytest.mark.parametrize(
    ("seen", "engine", "version", "evidence"),
    [
        ({"models": ok(MODELS["vllm"])}, "vllm", None, "owned_by is 'vllm'"),
        ({"models": ok(MODELS["sglang"])}, "sglang", None, "owned_by is 'sglang'"),
        ({"models": ok(MODELS["mindie"], MINDIE)}, "mindie", None, "owned_by is 'MindIE Server'"),
        ({"models": ok(MODELS["motor"])}, "vllm", None, "owned_by is 'motor'"),
        ({"models": ok(MODELS["llama.cpp"])}, "openai", None, "owned_by is 'llamacpp'"),
        ({"models": (503, UVICORN, b""), "version": ok('{"version":"0.33.0"}')}, "vllm", "0.33.0", "/version"),
        (
            {"models": ok(GENERIC), "version": ok('{"version":"0.33.0"}'), "server_info": ok('{"version":"0.5"}')},
            "vllm", "0.33.0", "/version: names a version",
        ),
        ({"models": ok(GENERIC), "version": (404, UVICORN, b"{}"), "server_info": ok('{"version":"0.5.23"}')}, "sglang", "0.5.23", "/server_info"),
        ({"get_server_info": ok('{"version":"0.4"}')}, "sglang", "0.4", "/get_server_info"),
        ({"v2": ok('{"name":"MindIE Server","version":"1.0.0"}', MINDIE)}, "mindie", "1.0.0", "/v2"),
        ({"unknown": (404, MINDIE, b"")}, "mindie", None, "RequestUUID"),
        ({"unknown": (404, {"server": "MindIE-MS"}, b"")}, "mindie", None, "MindIE-MS"),
        ({"management": ok('{"service":"Motor Coordinator Server"}')}, "vllm", None, "Motor Coordinator Server"),
        ({"models": ok(GENERIC), "version": (404, UVICORN, b"{}")}, "openai", None, "generic openai"),
        ({"models": "tlsv13 alert certificate required"}, None, None, "client certificate"),
        ({"models": "connection refused"}, None, None, "/v1/models: connection refused"),
        ({"models": ok("<html>")}, None, None, "no model list"),
        ({}, None, None, ""),
    ],
)  # fmt: skip
def test_the_engine_is_told_by_its_answers(seen, engine, version, evidence):
    found = detect(seen)
    assert (found.engine, found.version) == (engine, version)
    assert evidence in "\n".join(found.evidence)


def test_the_models_come_along_and_a_named_owner_is_enough():
    assert detect({"models": ok(MODELS["vllm"])}).models == [ModelFacts("qwen3", "vllm", 40960)]
    assert enough({"models": ok(MODELS["vllm"])}) and not enough({"models": ok(GENERIC)}) and not enough({})


def test_no_question_does_anything():
    assert [question.name for question in QUESTIONS][:3] == ["models", "version", "server_info"]
    assert not {question.path for question in QUESTIONS} & {"/stopService", "/health_generate", "/flush_cache"}

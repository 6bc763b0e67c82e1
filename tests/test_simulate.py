"""The simulators against the recorded fixtures: the same keys in the same order, byte for byte once ids are masked."""

# ruff: noqa: E501 - fixtures stand as they were recorded

import io
import re

import aiohttp
import pytest

from gateway.simulate.settings import Kind
from gateway.simulate.simulator import Simulator, start

HI = [{"role": "user", "content": "Hi"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}}
MASKS = (
    (r'"id":"[^"]*"', '"id":"ID"'),
    (r'"created":\d+', '"created":0'),
    (r'("\w*tokens"):\d+', r"\1:0"),
    (r'"(content|arguments|reasoning|reasoning_content|name|root)":"(?:[^"\\]|\\.)+"', r'"\1":"X"'),
    (r'"model":"[^"]*"', '"model":"M"'),
)


def masked(text: str) -> str:
    for pattern, instead in MASKS:
        text = re.sub(pattern, instead, text)
    return text


async def post(simulator: Simulator, path: str, body: object, **headers: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.post(simulator.url + path, json=body, headers=headers) as answer:
        return answer.status, await answer.text()


async def get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


async def chat(simulator: Simulator, **fields: object) -> tuple[int, str]:
    return await post(simulator, "/v1/chat/completions", {"model": "qwen3", "messages": HI, **fields})


VLLM_WHOLE = """{"id":"chatcmpl-8f0c6a2be1c14e6f9d7c4a2b1f0e9d8c","object":"chat.completion","created":1764000000,"model":"qwen3","choices":[{"index":0,"message":{"role":"assistant","content":"Hi","refusal":null,"annotations":null,"audio":null,"function_call":null,"reasoning":null},"logprobs":null,"finish_reason":"stop","stop_reason":null,"token_ids":null,"routed_experts":null,"weight_versions":null}],"service_tier":null,"system_fingerprint":"vllm-0.33.0-3f2a1b9c","usage":{"prompt_tokens":5,"total_tokens":8,"completion_tokens":3,"prompt_tokens_details":null,"completion_tokens_details":null},"prompt_logprobs":null,"prompt_token_ids":null,"prompt_text":null,"kv_transfer_params":null,"ec_transfer_params":null,"metrics":null}"""
VLLM_STREAM = """data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1764000000,"model":"qwen3","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"prompt_token_ids":null,"prompt_text":null}

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1764000000,"model":"qwen3","choices":[{"index":0,"delta":{"content":"Hi"},"logprobs":null,"finish_reason":null,"token_ids":null}],"kv_transfer_params":null}

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1764000000,"model":"qwen3","choices":[{"index":0,"delta":{"content":""},"logprobs":null,"finish_reason":"stop","stop_reason":null,"token_ids":null,"weight_versions":null}],"kv_transfer_params":null}

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1764000000,"model":"qwen3","choices":[],"usage":{"prompt_tokens":5,"total_tokens":8,"completion_tokens":3},"system_fingerprint":"vllm-0.33.0-3f2a1b9c"}

data: [DONE]

"""
VLLM_OLD_WHOLE = """{"id":"chatcmpl-63fad601fc4a43bab8ac355b2fbaec04","object":"chat.completion","created":1758267015,"model":"deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B","choices":[{"index":0,"message":{"role":"assistant","reasoning_content":"Alright","content":"Hello! How can I assist you today?","tool_calls":[]},"logprobs":null,"finish_reason":"stop","stop_reason":null}],"usage":{"prompt_tokens":6,"total_tokens":87,"completion_tokens":81,"prompt_tokens_details":null},"prompt_logprobs":null,"kv_transfer_params":null}"""
SGLANG_WHOLE = """{"id":"9b0f2f4a7b2e4d3f8a6d1c0e5f4b3a29","object":"chat.completion","created":1764000000,"model":"qwen3","choices":[{"index":0,"message":{"role":"assistant","content":"Hi","reasoning_content":null},"logprobs":null,"finish_reason":"stop","matched_stop":151645}],"usage":{"prompt_tokens":5,"total_tokens":8,"completion_tokens":3,"prompt_tokens_details":null,"reasoning_tokens":0,"completion_tokens_details":null},"metadata":{"weight_version":"default"}}"""
SGLANG_HEAD = """data: {"id":"9b0f2f4a7b2e4d3f8a6d1c0e5f4b3a29","object":"chat.completion.chunk","created":1764000000,"model":"qwen3","choices":[{"index":0,"delta":{"reasoning_content":null,"role":"assistant","content":""},"logprobs":null,"finish_reason":null,"matched_stop":null}]}

"""
SGLANG_TEXT = """data: {"id":"9b0f","object":"chat.completion.chunk","created":1764000000,"model":"qwen3","choices":[{"index":0,"delta":{"reasoning_content":null,"content":"Hi"},"logprobs":null,"finish_reason":null,"matched_stop":null}]}

"""
SGLANG_TOOL = """data: {"id":"9b0f","object":"chat.completion.chunk","created":1764000000,"model":"qwen3","choices":[{"index":0,"delta":{"role":null,"content":null,"reasoning_content":null,"tool_calls":[{"id":"call_ab12","index":0,"type":"function","function":{"name":"f","arguments":""}}]},"logprobs":null,"finish_reason":null,"matched_stop":null}],"usage":null}

data: {"id":"9b0f","object":"chat.completion.chunk","created":1764000000,"model":"qwen3","choices":[{"index":0,"delta":{"role":null,"content":null,"reasoning_content":null,"tool_calls":[{"id":null,"index":0,"type":"function","function":{"name":null,"arguments":"{\\"a\\": 1}"}}]},"logprobs":null,"finish_reason":null,"matched_stop":null}],"usage":null}

"""
SGLANG_TAIL = """data: {"id":"9b0f","object":"chat.completion.chunk","created":1764000000,"model":"qwen3","choices":[{"index":0,"delta":{"reasoning_content":null},"logprobs":null,"finish_reason":"stop","matched_stop":151645}]}

data: {"id":"9b0f","object":"chat.completion.chunk","created":1764000000,"model":"qwen3","choices":[],"usage":{"prompt_tokens":5,"total_tokens":8,"completion_tokens":3,"prompt_tokens_details":null,"reasoning_tokens":0,"completion_tokens_details":null}}

data: [DONE]

"""
MINDIE_WHOLE = """{"id":"endpoint_common_10","object":"chat.completion","created":1775112196,"model":"qwen3-32b","choices":[{"index":0,"message":{"role":"assistant","content":"Hello! How can I help?","tool_calls":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":22,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens":35,"completion_tokens_details":{"reasoning_tokens":0},"total_tokens":57}}"""
MINDIE_TOOL = """{"id":"endpoint_common_8","object":"chat.completion","created":1775112196,"model":"qwen3-32b","choices":[{"index":0,"message":{"role":"assistant","content":"","tool_calls":[{"function":{"arguments":"{\\"order_id\\": \\"999888\\"}","name":"get_delivery_date"},"id":"call_JwmTNF3O","type":"function"}]},"logprobs":null,"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":226,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens":122,"total_tokens":348}}"""
MINDIE_STREAM = """data: {"id":"endpoint_common_10","object":"chat.completion.chunk","created":1775112196,"model":"qwen3-32b","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}

data: {"id":"endpoint_common_10","object":"chat.completion.chunk","created":1775112196,"model":"qwen3-32b","choices":[{"index":0,"delta":{"role":"assistant","content":"Hel"},"logprobs":null,"finish_reason":null}]}

data: {"id":"endpoint_common_10","object":"chat.completion.chunk","created":1775112197,"model":"qwen3-32b","usage":{"prompt_tokens":24,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens":5,"total_tokens":29},"choices":[{"index":0,"delta":{"role":"assistant","content":"lo"},"logprobs":null,"finish_reason":"length"}]}

data: [DONE]

"""
MINDIE_MODELS = """{
    "data": [
        {
            "id": "qwen3-32b",
            "object": "model",
            "owned_by": "MindIE Server",
            "parent": "null",
            "root": "qwen3-32b"
        }
    ],
    "object": "list"
}"""
VLLM_MODELS = """{"object":"list","data":[{"id":"qwen3","object":"model","created":1764000000,"owned_by":"vllm","root":"/models/Qwen3-8B","parent":null,"max_model_len":40960,"permission":[{"id":"modelperm-0b1f","object":"model_permission","created":1764000000,"allow_create_engine":false,"allow_sampling":true,"allow_logprobs":true,"allow_search_indices":false,"allow_view":true,"allow_fine_tuning":false,"organization":"*","group":null,"is_blocking":false}]}]}"""
SGLANG_MODELS = """{"object":"list","data":[{"id":"qwen3","object":"model","created":1764000000,"owned_by":"sglang","root":"qwen3","parent":null,"max_model_len":40960}]}"""

USAGE = {"stream": True, "stream_options": {"include_usage": True}}
SHAPES = [
    ("vllm", "", "", {}, VLLM_WHOLE),
    ("vllm", "", "", USAGE, VLLM_STREAM),
    ("vllm", "0.9.2", "field", {}, VLLM_OLD_WHOLE),
    ("sglang", "", "", {}, SGLANG_WHOLE),
    ("sglang", "", "", USAGE, SGLANG_HEAD + SGLANG_TEXT + SGLANG_TAIL),
    ("mindie", "", "", {}, MINDIE_WHOLE),
    ("mindie", "", "", {"tools": [TOOL], "tool_choice": "required"}, MINDIE_TOOL),
    ("mindie", "", "", {"stream": True, "max_tokens": 2, "ignore_eos": True}, MINDIE_STREAM),
]


@pytest.mark.parametrize(("kind", "version", "reasoning", "fields", "fixture"), SHAPES)
async def test_answers_are_the_fixtures_byte_for_byte(kind, version, reasoning, fields, fixture) -> None:
    async with await start(kind, version=version, reasoning=reasoning, reply_tokens=1) as simulator:
        status, text = await chat(simulator, **fields)
    assert status == 200
    assert masked(text) == masked(fixture)


async def test_sglang_streams_a_tool_call_with_its_nulls() -> None:
    async with await start("sglang") as simulator:
        _, text = await chat(simulator, stream=True, tools=[TOOL], tool_choice="required")
    events = masked(text).split("\n\n")
    head, first, argument = masked(SGLANG_HEAD + SGLANG_TOOL).strip().split("\n\n")
    assert events[:3] == [head, first, argument]
    assert '"finish_reason":"tool_calls"' in events[-3]


async def test_vllm_and_mindie_stream_tool_calls_in_their_own_deltas() -> None:
    async with await start("vllm") as simulator:
        _, text = await chat(simulator, stream=True, tools=[TOOL], tool_choice={"type": "function", "function": {"name": "f"}})
    assert re.search(
        r'"delta":\{"tool_calls":\[\{"id":"chatcmpl-tool-\w+","type":"function","index":0,"function":\{"name":"f"\}\}\]\}', text
    )
    assert '"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\\"a\\":"}}]}' in text
    async with await start("mindie") as simulator:
        _, text = await chat(simulator, stream=True, tools=[TOOL], messages=[{"role": "user", "content": "call f now"}])
    head = r'"delta":\{"role":"assistant","tool_calls":\[\{"id":"call_\w{8}","type":"function","index":0,"function":\{"name":"f"\}\}\]\}'
    assert re.search(head, text)
    assert '"delta":{"role":"assistant","tool_calls":[{"index":0,"function":{"arguments":"{\\"a\\":"}}]}' in text
    assert '"finish_reason":"tool_calls"' in text


@pytest.mark.parametrize(
    ("kind", "model", "fixture"),
    [("vllm", "qwen3", VLLM_MODELS), ("sglang", "qwen3", SGLANG_MODELS), ("mindie", "qwen3-32b", MINDIE_MODELS)],
)
async def test_model_lists_are_the_fixtures(kind, model, fixture) -> None:
    async with await start(kind, model=model, max_model_len=40960) as simulator:
        assert masked((await get(simulator.url + "/v1/models"))[1]) == masked(fixture)


@pytest.mark.parametrize(
    ("version", "fields"), [("0.9.2", {"reasoning_content"}), ("0.11.0", {"reasoning_content"}), ("0.13.0", {"reasoning", "reasoning_content"}),
                            ("0.18.0", {"reasoning"}), ("0.33.0", {"reasoning"})]
)  # fmt: skip
async def test_vllm_names_reasoning_by_its_era(version, fields) -> None:
    async with await start("vllm", version=version, reasoning="field") as simulator:
        _, whole = await chat(simulator)
        _, stream = await chat(simulator, stream=True)
    for text in (whole, stream):
        assert set(re.findall(r'"(reasoning|reasoning_content)":"', text)) == fields


LONG = [{"role": "user", "content": "word " * 30}]
VLLM_ERRORS = [
    ("0.33.0", {"model": "x"}, 404, """{"error":{"message":"The model `x` does not exist. Valid aliases: qwen3.","type":"NotFoundError","param":"model","code":404}}"""),
    ("0.18.0", {"model": "x"}, 404, """{"error":{"message":"The model `x` does not exist.","type":"NotFoundError","param":"model","code":404}}"""),
    ("0.9.2", {"model": "x"}, 404, """{"object":"error","message":"The model `x` does not exist.","type":"NotFoundError","param":"model","code":404}"""),
    ("0.33.0", {"messages": LONG}, 400, """{"error":{"message":"This model's maximum context length is 20 tokens. However, your prompt contains 34 input tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input prompt. (parameter=input_tokens, value=34)","type":"BadRequestError","param":"input_tokens","code":400}}"""),
    ("0.18.0", {"messages": LONG}, 400, "This model's maximum context length is 20 tokens. However, your request has 34 input tokens. Please reduce the length of the input messages."),
    ("0.18.0", {"max_tokens": 100}, 400, "However, you requested 100 output tokens and your prompt contains 4 input tokens, for a total of 104 tokens (4 + 100 = 104 > 20). Please reduce the length of the input prompt or the number of requested output tokens."),
    ("0.11.0", {"max_tokens": 100}, 400, "'max_tokens' or 'max_completion_tokens' is too large: 100. This model's maximum context length is 20 tokens and your request has 4 input tokens (100 > 20 - 4)."),
    ("0.9.2", {"max_tokens": 100}, 400, "This model's maximum context length is 20 tokens. However, you requested 104 tokens (4 in the messages, 100 in the completion). Please reduce the length of the messages or completion."),
    ("0.33.0", {"messages": None}, 400, """{"error":{"message":"1 validation error:"""),
    ("0.33.0", {"messages": []}, 400, "`messages` must not be empty."),
    ("0.33.0", {"stream_options": {"include_usage": True}}, 400, "Stream options can only be defined"),
    ("0.33.0", {"tools": []}, 400, '"type":"Bad Request"'),
    ("0.33.0", {"tool_choice": "auto"}, 400, '"type":"Bad Request"'),
    ("0.33.0", {"top_logprobs": 2}, 400, '"type":"Bad Request"'),
]  # fmt: skip


@pytest.mark.parametrize(("version", "fields", "status", "text"), VLLM_ERRORS)
async def test_vllm_errors(version, fields, status, text) -> None:
    async with await start("vllm", version=version, max_model_len=20) as simulator:
        assert (await chat(simulator, **fields))[0] == status
        assert (
            text in (await chat(simulator, **fields, stream=True) if "stream_options" not in fields else await chat(simulator, **fields))[1]
        )


SGLANG_ERRORS = [
    ({"messages": LONG}, """{"object":"error","message":"The input (34 tokens) is longer than the model's context length (20 tokens).","type":"BadRequestError","param":null,"code":400}"""),
    ({"max_tokens": 18}, """{"object":"error","message":"Requested token count exceeds the model's maximum context length of 20 tokens. You requested a total of 22 tokens: 4 tokens from the input messages and 18 tokens for the completion. Please reduce the number of tokens in the input messages or the completion to fit within the limit.","type":"BadRequestError","param":null,"code":400}"""),
    ({"max_completion_tokens": 9999}, """{"object":"error","message":"max_completion_tokens is too large: 9999.This model supports at most 20 completion tokens.","type":"BadRequestError","param":null,"code":400}"""),
    ({"tool_choice": "required"}, """{"object":"error","message":"Tools cannot be empty if tool choice is set to required.","type":"BadRequestError","param":null,"code":400}"""),
    ({"messages": 3}, '"type":"Bad Request","param":null,"code":400}'),
    ({"messages": []}, """{"object":"error","message":"Messages cannot be empty.","type":"BadRequestError","param":null,"code":400}"""),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "text"), SGLANG_ERRORS)
async def test_sglang_errors_are_flat_and_come_before_a_stream_opens(fields, text) -> None:
    async with await start("sglang", max_model_len=20) as simulator:
        for stream in (False, True):
            status, found = await chat(simulator, **fields, stream=stream)
            assert status == 400
            assert text in found


WRONG_TYPES = [
    ({"tools": 5}, "list_type", "body.tools"),
    ({"tools": [5]}, "dict_type", "body.tools.0"),
    ({"tools": [{"type": "function"}]}, "missing", "body.tools.0.function"),
    ({"tools": [{"type": "function", "function": {"name": 5}}]}, "string_type", "body.tools.0.function.name"),
    ({"messages": "hi"}, "list_type", "body.messages"),
    ({"messages": ["hi"]}, "dict_type", "body.messages.0"),
    ({"messages": [{"content": "hi"}]}, "missing", "body.messages.0.role"),
    ({"messages": [{"role": 5, "content": "hi"}]}, "string_type", "body.messages.0.role"),
    ({"messages": [{"role": "user", "content": 5}]}, "string_type", "body.messages.0.content"),
    ({"max_tokens": "many"}, "int_type", "body.max_tokens"),
    ({"n": 1.5}, "int_type", "body.n"),
    ({"temperature": "hot"}, "float_type", "body.temperature"),
    ({"stream": "maybe"}, "bool_type", "body.stream"),
    ({"stream": 2}, "bool_type", "body.stream"),
    ({"stop": 5}, "string_type", "body.stop.str"),
    ({"tool_choice": 5}, "string_type", "body.tool_choice.str"),
    ({"response_format": "json"}, "dict_type", "body.response_format"),
    ({"stream_options": []}, "dict_type", "body.stream_options"),
    ({"model": 5}, "string_type", "body.model"),
]


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
@pytest.mark.parametrize(("fields", "mistake", "place"), WRONG_TYPES)
async def test_fastapi_refuses_wrong_types(kind, fields, mistake, place) -> None:
    async with await start(kind) as simulator:
        status, text = await chat(simulator, **fields)
    assert status == 400 and '"type":"Bad Request"' in text
    assert f"{{'type': '{mistake}', 'loc': '{place}'," in text
    assert (f'"param":"{place}"' in text) == (kind == "vllm")


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
@pytest.mark.parametrize("fields", [{"temperature": "0.5"}, {"n": 1.0}, {"stream": 0}, {"stop": None, "tools": None}, {"tools": [TOOL]}])
async def test_fastapi_is_as_lax_as_pydantic(kind, fields) -> None:
    async with await start(kind) as simulator:
        assert (await chat(simulator, **fields))[0] == 200


async def test_sglang_serves_any_model_name_and_echoes_it() -> None:
    async with await start("sglang") as simulator:
        status, text = await chat(simulator, model="never-heard-of")
        assert status == 200
        assert '"model":"never-heard-of"' in text


INVALID = "Input Validation Error"
MINDIE_ERRORS = [
    ({"model": "x"}, 422, "Model not found", INVALID),
    ({"top_k": 0}, 422, "Parameter top_k must be in -1 || (0,2147483647], got 0", INVALID),
    ({"temperature": -1}, 422, "Parameter temperature must be in (0.0,3.40282e+38], got -1.", INVALID),
    ({"top_p": 0.0}, 422, "Parameter top_p must be in (0.0,1.0], got 0.0.", INVALID),
    ({"repetition_penalty": 3}, 422, "Parameter 'repetition_penalty' must be in (0.0, 2], got 3.", INVALID),
    ({"presence_penalty": 3}, 422, "Parameter presence_penalty not in [-2.0, 2.0], but got 3.", INVALID),
    ({"max_tokens": 0}, 422, "Parameter max_tokens must be (0,2147483647], got 0", INVALID),
    ({"top_logprobs": 21}, 422, "Parameter top logprobs must be in [0, 20], got 21.", INVALID),
    ({"seed": -1}, 422, "seed must be unsigned type.", INVALID),
    ({"stream": "yes"}, 422, "stream must be boolean type.", INVALID),
    ({"tools": [TOOL], "messages": [{"role": "developer", "content": "x"}]}, 422,
     "Request param contains role must be system, assistant, user or tool", INVALID),
    ({"messages": [{"role": "user", "content": None}]}, 422, "Request param contains not content or content null", INVALID),
    ({"tools": [TOOL], "messages": [{"role": "user", "content": ""}]}, 422, "Request param content len should not be 0", INVALID),
    ({"messages": []}, 422, "Messages token length must be in (0, 1048576], but got 0. This could be caused by invalid input format or "
     "empty content.", INVALID),
    ({"tool_choice": "any"}, 422, "Parameter tool_choice string not in [none, auto, required]", INVALID),
    ({"tools": 5}, 422, "tools must be array type.", INVALID),
    ({"tools": []}, 422, "tools must be array type.", INVALID),
    ({"tools": [{**TOOL, "function": {"name": "no spaces"}}]}, 422, "Request param contains tool function name invalid", INVALID),
    ({"tools": [5]}, 422, "Request param contains tool function name invalid", INVALID),
    ({"tool_choice": 5}, 422, "tool_choice must be string type.", INVALID),
    ({"stop": 5}, 422, "stop must be string type.", INVALID),
    ({"messages": LONG}, 424, "Failed to enqueue inferRequest. This model's maximum input ids length cannot be greater than maxSeqLen 20,"
     "the input ids length is 34", "Generation Error"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "status", "error", "kind"), MINDIE_ERRORS)
async def test_mindie_errors(fields, status, error, kind) -> None:
    async with await start("mindie", max_model_len=20) as simulator:
        assert await chat(simulator, **fields) == (status, f'{{"error":"{error}","error_type":"{kind}"}}')


@pytest.mark.parametrize(
    ("kind", "path", "fields"),
    [
        ("vllm", "/tokenize", {}),
        ("vllm", "/tokenize", {"prompt": 5}),
        ("sglang", "/v1/tokenize", {}),
        ("sglang", "/v1/tokenize", {"prompt": 5}),
        ("sglang", "/v1/tokenize", {"messages": [{"role": "user", "content": "hi"}]}),
    ],
)
async def test_what_cannot_be_tokenized_is_refused_and_not_counted_as_nothing(kind, path, fields) -> None:
    async with await start(kind) as engine:
        status, text = await post(engine, path, {"model": "qwen3", **fields})
    assert status == 400 and "body.prompt" in text


async def test_mindie_refuses_several_choices_of_a_deepseek_and_broken_json() -> None:
    async with await start("mindie", model="deepseek-r1") as simulator:
        status, text = await chat(simulator, model="deepseek-r1", n=2, temperature=1.0)
        assert (status, text) == (422, '{"error":"best_of/n > 1 cannot be used with deepseek","error_type":"Input Validation Error"}')
        async with aiohttp.ClientSession() as session, session.post(simulator.url + "/v1/chat/completions", data=b"{") as answer:
            assert answer.status == 422
            assert await answer.text() == '{"error":"Failed to parse request context to json","error_type":"Input Validation Error"}'


async def test_mindie_refuses_a_body_above_40_mb() -> None:
    async with await start("mindie", keep=1) as simulator:
        body = io.BytesIO(b" " * (40 * 1024 * 1024 + 1))
        async with aiohttp.ClientSession() as session, session.post(simulator.url + "/v1/chat/completions", data=body) as answer:
            assert answer.status == 413
            assert await answer.text() == '{"message":"Request body too large. Maximum allowed size is 40MB."}'


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
async def test_unknown_paths_and_methods_are_fastapis(kind) -> None:
    async with await start(kind) as simulator:
        assert await get(simulator.url + "/nope") == (404, '{"detail":"Not Found"}')
        assert await get(simulator.url + "/v1/chat/completions") == (405, '{"detail":"Method Not Allowed"}')


async def test_headers_of_each_engine() -> None:
    cases: tuple[tuple[Kind, bool], ...] = (("vllm", False), ("sglang", True), ("mindie", False), ("mindie", True))
    for kind, stream in cases:
        async with await start(kind) as simulator, aiohttp.ClientSession() as session:
            body = {"model": "qwen3", "messages": HI, "stream": stream}
            async with session.post(simulator.url + "/v1/chat/completions", json=body) as answer:
                await answer.read()
            if kind == "mindie":
                assert "Server" not in answer.headers
                assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["RequestUUID"])
                assert answer.headers["startTime"].isdigit()
                assert (answer.headers.get("Connection") == "close") is not stream
                assert answer.headers["Content-Type"] == ("text/event-stream" if stream else "application/json")
            else:
                assert answer.headers["Server"] == "uvicorn"


async def test_mindie_before_3_lists_created_and_before_2_2_has_no_empty_first_chunk() -> None:
    async with await start("mindie", version="2.1.0") as simulator:
        assert '"created":' in (await get(simulator.url + "/v1/models"))[1]
        assert '"content":""' not in (await chat(simulator, stream=True))[1]

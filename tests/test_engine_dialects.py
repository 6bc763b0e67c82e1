"""Each dialect: what it rewrites in a request, how it reads answers, model lists and metrics."""
# ruff: noqa: E501 - an engine's words are one line

import json

import pytest
from msgspec import Raw

from gateway.engine.base import Load, ModelFacts
from gateway.engine.family import DIALECTS
from gateway.engine.prepare import prepare
from gateway.errors import Refusal
from gateway.wire.openai import encode, parse_object, value_of
from gateway.wire.usage import usage_of
from gateway.words import APIS, ENGINES, STREAMING_APIS
from tests.fixtures import engines as said

PROMPT = [{"role": "user", "content": "hi"}]
SCHEMA = {"type": "object"}
FORMAT = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}


def send(engine, request, *, stream=False, usage="continuous", api="chat"):
    """(what the engine gets, the rewrites' names)."""
    fields = parse_object(json.dumps(request).encode())
    names = prepare(fields, model="qwen3", stream=stream, usage=usage, dialect=DIALECTS[engine], api=api)
    sent = json.loads(encode(fields))
    assert api == "tokenize" or sent.pop("model") == "qwen3"
    return sent, names


def answer(engine, api, body, reasoning="reasoning_content"):
    return json.loads(encode(DIALECTS[engine].answer(api, body.encode(), reasoning)))


def test_every_engine_has_its_dialect_and_every_dialect_only_known_apis():
    assert tuple(DIALECTS) == ENGINES
    for name, dialect in DIALECTS.items():
        assert dialect.name == name and STREAMING_APIS <= dialect.paths.keys() <= set(APIS.values())
        assert dialect.transform in ("splice", "decode")


@pytest.mark.parametrize(
    ("engine", "usage", "asked", "sent"),
    [
        ("vllm", "continuous", None, {"include_usage": True, "continuous_usage_stats": True}),
        ("vllm", "final", None, {"include_usage": True, "continuous_usage_stats": False}),
        ("vllm", "count", None, None),
        ("vllm", "final", {"continuous_usage_stats": True, "x": 1}, {"continuous_usage_stats": False, "x": 1, "include_usage": True}),
        ("vllm", "count", {"include_usage": True}, {"include_usage": True}),
        ("sglang", "continuous", {"include_usage": False}, {"include_usage": True, "continuous_usage_stats": True}),
        ("openai", "continuous", {"continuous_usage_stats": True}, {"include_usage": True}),
        ("openai", "count", {"include_obfuscation": False}, {"include_obfuscation": False}),
        ("openai", "final", "nonsense", {"include_usage": True}),
        ("mindie", "continuous", None, None),
        ("mindie", "continuous", {"include_usage": True}, None),
    ],
)
def test_streams_are_asked_for_usage_as_the_channel_says(engine, usage, asked, sent):
    request = {"messages": PROMPT, "stream": True} | ({"stream_options": asked} if asked else {})
    got, names = send(engine, request, stream=True, usage=usage)
    assert got.get("stream_options") == sent
    assert names == (["-stream_options"] if engine == "mindie" and asked else [])


@pytest.mark.parametrize("engine", ENGINES)
def test_stream_options_without_a_stream_are_dropped(engine):
    assert send(engine, {"messages": PROMPT, "stream_options": {"include_usage": True}}) == ({"messages": PROMPT}, ["-stream_options"])


@pytest.mark.parametrize(
    ("engine", "request_", "sent", "names"),
    [
        ("vllm", {"temperature": 0.5, "max_completion_tokens": 5}, {"temperature": 0.5, "max_completion_tokens": 5}, []),
        ("vllm", {"tools": []}, {}, ["-tools"]),
        ("vllm", {"tools": [], "tool_choice": "auto"}, {}, ["-tools", "-tool_choice"]),
        ("vllm", {"tools": [], "tool_choice": "required"}, {"tool_choice": "required"}, ["-tools"]),
        ("vllm", {"guided_json": SCHEMA}, {"response_format": FORMAT}, ["guided_json>response_format"]),
        ("vllm", {"guided_json": json.dumps(SCHEMA)}, {"response_format": FORMAT}, ["guided_json>response_format"]),
        ("vllm", {"guided_regex": "a+"}, {"structured_outputs": {"regex": "a+"}}, ["guided_regex>structured_outputs"]),
        (
            "vllm",
            {"guided_choice": ["a"], "structured_outputs": {"whitespace_pattern": " "}},
            {"structured_outputs": {"choice": ["a"], "whitespace_pattern": " "}},
            ["guided_choice>structured_outputs"],
        ),
        ("vllm", {"guided_decoding_backend": "xgrammar"}, {}, ["-guided_decoding_backend"]),
        (
            "vllm",
            {"guided_regex": "a+", "guided_" + "x" * 1000: 1, "guided_y": 2},
            {"structured_outputs": {"regex": "a+"}},
            ["guided_regex>structured_outputs", "-guided_*"],
        ),
        (
            "vllm",
            {"guided_json": SCHEMA, "response_format": {"type": "text"}},
            {"response_format": {"type": "text"}, "structured_outputs": {"json": SCHEMA}},
            ["guided_json>structured_outputs"],
        ),
        ("sglang", {"guided_json": SCHEMA}, {"response_format": FORMAT}, ["guided_json>response_format"]),
        ("sglang", {"guided_regex": "a+"}, {"regex": "a+"}, ["guided_regex>regex"]),
        ("sglang", {"guided_choice": ["a.", "b"]}, {"regex": r"(a\.|b)"}, ["guided_choice>regex"]),
        ("sglang", {"structured_outputs": {"grammar": "root ::= x"}}, {"ebnf": "root ::= x"}, ["structured_outputs>ebnf"]),
        (
            "sglang",
            {"structured_outputs": {"json_object": True}},
            {"response_format": {"type": "json_object"}},
            ["structured_outputs>response_format"],
        ),
        ("sglang", {"guided_grammar": None}, {}, ["-guided_grammar"]),
        ("sglang", {"tools": []}, {}, ["-tools"]),
        ("mindie", {"max_completion_tokens": 5}, {"max_tokens": 5}, ["max_completion_tokens>max_tokens"]),
        ("mindie", {"max_completion_tokens": 5, "max_tokens": 9}, {"max_tokens": 5}, ["max_completion_tokens>max_tokens"]),
        ("mindie", {"max_completion_tokens": None, "max_tokens": 9}, {"max_tokens": 9}, ["-max_completion_tokens"]),
        ("mindie", {"chat_template": "/etc/x.jinja"}, {}, ["-chat_template"]),
        ("mindie", {"top_k": 0}, {}, ["-top_k"]),
        ("mindie", {"top_k": 5}, {"top_k": 5}, []),
        ("mindie", {"seed": -1}, {}, ["-seed"]),
        ("mindie", {"seed": 1}, {"seed": 1}, []),
        ("mindie", {"stop": ""}, {}, ["-stop"]),
        ("mindie", {"stop": ["", "x"]}, {"stop": ["x"]}, ["stop"]),
        ("mindie", {"stop": [""]}, {}, ["-stop"]),
        ("mindie", {"stop": "x"}, {"stop": "x"}, []),
        (
            "mindie",
            {"guided_json": SCHEMA, "guided_decoding_backend": "x"},
            {"response_format": FORMAT},
            ["guided_json>response_format", "-guided_decoding_backend"],
        ),
        ("mindie", {"structured_outputs": {"json": SCHEMA}}, {"response_format": FORMAT}, ["structured_outputs>response_format"]),
        ("mindie", {"guided_regex": "a"}, {}, ["-guided_regex"]),
        ("mindie", {"guided_" + "x" * 1000: 1, "guided_y": 2}, {}, ["-guided_*"]),
        (
            "openai",
            {"tools": [], "guided_json": {}, "max_completion_tokens": 1},
            {"tools": [], "guided_json": {}, "max_completion_tokens": 1},
            [],
        ),
    ],
)
def test_requests_are_rewritten_and_each_rewrite_is_named(engine, request_, sent, names):
    assert send(engine, {"messages": PROMPT, **request_}) == ({"messages": PROMPT, **sent}, names)


@pytest.mark.parametrize(
    ("prompt", "sent"),
    [(["hi"], "hi"), ("hi", "hi"), (["a", "b"], ["a", "b"]), ([], []), ([7], [7]), ([[7, 8]], [[7, 8]]), ([None], [None])],
)
def test_mindie_completes_one_text_and_many_libraries_send_a_list_of_one(prompt, sent):
    assert send("mindie", {"prompt": prompt}, api="completions") == ({"prompt": sent}, [] if prompt == sent else ["prompt"])


def test_mindie_has_no_developer():
    messages = [{"role": "developer", "content": "be brief"}, {"role": "user", "content": "who is the developer?"}]
    sent, names = send("mindie", {"messages": messages})
    assert [message["role"] for message in sent["messages"]] == ["system", "user"] and names == ["role:developer>system"]
    assert send("mindie", {"messages": messages[1:]}) == ({"messages": messages[1:]}, [])
    assert send("mindie", {"messages": "developer"}) == ({"messages": "developer"}, [])


@pytest.mark.parametrize("role", ["dev\\u0065loper", "\\u0064\\u0065\\u0076\\u0065\\u006C\\u006fp\\u0065\\u0072"])
@pytest.mark.parametrize("name", ["role", "r\\u006fle"])
def test_mindie_has_no_developer_however_it_is_written(role, name):
    fields = parse_object(f'{{"messages":[{{"{name}":"{role}","content":"hi"}}]}}'.encode())
    assert DIALECTS["mindie"].request("chat", fields) == ["role:developer>system"]
    assert value_of(fields["messages"]) == [{"role": "system", "content": "hi"}]


@pytest.mark.parametrize("engine", ENGINES)
def test_hostile_values_are_left_to_the_engine(engine):
    fields = {
        "messages": Raw(b'"\\ud800 developer"'),
        "tools": Raw(b'["\\ud800"]'),
        "guided_json": Raw(b'"\\ud800"'),
        "stop": Raw(b"1e999"),
    }
    prepare(fields, model="m", stream=False, usage="final", dialect=DIALECTS[engine], api="chat")
    assert bytes(fields["messages"]) == b'"\\ud800 developer"'


@pytest.mark.parametrize("engine", ENGINES)
def test_what_need_not_change_is_not_encoded_again(engine):
    raw = Raw(b'[ {"role": "user",  "content": "hi"} ]')
    fields = {"model": Raw(b'"v"'), "messages": raw}
    assert prepare(fields, model="qwen3", stream=False, usage="final", dialect=DIALECTS[engine], api="chat") == []
    assert fields["messages"] is raw and bytes(fields["model"]) == b'"qwen3"'


def test_tokenize_is_asked_in_each_engines_words():
    ask = {"prompt": "hi", "add_special_tokens": False}
    assert send("vllm", ask, api="tokenize") == ({**ask, "model": "qwen3"}, [])
    assert send("sglang", ask, api="tokenize") == ({**ask, "model": "qwen3"}, [])
    assert send("mindie", ask, api="tokenize") == ({"inputs": "hi", "do_decode": True}, ["prompt>inputs"])
    assert send("openai", ask, api="tokenize") == ({"content": "hi", "add_special": False}, ["prompt>content"])
    for engine in ("mindie", "openai", "sglang"):
        with pytest.raises(Refusal) as caught:
            send(engine, {"messages": PROMPT}, api="tokenize")
        assert (caught.value.status, caught.value.param) == (400, "messages")


def test_tokenize_is_answered_in_vllms_words():
    vllm = '{"count":2,"max_model_len":4096,"tokens":[1,2],"token_strs":null}'
    assert answer("vllm", "tokenize", vllm) == json.loads(vllm)
    assert answer("sglang", "tokenize", '{"tokens":[1,2],"count":2,"max_model_len":4096}')["count"] == 2
    unknown = {"max_model_len": None}
    assert answer("openai", "tokenize", '{"tokens":[5,6,7]}') == {"count": 3, "tokens": [5, 6, 7], "token_strs": None, **unknown}
    pieces = answer("openai", "tokenize", '{"tokens":[{"id":5,"piece":"h"}]}')
    assert pieces == {"count": 1, "tokens": [5], "token_strs": ["h"], **unknown}
    mindie = answer("mindie", "tokenize", '{"token_number":2,"tokens":["My"," name"]}')
    assert mindie == {"count": 2, "tokens": [], "token_strs": ["My", " name"], **unknown}


def test_whole_answers_have_one_reasoning_field_and_no_hosts():
    vllm = answer("vllm", "chat", said.VLLM_CHAT)
    assert vllm["choices"][0]["message"]["reasoning_content"] == "hm" and "reasoning" not in vllm["choices"][0]["message"]
    assert "kv_transfer_params" not in vllm and "system_fingerprint" not in vllm
    assert answer("vllm", "chat", said.VLLM_CHAT, "reasoning")["choices"][0]["message"]["reasoning"] == "hm"
    assert answer("vllm", "chat", said.VLLM_CHAT, "thinking")["choices"][0]["message"]["thinking"] == "hm"
    sglang = answer("sglang", "chat", said.SGLANG_CHAT)
    assert "metadata" not in sglang and sglang["usage"] == json.loads(said.SGLANG_CHAT)["usage"]
    assert "reasoning_content" not in answer("sglang", "chat", said.SGLANG_CHAT, "reasoning")["choices"][0]["message"]


@pytest.mark.parametrize("engine", ["sglang", "mindie"])
@pytest.mark.parametrize(
    ("api", "object", "beginning"), [("chat", "chat.completion", "chatcmpl-"), ("completions", "text_completion", "cmpl-")]
)
def test_ids_do_not_tell_the_engine_and_are_the_same_throughout(engine, api, object, beginning):
    native = {"id": "endpoint_common_10", "object": object, "choices": []}
    id = answer(engine, api, json.dumps(native))["id"]
    assert id.startswith(beginning) and len(id) == len(beginning) + 32 and "endpoint" not in id
    events = [DIALECTS[engine].event({**native, "object": "chat.completion.chunk" if api == "chat" else object}, "r") for _ in range(2)]
    assert {event["id"] for event in events} == {id}
    assert answer(engine, api, json.dumps({**native, "id": f"{beginning}1"}))["id"] == f"{beginning}1"
    assert DIALECTS[engine].event({"id": 7, "choices": []}, "r")["id"] == 7
    assert DIALECTS[engine].event({"id": "\ud800", "choices": []}, "r")["id"].startswith("chatcmpl-")


@pytest.mark.parametrize("stop", ["null", "151645", '"\\n\\"stop,"', ' "</s>"'])
def test_sglangs_matched_stop_is_cut_out_and_nothing_else(stop):
    content = 'say ,"matched_stop":1}, {'
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    body = json.dumps({"choices": [choice, choice]}, separators=(",", ":")).replace('"stop"}', f'"stop","matched_stop":{stop}}}')
    assert body.count("matched_stop") == 4
    assert answer("sglang", "chat", body)["choices"] == [choice, choice]
    event = {"choices": [{"index": 0, "delta": {"content": content}, "matched_stop": json.loads(stop)}]}
    assert DIALECTS["sglang"].event(event, "r") == {"choices": [{"index": 0, "delta": {"content": content}}]}


def test_mindie_answers_lose_their_timings():
    mindie = answer("mindie", "chat", said.MINDIE_CHAT)
    assert not {"prefill_time", "decode_time_arr"} & mindie.keys() and "batch_size" not in mindie["usage"]
    assert usage_of(encode(mindie["usage"])).completion_tokens == 35


def test_sglang_rerank_becomes_vllms():
    body = '[{"score":0.98,"document":"a","index":1,"meta_info":{"id":"r1","prompt_tokens":12}},{"score":0.1,"index":0,"meta_info":{"prompt_tokens":8}}]'
    assert answer("sglang", "rerank", body) == {
        "id": "rerank-r1",
        "model": "",
        "results": [{"index": 1, "document": {"text": "a"}, "relevance_score": 0.98}, {"index": 0, "relevance_score": 0.1}],
        "usage": {"prompt_tokens": 20, "total_tokens": 20},
    }
    assert "usage" not in answer("sglang", "rerank", '[{"score":1}]')


@pytest.mark.parametrize(
    ("most", "indexes"), [(2, [1, 2]), (1, [1]), (3, [1, 2, 0]), (9, [1, 2, 0]), (0, [1, 2, 0]), (-1, [1, 2, 0]), ("2", [1, 2, 0])]
)
def test_sglang_rerank_obeys_top_n_which_the_engine_does_not_know(most, indexes):
    rows = [{"score": score, "document": "d", "index": index} for score, index in ((0.9, 1), (0.5, 2), (0.1, 0))]
    asked = parse_object(json.dumps({"query": "q", "documents": ["a", "b", "c"], "top_n": most}).encode())
    found = value_of(DIALECTS["sglang"].answer("rerank", json.dumps(rows).encode(), "", asked)["results"])
    assert [row["index"] for row in found] == indexes


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("body", ["", "garbage", "[]", "{}", '{"choices":null}', '{"error":"x"}', "null", '{"choices":{}}', "<html>"])
def test_an_answer_that_is_none_is_a_value_error(engine, body):
    for api in DIALECTS[engine].paths:
        if not (engine == "sglang" and api == "rerank" and body == "[]"):  # an empty list of results
            with pytest.raises(ValueError):
                DIALECTS[engine].answer(api, body.encode(), "reasoning_content")


@pytest.mark.parametrize(
    ("engine", "name", "facts"),
    [
        ("vllm", "vllm", [ModelFacts("qwen3", "vllm", 40960)]),
        ("sglang", "sglang", [ModelFacts("qwen3", "sglang", 40960)]),
        ("mindie", "mindie", [ModelFacts("qwen3-32b", "MindIE Server")]),
        ("vllm", "motor", [ModelFacts("ds", "motor", 32768)]),
        ("openai", "llama.cpp", [ModelFacts("tiny-llama", "llamacpp", 32768)]),
    ],
)
def test_model_lists(engine, name, facts):
    assert DIALECTS[engine].models(said.MODELS[name].encode()) == facts
    for body in (b"", b"{}", b'{"data":null}', b"[]"):
        with pytest.raises(ValueError):
            DIALECTS[engine].models(body)


def test_the_context_length_where_the_model_list_has_none():
    read = DIALECTS["mindie"].context
    assert read(said.MINDIE_CONFIG.encode()) == 2560 and read(said.MINDIE_INFO.encode()) == 2560
    assert read(b"") is None and read(b"[]") is None and read(b'{"max_seq_len":"x"}') is None
    assert DIALECTS["vllm"].context(b"{}") is None


@pytest.mark.parametrize(
    ("engine", "text", "load"),
    [
        ("mindie", said.MINDIE_METRICS, Load(3.0, 0.0, 0.25, 5120.0, 2048.0)),
        ("vllm", said.VLLM_METRICS, Load(5.0, 1.0, 0.7, 1_500_000.0)),
        ("vllm", 'vllm:gpu_cache_usage_perc{a="b"} 0.3\n', Load(kv_use=0.3)),
        ("vllm", "vllm:kv_cache_usage_perc 0.3\nvllm:gpu_cache_usage_perc 0.9\n", Load(kv_use=0.3)),
        ("sglang", said.SGLANG_METRICS, Load(4.0, 2.0, 0.5)),
        ("openai", "llamacpp:requests_processing 1\nllamacpp:requests_deferred 0\n", Load(1.0, 0.0)),
        ("openai", "llamacpp:prompt_tokens_cached_total 46\nllamacpp:prompt_tokens_total 1\n", Load(prompt_tokens=47.0)),
        ("openai", "llamacpp:prompt_tokens_total 8\n", Load(prompt_tokens=8.0)),
        ("openai", "", Load()),
        (
            "vllm",
            "vllm:num_requests_running\nvllm:num_requests_running{\nvllm:num_requests_running x\n# vllm:num_requests_running 1",
            Load(),
        ),
    ],
)
def test_metrics(engine, text, load):
    assert DIALECTS[engine].load(text) == load


@pytest.mark.parametrize(
    "line",
    [
        'vllm:num_requests_running\t{model_name="m"}\t3',
        'vllm:num_requests_running   { model_name = "m" , }   3.0   1717171717000',
        '  vllm:num_requests_running{model_name="m"} 3',
        'vllm:num_requests_running{model_name="m"} 3\r',
        'vllm:num_requests_running{model_name="m"} 3 1520879607.789 # {trace_id="a}b"} 0.5 1520879607.7',
        "vllm:num_requests_running 3 # {} 0.5",
        'vllm:num_requests_running{model_name="a} 7 # \\" {",engine="0"} 3',
        'vllm:num_requests_running{model_name="a\u2028b"} 3',
        "vllm:num_requests_running\t3",
        "vllm:num_requests_running{}3",
    ],
)
def test_samples_are_read_as_prometheus_reads_them(line):
    text = "# HELP vllm:num_requests_running none\n" + line + "\nvllm:num_requests_waiting 2\n# EOF\n"
    assert DIALECTS["vllm"].load(text) == Load(running=3, waiting=2)


@pytest.mark.parametrize(
    "line",
    [
        'vllm:num_requests_running{model_name="m} 3',
        'vllm:num_requests_running{model_name="m"',
        "vllm:num_requests_running",
        "vllm:num_requests_running x",
        "vllm:num_requests_running NaN",
        "vllm:num_requests_running_not 3",
        "# vllm:num_requests_running 3",
    ],
)
def test_a_line_that_is_no_sample_is_passed_over(line):
    assert DIALECTS["vllm"].load(line + "\nvllm:num_requests_waiting 2\n") == Load(waiting=2)


def test_mindie_says_the_role_once_in_each_choice_of_a_stream():
    """In each event it says it; OpenAI's Python client makes `assistantassistant` of that."""
    dialect = DIALECTS["mindie"]
    for _ in range(2):  # one stream knows nothing of another
        event = dialect.events()
        said = [{"index": index, "delta": {"role": "assistant", "content": text}} for text in ("", "a", "b") for index in (0, 1)]
        shown = [event({"choices": [choice]}, "reasoning_content")["choices"][0] for choice in said]
        assert ["role" in choice["delta"] for choice in shown] == [True, True, False, False, False, False]
        assert [choice["delta"]["content"] for choice in shown] == ["", "", "a", "a", "b", "b"]

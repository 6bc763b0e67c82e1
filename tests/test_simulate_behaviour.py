"""What the simulators do over time: text, usage, metrics, aborts, planes, and what they remember."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from gateway.simulate import tokens
from gateway.simulate.paths import NEVER
from gateway.simulate.settings import Kind
from gateway.simulate.simulator import Simulator, start

KINDS: tuple[Kind, ...] = ("vllm", "sglang", "mindie")
CANARY = "the canary is KX-4711-Ü, 请记住"
MESSAGES = [{"role": "system", "content": "be short"}, {"role": "user", "content": CANARY}]


async def chat(simulator: Simulator, **fields: object) -> dict:
    body = {"model": "qwen3", "messages": MESSAGES, **fields}
    async with aiohttp.ClientSession() as session, session.post(simulator.url + "/v1/chat/completions", json=body) as answer:
        assert answer.status == 200, await answer.text()
        return dict(await answer.json())


async def stream(simulator: Simulator, **fields: object) -> list[dict]:
    body = {"model": "qwen3", "messages": MESSAGES, "stream": True, **fields}
    async with aiohttp.ClientSession() as session, session.post(simulator.url + "/v1/chat/completions", json=body) as answer:
        lines = [line.removeprefix("data: ") for line in (await answer.text()).split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


async def post(simulator: Simulator, path: str, **body: object) -> object:
    async with aiohttp.ClientSession() as session, session.post(simulator.url + path, json=body) as answer:
        return await answer.json(content_type=None)


async def metrics(simulator: Simulator) -> dict[str, float]:
    async with aiohttp.ClientSession() as session, session.get(simulator.metrics_url + "/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return {line.partition("{")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


async def until(condition, seconds: float = 3.0) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it never happened"
        await asyncio.sleep(0.005)


def said(chunks: list[dict], index: int = 0, field: str = "content") -> str:
    choices = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
    return "".join(choice["delta"].get(field) or "" for choice in choices)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reasoning", ["", "field", "inline"])
async def test_streamed_and_whole_answers_say_the_same_and_cost_the_same(kind, reasoning) -> None:
    async with await start(kind, reasoning=reasoning) as simulator:
        whole = await chat(simulator, n=2, temperature=1)
        chunks = await stream(simulator, n=2, temperature=1, stream_options={"include_usage": True})
    for choice in whole["choices"]:
        assert CANARY in choice["message"]["content"]
        assert said(chunks, choice["index"]) == choice["message"]["content"]
    used = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    assert sum(usage["completion_tokens"] for usage in used) == whole["usage"]["completion_tokens"]
    assert {usage["prompt_tokens"] for usage in used} == {whole["usage"]["prompt_tokens"]}
    texts = {choice["message"]["content"] for choice in whole["choices"]}
    assert len(texts) == 2
    assert all(("<think>" in text) is (reasoning == "inline") for text in texts)


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
async def test_usage_comes_when_asked_for_and_with_every_chunk_when_continuous(kind) -> None:
    async with await start(kind) as simulator:
        assert not [chunk for chunk in await stream(simulator) if chunk.get("usage")]
        once = await stream(simulator, stream_options={"include_usage": True})
        assert [bool(chunk["choices"]) for chunk in once if chunk.get("usage")] == [False]
        every = await stream(simulator, stream_options={"include_usage": True, "continuous_usage_stats": True})
        counts = [chunk["usage"]["completion_tokens"] for chunk in every]
        assert counts == sorted(counts)
        assert counts[0] == 0


async def test_mindie_ignores_stream_options_and_max_completion_tokens() -> None:
    async with await start("mindie", max_iter_times=5) as simulator:
        chunks = await stream(simulator, max_completion_tokens=2)
        assert [list(chunk) for chunk in chunks if "usage" in chunk] == [["id", "object", "created", "model", "usage", "choices"]]
        assert chunks[-1]["choices"][0]["finish_reason"] == "length"
        assert chunks[-1]["usage"]["completion_tokens"] == 5
        assert (await chat(simulator, max_tokens=100))["usage"]["completion_tokens"] == 5
        both = await stream(simulator, n=2, temperature=0.5, max_tokens=3)
        assert [chunk["usage"]["completion_tokens"] for chunk in both if "usage" in chunk] == [3, 3]


@pytest.mark.parametrize("kind", KINDS)
async def test_max_tokens_cuts_and_ignore_eos_fills(kind) -> None:
    async with await start(kind) as simulator:
        cut = await chat(simulator, max_tokens=2)
        assert (cut["choices"][0]["finish_reason"], cut["usage"]["completion_tokens"]) == ("length", 2)
        ended = await chat(simulator, max_tokens=400)
        assert (ended["choices"][0]["finish_reason"], ended["usage"]["completion_tokens"]) == ("stop", 16)
        filled = await chat(simulator, max_tokens=400, ignore_eos=True)
        assert (filled["choices"][0]["finish_reason"], filled["usage"]["completion_tokens"]) == ("length", 400)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stop", ["KX-4711", [" never said", "KX-4711"], ["canary is KX", "47"], "the canary"])
async def test_a_text_of_stop_ends_the_answer_before_it(kind, stop) -> None:
    async with await start(kind) as simulator:
        whole, chunks = await chat(simulator, stop=stop), await stream(simulator, stop=stop)
        plain: Any = await post(simulator, "/v1/completions", model="qwen3", prompt=CANARY, stop=stop)
    [choice], ending = whole["choices"], next(one for chunk in chunks for one in chunk["choices"] if one["finish_reason"])
    found = stop if isinstance(stop, str) else next(one for one in stop if one in CANARY)
    assert choice["message"]["content"] == said(chunks) == plain["choices"][0]["text"] == CANARY.partition(found)[0]
    for one in (choice, ending, plain["choices"][0]):
        assert one["finish_reason"] == "stop"
        assert one.get("stop_reason", found) == one.get("matched_stop", found) == found
    assert 0 < whole["usage"]["completion_tokens"] < 16


@pytest.mark.parametrize("kind", KINDS)
async def test_json_mode_answers_json_of_the_schema(kind) -> None:
    schema = {"type": "object", "properties": {"said": {"type": "string"}, "rank": {"enum": ["a", "b"]}, "many": {"type": "array"}}}
    form = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    async with await start(kind) as simulator:
        whole = await chat(simulator, response_format=form)
        assert json.loads(whole["choices"][0]["message"]["content"]) == {"said": CANARY, "rank": "a", "many": []}
        free = await chat(simulator, response_format={"type": "json_object"})
        assert CANARY in json.loads(free["choices"][0]["message"]["content"]).values()


@pytest.mark.parametrize("kind", KINDS)
async def test_who_has_a_tools_result_gets_an_answer_unless_a_call_is_demanded(kind) -> None:
    """Else an agent would call and ask without end."""
    tools = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}]
    ask = {"role": "user", "content": "look_up the weather"}
    async with await start(kind) as simulator:
        first = (await chat(simulator, messages=[ask], tools=tools))["choices"][0]
        call = first["message"]["tool_calls"][0]
        assert first["finish_reason"] == "tool_calls" and call["function"]["name"] == "look_up"
        result = {"role": "tool", "tool_call_id": call["id"], "content": "21"}
        done = [ask, {"role": "assistant", "content": "", "tool_calls": [call]}, result]
        answer = (await chat(simulator, messages=done, tools=tools))["choices"][0]
        assert answer["finish_reason"] == "stop" and answer["message"]["content"].startswith("look_up the weather")
        assert (await chat(simulator, messages=done, tools=tools, tool_choice="required"))["choices"][0]["message"]["tool_calls"]
        assert (await chat(simulator, messages=[*done, ask], tools=tools))["choices"][0]["message"]["tool_calls"]


async def test_completions_of_all_engines() -> None:
    for kind in KINDS:
        async with await start(kind) as simulator:
            whole = await post(simulator, "/v1/completions", model="qwen3", prompt=CANARY, max_tokens=20)
            assert isinstance(whole, dict)
            assert CANARY in whole["choices"][0]["text"]
            async with aiohttp.ClientSession() as session:
                body = {"model": "qwen3", "prompt": CANARY, "max_tokens": 20, "stream": True, "stream_options": {"include_usage": True}}
                async with session.post(simulator.url + "/v1/completions", json=body) as answer:
                    events = [json.loads(line[6:]) for line in (await answer.text()).split("\n\n") if line[6:7] == "{"]
            assert "".join(c["text"] for e in events for c in e["choices"]) == whole["choices"][0]["text"]
            assert [e["usage"]["completion_tokens"] for e in events if e.get("usage")] == [whole["usage"]["completion_tokens"]]


async def test_embeddings_rerank_and_tokens() -> None:
    async with await start("vllm") as vllm, await start("sglang") as sglang, await start("mindie") as mindie:
        found = await post(vllm, "/v1/embeddings", model="qwen3", input=["a b", "c"])
        assert isinstance(found, dict)
        assert [list(row) for row in found["data"]] == [["index", "object", "embedding"]] * 2
        assert found["usage"]["prompt_tokens"] == 3
        other = await post(sglang, "/v1/embeddings", model="qwen3", input="a b")
        assert isinstance(other, dict)
        assert other["data"][0]["embedding"] == found["data"][0]["embedding"]
        documents = ["nothing here", "cold beer"]
        ranked = await post(vllm, "/v1/rerank", model="qwen3", query="beer", documents=documents)
        assert isinstance(ranked, dict)
        assert list(ranked) == ["id", "model", "usage", "results"]
        assert [row["index"] for row in ranked["results"]] == [1, 0]
        bare = await post(sglang, "/v1/rerank", model="qwen3", query="beer", documents=documents)
        assert isinstance(bare, list)
        assert [list(row) for row in bare] == [["score", "document", "index", "meta_info"]] * 2
        coded = await post(vllm, "/tokenize", model="qwen3", prompt=CANARY)
        assert isinstance(coded, dict)
        assert list(coded) == ["count", "max_model_len", "tokens", "token_strs"]
        assert await post(vllm, "/detokenize", model="qwen3", tokens=coded["tokens"]) == {"prompt": CANARY}
        coded = await post(sglang, "/v1/tokenize", model="qwen3", prompt=CANARY)
        assert isinstance(coded, dict)
        assert list(coded) == ["tokens", "count", "max_model_len"]
        pieces = tokens.split("My name is Olivier")
        assert await post(mindie, "/v1/tokenizer", inputs="My name is Olivier", do_decode=True) == {
            "token_number": len(pieces),
            "tokens": pieces,
        }
        said_by_tokenize = await post(vllm, "/tokenize", model="qwen3", messages=MESSAGES)
        assert isinstance(said_by_tokenize, dict)
        assert said_by_tokenize["count"] == (await chat(vllm))["usage"]["prompt_tokens"]


GAUGES = {
    "vllm": ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:"),
    "sglang": ("sglang:num_running_reqs", "sglang:num_queue_reqs", "sglang:"),
    "mindie": ("num_requests_running", "num_requests_waiting", ""),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_metrics_move_and_a_client_that_leaves_frees_its_place(kind) -> None:
    running, waiting, prefix = GAUGES[kind]
    async with await start(kind, tps=50, max_running=1) as simulator, aiohttp.ClientSession() as session:
        body = {"model": "qwen3", "messages": MESSAGES, "stream": True, "ignore_eos": True, "max_tokens": 400}
        answer = await session.post(simulator.url + "/v1/chat/completions", json=body)
        await answer.content.readuntil(b"\n\n")
        queued = asyncio.create_task(chat(simulator, max_tokens=1))
        await until(lambda: simulator.engine.waiting == 1)
        found = await metrics(simulator)
        assert (found[running], found[waiting]) == (1, 1)
        answer.close()
        await queued
        left = next(request for request in simulator.requests if request.aborted_at)
        assert left.aborted_at is not None
        assert 0 < left.tokens < 400
        assert left.aborted_at - left.started_at < 2
        found = await metrics(simulator)
        assert (found[running], found[waiting]) == (0, 0)
        assert found[prefix + "generation_tokens_total"] == left.tokens + 1
        assert found[prefix + "time_to_first_token_seconds_count"] == 2
        assert simulator.engine.aborted == 1


async def test_a_client_that_leaves_before_a_whole_answer_is_noticed() -> None:
    async with await start("sglang", ttft=20) as simulator, aiohttp.ClientSession() as session:
        asking = asyncio.create_task(session.post(simulator.url + "/v1/chat/completions", json={"model": "m", "messages": MESSAGES}))
        await until(lambda: simulator.engine.running == 1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await until(lambda: simulator.last.aborted_at is not None)
        assert simulator.engine.running == 0


async def test_ttft_and_tps_pace_the_stream() -> None:
    async with await start("vllm", ttft=0.1, tps=100) as simulator:
        await stream(simulator, max_tokens=11, ignore_eos=True)
        record = simulator.last
        assert record.ended_at is not None
        assert 0.2 <= record.ended_at - record.started_at < 1.0
        await chat(simulator, max_tokens=11, ignore_eos=True)
        record = simulator.last
        assert record.ended_at is not None
        assert 0.2 <= record.ended_at - record.started_at < 1.0


@pytest.mark.parametrize(
    ("kind", "streamed", "bare"), [("vllm", b" 503 ", b" 503 "), ("sglang", b'"code": 503', b" 503 "), ("mindie", b"", b"")]
)
async def test_above_max_queued_each_engine_says_no_in_its_own_way(kind, streamed, bare) -> None:
    async with await start(kind, ttft=30, max_queued=1) as simulator:
        busy = asyncio.create_task(chat(simulator))
        await until(lambda: simulator.engine.running == 1)
        for flag, expected in ((True, streamed), (False, bare)):
            body = json.dumps({"model": "qwen3", "messages": MESSAGES, "stream": flag}).encode()
            reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
            head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            answer = await reader.read()
            assert (expected in answer) if expected else answer == b""
            writer.close()
        busy.cancel()
        await asyncio.gather(busy, return_exceptions=True)


@pytest.mark.parametrize("kind", KINDS)
async def test_dangerous_paths_exist_and_are_remembered(kind) -> None:
    async with await start(kind) as simulator, aiohttp.ClientSession() as session:
        paths = [path.replace("*", "x") for path in NEVER[kind] if path != "/stopService"]
        for path in paths:
            async with session.post(simulator.url + path, json={}) as answer:
                assert answer.status in (200, 405, 422), path
        assert simulator.touched == paths


async def test_mindie_planes_are_apart_when_told_so_and_stop_service_stops() -> None:
    simulator = await start("mindie", management_port=0, metrics_port=0)
    async with simulator, aiohttp.ClientSession() as session:
        assert len({simulator.url, simulator.management_url, simulator.metrics_url}) == 3
        for url, path, status in (
            (simulator.url, "/info", 404),
            (simulator.url, "/metrics", 404),
            (simulator.url, "/v2", 200),
            (simulator.url, "/v2/models/qwen3/config", 200),
            (simulator.management_url, "/info", 200),
            (simulator.management_url, "/health/timed-3", 200),
            (simulator.management_url, "/health/timed-601", 404),
            (simulator.management_url, "/v1/models", 404),
            (simulator.metrics_url, "/metrics", 200),
        ):
            async with session.get(url + path) as answer:
                assert (answer.status, path) == (status, path)
                if status == 404:
                    assert await answer.read() == b""
        async with session.get(simulator.management_url + "/stopService") as answer:
            assert answer.status == 200
        await until(lambda: not simulator.listening)
        assert simulator.touched == ["/stopService"]
        assert simulator.stopped_by_call


async def test_health_follows_the_simulators_health() -> None:
    async with await start("mindie") as mindie, await start("vllm") as vllm, aiohttp.ClientSession() as session:

        async def ask(url: str) -> tuple[int, str]:
            async with session.get(url) as answer:
                return answer.status, await answer.text()

        assert await ask(mindie.url + "/v2/health/ready") == (200, "")
        mindie.health = "busy"
        assert await ask(mindie.url + "/v2/health/live") == (200, '{"message":"Service is alive but busy"}')
        text = '{"message":"Service is alive but busy. Consider reducing request frequency"}'
        assert await ask(mindie.url + "/v2/health/ready") == (503, text)
        mindie.health = vllm.health = "down"
        assert await ask(mindie.url + "/v2/health/ready") == (500, '{"message":"Service is abnormal"}')
        text = '{"error":"Engine callback timeout","error_type":"Incomplete Generation"}'
        assert await ask(mindie.url + "/health/timed") == (500, text)
        assert await ask(vllm.url + "/health") == (503, "")


async def test_mindie_metrics_need_the_monitor_mode() -> None:
    async with await start("mindie", monitor=False) as simulator, aiohttp.ClientSession() as session:
        async with session.get(simulator.url + "/metrics") as answer:
            assert answer.status == 500
            assert "MIES_SERVICE_MONITOR_MODE" in await answer.text()


@pytest.mark.parametrize(
    ("kind", "open_paths", "closed"), [("vllm", ("/metrics", "/load"), "/v1/models"), ("sglang", ("/health", "/metrics"), "/server_info")]
)
async def test_api_keys_guard_what_the_engines_guard(kind, open_paths, closed) -> None:
    async with await start(kind, api_key="s3cret") as simulator, aiohttp.ClientSession() as session:
        for path in open_paths:
            async with session.get(simulator.url + path) as answer:
                assert answer.status == 200
        async with session.get(simulator.url + closed) as answer:
            assert (answer.status, await answer.text()) == (401, '{"error":"Unauthorized"}')
        async with session.get(simulator.url + closed, headers={"Authorization": "Bearer s3cret"}) as answer:
            assert answer.status == 200


async def test_idle_connections_are_closed_after_keepalive() -> None:
    async with await start("vllm", keepalive=0.1) as simulator:
        reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
        writer.write(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 3)
        assert answer.endswith(b'{"version":"0.33.0"}')
        writer.close()


async def test_requests_are_remembered_up_to_keep() -> None:
    async with await start("vllm", keep=4) as simulator:
        for number in range(7):
            await chat(simulator, user=str(number))
        assert len(simulator.requests) <= 4
        record = simulator.last
        assert (record.number, record.method, record.path, record.status) == (7, "POST", "/v1/chat/completions", 200)
        assert record.headers["content-type"] == "application/json"
        assert json.loads(record.body)["user"] == "6"


async def test_stop_leaves_no_task_behind_even_with_streams_open() -> None:
    before = asyncio.all_tasks()
    simulator = await start("vllm", tps=10)
    session = aiohttp.ClientSession()
    body = {"model": "qwen3", "messages": MESSAGES, "stream": True, "ignore_eos": True, "max_tokens": 1000}
    answer = await session.post(simulator.url + "/v1/chat/completions", json=body)
    await answer.content.readuntil(b"\n\n")
    await simulator.stop()
    await simulator.stop()
    answer.close()
    await session.close()
    assert simulator.last.aborted_at is None
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
async def test_an_answer_that_has_begun_is_gone_on_with(kind) -> None:
    on = {"continue_final_message": True, "add_generation_prompt": False}
    async with await start(kind) as simulator:
        whole = await chat(simulator, max_tokens=12)
        text = whole["choices"][0]["message"]["content"]
        for taken in range(1, 12):
            begun = "".join(tokens.split(text)[:taken])
            messages = [*MESSAGES, {"role": "assistant", "content": begun + "\n"}]  # a template trims it
            rest = await chat(simulator, max_tokens=12 - taken, messages=messages, **on)
            assert begun + rest["choices"][0]["message"]["content"] == text
            assert rest["usage"]["completion_tokens"] == 12 - taken and rest["usage"]["prompt_tokens"] > whole["usage"]["prompt_tokens"]
        odd = await chat(simulator, max_tokens=12, messages=[*MESSAGES, {"role": "assistant", "content": "no such beginning"}], **on)
        assert odd["choices"][0]["message"]["content"] == text
        raw: dict[str, Any] = {"model": "qwen3", "max_tokens": 12}
        asked: Any = await post(simulator, "/v1/completions", prompt="Hi <|assistant|>", **raw)
        text = asked["choices"][0]["text"]
        begun = "".join(tokens.split(text)[:5])
        gone: Any = await post(simulator, "/v1/completions", prompt=f"Hi <|assistant|>{begun}", **{**raw, "max_tokens": 7})
        assert begun + gone["choices"][0]["text"] == text
        if kind == "vllm":
            refused: Any = await post(simulator, "/v1/chat/completions", model="qwen3", messages=MESSAGES, continue_final_message=True)
            assert "Cannot set both" in refused["error"]["message"]


@pytest.mark.parametrize("kind", KINDS)
async def test_odd_bodies_get_an_error_of_the_engine_and_never_a_crash(kind) -> None:
    odd: list[object] = [None, True, -1, 2.5, "", [], {}, [[1]], [["a"]], {"a": 1}, 10**12, [3, {"role": "user", "content": [3]}]]
    keys = (
        "model",
        "messages",
        "continue_final_message",
        "n",
        "max_tokens",
        "stream",
        "tools",
        "tool_choice",
        "response_format",
        "stop",
        "prompt",
        "input",
    )
    async with await start(kind, max_model_len=500) as simulator, aiohttp.ClientSession() as session:
        for path in ("/v1/chat/completions", "/v1/completions"):
            for key in keys:
                for value in odd:
                    body = {"model": "qwen3", "messages": MESSAGES, "prompt": "Hi", "input": "Hi", key: value}
                    async with session.post(simulator.url + path, json=body) as answer:
                        assert answer.status in (200, 400, 404, 422), (path, key, value, answer.status)

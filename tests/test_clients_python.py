"""What our callers really use: the official `openai` client for Python, sync and async, against the gateway before each engine."""

import asyncio
import base64
import json
import struct
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import openai
import pytest
import pytest_asyncio
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

from gateway.config.keys import hash_of
from gateway.simulate.settings import Kind
from tests.harness import KEY, Rig, eventually, script

pytestmark = pytest.mark.asyncio(loop_scope="module")

ENGINES: tuple[Kind, ...] = ("vllm", "sglang", "mindie")
NARROW = "sk-narrow-0123456789abcdef0123456789abcdef"
"""A key that may use `vllm` only."""
SAID = 'Grüße 🙂👩‍👩‍👧 请记住 KX-4711, "quoted" \\ and\ttabs </s>'
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]},
    },
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """One gateway before the three engines; `slow` takes its time, `busy` asks for patience, `hasty` is not waited for."""
    async with Rig(tmp_path_factory.mktemp("clients")) as rig:
        for kind in ENGINES:
            await rig.engine(kind, kind, max_model_len=2000)
            await rig.engine(f"think-{kind}", kind, reasoning="field")
            rig.model(kind, {kind: 1})
            rig.model(f"think-{kind}", {f"think-{kind}": 1})
        await rig.engine("slow", "vllm", tps=20, reply_tokens=400)
        rig.model("slow", {"slow": 1})
        await rig.engine("busy", "vllm")
        rig.model("busy", {"busy": 1})
        await rig.engine("hasty", "vllm", ttft=30, channel={"timeouts": {"first_event": "200ms", "total": "300ms"}})
        rig.model("hasty", {"hasty": 1})
        rig.config["models"]["vllm"]["aliases"] = ["gpt-4o*"]
        narrow = {"id": "k2", "hash": hash_of(NARROW), "tenant": "acme", "project": "bot", "models": ["vllm"]}
        rig.config["keys"].append(narrow)
        await rig.start()
        yield rig


@pytest_asyncio.fixture(loop_scope="module")
async def client(gateway: Rig) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture(autouse=True)
def healthy(gateway: Rig) -> None:
    """Each test begins with engines that do as they are told."""
    for engine in gateway.engines.values():
        engine.script = script()


def user(text: str) -> Any:
    return [{"role": "user", "content": text}]


def text_of(chunks: list[ChatCompletionChunk], index: int = 0) -> str:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices if choice.index == index)


def calls_of(answer: ChatCompletion) -> list[Any]:
    return list(answer.choices[0].message.tool_calls or [])


def sent_to(gateway: Rig, engine: str) -> Any:
    """The body that the engine got."""
    return gateway.engines[engine].last.json()


# -- chat ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ENGINES)
async def test_chat_whole_and_streamed_say_the_same(client: openai.AsyncOpenAI, kind: str) -> None:
    whole = await client.chat.completions.create(model=kind, messages=user(SAID), temperature=0)
    assert (whole.object, whole.model) == ("chat.completion", kind)
    message = whole.choices[0].message
    assert message.role == "assistant"
    assert (message.content or "").startswith(SAID)
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage is not None and whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens

    stream = await client.chat.completions.create(model=kind, messages=user(SAID), temperature=0, stream=True)
    chunks = [chunk async for chunk in stream]
    assert text_of(chunks) == message.content
    assert {chunk.model for chunk in chunks} == {kind} and {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.choices and chunk.usage is None for chunk in chunks), "nobody asked for usage"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["stop"]


@pytest.mark.parametrize("kind", ENGINES)
async def test_usage_in_the_stream_when_asked_for(client: openai.AsyncOpenAI, kind: str) -> None:
    whole = await client.chat.completions.create(model=kind, messages=user("count"), max_tokens=9)
    options: Any = {"include_usage": True}
    stream = await client.chat.completions.create(model=kind, messages=user("count"), max_tokens=9, stream=True, stream_options=options)
    *chunks, last = [chunk async for chunk in stream]
    assert last.choices == [] and last.usage is not None and whole.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (whole.usage.prompt_tokens, whole.usage.completion_tokens)
    assert all(chunk.usage is None for chunk in chunks)


@pytest.mark.parametrize("kind", ENGINES)
async def test_the_stream_helper_puts_together_what_a_whole_answer_has(client: openai.AsyncOpenAI, kind: str) -> None:
    """It joins strings of one name over all events, so what an engine repeats in each of them it reads as `assistantassistant`."""
    whole = await client.chat.completions.create(model=kind, messages=user(SAID), temperature=0)
    async with client.chat.completions.stream(model=kind, messages=user(SAID), temperature=0) as stream:
        final = await stream.get_final_completion()
    message = final.choices[0].message
    assert (message.role, message.content) == ("assistant", whole.choices[0].message.content)
    assert (final.object, final.model, final.choices[0].finish_reason) == ("chat.completion", kind, "stop")


async def test_the_sync_client_too(gateway: Rig) -> None:
    def talk() -> tuple[str, str, list[str]]:
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0, timeout=20) as client:
            whole = client.chat.completions.create(model="mindie", messages=user(SAID))
            with client.chat.completions.create(model="mindie", messages=user(SAID), stream=True) as stream:
                streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
            return whole.choices[0].message.content or "", streamed, [model.id for model in client.models.list()]

    whole, streamed, models = await asyncio.to_thread(talk)
    assert whole == streamed and whole.startswith(SAID) and "mindie" in models


@pytest.mark.parametrize("kind", ENGINES)
async def test_several_choices(client: openai.AsyncOpenAI, kind: str) -> None:
    whole = await client.chat.completions.create(model=kind, messages=user("several"), n=3, temperature=1)
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in whole.choices}) == 3
    options: Any = {"include_usage": True}
    stream = await client.chat.completions.create(
        model=kind, messages=user("several"), n=3, temperature=1, stream=True, stream_options=options
    )
    chunks = [chunk async for chunk in stream]
    for choice in whole.choices:
        assert text_of(chunks, choice.index) == choice.message.content
    assert whole.usage is not None and chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


@pytest.mark.parametrize("kind", ENGINES)
async def test_reasoning_is_in_one_field_whatever_the_engine_calls_it(client: openai.AsyncOpenAI, kind: str) -> None:
    whole = await client.chat.completions.create(model=f"think-{kind}", messages=user("why?"))
    message: Any = whole.choices[0].message
    assert message.reasoning_content.startswith("The user says: why?.") and not hasattr(message, "reasoning")
    stream = await client.chat.completions.create(model=f"think-{kind}", messages=user("why?"), stream=True)
    deltas: list[Any] = [chunk.choices[0].delta async for chunk in stream]
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == message.reasoning_content
    assert "".join(delta.content or "" for delta in deltas) == message.content
    assert not any(hasattr(delta, "reasoning") for delta in deltas)


async def test_what_the_engine_alone_understands_goes_through(gateway: Rig, client: openai.AsyncOpenAI) -> None:
    answer = {
        "id": "x", "object": "chat.completion", "created": 1, "model": "qwen3",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}, "logprobs": {"content": [
            {"token": "Hi", "logprob": -0.25, "bytes": [72, 105], "top_logprobs": [{"token": "Ho", "logprob": -1.5, "bytes": [72, 111]}]},
        ]}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }  # fmt: skip
    gateway.engines["vllm"].script = script({"on": 1, "do": "status", "status": 200, "body": json.dumps(answer)})
    seen = await client.chat.completions.create(
        model="vllm", messages=user("hi"), logprobs=True, top_logprobs=1, seed=7, user="ann", extra_body={"top_k": 5, "min_p": 0.1}
    )
    logprobs = seen.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None
    assert logprobs.content[0].logprob == -0.25 and logprobs.content[0].top_logprobs[0].token == "Ho"
    body = sent_to(gateway, "vllm")
    assert (body["logprobs"], body["top_logprobs"], body["seed"], body["user"], body["top_k"], body["min_p"]) == (True, 1, 7, "ann", 5, 0.1)
    assert body["model"] == "qwen3"


# -- tools and JSON -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ENGINES)
async def test_a_tool_is_called_and_its_result_understood(client: openai.AsyncOpenAI, kind: str) -> None:
    question = "use get_weather for 北京"
    whole = await client.chat.completions.create(model=kind, messages=user(question), tools=[WEATHER])
    assert whole.choices[0].finish_reason == "tool_calls"
    (call,) = calls_of(whole)
    assert call.type == "function" and call.function.name == "get_weather" and call.id
    assert json.loads(call.function.arguments) == {"city": question, "days": 1}

    async with client.chat.completions.stream(model=kind, messages=user(question), tools=[WEATHER]) as stream:
        final = await stream.get_final_completion()  # the SDK puts the pieces together, as its users do
    (streamed,) = calls_of(final)
    assert streamed.function.name == "get_weather" and streamed.id and streamed.function.arguments == call.function.arguments
    assert final.choices[0].finish_reason == "tool_calls"

    messages = [
        *user(question),
        whole.choices[0].message.to_dict(),
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
        *user("so?"),
    ]
    after = await client.chat.completions.create(model=kind, messages=messages, tools=[WEATHER])
    assert (after.choices[0].message.content or "").startswith("so?")


@pytest.mark.parametrize("kind", ENGINES)
async def test_json_mode_and_schemas(client: openai.AsyncOpenAI, kind: str) -> None:
    class Person(BaseModel):
        name: str
        age: int

    free = await client.chat.completions.create(model=kind, messages=user("你好"), response_format={"type": "json_object"})
    assert isinstance(json.loads(free.choices[0].message.content or ""), dict)
    parsed = await client.chat.completions.parse(model=kind, messages=user("Ann"), response_format=Person)
    assert parsed.choices[0].message.parsed == Person(name="Ann", age=1)
    async with client.chat.completions.stream(model=kind, messages=user("Ann"), response_format=Person) as stream:
        final = await stream.get_final_completion()
    assert final.choices[0].message.parsed == Person(name="Ann", age=1)


# -- the other APIs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ("vllm", "sglang"))
async def test_embeddings_as_the_sdk_asks_for_them_and_as_numbers(gateway: Rig, client: openai.AsyncOpenAI, kind: str) -> None:
    texts = ["one", "zwei 🙂"]
    default = await client.embeddings.create(model=kind, input=texts)
    assert sent_to(gateway, kind)["encoding_format"] == "base64", "the SDK's own default"
    floats = await client.embeddings.create(model=kind, input=texts, encoding_format="float")
    raw: Any = await client.embeddings.create(model=kind, input=texts, encoding_format="base64")
    assert [item.index for item in default.data] == [0, 1] and default.model == kind
    for one, other, coded in zip(default.data, floats.data, raw.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6) and len(one.embedding) > 1
        bits = base64.b64decode(coded.embedding)
        assert list(struct.unpack(f"<{len(bits) // 4}f", bits)) == pytest.approx(other.embedding, abs=1e-6)
    assert default.data[0].embedding != default.data[1].embedding
    assert default.usage.prompt_tokens > 0


@pytest.mark.parametrize("kind", ENGINES)
async def test_completions(client: openai.AsyncOpenAI, kind: str) -> None:
    whole = await client.completions.create(model=kind, prompt="Once upon a time 从前", max_tokens=12)
    assert (whole.object, whole.model) == ("text_completion", kind)
    assert whole.choices[0].text.startswith("Once upon a time 从前")
    stream = await client.completions.create(model=kind, prompt="Once upon a time 从前", max_tokens=12, stream=True)
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == whole.choices[0].text
    assert {chunk.model for chunk in chunks} == {kind}


async def test_models(gateway: Rig, client: openai.AsyncOpenAI) -> None:
    listed = [model.id async for model in client.models.list()]
    assert listed == list(gateway.config["models"])
    one = await client.models.retrieve("vllm")
    assert (one.id, one.object, one.owned_by) == ("vllm", "model", "gateway")
    narrow = client.with_options(api_key=NARROW)
    assert [model.id async for model in narrow.models.list()] == ["vllm"]
    with pytest.raises(openai.NotFoundError) as no:
        await client.models.retrieve("nobody/has-it")
    assert no.value.code == "model_not_found"


async def test_an_alias_is_answered_under_the_models_own_name(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="gpt-4o-mini", messages=user("hi"))
    assert answer.model == "vllm"


# -- errors -----------------------------------------------------------------------------------------------------------------

Call = Callable[[openai.AsyncOpenAI], Any]
REFUSED: dict[str, tuple[Call, type[openai.APIStatusError], int, str, str, str | None]] = {
    "wrong key": (lambda c: c.with_options(api_key="sk-wrong").models.list(),
                  openai.AuthenticationError, 401, "invalid_api_key", "authentication_error", None),
    "model of others": (lambda c: c.with_options(api_key=NARROW).chat.completions.create(model="mindie", messages=user("hi")),
                        openai.PermissionDeniedError, 403, "model_not_allowed", "permission_error", "model"),
    "unknown model": (lambda c: c.chat.completions.create(model="gpt-9", messages=user("hi")),
                      openai.NotFoundError, 404, "model_not_found", "invalid_request_error", "model"),
    "unknown API": (lambda c: c.responses.create(model="vllm", input="hi"),
                    openai.NotFoundError, 404, "unknown_url", "invalid_request_error", None),
    "API that the engine lacks": (lambda c: c.embeddings.create(model="mindie", input="hi"),
                                  openai.NotFoundError, 404, "unsupported_api", "invalid_request_error", None),
    "no messages": (lambda c: c.post("/chat/completions", body={"model": "vllm"}, cast_to=object),
                    openai.BadRequestError, 400, "invalid_request", "invalid_request_error", None),
    "no model": (lambda c: c.post("/chat/completions", body={"messages": []}, cast_to=object),
                 openai.BadRequestError, 400, "missing_required_parameter", "invalid_request_error", "model"),
    "wrong type": (lambda c: c.post("/chat/completions", body={"model": 5}, cast_to=object),
                   openai.BadRequestError, 400, "invalid_type", "invalid_request_error", "model"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
async def test_refusals_are_the_sdks_own_exceptions(client: openai.AsyncOpenAI, case: str) -> None:
    call, kind, status, code, type, param = REFUSED[case]
    with pytest.raises(kind) as no:
        await call(client)
    error = no.value
    assert (error.status_code, error.code, error.type) == (status, code, type), error
    assert param is None or error.param == param
    assert error.message and error.request_id


@pytest.mark.parametrize("stream", (False, True))
@pytest.mark.parametrize("kind", ENGINES)
async def test_a_prompt_that_does_not_fit(client: openai.AsyncOpenAI, kind: str, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError) as no:
        await client.chat.completions.create(model=kind, messages=user("long " * 3000), stream=stream)
    assert no.value.code == "context_length_exceeded" and no.value.type == "invalid_request_error"
    assert "maximum context length" in no.value.message and not {"vllm", "mindie", "sglang"} & set(no.value.message.lower().split())


async def test_a_busy_engine_is_a_rate_limit_and_is_left_alone_as_long_as_it_asked(gateway: Rig, client: openai.AsyncOpenAI) -> None:
    engine = gateway.engines["busy"]
    engine.script = script({"on": 1, "do": "status", "status": 429, "headers": {"Retry-After": "1"}})
    began = time.monotonic()
    with pytest.raises(openai.RateLimitError) as no:
        await client.chat.completions.create(model="busy", messages=user("hi"))
    assert (no.value.status_code, no.value.code) == (429, "upstream_overloaded")
    assert (no.value.response.headers["retry-after"], no.value.response.headers["retry-after-ms"]) == ("1", "1000")

    with pytest.raises(openai.InternalServerError) as rests:
        await client.chat.completions.create(model="busy", messages=user("hi"))
    assert (rests.value.status_code, rests.value.code) == (503, "upstream_overloaded")
    assert 0 < int(rests.value.response.headers["retry-after-ms"]) <= 1000 and engine.last.number == 1, "it was not asked"

    patient = client.with_options(max_retries=2)  # which waits as long as the answer says
    answer = await patient.chat.completions.create(model="busy", messages=user("hi"))
    assert answer.choices[0].message.content and time.monotonic() - began >= 0.95 and engine.last.number == 2


@pytest.mark.parametrize("status", (404, 405, 501))
async def test_an_api_that_the_engine_turns_out_not_to_have_is_no_fault_of_it(
    gateway: Rig, client: openai.AsyncOpenAI, status: int
) -> None:
    """A chat model's vLLM has no embeddings. Whoever asks for them all the same must not take the engine from the others."""
    engine = gateway.engines["sglang"]
    engine.script = script({"on": "1-", "do": "status", "status": status, "body": '{"detail":"Not Found"}'})
    before = len([request for request in engine.requests if request.number])
    for _ in range(12):
        with pytest.raises(openai.NotFoundError) as no:
            await client.with_options(max_retries=2).embeddings.create(model="sglang", input="hi")
        assert (no.value.code, no.value.type) == ("unsupported_api", "invalid_request_error")
    assert engine.last.number - before == 12, "nobody repeats what is of no use"
    record = await gateway.record(id=no.value.response.headers["x-request-id"])
    assert (record["end"], record["status"], record["error"]) == ("CW", 404, f"status_{status}")
    states = {one["channel"]: one["state"] for one in (await gateway.admin("GET", "/v1/health"))["endpoints"]}
    assert states["sglang"] == "up"


@pytest.mark.parametrize("stream", (False, True))
@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ({"do": "status", "status": 500}, 502, "upstream_error"),
        ({"do": "status", "status": 503}, 503, "upstream_unavailable"),
        ({"do": "reset"}, 502, "upstream_error"),
        ({"do": "garbage"}, 502, "upstream_error"),
    ],
    ids=lambda value: str(value["do"]) if isinstance(value, dict) else None,
)
async def test_an_engine_that_fails_before_it_answers(
    gateway: Rig, client: openai.AsyncOpenAI, fault: Any, status: int, code: str, stream: bool
) -> None:
    gateway.engines["vllm"].script = script(fault)
    with pytest.raises(openai.InternalServerError) as no:
        await client.chat.completions.create(model="vllm", messages=user("hi"), stream=stream)
    assert (no.value.status_code, no.value.code, no.value.type) == (status, code, "server_error")
    assert "127.0.0.1" not in no.value.message and "vllm" not in no.value.message


@pytest.mark.parametrize("fault", ({"do": "cut", "after": 5}, {"do": "error_event", "after": 5}, {"do": "no_done"}), ids=lambda f: f["do"])
@pytest.mark.parametrize("kind", ENGINES)
async def test_a_stream_that_breaks_is_an_error_and_never_looks_complete(
    gateway: Rig, client: openai.AsyncOpenAI, kind: str, fault: Any
) -> None:
    gateway.engines[kind].script = script(fault)
    seen = []
    with pytest.raises(openai.APIError) as broken:
        async for chunk in await client.chat.completions.create(model=kind, messages=user("hello world"), stream=True):
            seen.append(chunk)
    assert not isinstance(broken.value, openai.APIConnectionError), "an error event, not a broken connection"
    assert text_of(seen) and broken.value.type == "server_error"
    late = (kind, fault["do"]) == ("mindie", "error_event")  # bare text: the engine's own time-out
    assert broken.value.code == ("upstream_timeout" if late else "upstream_error")
    record = await gateway.record(model=kind, stream=True)
    assert record["end"] == "UD"


async def test_nothing_listens(client: openai.AsyncOpenAI) -> None:
    from tests.harness import free_port

    with pytest.raises(openai.APIConnectionError):
        await client.with_options(base_url=f"http://127.0.0.1:{free_port()}/v1").models.list()


# -- time and identity ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", (False, True))
async def test_an_engine_that_is_too_slow_for_its_channel(client: openai.AsyncOpenAI, stream: bool) -> None:
    with pytest.raises(openai.InternalServerError) as no:
        await client.chat.completions.create(model="hasty", messages=user("hi"), stream=stream)
    assert (no.value.status_code, no.value.code) == (504, "upstream_timeout")


async def test_a_caller_that_does_not_wait_frees_the_engine(gateway: Rig, client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.APITimeoutError):
        await client.with_options(timeout=1.0).chat.completions.create(model="slow", messages=user("hi"), max_tokens=300)
    engine = gateway.engines["slow"]
    await eventually(lambda: engine.requests[-1].aborted_at)
    assert (await gateway.record(model="slow", status=499))["end"] == "CW"


async def test_a_closed_stream_frees_the_engine_within_a_second(gateway: Rig, client: openai.AsyncOpenAI) -> None:
    engine = gateway.engines["slow"]
    took: list[float] = []
    while not took or (took[-1] >= 1.0 and len(took) < 3):  # a machine with much to do may take a second for anything
        stream = await client.chat.completions.create(model="slow", messages=user("go on"), stream=True)
        chunks = [await anext(stream) for _ in range(5)]
        assert text_of(chunks) and engine.requests[-1].aborted_at is None
        left = time.monotonic()
        await stream.close()
        took.append(await eventually(lambda: engine.requests[-1].aborted_at) - left)
    assert took[-1] < 1.0, took
    record = await gateway.record(model="slow", stream=True)
    assert (record["end"], record["source"]) == ("CD", "continuous") and 1 <= record["tokens"]["out"] < 30


async def test_a_cancelled_task_frees_the_engine(gateway: Rig, client: openai.AsyncOpenAI) -> None:
    async def read() -> None:
        async for _ in await client.chat.completions.create(model="slow", messages=user("cancel me"), stream=True):
            begun.set()

    begun = asyncio.Event()
    task = asyncio.create_task(read())
    await asyncio.wait_for(begun.wait(), 10)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    engine = gateway.engines["slow"]
    await eventually(lambda: engine.requests[-1].aborted_at)


async def test_request_ids_lead_to_the_record(gateway: Rig, client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="vllm", messages=user("hi"))
    assert answer._request_id
    assert (await gateway.record(id=answer._request_id))["status"] == 200
    named = await client.chat.completions.with_raw_response.create(
        model="vllm", messages=user("hi"), extra_headers={"X-Request-Id": "ticket-4711"}
    )
    assert named.headers["x-request-id"] == "ticket-4711" and named.parse().choices
    assert (named.headers["x-gateway-channel"], named.headers["x-gateway-attempts"]) == ("vllm", "1")
    found = (await gateway.admin("GET", "/v1/requests/ticket-4711"))["request"]
    assert found["trace"] == "ticket-4711" and gateway.engines["vllm"].last.headers["x-request-id"] == "ticket-4711"


async def test_many_at_once_are_not_mixed_up(client: openai.AsyncOpenAI) -> None:
    async def ask(number: int) -> None:
        text = f"canary {number} 金丝雀"
        kind = ENGINES[number % 3]
        if number % 2:
            stream = await client.chat.completions.create(model=kind, messages=user(text), stream=True)
            assert text_of([chunk async for chunk in stream]).startswith(text)
        else:
            whole = await client.chat.completions.create(model=kind, messages=user(text))
            assert (whole.choices[0].message.content or "").startswith(text)

    await asyncio.gather(*(ask(number) for number in range(60)))

"""The gateway before an engine that we did not write: llama.cpp's own server on a tiny model."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio

from gateway.simulate.llama import ANSWER, WORDS, LlamaServer
from tests.harness import KEY, Rig, eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODELS = ("llama", "found")
"""The same server, as `engine: openai` and as `engine: auto`."""
CONTEXT = 2048


class Bench(Rig):
    """A rig whose channels lead to real servers."""

    def real(self, name: str, server: LlamaServer, **channel: Any) -> None:
        self.config["channels"][name] = {"engine": "openai", "endpoints": [server.url], "model": server.model, **channel}
        self.model(name, {name: 1})

    async def processing(self, server: LlamaServer) -> int:
        """Requests that the server works on now, as it says itself."""
        async with self.session.get(f"{server.url}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("llamacpp:requests_processing")).partition(".")[0])


@pytest.fixture(scope="module")
def llama():
    with LlamaServer(model="tiny", context=4 * CONTEXT) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(llama: LlamaServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    with LlamaServer(model="tiny", api_key="sesame") as guarded:
        rig = Bench(tmp_path_factory.mktemp("llama"))
        async with rig:
            rig.real("llama", llama)
            rig.real("found", llama, engine="auto")
            rig.real("guarded", guarded, credential="sesame")
            rig.real("locked", guarded, credential="wrong")
            rig.real("both", guarded, credential="sesame", endpoints=[guarded.url, llama.url], breaker={"failures": 2})
            await rig.start()
            yield rig


@pytest_asyncio.fixture(loop_scope="module")
async def client(gateway: Bench) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0, timeout=20) as client:
        yield client


def ask(model: str, text: str = "Who are you?") -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}]}


async def test_auto_finds_out_that_it_speaks_openai(gateway: Bench, llama: LlamaServer) -> None:
    channels = {one["name"]: one for one in (await gateway.admin("GET", "/v1/channels"))["channels"]}
    assert (channels["found"]["engine"], channels["found"]["detected"]) == ("auto", "openai")
    found = await gateway.admin("POST", "/v1/channels/found/probe")
    assert "tiny" in str(found)


@pytest.mark.parametrize("model", MODELS)
async def test_chat(gateway: Bench, client: openai.AsyncOpenAI, model: str) -> None:
    answer = await client.chat.completions.create(**ask(model))
    assert answer.model == model
    assert answer.choices[0].message.content == ANSWER and answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None and answer.usage.completion_tokens == len(WORDS) + 1
    record = await gateway.record(id=answer._request_id)
    assert (record["tokens"]["in"], record["tokens"]["out"]) == (answer.usage.prompt_tokens, len(WORDS) + 1)
    assert record["source"] == "final"
    assert record["upstream_model"] == "tiny"


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("usage", (False, True))
async def test_stream(gateway: Bench, client: openai.AsyncOpenAI, model: str, usage: bool) -> None:
    more: Any = {"stream_options": {"include_usage": True}} if usage else {}
    chunks = [chunk async for chunk in await client.chat.completions.create(**ask(model), stream=True, **more)]
    words = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert "".join(words) == ANSWER and len(words) == len(WORDS), "a word is an event, as the engine sent it"
    assert {chunk.model for chunk in chunks} == {model}
    if usage:
        assert chunks[-1].choices == [] and chunks[-1].usage and chunks[-1].usage.completion_tokens == len(WORDS) + 1
    else:
        assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    record = await gateway.record(model=model, stream=True)
    assert record["tokens"]["out"] == len(WORDS) + 1 and record["end"] == "--"


async def test_completions(client: openai.AsyncOpenAI) -> None:
    whole = await client.completions.create(model="llama", prompt="Hello\n", max_tokens=5)
    assert whole.choices[0].text.strip() == " ".join(WORDS[:5]) and whole.choices[0].finish_reason == "length"
    stream = await client.completions.create(model="llama", prompt="Hello\n", max_tokens=5, stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream if chunk.choices]) == whole.choices[0].text


@pytest.mark.parametrize("usage", (False, True))
async def test_several_choices_are_streamed_and_all_counted(gateway: Bench, client: openai.AsyncOpenAI, usage: bool) -> None:
    """It tells the usage of each choice in an event of its own."""
    more: Any = {"stream_options": {"include_usage": True}} if usage else {}
    stream = await client.chat.completions.create(**ask("llama"), n=3, max_tokens=4, stream=True, **more)
    told = [chunk.usage async for chunk in stream if not chunk.choices]
    assert [found and found.completion_tokens for found in told] == [12] * usage
    record = await gateway.record(id=stream.response.headers["x-request-id"])
    assert record["tokens"]["out"] == 12 and record["end"] == "--"


async def test_several_prompts_are_streamed(gateway: Bench, client: openai.AsyncOpenAI) -> None:
    """Its first event is `null` then."""
    stream = await client.completions.create(
        model="llama", prompt=["Hello\n", "Hello\n"], max_tokens=5, stream=True, stream_options={"include_usage": True}
    )
    texts, usages = {0: "", 1: ""}, []
    async for chunk in stream:
        usages += [chunk.usage] if chunk.usage else []
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert [text.strip() for text in texts.values()] == [" ".join(WORDS[:5])] * 2
    assert [usage.completion_tokens for usage in usages] == [10]
    record = await gateway.record(id=stream.response.headers["x-request-id"])
    assert (record["tokens"]["in"], record["tokens"]["out"], record["end"]) == (usages[0].prompt_tokens, 10, "--")


async def test_logprobs_are_the_engines_own(client: openai.AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(**ask("llama"), max_tokens=3, logprobs=True, top_logprobs=2, temperature=0)
    assert whole.choices[0].logprobs and whole.choices[0].logprobs.content
    tokens = whole.choices[0].logprobs.content
    assert [token.token.strip() for token in tokens] == WORDS[:3]
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in tokens)
    stream = await client.chat.completions.create(**ask("llama"), max_tokens=3, logprobs=True, top_logprobs=2, temperature=0, stream=True)
    streamed = [chunk.choices[0].logprobs async for chunk in stream if chunk.choices and chunk.choices[0].logprobs]
    assert [token.token for part in streamed for token in part.content or []] == [token.token for token in tokens]


async def test_tokenize_has_the_form_of_vllm(gateway: Bench) -> None:
    answer = await gateway.post("/tokenize", {"model": "llama", "prompt": "ab"})
    assert answer.status == 200, answer.body
    assert answer.json["count"] == len(answer.json["tokens"]) > 0
    messages = await gateway.post("/tokenize", {"model": "llama", "messages": [{"role": "user", "content": "ab"}]})
    assert (messages.status, messages.json["error"]["code"]) == (400, "unsupported_parameter")


@pytest.mark.parametrize("stream", (False, True))
async def test_a_prompt_that_does_not_fit(client: openai.AsyncOpenAI, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError) as no:
        await client.chat.completions.create(**ask("llama", "long " * 4 * CONTEXT), stream=stream)
    assert (no.value.code, no.value.type) == ("context_length_exceeded", "invalid_request_error")
    assert str(4 * CONTEXT) in no.value.message and "llama" not in no.value.message


async def test_the_channels_credential_opens_the_engine_and_a_wrong_one_is_our_fault(client: openai.AsyncOpenAI) -> None:
    assert (await client.chat.completions.create(**ask("guarded"))).choices[0].message.content == ANSWER
    with pytest.raises(openai.InternalServerError) as no:
        await client.chat.completions.create(**ask("locked"))
    assert (no.value.status_code, no.value.code) == (502, "upstream_auth")


async def test_an_answer_may_be_allowed_more_than_there_is_room_for(client: openai.AsyncOpenAI) -> None:
    """This engine cuts it. Some clients always ask for as much as the model's card says."""
    assert (await client.chat.completions.create(**{**ask("llama"), "max_tokens": 10 * CONTEXT})).choices[0].message.content


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}


@pytest.mark.parametrize(
    ("path", "asked", "status", "code"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [IMAGE]}]}, 400, "invalid_request"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "tools": [{"type": "function"}]}, 400, "invalid_request"),
        ("/v1/chat/completions", {"messages": [{"content": "x"}]}, 400, "invalid_request"),
        ("/v1/embeddings", {"input": "hello"}, 404, "unsupported_api"),
        ("/v1/rerank", {"query": "hello", "documents": ["a"]}, 404, "unsupported_api"),
    ],
)
async def test_who_asks_for_what_a_model_cannot_do_ejects_nobody(gateway: Bench, path: str, asked: Any, status: int, code: str) -> None:
    for _ in range(6):
        answer = await gateway.post(path, {"model": "both", **asked})
        assert (answer.status, answer.json["error"]["code"]) == (status, code)
    told = (await gateway.admin("GET", "/v1/health"))["endpoints"]
    assert [(one["state"], one["why"]) for one in told if one["channel"] == "both"] == [("up", "")] * 2


async def test_a_caller_that_leaves_frees_the_slot(gateway: Bench, client: openai.AsyncOpenAI, llama: LlamaServer) -> None:
    stream = await client.chat.completions.create(**ask("llama"), stream=True, max_tokens=4000, extra_body={"ignore_eos": True})
    for _ in range(20):
        await anext(stream)
    assert await gateway.processing(llama) == 1
    await stream.close()

    async def idle() -> bool:
        return await gateway.processing(llama) == 0

    await eventually(idle, within=2)
    record = await gateway.record(end="CD")
    assert record["tokens"]["out"] >= 19 and record["source"] == "counted", "this engine tells its usage only at the end"


@pytest.mark.hard
async def test_an_engine_that_is_killed_in_mid_stream(tmp_path: Any) -> None:
    server = LlamaServer(model="tiny").start()
    try:
        rig = Bench(tmp_path)
        async with rig:
            rig.real("mortal", server)
            await rig.start()
            seen = ""
            async with rig.open_stream("mortal", max_tokens=15_000, ignore_eos=True) as answer:
                with pytest.raises(aiohttp.ClientPayloadError):  # it looks unfinished even to who does not read the error event
                    async for line in answer.content:
                        seen += line.decode()
                        if seen.count("data:") == 50:
                            os.kill(server.pid, 9)
            *_, last = [line for line in seen.split("\n\n") if line]
            assert '"error"' in last and '"upstream_error"' in last and "[DONE]" not in seen
            record = await rig.record(model="mortal")
            assert (record["end"], record["error"], record["status"]) == ("UD", "cut", 200)
            assert record["tokens"]["out"] >= 48
            gone = await rig.chat("mortal")
            assert (gone.status, gone.json["error"]["code"]) == (502, "upstream_error")
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            assert (await rig.chat("mortal")).text == ANSWER, "and it serves again, on its old address"
    finally:
        server.stop()

"""The real engine that other tests lean on: llama.cpp's server answers, streams, counts, and can be killed."""

import os
import socket
import time
from typing import Any

import openai
import pytest

from gateway.simulate.llama import ANSWER, WORDS, LlamaServer


@pytest.fixture(scope="module")
def llama():
    with LlamaServer(model="tiny") as server:
        yield server


@pytest.fixture
async def client(llama):
    async with openai.AsyncOpenAI(base_url=f"{llama.url}/v1", api_key="none", max_retries=0) as client:
        yield client


ASK: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "Who are you?"}]}


async def test_chat_and_usage(client):
    answer = await client.chat.completions.create(**ASK)
    assert answer.model == "tiny"
    assert answer.choices[0].message.content == ANSWER
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens == len(WORDS) + 1
    assert answer.usage.prompt_tokens > 0


async def test_stream_and_usage(client):
    chunks = [chunk async for chunk in await client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True})]
    words = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert "".join(words) == ANSWER and len(words) == len(WORDS)
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == len(WORDS) + 1


async def test_an_answer_can_be_cut_short_or_made_long(client):
    short = await client.chat.completions.create(**ASK, max_tokens=3)
    assert (short.choices[0].message.content, short.choices[0].finish_reason) == ("This answer comes", "length")
    long = await client.chat.completions.create(**ASK, max_tokens=500, extra_body={"ignore_eos": True})
    assert long.usage.completion_tokens == 500 and long.choices[0].message.content.startswith(ANSWER + ANSWER)


async def test_it_refuses_what_a_real_engine_refuses(client):
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(**(ASK | {"messages": [{"role": "user", "content": "long " * 10_000}]}))
    assert refused.value.status_code == 400
    with LlamaServer(api_key="sesame") as guarded:
        with pytest.raises(openai.AuthenticationError):
            await client.with_options(base_url=f"{guarded.url}/v1").chat.completions.create(**ASK)


async def test_a_killed_one_comes_back_under_its_address():
    server = LlamaServer()
    began = time.monotonic()
    url = server.start().url
    assert time.monotonic() - began < 10  # about 0.2 s; the rest is for a machine that is busy
    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    try:
        stream = await client.chat.completions.create(**ASK, stream=True, max_tokens=15_000, extra_body={"ignore_eos": True})
        await anext(stream)
        server.kill()
        with pytest.raises(openai.APIConnectionError):
            async for _ in stream:
                pass
        assert server.start().url == url
        assert (await client.chat.completions.create(**ASK)).choices[0].message.content == ANSWER
    finally:
        server.stop()
        await client.close()


def test_one_that_cannot_start_says_why():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(RuntimeError, match="did not start"):
            LlamaServer(taken.getsockname()[1]).start()


def test_misuse_is_said_at_once(llama):
    with pytest.raises(RuntimeError, match="already running"):
        llama.start()
    idle = LlamaServer()
    idle.stop()
    with pytest.raises(RuntimeError, match="not running"):
        _ = idle.pid


@pytest.mark.hard
def test_thirty_crashes_leave_nothing_behind():
    server = LlamaServer()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(30):
        pid = server.start().pid
        server.kill()
        assert not os.path.exists(f"/proc/{pid}")
    assert len(os.listdir("/proc/self/fd")) == before

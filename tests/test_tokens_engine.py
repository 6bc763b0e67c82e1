"""gateway/tokens/ask_engine.py: an engine is asked in its own form, briefly, and what it cannot say is None."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from msgspec import Raw

from gateway.config.fields import url_of
from gateway.config.resolved import Endpoint
from gateway.engine.family import DIALECTS
from gateway.route.ask import Ask
from gateway.simulate import tokens
from gateway.simulate.simulator import start
from gateway.tokens import ask_engine as asking
from gateway.tokens.ask_engine import ask_engine
from gateway.tokens.bounds import START, TURN
from tests.harness import free_port

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "How is it in Peking?"}]}]
TOOLS = [{"type": "function", "function": {"name": "weather"}}]
TEMPLATE = 2 * TURN + START


def endpoint(url: str) -> Endpoint:
    scheme, host, port, base = url_of(url)
    return Endpoint(url=url, scheme=scheme, host=host, port=port, base=base)


def chat(**fields: Any) -> Ask:
    return Ask(
        api="chat", model="m", fields={name: Raw(json.dumps(value).encode()) for name, value in {"messages": MESSAGES, **fields}.items()}
    )


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


@asynccontextmanager
async def engine(answer: Any) -> AsyncIterator[tuple[Endpoint, list[web.Request]]]:
    """Answers each request so: a status, bytes, or something to await. Yields its address and what came."""
    heard: list[web.Request] = []

    async def serve(request: web.Request) -> web.StreamResponse:
        await request.read()
        heard.append(request)
        if callable(answer):
            await answer()
        if isinstance(answer, int):
            return web.Response(status=answer, headers={"Location": "/elsewhere"})
        return web.Response(body=answer if isinstance(answer, bytes) else b"")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", serve)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield endpoint(f"{site.name}/base"), heard
    finally:
        await runner.cleanup()


async def test_vllm_is_given_the_messages_and_adds_the_template_itself(session):
    simulator = await start("vllm", model="m", api_key="secret")
    try:
        at, dialect = endpoint(simulator.url), DIALECTS["vllm"]
        found = await ask_engine(
            session, at, dialect, {"Authorization": "Bearer secret"}, "m", chat(tools=TOOLS, stream=True, temperature=1)
        )
        assert json.loads(simulator.requests[-1].body) == {"model": "m", "messages": MESSAGES, "tools": TOOLS}
        assert found is not None and found > tokens.count("How is it in Peking?")
        prompt = Ask(api="completions", model="m", fields={"prompt": Raw(b'"one two three"')})
        assert await ask_engine(session, at, dialect, {"Authorization": "Bearer secret"}, "m", prompt) == tokens.count("one two three")
    finally:
        await simulator.stop()


async def test_images_are_not_sent(session):
    simulator = await start("vllm", model="m")
    try:
        image = {"type": "image_url", "image_url": {"url": "http://elsewhere/secret.png"}}
        ask = chat(messages=[{"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]}])
        found = await ask_engine(session, endpoint(simulator.url), DIALECTS["vllm"], {}, "m", ask)
        assert found == tokens.count("What is this?") + TURN + START
        assert b"elsewhere" not in simulator.requests[-1].body
    finally:
        await simulator.stop()


@pytest.mark.parametrize("kind", ["sglang", "mindie"])
async def test_others_are_given_the_texts_and_the_template_is_added(session, kind):
    simulator = await start(kind, model="m")
    try:
        texts = f"Be brief.\nHow is it in Peking?\n{json.dumps(TOOLS)}"
        found = await ask_engine(session, endpoint(simulator.url), DIALECTS[kind], {}, "m", chat(tools=TOOLS))
        assert found == tokens.count(texts) + TEMPLATE
    finally:
        await simulator.stop()


async def test_the_answer_of_llama_cpp_is_a_list_of_tokens(session):
    async with engine(b'{"tokens": [1, 2, 3]}') as (at, heard):
        assert await ask_engine(session, at, DIALECTS["openai"], {"x-key": "k"}, "m", chat()) == 3 + TEMPLATE
    assert heard[0].path == "/base/tokenize" and heard[0].headers["x-key"] == "k"
    assert json.loads(await heard[0].read()) == {"content": "Be brief.\nHow is it in Peking?", "add_special": True}


@pytest.mark.parametrize(
    "answer",
    [
        401,
        404,
        307,
        500,
        b"",
        b"no JSON",
        b"{}",
        b"[]",
        b'{"count": "3", "tokens": []}',
        b'{"count": -3, "tokens": []}',
        b'{"count": true, "tokens": []}',
    ],
)
async def test_what_is_no_count_is_none(session, answer):
    async with engine(answer) as (at, heard):
        assert await ask_engine(session, at, DIALECTS["vllm"], {}, "m", chat()) is None
    assert len(heard) == 1, "a redirect was followed"


async def test_an_answer_without_end_is_none(session, monkeypatch):
    monkeypatch.setattr(asking, "LARGEST", 1_000)
    async with engine(b'{"count": 3, "tokens": [' + b"1," * 1_000 + b"1]}") as (at, _):
        assert await ask_engine(session, at, DIALECTS["vllm"], {}, "m", chat()) is None


async def test_an_engine_that_is_slow_or_away_is_none(session):
    async with engine(asyncio.Event().wait) as (at, heard):
        assert await ask_engine(session, at, DIALECTS["vllm"], {}, "m", chat(), patience=0.05) is None
    assert heard
    assert await ask_engine(session, endpoint(f"http://127.0.0.1:{free_port()}"), DIALECTS["vllm"], {}, "m", chat()) is None


async def test_a_dialect_without_the_path_is_not_asked(session):
    mute = type(DIALECTS["vllm"])()
    mute.paths = {"chat": "/v1/chat/completions"}
    assert await ask_engine(session, endpoint("http://127.0.0.1:1"), mute, {}, "m", chat()) is None

"""How long a prompt is, when a decision turns on it: by the model's tokenizer, or by asking one of its engines."""

from typing import Final

import aiohttp

from gateway.config.tokenizers import ENGINE
from gateway.route.ask import Ask
from gateway.serve.live import Hop, ModelLive
from gateway.tokens.ask_engine import ask_engine
from gateway.tokens.counter import Counter

ASKED_MOST: Final = 2
"""Engines that are asked one after the other, until one says it."""


class Measure:
    """A worker's. Opens its connections to tokenise endpoints when the first is asked."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._session: aiohttp.ClientSession | None = None

    async def measure(self, model: ModelLive, ask: Ask) -> None:
        """Fills in `ask.tokens` and `ask.sure`, and notes them as this model's count."""
        tokenizer = model.config.tokenizer
        if tokenizer == ENGINE and (tokens := await self._by_engine(model, ask)) is not None:
            ask.tokens = ask.sure = tokens
        else:
            ask.tokens, ask.sure = await self._counter.measure(ask, tokenizer, enough=model.route.enough())
        ask.note(model.route.tokenizer, ask.tokens, ask.sure)

    async def _by_engine(self, model: ModelLive, ask: Ask) -> int | None:
        ways: list[Hop] = [way for way in model.route.node.ways() if way.at.breaker.well]
        for hop in ways[:ASKED_MOST]:
            channel = hop.channel
            headers = {**channel.headers, **({"Authorization": f"Bearer {channel.credential}"} if channel.credential else {})}
            name = channel.tls.server_name if channel.tls else None
            tls = hop.at.pool.tls
            found = await ask_engine(self._open(), hop.at.endpoint, hop.dialect, headers, hop.model, ask, tls=tls, server_name=name)
            if found is not None:
                return found
        return None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=aiohttp.ThreadedResolver()), cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
            )
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

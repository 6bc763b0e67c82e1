"""Counts answers that broke off before their engine said how many tokens they have: prompt and text, by the model's own tokenizer.

Off the loop, and never for longer than PATIENCE: then the record has the events and an estimate of the prompt, as without a tokenizer.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from gateway.exchange import Exchange
from gateway.record import Tokens
from gateway.serve.live import ModelLive
from gateway.tokens.bounds import estimate
from gateway.tokens.counter import ESTIMATED, Counter
from gateway.wire.heard import Heard

log = logging.getLogger("gateway.request")

PATIENCE: Final = 1.0
"""Seconds that a record waits for its counts."""
AT_ONCE: Final = 256
"""Answers that are counted at the same time; further ones have their events."""


class Aftercount:
    """A worker's."""

    def __init__(self, counter: Counter, loop: asyncio.AbstractEventLoop) -> None:
        self._counter, self._loop = counter, loop
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, x: Exchange, then: Callable[[], None]) -> bool:
        """Counts, then calls `then`, whatever happens. False: there is nothing to count, and nothing was called."""
        if x.so_far is not None and x.so_far.continued:  # several engines had a part in it, and each part is counted already
            return False
        heard: Heard | None = x.heard
        texts = heard.texts() if heard is not None else []
        if heard is None or not texts or len(self._tasks) >= AT_ONCE:
            x.tokens = x.tokens if x.tokens.input else Tokens(input=_prompt(x), output=x.tokens.output)
            return False
        task = self._loop.create_task(self._count(x, heard.tokenizer, texts, then))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def _count(self, x: Exchange, tokenizer: str, texts: list[str], then: Callable[[], None]) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                output = await self._counter.texts(texts, tokenizer)
                prompt = x.facts.prompt_est or await self._counter.count(ModelLive.ask(x, 0.0), tokenizer)
                x.tokens = Tokens(input=prompt, output=x.tokens.output if output is None else output)
                x.own_part()
        except TimeoutError:
            log.warning("request %s: its tokens were not counted within %g s; it has its events", x.id, PATIENCE)
        except Exception:
            log.exception("request %s: its tokens could not be counted; it has its events", x.id)
        finally:
            then()

    async def finish(self) -> None:
        """When the last one is written."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2 * PATIENCE)


def _prompt(x: Exchange) -> int:
    """The prompt's tokens as they were counted for a decision, else by its size."""
    if x.facts.prompt_est:
        return x.facts.prompt_est
    ask = ModelLive.ask(x, 0.0)
    return estimate(ask) if ask.prompt_bytes <= ESTIMATED else ask.prompt_bytes // 4

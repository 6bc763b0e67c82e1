"""Counts prompts for a worker: small ones at once, large ones in a few threads. Never fails: what cannot be counted is estimated."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from gateway.config.tokenizers import BUNDLED, ENGINE, Unusable
from gateway.route.ask import Ask
from gateway.tokens.bounds import NFC, UNKNOWN, Growth, bounds, estimate
from gateway.tokens.kept import kept_in
from gateway.tokens.pieces import pieces
from gateway.tokens.total import Total, measure
from gateway.tokens.vocabulary import Shelf, Tokenizer

INLINE: Final = 8 << 10
"""Bytes of prompt JSON that are counted on the loop: 1 ms; 2 ms of the dearest text, 3 ms with a tokenizer.json."""
ESTIMATED: Final = 1 << 20
"""Bytes of prompt JSON that are estimated on the loop: 0.2 ms."""
PATIENCE: Final = 1.0
"""Seconds that a prompt waits for a thread before it is estimated."""
AGAIN: Final = 30.0
"""Seconds after which a tokenizer that could not be loaded is tried again."""

T = TypeVar("T")


class Counter:
    """One for each worker. counted, estimated: how its prompts were measured so far. troubles: tokenizer → why it cannot be used."""

    def __init__(self, folder: Path | None = None, *, threads: int = 2) -> None:
        """folder: what relative names of files start from. threads: prompts that are counted at the same time."""
        self.counted = self.estimated = 0
        self.troubles: dict[str, str] = {}
        self._shelf = Shelf(folder or Path())
        self._ready: dict[str, Tokenizer] = {}
        self._failed: dict[str, float] = {}
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="tokens")
        self._turns = asyncio.Semaphore(threads)
        self._threads, self._closing = threads, threading.Event()

    def keep_in(self, data_dir: Path) -> None:
        """Tokenizers that were converted once, by whichever process, are found there, and new ones go there."""
        self._shelf.kept = kept_in(data_dir)

    async def prepare(self, names: Iterable[str]) -> dict[str, str]:
        """Loads the tokenizers that a configuration names, anew where a file has changed; returns `troubles`. One that has
        become unusable is served on as it was.

        Loading stalls the loop for 0.1 to 0.2 s a tokenizer, a tokenizer.json that nobody converted yet for half a second: best done
        before the worker serves, or while it prepares a revision.
        """
        for name in sorted({name for name in names if name and name != ENGINE}):
            with suppress(Unusable):
                await self._away(partial(self._load, name), None)
        return self.troubles

    def keep(self, names: Iterable[str]) -> None:
        """Lets go of the tokenizers that no model names any more."""
        wanted = set(names)
        self._shelf.keep(wanted)
        self._ready = {name: one for name, one in self._ready.items() if name in wanted}
        self.troubles = {name: what for name, what in self.troubles.items() if name in wanted}

    def bounds(self, ask: Ask, name: str) -> tuple[int, int]:
        """Tokens of the prompt at least and at most, in no time. name: as for `count`."""
        if tokenizer := self._ready.get(name):
            return bounds(ask, tokenizer.longest, tokenizer.growth)
        if name in BUNDLED:
            return bounds(ask, BUNDLED[name].longest, NFC if name == "qwen" else Growth())
        return bounds(ask, 0, UNKNOWN)

    async def count(self, ask: Ask, name: str, *, enough: int = 0) -> int:
        """As `measure`, the tokens alone."""
        return (await self.measure(ask, name, enough=enough)).tokens

    async def measure(self, ask: Ask, name: str, *, enough: int = 0) -> Total:
        """Tokens of the prompt by a tokenizer (a bundled name or a file; "" and "engine" give the estimate), and how many of them are
        sure: those counted in texts, whatever the engine's chat template makes of the rest. Of an estimate none is.

        enough: past this many tokens the rest is only estimated, so that a prompt far beyond all limits costs no more than
        one just beyond (0 = count all).
        """
        small = ask.prompt_bytes <= INLINE
        tokenizer = self._ready.get(name)
        if tokenizer is not None and small:
            self.counted += 1
            return measure(ask, tokenizer, enough)
        known = name not in ("", ENGINE) and self._failed.get(name, 0.0) <= time.monotonic()
        if not known and ask.prompt_bytes <= ESTIMATED:
            self.estimated += 1
            return Total(estimate(ask))
        stop = threading.Event()
        try:
            found = await self._away(partial(self._measure, ask, name if known else "", enough, stop), PATIENCE)
        except (Unusable, TimeoutError):
            self.estimated += 1
            return Total(estimate(ask))
        except asyncio.CancelledError:
            stop.set()
            raise
        self.counted += known
        self.estimated += not known
        return found

    async def texts(self, texts: Sequence[str], name: str) -> int | None:
        """Tokens of these texts together, in a thread; None: no tokenizer counts them. name: as for `count`. Errors: TimeoutError."""
        if name in ("", ENGINE) or self._failed.get(name, 0.0) > time.monotonic():
            return None
        stop = threading.Event()
        try:
            return await self._away(partial(self._count_all, texts, name, stop), PATIENCE)
        except Unusable:
            return None
        except asyncio.CancelledError:
            stop.set()
            raise

    async def close(self) -> None:
        """Ends the threads, each after the piece that it is at. Nothing is counted afterwards."""
        if self._closing.is_set():
            return
        self._closing.set()
        for _ in range(self._threads):
            await self._turns.acquire()
        self._pool.shutdown()

    def _measure(self, ask: Ask, name: str, enough: int, stop: threading.Event) -> Total:
        """In a thread. name: "" = the estimate, which decodes texts beside images. Errors: Unusable."""
        if not name:
            return Total(estimate(ask))
        return measure(ask, self._ready.get(name) or self._load(name), enough, lambda: stop.is_set() or self._closing.is_set())

    def _count_all(self, texts: Sequence[str], name: str, stop: threading.Event) -> int:
        """In a thread. Errors: Unusable."""
        tokenizer, found = self._ready.get(name) or self._load(name), 0
        for piece in (piece for text in texts for piece in pieces(text)):
            if stop.is_set() or self._closing.is_set():
                break
            found += tokenizer.count(piece)
        return found

    def _load(self, name: str) -> Tokenizer:
        """In a thread. Errors: Unusable."""
        try:
            tokenizer = self._shelf.get(name)
        except Unusable as bad:
            self.troubles[name] = str(bad)
            self._failed[name] = time.monotonic() + AGAIN
            raise
        self._ready[name] = tokenizer
        self.troubles.pop(name, None)
        self._failed.pop(name, None)
        return tokenizer

    async def _away(self, work: Callable[[], T], patience: float | None) -> T:
        """In a thread of ours. One that is abandoned keeps its turn until it ends, so that no more than `threads` ever wait
        in the pool. Errors: the work's; TimeoutError after `patience` seconds without a turn."""
        async with asyncio.timeout(patience):
            await self._turns.acquire()
        job = self._pool.submit(work)
        job.add_done_callback(partial(self._ended, asyncio.get_running_loop()))
        return await asyncio.wrap_future(job)

    def _ended(self, loop: asyncio.AbstractEventLoop, job: Future[T]) -> None:
        with suppress(RuntimeError):  # the loop has gone
            loop.call_soon_threadsafe(self._turns.release)

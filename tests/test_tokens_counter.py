"""gateway/tokens/counter.py: small prompts at once, large ones in few threads, and nothing that a caller does stalls or breaks it."""

import asyncio
import json
import os
import threading
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from msgspec import Raw

from gateway.config.tokenizers import BUNDLED, FOLDER
from gateway.route.ask import Ask
from gateway.tokens import counter as counting
from gateway.tokens.bounds import NFC, START, TURN, UNKNOWN, Growth, bounds, estimate
from gateway.tokens.counter import INLINE, Counter
from gateway.tokens.total import total
from gateway.tokens.vocabulary import load
from tests.harness import eventually


def said(*texts: str) -> Ask:
    messages = [{"role": "user", "content": text} for text in texts]
    return Ask(api="chat", model="m", fields={"messages": Raw(json.dumps(messages, ensure_ascii=False).encode())})


LONG = "The prompt is long. " * 2_000


class Gate:
    """A tokenizer that counts characters, and only while it is open. `now`, `most`: threads in it, now and at most."""

    longest, growth = 1, Growth()

    def __init__(self) -> None:
        self.open, self.lock = threading.Event(), threading.Lock()
        self.now = self.most = self.calls = 0

    def count(self, text: str) -> int:
        with self.lock:
            self.now += 1
            self.calls += 1
            self.most = max(self.most, self.now)
        assert self.open.wait(10)
        with self.lock:
            self.now -= 1
        return len(text)


@pytest.fixture
async def counter() -> AsyncIterator[Counter]:
    made = Counter()
    yield made
    await made.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tokens")]


@pytest.fixture
def gate(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> Gate:
    made = Gate()
    monkeypatch.setattr(counter._shelf, "get", lambda name: made)
    return made


@pytest.mark.parametrize("name", list(BUNDLED))
async def test_small_and_large_prompts_are_counted_alike(counter, name):
    tokenizer = load(name, Path())
    for text in ("Hello.", LONG, "网关" * 5_000):
        assert await counter.count(said(text), name) == total(said(text), tokenizer)
    assert counter.counted == 3 and not counter.estimated and not counter.troubles


async def test_a_small_prompt_is_counted_without_a_thread_once_its_tokenizer_is_there(counter):
    await counter.prepare(["cl100k", "", "engine"])
    counter._pool.submit = lambda *_: pytest.fail("a thread")
    assert await counter.count(said("Hello."), "cl100k") == 2 + TURN + START
    assert said("x" * (INLINE - 40)).prompt_bytes <= INLINE < said("x" * INLINE).prompt_bytes
    with pytest.raises(pytest.fail.Exception):
        await counter.count(said("x" * INLINE), "cl100k")
    counter._turns.release()


async def test_without_a_tokenizer_it_is_estimated(counter):
    for name in ("", "engine"):
        for ask in (said("Hello."), said(LONG)):
            assert await counter.count(ask, name) == estimate(ask)
    assert counter.estimated == 4 and not counter.counted


async def test_no_more_than_so_many_are_counted_at_once(counter, gate):
    waiting = [asyncio.create_task(counter.count(said(LONG), "x")) for _ in range(12)]
    await eventually(lambda: gate.now == 2)
    gate.open.set()
    assert await asyncio.gather(*waiting) == [len(LONG) + TURN + START] * 12
    assert gate.most == 2


async def test_callers_who_leave_do_not_pile_up(counter, gate):
    for _ in range(50):
        gone = [asyncio.create_task(counter.count(said(LONG), "x")) for _ in range(4)]
        await asyncio.sleep(0)
        for task in gone:
            task.cancel()
        assert all(isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*gone, return_exceptions=True))
    assert counter._pool._work_queue.qsize() <= 2
    gate.open.set()
    assert await counter.count(said(LONG), "x") == len(LONG) + TURN + START
    assert gate.calls <= 4, "those who left were counted all the same"
    await eventually(lambda: counter._turns._value == 2)


async def test_one_who_leaves_ends_its_own_count(counter, gate):
    task = asyncio.create_task(counter.count(said("x" * 2_000_000), "x"))
    await eventually(lambda: gate.now == 1)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    gate.open.set()
    await eventually(lambda: counter._turns._value == 2)
    assert gate.calls == 1


async def test_who_waits_too_long_gets_the_estimate(counter, gate, monkeypatch):
    monkeypatch.setattr(counting, "PATIENCE", 0.05)
    busy = [asyncio.create_task(counter.count(said(LONG), "x")) for _ in range(2)]
    await eventually(lambda: gate.now == 2)
    assert await counter.count(said(LONG), "x") == estimate(said(LONG))
    assert counter.estimated == 1
    gate.open.set()
    await asyncio.gather(*busy)


async def test_closing_ends_what_runs_and_what_waits(gate, counter):
    running = [asyncio.create_task(counter.count(said("x" * 2_000_000), "x")) for _ in range(4)]
    await eventually(lambda: gate.now == 2)
    closing = asyncio.create_task(counter.close())
    await asyncio.sleep(0)  # it has begun
    gate.open.set()
    await asyncio.gather(*running, closing)
    assert gate.calls <= 4, "a piece each, not the thirty of the text"


async def test_a_tokenizer_that_cannot_be_loaded_is_told_and_tried_again_later(tmp_path, monkeypatch):
    counter = Counter(tmp_path)
    try:
        assert await counter.prepare(["mine.tiktoken"]) == {"mine.tiktoken": "mine.tiktoken: there is no such file"}
        assert await counter.count(said(LONG), "mine.tiktoken") == estimate(said(LONG))
        (tmp_path / "mine.tiktoken").write_bytes((FOLDER / "cl100k_base.tiktoken").read_bytes())
        assert await counter.count(said("Hello."), "mine.tiktoken") == estimate(said("Hello.")), "not tried for each request"
        monkeypatch.setattr(counting, "AGAIN", 0.0)
        assert not await counter.prepare(["mine.tiktoken"])
        assert await counter.count(said("Hello."), "mine.tiktoken") == 2 + TURN + START
        (tmp_path / "mine.tiktoken").write_text("nonsense")
        assert "mine.tiktoken:1:" in (await counter.prepare(["mine.tiktoken"]))["mine.tiktoken"]
        assert await counter.count(said("Hello."), "mine.tiktoken") == 2 + TURN + START, "served on as it was"
        counter.keep([])
        assert not counter.troubles and await counter.count(said("Hello."), "mine.tiktoken") == estimate(said("Hello."))
    finally:
        await counter.close()


async def test_bounds_know_the_bundled_tokenizers_before_they_are_loaded(counter):
    ask = said("Grüße " * 1_000)
    before = {name: counter.bounds(ask, name) for name in BUNDLED}
    assert before["cl100k"] == bounds(ask, 128, Growth()) and before["qwen"] == bounds(ask, 128, NFC)
    assert counter.bounds(ask, "other.json") == counter.bounds(ask, "") == bounds(ask, 0, UNKNOWN)
    await counter.prepare(BUNDLED)
    assert {name: counter.bounds(ask, name) for name in BUNDLED} == before


async def worst_stall(work) -> float:
    """Seconds that the loop did not turn while `work` ran, at worst."""
    worst, done = 0.0, asyncio.ensure_future(work)
    while not done.done():
        before = time.perf_counter()
        await asyncio.sleep(0.001)
        worst = max(worst, time.perf_counter() - before - 0.001)
    await done
    return worst


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a stall cannot be told from waiting for the only core")
@pytest.mark.parametrize(
    "text", ["The prompt is long, 128k tokens. " * 17_000, " " * 1_000_000, "a" * 1_000_000], ids=["prose", "spaces", "a"]
)
async def test_a_long_prompt_does_not_stall_the_loop(counter, text):
    await counter.prepare(["o200k"])
    stalls = [await worst_stall(counter.count(said(text), "o200k")) for _ in range(5)]
    assert min(stalls) < 0.03, stalls  # bench/tokens.py measures; this tells a count on the loop (over 40 ms) from one beside it


async def test_hostile_prompts_are_counted_or_estimated_but_never_fail(counter):
    for raw in (
        b'[{"content":"\\ud800"}]',
        b'[{"content":"\\u0000\\u0000"}]',
        b"[]",
        b"{}",
        b"3",
        b'[{"content":' + b"[" * 9_000 + b"]" * 9_000 + b"}]",
    ):
        ask = Ask(api="chat", model="m", fields={"messages": Raw(raw)})
        assert 0 <= await counter.count(ask, "qwen") < 10_000
    assert await counter.count(Ask(api="chat", model="m"), "qwen") == 0

"""Streams that break off at engines without running counts: prompt and text by the model's own tokenizer, in time, else by events."""

import asyncio
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from gateway.exchange import Exchange
from gateway.record import Tokens
from gateway.serve.aftercount import PATIENCE, Aftercount
from gateway.simulate import tokens
from gateway.tokens.counter import Counter
from gateway.wire.heard import TEXT_MOST, Heard
from tests.harness import Rig, eventually, script

TEXT = "The quick brown fox jumps over the extraordinarily lazy dog, 17 times in a row."


def shared(folder: Path) -> str:
    """A tokenizer.json that counts as the simulators do: each piece of up to six characters is a token."""
    from tokenizers import Regex, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split

    made = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    made.pre_tokenizer = Split(Regex(r"\s?\S{1,6}|\s"), "isolated")
    path = folder / "tokenizer.json"
    made.save(str(path))
    return str(path)


@pytest.fixture
async def rig(tmp_path):
    async with Rig(tmp_path) as rig:
        await rig.engine("ascend", "mindie", tps=100, burst=4)
        await rig.engine("other", "vllm", tps=100, burst=4, channel={"usage": "final"})
        rig.model("pangu", {"ascend": 1}, tokenizer=shared(tmp_path))
        rig.model("final", {"other": 1}, tokenizer=shared(tmp_path))
        rig.model("plain", {"ascend": 1})
        rig.config["http"] = {"drain_timeout": "1s"}
        await rig.start()
        yield rig


PAUSES = script({"do": "stall", "at": "mid_stream", "after": 30})


async def events(answer: aiohttp.ClientResponse) -> None:
    """All that come before the pause."""
    async with asyncio.timeout(10):
        for _ in range(30):
            while not (await answer.content.readline()).startswith(b"data: "):
                pass


async def leaves(rig: Rig, model: str, **body: Any) -> tuple[dict[str, Any], int, int]:
    """A caller that leaves in the middle: its record, and what its engine counted, prompt and output.

    The engine pauses then: a token that is under way just as the caller leaves would be counted by it alone.
    """
    simulated = rig.engines["other" if model == "final" else "ascend"]
    simulated.script, engine = PAUSES, simulated.engine
    before = engine.prompt_tokens, engine.generation_tokens
    asked = {"model": model, "stream": True, "max_tokens": 300, "ignore_eos": True, **body}
    headers = {"Authorization": "Bearer sk-test-0123456789abcdef0123456789abcdef"}
    path = "completions" if "prompt" in body else "chat/completions"
    async with rig.session.post(f"{rig.url}/v1/{path}", json=asked, headers=headers) as answer:
        await events(answer)
        id = answer.headers["x-request-id"]
    record = await rig.record(id=id)
    await eventually(lambda: not engine.working)
    return record, engine.prompt_tokens - before[0], engine.generation_tokens - before[1]


@pytest.mark.parametrize("model", ["pangu", "final"])
async def test_a_stream_that_is_left_has_what_its_engine_counted(rig, model):
    record, prompt, output = await leaves(rig, model, prompt=TEXT)
    assert record["tokens"] == {"in": prompt, "out": output} and prompt == tokens.count(TEXT) and output > 20
    assert (record["source"], record["end"], record["status"]) == ("counted", "CD", 499)


async def test_of_a_chat_too_to_the_template(rig):
    record, prompt, output = await leaves(rig, "pangu", messages=[{"role": "user", "content": TEXT}])
    assert record["tokens"]["out"] == output and abs(record["tokens"]["in"] - prompt) <= 5 and record["source"] == "counted"


async def test_an_engine_that_breaks_off_is_counted_before_its_caller_has_the_end(rig):
    rig.engines["ascend"].script = script({"do": "cut", "after": 30})
    began = time.monotonic()
    answer = await rig.chat("pangu", TEXT, stream=True, max_tokens=200, ignore_eos=True)
    assert answer.error is not None and time.monotonic() - began < 5
    record = await rig.record(id=answer.headers["x-request-id"])
    engine = rig.engines["ascend"].engine
    assert (record["tokens"]["out"], record["source"], record["end"]) == (engine.generation_tokens, "counted", "UD")


async def test_without_a_tokenizer_it_has_its_events_and_an_estimate(rig):
    record, _, _ = await leaves(rig, "plain", prompt=TEXT)
    assert record["source"] == "counted" and record["tokens"]["out"] > 0 and record["tokens"]["in"] == (len(TEXT) + 2) // 4


async def test_a_worker_that_ends_writes_what_it_still_counts(rig):
    rig.engines["ascend"].script = PAUSES
    async with rig.open_stream("pangu", TEXT, max_tokens=500, ignore_eos=True) as stream:
        await events(stream)
        await rig.stop()
    engine = rig.engines["ascend"].engine
    assert [(one["source"], one["tokens"]["out"], one["end"]) for one in rig.records()] == [("counted", engine.generation_tokens, "OD")]


# -- how long ------------------------------------------------------------------------------------------------------------


class Slow(Counter):
    """Never done, or broken."""

    error: Exception | None = None

    async def texts(self, texts: Any, name: str) -> int | None:
        if self.error:
            raise self.error
        await asyncio.sleep(60)
        return 1


def broken_off() -> Exchange:
    x = Exchange("id", "rid", None, "POST", "/", {}, "", 0.0, 0.0)
    x.api, x.tokens, x.source = "completions", Tokens(output=7), "counted"
    x.key = SimpleNamespace(tenant="t", project="p", id="k")
    heard = Heard(lambda event, reasoning: event, "x")
    heard.event({"choices": [{"index": 0, "text": "hi"}]}, "reasoning")
    x.heard = heard
    return x


@pytest.mark.parametrize("error", [None, RuntimeError("a fault")])
async def test_what_cannot_be_counted_in_time_has_its_events(monkeypatch, error, caplog):
    monkeypatch.setattr("gateway.serve.aftercount.PATIENCE", 0.05)
    counter = Slow()
    counter.error = error
    aftercount, x, written = Aftercount(counter, asyncio.get_running_loop()), broken_off(), []
    assert PATIENCE == 1.0 and aftercount(x, lambda: written.append(x.tokens)) and written == []
    await asyncio.sleep(0.2)
    assert written == [Tokens(output=7)] and "events" in caplog.text
    await aftercount.finish()
    await counter.close()


# -- what is kept --------------------------------------------------------------------------------------------------------


def heard(*events: dict[str, Any]) -> list[str]:
    one = Heard(lambda event, reasoning: event, "x")
    for event in events:
        assert one.event(event, "reasoning") is event
    return one.texts()


def test_texts_of_all_choices_reasoning_and_calls():
    call = {"index": 0, "function": {"name": "find", "arguments": '{"a"'}}
    assert heard(
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},
        {"choices": [{"index": 0, "delta": {"reasoning": "hm", "reasoning_content": "hm"}}]},
        {"choices": [{"index": 0, "delta": {"content": "He"}}, {"index": 1, "delta": {"content": "Yo"}}]},
        {"choices": [{"index": 0, "delta": {"content": "llo"}}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}, None]}}]},
        {"choices": [None, {"delta": 5, "text": 7}], "usage": None},
        {"choices": None},
    ) == ["hm", "Hello", "Yo", "find", '{"a":1}']
    assert json.loads('{"a":1}') == {"a": 1}


def test_an_endless_answer_is_not_kept():
    assert heard(*[{"choices": [{"index": 0, "text": "x" * (TEXT_MOST // 2 + 1)}]}] * 2) == []

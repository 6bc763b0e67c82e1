"""An engine dies in the middle of an answer, another goes on with it: at every event, and the caller sees no difference."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from gateway.engine.continuing import continued, limit_of, may_continue
from gateway.wire.continuation import SoFar
from gateway.wire.openai import Fields, encode, parse_object
from tests.harness import KEY, Answer, Rig, eventually, script

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXT = "say  it\n\ntwice, say it again \N{SNOWMAN}"
"""Tokens of white space alone stand in it, so that there is something to hold back."""
PROMPT = f"{TEXT}<|assistant|>"


def patient(**more: Any) -> dict[str, Any]:
    """A channel whose engine may fail as often as a test likes."""
    times = {"connect": "1s", "first_event": "500ms", "idle": "500ms", "total": "5s"}
    return {"breaker": {"failures": 1000, "share": 100, "slow_start": "0s"}, "timeouts": times, **more}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with Rig(tmp_path_factory.mktemp("continuation")) as rig:
        for kind in ("vllm", "sglang"):
            for name in ("1", "2", "3"):
                await rig.engine(kind + name, kind, reply_tokens=20, channel=patient())
            for name in (kind, *(f"{kind}-{number}" for number in range(60))):  # each has a retry budget of its own
                rig.model(name, {kind + "1": 1, kind + "2": 0, kind + "3": 0}, continuation="same-model")
        await rig.engine("counted1", "vllm", reply_tokens=20, channel=patient(usage="count"))
        await rig.engine("final1", "vllm", reply_tokens=20, channel=patient(usage="final"))
        await rig.engine("thinks", "vllm", reply_tokens=20, reasoning="field", channel=patient())
        await rig.engine("mindie1", "mindie", channel=patient())
        await rig.engine("other", "vllm", model="other", channel=patient())
        on: dict[str, Any] = {"continuation": "same-model"}
        rig.model("counted", {"counted1": 1, "vllm2": 0}, **on)
        rig.model("final", {"final1": 1, "vllm2": 0}, **on)
        rig.model("thinks", {"thinks": 1, "vllm2": 0}, **on)
        rig.model("crossed", {"vllm1": 1, "sglang2": 0}, **on)
        rig.model("unable", {"vllm1": 1, "mindie1": 0}, **on)
        rig.model("elsewhere", {"vllm1": 1, "other": 0}, fallback=["vllm"], **on)
        rig.model("alone", {"vllm1": 1}, **on)
        rig.model("once", {"vllm1": 1, "vllm2": 0}, retry={"attempts": 1}, **on)
        rig.model("off", {"vllm1": 1, "vllm2": 0})
        await rig.start()
        yield rig


@pytest.fixture
async def rig(gateway: Rig) -> Rig:
    for engine in gateway.engines.values():
        engine.script = script()
        engine.requests.clear()
    return gateway


async def ask(rig: Rig, model: str, api: str = "chat", *, text: str | None = None, **more: Any) -> Answer:
    body = {"model": model, "stream": True, "stream_options": {"include_usage": True}, **more}
    if api == "chat":
        return await rig.post("/v1/chat/completions", {"messages": [{"role": "user", "content": text or TEXT}], **body})
    return await rig.post("/v1/completions", {"prompt": text or PROMPT, "max_tokens": 40, **body})


def same(answer: Answer) -> list[str]:
    """The events of an answer as they came, but for what belongs to one request: its id and time, which no event contradicts."""
    ids = {(chunk["id"], chunk["created"]) for chunk in answer.chunks}
    assert len(ids) == 1, ids
    [(id, created)] = ids
    return [event.replace(json.dumps(id), '"ID"').replace(f'"created":{created}', '"created":0') for event in answer.events]


def words(answer: Answer) -> str:
    return "".join((c.get("delta") or c).get("content") or c.get("text") or "" for chunk in answer.chunks for c in chunk["choices"])


def tries(record: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(attempt["kind"], attempt["channel"], attempt["reason"]) for attempt in record["attempts"]]


async def last_record(rig: Rig, answer: Answer) -> dict[str, Any]:
    return await rig.record(id=answer.headers["x-request-id"])


def sent(rig: Rig, engine: str) -> dict[str, Any]:
    """The body of the last inference request to an engine."""
    found: dict[str, Any] = [request for request in rig.engines[engine].requests if request.number][-1].json()
    return found


# -- at every event ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
@pytest.mark.parametrize("api", ["chat", "completions"])
@pytest.mark.parametrize("continuous", [False, True])
async def test_at_every_event_the_answer_is_the_same_to_the_byte(rig: Rig, kind: str, api: str, continuous: bool) -> None:
    options = {"include_usage": True, "continuous_usage_stats": continuous}
    whole = await ask(rig, kind, api, stream_options=options)
    assert whole.done and words(whole).startswith(TEXT[:20]) and "  it\n\n" in words(whole)
    usage = whole.chunks[-1]["usage"]
    events = usage["completion_tokens"] + (1 if api == "chat" else 0)  # the role comes first
    for number in range(events):
        rig.engines[f"{kind}1"].script = script({"on": 1, "do": "cut" if number % 2 else "reset", "after": number})
        answer = await ask(rig, f"{kind}-{number}", api, stream_options=options)
        assert same(answer) == [event.replace(f'"{kind}"', f'"{kind}-{number}"') for event in same(whole)], number
        record = await last_record(rig, answer)
        kind_of = [attempt["kind"] for attempt in record["attempts"]]
        begun = number > (1 if api == "chat" else 0)
        assert kind_of in ([["first", "continue"]] if begun else [["first", "failover"], ["first"]]), number
        assert (record["status"], record["end"]) == (200, "--")
        assert (record["tokens"]["in"], record["tokens"]["out"]) == (usage["prompt_tokens"], usage["completion_tokens"])
        await eventually(lambda name=f"{kind}1": not rig.engines[name].engine.working)

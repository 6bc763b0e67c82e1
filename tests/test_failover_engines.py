"""Each failure before commit, of each engine, whole and streamed: the next target serves the same body, and the record says why."""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.simulate.settings import KINDS
from tests.harness import Rig, script

pytestmark = pytest.mark.asyncio(loop_scope="module")

FAULTS = {
    "refuse": "reset",
    "reset": "reset",
    "status 500": "status_500",
    "status 502": "status_502",
    "status 503": "status_503",
    "status 429": "status_429",
    "stall first_event": "timeout_first_event",
    "error_event": "stream_error",
    "garbage": "garbage",
    "cut": "cut",
}
"""What the engine does → the reason in the record. A whole answer that breaks off is `cut`, too."""
ONLY_STREAMS = ("stall first_event", "error_event")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with Rig(tmp_path_factory.mktemp("engines")) as rig:
        calm = {"breaker": {"failures": 1000, "share": 100}, "timeouts": {"first_event": "400ms", "idle": "400ms"}}
        for kind in KINDS:
            await rig.engine(kind, kind, model="m", channel=calm | {})
            rig.config["channels"][kind] = json.loads(json.dumps(rig.config["channels"][kind]))
        await rig.engine("good", model="m")
        for kind in KINDS:
            for fault in FAULTS:  # each its own retry budget
                rig.model(f"{kind}-{fault.replace(' ', '-')}", {kind: 1, "good": 0})
        await rig.start()
        yield rig


def fault(text: str) -> dict[str, object]:
    word, _, more = text.partition(" ")
    if word == "status":
        return {"do": "status", "status": int(more)}
    return {"do": word, "at": more} if more else {"do": word}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("text", FAULTS)
@pytest.mark.parametrize("kind", KINDS)
async def test_the_next_target_serves_the_same_body(rig, kind, text, stream):
    if text in ONLY_STREAMS and not stream:
        pytest.skip("only streams have a first event")
    rig.engines[kind].script = script(fault(text))
    good = rig.engines["good"]
    good.requests.clear()
    model = f"{kind}-{text.replace(' ', '-')}"
    answer = await rig.chat(model, "what was asked", stream=stream, max_tokens=7, temperature=0.25, seed=11)
    assert answer.status == 200 and answer.error is None and (answer.done or not stream)
    assert answer.text and (answer.headers["x-gateway-channel"], answer.headers["x-gateway-attempts"]) == ("good", "2")
    record = await rig.record(id=answer.headers["x-request-id"])
    (first, second) = record["attempts"]
    assert (first["kind"], first["channel"], second["kind"], second["channel"]) == ("first", kind, "failover", "good")
    assert first["reason"] in (FAULTS[text], "reset") and second["reason"] == "ok"
    body = json.loads(good.last.body)
    assert body["messages"] == [{"role": "user", "content": "what was asked"}]
    assert (body["max_tokens"], body["temperature"], body["seed"]) == (7, 0.25, 11), "parameters unchanged"
    rig.engines[kind].script = script()

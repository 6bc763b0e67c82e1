"""Every way a simulated engine can fail, whole and streamed: the caller gets all of an answer, or an honest error.

Never a part that looks whole.
"""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.simulate.faults import OPTIONS
from gateway.simulate.settings import KINDS
from tests.harness import Answer, Rig, script

pytestmark = pytest.mark.asyncio(loop_scope="module")

FAULTS: dict[str, list[dict[str, object]]] = {
    "refuse": [{}],
    "reset": [{}, {"after": 0}, {"after": 1}, {"after": 4}],
    "stall": [{"at": "headers"}, {"at": "first_event"}, {"at": "mid_stream", "after": 4}, {"at": "mid_stream", "after": 2, "for": "100ms"}],
    "cut": [{}, {"after": 0}, {"after": 4}],
    "bare_text": [{"after": 0}, {"after": 4}],
    "status": [{"status": 500}, {"status": 503}, {"status": 429, "headers": {"Retry-After": "0"}}, {"status": 204}, {"status": 301}],
    "slow_body": [{"rate": 60_000}],
    "garbage": [{}, {"after": 0}, {"after": 4}],
    "queue_full": [{}],
    "error_event": [{}, {"after": 4}],
    "no_done": [{}],
    "restart": [{"for": "50ms"}],
    "flap": [{"up": "10s", "down": "10ms"}],
}
CASES = [(do, words) for do, variants in FAULTS.items() for words in variants]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with Rig(tmp_path_factory.mktemp("faults")) as rig:
        for kind in KINDS:
            times = {"timeouts": {"connect": "300ms", "first_event": "200ms", "idle": "200ms", "total": "400ms"}}
            await rig.engine(f"{kind}-ill", kind, channel=times)
            await rig.engine(f"{kind}-well", kind)
            for number in range(len(CASES)):  # each its own retry budget
                rig.model(f"{kind}-{number}-alone", {f"{kind}-ill": 1})
                rig.model(f"{kind}-{number}-both", {f"{kind}-ill": 1, f"{kind}-well": 0})
        await rig.start()
        yield rig


async def test_every_fault_of_the_simulators_is_tried():
    assert set(FAULTS) == set(OPTIONS)


def judge(answer: Answer, right: str, what: str) -> bool:
    """True: the whole answer. False: an error that says so. Anything else fails."""
    if answer.status == 200 and not answer.events:
        assert answer.text == right, what
        return True
    if answer.done:
        assert answer.error is None and answer.text == right, what
        assert answer.chunks[-1]["choices"][0]["finish_reason"] == "stop", what
        return True
    error = answer.error
    assert error is not None and set(error) == {"message", "type", "param", "code"} and error["message"] and error["code"], (what, answer)
    assert answer.status != 200 or answer.events, what
    assert right.startswith(answer.text) if answer.events else answer.status >= 400, what
    return False


@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{do}-{'-'.join(map(str, words.values()))}" for do, words in CASES])
@pytest.mark.parametrize("kind", KINDS)
async def test_all_or_an_honest_error(rig, kind, number):
    do, words = CASES[number]
    ill = rig.engines[f"{kind}-ill"]
    ill.script = script()
    right = (await rig.chat(f"{kind}-{number}-alone", "tell me")).text
    for stream in (False, True):
        for model in (f"{kind}-{number}-alone", f"{kind}-{number}-both"):
            what = f"{kind} {do} {words} stream={stream} {model}"
            ill.script = script({"do": do, **words})
            answer = await rig.chat(model, "tell me", stream=stream)
            whole = judge(answer, right, what)
            record = rig.records()[-1]
            assert record["model"] == model, what
            assert (record["end"] == "--") == whole, (what, record)
            committed = stream and len(answer.events) > 1
            if model.endswith("both") and not whole:
                assert committed or record["attempts"][-1]["reason"] == "timeout_total", (
                    f"{what}: nobody else was asked, though nothing was committed"
                )
            ill.script = script()
            await ill.up()
            assert (await rig.chat(f"{kind}-{number}-alone", "tell me")).status == 200, f"{what}: did not recover"

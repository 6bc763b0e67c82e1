"""An engine dies in the middle of an answer, another goes on with it: at every event, and the caller sees no difference."""

import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from gateway.simulate import tokens
from tests.harness import Answer, Rig, script

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
            for name in (kind, *(f"{kind}-{number}" for number in range(100))):  # see `spare`
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
        rig.model("leads-off", {"vllm1": 1}, rules=[{"name": "on", "when": {}, "to": {"model": "off"}}], **on)
        rig.model("leads-on", {"vllm1": 1}, rules=[{"name": "on", "when": {}, "to": {"model": "vllm-0"}}])
        rig.model("falls-off", {"broken": 1}, fallback=["off"], **on)
        await rig.engine("broken", "vllm", channel=patient())
        await rig.start()
        yield rig


@pytest.fixture
async def rig(gateway: Rig) -> Rig:
    for engine in gateway.engines.values():
        engine.script = script()
        engine.requests.clear()
    return gateway


NUMBERS = itertools.count(30)


def spare(kind: str) -> str:
    """A model that no test has used: each has a retry budget of its own."""
    return f"{kind}-{next(NUMBERS)}"


def words_of(text: str) -> list[str]:
    """The simulators' tokens."""
    return tokens.split(text)


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
    return "".join((c.get("delta") or c).get("content") or c.get("text") or "" for chunk in answer.chunks for c in chunk.get("choices", ()))


def tries(record: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(attempt["kind"], attempt["channel"], attempt["reason"]) for attempt in record["attempts"]]


async def last_record(rig: Rig, answer: Answer) -> dict[str, Any]:
    return await rig.record(id=answer.headers["x-request-id"])


def sent(rig: Rig, engine: str) -> dict[str, Any]:
    """The body of the last inference request to an engine."""
    requests = [request for request in rig.engines[engine].requests if request.number]
    return dict(json.loads(requests[-1].body))


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


@pytest.mark.parametrize(("kind", "api"), [("vllm", "chat"), ("sglang", "chat"), ("sglang", "completions")])
async def test_after_the_last_word_another_engine_says_why_it_ended(rig: Rig, kind: str, api: str) -> None:
    whole = await ask(rig, kind, api)
    events = whole.chunks[-1]["usage"]["completion_tokens"] + (1 if api == "chat" else 0)
    rig.engines[f"{kind}1"].script = script({"on": 1, "do": "cut", "after": events})
    answer = await ask(rig, spare(kind), api)
    finish = [choice["finish_reason"] for chunk in answer.chunks for choice in chunk["choices"] if choice["finish_reason"]]
    assert answer.done and words(answer) == words(whole) and finish == ["stop"]
    assert [attempt["kind"] for attempt in (await last_record(rig, answer))["attempts"]] == ["first", "continue"]


async def test_what_the_others_are_asked(rig: Rig) -> None:
    rig.engines["vllm1"].script = script({"do": "cut", "after": 6})
    answer = await ask(rig, spare("vllm"), max_tokens=9, min_tokens=8, max_completion_tokens=9)
    first, second = sent(rig, "vllm1"), sent(rig, "vllm2")
    got = second["messages"][-1]
    assert got["role"] == "assistant" and words(answer).startswith(got["content"]) and got["content"] == got["content"].rstrip()
    given = 9 - second["max_tokens"]
    assert given == len(words_of(got["content"])) and (second["min_tokens"], second["max_completion_tokens"]) == (8 - given, 9 - given)
    assert second["messages"][:-1] == first["messages"] and (second["continue_final_message"], second["add_generation_prompt"]) == (
        True,
        False,
    )
    assert answer.chunks[-1]["usage"]["completion_tokens"] == 9 and answer.chunks[-2]["choices"][0]["finish_reason"] == "length"
    body = {"model": spare("vllm"), "prompt": PROMPT, "stream": True}
    rig.engines["vllm1"].script = script({"do": "cut", "after": 6})
    shorter = await rig.post("/v1/completions", body)
    again = sent(rig, "vllm2")
    assert again["prompt"].startswith(PROMPT) and PROMPT + words(shorter) > again["prompt"] > PROMPT
    assert again["max_tokens"] == 16 - len(words_of(again["prompt"].removeprefix(PROMPT))), "the API's own limit"
    assert shorter.done and shorter.chunks[-1]["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
async def test_what_may_begin_a_stop_string_is_written_by_one_engine(rig: Rig, kind: str) -> None:
    """It looks for the string in its own text: half of it from the first engine, and the second would go on past it."""
    whole = await ask(rig, kind)
    rig.engines[f"{kind}1"].script = script({"on": 1, "do": "cut", "after": 7})
    await ask(rig, spare(kind))
    given = sent(rig, f"{kind}2")["messages"][-1]["content"]
    last = given.split()[-1]
    rig.engines[f"{kind}1"].script = script({"on": 1, "do": "cut", "after": 7})
    answer = await ask(rig, spare(kind), stop=["never said", f"{last}#"])
    less = sent(rig, f"{kind}2")["messages"][-1]["content"]
    assert given.startswith(less) and given[len(less) :].strip() == last
    assert answer.done and words(answer) == words(whole)
    assert answer.chunks[-1]["usage"] == whole.chunks[-1]["usage"]


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
@pytest.mark.parametrize("more", [{}, {"max_tokens": 9}])
async def test_where_a_token_ends_like_a_stop_string_begins_the_answer_is_the_same(rig: Rig, kind: str, more: dict[str, Any]) -> None:
    """The engine that goes on is given whole tokens: of `fo` and `r` a model makes something else than of `for`."""
    more = {"text": "one two three four five six", **more}
    whole = await ask(rig, kind, **more)
    for after, end in ((3, "o"), (5, "ur"), (7, "x")):  # the last token that came
        rig.engines[f"{kind}1"].script = script({"on": 1, "do": "cut", "after": after})
        answer = await ask(rig, spare(kind), stop=[f"{end} never said"], **more)
        assert answer.done and words(answer) == words(whole), end
        assert answer.chunks[-1]["usage"] == whole.chunks[-1]["usage"]
        rig.engines[f"{kind}1"].script = script()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"do": "cut", "after": 7}, "cut"),
        ({"do": "reset", "after": 7}, "cut"),
        ({"do": "error_event", "after": 7}, "stream_error"),
        ({"do": "garbage", "after": 7}, "garbage"),
        ({"do": "bare_text", "after": 7}, "garbage"),
        ({"do": "stall", "at": "mid_stream", "after": 7}, "timeout_idle"),
    ],
    ids=lambda value: value["do"] if isinstance(value, dict) else "",
)
async def test_however_it_dies(rig: Rig, fault: dict[str, Any], reason: str) -> None:
    model = spare("vllm")
    whole = await ask(rig, model)
    rig.engines["vllm1"].script = script(fault)
    answer = await ask(rig, model)
    assert answer.done and words(answer) == words(whole) and answer.chunks[-1]["usage"] == whole.chunks[-1]["usage"]
    record = await last_record(rig, answer)
    assert tries(record) == [("first", "vllm1", reason), ("continue", "vllm2", "ok")]
    assert (record["channel"], record["status"], record["end"], record["source"]) == ("vllm2", 200, "--", "continuous")


async def test_another_kind_of_engine_goes_on_under_the_same_name(rig: Rig) -> None:
    whole = await ask(rig, "crossed")
    rig.engines["vllm1"].script = script({"do": "cut", "after": 7})
    answer = await ask(rig, "crossed")
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in answer.chunks}) == 1
    assert sum("role" in choice["delta"] for chunk in answer.chunks for choice in chunk["choices"]) == 1
    assert words(answer) == words(whole) and answer.events.count("[DONE]") == 1


async def test_the_model_whose_targets_serve_says_whether_others_go_on(rig: Rig) -> None:
    rig.engines["vllm1"].script = script({"do": "cut", "after": 7})
    rig.engines["broken"].script = script({"do": "cut", "after": 0})
    assert (await ask(rig, "leads-on")).done
    for model in ("leads-off", "falls-off"):
        answer = await ask(rig, model)
        assert not answer.done and [kind for kind, *_ in tries(await last_record(rig, answer))][-1] != "continue"


async def test_the_second_dies_as_well(rig: Rig) -> None:
    model = spare("vllm")
    whole = await ask(rig, model)
    for after in (0, 1, 5):  # before its answer, before its text, in the middle of it
        rig.engines["vllm1"].script = script({"do": "cut", "after": 7})
        rig.engines["vllm2"].script = script({"do": "cut", "after": after})
        answer = await ask(rig, model)
        assert same(answer) == same(whole)
        record = await last_record(rig, answer)
        assert tries(record) == [("first", "vllm1", "cut"), ("continue", "vllm2", "cut"), ("continue", "vllm3", "ok")]
        usage, prompt = whole.chunks[-1]["usage"], whole.chunks[-1]["usage"]["prompt_tokens"]
        assert record["tokens"] == {"in": prompt, "out": usage["completion_tokens"]}
        assert record["ms"]["connect"] <= record["ms"]["first"], "who goes on is connected later, but the first word waited for the first"
        own = [attempt.get("tokens", {}) for attempt in record["attempts"]]
        assert own[0]["in"] == prompt and own[2]["in"] > prompt, "its prompt held the text so far"
        assert own[2]["out"] < usage["completion_tokens"] <= sum(part.get("out", 0) for part in own)


async def test_when_nobody_can_go_on_the_caller_is_told_of_the_first_death(rig: Rig) -> None:
    rig.engines["vllm1"].script = script({"do": "cut", "after": 7})
    for name in ("vllm2", "vllm3"):
        rig.engines[name].script = script({"do": "status", "status": 503})
    answer = await ask(rig, spare("vllm"))
    assert not answer.done and answer.error is not None and "in the middle of its answer" in answer.error["message"]
    record = await last_record(rig, answer)
    assert (record["status"], record["end"], record["error"]) == (200, "UD", "cut")
    assert tries(record) == [("first", "vllm1", "cut"), ("continue", "vllm2", "status_503"), ("continue", "vllm3", "status_503")]
    assert record["tokens"]["out"] == len(words_of(words(answer))) and record["source"] == "continuous"
    assert record["bytes"]["out"] == len("".join(f"data: {event}\n\n" for event in answer.events).encode())


# -- when it cannot be ---------------------------------------------------------------------------------------------------

NOT_WITH: list[dict[str, Any]] = [
    {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
    {"response_format": {"type": "json_object"}},
    {"guided_regex": "a+"},
    {"structured_outputs": {"regex": "a+"}},
    {"logprobs": True},
    {"n": 2},
    {"echo": True},
    {"messages": [{"role": "user", "content": TEXT}, {"role": "assistant", "content": "say"}]},
]


@pytest.mark.parametrize("more", NOT_WITH, ids=lambda more: next(iter(more)))
async def test_requests_that_no_other_engine_can_go_on_with(rig: Rig, more: dict[str, Any]) -> None:
    rig.engines["vllm1"].script = script({"do": "cut", "after": 7})
    await breaks_off(rig, spare("vllm"), **more)


@pytest.mark.parametrize("model", ["off", "alone", "once", "unable", "elsewhere", "thinks"])
async def test_models_that_no_other_engine_can_go_on_with(rig: Rig, model: str) -> None:
    rig.engines["vllm1"].script = rig.engines["thinks"].script = script({"do": "cut", "after": 7})
    await breaks_off(rig, model)


async def breaks_off(rig: Rig, model: str, **more: Any) -> None:
    """The honest error event, and nobody else was asked."""
    answer = await ask(rig, model, **more)
    assert answer.status == 200 and not answer.done and answer.error is not None
    record = await last_record(rig, answer)
    assert (record["status"], record["end"], record["error"]) == (200, "UD", "cut") and len(record["attempts"]) == 1
    assert record["tokens"]["out"] > 0


# -- tokens --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "api"), [("vllm", "chat"), ("sglang", "chat"), ("sglang", "completions")])
async def test_when_only_the_end_is_missing_it_is_written(rig: Rig, kind: str, api: str) -> None:
    model = spare(kind)
    whole = await ask(rig, model, api, max_tokens=10)
    rig.engines[f"{kind}1"].script = script({"do": "cut", "after": 11 if api == "chat" else 10})
    answer = await ask(rig, model, api, max_tokens=10)
    assert same(answer)[:-3] == same(whole)[:-3] and same(answer)[-2:] == same(whole)[-2:]
    end = answer.chunks[-2]["choices"][0]
    assert (end["finish_reason"], end["index"], end.get("delta") or end["text"]) == ("length", 0, {"content": ""} if api == "chat" else "")
    record = await last_record(rig, answer)
    assert tries(record) == [("first", f"{kind}1", "cut")] and record["tokens"]["out"] == 10
    assert (record["status"], record["end"], record["source"]) == (200, "--", "continuous")


@pytest.mark.parametrize(("kind", "api"), [("vllm", "chat"), ("sglang", "chat"), ("sglang", "completions")])
@pytest.mark.parametrize("do", ["cut", "error_event", "garbage", "stall"])
async def test_who_dies_after_the_finish_took_nothing_with_it(rig: Rig, kind: str, api: str, do: str) -> None:
    model = spare(kind)
    whole = await ask(rig, model, api)
    events = whole.chunks[-1]["usage"]["completion_tokens"] + (1 if api == "chat" else 0)
    for after in (events + 1, events + 2):  # the finish, the usage
        rig.engines[f"{kind}1"].script = script({"do": do, "after": after, **({"at": "mid_stream"} if do == "stall" else {})})
        answer = await ask(rig, model, api)
        assert same(answer) == same(whole), after
        record = await last_record(rig, answer)
        assert len(record["attempts"]) == 1 and record["attempts"][0]["reason"] != "ok", "nobody else was asked"
        assert (record["status"], record["end"], record["source"]) == (200, "--", "continuous")
        assert record["tokens"]["out"] == whole.chunks[-1]["usage"]["completion_tokens"]


async def test_the_end_of_one_prompt_is_not_the_end_of_all(rig: Rig) -> None:
    rig.engines["vllm1"].script = script({"do": "cut", "after": 7})
    body = {"model": spare("vllm"), "prompt": ["one two", "three four"], "max_tokens": 20, "stream": True}
    answer = await rig.post("/v1/completions", body)
    assert not answer.done and answer.error is not None


@pytest.mark.parametrize("model", ["counted", "final"])
async def test_without_continuous_usage_tokens_are_counted(rig: Rig, model: str) -> None:
    whole = await ask(rig, model)
    rig.engines[f"{model}1"].script = script({"do": "cut", "after": 7})
    answer = await ask(rig, model)
    record = await last_record(rig, answer)
    assert words(answer) == words(whole) and record["source"] == "counted"
    assert tries(record) == [("first", f"{model}1", "cut"), ("continue", "vllm2", "ok")]
    assert record["tokens"]["out"] == len(words_of(words(whole)))


async def test_a_caller_who_leaves_pays_for_what_came_from_both(rig: Rig) -> None:
    rig.engines["vllm1"].script = script({"do": "cut", "after": 7})
    rig.engines["vllm2"].script = script({"do": "stall", "at": "mid_stream", "after": 4})
    async with rig.open_stream(spare("vllm"), TEXT) as answer:
        id, got = answer.headers["x-request-id"], b""
        while "\N{SNOWMAN}".encode() not in got:  # its ninth token, the third of the second engine
            got += await answer.content.readany()
    record = await rig.record(id=id)
    assert record["end"] == "CD" and record["attempts"][-1]["kind"] == "continue" and record["attempts"][-1]["reason"] == "abandoned"
    assert (record["tokens"]["out"], record["source"]) == (9, "continuous")
    assert [attempt["tokens"]["out"] for attempt in record["attempts"]] == [6, 3]

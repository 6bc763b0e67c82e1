"""One request, end to end: a real gateway before simulated engines."""

from tests.harness import Rig, script


async def test_a_whole_answer_and_its_record(rig: Rig) -> None:
    await rig.engine("a", "vllm")
    rig.model("qwen")
    await rig.start()
    answer = await rig.chat("qwen", "hello there", max_tokens=8)
    assert answer.status == 200
    assert answer.json["model"] == "qwen"
    assert answer.text
    assert answer.headers["x-gateway-channel"] == "a"
    assert answer.headers["x-gateway-attempts"] == "1"
    record = await rig.record(status=200)
    usage = answer.json["usage"]
    assert record["tokens"] == {"in": usage["prompt_tokens"], "out": usage["completion_tokens"]}
    assert record["end"] == "--"
    assert record["source"] == "final"
    assert record["key"] == "k1" and record["tenant"] == "acme" and record["project"] == "bot"
    assert [(a["channel"], a["reason"]) for a in record["attempts"]] == [("a", "ok")]


async def test_a_stream_of_each_engine(rig: Rig) -> None:
    for kind in ("vllm", "sglang", "mindie"):
        await rig.engine(kind, kind)
        rig.model(f"m-{kind}", {kind: 1})
    await rig.start()
    for kind in ("vllm", "sglang", "mindie"):
        whole = await rig.chat(f"m-{kind}", "say something", max_tokens=9)
        stream = await rig.chat(f"m-{kind}", "say something", max_tokens=9, stream=True)
        assert stream.done, stream.body
        assert stream.text == whole.text
        assert {chunk["model"] for chunk in stream.chunks} == {f"m-{kind}"}
        assert not any(chunk.get("usage") for chunk in stream.chunks), "nobody asked for usage"
        record = await rig.record(stream=True, model=f"m-{kind}")
        assert record["tokens"]["out"] == whole.json["usage"]["completion_tokens"]
        assert record["ms"]["first"] > 0
        asked = await rig.chat(f"m-{kind}", "say something", max_tokens=9, stream=True, stream_options={"include_usage": True})
        assert asked.chunks[-1]["choices"] == []
        assert asked.chunks[-1]["usage"]["completion_tokens"] == whole.json["usage"]["completion_tokens"]
        assert sum(bool(chunk.get("usage")) for chunk in asked.chunks) == 1


async def test_the_next_target_serves_when_the_first_fails_before_commit(rig: Rig) -> None:
    await rig.engine("a", "vllm")
    await rig.engine("b", "vllm")
    rig.model("qwen", {"a": 1, "b": 0})
    await rig.start()
    for stream in (False, True):
        rig.engines["a"].script = script({"on": 1, "do": "status", "status": 503})
        answer = await rig.chat("qwen", stream=stream)
        assert answer.status == 200, answer.body
        assert answer.headers["x-gateway-channel"] == "b"
        assert answer.headers["x-gateway-attempts"] == "2"
        record = await rig.record(stream=stream) if stream else await rig.record(status=200)
        assert [(a["kind"], a["channel"], a["reason"]) for a in record["attempts"]] == [
            ("first", "a", "status_503"),
            ("failover", "b", "ok"),
        ]

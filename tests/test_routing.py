"""Routing end to end: real processes, real sockets, simulated engines. Which target a request reaches, and what its record says."""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.harness import KEY, Answer, Rig, eventually, script

OTHER = "sk-other-0123456789abcdef0123456789"
"""A key that may use one alias."""

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with Rig(tmp_path_factory.mktemp("routing")) as rig:
        for name in ("a", "b", "c"):
            await rig.engine(name, model="m", channel={"breaker": {"slow_start": "0s"}})
        await rig.engine("short", model="m", max_model_len=512)
        await rig.engine("long", model="m", max_model_len=32768)
        await rig.engine("mind", "mindie", model="m", max_model_len=4096)
        await rig.engine("sgl", "sglang", model="m")
        await rig.engine("dies", model="m", channel={"breaker": {"failures": 1000, "share": 100}})
        await rig.engine("also-dies", model="m", channel={"breaker": {"failures": 1000, "share": 100}})
        rig.config["schedules"] = {
            "always": {"when": ["00:00-24:00"]},
            "never": {"when": ["2001-01-01 00:00-00:01"]},
        }
        rig.config["tenants"]["other"] = {"projects": {}}
        await rig.engine("away", model="m", channel={"breaker": {"failures": 1, "cooldown": "100ms", "slow_start": "0s"}})
        tiers = [{"channel": "away"}, {"channel": "b"}]
        rig.config["models"]["returns"] = {"policy": "primary-backup", "fail_back": "5m", "targets": tiers}
        rig.model("small", {"c": 1}, aliases=["small-1"])
        digest = hashlib.sha256(OTHER.encode()).hexdigest()
        rig.config["keys"].append({"id": "k2", "hash": f"sha256:{digest}", "tenant": "acme", "project": "bot", "models": ["small-*"]})
        chats = {"id": "k3", "hash": "sha256:" + "3c" * 32, "tenant": "acme", "project": "bot", "models": ["*"], "apis": ["chat"]}
        rig.config["keys"].append(chats)
        rules: list[dict[str, Any]] = [
            {"name": "env", "when": {"headers": {"x-env": "prod"}}, "to": {"channel": "b"}},
            {"name": "words", "when": {"content": {"words": ["refund"]}}, "to": {"model": "small"}},
            {
                "name": "tools",
                "when": {"has": "tools", "during": "always"},
                "to": [{"channel": "b", "weight": 1}, {"channel": "c", "weight": 1}],
            },
            {"name": "who", "when": {"tenant": "other"}, "to": {"channel": "c"}},
            {"name": "night", "when": {"during": "never"}, "to": {"channel": "c"}},
            {"name": "long", "when": {"prompt_tokens": {"over": 1000}}, "to": {"channel": "long"}},
        ]
        rig.model("ruled", {"a": 1}, rules=rules, tokenizer="qwen", aliases=["rul-*"])
        rig.config["models"]["either"] = {"policy": "primary-backup", "targets": [{"channel": name} for name in ("mind", "sgl", "a")]}
        rig.model("sgl", {"sgl": 1})
        rig.model("embeds", {"a": 1}, fallback=["mindie", "small"])
        rig.model("embeds-nowhere", {"a": 1}, fallback=["mindie"])
        rig.model("mindie-first", {"mind": 1}, fallback=["small"])
        rig.model("shorter", {"short": 1}, tokenizer="qwen")
        rig.model("falls-short", {"a": 1}, fallback=["shorter"])
        rig.config["models"]["repeats"] = {
            "policy": "primary-backup",
            "targets": [{"channel": "a"}, {"targets": [{"channel": "a"}, {"channel": "b", "weight": 0}]}, {"channel": "c"}],
        }
        rig.model("counts", {"short": 1, "long": 0}, tokenizer="qwen")
        leads = {"when": {"headers": {"x-env": "prod"}}, "to": {"model": "counts"}}
        rig.model("leads", {"long": 1}, rules=[{"name": "prod", **leads}])
        rig.model(
            "leads-on",
            {"long": 1},
            tokenizer="engine",
            rules=[{"name": "huge", "when": {"prompt_tokens": {"over": 100}}, "to": {"model": "leads"}}],
        )
        rig.model(
            "leads-shortly", {"long": 1}, tokenizer="qwen", rules=[{"name": "short", "when": {"api": "chat"}, "to": {"channel": "short"}}]
        )
        rig.model("leads-short", {"long": 1}, rules=[{"name": "any", "when": {"api": "chat"}, "to": {"model": "leads-shortly"}}])
        rig.model("asks-first", {"short": 1}, tokenizer="engine", fallback=["counts"])
        rig.config["models"]["tiers"] = {
            "policy": "primary-backup",
            "fail_back": "0s",
            "targets": [
                {"policy": "proportional", "targets": [{"channel": "a", "weight": 3}, {"channel": "b", "weight": 1}]},
                {"channel": "c"},
            ],
        }
        rig.config["models"]["busy"] = {"policy": "least-busy", "targets": [{"channel": "a"}, {"channel": "b"}, {"channel": "c"}]}
        rig.config["models"]["affine"] = {"policy": "prefix-affinity", "targets": [{"channel": "a"}, {"channel": "b"}, {"channel": "c"}]}
        rig.model("sticky", {"a": 1, "b": 1, "c": 1}, sticky="x-user")
        rig.model("falls", {"dies": 1}, fallback=["small"])
        rig.model("only-dies", {"dies": 1})
        rig.model("falls-twice", {"dies": 1}, fallback=["falls"])
        rig.model("fits", {"short": 1, "long": 1}, tokenizer="qwen")
        rig.model("asks-engine", {"short": 1, "long": 1}, tokenizer="engine")
        rig.model("only-short", {"short": 1}, tokenizer="qwen", fallback=["small"])
        rig.model("mindie", {"mind": 1}, tokenizer="qwen")
        rig.model("shaped", {"a": 1}, caps={"max_tokens": 5, "temperature": 1}, defaults={"temperature": 0.25, "top_p": 0.5})

        def on(model: str) -> list[dict[str, Any]]:
            return [{"name": "on", "when": {}, "to": {"model": model}}]

        rig.model("patient", {"dies": 1, "also-dies": 1}, retry={"attempts": 1, "on": ["5xx"]}, fallback=["small"])
        rig.model("leads-patient", {"a": 1}, rules=on("patient"), retry={"attempts": 3}, fallback=["last"])
        rig.model("leads-further", {"a": 1}, rules=on("leads-patient"))
        rig.model("last", {"b": 1})
        rig.model("leads-in", {"long": 1}, rules=on("leads-shortly"), fallback=["small"])
        rig.model("leads-in-twice", {"long": 1}, rules=on("leads-in"))
        rig.model("falls-on-led", {"dies": 1}, retry={"attempts": 1}, fallback=["leads-further"])
        await rig.start()
        yield rig


@pytest.fixture(autouse=True)
def calm(rig):
    for engine in rig.engines.values():
        engine.script = script()
        engine.requests.clear()


def channel(answer: Answer) -> str:
    assert answer.status == 200, answer.body
    return answer.headers["x-gateway-channel"]


# -- rules --------------------------------------------------------------------------------------------------------------

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


@pytest.mark.parametrize(
    ("said", "more", "rule", "to"),
    [
        ("hello", {}, "", {"a"}),
        ("hello", {"headers": {"X-Env": "prod"}}, "env", {"b"}),
        ("hello", {"headers": {"x-env": "dev"}}, "", {"a"}),
        ("I want a REFUND now", {}, "words", {"c"}),
        ("hello", {"tools": [TOOL]}, "tools", {"b", "c"}),
        ("word " * 1500, {}, "long", {"long"}),
        ("word " * 500, {}, "", {"a"}),
        (" " * 20_000, {}, "", {"a"}),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_the_first_rule_that_matches_decides(rig, said, more, rule, to, stream):
    answer = await rig.chat("ruled", said, stream=stream, max_tokens=3, **more)
    assert channel(answer) in to
    record = await rig.record(id=_id(answer))
    assert record.get("rule", "") == rule and record["model"] == "ruled"
    assert record.get("via", "") == ("small" if rule == "words" else "")
    assert answer.json["model"] == "ruled" if not stream else answer.chunks[0]["model"] == "ruled"


def _id(answer: Answer) -> str:
    return answer.headers["x-request-id"]


async def test_an_alias_with_a_star_is_the_model_and_its_rules(rig):
    assert channel(await rig.chat("rul-anything", "refund", max_tokens=3)) == "c"


# -- policies -----------------------------------------------------------------------------------------------------------


async def test_tiers_of_groups_the_backup_serves_only_when_the_first_tier_is_gone(rig):
    assert Counter([channel(await rig.chat("tiers", max_tokens=2)) for _ in range(8)]) == {"a": 6, "b": 2}
    for name in "ab":
        rig.engines[name].script = script({"do": "status", "status": 500})
    answer = await rig.chat("tiers", max_tokens=2)
    assert channel(answer) == "c" and answer.headers["x-gateway-attempts"] == "3"
    for name in "ab":
        rig.engines[name].script = script()
    assert channel(await rig.chat("tiers", max_tokens=2)) in "ab"


@pytest.mark.hard
async def test_least_busy_avoids_who_works(rig):
    engine = rig.engines["a"]
    engine.script = script({"do": "stall", "at": "first_event", "for": "3s"})
    async with asyncio.TaskGroup() as group:
        slow = []
        while not any(request.number for request in engine.requests):
            slow.append(group.create_task(rig.chat("busy", stream=True, max_tokens=2)))
            await asyncio.sleep(0.02)
        seen = Counter([channel(await rig.chat("busy", max_tokens=2)) for _ in range(12)])
        engine.script = script()
    assert all(task.result().status == 200 for task in slow)
    assert seen.total() == 12 and "a" not in seen, "whoever holds one is passed over while others hold none"


async def test_conversations_stay_at_one_engine(rig):
    for number in range(6):
        system = {"role": "system", "content": f"You are helper number {number}. " * 30}
        turns: list[dict[str, str]] = [system, {"role": "user", "content": f"question of {number}"}]
        seen = set()
        for turn in range(4):
            answer = await rig.post("/v1/chat/completions", {"model": "affine", "messages": turns, "max_tokens": 4})
            seen.add(channel(answer))
            turns += [{"role": "assistant", "content": answer.text}, {"role": "user", "content": f"and {turn}?"}]
        assert len(seen) == 1


async def test_sticky_by_header_stays_and_spreads(rig):
    homes = {user: channel(await rig.chat("sticky", max_tokens=2, headers={"x-user": user})) for user in map(str, range(20))}
    again = {user: channel(await rig.chat("sticky", max_tokens=2, headers={"x-user": user})) for user in homes}
    assert homes == again and len(set(homes.values())) > 1


# -- failover and fallback ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_everything_failed_so_another_model_serves_under_the_name_that_was_asked_for(rig, stream):
    rig.engines["dies"].script = script({"do": "status", "status": 500})
    answer = await rig.chat("falls", stream=stream, max_tokens=2)
    assert channel(answer) == "c"
    assert (answer.chunks[0] if stream else answer.json)["model"] == "falls"
    record = await rig.record(id=_id(answer))
    assert [(one["kind"], one["channel"], one.get("via")) for one in record["attempts"]] == [
        ("first", "dies", None),
        ("fallback", "c", "small"),
    ]
    assert (record["model"], record["via"]) == ("falls", "small")


async def test_fallbacks_of_fallbacks_follow(rig):
    rig.engines["dies"].script = script({"do": "status", "status": 500})
    answer = await rig.chat("falls-twice", max_tokens=2)
    assert channel(answer) == "c"


@pytest.mark.parametrize("model", ["leads-patient", "leads-further", "falls-on-led"])
async def test_of_a_model_that_a_rule_leads_to_retry_and_fallback_count_and_then_the_fallbacks_of_those_that_led_there(rig, model):
    rig.engines["dies"].script = rig.engines["also-dies"].script = script({"do": "status", "status": 500})
    first = 1 if model == "falls-on-led" else 0
    answer = await rig.chat(model, max_tokens=2)
    record = await rig.record(id=_id(answer))
    attempts = [(one["kind"], one.get("via")) for one in record["attempts"]]
    assert channel(answer) == "c" and attempts[first:] == [("fallback" if first else "first", "patient"), ("fallback", "small")]
    told = await explained(rig, model=model)
    led = told["fallback"][0] if first else told
    assert led["retry"]["attempts"] == 1 and [one["model"] for one in told["fallback"]][first:] == ["small", "last"]
    rig.engines["c"].script = script({"do": "status", "status": 500})
    assert channel(await rig.chat(model, max_tokens=2)) == "b"


async def test_the_callers_own_mistake_goes_nowhere_else(rig):
    rig.engines["dies"].script = script({"do": "status", "status": 400})
    answer = await rig.chat("falls", max_tokens=2)
    assert answer.status == 400 and answer.headers["x-gateway-attempts"] == "1"


# -- context length -----------------------------------------------------------------------------------------------------


async def lengths_known(rig: Rig, model: str, states: int) -> None:
    """Until the gateway has asked the engines for their context lengths."""
    for _ in range(200):
        route = (await rig.admin("GET", f"/v1/routes/{model}"))["route"]
        if all(one.get("context_length") for one in route["endpoints"]) and len(route["endpoints"]) == states:
            break
        await asyncio.sleep(0.1)
    await eventually(lambda: worker_knows(rig))


async def worker_knows(rig: Rig) -> bool:
    """The worker was told of a long engine and of a short one, as its list of models says."""
    async with rig.session.get(rig.url + "/v1/models", headers={"Authorization": f"Bearer {KEY}"}) as answer:
        listed = {one["id"]: one.get("context_length") for one in (await answer.json())["data"]}
    return (listed["fits"], listed["only-short"]) == (32768, 512)


async def test_a_request_goes_where_it_fits(rig):
    await lengths_known(rig, "fits", 2)
    seen = Counter([channel(await rig.chat("fits", "word " * 700, max_tokens=2)) for _ in range(4)])
    assert seen == {"long": 4}
    assert set([channel(await rig.chat("fits", "hi", max_tokens=2)) for _ in range(4)]) == {"short", "long"}
    both = Counter([channel(await rig.chat("fits", "hi", max_tokens=600)) for _ in range(4)])
    assert both == {"long": 4}, "the answer needs room as well"


@pytest.mark.parametrize(("model", "rule"), [("leads", "prod"), ("leads-on", "huge > prod")])
async def test_a_model_that_a_rule_leads_to_counts_by_its_own_tokenizer(rig, model, rule):
    await lengths_known(rig, "counts", 2)
    text = "~!@#" * 300  # a quarter of its bytes would fit into `short`
    direct, led = await rig.chat("counts", text, max_tokens=5), await rig.chat(model, text, max_tokens=5, headers={"x-env": "prod"})
    assert (direct.status, led.status, led.headers["x-gateway-channel"]) == (200, 200, "long")
    record, alone = await rig.record(id=led.headers["x-request-id"]), await rig.record(id=direct.headers["x-request-id"])
    assert (record["rule"], record["via"], record["facts"]["prompt_est"]) == (rule, "counts", alone["facts"]["prompt_est"])
    body = json.dumps({"max_tokens": 5, "messages": [{"role": "user", "content": text}]})
    told = await explained(rig, model=model, headers={"x-env": "prod"}, body=body)
    assert told["prompt"]["tokens"] == alone["facts"]["prompt_est"] and told["prompt"]["counted"] == "by qwen"
    while "leads_to" in told:
        told = told["leads_to"]
    assert [way["channel"] for way in told["plan"]] == ["long"]


async def test_the_engine_itself_says_how_long_a_prompt_is(rig):
    await lengths_known(rig, "asks-engine", 2)
    seen = Counter([channel(await rig.chat("asks-engine", "word " * 700, max_tokens=2)) for _ in range(4)])
    assert seen == {"long": 4}
    record = await rig.record(model="asks-engine")
    assert record["facts"]["prompt_est"] == record["tokens"]["in"], "counted as the engine counts"


async def test_the_rule_that_led_to_a_refusal_is_in_the_record(rig):
    answer = await rig.chat("leads-short", "~!@#" * 600, max_tokens=5)
    assert (answer.status, answer.error["code"]) == (400, "context_length_exceeded")
    record = await rig.record(id=answer.headers["x-request-id"])
    assert (record["rule"], record["via"], record["end"]) == ("any > short", "leads-shortly", "GR")


@pytest.mark.parametrize("model", ["leads-in", "leads-in-twice"])
async def test_too_long_for_a_model_that_a_rule_leads_to_the_fallback_of_who_led_there_serves(rig, model):
    await lengths_known(rig, "fits", 2)
    answer = await rig.chat(model, "~!@#" * 600, max_tokens=5)
    assert answer.status == 200 and channel(answer) == "c"
    assert [one["model"] for one in (await explained(rig, model=model, body=_body("~!@#" * 600)))["fallback"]] == ["small"]


def _body(text: str) -> str:
    return json.dumps({"max_tokens": 5, "messages": [{"role": "user", "content": text}]})


async def test_too_long_for_all_is_told_with_both_numbers_before_an_engine_is_asked(rig):
    await lengths_known(rig, "fits", 2)
    answer = await rig.chat("fits", "word " * 40_000, max_tokens=7)
    assert answer.status == 400 and answer.error is not None
    assert answer.error["code"] == "context_length_exceeded" and "32768" in answer.error["message"] and "7" in answer.error["message"]
    assert not any(request.number for name in ("short", "long") for request in rig.engines[name].requests)
    record = await rig.record(id=_id(answer))
    assert record["end"] == "GR" and not record.get("attempts")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"input": ["word " * 300] * 40}),
        ("/v1/completions", {"prompt": ["word " * 300] * 40, "max_tokens": 2}),
        ("/v1/rerank", {"query": "word", "documents": ["word " * 300] * 40}),
        ("/v1/score", {"text_1": "word", "text_2": ["word " * 300] * 40}),
        ("/tokenize", {"prompt": "word " * 40_000}),
    ],
)
async def test_of_several_inputs_the_longest_decides_and_asking_for_a_length_is_never_too_long(rig, path, body):
    await lengths_known(rig, "only-short", 1)
    answer = await rig.post(path, {"model": "only-short", **body})
    assert channel(answer) == "short", answer.body[:300]


async def test_too_long_for_the_model_a_longer_fallback_serves(rig):
    await lengths_known(rig, "only-short", 1)
    assert channel(await rig.chat("only-short", "word " * 2000, max_tokens=2)) == "c"


# -- parameters ---------------------------------------------------------------------------------------------------------


async def test_defaults_and_caps(rig):
    answer = await rig.chat("shaped", max_tokens=500, temperature=2)
    sent = [request for request in rig.engines["a"].requests if request.number][-1]
    body = json.loads(sent.body)
    assert (body["max_tokens"], body["temperature"], body["top_p"]) == (5, 1, 0.5)
    assert (await rig.record(id=_id(answer)))["rewrites"][:3] == ["+top_p", "max_tokens<=5", "temperature<=1"]
    await rig.chat("shaped")
    body = json.loads([request for request in rig.engines["a"].requests if request.number][-1].body)
    assert (body["max_tokens"], body["temperature"]) == (5, 0.25)


# -- seeing it ----------------------------------------------------------------------------------------------------------


async def explained(rig: Rig, **asked: Any) -> dict[str, Any]:
    found: dict[str, Any] = (await rig.admin("POST", "/v1/explain", asked))["explained"]
    return found


async def test_explain_decides_as_workers_do_and_sends_nothing(rig):
    found = await explained(rig, model="ruled", headers={"x-env": "prod"}, key="k1")
    assert found["rule"] == "env" and [way["channel"] for way in found["plan"]] == ["b"]
    assert [(rule["name"], rule["matched"]) for rule in found["rules"]][:2] == [("env", True), ("words", None)]
    found = await explained(rig, model="ruled", tokens=1001)
    assert found["rule"] == "long"
    assert next(rule for rule in found["rules"] if rule["name"] == "who")["why"][0]["holds"] is False
    found = await explained(rig, model="tiers")
    assert [way["channel"] for way in found["plan"]] in (["a", "b", "c"], ["b", "a", "c"])
    assert not any(request.number for engine in rig.engines.values() for request in engine.requests)


async def test_explain_counts_for_a_fallback_with_its_own_tokenizer_and_says_when_a_worker_asks_the_engine(rig):
    await lengths_known(rig, "counts", 2)
    found = await explained(rig, model="asks-first", body=json.dumps({"messages": [{"role": "user", "content": "a " * 600}]}))
    assert found["prompt"]["counted"] == "estimated: a worker asks the engine, where it matters"
    assert [way["channel"] for way in found["plan"]] == ["short"] and [way["channel"] for way in found["fallback"][0]["plan"]] == ["long"]


async def test_a_caller_is_not_blamed_for_a_fallback_that_is_too_short(rig):
    await lengths_known(rig, "shorter", 1)
    rig.engines["a"].script = script({"do": "status", "status": 500})
    try:
        answer = await rig.chat("falls-short", "a " * 600)
        assert (answer.status, answer.error["code"]) == (502, "upstream_error")
        assert (await rig.record(model="falls-short"))["error"] == "status_500"
    finally:
        rig.engines["a"].script = script()
    assert (await rig.chat("shorter", "a " * 600)).error["code"] == "context_length_exceeded"


@pytest.mark.parametrize(("model", "status", "served"), [("embeds", 200, "c"), ("embeds-nowhere", 502, "a")])
async def test_a_fallback_without_the_api_is_as_if_it_were_not_there(rig, model, status, served):
    rig.engines["a"].script = script({"do": "status", "status": 500})
    try:
        answer = await rig.post("/v1/embeddings", {"model": model, "input": "hi"})
        assert (answer.status, answer.headers["x-gateway-channel"]) == (status, served)
    finally:
        rig.engines["a"].script = script()


async def test_what_one_engine_cannot_do_another_one_may(rig):
    asked = {"messages": [{"role": "user", "content": "hi"}]}
    answer = await rig.post("/tokenize", {"model": "either", **asked})
    assert (answer.status, answer.headers["x-gateway-channel"], answer.headers["x-gateway-attempts"]) == (200, "a", "1"), answer.body
    for model in ("mindie", "sgl"):
        refused = await rig.post("/tokenize", {"model": model, **asked})
        assert (refused.status, refused.error["code"], refused.error["param"]) == (400, "unsupported_parameter", "messages")


async def test_an_engine_that_stands_in_several_places_of_a_plan_is_tried_once(rig):
    assert [way["channel"] for way in (await explained(rig, model="repeats"))["plan"]] == ["a", "b", "c"]
    rig.engines["a"].script = script({"do": "status", "status": 500})
    try:
        answer = await rig.chat("repeats")
        assert answer.headers["x-gateway-channel"] == "b" and answer.headers["x-gateway-attempts"] == "2"
    finally:
        rig.engines["a"].script = script()


async def test_explain_knows_which_apis_engines_have_and_keys_may_call(rig):
    found = await explained(rig, model="either", api="embeddings")
    assert [way["channel"] for way in found["plan"]] == ["sgl", "a"]
    assert [(way["channel"], way["why"]) for way in found["left_out"]] == [("mind", "its engine does not have this API (embeddings)")]
    body = {"model": "mindie-first", "input": "hi"}
    told, answer = await explained(rig, body=json.dumps(body)), await rig.post("/v1/embeddings", body)
    assert told["refused"] == {"status": answer.status, "code": answer.error["code"], "message": answer.error["message"]}
    assert told["plan"] == told["fallback"] == [] and answer.status == 404
    said = (await rig.admin("POST", "/v1/explain", {"model": "small", "key": "k3", "api": "completions"}))["error"]["message"]
    assert said == "Your API key may not call this API (completions), only: chat."
    assert (await explained(rig, model="small", key="k3"))["plan"]


async def test_models_tell_their_own_fail_back_and_sticky(rig):
    found = {one["name"]: one for one in (await rig.admin("GET", "/v1/models"))["models"]}
    assert found["returns"]["fail_back"] == 300 and found["sticky"]["sticky"] == "x-user"


async def test_explain_tells_the_refusal_when_nobody_is_left(rig):
    await rig.admin("POST", "/v1/channels/dies/drain", {})
    body = {"model": "only-dies", "messages": [{"role": "user", "content": "hi"}]}
    told, answer = await explained(rig, body=json.dumps(body)), await rig.post("/v1/chat/completions", body)
    assert told["refused"] == {"status": answer.status, "code": answer.error["code"], "message": answer.error["message"]}
    assert told["plan"] == [] and answer.status == 503
    told = await explained(rig, model="falls")
    assert told["refused"]["status"] == 503 and [way["channel"] for way in told["fallback"][0]["plan"]] == ["c"]
    assert channel(await rig.chat("falls")) == "c"
    await rig.admin("POST", "/v1/channels/dies/undrain", {})


async def test_explain_knows_how_workers_tiers_stand(rig):
    """The better tier is well again, and the other one serves until `fail_back` is over."""
    rig.engines["away"].script = script({"do": "status", "status": 500})
    assert channel(await rig.chat("returns")) == "b"
    rig.engines["away"].script = script()

    async def back() -> bool:
        return channel(await rig.chat("returns")) == "away"  # its trial

    async def returning() -> bool:
        assert channel(await rig.chat("returns")) == "b"
        found = await explained(rig, model="returns")
        return [way["channel"] for way in found["plan"]] == ["b", "away"] and "; tier 1 is well again, and takes over in" in found["how"]

    await eventually(back)
    await eventually(returning)


@pytest.mark.parametrize("at", [253_402_300_799.0, -1.0, 1e300])
async def test_explain_refuses_times_that_no_schedule_knows(rig, at):
    assert "no time of the years" in (await rig.admin("POST", "/v1/explain", {"model": "ruled", "at": at}))["error"]["message"]


async def test_explain_says_what_is_missing(rig):
    assert "no model" in (await rig.admin("POST", "/v1/explain", {}))["error"]["message"]
    assert "nope" in (await rig.admin("POST", "/v1/explain", {"model": "nope"}))["error"]["message"]
    assert "no key" in (await rig.admin("POST", "/v1/explain", {"model": "ruled", "key": "zz"}))["error"]["message"]
    assert "cannot be read" in (await rig.admin("POST", "/v1/explain", {"model": "ruled", "body": "{"}))["error"]["message"]


@pytest.mark.parametrize("model", ["small", "mindie"])
@pytest.mark.parametrize("messages", ["hi", {"role": "user"}, 5, [], None])
async def test_explain_says_that_an_engine_refuses_messages_that_are_none(rig, model, messages):
    body = {"model": model, "messages": messages, "max_tokens": 3}
    served = await rig.post("/v1/chat/completions", body)
    assert 400 <= served.status < 500 and served.headers["x-gateway-attempts"] == "1", "sent, and refused by the engine"
    found = await explained(rig, body=json.dumps(body))
    (remark,) = found["remarks"]
    assert remark.startswith("`messages` is ") and "the engine refuses it" in remark and len(found["plan"]) == 1


@pytest.mark.parametrize(
    "body", ['{"model": 5}', '{"model": "small", "stream": "x"}', '{"model": "small", "stream": true, "stream_options": 5}', "[]", "{"]
)
async def test_what_the_gateway_refuses_is_not_planned(rig, body):
    async with rig.session.post(rig.url + "/v1/chat/completions", data=body, headers={"Authorization": f"Bearer {KEY}"}) as answer:
        refused = (await answer.json())["error"]
        assert answer.status == 400 and "x-gateway-attempts" not in answer.headers
    said = (await rig.admin("POST", "/v1/explain", {"body": body}))["error"]["message"]
    assert said == f"such a request is refused with 400 {refused['code']}: {refused['message']}"


async def test_a_request_of_the_right_shape_has_no_remark(rig):
    assert (await explained(rig, model="small"))["remarks"] == []
    assert (await explained(rig, body='{"model": "small", "messages": [{"role": "user", "content": "hi"}]}'))["remarks"] == []
    assert (await explained(rig, model="small", body='{"model": 5, "prompt": "hi"}'))["asked"]["model"] == "small"


async def test_models_are_listed_with_their_context_length(rig):
    await lengths_known(rig, "fits", 2)
    async with rig.session.get(rig.url + "/v1/models", headers={"Authorization": f"Bearer {KEY}"}) as answer:
        listed = {one["id"]: one for one in (await answer.json())["data"]}
    assert listed["fits"]["context_length"] == 32768 and listed["only-short"]["context_length"] == 512


async def test_a_key_that_is_bound_to_an_alias_sees_that(rig):
    headers = {"Authorization": f"Bearer {OTHER}"}
    async with rig.session.get(rig.url + "/v1/models", headers=headers) as answer:
        assert [one["id"] for one in (await answer.json())["data"]] == ["small-1"]
    async with rig.session.get(rig.url + "/v1/models/small-1", headers=headers) as answer:
        assert (await answer.json())["id"] == "small-1"
    assert (await rig.chat("small-1", key=OTHER, max_tokens=2)).status == 200

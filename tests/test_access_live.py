"""Who may do what, end to end: two real workers, OpenAI's client and bare sockets, commands while requests are open."""

import asyncio
import functools
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio

from gateway.config.keys import new_secret
from tests.fixtures.cli import Ran, actl
from tests.fixtures.streams import Open, secret
from tests.harness import KEY, Answer, Rig, eventually, free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")
AT_HOME, ABROAD = "10.1.2.3", "9.9.9.9"
HI: Any = [{"role": "user", "content": "hi"}]


def key(rig: Rig, id: str, project: str = "bot", **words: Any) -> None:
    hashed = "sha256:" + hashlib.sha256(secret(id).encode()).hexdigest()
    rig.config["keys"].append({"id": id, "hash": hashed, "tenant": "acme", "project": project, "models": ["*"], **words})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with Rig(tmp_path_factory.mktemp("access"), workers=2) as rig:
        await rig.engine("a", model="m", tps=50, reply_tokens=3000)
        await rig.engine("one", model="m", tps=50, reply_tokens=3000, channel={"max_in_flight": 1, "queue": {"length": 20, "wait": "30s"}})
        rig.model("m", {"a": 1}, aliases=["gpt-x*"])
        rig.model("large", {"a": 1})
        rig.model("one", {"one": 1})
        rig.config["http"] = {"trusted_proxies": ["127.0.0.1/32"]}
        rig.config["ip"] = {"deny": ["10.66.0.0/16"]}
        rig.config["listeners"]["six"] = {"bind": f"[::1]:{free_port()}", "serves": "api"}
        rig.config["listeners"]["balanced"] = {"bind": f"127.0.0.1:{free_port()}", "serves": "api", "proxy_protocol": True}
        rig.config["schedules"] = {"always": {"when": ["Mon-Sun"]}, "never": {"when": ["2001-01-01"]}}
        rig.config["tenants"]["acme"] = {
            "priority": 2,
            "projects": {"bot": {}, "fast": {"priority": 7}, "search": {"apis": ["embeddings"]}, "small": {"models": {"deny": ["large"]}}},
        }
        key(rig, "off", enabled=False)
        key(rig, "old", expires="2026-01-01")
        key(rig, "both", enabled=False, expires="2026-01-01", ip={"allow": ["10.0.0.0/8"]})
        key(rig, "home", ip={"allow": ["10.0.0.0/8", "2001:db8::/32", "::1/128"], "deny": ["10.9.0.0/16"]}, apis=["chat"], models=["m"])
        key(rig, "away", ip={"deny": ["127.0.0.0/8", "::1/128"]})
        key(rig, "search", "search")
        key(rig, "some", "small", models=["gpt-x-mini", "one", "large"])
        key(rig, "crm", systems=["crm", "erp-*"])
        key(rig, "small", "small")
        key(rig, "day", hours=[{"during": "always", "models": ["large"]}])
        key(rig, "night", hours=[{"during": "never", "models": ["large"]}, {"outside": "always", "models": ["large"]}])
        key(rig, "first", priority=9)
        key(rig, "by-hour", priority=0, hours=[{"during": "always", "priority": 8}])
        key(rig, "fast", "fast")
        for id in ("gone", "rest", "spared", "turned"):
            key(rig, id)
        await rig.start()
        yield rig


async def ctl(rig: Rig, *args: str, stdin: str = "") -> Ran:
    return await actl(*args, stdin=stdin, GATEWAY_CONFIG=str(rig.path))


async def ask(rig: Rig, id: str, model: str = "m", ip: str = AT_HOME, **more: Any) -> Answer:
    headers = {"X-Forwarded-For": ip, **more.pop("headers", {})}
    return await rig.chat(model, key=secret(id) if id else KEY, headers=headers, **{"max_tokens": 2, **more})


def code_of(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.error["code"] if answer.error is not None else ""


# -- what callers see ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("id", "ip", "model", "kind", "code"),
    [
        ("nobody", AT_HOME, "m", openai.AuthenticationError, "invalid_api_key"),
        ("off", AT_HOME, "m", openai.AuthenticationError, "key_disabled"),
        ("old", AT_HOME, "m", openai.AuthenticationError, "key_expired"),
        ("home", ABROAD, "m", openai.PermissionDeniedError, "address_not_allowed"),
        ("search", AT_HOME, "m", openai.PermissionDeniedError, "api_not_allowed"),
        ("home", AT_HOME, "large", openai.PermissionDeniedError, "model_not_allowed"),
        ("small", AT_HOME, "large", openai.PermissionDeniedError, "model_not_allowed"),
        ("home", AT_HOME, "xl", openai.NotFoundError, "model_not_found"),
    ],
)
async def test_openais_client_sees_each_refusal_and_does_not_try_again(rig, id, ip, model, kind, code):
    before = len(rig.engines["a"].requests)
    async with openai.AsyncOpenAI(
        base_url=f"{rig.url}/v1", api_key=secret(id), default_headers={"X-Forwarded-For": ip}, max_retries=2
    ) as client:
        for stream in (False, True):
            with pytest.raises(kind) as caught:
                await client.chat.completions.create(model=model, messages=HI, stream=stream)
            assert (caught.value.code, type(caught.value)) == (code, kind) and secret(id) not in caught.value.message
            id_of_it = caught.value.response.headers["x-request-id"]
            record = await rig.record(id=id_of_it)
            assert record["status"] == caught.value.status_code and record["end"][1] in "KR"
    assert len(rig.engines["a"].requests) == before


@pytest.mark.parametrize(
    ("said", "code", "error"),
    [
        (None, "missing_api_key", "no key"),
        ("Basic YTpi", "invalid_api_key", "not a bearer header"),
        pytest.param(f"Bearer {new_secret('k9')[1]}", "invalid_api_key", "unknown key", id="not ours"),
        pytest.param(f"Bearer {new_secret('k9')[1][:-1]}", "invalid_api_key", "mistyped key", id="not whole"),
        (f"Bearer {KEY[:-1]}", "invalid_api_key", "unknown key"),
    ],
)
async def test_our_record_says_what_the_caller_is_not_told(rig, said, code, error):
    answer = await rig.post(
        "/v1/chat/completions", {"model": "m", "messages": HI}, key=None, headers={"Authorization": said} if said else {}
    )
    assert code_of(answer) == (401, code)
    record = await rig.record(id=answer.headers["x-request-id"])
    assert (record["error"], record.get("key", ""), record.get("tenant", "")) == (error, "", "")
    if error in ("unknown key", "mistyped key"):
        assert answer.error == {"message": "Incorrect API key provided.", "type": "authentication_error", "param": None, "code": code}


@pytest.mark.parametrize(
    ("id", "ip", "path", "body", "code"),
    [
        ("nobody", "10.66.0.1", "chat/completions", {"model": "m", "messages": HI}, "address_not_allowed"),
        ("nobody", ABROAD, "chat/completions", {"model": "m", "messages": HI}, "invalid_api_key"),
        ("both", ABROAD, "embeddings", {"model": "xl", "input": "x"}, "key_disabled"),
        ("old", ABROAD, "embeddings", {"model": "xl", "input": "x"}, "key_expired"),
        ("home", ABROAD, "embeddings", {"model": "xl", "input": "x"}, "address_not_allowed"),
        ("home", AT_HOME, "embeddings", {"model": "xl", "input": "x"}, "api_not_allowed"),
        ("home", AT_HOME, "chat/completions", b"no JSON", "invalid_json"),
        ("home", AT_HOME, "chat/completions", {"model": "xl"}, "model_not_found"),
        ("home", AT_HOME, "chat/completions", {"model": "large"}, "model_not_allowed"),
    ],
)
async def test_the_first_reason_counts(rig, id, ip, path, body, code):
    answer = await rig.post(f"/v1/{path}", body, key=secret(id), headers={"X-Forwarded-For": ip})
    assert code_of(answer)[1] == code


async def test_who_is_frozen_hears_of_it_before_models_are_looked_at(rig):
    await rig.admin("POST", "/v1/freeze", {"kind": "key", "name": "home"})
    try:
        assert code_of(await ask(rig, "home", "xl")) == (403, "frozen")
        assert code_of(await ask(rig, "home", "xl", ABROAD)) == (403, "address_not_allowed")
    finally:
        await rig.admin("POST", "/v1/unfreeze", {"kind": "key", "name": "home"})


# -- addresses ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("forwarded", "ip", "may"),
    [
        ("10.1.2.3", "10.1.2.3", True),
        ("9.9.9.9, 10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3, 9.9.9.9", "9.9.9.9", False),
        ("10.1.2.3, 127.0.0.1", "10.1.2.3", True),
        ("10.9.0.1", "10.9.0.1", False),
        ("10.66.0.1", "10.66.0.1", False),
        ("2001:db8::7", "2001:db8::7", True),
        ("[2001:db8::7]:4711", "2001:db8::7", True),
        ("2001:0DB8:0::7", "2001:db8::7", True),
        ("2001:db9::7", "2001:db9::7", False),
        ("::ffff:10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3, unknown", "127.0.0.1", False),
        ("", "127.0.0.1", False),
    ],
)
async def test_the_address_is_that_which_trusted_proxies_saw(rig, forwarded, ip, may):
    answer = await ask(rig, "home", ip=forwarded)
    assert answer.status == (200 if may else 403)
    assert (await rig.record(id=answer.headers["x-request-id"]))["ip"] == ip
    assert may or (answer.error is not None and (ip in answer.error["message"]))


async def test_who_is_no_trusted_proxy_cannot_say_where_he_is(rig):
    body = {"model": "m", "messages": HI, "max_tokens": 2}
    for id, may in (("home", True), ("away", False)):
        sent = {"Authorization": f"Bearer {secret(id)}", "X-Forwarded-For": ABROAD}
        url = f"http://{rig.config['listeners']['six']['bind']}/v1/chat/completions"
        async with rig.session.post(url, json=body, headers=sent) as answer:
            assert answer.status == (200 if may else 403), "it comes from ::1"


@pytest.mark.parametrize(
    ("line", "status"), [("TCP4 10.1.2.3", 200), ("TCP4 9.9.9.9", 403), ("TCP6 2001:db8::7", 200), ("TCP6 2001:db9::7", 403)]
)
async def test_the_address_of_a_balancer_that_speaks_the_proxy_protocol(rig, line, status):
    body = json.dumps({"model": "m", "messages": HI, "max_tokens": 2}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {secret('home')}\r\nContent-Length: {len(body)}\r\n"
    to = "10.0.0.1" if "TCP4" in line else "2001:db8::1"
    host, _, port = rig.config["listeners"]["balanced"]["bind"].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"PROXY {line} {to} 5000 80\r\n".encode() + head.encode() + b"\r\n" + body)
    assert int((await asyncio.wait_for(reader.readline(), 5)).split()[1]) == status
    writer.close()


# -- models -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("id", "listed"),
    [
        ("", {"m", "large", "one"}),
        ("home", {"m"}),
        ("small", {"m", "one"}),
        ("some", {"one"}),
        ("day", {"large"}),
        ("night", {"m", "large", "one"}),
        ("search", {"m", "large", "one"}),
    ],
)
async def test_models_are_listed_by_key_and_hour(rig, id, listed):
    sent = {"Authorization": f"Bearer {secret(id) if id else KEY}", "X-Forwarded-For": AT_HOME}
    async with rig.session.get(f"{rig.url}/v1/models", headers=sent) as answer:
        assert {one["id"] for one in (await answer.json())["data"]} == listed
    if id not in ("", "search"):
        for model in ("m", "large", "one"):
            assert (await ask(rig, id, model)).status == (200 if model in listed else 403)


async def test_a_name_that_only_a_prefix_alias_means_may_be_allowed_alone(rig):
    assert (await ask(rig, "some", "gpt-x-mini")).status == 200
    assert code_of(await ask(rig, "some", "gpt-x-maxi")) == (403, "model_not_allowed")


async def test_an_hour_that_begins_or_ends_changes_what_a_key_may_use(rig):
    """The clock is not turned: the schedule is, which is the same to whoever asks."""
    text = rig.path.read_text()
    assert code_of(await ask(rig, "day", "m")) == (403, "model_not_allowed")
    rig.path.write_text(text.replace("during: always", "outside: always"))
    try:
        assert (await rig.admin("POST", "/v1/reload"))["ok"]
        assert (await ask(rig, "day", "m")).status == 200
        shown = (await rig.admin("GET", "/v1/keys/day"))["key"]
        assert shown["models"] == ["large", "m", "one"] and not shown["hours"][0]["applies"]
    finally:
        rig.path.write_text(text)
        await rig.admin("POST", "/v1/reload")
    shown = (await rig.admin("GET", "/v1/keys/day"))["key"]
    assert shown["models"] == ["large"] and shown["hours"][0]["applies"]


# -- who they say they are ------------------------------------------------------------------------------------------------------


async def test_nothing_that_says_who_calls_reaches_the_engine(rig):
    engine = rig.engines["a"]
    forged = {
        "X-User": "root", "X-Tenant-Id": "retail", "X-Forwarded-User": "boss", "X-Forwarded-Email": "boss@example.com",
        "Cookie": "a=forged", "X-Gateway-System": "crm",
        "X-Gateway-Tenant": "retail", "X-Api-Key": "forged", "Proxy-Authorization": "Basic forged",
        "Forwarded": "for=forged", "X-Real-IP": "1.2.3.4", "OpenAI-Organization": "forged", "X-Anything": "forged",
    }  # fmt: skip
    assert (await ask(rig, "crm", headers=forged)).status == 200
    got = engine.requests[-1].headers
    assert not {name.lower() for name in forged} & got.keys() and "authorization" not in got and "x-forwarded-for" not in got
    told = " ".join(got.values())
    assert not any(word in told for word in ("forged", "boss", "retail", "root", "1.2.3.4", secret("crm"), AT_HOME))


@pytest.mark.parametrize(
    ("id", "said", "recorded"),
    [("crm", "crm", "crm"), ("crm", "erp-4", "erp-4"), ("crm", "other", None), ("crm", "cr m", None), ("small", "crm", None)],
)
async def test_the_calling_application_is_recorded_where_the_key_may_tell_it(rig, id, said, recorded):
    answer = await ask(rig, id, headers={"x-gateway-system": said})
    assert answer.status == 200
    assert (await rig.record(id=answer.headers["x-request-id"])).get("system") == recorded


# -- who goes first ------------------------------------------------------------------------------------------------------------


async def test_the_queue_goes_by_the_priority_of_key_hour_project_and_tenant(rig):
    engine = rig.engines["one"]
    before = len(engine.requests)

    async def queued(number: int) -> bool:
        return bool((await rig.admin("GET", "/v1/channels/one"))["channel"]["capacity"]["queued"] == number)

    holder = await Open.of(rig, "", "one")
    waits = []
    for number, id in enumerate(("small", "fast", "by-hour", "first", "crm"), 1):
        waits.append(asyncio.create_task(ask(rig, id, "one", user=f"caller-{id}")))
        await eventually(functools.partial(queued, number), every=0.005)
    holder.task.cancel()
    assert {answer.status for answer in await asyncio.gather(*waits)} == {200}
    served = [json.loads(request.body)["user"] for request in engine.requests[before + 1 :] if request.number]
    assert served == [f"caller-{id}" for id in ("first", "by-hour", "fast", "small", "crm")]


# -- commands ---------------------------------------------------------------------------------------------------------------------


async def test_a_rotated_key_has_two_secrets_for_a_while(rig):
    ran = await ctl(rig, "keys", "rotate", "turned", "--overlap", "2s")
    assert ran.code == 0, ran.err
    new = ran.out.strip()
    stream = await Open.of(rig, "turned")
    for secret_of_it in (new, secret("turned")):
        answer = await rig.chat("m", key=secret_of_it, max_tokens=2)
        assert answer.status == 200 and (await rig.record(id=answer.headers["x-request-id"]))["key"] == "turned"

    async def refused() -> Answer | None:
        answer = await rig.chat("m", key=secret("turned"), max_tokens=2)
        return answer if answer.status != 200 else None

    assert code_of(await eventually(refused, within=4)) == (401, "key_expired")
    assert not stream.task.done(), "who came in time ends in peace"
    assert (await rig.chat("m", key=new, max_tokens=2)).status == 200
    ran = await ctl(rig, "keys", "rotate", "turned", "--overlap", "0s", "--import-secret", "-", stdin=secret("turned-2") + "\n")
    assert (ran.code, ran.out) == (0, "")
    ended = await stream.ended()
    assert ended.error is not None and ended.error["code"] == "invalid_api_key"
    assert code_of(await rig.chat("m", key=new)) == (401, "invalid_api_key")
    assert (await ask(rig, "turned-2")).status == 200


@pytest.mark.parametrize(
    ("id", "command", "code"),
    [("gone", ["revoke", "gone", "--yes"], "invalid_api_key"), ("rest", ["disable", "rest"], "key_disabled")],
)
async def test_a_key_that_is_taken_away_is_dead_in_both_workers_within_a_second(rig, id, command, code):
    streams = [await Open.of(rig, id) for _ in range(12)]
    ran = await ctl(rig, "keys", *command)
    assert ran.code == 0, ran.err
    for answer in await asyncio.wait_for(asyncio.gather(*(one.ended() for one in streams)), 1):
        assert not answer.done and answer.error is not None and answer.error["code"] == code
    for _ in range(8):
        assert code_of(await ask(rig, id, headers={"Connection": "close"})) == (401, code)
    ends = [r for r in rig.records() if r.get("key") == id and r["end"] == "OD"]
    assert {r["slot"] for r in ends} == {0, 1} and len(ends) == 12 and {r["status"] for r in ends} == {401}


async def test_a_disabled_key_may_let_its_streams_finish_and_comes_back(rig):
    streams = [await Open.of(rig, "spared", max_tokens=100) for _ in range(4)]
    assert (await ctl(rig, "keys", "disable", "spared", "--let-finish")).code == 0
    assert code_of(await ask(rig, "spared")) == (401, "key_disabled")
    assert (await ctl(rig, "keys", "enable", "spared")).code == 0
    assert (await ask(rig, "spared")).status == 200
    for one in streams:
        assert (await one.ended(10)).done


async def test_what_commands_create_and_set_holds_for_the_next_request(rig):
    assert (await ctl(rig, "tenants", "create", "new.one", "--project", "p")).code == 0
    made = await ctl(rig, "keys", "create", "--tenant", "new.one", "--project", "p", "--id", "n1", "--label", "über ${HOME}\u2028#")
    assert made.code == 0, made.err
    mine = made.out.strip()

    async def status(model: str = "m") -> set[int]:
        sent = {"Connection": "close", "X-Forwarded-For": AT_HOME}
        body = {"model": model, "messages": HI, "max_tokens": 1}
        found: set[int] = set()
        for _ in range(6):
            found.add((await rig.post("/v1/chat/completions", body, key=mine, headers=sent)).status)
        return found

    assert await status() == {200}
    for setting, model, then in (
        ("models={deny: [large]}", "large", 403),
        ("models=", "large", 200),
        ("ip.deny=[10.0.0.0/8]", "m", 403),
        ("ip=", "m", 200),
        ("projects.p.apis=[embeddings]", "m", 403),
        ("projects.p.apis=", "m", 200),
        ("projects.p.hours=[{during: always, models: [one]}]", "m", 403),
        ("projects.p.hours=", "m", 200),
        ("limits=[{count: requests, max: 0, per: day}]", "m", 429),
    ):
        ran = await ctl(rig, "tenants", "set", "new.one", setting)
        assert ran.code == 0, ran.err
        assert await status(model) == {then}, setting
    shown = await ctl(rig, "keys", "show", "n1", "-o", "json")
    assert json.loads(shown.out)["label"] == "über ${HOME}\u2028#"
    acts = [one["what"] for one in (await rig.admin("GET", "/v1/audit?last=20"))["audit"]]
    assert "tenants create new.one --project p" in acts and "tenants set new.one models={deny: [large]}" in acts


@pytest.mark.hard
async def test_a_key_that_expires_is_refused_from_then_on_and_its_open_requests_end_in_peace(rig):
    ran = await ctl(rig, "keys", "create", "--tenant", "acme", "--project", "bot", "--id", "short", "--expires", "3s")
    mine = ran.out.strip()
    answer = asyncio.create_task(rig.chat("m", key=mine, stream=True, max_tokens=200))

    async def refused() -> Answer | None:
        found = await rig.chat("m", key=mine, max_tokens=1)
        return found if found.status != 200 else None

    assert code_of(await eventually(refused, within=6)) == (401, "key_expired")
    assert (await answer).done

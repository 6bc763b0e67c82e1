"""The kill switch and revoked keys end to end: two real workers, open streams, queues, kills, restarts, control stopped."""

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio

from tests.fixtures.cli import Ran, actl
from tests.fixtures.streams import LONG, Open, secret
from tests.harness import KEY, Answer, Rig, eventually, script

pytestmark = pytest.mark.asyncio(loop_scope="module")


def key(rig: Rig, id: str, tenant: str = "acme", project: str = "bot") -> None:
    hashed = "sha256:" + hashlib.sha256(secret(id).encode()).hexdigest()
    rig.config["keys"].append({"id": id, "hash": hashed, "tenant": tenant, "project": project, "models": ["*"]})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with Rig(tmp_path_factory.mktemp("freeze"), workers=2) as rig:
        await rig.engine("a", model="m", tps=50, reply_tokens=3000)
        await rig.engine("one", model="m", tps=50, reply_tokens=3000, channel={"max_in_flight": 1, "queue": {"length": 10, "wait": "60s"}})
        await rig.engine("mute", model="m", ttft=60.0)
        await rig.engine("dead", model="m")
        rig.engines["dead"].script = script({"on": "1-", "do": "status", "status": 503})
        rig.model("m", {"a": 1}, aliases=["gpt-x"])
        rig.model("queue", {"one": 1})
        rig.model("mute", {"mute": 1})
        rig.model("spare", {"a": 1})
        rig.model("last", {"a": 1})
        rig.model("falls", {"dead": 1}, fallback=["spare", "last"], retry={"attempts": 1})
        rig.model(
            "leads", {"a": 1}, rules=[{"name": "away", "when": {"headers": {"x-away": "yes"}}, "to": {"model": "spare"}}], fallback=["last"]
        )
        rig.config["tenants"]["other"] = {"projects": {"bot": {}, "web": {}}}
        for id, tenant, project in (("k2", "acme", "bot"), ("o1", "other", "bot"), ("o2", "other", "web")):
            key(rig, id, tenant, project)
        await rig.start()
        yield rig


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def thawed(rig: Rig) -> AsyncIterator[None]:
    yield
    for one in (await rig.admin("GET", "/v1/freezes"))["freezes"]:
        await rig.admin("POST", "/v1/unfreeze", {"kind": one["kind"], "name": one["name"]})


async def ctl(rig: Rig, *args: str) -> Ran:
    return await actl(*args, GATEWAY_CONFIG=str(rig.path))


async def freeze(rig: Rig, kind: str, name: str = "") -> dict[str, Any]:
    answer = await rig.admin("POST", "/v1/freeze", {"kind": kind, "name": name})
    found: dict[str, Any] = answer["freeze"]
    assert found["deaf"] == []
    return found


async def ask(rig: Rig, id: str = "", model: str = "m", **more: Any) -> Answer:
    return await rig.chat(model, key=secret(id) if id else KEY, **{"max_tokens": 2, **more})


def refused(answer: Answer, what: str) -> None:
    assert answer.status == 403 and answer.error is not None
    assert (answer.error["code"], answer.error["type"]) == ("frozen", "permission_error") and what in answer.error["message"]
    assert answer.headers["x-should-retry"] == "false"


# -- freeze ------------------------------------------------------------------------------------------------------------------


async def test_openais_client_sees_the_error_event_and_the_engine_is_let_go(rig):
    client = openai.AsyncOpenAI(base_url=f"{rig.url}/v1", api_key=secret("o1"), max_retries=2)
    stream = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}], stream=True, max_tokens=3000)
    await anext(stream)
    ran = await ctl(rig, "freeze", "--tenant", "other", "--reason", "ticket 1")
    assert (ran.code, ran.out) == (0, "") and "tenant other is frozen" in ran.err
    with pytest.raises(openai.APIError, match="The tenant `other` is frozen"):
        async with asyncio.timeout(1):
            async for _ in stream:
                pass
    await eventually(lambda: rig.engines["a"].engine.running == 0, within=1)
    with pytest.raises(openai.PermissionDeniedError, match="is frozen"):
        await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
    await client.close()
    record = await rig.record(key="o1", stream=True)
    assert (record["end"], record["error"], record["status"]) == ("OD", "frozen", 403) and record["tokens"]["out"] > 0
    assert record["source"] == "continuous"
    refusal = await rig.record(key="o1", end="OK")
    assert (refusal["error"], refusal["status"]) == ("frozen", 403)


@pytest.mark.parametrize(
    ("kind", "name", "hit", "what"),
    [
        ("tenant", "other", {"o1", "o2"}, "The tenant `other`"),
        ("project", "other/web", {"o2"}, "The project `web`"),
        ("key", "k2", {"k2"}, "This API key"),
        ("all", "", {"", "k2", "o1", "o2"}, "Everything"),
    ],
)
async def test_whom_a_freeze_stops_and_whom_it_does_not(rig, kind, name, hit, what):
    streams = {id: await Open.of(rig, id) for id in ("", "k2", "o1", "o2")}
    await freeze(rig, kind, name)
    for id, stream in streams.items():
        if id in hit:
            ended = await stream.ended()
            assert not ended.done and ended.error is not None and what in ended.error["message"] and ended.error["code"] == "frozen"
            refused(await ask(rig, id), what)
            refused(await ask(rig, id, stream=True), what)
            async with rig.session.get(f"{rig.url}/v1/models", headers={"Authorization": f"Bearer {secret(id) if id else KEY}"}) as listed:
                assert listed.status == 403
        else:
            assert (await ask(rig, id)).status == 200
            assert not stream.task.done()
            stream.task.cancel()
    for path in ("/healthz", "/readyz"):
        async with rig.session.get(rig.url + path) as well:
            assert well.status == 200
    assert (await ask(rig, "nobody")).status == 401


async def test_of_two_requests_on_one_connection_only_the_one_that_is_meant_ends(rig):
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)

    def send(id: str, **more: Any) -> None:
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], **more}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {secret(id)}\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)

    send("o1", max_tokens=2)
    await reader.readuntil(b"finish_reason")
    send("k2", stream=True, **LONG)
    await reader.readuntil(b"data: ")
    await freeze(rig, "tenant", "other")
    await freeze(rig, "model", "spare")
    for _ in range(20):
        assert b"error" not in await asyncio.wait_for(reader.readuntil(b"data: "), 2)
    writer.close()
    await rig.record(key="k2", end="CD")


async def test_explain_refuses_whom_a_freeze_stops(rig):
    async def explained(**asked: Any) -> Any:
        return await rig.admin("POST", "/v1/explain", asked)

    await freeze(rig, "tenant", "other")
    await freeze(rig, "model", "spare")
    for asked, said in (({"model": "m", "key": "o1"}, "The tenant `other` is frozen"), ({"model": "spare"}, "The model `spare` is frozen")):
        assert (await explained(**asked))["error"]["message"].startswith(said)
    away = (await explained(model="leads", headers={"x-away": "yes"}))["explained"]
    refused(await ask(rig, "k2", "leads", headers={"x-away": "yes"}), away["leads_to"]["refused"]["message"])
    assert (away["leads_to"]["plan"], away["fallback"]) == ([], []) and away["leads_to"]["left_out"][0]["why"] == "frozen"
    falls = (await explained(model="falls", key="k2"))["explained"]
    assert [(one["model"], bool(one["refused"]), len(one["plan"])) for one in falls["fallback"]] == [("spare", True, 0), ("last", False, 1)]


async def test_a_whole_answer_that_is_cut_leaves_its_connection_usable(rig):
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    body = json.dumps({"model": "mute", "messages": [{"role": "user", "content": "hi"}]}).encode()
    key = f"Host: h\r\nAuthorization: Bearer {secret('k2')}\r\n"
    writer.write(f"POST /v1/chat/completions HTTP/1.1\r\n{key}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    await eventually(lambda: rig.engines["mute"].engine.running + rig.engines["mute"].engine.waiting)
    await freeze(rig, "model", "mute")
    assert (await asyncio.wait_for(reader.readline(), 5)) == b"HTTP/1.1 403 Forbidden\r\n"
    writer.write(f"GET /v1/models HTTP/1.1\r\n{key}\r\n".encode())
    assert b"HTTP/1.1 200 OK" in await asyncio.wait_for(reader.readuntil(b"200 OK"), 2)
    writer.close()


async def test_who_is_still_sending_is_told_at_once(rig):
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {secret('o1')}\r\nContent-Length: 100000\r\n\r\n"
    writer.write(head.encode() + b'{"model": "m"')
    await eventually(lambda: _in_flight(rig))
    await freeze(rig, "tenant", "other")
    assert b"403" in await asyncio.wait_for(reader.readline(), 5)
    writer.close()
    assert (await rig.record(key="o1", end="OA"))["error"] == "frozen"


@pytest.mark.parametrize("stream", [False, True])
async def test_who_waits_for_a_seat_or_a_first_event_is_told_in_json(rig, stream):
    holder = await Open.of(rig, "", "queue")
    waits = [asyncio.create_task(ask(rig, "o1", model, stream=stream)) for model in ("queue", "mute")]
    await eventually(lambda: rig.engines["mute"].engine.running + rig.engines["mute"].engine.waiting)

    async def queued() -> bool:
        return bool((await rig.admin("GET", "/v1/channels/one"))["channel"]["capacity"]["queued"] == 1)

    await eventually(queued)
    await freeze(rig, "tenant", "other")
    for answer in await asyncio.wait_for(asyncio.gather(*waits), 1):
        refused(answer, "The tenant `other`")
    await eventually(lambda: rig.engines["mute"].engine.running + rig.engines["mute"].engine.waiting == 0)
    ends = {record["model"]: record["end"] for record in rig.records() if record.get("key") == "o1" and record["end"] in ("OQ", "OW")}
    assert ends == {"queue": "OQ", "mute": "OW"}
    assert not holder.task.done()
    holder.task.cancel()


async def test_a_frozen_model_is_not_reached_by_name_alias_rule_or_fallback(rig):
    assert (await freeze(rig, "model", "gpt-x"))["name"] == "m"
    for name in ("m", "gpt-x"):
        refused(await ask(rig, model=name), "The model `m`")
    await freeze(rig, "model", "spare")
    fell = await ask(rig, model="falls")
    assert fell.status == 200 and (await rig.record(model="falls", status=200))["via"] == "last"
    refused(await ask(rig, model="leads", headers={"x-away": "yes"}), "The model `spare`")
    assert (await rig.record(model="leads", status=403))["end"] == "OR", "and its fallback is not asked"
    assert (await ask(rig, model="leads")).status == 200
    await freeze(rig, "model", "last")
    assert (await ask(rig, model="falls")).status == 503, "as if there were no fallback"


async def test_a_stream_that_a_fallback_serves_ends_with_the_fallback(rig):
    stream, other = await Open.of(rig, model="falls"), await Open.of(rig, model="last")
    await freeze(rig, "model", "spare")
    ended = await stream.ended()
    assert ended.error is not None and "The model `spare`" in ended.error["message"]
    assert not other.task.done()
    other.task.cancel()


@pytest.mark.hard
async def test_it_outlives_a_killed_worker_a_killed_control_and_a_restart(rig):
    await freeze(rig, "tenant", "other")
    worker, control = rig.pid_of("worker-0"), rig.pid_of("control")
    os.kill(worker, signal.SIGKILL)
    await eventually(lambda: _other_pid(rig, "worker-0", worker))
    for _ in range(20):
        with contextlib.suppress(OSError, aiohttp.ClientError):  # reset with the worker
            refused(await rig_fresh(rig, "o1"), "`other`")
    os.kill(control, signal.SIGKILL)
    await eventually(lambda: _other_pid(rig, "control", control))
    refused(await ask(rig, "o1"), "`other`")

    async def listed() -> Any:
        try:
            return (await rig.admin("GET", "/v1/freezes"))["freezes"]
        except OSError:
            return None

    found = await eventually(listed)
    assert [(one["kind"], one["name"]) for one in found] == [("tenant", "other")] and "(uid " in found[0]["by"]
    assert await rig.stop() == 0
    await start(rig)
    refused(await ask(rig, "o1"), "`other`")
    assert (await ask(rig)).status == 200
    ran = await ctl(rig, "unfreeze", "--tenant", "other")
    assert ran.code == 0 and "is no longer frozen" in ran.err
    assert (await ask(rig, "o1")).status == 200
    ran = await ctl(rig, "unfreeze", "--tenant", "other")
    assert ran.code == 0 and "was not frozen" in ran.err


async def test_a_worker_that_starts_while_control_is_stopped_refuses_from_its_first_request_on(rig):
    await freeze(rig, "all")
    worker, control = rig.pid_of("worker-0"), rig.pid_of("control")
    os.kill(control, signal.SIGSTOP)
    try:
        killed = time.time()
        os.kill(worker, signal.SIGKILL)
        await eventually(lambda: _other_pid(rig, "worker-0", worker))
        while not any(r["slot"] == 0 and r["ts"] > killed for r in rig.records()):
            with contextlib.suppress(OSError, aiohttp.ClientError):
                refused(await rig_fresh(rig, ""), "Everything")
            assert time.time() - killed < 10
    finally:
        os.kill(control, signal.SIGCONT)
    assert {r["status"] for r in rig.records() if r["ts"] > killed} == {403}
    await eventually(lambda: _answers(rig))


@pytest.mark.hard
async def test_a_file_that_cannot_be_read_freezes_everything_until_it_is_repaired(rig):
    await rig.stop()
    (rig.data_dir / "freezes.json").write_text('{"format":1,"freezes":[{"kind":"ten')
    for _ in range(2):
        await start(rig)
        refused(await ask(rig), "Everything")
        ran = await ctl(rig, "status")
        assert ran.code == 6 and "freezes.json cannot be read" in ran.err and "everything" in ran.out
        await rig.stop()
    await start(rig)
    ran = await ctl(rig, "unfreeze", "--all")
    assert ran.code == 0, ran.err
    assert (await ask(rig)).status == 200 and (rig.data_dir / "freezes.bad").exists()
    assert (await ctl(rig, "status")).code == 0
    await rig.stop()
    await start(rig)
    assert (await ask(rig)).status == 200


@pytest.mark.hard
async def test_a_disk_that_takes_nothing_does_not_keep_anybody_from_stopping_things(rig):
    for name in ("freezes.json", "audit.log"):
        with contextlib.suppress(FileNotFoundError):
            (rig.data_dir / name).rename(rig.data_dir / f"{name}.away")
        (rig.data_dir / name).mkdir()  # a file cannot take its place
    ran = await ctl(rig, "freeze", "--key", "k2")
    assert ran.code == 6 and "cannot be written down" in ran.err and "NOT IN THE AUDIT LOG" in ran.err
    refused(await ask(rig, "k2"), "This API key")
    assert (await ctl(rig, "status")).code == 6
    for name in ("freezes.json", "audit.log"):
        (rig.data_dir / name).rmdir()
    await eventually(lambda: (rig.data_dir / "freezes.json").exists())
    assert (await ctl(rig, "unfreeze", "--key", "k2")).code == 0
    assert (await ctl(rig, "status")).code == 0 and "NOT IN THE AUDIT LOG" in rig.log()


# -- revoked keys --------------------------------------------------------------------------------------------------------------


async def test_a_revoked_key_is_dead_everywhere_within_a_second_and_others_go_on(rig):
    streams, other = [await Open.of(rig, "o1") for _ in range(16)], await Open.of(rig, "k2")
    ran = await ctl(rig, "keys", "revoke", "o1", "--yes")
    assert ran.code == 0, ran.err
    for answer in await asyncio.wait_for(asyncio.gather(*(one.ended() for one in streams)), 1):
        assert not answer.done and answer.error is not None
        assert (answer.error["code"], answer.error["type"]) == ("invalid_api_key", "authentication_error") and "revoked" in answer.error[
            "message"
        ]
    assert (await ask(rig, "o1")).status == 401
    records = [r for r in rig.records() if r.get("error") == "key_revoked"]
    assert {(r["end"], r["status"], r["key"]) for r in records} == {("OD", 401, "o1")} and len(records) == 16
    assert {r["slot"] for r in records} == {0, 1}
    assert not other.task.done()
    other.task.cancel()
    line = (await rig.admin("GET", "/v1/audit?last=1"))["audit"][0]
    assert (line["what"], line["before"], line["after"], line["ok"]) == ("keys revoke o1", {"keys": "o1 (tenant other)"}, None, True)


async def test_let_finish_lets_open_requests_end_in_peace(rig):
    streams = [await Open.of(rig, "o2", max_tokens=120) for _ in range(4)]
    assert (await ctl(rig, "keys", "revoke", "o2", "--yes", "--let-finish")).code == 0
    assert (await ask(rig, "o2")).status == 401
    rig.path.write_text(rig.path.read_text() + "\n# another revision\n")
    assert (await rig.admin("POST", "/v1/reload"))["ok"]
    for one in streams:
        assert (await one.ended(10)).done
    assert {r["end"] for r in rig.records() if r.get("key") == "o2" and r.get("stream") and r["rev"] > 0 and r["tokens"]["out"] == 120} == {
        "--"
    }


# -- the audit log ---------------------------------------------------------------------------------------------------------------


def _saved(rig: Rig, text: str) -> None:
    """As editors save: the watcher never sees half of it."""
    new = rig.path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, rig.path)


async def test_each_act_is_in_the_audit_log_with_who_when_what_before_and_after(rig):
    begun = time.time()
    me = f"(uid {os.getuid()}, pid "
    await ctl(rig, "freeze", "--model", "gpt-x", "--reason", "why not")
    await ctl(rig, "unfreeze", "--model", "m")
    await ctl(rig, "channels", "drain", "a", "--for", "10m")
    await ctl(rig, "channels", "undrain", "a")
    await ctl(rig, "channels", "probe", "a")
    assert (await ctl(rig, "freeze", "--tenant", "acne")).code == 1
    text = rig.path.read_text()
    assert "wait: 60s" in text
    _saved(rig, text.replace("wait: 60s", "wait: 61s"))
    await eventually(lambda: _said(rig, "reload (the files changed)", begun))
    _saved(rig, text.replace("wait: 60s", "wait: soon"))
    await eventually(lambda: _said(rig, "reload (the files changed)", begun, ok=False))
    _saved(rig, text.replace("wait: 60s", "wait: 62s"))
    await ctl(rig, "reload")
    await eventually(lambda: _said(rig, "reload", begun) or _said(rig, "reload (the files changed)", begun))
    assert "again: 1 file(s) restored" in (await ctl(rig, "config", "rollback", "--yes")).err
    lines = _lines(rig, begun)
    acts = {line["what"]: line for line in lines}
    frozen = acts["freeze model m"]
    assert me in frozen["by"] and frozen["uid"] == os.getuid() and frozen["before"] is None and frozen["ok"]
    assert (frozen["after"]["name"], frozen["after"]["reason"]) == ("m", "why not")
    assert acts["unfreeze model m"]["before"]["name"] == "m" and acts["unfreeze model m"]["after"] is None
    drained = acts["channels drain a"]
    assert drained["before"] is None and me in drained["after"][0]["by"] and drained["after"][0]["until"]
    assert acts["channels undrain a"]["before"] == drained["after"] and acts["channels undrain a"]["after"] is None
    assert list(acts["channels probe a"]["after"].values()) == [True]
    assert not acts["freeze tenant acne"]["ok"] and 'did you mean "acme"?' in acts["freeze tenant acne"]["message"]
    watched = [line for line in lines if line["what"] == "reload (the files changed)"]
    assert watched[0]["before"] == {"channels.one.queue.wait": "1m"} and watched[0]["after"] == {"channels.one.queue.wait": "1m1s"}
    assert watched[0]["by"] == "gateway" and watched[0]["uid"] is None and watched[0]["rev"]
    assert not watched[1]["ok"] and "soon" in watched[1]["message"]
    back = next(line for line in lines if line["what"].startswith("rollback "))
    assert back["ok"] and back["before"] == {"channels.one.queue.wait": "1m2s"} and me in back["by"]
    listed = await ctl(rig, "audit", "list", "--since", "5m", "--by", str(os.getuid()), "-o", "json")
    assert {one["uid"] for one in json.loads(listed.out)} == {os.getuid()}


async def test_a_start_with_other_files_says_what_changed_and_the_log_is_read_without_a_gateway(rig):
    await rig.stop()
    text = rig.path.read_text()
    rig.path.write_text(text.replace("queue:", "breaker: {failures: 7}\n    queue:", 1))
    begun = time.time()
    await start(rig)
    line = next(one for one in _lines(rig, begun) if one["what"] == "start")
    assert line["after"] == {"channels.one.breaker.failures": "7"} and line["before"] == {"channels.one.breaker.failures": "5"}
    os.kill(rig.process.pid, signal.SIGHUP)
    await rig.stop()
    ran = await ctl(rig, "audit", "--last", "1000")
    assert ran.code == 0 and "start" in ran.out and "keys revoke o1" in ran.out and "not running" in ran.err
    await start(rig)


# -- steps -------------------------------------------------------------------------------------------------------------------------


async def start(rig: Rig) -> None:
    """With the files as they are now."""
    rig.write = lambda: None  # type: ignore[method-assign]  # commands have edited the file
    rig.log_path.unlink()
    await rig.start()


async def rig_fresh(rig: Rig, id: str) -> Answer:
    """One request on a connection of its own: whichever worker gets it."""
    return await ask(rig, id, headers={"Connection": "close"})


def _other_pid(rig: Rig, name: str, before: int) -> bool:
    with contextlib.suppress(AssertionError):
        return rig.pid_of(name) != before
    return False


async def _in_flight(rig: Rig) -> bool:
    return bool((await rig.admin("GET", "/v1/status"))["in_flight"])


async def _answers(rig: Rig) -> bool:
    with contextlib.suppress(OSError):
        return "freezes" in await rig.admin("GET", "/v1/freezes")
    return False


def _lines(rig: Rig, since: float) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (rig.data_dir / "audit.log").read_text().splitlines()]
    return [line for line in found if line["ts"] >= since - 0.001]


def _said(rig: Rig, what: str, since: float, ok: bool = True) -> bool:
    return any(line["what"] == what and line["ok"] == ok for line in _lines(rig, since))

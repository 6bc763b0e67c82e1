"""The admin API over a real Unix socket: what is answered, in which shape, to whom, and what is logged."""

import asyncio
import json
import logging
import os
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator

import aiohttp
import pytest

from gateway.admin.desk import Desk
from gateway.admin.peer import Peer, may_ask, may_ask_at, peer_of
from gateway.admin.server import LONGEST_PATH, serve_admin
from tests.fixtures.cli import ROOT
from tests.fixtures.desk import FakeDesk, record, write_config


@pytest.fixture
def desk(tmp_path):
    return FakeDesk(write_config(tmp_path))


@pytest.fixture
async def api(desk, tmp_path):
    server = await serve_admin(desk, tmp_path / "admin.sock")
    async with aiohttp.ClientSession("http://x", connector=aiohttp.UnixConnector(str(tmp_path / "admin.sock"))) as session:
        yield session
    await server.close()


async def ask(api, path, method="GET", **more):
    async with api.request(method, path, **more) as answer:
        return answer.status, await answer.json()


def test_the_fake_is_a_desk(desk):
    def needs(desk: Desk) -> Desk:
        return desk

    assert needs(desk) is desk


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/status", "processes"),
        ("/v1/config/history", "revisions"),
        ("/v1/config/running", "config"),
        ("/v1/config/diff", "changes"),
        ("/v1/channels", "channels"),
        ("/v1/channels/gpu", "channel"),
        ("/v1/models", "models"),
        ("/v1/health", "endpoints"),
        ("/v1/requests", "requests"),
        ("/v1/requests/019a2b3c", "request"),
    ],
)
async def test_each_question_has_an_answer_that_names_its_version(api, path, field):
    status, answer = await ask(api, path)
    assert status == 200 and answer["api"] == 1 and answer[field] is not None


async def test_what_changes_something_is_logged_with_who_and_handed_on(api, desk, caplog):
    with caplog.at_level(logging.INFO, "gateway.admin"):
        status, answer = await ask(api, "/v1/reload", "POST")
        assert (status, answer["ok"], answer["changed"]) == (200, True, False)
        assert (await ask(api, "/v1/config/rollback", "POST", json={"rev": 2}))[1]["rev"] == 4
        assert (await ask(api, "/v1/config/rollback", "POST", json={}))[0] == 200
        assert (await ask(api, "/v1/channels/gpu/probe", "POST"))[1]["endpoints"][0]["reachable"]
        await ask(api, "/v1/status")
    me = f"(uid {os.geteuid()}, pid {os.getpid()})"
    assert [call for call, _ in desk.calls] == ["reload", "rollback 2", "rollback None"]
    assert all(by.endswith(me) for _, by in desk.calls)
    lines = [line.getMessage() for line in caplog.records]
    assert len(lines) == 4 and all(me in line for line in lines)
    assert "POST /v1/reload" in lines[0]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "said"),
    [
        ("GET", "/v1/nothing", None, 404, "no_such_path", "this gateway speaks admin API v1"),
        ("GET", "/v2/status", None, 404, "no_such_path", "this gateway speaks admin API v1"),
        ("GET", "/v1/reload", None, 405, "wrong_method", "wants POST"),
        ("POST", "/v1/config/rollback", b"{", 400, "bad_request", "not JSON"),
        ("POST", "/v1/config/rollback", b"[]", 400, "bad_request", "object"),
        ("POST", "/v1/config/rollback", b'{"rev": "2"}', 400, "bad_request", "number"),
        ("POST", "/v1/config/rollback", b'{"rev": true}', 400, "bad_request", "number"),
        ("POST", "/v1/config/rollback", b'{"rev": 77}', 404, "no_such_thing", "no revision 77"),
        ("POST", "/v1/config/rollback", b" " * 100_000, 413, "bad_request", ""),
        ("POST", "/v1/channels/none/probe", None, 404, "no_such_thing", "no channel 'none'"),
        ("GET", "/v1/requests?limit=0", None, 400, "bad_request", "limit"),
        ("GET", "/v1/requests?limit=x", None, 400, "bad_request", "limit"),
        ("GET", "/v1/requests/zzz", None, 404, "no_such_request", "zzz"),
    ],
)
async def test_each_failure_has_one_shape(api, method, path, body, status, code, said):
    got, answer = await ask(api, path, method, data=body)
    assert (got, answer["api"], answer["error"]["code"]) == (status, 1, code)
    assert said in answer["error"]["message"]


async def test_our_own_fault_is_logged_and_says_little(api, desk, caplog):
    desk.broken = True
    status, answer = await ask(api, "/v1/status")
    assert status == 500 and "RuntimeError" in answer["error"]["message"] and "oh" not in answer["error"]["message"]
    assert "oh" in caplog.text


async def test_files_with_mistakes_cannot_be_compared(api, desk):
    desk.path.write_text("version: 1\nmodles: {}\n")
    status, answer = await ask(api, "/v1/config/diff")
    assert status == 422 and answer["error"]["mistakes"][0]["line"]
    status, answer = await ask(api, "/v1/reload", "POST")
    assert status == 200 and not answer["ok"] and answer["mistakes"][0]["file"] == str(desk.path)


async def test_the_running_configuration_holds_no_secret(api):
    _, answer = await ask(api, "/v1/config/running")
    text = json.dumps(answer)
    assert "sk-engine" not in text and "hush" not in text
    assert answer["config"]["channels"]["gpu"]["headers"] == {"X-Team": "(hidden)"}
    assert answer["keys"] == [{"id": "ann", "digest": "0f0f0f0f", "tenant": "retail", "project": "chatbot", "models": ["*"]}]


async def test_a_stream_begins_at_once_and_ends_when_the_reader_leaves(api, desk):
    async with api.get("/v1/requests/follow") as stream:
        assert await stream.content.readline() == b"\n" and desk.following == 1
        for id in ("a", "b"):
            desk.coming.put_nowait(record(id))
            assert json.loads(await stream.content.readline())["id"] == id
    await asyncio.wait_for(desk.left.wait(), 5)


async def test_who_leaves_in_the_middle_of_a_file_is_no_fault_of_ours(api, desk, monkeypatch, caplog):
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 65_536
        finally:
            closed.set()

    async def copy() -> AsyncIterator[bytes]:
        return endless()

    monkeypatch.setattr(desk.books, "copy", copy)
    answer = await api.get("/v1/ledger/copy")
    assert await answer.content.readexactly(20) == b"x" * 20
    answer.close()
    await asyncio.wait_for(closed.wait(), 5)
    assert (await ask(api, "/v1/status"))[0] == 200
    assert not [line for line in caplog.records if line.levelno >= logging.WARNING]


async def test_streams_end_when_the_server_closes(desk, tmp_path):
    server = await serve_admin(desk, tmp_path / "admin.sock")
    async with aiohttp.ClientSession("http://x", connector=aiohttp.UnixConnector(str(server.path))) as session:
        async with session.get("/v1/requests/follow") as stream:
            await stream.content.readline()
            async with asyncio.timeout(2):
                await server.close()
            assert await stream.content.read() == b""
    assert not server.path.exists() and desk.following == 0


async def test_the_socket_file_is_for_owner_and_group_and_replaces_a_stale_one(desk, tmp_path):
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    server = await serve_admin(desk, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    successor = await serve_admin(desk, path)
    await server.close()
    assert path.exists()
    await successor.close()
    assert not path.exists()


async def test_another_file_is_never_replaced(desk, tmp_path):
    (tmp_path / "admin.sock").write_text("mine")
    with pytest.raises(OSError, match="not a socket"):
        await serve_admin(desk, tmp_path / "admin.sock")
    assert (tmp_path / "admin.sock").read_text() == "mine"


async def test_a_path_that_no_socket_can_have_is_refused_in_words(desk, tmp_path):
    with pytest.raises(OSError, match="choose a shorter data_dir"):
        await serve_admin(desk, tmp_path / ("x" * LONGEST_PATH))


async def test_a_folder_that_takes_no_socket_is_named(desk, tmp_path):
    with pytest.raises(OSError, match=r"the admin socket cannot be made: No such file or directory: '.*/gone/admin\.sock'"):
        await serve_admin(desk, tmp_path / "gone" / "admin.sock")


@pytest.mark.parametrize(
    ("uid", "groups", "mode", "may"),
    [
        (0, (), 0o660, True),
        (990, (), 0o660, True),
        (1000, (), 0o660, False),
        (1000, (500,), 0o660, True),
        (1000, (500,), 0o600, False),
        (1000, (501,), 0o660, False),
    ],
    ids=["root", "the gateway's user", "a stranger", "of the group", "of the group, mode 0600", "of another group"],
)
def test_who_may_ask(uid, groups, mode, may):
    assert may_ask(Peer(1, uid, frozenset(groups)), own_uid=990, socket_gid=500, socket_mode=mode) is may


def test_the_kernel_says_who_is_there(tmp_path):
    here, there = socket.socketpair(socket.AF_UNIX)
    with here, there:
        peer = peer_of(here)
    assert (peer.pid, peer.uid) == (os.getpid(), os.geteuid())
    assert {os.getegid(), *os.getgroups()} == set(peer.groups)
    assert may_ask_at(peer, tmp_path / "gone") and not may_ask_at(Peer(1, 12345, frozenset()), tmp_path / "gone")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may take groups")
def test_a_group_that_the_peer_has_beside_its_first_one_counts():
    told = "import socket; from gateway.admin.peer import peer_of; print(sorted(peer_of(socket.socketpair()[0]).groups))"
    ran = subprocess.run([sys.executable, "-c", told], extra_groups=[997, 1234], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ran.stdout == f"{sorted({os.getegid(), 997, 1234})}\n"


async def test_a_stranger_is_refused_and_the_log_says_so(api, monkeypatch, caplog):
    stranger = Peer(7, 54321, frozenset({54321}))
    monkeypatch.setattr("gateway.admin.routes.peer_of", lambda connection: stranger)
    status, answer = await ask(api, "/v1/reload", "POST")
    assert status == 403 and answer["error"]["code"] == "forbidden" and "uid 54321" in answer["error"]["message"]
    assert "uid 54321" in caplog.text


async def test_draining_and_taking_it_back(api, desk):
    status, answer = await ask(api, "/v1/channels/gpu/drain", "POST", json={"endpoint": "http://a", "seconds": 60})
    assert status == 200 and answer["channel"]["left"] == ["qwen"]
    status, answer = await ask(api, "/v1/channels/gpu/undrain", "POST")
    assert status == 200 and answer["channel"]["changed"]
    assert [call for call, _ in desk.calls] == ["drain gpu http://a 60", "undrain gpu None"]
    assert all("uid" in by for _, by in desk.calls)


@pytest.mark.parametrize(
    ("verb", "body", "said"),
    [
        ("drain", {"seconds": 0}, "above 0"),
        ("drain", {"seconds": -1}, "above 0"),
        ("drain", {"seconds": True}, "above 0"),
        ("drain", {"seconds": "30m"}, "above 0"),
        ("drain", {"seconds": 1e12}, "at most"),
        ("drain", {"endpoint": 7}, "endpoint's URL"),
        ("undrain", {"endpoint": ["a"]}, "endpoint's URL"),
    ],
)
async def test_a_drain_that_makes_no_sense_is_refused(api, desk, verb, body, said):
    status, answer = await ask(api, f"/v1/channels/gpu/{verb}", "POST", json=body)
    assert status == 400 and said in answer["error"]["message"] and not desk.calls


async def test_a_channel_that_is_not_there_and_a_disk_that_is_full(api, desk):
    for method, path in (("GET", "/v1/channels/none"), ("POST", "/v1/channels/none/drain"), ("POST", "/v1/channels/none/undrain")):
        status, answer = await ask(api, path, method)
        assert (status, answer["error"]["code"]) == (404, "no_such_thing")
    desk.full = True
    status, answer = await ask(api, "/v1/channels/gpu/drain", "POST")
    assert (status, answer["error"]) == (500, {"code": "failed", "message": "the drain cannot be written down"})


async def test_reports_are_asked_with_json_and_come_as_json_or_as_a_file(api, desk):
    question = {"questions": [{"since": 0, "until": 1}]}
    assert (await ask(api, "/v1/report", "POST", json=question))[1]["reports"] == []
    assert desk.reports.asked == [question]
    assert (await ask(api, "/v1/cost/budgets"))[1]["budgets"] == []
    for path, word in (("capacity", "capacity"), ("forecast", "forecast"), ("reprice", "repriced")):
        assert (await ask(api, f"/v1/cost/{path}", "POST", json={}))[1][word] == {}
    assert desk.reports.asked[-1][1].endswith(f"(uid {os.geteuid()}, pid {os.getpid()})")
    async with api.get("/v1/report/file", params={"question": "{}", "format": "csv"}) as answer:
        assert await answer.text() == "tenant\n" and answer.content_type == "text/csv"
    status, answer = await ask(api, "/v1/report", "POST", json={"by": "nonsense"})
    assert (status, answer["error"]["message"]) == (400, "that is nothing to report by")
    for params in ({"question": "{", "format": "csv"}, {"question": "[]", "format": "csv"}, {"question": "{}", "format": "xls"}):
        assert (await ask(api, "/v1/report/file", params=params))[0] == 400

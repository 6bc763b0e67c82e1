"""`gatewayctl ledger`: what people see, what programs get, exit codes, and files that are whole or not there."""

import json
import time

import pytest

from gateway.admin.server import serve_admin
from tests.fixtures.desk import FakeDesk, write_config


@pytest.fixture
async def desk(tmp_path, monkeypatch):
    desk = FakeDesk(write_config(tmp_path))
    server = await serve_admin(desk, tmp_path / "data/admin.sock")
    monkeypatch.setenv("GATEWAY_CONFIG", str(tmp_path / "gateway.yaml"))
    yield desk
    await server.close()


async def test_status_says_how_it_is(desk, inside):
    code, out, err = await inside("ledger")
    assert (code, err) == (0, "") and "state     ok" in out and "requests  2" in out and "2026-10.parquet" in out
    desk.books.state |= {"state": "failing", "trouble": "another process has it", "waiting": 3, "lag": 12.0, "quarantined": 1}
    desk.books.state |= {"repaired": {"ts": time.time() - 200, "why": "it was missing"}}
    code, out, err = await inside("ledger", "status")
    assert (
        code == 6
        and "another process has it" in err
        and "3 segments, for 12 s" in out
        and "1 line" in out
        and "3 min ago: it was missing" in out
    )
    code, out, _ = await inside("ledger", "status", "-o", "json")
    assert code == 6 and json.loads(out)["waiting"] == 3


async def test_what_was_lost_is_said(desk, inside):
    desk.books.state["lost"] = ["7 request(s) of 2026-09 are lost"]
    code, _, err = await inside("ledger")
    assert code == 6 and "7 request(s) of 2026-09 are lost" in err


async def test_verify(desk, inside):
    code, _, err = await inside("ledger", "verify")
    assert code == 0 and "2 requests, all in order" in err
    desk.books.wrong = ["3 request(s) are there twice"]
    code, out, err = await inside("ledger", "verify", "-o", "json")
    assert code == 6 and "there twice" in err and json.loads(out)["ok"] is False


async def test_acts(desk, inside):
    code, _, err = await inside("ledger", "compact")
    assert code == 0 and "4.0 KiB before, 1.0 KiB now" in err
    code, out, _ = await inside("ledger", "archive", "-o", "json")
    assert code == 0 and json.loads(out)[0]["month"] == "2026-10"
    desk.books.state["trouble"] = "the disk is full"
    code, _, err = await inside("ledger", "compact")
    assert code == 1 and "the disk is full" in err


async def test_a_rebuilding_that_would_lose_something_wants_to_be_told(desk, inside):
    code, _, err = await inside("ledger", "rebuild")
    assert code == 0 and "rebuilt: 2 requests" in err
    desk.books.lost = {"2026-09": 7}
    code, _, err = await inside("ledger", "rebuild")
    assert code == 1 and "7 requests of 2026-09" in err and "--force" in err
    assert (await inside("ledger", "rebuild", "--force"))[0] == 2  # nobody to ask
    code, _, err = await inside("ledger", "rebuild", "--force", "--yes")
    assert code == 0 and "lost: 7 requests of 2026-09" in err
    assert desk.books.calls == [("rebuild", False), ("rebuild", False), ("rebuild", True)]


async def test_export(desk, inside, tmp_path):
    code, out, _ = await inside("ledger", "export", "--since", "1970-01-01T02:00+00:00", "--until", "1970-01-01T03:00+00:00")
    assert (code, out) == (0, "id,ts\n1,2\n") and desk.books.calls == [("csv", (7200.0, 10800.0))]
    target = tmp_path / "out.json"
    assert (await inside("ledger", "export", "--format", "json", "--to", str(target)))[0] == 0 and target.read_text() == "id,ts\n1,2\n"
    for wrong in (("--since", "yesterday"), ("--since", "1d", "--until", "2d"), ("--format", "xml")):
        assert (await inside("ledger", "export", *wrong))[0] == 2
    assert (await inside("ledger", "export", "--to", str(tmp_path / "no/out.csv")))[0] == 1
    target.unlink()
    desk.books.state["trouble"] = "it is locked"
    code, _, err = await inside("ledger", "export", "--to", str(target))
    assert code == 1 and "it is locked" in err and not target.exists() and not list(tmp_path.glob(".*.new"))

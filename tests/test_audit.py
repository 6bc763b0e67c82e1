"""The audit log as a file (torn lines, full disks), what goes into it, and acts that are announced before they happen."""

import asyncio
import json
import os
import stat
from typing import Any

import pytest

from gateway.admin.announced import HOLD, UNDO, Announced
from gateway.admin.audit import CHANGES_MOST, Audit, sides
from gateway.admin.peer import Peer, uid_of
from gateway.config import audit_file
from gateway.config.diff import Change
from gateway.govern.acts import note_reload
from gateway.govern.rollout import Outcome
from tests.harness import eventually

ROOT = "root (uid 0, pid 4711)"


def lines(audit: Audit) -> list[dict[str, Any]]:
    return [json.loads(line) for line in audit.path.read_bytes().splitlines()]


async def test_a_line_says_who_what_before_and_after(tmp_path):
    audit = Audit(tmp_path)
    assert await audit.note("freeze key ann", by=ROOT, before=None, after={"kind": "key"}, rev=3) == ""
    (line,) = lines(audit)
    assert line.pop("ts") > 1e9
    assert line == {"by": ROOT, "uid": 0, "what": "freeze key ann", "before": None, "after": {"kind": "key"},
                    "ok": True, "message": "", "rev": 3}  # fmt: skip
    assert stat.S_IMODE(audit.path.stat().st_mode) == 0o640


async def test_a_torn_line_swallows_neither_the_next_one_nor_those_before(tmp_path):
    audit = Audit(tmp_path)
    await audit.note("one", by=ROOT)
    with audit.path.open("ab") as file:
        file.write(b'{"ts":1.0,"by":"roo')
    assert [one["what"] for one in await audit.read(last=10, since=0, by="")] == ["one"]
    await audit.note("two", by=ROOT)
    assert [one["what"] for one in await audit.read(last=10, since=0, by="")] == ["one", "two"]


async def test_what_cannot_be_written_is_said_and_the_next_is_well(tmp_path, monkeypatch, caplog):
    audit = Audit(tmp_path)
    await audit.note("one", by=ROOT)
    write = os.write

    def half(handle: int, data: Any) -> int:
        if len(data) < 20:
            raise OSError(28, "No space left on device")
        return write(handle, bytes(data)[: len(data) - 10])

    with monkeypatch.context() as disk:
        disk.setattr(os, "write", half)
        said = await audit.note("two", by=ROOT)
    assert "two by root" in said and "NOT IN THE AUDIT LOG" in said and "No space left" in said and audit.failing == said
    assert said in caplog.text
    assert await audit.note("three", by=ROOT) == "" and not audit.failing
    assert [one["what"] for one in await audit.read(last=10, since=0, by="")] == ["one", "three"]


async def test_a_log_that_was_moved_away_begins_anew(tmp_path):
    audit = Audit(tmp_path)
    await audit.note("one", by=ROOT)
    audit.path.rename(tmp_path / "audit.log.1")
    await audit.note("two", by=ROOT)
    assert [one["what"] for one in lines(audit)] == ["two"]


async def test_what_is_looked_for(tmp_path):
    audit = Audit(tmp_path)
    assert await audit.read(last=1, since=0, by="") == []
    for number in range(30):
        await audit.note(f"act {number}", by=ROOT if number % 2 else "ann (uid 1000, pid 9)")
    now = lines(audit)[20]["ts"]
    assert [one["what"] for one in audit_file.read(audit.path, last=2)] == ["act 28", "act 29"]
    assert len(audit_file.read(audit.path, last=100, since=now)) >= 10
    for by in ("ann", "1000", "ann (uid 1000, pid 9)"):
        assert {one["uid"] for one in audit_file.read(audit.path, last=100, by=by)} == {1000}
    assert audit_file.read(audit.path, last=100, by="an") == []


def test_who_it_was_is_read_from_the_end():
    assert uid_of(str(Peer(4711, 0, frozenset()))) == 0
    assert uid_of("evil (uid 0, pid 1) (uid 1000, pid 2)") == 1000
    assert uid_of("gateway") is None


def test_changes_as_two_sides_without_secrets():
    changes = [
        Change("channels.gpu.max_in_flight", "->", "1", "2"),
        Change("channels.gpu.credential", "changed"),
        Change("keys", "-", old="ann (tenant retail)"),
        Change("keys", "-", old="bob (tenant retail)"),
        Change("keys", "+", new="eve (tenant retail)"),
    ]
    before, after = sides(changes)
    gpu = {"channels.gpu.credential": "(hidden)"}
    assert before == {"channels.gpu.max_in_flight": "1", **gpu, "keys": ["ann (tenant retail)", "bob (tenant retail)"]}
    assert after == {"channels.gpu.max_in_flight": "2", **gpu, "keys": "eve (tenant retail)"}
    assert sides([]) == (None, None)
    many = sides([Change(f"p{n}", "->", "a", "b") for n in range(CHANGES_MOST + 3)])[1]
    assert many is not None and len(many) == CHANGES_MOST + 1 and many["(more)"] == "3 further changes"


async def test_reloads_that_change_nothing_are_noted_only_when_somebody_asked(tmp_path):
    audit = Audit(tmp_path)
    nothing, refused = Outcome(True, "nothing changed", rev=2), Outcome(False, "no", rev=2)
    await note_reload(audit, nothing, "reload (the files changed)", by="gateway")
    await note_reload(audit, refused, "reload (the files changed)", by="gateway")
    await note_reload(audit, nothing, "reload", by=ROOT)
    await note_reload(audit, nothing, "reload (SIGHUP)", by="signal")
    assert [(one["by"], one["ok"]) for one in lines(audit)] == [("gateway", False), (ROOT, True), ("signal", True)]


# -- announced ---------------------------------------------------------------------------------------------------------------------


async def test_the_watcher_waits_for_an_announced_act_and_no_longer_than_it_takes():
    announced = Announced(asyncio.get_running_loop().time)
    await announced.quiet()
    number = announced.announce("keys revoke ann", ["ann"], by=ROOT)
    assert announced.spared() == ["ann"]
    waiting = asyncio.create_task(announced.quiet())
    act = announced.begin(number)
    assert act is not None and act.what == "keys revoke ann"
    await asyncio.sleep(0)
    assert not waiting.done()
    announced.end(number, undone=False)
    await asyncio.wait_for(waiting, 5)
    assert announced.spared() == [] and announced.begin(number) is None


async def test_an_act_whose_command_died_is_over_by_itself():
    clock = [100.0]
    announced = Announced(lambda: clock[0])
    number = announced.announce("keys revoke ann", ["ann"], by=ROOT)
    clock[0] += HOLD
    await asyncio.wait_for(announced.quiet(), 5)
    assert announced.spared() == []
    assert announced.begin(number) is not None, "late, but known"
    assert announced.spared() == ["ann"]
    clock[0] += 600
    assert announced.spared() == ["ann"], "its reload takes as long as it takes"
    announced.end(number, undone=False)
    stale = announced.announce("a", [], by=ROOT)
    clock[0] += 600
    assert announced.begin(stale) is None


async def test_a_refused_edit_gets_time_to_be_taken_back():
    clock = [100.0]
    announced = Announced(lambda: clock[0])
    number = announced.announce("keys create", [], by=ROOT)
    announced.begin(number)
    announced.end(number, undone=True)
    waiting = asyncio.create_task(announced.quiet())
    await asyncio.sleep(0.1)
    assert not waiting.done()
    clock[0] += UNDO
    await eventually(waiting.done)


async def test_there_is_room_for_so_many_and_no_more():
    announced = Announced(asyncio.get_running_loop().time)
    first = announced.announce("a", [], by=ROOT)
    for _ in range(200):
        announced.announce("b", ["x"], by=ROOT)
    assert announced.begin(first) is None and announced.spared() == ["x"]


@pytest.mark.parametrize("umask", [0o077, 0o000])
def test_its_mode_is_what_it_should_be(tmp_path, umask):
    before = os.umask(umask)
    try:
        audit_file.append(tmp_path / "audit.log", b"{}")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "audit.log").stat().st_mode) == 0o640

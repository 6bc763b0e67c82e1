"""`gatewayctl freeze`, `unfreeze` and `audit`: what is asked of the gateway, what is printed, and the exit codes."""

import json

import pytest

from gateway.config import audit_file

ACT = {
    "ts": 1_700_000_000.0, "by": "ann (uid 1000, pid 9)", "uid": 1000, "what": "freeze tenant retail", "before": None,
    "after": {"kind": "tenant", "name": "retail", "by": "ann (uid 1000, pid 9)", "since": 1.0, "reason": "ticket"},
    "ok": True, "message": "", "rev": 3,
}  # fmt: skip
RELOAD = {**ACT, "by": "gateway", "uid": None, "what": "reload (the files changed)", "before": {"models.qwen.targets[0].weight": "1"},
          "after": {"models.qwen.targets[0].weight": "3", "keys": ["a (tenant b)", "c (tenant d)"]}}  # fmt: skip


@pytest.mark.parametrize(
    ("options", "asked", "said"),
    [
        (["--tenant", "retail"], "tenant retail", "tenant retail"),
        (["--project", "retail/bot"], "project retail/bot", "project retail/bot"),
        (["--tenant", "retail", "--project", "bot"], "project retail/bot", "project retail/bot"),
        (["--key", "ann"], "key ann", "key ann"),
        (["--model", "qwen"], "model qwen", "model qwen"),
        (["--all"], "all", "everything"),
    ],
)
async def test_freeze_and_unfreeze_say_what_they_did(desk, inside, options, asked, said):
    for command, told in [
        ("freeze", "is frozen"),
        ("freeze", "was already frozen"),
        ("unfreeze", "is no longer frozen"),
        ("unfreeze", "was not frozen"),
    ]:
        code, out, err = await inside(command, *options)
        assert (code, out, desk.calls[-1][0]) == (0, "", f"{command} {asked}") and err.startswith(f"{said} {told}\n")


async def test_alone_it_lists(desk, inside):
    assert (await inside("freeze"))[2] == "nothing is frozen\n"
    assert (await inside("freeze", "-o", "json"))[1] == "[]\n"
    await inside("freeze", "--tenant", "retail", "--reason", "ticket 1")
    code, out, _ = await inside("freeze")
    assert code == 0 and "retail" in out and "ticket 1" in out and "uid" in out
    assert json.loads((await inside("freeze", "-o", "json"))[1])[0]["kind"] == "tenant"
    assert (await inside("freeze", "-o", "csv"))[1].startswith("frozen,name,since,by,reason\ntenant,retail,")
    code, out, _ = await inside("status")
    assert code == 0 and "FROZEN" in out and "tenant retail" in out
    await inside("freeze", "--all")
    assert "still frozen: everything" in (await inside("unfreeze", "--tenant", "retail"))[2]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["freeze", "--tenant", "a", "--key", "b"], "one at a time"),
        (["freeze", "--all", "--key", "b"], "one at a time"),
        (["freeze", "--project", "bot"], "--project TENANT/bot"),
        (["freeze", "--reason", "why"], "of what"),
        (["unfreeze"], "say what"),
        (["audit", "--since", "yesterday"], "10m"),
    ],
)
async def test_wrong_usage(desk, inside, args, said):
    code, _, err = await inside(*args)
    assert code == 2 and said in err and desk.calls == []


async def test_what_is_not_there_cannot_be_frozen(desk, inside):
    code, _, err = await inside("freeze", "--tenant", "nobody")
    assert code == 1 and "there is no tenant" in err


async def test_what_went_not_quite_well_is_said_with_6(desk, inside):
    desk.deaf, desk.unwritten, desk.unaudited = [1], "it cannot be written down", {"unaudited": "it is NOT IN THE AUDIT LOG"}
    code, _, err = await inside("freeze", "--all", "-q")
    assert code == 6 and "no answer from worker-1, which may still serve it" in err
    assert "it cannot be written down" in err and "NOT IN THE AUDIT LOG" in err


@pytest.mark.parametrize("command", ["freeze", "unfreeze"])
async def test_without_a_gateway_it_is_5(config, inside, command):
    assert (await inside(command, "--all"))[0] == 5


# -- audit -------------------------------------------------------------------------------------------------------------------------


async def test_audit_asks_for_what_is_wanted_and_prints_it(desk, inside):
    assert (await inside("audit"))[2] == "nothing was changed yet\n"
    assert (await inside("audit", "list", "--by", "nobody"))[2] == "no such acts\n"
    assert (await inside("audit", "-o", "csv"))[1] == "ts,by,uid,what,before,after,ok,message,rev\n"
    desk.acts = [RELOAD, ACT]
    code, out, _ = await inside("audit", "list", "--last", "5", "--since", "2023-11-14", "--by", "ann")
    assert code == 0 and desk.asked["last"] == 5 and desk.asked["by"] == "ann" and 1.69e9 < desk.asked["since"] < 1.71e9
    assert "ann (uid 1000, pid 9)" in out and "frozen: tenant retail by ann" in out
    assert "models.qwen.targets[0].weight 3, keys a (tenant b), c" in out
    assert json.loads((await inside("audit", "-o", "json"))[1]) == [RELOAD, ACT]
    out = (await inside("audit", "-o", "csv"))[1]
    assert out.startswith("ts,by,uid,what,before,after,ok,message,rev\n") and len(out.splitlines()) == 3


async def test_without_a_gateway_audit_reads_the_file(config, inside):
    audit_file.append(config.parent / "data/audit.log", json.dumps(ACT).encode())
    code, out, err = await inside("audit", "-o", "json")
    assert code == 0 and json.loads(out) == [ACT] and "not running" in err
    assert json.loads((await inside("audit", "--by", "root", "-o", "json"))[1]) == []

"""`gatewayctl keys rotate | disable | enable | show | whoami`, with and without a gateway; two commands at once."""

import asyncio
import csv
import io
import json
import os
import re
import time
from typing import Any

import pytest

from gateway.admin.server import serve_admin
from gateway.config.access import instant
from gateway.config.keys import checksum_ok, hash_of, new_secret
from gateway.config.load import load
from gateway.upgrade.claim import claim
from gatewayctl import client
from gatewayctl.commands import live
from gatewayctl.trouble import UNREACHABLE
from tests.fixtures.cli import actl, ctl
from tests.fixtures.desk import FakeDesk

WHO = ["--tenant", "retail", "--project", "chatbot"]


def key_of(config, id="ann"):
    return next(key for key in load(config).config.keys if key.id == id)


def keys_text(config):
    return (config.parent / "keys.yaml").read_text()


# -- rotate ---------------------------------------------------------------------------------------------------------------


async def test_a_rotated_key_keeps_its_old_secret_for_a_while(desk, config, inside):
    old, begun = key_of(config).hash, time.time()
    code, out, err = await inside("keys", "rotate", "ann", "--overlap", "7d")
    key = key_of(config)
    assert (code, key.hash, key.previous.hash) == (0, hash_of(out.strip()), old)
    assert begun + 7 * 86400 - 1 <= instant(key.previous.until) <= time.time() + 7 * 86400
    assert checksum_ok(out.strip()) and out.strip() not in err and key.previous.until in err and "# Ann's notebook" in keys_text(config)
    assert desk.announced == [("keys rotate ann --overlap 7d", [])] and desk.live[1][0].digest.hex() == key.hash.removeprefix("sha256:")


async def test_of_three_secrets_only_the_last_two_are_good(config, inside):
    first = (await inside("keys", "rotate", "ann", "-q"))[1].strip()
    second = (await inside("keys", "rotate", "ann", "-q"))[1].strip()
    key = key_of(config)
    assert (key.hash, key.previous.hash) == (hash_of(second), hash_of(first))
    code, out, _ = await inside("keys", "rotate", "ann", "--overlap", "0s", "-o", "json")
    found = json.loads(out)
    assert code == 0 and key_of(config).previous is None and found["previous_until"] is None and found["live"] is False
    assert key_of(config).hash == hash_of(found["secret"]) and keys_text(config).count("sha256:") == 1


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["nobody"], 1, "there is no key 'nobody'"),
        (["ann", "--overlap", "soon"], 2, "--overlap wants a duration"),
        (["ann", "--overlap", "-1d"], 2, "--overlap wants a duration"),
        (["ann", "--overlap", "367d"], 2, "366d at most"),
        (["ann", "--import-secret", "sk-on-the-command-line"], 2, "stdin"),
    ],
)
async def test_what_rotate_refuses_changes_nothing(desk, config, inside, options, code, said):
    before = keys_text(config)
    got, out, err = await inside("keys", "rotate", *options)
    assert (got, out) == (code, "") and said in err and keys_text(config) == before and desk.calls == []


def test_the_new_secret_may_come_from_another_gateway(config):
    ran = ctl("keys", "rotate", "ann", "--import-secret", "-", stdin="sk-0123456789abcdef\n", GATEWAY_CONFIG=str(config))
    assert (ran.code, ran.out) == (0, "") and key_of(config).hash == hash_of("sk-0123456789abcdef") and "sk-0123" not in ran.err


@pytest.mark.parametrize("verb", ["rotate", "disable"])
async def test_what_the_gateway_refuses_is_taken_back(desk, config, inside, verb):
    desk.refuse = "worker-0: no memory"
    before = keys_text(config)
    code, out, err = await inside("keys", verb, "ann")
    assert (code, out) == (1, "") and "no memory" in err and keys_text(config) == before


# -- disable, enable ----------------------------------------------------------------------------------------------------------


async def test_a_key_is_disabled_and_enabled(desk, config, inside):
    before = keys_text(config)
    code, out, err = await inside("keys", "disable", "ann", "--let-finish")
    assert (code, out) == (0, "") and "key ann is disabled in every worker" in err and not key_of(config).enabled
    assert desk.announced == [("keys disable ann --let-finish", ["ann"])] and not desk.live[1][0].enabled
    assert json.loads((await inside("keys", "-o", "json"))[1])[0]["state"] == "disabled"
    code, out, _ = await inside("keys", "enable", "ann", "-o", "json")
    assert code == 0 and json.loads(out) == {"id": "ann", "file": str(config.parent / "keys.yaml"), "enabled": True, "live": True}
    assert keys_text(config) == before
    assert (await inside("keys", "enable", "ann"))[0] == 0 and (await inside("keys", "enable", "bob"))[0] == 1


@pytest.mark.parametrize("verb", ["revoke", "disable", "rotate"])
async def test_a_key_in_a_file_that_cannot_be_read_is_not_called_absent(config, inside, verb):
    file = config.parent / "keys.yaml"
    file.write_text(file.read_text().replace("  - ", "\t- "))
    code, out, err = await inside("keys", verb, "ann", *(["--yes"] if verb == "revoke" else []))
    assert (code, out) == (78, "") and "a tab" in err and "keys.yaml:" in err and "there is no key" not in err
    assert "gatewayctl freeze --key ann" in err


@pytest.mark.parametrize(("verb", "told"), [("revoke", True), ("disable", True), ("enable", False)])
async def test_mistakes_elsewhere_keep_a_key_alive_and_what_stops_it_is_said(desk, config, inside, verb, told):
    config.write_text(config.read_text() + "nonsense: 1\n")
    desk.last_reload["ok"] = False
    before = keys_text(config)
    code, out, err = await inside("keys", verb, "ann", *(["--yes"] if verb == "revoke" else []))
    assert (code, out) == (78, "") and "nonsense" in err and keys_text(config) == before
    assert ("key ann is as good as before" in err and "gatewayctl freeze --key ann" in err) == told


@pytest.mark.parametrize("command", [("keys", "revoke", "ann", "--yes"), ("freeze", "--key", "ann")])
async def test_a_control_that_is_being_started_again_is_waited_for(config, inside, command, monkeypatch):
    """Workers serve meanwhile: to take that for no gateway would leave them with the key."""
    monkeypatch.setattr(client, "COMEBACK", 60.0)
    held = claim(config.parent / "data")
    ran = asyncio.create_task(inside(*command))
    await asyncio.sleep(0.3)
    assert not ran.done()
    desk = FakeDesk(config)
    server = await serve_admin(desk, config.parent / "data/admin.sock")
    code, _, err = await ran
    assert code == 0 and "not running" not in err and desk.calls
    await server.close()
    os.close(held)


@pytest.mark.parametrize("command", [("keys", "revoke", "ann", "--yes"), ("keys", "create", *WHO), ("freeze", "--key", "ann")])
async def test_a_control_that_stays_away_is_no_absent_gateway(config, inside, command, monkeypatch):
    monkeypatch.setattr(client, "COMEBACK", 0.1)
    before, held = keys_text(config), claim(config.parent / "data")
    code, out, err = await inside(*command)
    assert (code, out) == (UNREACHABLE, "") and "its control does not answer" in err and keys_text(config) == before
    os.close(held)


async def test_without_a_gateway_it_is_written_all_the_same(config, inside):
    for verb, enabled in (("disable", False), ("enable", True)):
        code, _, err = await inside("keys", verb, "ann")
        assert code == 0 and "not running" in err and key_of(config).enabled is enabled


# -- show, whoami -----------------------------------------------------------------------------------------------------------------


async def test_show_says_what_the_file_and_what_the_gateway_say(desk, config, inside):
    await desk.freeze("tenant", "retail", "", by="me")
    code, out, _ = await inside("keys", "show", "ann")
    assert code == 0 and "frozen: tenant retail" in out and "10.0.0.0/8" in out and "models now" in out and "0f" * 5 not in out
    found = json.loads((await inside("keys", "show", "ann", "-o", "json"))[1])
    assert (found["id"], found["state"], found["now"]["models"], found["now"]["frozen"]) == ("ann", "active", ["qwen"], ["tenant retail"])
    assert found["hash"] == "sha256:0f0f0f0f"
    code, out, err = await inside("keys", "show", "bob")
    assert (code, out) == (1, "") and "there is no key 'bob'" in err


async def test_show_without_a_gateway(config, inside):
    code, out, _ = await inside("keys", "show", "ann")
    assert code == 0 and re.search(r"^live +no$", out, re.M)
    assert json.loads((await inside("keys", "show", "ann", "-o", "json"))[1])["now"] is None


@pytest.mark.parametrize(
    ("secret", "code", "said"),
    [
        ("current", 0, "key bob of retail/chatbot: active"),
        ("old", 0, "with its old secret, good until"),
        ("dead", 6, "no key of these files has it"),
        ("mistyped", 6, "mistyped or cut off"),
        ("sk-somebody-elses-0123456789", 6, "no key of these files has it"),
        ("", 2, "there is no secret"),
    ],
)
@pytest.mark.parametrize("by", ["stdin", "environment"])
def test_whoami(config, secret, code, said, by):
    made = [ctl("keys", "create", *WHO, "--id", "bob", "-q", GATEWAY_CONFIG=str(config)).out.strip()]
    made += [ctl("keys", "rotate", "bob", "-q", GATEWAY_CONFIG=str(config)).out.strip() for _ in range(2)] if secret != "" else []
    named = {"current": made[-1], "old": made[-2:][0], "dead": made[0], "mistyped": made[-1][:-2], "": ""}
    given = named.get(secret, secret)
    stdin, env = (given + "\n", {}) if by == "stdin" else ("", {"OPENAI_API_KEY": given})
    ran = ctl("keys", "whoami", stdin=stdin, GATEWAY_CONFIG=str(config), **env)
    assert ran.code == code and said in ran.out + ran.err and (not given or given not in ran.out + ran.err)


def test_whoami_of_a_key_that_lets_nobody_in(config):
    id, secret, hashed = new_secret("bob")
    row = f'  - {{id: {id}, hash: "{hashed}", tenant: retail, project: chatbot, models: ["*"], enabled: false}}\n'
    (config.parent / "keys.yaml").write_text(keys_text(config) + row)
    ran = ctl("keys", "whoami", "-o", "json", stdin=secret, GATEWAY_CONFIG=str(config))
    assert ran.code == 6 and json.loads(ran.out)["state"] == "disabled" and "nobody gets in with this secret now" in ran.err
    (config.parent / "keys.yaml").write_text(keys_text(config).replace("enabled: false", "expires: 2026-01-01"))
    ran = ctl("keys", "whoami", stdin=secret, GATEWAY_CONFIG=str(config))
    assert ran.code == 6 and "expired" in ran.out


def test_lists_for_programs(config):
    ran = ctl("keys", "list", "--tenant", "retail", "-o", "csv", GATEWAY_CONFIG=str(config))
    assert [row["key"] for row in csv.DictReader(io.StringIO(ran.out))] == ["ann"]
    assert json.loads(ctl("keys", "list", "--tenant", "nobody", "-o", "json", GATEWAY_CONFIG=str(config)).out) == []


# -- at once -------------------------------------------------------------------------------------------------------------------------


async def test_commands_at_once_lose_nothing(desk, config):
    made = await asyncio.gather(
        *(actl("keys", "create", *WHO, "--id", f"k{n}", "-q", GATEWAY_CONFIG=str(config)) for n in range(4)),
        actl("keys", "create", "--tenant", "nobody", "--project", "chatbot", GATEWAY_CONFIG=str(config)),
        actl("tenants", "set", "retail", "priority=7", GATEWAY_CONFIG=str(config)),
    )
    assert [ran.code for ran in made] == [0, 0, 0, 0, 78, 0], [ran.err for ran in made]
    assert {key.id for key in desk.live[1]} == {"ann", "k0", "k1", "k2", "k3"} and load(config).config.tenants["retail"].priority == 7
    secrets = [hash_of(ran.out.strip()).removeprefix("sha256:") for ran in made[:4]]
    assert {key.digest.hex() for key in desk.live[1]} >= set(secrets)


async def test_rotations_at_once_come_one_after_the_other(desk, config):
    made = await asyncio.gather(*(actl("keys", "rotate", "ann", "-q", GATEWAY_CONFIG=str(config)) for _ in range(2)))
    key = key_of(config)
    assert {key.hash, key.previous.hash} == {hash_of(ran.out.strip()) for ran in made}


async def test_a_file_that_is_edited_by_hand_meanwhile_is_not_written_over(desk, config, inside, monkeypatch):
    """Before the command reads it: both are there. After it wrote: what it takes back leaves the other's change alone."""
    path = config.parent / "keys.yaml"
    reload = desk._reload

    async def edited() -> Any:
        path.write_text(path.read_text() + "  # by hand\n")
        return await reload()

    monkeypatch.setattr(desk, "_reload", edited)
    assert (await inside("keys", "create", *WHO, "--id", "bob"))[0] == 0
    assert "by hand" in path.read_text() and {key.id for key in load(config).config.keys} == {"ann", "bob"}
    desk.refuse = "no memory"
    code, out, err = await inside("keys", "create", *WHO, "--id", "eve")
    assert (code, out) == (1, "") and "no memory; and what was written could not be taken back" in err
    assert "keys.yaml has been changed since" in err and path.read_text().count("by hand") == 2


async def test_a_lock_that_is_never_let_go_holds_up_a_command_only_so_long(config, inside, monkeypatch):
    monkeypatch.setattr(live, "TURN", 0.1)
    with live.in_turn(config):
        assert (await inside("keys", "create", *WHO, "--id", "bob"))[0] == 0

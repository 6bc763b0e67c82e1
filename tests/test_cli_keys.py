"""`gatewayctl keys`: what happens to the file, when the command returns, and what is taken back."""

import contextlib
import json
import os
import pty
import re
import subprocess

import pytest

from gateway.admin.server import serve_admin
from gateway.config.keys import checksum_ok, hash_of
from gateway.config.load import load
from tests.fixtures.cli import GATEWAYCTL, actl, ctl, environment
from tests.fixtures.desk import FakeDesk, write_config

WHO = ["--tenant", "retail", "--project", "chatbot"]


def ids(config):
    return [key.id for key in load(config).config.keys]


def ids_as_written(config):
    return re.findall(r"id: (\w+)", (config.parent / "keys.yaml").read_text())


async def test_a_new_key_is_live_when_the_command_returns(desk, config):
    ran = await actl("keys", "create", *WHO, "--models", "qwen*", "--label", "Bob", "--id", "bob", GATEWAY_CONFIG=str(config))
    assert ran.code == 0
    secret = ran.out.strip()
    assert secret.startswith("gw_bob_") and checksum_ok(secret)
    assert "bob of retail/chatbot for qwen* is live" in ran.err and secret not in ran.err
    assert {key.id: key.digest.hex() for key in desk.live[1]}["bob"] == hash_of(secret).removeprefix("sha256:")
    text = (config.parent / "keys.yaml").read_text()
    assert "# Ann's notebook" in text and secret not in text


async def test_programs_get_the_whole_of_it(desk, inside):
    code, out, err = await inside("keys", "create", *WHO, "-o", "json", "-q")
    found = json.loads(out)
    assert (code, err, found["live"], found["models"]) == (0, "", True, ["*"])
    assert checksum_ok(found["secret"]) and found["id"] in found["secret"]


def test_without_a_gateway_it_becomes_live_later(config):
    ran = ctl("keys", "create", *WHO, "--id", "bob", GATEWAY_CONFIG=str(config))
    assert ran.code == 0 and checksum_ok(ran.out.strip()) and "when the gateway starts" in ran.err
    assert ids(config) == ["ann", "bob"]


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--tenant", "retial", "--project", "chatbot"], 78, "retial"),
        ([*WHO, "--id", "ann"], 78, "ann"),
        ([*WHO, "--id", "a b"], 2, "cannot be a key's id"),
        ([*WHO, "--models", "nothing-here"], 78, "nothing-here"),
        ([*WHO, "--expires", "2020-01-01"], 2, "that is over, so nobody would get in"),
        ([*WHO, "--expires", "0d"], 2, "that is over, so nobody would get in"),
        ([*WHO, "--import-secret", "sk-on-the-command-line"], 2, "stdin"),
    ],
)
async def test_what_does_not_fit_leaves_the_file_as_it_was(config, options, code, said, inside):
    before = (config.parent / "keys.yaml").read_text()
    got, out, err = await inside("keys", "create", *options)
    assert (got, out) == (code, "") and said in err
    assert (config.parent / "keys.yaml").read_text() == before


async def test_a_refused_key_is_taken_out_again(desk, config, inside):
    desk.refuse = "worker-0: no memory"
    code, out, err = await inside("keys", "create", *WHO)
    assert (code, out) == (1, "") and "no memory" in err
    assert ids(config) == ["ann"]


async def test_mistakes_elsewhere_are_said_before_anything_is_written(desk, config, inside):
    config.write_text(config.read_text() + "nonsense: 1\n")
    desk.last_reload["ok"] = False
    for command in (["create", *WHO], ["revoke", "ann", "--yes"]):
        code, out, err = await inside("keys", *command)
        assert (code, out) == (78, "") and "nonsense" in err
    assert "ann" in (config.parent / "keys.yaml").read_text() and desk.calls == []


@pytest.mark.parametrize("live", [True, False])
async def test_a_key_that_a_rule_names_already_is_made(config, inside, live):
    server = None
    if live:
        desk = FakeDesk(config)
        desk.last_reload["ok"] = False
        server = await serve_admin(desk, config.parent / "data/admin.sock")
    config.write_text(
        config.read_text().replace(
            "[{channel: gpu}]}", "[{channel: gpu}], rules: [{name: r, when: {key: [ann, bob]}, to: {channel: gpu}}]}"
        )
    )
    other = await inside("keys", "create", *WHO, "--id", "carl")
    assert other[0] == 78 and 'there is no key "bob"' in other[2] and ids_as_written(config) == ["ann"]
    assert "no key was made" in other[2]
    code, out, err = await inside("keys", "create", *WHO, "--id", "bob")
    if server is not None:
        await server.close()
    assert (code, ids(config)) == (0, ["ann", "bob"]), err
    assert checksum_ok(out.strip()) and ("is live" in err) == live


@pytest.mark.parametrize("live", [True, False])
async def test_what_is_wrong_with_a_new_key_is_said_without_the_line_that_is_gone(config, inside, live):
    server = await serve_admin(FakeDesk(config), config.parent / "data/admin.sock") if live else None
    before = (config.parent / "keys.yaml").read_text()
    code, out, err = await inside("keys", "create", "--tenant", "retial", "--project", "chatbot", "--models", "nope")
    if server is not None:
        await server.close()
    assert (code, out) == (78, "") and (config.parent / "keys.yaml").read_text() == before
    assert 'the key was not added: there is no tenant "retial"' in err and '"nope" matches nothing' in err
    assert 'did you mean "retail"?' in err and "keys.yaml:" not in err and " | " not in err


async def test_variables_that_only_the_service_has_are_no_mistake_here(config, inside):
    config.write_text(config.read_text().replace("sk-engine-secret-1", '"${env:ONLY_THE_SERVICE_HAS_IT}"'))
    assert (await inside("config", "check"))[0] == 78
    assert (await inside("keys"))[0] == 0
    assert (await inside("keys", "create", *WHO))[0] == 0


def test_an_existing_secret_is_imported_and_not_repeated(config):
    ran = ctl("keys", "create", *WHO, "--id", "old", "--import-secret", "-", stdin="sk-0123456789abcdef\n", GATEWAY_CONFIG=str(config))
    assert (ran.code, ran.out) == (0, "") and "sk-0123" not in ran.err
    assert next(key for key in load(config).config.keys if key.id == "old").hash == hash_of("sk-0123456789abcdef")
    for wrong in ("", "short", "has a space in it, so no"):
        assert ctl("keys", "create", *WHO, "--import-secret", "-", stdin=wrong, GATEWAY_CONFIG=str(config)).code == 2


async def test_list_shows_the_beginning_of_hashes_and_what_is_live(desk, config, inside):
    (config.parent / "keys.yaml").write_text((config.parent / "keys.yaml").read_text().replace("id: ann", "id: eve"))
    code, out, _ = await inside("keys")
    assert code == 0 and " 0f0f0f0f " in out and "0f" * 5 not in out
    assert [word for line in out.splitlines() if "eve" in line for word in line.split()][-2] == "no"
    found = json.loads((await inside("keys", "list", "-o", "json"))[1])
    assert found[0]["live"] is False and found[0]["hash"] == "sha256:0f0f0f0f"


async def test_list_of_a_tenant_that_is_none(config, inside):
    code, out, err = await inside("keys", "list", "--tenant", "retial")
    assert (code, out) == (0, "") and "there is no tenant 'retial'" in err
    assert json.loads((await inside("keys", "list", "--tenant", "retial", "-o", "json"))[1]) == []
    assert (await inside("keys", "list", "--tenant", "retail"))[0] == 0


async def test_list_without_a_gateway_or_without_keys(config, inside):
    assert json.loads((await inside("keys", "-o", "json"))[1])[0]["live"] is None
    (config.parent / "keys.yaml").write_text("keys: []\n")
    assert (await inside("keys", "-o", "json"))[1] == "[]\n"
    assert "gatewayctl keys create" in (await inside("keys"))[2]


async def test_a_revoked_key_is_gone_from_every_worker_when_the_command_returns(desk, config, inside):
    assert (await inside("keys", "revoke", "ann"))[0] == 2
    assert (await inside("keys", "revoke", "bob", "--yes"))[0] == 1
    assert ids(config) == ["ann"] and desk.calls == []
    code, _, err = await inside("keys", "revoke", "ann", "--yes")
    assert code == 0 and "revoked in every worker" in err
    assert ids(config) == [] and desk.live[1] == []


@pytest.mark.parametrize(("options", "spared"), [([], []), (["--let-finish"], ["ann"])])
async def test_a_revocation_is_announced_so_that_the_watcher_does_not_come_first(desk, config, inside, options, spared):
    assert (await inside("keys", "revoke", "ann", "--yes", *options))[0] == 0
    what = " ".join(["keys revoke ann", *options])
    assert desk.announced == [(what, spared)] and [call for call, _ in desk.calls] == [f"reload for {what}"]


async def test_what_is_done_but_not_in_the_audit_log_is_said_with_6(desk, config, inside):
    desk.unaudited = {"unaudited": "keys create is NOT IN THE AUDIT LOG: the disk is full"}
    code, out, err = await inside("keys", "create", *WHO, "--id", "bob")
    assert code == 6 and checksum_ok(out.strip()) and "NOT IN THE AUDIT LOG" in err and ids(config) == ["ann", "bob"]
    code, _, err = await inside("keys", "revoke", "bob", "--yes")
    assert code == 6 and "revoked in every worker" in err and "STILL VALID" not in err and ids(config) == ["ann"]
    code, _, err = await inside("reload")
    assert code == 6 and "NOT IN THE AUDIT LOG" in err


async def test_a_revocation_that_the_gateway_refuses_stays_in_the_file_and_is_said_loudly(desk, config, inside):
    desk.refuse = "worker-0: no memory"
    code, _, err = await inside("keys", "revoke", "ann", "--yes", "-q")
    assert code == 1 and "STILL VALID" in err
    assert ids(config) == []


@pytest.mark.parametrize("running", [True, False])
async def test_a_key_that_a_rule_names_is_not_revoked_and_the_files_stay_right(config, inside, running):
    rules = "[{name: hers, when: {key: ann}, to: {channel: gpu}}]"
    config.write_text(config.read_text().replace("qwen: {targets", f"qwen: {{rules: {rules}, targets"))
    before = (config.parent / "keys.yaml").read_text()
    async with contextlib.AsyncExitStack() as stack:
        if running:
            stack.push_async_callback((await serve_admin(FakeDesk(config), config.parent / "data/admin.sock")).close)
        code, out, err = await inside("keys", "revoke", "ann", "--yes")
    assert (code, out) == (78, "") and "key ann is not revoked" in err and "gatewayctl freeze --key ann" in err and ".when.key" in err
    assert "STILL VALID" not in err and "as good as" not in err
    assert (config.parent / "keys.yaml").read_text() == before and (await inside("config", "check"))[0] == 0


async def test_another_gateways_socket_is_not_told_about_these_files(desk, config, tmp_path, inside):
    (tmp_path / "other").mkdir()
    other = write_config(tmp_path / "other")
    code, _, err = await inside("keys", "create", *WHO, "--config", str(other), "--socket", str(tmp_path / "data/admin.sock"))
    assert code == 2 and f"--config {config}" in err and ids(other) == ["ann"]


def test_on_a_terminal_it_asks(config):
    """A real terminal: `n` leaves the key, `y` takes it out."""
    for answer, code, left in ((b"n\n", 130, ["ann"]), (b"y\n", 0, [])):
        ours, theirs = pty.openpty()
        env = environment(GATEWAY_CONFIG=str(config))
        with subprocess.Popen([*GATEWAYCTL, "keys", "revoke", "ann"], stdin=theirs, stdout=theirs, stderr=theirs, env=env) as child:
            os.close(theirs)
            said = b""
            while b"[y/N]" not in said:
                said += os.read(ours, 1000)
            os.write(ours, answer)
            assert child.wait(20) == code
        os.close(ours)
        assert ids(config) == left


async def test_an_included_keys_file_that_is_not_there_yet_is_made(config, inside):
    (config.parent / "keys.yaml").unlink()
    code, out, _ = await inside("keys", "create", *WHO, "--id", "first", "-o", "json")
    assert code == 0 and json.loads(out)["id"] == "first"
    assert ids(config) == ["first"]
    (config.parent / "keys.yaml").unlink()
    config.write_text(config.read_text() + "\nnonsense: 1\n")
    code, _, _ = await inside("keys", "create", *WHO)
    assert code == 78 and not (config.parent / "keys.yaml").exists(), "nothing is left behind when the configuration is wrong anyway"

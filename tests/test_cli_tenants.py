"""`gatewayctl tenants`: what happens to the file, when the command returns, and what is taken back."""

import csv
import io
import json

import pytest

from gateway.admin.server import serve_admin
from gateway.config.load import load
from gatewayctl.words import plural
from tests.fixtures.desk import FakeDesk, write_config

TENANTS = """\
# who uses it
tenants:
  retail:          # the shops
    priority: 3    # not too urgent
    projects:
      # the bot
      chatbot: {apis: [chat]}
      shop.v2: {}
  a.b: {projects: {c: {}, c.d: {priority: 1}}, limits: [{count: requests, max: 600, per: minute}]}
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    path = write_config(tmp_path)
    path.write_text(path.read_text().replace("tenants:\n  retail: {projects: {chatbot: {}}}\n", TENANTS))
    monkeypatch.setenv("GATEWAY_CONFIG", str(path))
    return path


@pytest.fixture
async def desk(config):
    desk = FakeDesk(config)
    server = await serve_admin(desk, config.parent / "data/admin.sock")
    yield desk
    await server.close()


def tenants(config):
    return load(config).config.tenants


async def test_list_and_show_with_a_gateway(desk, config, inside):
    await desk.freeze("tenant", "retail", "", by="me")
    await desk.freeze("project", "a.b/c.d", "", by="me")
    code, out, _ = await inside("tenants")
    assert code == 0 and [line.split()[0] for line in out.splitlines()] == ["TENANT", "retail", "a.b"]
    found = json.loads((await inside("tenants", "list", "-o", "json"))[1])
    assert [(one["name"], one["keys"], one["frozen"]) for one in found] == [("retail", 1, True), ("a.b", 0, False)]
    assert [(one["name"], one["frozen"]) for one in found[1]["projects"]] == [("c", False), ("c.d", True)]
    rows = list(csv.DictReader(io.StringIO((await inside("tenants", "list", "-o", "csv"))[1])))
    assert [row["tenant"] for row in rows] == ["retail", "a.b"]
    code, out, _ = await inside("tenants", "show", "retail")
    assert code == 0 and "tenant retail: frozen" in out and "project chatbot (1 key)" in out and "1 key: ann" in out
    found = json.loads((await inside("tenants", "show", "a.b", "-o", "json"))[1])
    assert found["settings"]["limits"] == [{"count": "requests", "max": 600, "per": "minute"}] and found["keys"] == []


async def test_list_and_show_without_a_gateway(config, inside):
    assert json.loads((await inside("tenants", "list", "-o", "json"))[1])[0]["frozen"] is None
    code, out, err = await inside("tenants", "show", "a.b")
    assert (code, err) == (0, "") and "limits: [{count: requests, max: 600, per: minute}]" in out and "0 keys" in out
    code, out, err = await inside("tenants", "show", "retial")
    assert (code, out) == (1, "") and 'did you mean "retail"?' in err


@pytest.mark.parametrize("live", [True, False])
async def test_create(config, inside, live):
    server = await serve_admin(desk := FakeDesk(config), config.parent / "data/admin.sock") if live else None
    code, out, err = await inside("tenants", "create", "bank", "--project", "x", "--project", "y.z")
    assert (code, out) == (0, "") and ("live in every worker" if live else "not running") in err
    code, out, _ = await inside("tenants", "create", "retail", "--project", "search", "-o", "json")
    assert code == 0 and json.loads(out) == {"name": "retail", "projects": ["search"], "file": str(config), "live": live}
    assert (await inside("tenants", "create", "empty"))[0] == 0
    found = tenants(config)
    assert list(found["bank"].projects) == ["x", "y.z"] and list(found["retail"].projects) == ["chatbot", "shop.v2", "search"]
    assert not found["empty"].projects and all(comment in config.read_text() for comment in ("# who", "# the shops", "# not", "# the bot"))
    if server is not None:
        assert [what for what, _ in desk.announced][:2] == [
            "tenants create bank --project x --project y.z",
            "tenants create retail --project search",
        ]
        assert len(desk.live[0].access) == len(FakeDesk(config).live[0].access)
        await server.close()


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["create", "retail"], 1, "there is a tenant 'retail' already"),
        (["create", "retail", "--project", "new", "--project", "chatbot"], 1, "with a project 'chatbot'"),
        (["create", "bad/name"], 78, "is not a name"),
        (["create", "bank", "--project", "a b"], 78, "is not a name"),
        (["set", "retail"], 2, "Missing"),
        (["set", "retail", "priority"], 2, "is not WORD=VALUE"),
        (["set", "retail", "priority=1", "priority=2"], 2, "set twice"),
        (["set", "retail", "priority=10"], 78, "too large"),
        (["set", "retail", "models={deny: [qwen"], 2, "is no YAML"),
        (["set", "retail", "models={deny: [qwem]}"], 78, '"qwem" matches nothing'),
        (["set", "retail", "models={deny: ['*']}"], 78, "no model at all"),
        (["set", "retail", "ip.allow=[10.0.0.1/8]"], 78, "is not a network"),
        (["set", "retail", "colour=red"], 78, 'unknown word "colour"'),
        (["set", "retail", "projects="], 78, "no project"),
        (["set", "retail", "projects.chatbot="], 78, "no project"),
        (["set", "retail", "projects.chatbto.priority=2"], 1, 'did you mean "chatbot"?'),
        (["set", "retail", "priority=2", "projects.new.ip={deny: [10.0.0.0/8]}"], 1, "tenants create retail --project new"),
        (["set", "retail", "priority.x=1"], 78, "there is no place for x"),
        (["set", "retail", "hours=[{during: office, priority: 1}]"], 78, "no schedule"),
        (["set", "retial", "priority=1"], 1, 'did you mean "retail"?'),
    ],
)
@pytest.mark.parametrize("live", [True, False])
async def test_what_does_not_fit_changes_nothing(config, inside, options, code, said, live):
    server = await serve_admin(FakeDesk(config), config.parent / "data/admin.sock") if live else None
    before = config.read_text()
    got, out, err = await inside("tenants", *options)
    assert (got, out) == (code, "") and said in err and config.read_text() == before, err
    if server is not None:
        await server.close()


async def test_what_the_gateway_refuses_is_taken_back(desk, config, inside):
    desk.refuse, before = "worker-0: no memory", config.read_text()
    for command in (["create", "bank"], ["set", "retail", "priority=1", "projects.chatbot.priority=2"]):
        code, out, err = await inside("tenants", *command)
        assert (code, out) == (1, "") and "no memory" in err and config.read_text() == before


@pytest.mark.parametrize(
    ("settings", "lines"),
    [
        (["priority=7"], ["    priority: 7    # not too urgent"]),
        (["priority="], []),
        (["models=[qwen]"], ["    models: [qwen]"]),
        (["projects.chatbot.apis=[chat, embeddings]"], ["      chatbot: {apis: [chat, embeddings]}"]),
        (["projects.chatbot.apis="], ["      chatbot: {}"]),
        (["projects.shop.v2.priority=2"], ["      shop.v2: {priority: 2}"]),
        (["ip.allow=[10.0.0.0/8]", "ip.deny=[10.9.0.0/16]"], ["      allow: [10.0.0.0/8]", "      deny: [10.9.0.0/16]"]),
        (["limits=[{count: requests, max: 5, per: day}]"], ["    limits: [{count: requests, max: 5, per: day}]"]),
        (['models={allow: ["*"], deny: []}'], ['    models: {allow: ["*"], deny: []}']),
    ],
)
async def test_set_in_a_file_in_block_style(config, inside, settings, lines):
    before = config.read_text().splitlines()
    code, _, err = await inside("tenants", "set", "retail", *settings)
    assert code == 0 and "tenant retail is changed" in err, err
    after = config.read_text().splitlines()
    assert all(line in after for line in lines)
    gone = [line for line in before if line not in after]
    assert len(gone) <= 1 and {line for line in after if line not in before} - set(lines) <= {"    ip:"}


@pytest.mark.parametrize(
    ("settings", "after"),
    [
        (["priority=7"], "{projects: {c: {}, c.d: {priority: 1}}, limits: [{count: requests, max: 600, per: minute}], priority: 7}"),
        (["limits="], "{projects: {c: {}, c.d: {priority: 1}}}"),
        (["projects.c.d.priority="], "{projects: {c: {}, c.d: {}}, limits: [{count: requests, max: 600, per: minute}]}"),
        (["projects.c.priority=9", "limits="], "{projects: {c: {priority: 9}, c.d: {priority: 1}}}"),
        (["ip.deny=[10.0.0.0/8]", "limits="], "{projects: {c: {}, c.d: {priority: 1}}, ip: {deny: [10.0.0.0/8]}}"),
    ],
)
async def test_set_in_a_tenant_with_dots_in_flow_style(config, inside, settings, after):
    code, _, err = await inside("tenants", "set", "a.b", *settings)
    assert code == 0, err
    assert f"  a.b: {after}\n" in config.read_text()


async def test_what_is_so_already_is_said(desk, config, inside):
    before = config.read_text()
    for setting in ("priority=3", "models="):
        code, _, err = await inside("tenants", "set", "retail", setting)
        assert code == 0 and "is as it was" in err and config.read_text() == before


async def test_tenants_in_a_file_of_their_own(config, inside):
    (config.parent / "tenants.yaml").write_text(TENANTS)
    config.write_text(config.read_text().replace(TENANTS, "").replace("[keys.yaml]", "[keys.yaml, tenants.yaml]"))
    assert (await inside("tenants", "set", "retail", "priority=8"))[0] == 0
    assert (await inside("tenants", "create", "bank", "--project", "x"))[0] == 0
    assert "priority: 8" in (config.parent / "tenants.yaml").read_text() and "bank" in (config.parent / "tenants.yaml").read_text()
    assert "tenants" not in config.read_text().replace("tenants.yaml", "") and plural(len(tenants(config)), "tenant") == "3 tenants"


async def test_the_first_tenant_before_there_is_any_key(config, inside):
    """What `gatewayctl init` leaves may include a keys.yaml that is not there yet."""
    config.write_text(config.read_text().replace(TENANTS, ""))
    (config.parent / "keys.yaml").unlink()
    code, _, err = await inside("tenants", "create", "bank", "--project", "x")
    assert code == 0, err
    assert (await inside("keys", "create", "--tenant", "bank", "--project", "x", "--id", "one"))[0] == 0
    assert [key.id for key in load(config).config.keys] == ["one"]


async def test_a_group_goes_with_its_last_word(config, inside):
    before = config.read_text()
    for words in (
        ["ip.allow=[10.0.0.0/8]"],
        ["ip.allow=[10.0.0.0/8]", "ip.deny=[10.1.0.0/16]"],
        ["projects.chatbot.ip.allow=[10.0.0.0/8]", "ip.deny=[10.1.0.0/16]"],
    ):
        assert (await inside("tenants", "set", "retail", *words))[0] == 0, words
        code, _, err = await inside("tenants", "set", "retail", *(word.partition("=")[0] + "=" for word in words))
        assert code == 0, err
        assert config.read_text() == before, words
    assert (await inside("tenants", "set", "retail", "ip={allow: [10.0.0.0/8], deny: [10.1.0.0/16]}"))[0] == 0
    assert (await inside("tenants", "set", "retail", "ip.allow="))[0] == 0
    assert tenants(config)["retail"].ip.deny == ["10.1.0.0/16"]
    assert (await inside("tenants", "set", "retail", "projects.chatbot.priority="))[0] == 0
    assert "chatbot" in tenants(config)["retail"].projects, "a project that says nothing is one"

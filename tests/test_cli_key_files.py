"""`gatewayctl keys import | export`: every form, all or nothing, there and back again."""

import csv
import io
import json
from typing import Any

import pytest

from gateway.admin.server import serve_admin
from gateway.config.keys import hash_of
from gateway.config.load import load
from tests.fixtures.cli import ctl
from tests.fixtures.desk import KEYS, FakeDesk, write_config

SECRETS = [f"sk-{n}-0123456789abcdef" for n in range(4)]
WHO = "tenant: retail, project: chatbot"
ROWS: list[Any] = [
    {"id": "a", "secret": SECRETS[0], "tenant": "retail", "project": "chatbot", "models": ["qwen"], "label": "Ann's, \"the\" one"},
    {"id": "b", "hash": hash_of(SECRETS[1]), "tenant": "retail", "project": "chatbot", "models": {"allow": ["*"], "deny": ["qwen-x"]}},
    {
        "id": "c.d", "secret": SECRETS[2], "tenant": "retail", "project": "chatbot", "models": ["qwen*", "qwen-x"], "apis": ["chat"],
        "ip": {"allow": ["10.0.0.0/8"]}, "expires": "2030-01-01", "priority": 7,
        "systems": ["crm", "erp-*"], "meta": {"owner": "7", "x": "y"},
        "limits": [{"count": "requests", "max": 5, "per": "minute"}], "enabled": False, "label": "ü ${env:HOME} \u2028 #",
    },
    {"secret": SECRETS[3], "tenant": "retail", "project": "chatbot", "label": "+49 30 1234"},
]  # fmt: skip


@pytest.fixture
def config(tmp_path, monkeypatch):
    path = write_config(tmp_path)
    path.write_text(path.read_text().replace("models:\n", "models:\n  qwen-x: {targets: [{channel: gpu}]}\n"))
    monkeypatch.setenv("GATEWAY_CONFIG", str(path))
    return path


@pytest.fixture
async def desk(config):
    desk = FakeDesk(config)
    server = await serve_admin(desk, config.parent / "data/admin.sock")
    yield desk
    await server.close()


def as_yaml(rows):
    return "keys:\n" + "".join(f"  - {json.dumps(row)}\n" for row in rows)


def as_block(rows):
    return "# of the old gateway\n" + "".join(
        "- " + "\n  ".join(f"{word}: {json.dumps(value)}" for word, value in row.items()) + "\n" for row in rows
    )


def as_csv(rows):
    words = list(dict.fromkeys(word for row in rows for word in row))
    out = io.StringIO()
    table = csv.DictWriter(out, words)
    table.writeheader()
    for row in rows:
        table.writerow({word: _cell(word, value) for word, value in row.items()})
    return "\ufeff" + out.getvalue()


def _cell(word, value):
    if word == "models" and isinstance(value, dict):
        return json.dumps(value)
    if isinstance(value, list) and word != "limits":
        return " ".join(value)
    return json.dumps(value) if isinstance(value, list | dict | bool) else value


FORMS = {
    "yaml": as_yaml,
    "yaml block": as_block,
    "json": lambda rows: json.dumps(rows),
    "json of keys": lambda rows: json.dumps({"keys": rows}, indent=1, ensure_ascii=False),
    "ndjson": lambda rows: "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n\n",
    "csv": as_csv,
}


@pytest.mark.parametrize("form", FORMS)
async def test_each_form_says_the_same(desk, config, inside, form, tmp_path):
    (tmp_path / "old").write_bytes(FORMS[form](ROWS).encode())
    code, out, err = await inside("keys", "import", str(tmp_path / "old"))
    assert (code, out) == (0, ""), err
    assert "4 keys imported" in err and "live in every worker" in err and not any(secret in err for secret in SECRETS)
    keys = {str(key.hash): key for key in load(config).config.keys}
    a, b, c, d = (keys[hash_of(secret)] for secret in SECRETS)
    assert (a.id, a.label, b.id, b.models.deny, c.id, len(d.id), d.models.allow) == (
        "a",
        ROWS[0]["label"],
        "b",
        ["qwen-x"],
        "c.d",
        8,
        ["*"],
    )
    assert (c.models.allow, c.apis, c.ip and c.ip.allow) == (["qwen*", "qwen-x"], ["chat"], ["10.0.0.0/8"])
    assert (c.expires, c.priority, c.systems, c.meta) == ("2030-01-01", 7, ["crm", "erp-*"], {"owner": "7", "x": "y"})
    assert (str(c.limits[0].count), int(c.limits[0].max), c.limits[0].per) == ("requests", 5, "minute")
    assert (c.enabled, c.label) == (False, ROWS[2]["label"])
    text = (config.parent / "keys.yaml").read_text()
    assert "# Ann's notebook" in text and not any(secret in text for secret in SECRETS)
    assert len(desk.live[1]) == 5 and desk.announced == [("keys import of 4", [])]


def test_from_stdin_with_what_the_rows_do_not_say(config):
    for rows in ("secret\n" + "\n".join(SECRETS) + "\n", '"hash"\r\n' + "\r\n".join(map(hash_of, SECRETS)) + "\r\n"):
        ran = ctl("keys", "import", "-", stdin=rows, GATEWAY_CONFIG=str(config))
        assert ran.code == 78 and "key number 1 names no tenant" in ran.err
        ran = ctl("keys", "import", "--dry-run", "-", "--tenant", "retail", "--project", "chatbot", stdin=rows, GATEWAY_CONFIG=str(config))
        assert ran.code == 0 and "4 keys could be imported" in ran.err, ran.err
    ran = ctl("keys", "import", "-", stdin="\n".join(SECRETS), GATEWAY_CONFIG=str(config))
    assert ran.code == 78 and "CSV begins with a line of words" in ran.err
    rows = "secret,label\n" + "".join(f"{secret},x\n" for secret in SECRETS)
    ran = ctl("keys", "import", "-", "--tenant", "retail", stdin=rows, GATEWAY_CONFIG=str(config))
    assert ran.code == 78 and "key number 1 names no project" in ran.err
    ran = ctl("keys", "import", "-", "--tenant", "retail", "--project", "chatbot", "-o", "json", stdin=rows, GATEWAY_CONFIG=str(config))
    assert ran.code == 0 and "not running" in ran.err
    assert [(one["tenant"], one["project"]) for one in json.loads(ran.out)] == [("retail", "chatbot")] * 4


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("", 78, "no list of keys"),
        ("[]", 2, "there are no keys in"),
        ("keys: []\n", 2, "there are no keys in"),
        ("a: 1\n", 78, "no list of keys"),
        ("[1]", 78, "key number 1 is no group"),
        ("{", 78, "is no JSON"),
        ('{"id": 1}\n{"id"\n', 78, "is no JSON"),
        ("- {id: a\n", 78, "ends inside this {"),
        ("\u00ff", 78, "not UTF-8"),
        (f"- {{id: a, {WHO}}}\n", 78, "key number 1 has neither hash nor secret"),
        (f"- {{id: a, secret: short, {WHO}}}\n", 78, "the secret of key number 1 is none"),
        (f"- {{id: a, secret: 'has a space in it, so', {WHO}}}\n", 78, "the secret of key number 1 is none"),
        (f"- {{id: a, secret: 12345678901234567890, {WHO}}}\n", 78, "the secret of key number 1 is none"),
        (f"- {{id: a, hash: 'md5:1', {WHO}}}\n", 78, "sha256"),
        (f"- {{id: ann, secret: {SECRETS[0]}, {WHO}}}\n", 78, 'there is a key "ann" already'),
        (f"- {{id: a, secret: {SECRETS[0]}, {WHO}}}\n- {{id: a, secret: {SECRETS[1]}, {WHO}}}\n", 78, '"a"'),
        (f"- {{id: a, secret: {SECRETS[0]}, {WHO}}}\n- {{id: b, secret: {SECRETS[0]}, {WHO}}}\n", 78, "have the same hash"),
        (f"- {{id: a, hash: 'sha256:{'0f' * 32}', {WHO}}}\n", 78, "have the same hash"),
        (f"- {{id: a, secret: {SECRETS[0]}, {WHO}, colour: red}}\n", 78, 'unknown word "colour"'),
        (f"- {{id: a, secret: {SECRETS[0]}, {WHO}, models: [nope]}}\n", 78, '"nope" matches nothing'),
        (f"- {{id: a, secret: {SECRETS[0]}, tenant: nobody, project: chatbot}}\n", 78, 'no tenant "nobody"'),
        (json.dumps([{"id": "a", "secret": SECRETS[0], "tenant": "retail", "project": "chatbot", "ip": {"allow": None}}]), 78, "keys"),
        (json.dumps([{"id": "a", "secret": SECRETS[0], "tenant": "retail", "project": "chatbot", "priority": float("inf")}]), 78, "number"),
        (json.dumps([{"id": "a", "secret": SECRETS[0], "tenant": "retail", "project": "chatbot", "label": "\ud800"}]), 78, "U+D800"),
        ("[" * 100_000, 78, "nested too deep"),
        (
            f"- {{id: a, secret: {SECRETS[0]}, hash: 'sha256:{'0e' * 32}', {WHO}}}\n",
            78,
            "the hash of key number 1 is that of another secret",
        ),
        (f"id,secret,tenant,project\na,{SECRETS[0]},retail,chatbot,x\n", 78, "line 2 has more columns"),
        (f"id,secret,tenant,project,label\na,{SECRETS[0]},retail,chatbot,{'x' * 200_000}\n", 78, "line 2 is no line of a table"),
        (f"id,secret,tenant,project,priority\na,{SECRETS[0]},retail,chatbot,\u00b2\n", 78, "number"),
        (f"id,secret,tenant,project,priority\na,{SECRETS[0]},retail,chatbot,{'9' * 5000}\n", 78, "number"),
        (f"id,secret,tenant,project,ip\na,{SECRETS[0]},retail,chatbot,10.0.0.0/8\n", 78, "column ip holds JSON"),
        (f"id,secret,tenant,project,priority\na,{SECRETS[0]},retail,chatbot,high\n", 78, "number"),
        (f"id,secret,tenant,project,enabled\na,{SECRETS[0]},retail,chatbot,maybe\n", 78, "true"),
    ],
)
async def test_bad_rows_and_nothing_is_imported(desk, config, inside, text, code, said, tmp_path):
    (tmp_path / "old").write_bytes(text.encode("latin-1") if text == "\u00ff" else text.encode())
    got, out, err = await inside("keys", "import", str(tmp_path / "old"))
    assert (got, out) == (code, "") and said in err, err
    assert (config.parent / "keys.yaml").read_text() == KEYS and desk.live[1][0].id == "ann" and not any(one in err for one in SECRETS)


@pytest.mark.parametrize("between", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
async def test_tables_are_read_as_spreadsheets_of_all_countries_write_them(desk, config, inside, between, tmp_path):
    rows = [["id", "secret", "tenant", "project", "models"], ["a", SECRETS[0], "retail", "chatbot", "qwen qwen-x"]]
    rows.append(["b", SECRETS[1], "retail", "chatbot", '"qwen;qwen-x"'])  # as `keys list -o csv` joins a list
    (tmp_path / "old.csv").write_text("\ufeff" + "".join(f"{between.join(row)}\r\n" for row in rows))
    assert (await inside("keys", "import", str(tmp_path / "old.csv")))[0] == 0
    keys = {key.id: key.models.allow for key in load(config).config.keys}
    assert keys["a"] == keys["b"] == ["qwen", "qwen-x"]


def test_what_comes_from_stdin_is_called_so(config):
    ran = ctl("keys", "import", "-", stdin="a: 1\n", GATEWAY_CONFIG=str(config))
    assert ran.code == 78 and "stdin is no list of keys" in ran.err
    ran = ctl("keys", "import", "-", stdin="[]", GATEWAY_CONFIG=str(config))
    assert ran.code == 2 and "there are no keys in stdin" in ran.err


@pytest.mark.parametrize("command", ["keys import", "prices import"])
def test_a_file_without_an_end_is_not_read_to_its_end(config, command):
    ran = ctl(*command.split(), "/dev/zero", GATEWAY_CONFIG=str(config))
    assert ran.code == 1 and "/dev/zero is larger than" in ran.err


def test_a_file_that_is_not_there(config):
    ran = ctl("keys", "import", "nothing-here.csv", GATEWAY_CONFIG=str(config))
    assert ran.code == 1 and "nothing-here.csv cannot be read: No such file" in ran.err


async def test_a_dry_run_checks_and_changes_nothing(desk, config, inside, tmp_path):
    (tmp_path / "old").write_text(as_yaml(ROWS))
    code, out, err = await inside("keys", "import", "--dry-run", str(tmp_path / "old"))
    assert (code, out) == (0, "") and "4 keys could be imported; nothing was changed" in err
    (tmp_path / "old").write_text(
        as_yaml([*ROWS, {"id": "ann", "secret": "sk-another-0123456789", "tenant": "retail", "project": "chatbot"}])
    )
    code, _, err = await inside("keys", "import", "--dry-run", str(tmp_path / "old"))
    assert code == 78 and '"ann"' in err
    assert (config.parent / "keys.yaml").read_text() == KEYS and desk.calls == []


@pytest.mark.parametrize("there", [True, False], ids=["keys.yaml", "no keys.yaml yet"])
async def test_a_dry_run_writes_nothing_anywhere(config, inside, there, tmp_path_factory, monkeypatch):
    """It is for who may only read the configuration, too."""
    old = tmp_path_factory.mktemp("old") / "old"
    old.write_text(as_yaml(ROWS))
    if not there:
        (config.parent / "keys.yaml").unlink()
    (config.parent / "keys.yaml.lock").unlink(missing_ok=True)
    before = sorted(config.parent.rglob("*"))
    monkeypatch.setattr("gateway.config.files.write", lambda *_: pytest.fail("it wrote"))
    code, out, err = await inside("keys", "import", "--dry-run", str(old))
    assert (code, out) == (0, "") and "4 keys could be imported; nothing was changed" in err
    old.write_text(as_yaml([*ROWS, {"id": "new", "secret": "sk-another-0123456789", "tenant": "none", "project": "chatbot"}]))
    code, _, err = await inside("keys", "import", "--dry-run", str(old))
    assert code == 78 and 'no tenant "none"' in err and "keys.yaml:" in err and sorted(config.parent.rglob("*")) == before


@pytest.mark.parametrize("form", ["table", "yaml", "json", "csv"])
def test_what_is_exported_can_be_imported_again(config, form, tmp_path):
    odd = {"id": "1e3", "secret": "sk-odd-0123456789abcdef", "tenant": "retail", "project": "chatbot", "label": "2e10"}
    (tmp_path / "old").write_text(as_yaml([*ROWS, odd]))
    assert ctl("keys", "import", tmp_path / "old", GATEWAY_CONFIG=str(config)).code == 0
    before = [key.model_dump() for key in load(config).config.keys]
    ran = ctl("keys", "export", *([] if form == "table" else ["-o", form]), GATEWAY_CONFIG=str(config))
    assert ran.code == 0 and ran.err == ""
    (config.parent / "keys.yaml").write_text("keys: []\n")
    (tmp_path / "new").write_text(ran.out)
    again = ctl("keys", "import", tmp_path / "new", GATEWAY_CONFIG=str(config))
    assert again.code == 0, again.err
    assert [key.model_dump() for key in load(config).config.keys] == before


def test_export_of_one_tenant_and_of_nobody(config):
    assert ctl("keys", "export", "--tenant", "retail", GATEWAY_CONFIG=str(config)).out.startswith("keys:\n  - {id: ann")
    assert ctl("keys", "export", "--tenant", "nobody", GATEWAY_CONFIG=str(config)).out == "keys: []\n"
    assert ctl("keys", "export", "--tenant", "nobody", "-o", "csv", GATEWAY_CONFIG=str(config)).code == 0


@pytest.mark.hard
def test_ten_thousand_rows(config, tmp_path):
    rows = "".join(f"k{n},{hash_of(str(n))},retail,chatbot,qwen\n" for n in range(10_000))
    (tmp_path / "old.csv").write_text("id,hash,tenant,project,models\n" + rows)
    ran = ctl("keys", "import", tmp_path / "old.csv", GATEWAY_CONFIG=str(config))
    assert ran.code == 0, ran.err
    assert len(load(config).config.keys) == 10_001
    (tmp_path / "more.csv").write_text("id,hash,tenant,project,models\n" + rows.replace("k9999,", "k10000,"))
    ran = ctl("keys", "import", tmp_path / "more.csv", GATEWAY_CONFIG=str(config))
    assert ran.code == 78 and 'there is a key "k0" already' in ran.err and len(load(config).config.keys) == 10_001


def test_a_file_that_would_become_too_large_for_anybody(config, tmp_path):
    rows = "".join(f"k{n},{hash_of(str(n))},retail,chatbot,{'x' * 200}\n" for n in range(25_000))
    (tmp_path / "old.csv").write_text("id,hash,tenant,project,label\n" + rows)
    ran = ctl("keys", "import", tmp_path / "old.csv", GATEWAY_CONFIG=str(config))
    assert ran.code == 78 and "larger than 8 MiB" in ran.err and "begin another file, and name it before this one in `include`" in ran.err
    assert (config.parent / "keys.yaml").read_text() == KEYS


def test_a_key_file_of_10_mb_is_refused_with_what_to_do(config):
    row = f'  - {{id: k, hash: "sha256:{"1f" * 32}", tenant: retail, project: chatbot, models: ["*"]}}\n'
    (config.parent / "keys.yaml").write_text("keys:\n" + row * (10_000_000 // len(row)))
    for command in (["config", "check"], ["keys"], ["keys", "create", "--tenant", "retail", "--project", "chatbot"]):
        ran = ctl(*command, GATEWAY_CONFIG=str(config))
        assert ran.code == 78 and "8 MiB" in ran.err and "keys.yaml" in ran.err, ran.err


async def test_another_file_takes_the_keys_that_a_full_one_cannot(config, inside):
    row = f'  - {{id: k, hash: "sha256:{"1f" * 32}", tenant: retail, project: chatbot, models: ["*"]}}\n'
    lines, rest = divmod(8 * 2**20 - len(row) - 100, 4000)
    (config.parent / "keys.yaml").write_text("keys:\n" + row + ("  # " + "x" * 3995 + "\n") * lines + "  # " + "x" * rest + "\n")
    code, _, err = await inside("keys", "create", "--tenant", "retail", "--project", "chatbot")
    assert code == 78 and "larger than 8 MiB" in err and "begin another file" in err
    config.write_text(config.read_text().replace("[keys.yaml]", "[keys-2.yaml, keys.yaml]"))
    (config.parent / "keys-2.yaml").write_text("keys: []\n")
    assert (await inside("keys", "create", "--tenant", "retail", "--project", "chatbot", "--id", "new"))[0] == 0
    assert "id: new" in (config.parent / "keys-2.yaml").read_text()

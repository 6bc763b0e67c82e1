"""`gatewayctl config` on files alone, without a running gateway."""

import json

import pytest
import yaml

from gatewayctl import app
from tests.fixtures.cli import ctl
from tests.fixtures.desk import write_config


@pytest.fixture
def config(tmp_path):
    return write_config(tmp_path)


@pytest.fixture
def inside(capsys, config, monkeypatch):
    monkeypatch.setenv("GATEWAY_CONFIG", str(config))

    def run(*args):
        return app.run([str(arg) for arg in args]), *capsys.readouterr()

    return run


def test_check_counts_what_is_right(config, inside):
    code, out, err = inside("config", "check")
    assert (code, out, err) == (0, f"{config} is right: 1 listener, 1 channel, 1 model, 1 tenant, 1 key\n", "")
    found = json.loads(inside("config", "check", "-o", "json")[1])
    assert found["ok"] and found["keys"] == 1 and found["mistakes"] == [] and len(found["files"]) == 2


def test_check_says_every_mistake_on_stderr_and_exits_with_78(config, tmp_path):
    config.write_text(config.read_text().replace("targets:", "tragets:").replace("serves: api", "serves: soup"))
    ran = ctl("config", "check", config)
    assert ran.code == 78 and ran.out == ""
    assert "tragets" in ran.err and "soup" in ran.err and f"{config}:" in ran.err and "\x1b" not in ran.err


def test_check_gives_programs_the_mistakes_on_stdout(config, inside):
    config.write_text("version: 1\nmodles: {}\n")
    code, out, err = inside("config", "check", "-o", "json")
    found = json.loads(out)
    assert (code, err, found["ok"]) == (78, "", False)
    assert found["mistakes"][0]["file"] == str(config) and found["mistakes"][0]["line"] == 2
    code, out, _ = inside("config", "check", "-o", "csv")
    assert code == 78 and out.startswith("file,line,column")


def test_a_file_that_is_not_there_is_a_bad_configuration(tmp_path, inside):
    code, _, err = inside("config", "check", tmp_path / "none.yaml")
    assert code == 78 and "none.yaml" in err


def test_show_covers_secrets_as_written_and_with_defaults(inside):
    _, out, _ = inside("config", "show")
    assert "# Ann's notebook" in out and "sk-engine" not in out and "0f0f0f" not in out and "hush" not in out
    _, out, _ = inside("config", "show", "--effective")
    found = yaml.safe_load(out)
    assert found["channels"]["gpu"]["timeouts"]["connect"] == "3s" and found["channels"]["gpu"]["credential"] == "***"
    assert json.loads(inside("config", "show", "-o", "json")[1])["files"]


def test_schema_is_json_whatever_is_asked(inside):
    assert json.loads(inside("config", "schema")[1])["$schema"]
    assert yaml.safe_load(inside("config", "schema", "-o", "yaml")[1])["$schema"]


def test_explain(inside):
    _, out, _ = inside("config", "explain", "channels.gpu.timeouts.connect")
    assert "channels.<name>.timeouts.connect" in out and "3s" in out
    _, out, _ = inside("config", "explain")
    assert "listeners" in out and "must be written" in out
    assert json.loads(inside("config", "explain", "http.body", "-o", "json")[1])["default"] == "64MiB"
    code, _, err = inside("config", "explain", "chanels")
    assert code == 1 and "channels" in err


def test_nobody_is_asked_while_no_gateway_runs(inside):
    code, _, err = inside("config", "rollback")
    assert code == 5 and "--yes" not in err


def test_asking_needs_a_terminal_or_yes(config, inside):
    code, _, err = inside("keys", "revoke", "ann")
    assert code == 2 and "--yes" in err and "ann" in (config.parent / "keys.yaml").read_text()

"""`config show --effective` and covered lines: everything, but no secret."""

import json

import pytest

from gateway.config.load import load
from gateway.config.redact import covered, only_names
from gateway.config.show import effective

TEXT = """\
version: 1
workers: auto
http: {body: 20MB, cors: {origins: ["*"]}}
channels:
  gpu:
    engine: mindie
    model: m
    endpoints: ["http://h:1"]
    credential: sk-canary
    headers: {Authorisation: canary}
    timeouts: {connect: 1m30s}
    planes: {metrics: "http://h:2"}
models:
  qwen: {targets: [{channel: gpu}]}
tenants: {t: {projects: {p: }}}
keys:
  - {id: k1, hash: "sha256:HASH", tenant: t, project: p, models: [qwen]}
""".replace("HASH", "ca" * 32)


def test_everything_is_shown_with_its_default_and_as_it_was_written(tmp_path):
    (tmp_path / "gateway.yaml").write_text(TEXT)
    shown = effective(load(tmp_path / "gateway.yaml", {}))
    assert json.loads(json.dumps(shown)) == shown
    gpu = shown["channels"]["gpu"]
    assert gpu["timeouts"] == {"connect": "1m30s", "first_event": "60s", "idle": "60s", "total": "30m"}
    assert gpu["credential"] == "***" and gpu["headers"] == {"Authorisation": "***"} and gpu["usage"] == "final"
    assert gpu["planes"] == {"metrics": {"url": "http://h:2"}} and "tls" not in gpu
    assert shown["http"]["body"] == "20MB" and shown["http"]["header"] == "16KiB" and isinstance(shown["workers"], int) and shown["node"]
    assert shown["models"]["qwen"]["targets"] == [{"channel": "gpu", "model": "m", "weight": 1}]
    rest = {"apis": [], "enabled": True, "hours": [], "systems": [], "meta": {}, "limits": []}
    models = {"allow": ["qwen"], "deny": []}
    assert shown["keys"] == [{"id": "k1", "hash": "***", "tenant": "t", "project": "p", "models": models, **rest}]
    assert shown["listeners"] == {"api": {"bind": "127.0.0.1:8080", "serves": "api", "proxy_protocol": False}} and shown["tenants"] == {
        "t": {"projects": {"p": {"apis": [], "hours": [], "limits": []}}, "apis": [], "hours": [], "limits": []}
    }
    assert "canary" not in json.dumps(shown) and "caca" not in json.dumps(shown)


def test_effective_is_itself_a_configuration_but_for_the_secrets(tmp_path):
    (tmp_path / "gateway.yaml").write_text(TEXT)
    shown = effective(load(tmp_path / "gateway.yaml", {}))
    shown["channels"]["gpu"] |= {"credential": "sk-canary", "headers": {"Authorisation": "canary"}}
    shown["keys"][0]["hash"] = "sha256:" + "ca" * 32
    (tmp_path / "gateway.yaml").write_text(json.dumps(shown))
    assert effective(load(tmp_path / "gateway.yaml", {}))["channels"] == effective(load(tmp_path / "gateway.yaml", {}))["channels"]


def test_a_registry_is_shown_with_the_words_of_its_type_alone(tmp_path):
    """The others would be mistakes, if what is shown were written into a file."""
    text = """version: 1
registries:
  fix: {type: static, endpoints: ["http://h:1"]}
  list: {type: file, path: engines.json}
  lab: {type: dns, srv: _mindie._tcp.lab}
"""
    (tmp_path / "gateway.yaml").write_text(text)
    shown = effective(load(tmp_path / "gateway.yaml", {}))
    assert shown["registries"] == {
        "fix": {"type": "static", "endpoints": ["http://h:1"]},
        "list": {"type": "file", "path": "engines.json"},
        "lab": {"type": "dns", "srv": "_mindie._tcp.lab", "scheme": "http", "family": "any", "ttl_min": "5s", "ttl_max": "5m"},
    }
    (tmp_path / "gateway.yaml").write_text(json.dumps(shown))
    assert effective(load(tmp_path / "gateway.yaml", {})) == shown


def test_conditions_are_shown_as_they_can_be_written_and_are_no_secrets_unless_they_look_so(tmp_path):
    (tmp_path / "gateway.yaml").write_text(
        """version: 1
auth: none
channels: {gpu: {engine: vllm, endpoints: ["http://h:1"]}}
models:
  qwen:
    targets: [{channel: gpu}]
    rules:
      - name: a
        when:
          headers: {x-env: prod, authorization: {prefix: canary}}
          content: [{path: a.b, equals: [1, x]}, {match: "^a", in: any}, {words: [b]}]
        to: {channel: gpu}
"""
    )
    loaded = load(tmp_path / "gateway.yaml", {})
    shown = effective(loaded)
    when = shown["models"]["qwen"]["rules"][0]["when"]
    assert when["headers"] == {"x-env": [{"equals": "prod"}], "authorization": "***"}
    assert when["content"] == [
        {"path": "a.b", "equals": [1, "x"]},
        {"match": "^a", "in": "any"},
        {"in": "last_user", "words": ["b"], "ignore_case": True},
    ]
    (tmp_path / "again.yaml").write_text(json.dumps(shown))
    before, after = (one.config.models["qwen"].rules[0].when.content for one in (loaded, load(tmp_path / "again.yaml", {})))
    assert before == after


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("when:\n  headers: {x-env: prod}\nheaders: {A: canary}", "when:\n  headers: {x-env: prod}\nheaders: {A: ******}"),
        ("when: {\n  headers: {A: a, x-api-key: canary}}\nx: y", "when: {\n  headers: {A: a, x-api-key: ******}}\nx: y"),
        ("credential: canary # x", "credential: ****** * *"),
        ("credential: canary, and more", "credential: ******, *** ****"),
        ("  'credential' : canary", "  'credential' : ******"),
        ("# credential: canary", "# credential: ******"),
        ('credential: "${env:KEY}" # x', 'credential: "${env:KEY}" # x'),
        ('{credential: "${env:KEY}", hash: canary, x: y}', '{credential: "${env:KEY}", hash: ******, x: y}'),
        ("credential: ${env:KEY:-canary}", "credential: *****************}"),
        ("credential: |\n  canary\n  canary: x\nmodel: y", "credential: *\n  ******\n  canary: *\nmodel: y"),
        ("headers:\n  A: canary\n  B: Bearer ${env:X}\nmodel: x", "headers:\n  A: ******\n  B: Bearer ${env:X}\nmodel: x"),
        ("{headers: {A: canary, B: 'canary'}, model: x}", "{headers: {A: ******, B: '******'}, model: x}"),
        ("http: {header: 16KiB}\nmax_tokens: 7\ntokenizer: qwen", "http: {header: 16KiB}\nmax_tokens: 7\ntokenizer: qwen"),
        ("x: [gw_k1_canarycanary, sk-canarycanary]", "x: [******************, ***************]"),
        ("url: http://u:canary@h/", "url: http://********@h/"),
        ('credential: "x{canary, y}"', 'credential: "********, *}"'),
        ("api_key: canary", "api_key: ******"),
        ("- {id: a, hash: 'sha256:0f0f'}", "- {id: a, hash: '***********'}"),
        ("hash:\n  canary", "hash:\n  ******"),
        ('["http://h:80canary"]', '["http://h:********"]'),
        ("[http://[::1]:canary/v1, http://[::1]:80]", "[http://[::1]:******/v1, http://[::1]:80]"),
        (
            '"http://${env:HOST}:${env:PORT}", "https://${env:HOST}:8443/v1"',
            '"http://${env:HOST}:${env:PORT}", "https://${env:HOST}:8443/v1"',
        ),
        ("", ""),
    ],
)
def test_lines_are_covered_where_secrets_stand(text, shown):
    lines = text.split("\n")
    assert covered(lines) == shown.split("\n")
    assert [len(line) for line in covered(lines)] == [len(line) for line in lines]


def test_names_that_begin_like_a_token_are_not_covered_where_the_configuration_knows_them():
    names = only_names(["hf-llama-70b", "sk-canary-1234567890", "gw_k7f3_" + "c4Na" * 11 + "_a1b2c3", "qwen"])
    assert names == {"hf-llama-70b"}
    assert covered(["model: hf-llama-70b", "x: hf-llama-70bcanary"], names) == ["model: hf-llama-70b", "x: ******************"]
    assert covered(["model: hf-llama-70b"]) == ["model: ************"]

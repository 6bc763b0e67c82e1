"""The starter, the schema, the reference and the examples in the docs are those of the code."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gateway.config import jsonschema
from gateway.config.explain import default_of, explain
from gateway.config.load import ConfigError, load
from gateway.config.reference import reference
from gateway.config.report import render
from gateway.config.starter import MODELINE, starter
from gateway.config.tree import words

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs" / "configuration.md"
WORDS, SCHEMA = words(), jsonschema.schema()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(), re.S)


def loads(folder: Path, files: dict[str, str]) -> Any:
    for name, text in files.items():
        (folder / name).write_text(text)
    try:
        return load(folder / "gateway.yaml", {}).config
    except ConfigError as error:
        raise AssertionError(render(error.mistakes)) from None


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_each_example_in_the_docs_loads(number, tmp_path):
    loads(tmp_path, {"gateway.yaml": EXAMPLES[number]})


def test_the_reference_is_that_of_the_schema():
    written = reference()
    assert DOCS.read_text().endswith(written), "python -m gateway.config.reference, and put it at the end of docs/configuration.md"
    for path, info in WORDS.items():
        assert f"| `{path}` |" in written and info.description and info.examples is not None


@pytest.mark.parametrize("name", ["gateway.yaml", "keys.yaml", "gateway.schema.json"])
def test_the_files_in_configs_are_the_starter(name):
    assert (ROOT / "configs" / name).read_text() == starter()[name], "write configs/ anew from gateway.config.starter.starter()"


def test_the_starter_loads_and_refuses_everyone_until_there_is_a_key(tmp_path):
    config = loads(tmp_path, starter(data_dir="/srv/a b", bind="127.0.0.1:80"))
    assert config.auth == "keys" and config.keys == [] and config.data_dir == "/srv/a b"
    assert starter()["gateway.yaml"].startswith(MODELINE + "\n") and starter()["keys.yaml"].startswith(MODELINE + "\n")


def test_what_the_starter_shows_in_comments_loads_too(tmp_path):
    text = starter()["gateway.yaml"].replace("channels: {}", "channels:").replace("models: {}", "models:")
    lines = [line for line in text.split("\n") if not line.startswith("#   gatewayctl") and "tls: {" not in line]
    shown = "\n".join(re.sub(r"^(\s*)# (?=( *)(?:[a-z_]+:|- \{)(?! group))", r"\1", line) for line in lines)
    shown = shown.replace("sync: group writes records", "# sync").replace("engine: vllm, sglang", "# engine")
    files = {**starter(), "gateway.yaml": shown}
    (tmp_path / "gateway.yaml").write_text(shown)
    for name in ("keys.yaml",):
        (tmp_path / name).write_text(files[name])
    config = load(tmp_path / "gateway.yaml", {"GPU_KEY": "x"}).config
    assert set(config.channels) == {"gpu", "ascend"} and config.models["qwen"].targets[0].weight == 3
    assert config.journal.sync == "group" and config.node == "gw-a"


@pytest.mark.parametrize(
    "engines",
    [
        [("mindie", "https://10.0.0.5:1025", None)],
        [("vllm", "http://[::1]:8000/v1", {"engine": "vllm", "version": "0.11\x1b", "models": [{"id": "/m/Qwen3-32B"}, {"id": "a: b"}]})],
        [("vllm", "http://h:1", {"models": ["q"]}), ("vllm", "http://h:2", {"models": ["q"]}), ("auto", "http://h:3", {"models": []})],
        [("sglang", "http://h:1", {"models": [{"id": "模型"}, {"id": ""}, {"id": 7}], "tls": None})],
    ],
)
def test_a_starter_with_engines_loads(engines, tmp_path):
    config = loads(tmp_path, starter(engines))
    assert [str(channel.endpoints[0]) for channel in config.channels.values()] == [url for _, url, _ in engines]
    assert {target.channel for model in config.models.values() for target in model.targets} == set(config.channels)


# -- the JSON Schema ---------------------------------------------------------------------------------------------------


def resolved(schema: dict[str, Any], node: dict[str, Any]) -> list[dict[str, Any]]:
    """The node behind references, and all its alternatives."""
    if "$ref" in node:
        return resolved(schema, schema["$defs"][node["$ref"].rpartition("/")[2]])
    return [one for part in node["anyOf"] for one in resolved(schema, part)] if "anyOf" in node else [node]


@pytest.mark.parametrize("path", WORDS)
def test_every_word_is_in_the_schema_with_its_meaning(path):
    schema = SCHEMA
    nodes = [schema]
    for step in re.split(r"\.(?![^<]*>)", path.replace("[]", ".[]")):
        found = []
        for node in nodes:
            if step == "<name>":
                found += [node["additionalProperties"]] if isinstance(node.get("additionalProperties"), dict) else []
                found += node.get("patternProperties", {}).values()
            elif step == "[]":
                found += [node["items"]] if "items" in node else []
            else:
                found += [node["properties"][step]] if step in node.get("properties", {}) else []
        last, nodes = found, [one for node in found for one in resolved(schema, node)]
    assert any(node.get("description") == WORDS[path].description for node in [*last, *nodes]), path
    if (default := default_of(WORDS[path])) is not None:
        assert any(node.get("default") == default for node in last), path


def test_the_schema_is_closed_and_lets_references_and_bare_numbers_through():
    schema = jsonschema.schema()
    assert schema["$schema"].endswith("2020-12/schema") and schema["additionalProperties"] is False and "required" not in schema
    assert all(node.get("additionalProperties") is not None for node in schema["$defs"].values() if node.get("type") == "object")
    assert {"type": "string", "pattern": r"\$\{(env|file):"} in schema["$defs"]["Timeouts"]["properties"]["connect"]["anyOf"]
    assert 1.2 in json.loads(json.dumps(schema["$defs"]["EngineTls"]["properties"]["min_version"]))["anyOf"][0]["enum"]
    assert "title" not in json.dumps(schema["$defs"])


def test_the_schema_lets_through_what_a_file_may_leave_empty_and_references_for_any_number():
    schema, nothing = jsonschema.schema(), {"type": "null"}
    for word in ("http", "journal", "channels", "models", "tenants", "alerts"):
        assert nothing in resolved(schema, schema["properties"][word]), word
    assert nothing in resolved(
        schema, next(iter(schema["$defs"]["Tenant"]["properties"]["projects"]["anyOf"][0]["patternProperties"].values()))
    )
    assert nothing in resolved(schema, schema["$defs"]["Channel"]["properties"]["timeouts"])
    caps = resolved(schema, schema["$defs"]["Model"]["properties"]["caps"])[0]["additionalProperties"]
    assert {"type": "string", "pattern": r"\$\{(env|file):"} in resolved(schema, caps)


# -- explain -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", WORDS)
def test_every_word_is_explained_however_it_is_asked_for(path):
    for asked in (path, path.replace(".<name>", "").replace("[]", ""), path.replace("<name>", "a.b-c").replace("[]", "[3]")):
        assert explain(asked).path == path, asked


def test_explained():
    found = explain("channels.timeouts.connect")
    assert (found.type, found.default, found.example, found.required) == ("duration", "3s", "1s", False)
    assert explain("first_event").path == "channels.<name>.timeouts.first_event"
    assert explain("channels").below[0] == "channels.<name>.engine"
    assert explain("models.targets").required
    assert explain("channels.gpu").path == "channels", "a name alone is one of its parts"


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        ("http.bdy", '"http.body"'),
        ("channels.gpu.conect", '"channels.timeouts.connect"'),
        ("tls", "listeners.<name>.tls"),
        ("chanels", '"channels"'),
        ("http.body.foo", "http.body has no words below it"),
        ("http.foo", "http has body, "),
        ("models.q.targets.chanel", '"models.targets.channel"'),
        ("models.q.timeouts", '"channels.timeouts"'),
        ("channels.gpu.endpoint", '"channels.endpoints"'),
        ("channels.enginee", '"channels.engine"'),
        ("zzzzzz", ""),
        ("", ""),
    ],
)
def test_what_is_not_a_word_gets_a_suggestion(asked, near):
    with pytest.raises(LookupError) as caught:
        explain(asked)
    assert near in str(caught.value)

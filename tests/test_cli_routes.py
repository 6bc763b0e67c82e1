"""`gatewayctl routes`: what people and programs see, and weights that are edited without harm."""

import csv
import io
import json
import os
import re
import shutil

import pytest

from gateway.admin.server import serve_admin
from tests.fixtures.desk import FakeDesk, write_config

TEXT = """version: 1          # kept
auth: none
data_dir: data
channels:
  a: {engine: vllm, endpoints: ["http://127.0.0.1:1"], model: m}
  b: {engine: vllm, endpoints: ["http://127.0.0.1:2"]}
models:
  qwen2.5:
    aliases: [latest]
    targets:
      # the old one
      - channel: a    # half
        weight: 1     # of it
      - {channel: b, model: x}
    rules:
      - {name: tools, when: {has: tools}, to: [{channel: b, weight: 4}, {"channel": a}]}
      - name: long
        when: {prompt_tokens: {over: 9000}}
        to: {policy: proportional, targets: [{"channel": a, "model": n}, {channel: b, weight: 5}]}
  deep: {policy: primary-backup, targets: [{targets: [{channel: a, weight: 1}, {channel: b, weight: 2}]}, {channel: b}]}
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    path = tmp_path / "gateway.yaml"
    path.write_text(TEXT)
    monkeypatch.setenv("GATEWAY_CONFIG", str(path))
    return path


@pytest.mark.parametrize(
    ("args", "old", "new"),
    [
        (("qwen2.5", "a", "7"), "weight: 1     # of it", "weight: 7     # of it"),
        (("latest", "a:m", "7"), "weight: 1     # of it", "weight: 7     # of it"),
        (("qwen2.5", "b", "3"), "{channel: b, model: x}", "{channel: b, model: x, weight: 3}"),
        (("qwen2.5", "b:x", "3"), "{channel: b, model: x}", "{channel: b, model: x, weight: 3}"),
        (("deep", "0.1", "9"), "{channel: b, weight: 2}", "{channel: b, weight: 9}"),
        (("deep", "a", "0"), "{channel: a, weight: 1}", "{channel: a, weight: 0}"),
        (("qwen2.5", "tools/b", "6"), "{channel: b, weight: 4}", "{channel: b, weight: 6}"),
        (("qwen2.5", "tools/1", "6"), '{"channel": a}', '{"channel": a, "weight": 6}'),
        (("qwen2.5", "long/a:n", "6"), '"model": n}', '"model": n, "weight": 6}'),
        (("qwen2.5", "long/1", "6"), "{channel: b, weight: 5}", "{channel: b, weight: 6}"),
    ],
)
async def test_a_weight_is_all_that_changes(file, inside, args, old, new):
    code, _, err = await inside("routes", "set-weight", *args)
    assert code == 0 and "not running" in err
    assert TEXT.count(old) == 1 and file.read_text() == TEXT.replace(old, new)


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("nope", "a", "1"), 1, "no model 'nope'"),
        (("qwen2.5", "c", "1"), 2, "Its targets by place: 0 (a), 1 (b:x), tools/0 (b), tools/1 (a), long/0 (a:n), long/1 (b)"),
        (("deep", "b", "1"), 2, "may be several"),
        (("deep", "1", "5"), 78, "weight means nothing under primary-backup"),
        (("qwen2.5", "a", "-1"), 2, "write 0 or more"),
    ],
)
async def test_a_weight_that_cannot_be_leaves_the_file_as_it_was(file, inside, args, code, said):
    got, _, err = await inside("routes", "set-weight", "--", *args)
    assert (got, file.read_text()) == (code, TEXT) and said in err, err


async def test_the_file_that_has_the_model_is_edited(file, inside):
    other = file.parent / "models.yaml"
    head, models = TEXT.split("models:\n")
    other.write_text("models:\n" + models)
    file.write_text(head + "include: [models.yaml]\n")
    assert (await inside("routes", "set-weight", "qwen2.5", "a", "7"))[0] == 0
    assert "weight: 7     # of it" in other.read_text() and file.read_text() == head + "include: [models.yaml]\n"


@pytest.fixture
async def desk(tmp_path, monkeypatch):
    config = write_config(tmp_path)
    desk = FakeDesk(config)
    server = await serve_admin(desk, config.parent / "data/admin.sock")
    monkeypatch.setenv("GATEWAY_CONFIG", str(config))
    yield desk
    await server.close()


async def test_a_change_that_the_gateway_refuses_is_taken_back(desk, file, inside):
    desk.refuse = "worker-0 cannot serve it"
    code, _, err = await inside("routes", "set-weight", "qwen2.5", "a", "7")
    assert code != 0 and "cannot serve it" in err and file.read_text() == TEXT


async def test_list_show_and_explain(desk, inside):
    code, out, _ = await inside("routes")
    assert code == 0 and "gpu:qwen3" in out and "long" in out
    code, out, _ = await inside("routes", "show", "qwen")
    assert code == 0 and "prompt_tokens {over: 30000}, has {tools: true}" in out and "3 attempts within 60 s" in out
    code, out, _ = await inside("routes", "explain", "-m", "qwen", "--header", "x-env=prod", "--at", "2026-12-24 22:00")
    assert code == 0 and "✗ long → gpu:big" in out and "http://h:1" in out
    assert "`messages` is text, not a list" in out
    assert desk.asked["headers"] == {"x-env": "prod"} and desk.asked["at"] > 0
    code, out, _ = await inside("routes", "explain", "-m", "qwen", "-o", "json")
    assert json.loads(out)["plan"][0]["channel"] == "gpu"
    code, out, _ = await inside("routes", "list", "-o", "csv")
    assert next(iter(csv.DictReader(io.StringIO(out))))["model"] == "qwen"


async def test_a_narrow_terminal_shows_the_order_of_a_plan(desk, inside, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((30, 24)))
    code, out, _ = await inside("routes", "explain", "-m", "qwen", "--color", "never")
    assert code == 0 and re.search(r"^ORDER +1\.$", out, re.M)


async def test_headers_are_read_as_workers_read_them(desk, inside):
    given = ("X-Env: a=b", "x-env=second", " x-url = http://h:1 ", "x-empty=")
    await inside("routes", "explain", "-m", "qwen", *(part for one in given for part in ("--header", one)))
    assert desk.asked["headers"] == {"x-env": "a=b", "x-url": "http://h:1", "x-empty": ""}


@pytest.mark.parametrize("args", [("--api", "foo"), ("--at", "soon"), ("--header", "nothing"), ("--tokens", "-1")])
async def test_what_cannot_be_asked_is_wrong_usage(file, inside, args):
    assert (await inside("routes", "explain", "-m", "qwen", *args))[0] == 2


async def test_an_empty_request_is_refused_as_workers_refuse_it(desk, inside, tmp_path):
    (tmp_path / "empty.json").write_text("\n")
    code, _, err = await inside("routes", "explain", "-m", "qwen", "--file", str(tmp_path / "empty.json"))
    assert code == 1 and "empty.json is empty: such a request is refused with 400 invalid_json" in err


async def test_an_empty_name_is_wrong_usage(desk, inside):
    code, _, err = await inside("routes", "show", "")
    assert code == 2 and "a name is empty" in err

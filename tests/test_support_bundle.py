"""`gatewayctl support-bundle`: secrets and prompts are nowhere in it (canaries), whatever state the gateway is in."""

import copy
import gzip
import hashlib
import json
import re
import tarfile
import time
from pathlib import Path

import pytest

from gatewayctl.bundle.cover import Cover
from gatewayctl.bundle.log import cleaned
from gatewayctl.bundle.parts import PARTS
from gatewayctl.bundle.records import Clean
from tests.fixtures.cli import actl, ctl
from tests.harness import KEY, Rig, eventually, script


def texts(path: Path) -> dict[str, str]:
    with tarfile.open(path) as tar:
        return {member.name.removeprefix("gateway-support/"): tar.extractfile(member).read().decode() for member in tar}  # type: ignore[union-attr]


def clean(path: Path, *canaries: str) -> None:
    """No canary is anywhere in it: not in a name, not in a text, not in the packed bytes."""
    whole = gzip.decompress(path.read_bytes())
    for name, text in texts(path).items():
        for canary in (*canaries, "canary", "CANARY"):
            assert canary not in text, f"{canary} is in {name}: {re.findall(f'.{{0,60}}{re.escape(canary)}.{{0,20}}', text)[:3]}"
    assert b"canary" not in whole.lower()
    assert path.stat().st_mode & 0o777 == 0o600


SINKS = {
    "ops": "${file:ops.url}",
    "ding": "${env:BUNDLE_DING}",
    "hook": "json://hookuser-canary:hookpass-canary@127.0.0.1:9/path-canary-1?token=query-canary-1",
    "mail": "mailto://mailuser-canary:mailpass-canary@127.0.0.1:9?from=a@example.com&to=b@example.com",
    "am": {"alertmanager": "http://127.0.0.1:9", "credential": "am-canary-credential"},
}
"""The one that nobody listens to says in the log, and in `alerts`, why it did not work."""
FILE_SECRET = "file-canary-1"
LOG = """\
2026-11-27T10:00:00.000 error worker-0 gateway: Authorization: Bearer log-canary-1
2026-11-27T10:00:00.000 error worker-0 gateway: http://ann:log-canary-2@10.0.0.5/ and password=log-canary-3 {"api_key": "log-canary-4"}
2026-11-27T10:00:00.000 error worker-0 gateway.accept: a request ended in a fault of ours
Traceback (most recent call last):
  File "/usr/lib/x.py", line 3, in serve
ValueError: invalid literal: 'prompt-canary in an exception'
Nov 27 10:00:01 gw-a gateway[1]: gateway.wire.openai.MalformedJson: no match
{"ts": 1, "level": "error", "message": "m", "exception": "Traceback\\nKeyError: 'prompt-canary again'"}
pieces of sinks: TIslackcanary012345678901 hookpass-canary path-canary-1 query-canary-1 mailpass-canary am-canary-credential
secrets that are known: file-canary-1 env-canary-1 literal-canary-1 header-canary-1
"""


@pytest.fixture
async def full(rig: Rig, tmp_path: Path) -> Rig:
    """A gateway with a secret in every place that can hold one."""
    engine = await rig.engine("a", "vllm", channel={"credential": "${env:BUNDLE_KEY}", "headers": {"X-Auth": "header-canary-1"}})
    await rig.engine("b", "vllm", channel={"credential": "${file:gpu.key}", "headers": {"X-Team": "${env:BUNDLE_TEAM:-default-canary}"}})
    await rig.engine("c", "vllm", channel={"credential": "literal-canary-1"})
    (tmp_path / "gpu.key").write_text(FILE_SECRET + "\n")
    engine.script = script({"on": 1, "do": "status", "status": 400, "body": '{"error": {"message": "you said: prompt-canary-2"}}'})
    rig.model("qwen", {"a": 1})
    rig.config["keys"][0] |= {"label": "label-canary", "meta": {"note": "meta-canary"}, "systems": ["*"]}
    rig.config["keys"].append(
        {**copy.deepcopy(rig.config["keys"][0]), "id": "k2", "hash": "sha256:" + hashlib.sha256(b"hash-canary").hexdigest()}
    )
    (tmp_path / "ops.url").write_text("slack://T1JJ3T3L2/A1BRTD4JD/TIslackcanary012345678901/#alerts\n")
    (tmp_path / "prices.yaml").write_text(
        "# contract-canary\nprices: [{model: qwen, currency: CNY, input: '2', output: '8'}] # discount-canary\n"
    )
    rig.config["include"] = ["prices.yaml"]
    rig.config["alerts"] = {"sinks": {name: sink for name, sink in SINKS.items()}}
    await rig.start(env={"BUNDLE_KEY": "env-canary-1", "BUNDLE_DING": "dingtalk://SECcanarysign@" + "canary01" * 8})
    return rig


async def test_nothing_secret_is_in_it(full: Rig, tmp_path: Path) -> None:
    rig, log = full, tmp_path / "service.log"
    await rig.chat("qwen", "prompt-canary-1", headers={"x-request-id": "trace-canary-1", "x-gateway-system": "system-canary-1"})
    await rig.chat("qwen", "prompt-canary-3", stream=True, max_tokens=3)
    await rig.chat("model-canary-1", "prompt-canary-4")
    await rig.chat("qwen", "x", key="sk-canary-0123456789abcdef")
    await eventually(lambda: len(rig.records()) >= 3)

    async def counted() -> bool:
        return "gateway_requests_total{" in await rig.metrics()

    await eventually(counted)
    tested = await actl("alerts", "test", "-c", rig.path)
    assert tested.code == 1, tested.out
    await rig.admin("POST", "/v1/freeze", {"kind": "model", "name": "qwen", "reason": "reason-canary-1"})
    await rig.admin("POST", "/v1/alerts/silence", {"labels": {"channel": "a"}, "seconds": 60, "comment": "comment-canary-2"})
    log.write_text(LOG + rig.log())
    rig.path.write_text("# comment-canary\n" + rig.path.read_text())
    hashes = [hashlib.sha256(text).hexdigest() for text in (KEY.encode(), b"hash-canary")]
    target = tmp_path / "bundle.tar.gz"
    ran = await actl("support-bundle", "-c", rig.path, "-f", target, "--log", log)
    assert ran.code == 0, ran.err
    found = texts(target)
    assert json.loads(found["freezes.json"])["freezes"][0]["reason"] == "***" and json.loads(found["alerts.json"])["silences"]
    assert json.loads(found["ledger.json"])["ledger"]["state"] == "ok" and "prices:" in found["config/effective.yaml"]
    assert set(PARTS) - {"config/mistakes.txt", "config/files.yaml", "unit.txt"} <= set(found), found["missing.txt"]
    clean(target, *hashes, *(digest[:20] for digest in hashes), KEY, "127.0.0.1:1\n")
    records = [json.loads(line) for line in found["records.ndjson"].splitlines()]
    assert {one.get("model") for one in records} >= {"qwen"}
    journal = json.dumps(rig.records())
    assert "trace-canary-1" in journal and "system-canary-1" in journal and "model-canary-1" in journal, "they were there to be found"
    assert all(re.fullmatch(r"~[0-9a-f]{8}", one["ip"]) for one in records) and any("trace" in one for one in records)
    assert "gateway_requests_total" in found["metrics.txt"] and "credential: '***'" in found["config/effective.yaml"]
    assert "ValueError: (left out)" in found["log.txt"] and "Authorization: ***" in found["log.txt"] and "ready:" in found["log.txt"]
    assert "journal" in found["data_dir.txt"] and "somaxconn" in found["kernel.txt"] and "aiohttp" in found["versions.json"]
    assert any(one["check"] == "engines" for one in json.loads(found["doctor.json"]))
    for name in found:
        if name.endswith(".json"):
            json.loads(found[name])
    assert (await actl("support-bundle", "-c", rig.path, "-f", target)).code == 1, "never overwritten"

    await rig.stop()
    again = tmp_path / "again.tar.gz"
    ran = await actl("support-bundle", "-c", rig.path, "-f", again, "--log", log, BUNDLE_KEY="env-canary-1")
    assert ran.code == 0 and "without status.json: the gateway is not running" in ran.err
    clean(again, *hashes)
    offline = texts(again)
    assert len(offline["records.ndjson"].splitlines()) == len(records) and "status.json" in offline["missing.txt"]
    assert not set(re.findall(r"~\w{8}", offline["records.ndjson"])) & set(re.findall(r"~\w{8}", found["records.ndjson"]))

    without = tmp_path / "without.tar.gz"
    ran = await actl("support-bundle", "-c", rig.path, "-f", without, "--log", log)
    assert "BUNDLE_KEY is not set" in texts(without)["config/mistakes.txt"], "the revision still knows what was secret"
    clean(without, *hashes)


def test_with_a_broken_configuration_and_with_none(tmp_path: Path) -> None:
    file = tmp_path / "g.yaml"
    file.write_text(
        f"version: 1 # comment-canary\ndata_dir: {tmp_path}/data\nchannels:\n  a: {{engine: vllm, credental: sk-canary-1234567890}}\n"
        "  b:\n    headers:\n      X: canary\n    credential: |\n      canary\n      more-canary\nkeys: [{id: a, hash: canary}]\nnonsense\n"
    )
    for number, config in enumerate((file, tmp_path / "none.yaml")):
        target = tmp_path / f"{number}.tar.gz"
        ran = ctl("support-bundle", "-c", config, "-f", target, "-o", "json")
        assert ran.code == 0 and json.loads(ran.out)["missing"]["status.json"], ran.err
        clean(target)
        assert "config/mistakes.txt" in texts(target)


# -- the one function ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a known-secret here", "a *** here"),
        ('{"a": "kn\\"own", "b": 1}', '{"a": "***", "b": 1}'),
        ("k%20n%2Fo", "***"),
        ("Authorization: Bearer abc.def", "Authorization: ***"),
        ("x-api-key=abc&y=1", "x-api-key=***&y=1"),
        ('{"msg": "password: abc\\n next", "n": 1}', '{"msg": "password: ***\\n next", "n": 1}'),
        ('{"msg": "secret=\\"abc\\" b"}', '{"msg": "secret=\\"***\\" b"}'),
        ('{"credential": "abc, def", "x": 1}', '{"credential": "***", "x": 1}'),
        ("Environment=GPU_X=abc def\nNext=1", "Environment=GPU_X=***\nNext=1"),
        ("https://ann:abc@h/v1", "https://***@h/v1"),
        ("t eyJhbGciOiJI.eyJzdWIiOiIx.abc u", "t *** u"),
        ("-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----\nx", "***\nx"),
        ("rev " + "ab" * 32, "rev abababab…"),
        ('"tokens": {"in": 12}, max_tokens: 5, tokenizer: qwen', '"tokens": {"in": 12}, max_tokens: 5, tokenizer: qwen'),
        ("hf-llama-70b and sk-abcdefghijkl", "hf-llama-70b and ***************"),
    ],
)
def test_what_is_covered(text: str, shown: str) -> None:
    assert Cover(["known-secret", 'kn"own', "k n/o", "abc"[:3]], frozenset({"hf-llama-70b"})).text(text) == shown


@pytest.mark.parametrize(
    ("known", "text", "shown"),
    [
        (["abcd"], "abcdabcd x abcd", "*** x ***"),
        (["abcd", "cdef", "bcde"], "xabcdefx", "x***x"),
        (["abcdef", "bcde"], "abcdef bcde", "*** ***"),
        (["abcd"], "abc", "abc"),
        (["abcd"], "abcd", "***"),
        ([], "abcd", "abcd"),
    ],
)
def test_known_values_that_touch_and_overlap(known: list[str], text: str, shown: str) -> None:
    assert Cover(known).text(text) == shown


def test_thousands_of_secrets_and_a_long_text_take_no_minute() -> None:
    cover = Cover(f"secret-number-{number:06d}" for number in range(5000))
    began = time.monotonic()
    found = cover.text("2026-11-27T10:00:00 info worker-0 gateway.x: nothing of note here secret-number-000017 and words\n" * 10_000)
    assert "000017" not in found and time.monotonic() - began < 20


def test_a_file_loses_comments_and_notes_about_people() -> None:
    text = "# canary\nkeys:\n- label: canary\n  id: a # canary\n  meta:\n    x: canary\n  models: [b]\n"
    text += "- {id: c, label: 'canary, b', meta: {x: canary}, on: 1}"
    shown = "\nkeys:\n- label: ***\n  id: a \n  meta:\n    ***\n  models: [b]\n- {id: c, label: ***, meta: ***, on: 1}"
    assert Cover([]).yaml(text) == shown


def test_trees_keep_their_shape_and_lose_what_is_secret() -> None:
    found = Cover(["xyzzy"]).tree(
        {"headers": {"A": "b"}, "credential": "c", "list": [{"api_key": "d"}, "xyzzy", 1, None], "hash": "", "on": True}
    )
    assert found == {"headers": {"A": "***"}, "credential": "***", "list": [{"api_key": "***"}, "***", 1, None], "hash": "", "on": True}


def test_a_field_that_nobody_has_heard_of_is_a_pseudonym() -> None:
    cover = Cover([])
    record = Clean(cover, frozenset({"qwen"})).record(
        {"id": "i", "new": "canary", "model": "qwen", "deep": {"new": ["canary"], "n": 1}, "error": "Canary text", "reason": "timeout_idle"}
    )
    name = cover.pseudonym("canary")
    assert record["new"] == name and record["deep"] == {"new": [name], "n": 1} and record["model"] == "qwen"
    assert record["error"].startswith("~") and record["reason"] == "timeout_idle"


def test_of_exceptions_the_kind_stays() -> None:
    text = cleaned(LOG)
    assert "prompt-canary" not in text and "ValueError: (left out)" in text and "MalformedJson: no match" in text
    assert cleaned("  | gateway.errors.UpstreamFailure: canary") == "  | gateway.errors.UpstreamFailure: (left out)"
    assert cleaned("<3>ValueError: canary") == "<3>ValueError: (left out)"
    assert cleaned("2026-11-27T10:00:00+0000 gw-a gateway[7]: KeyError: 'canary'").endswith("KeyError: (left out)")
    assert cleaned("a warning: this stays") == "a warning: this stays"


def test_of_a_freeze_the_reason_goes() -> None:
    said = "model qwen is frozen by root (uid 0, pid 7)"
    assert cleaned(f"x warning control gateway: {said}: canary (1): 2") == f"x warning control gateway: {said}: (left out)"
    assert json.loads(cleaned(json.dumps({"message": f"{said}: canary", "n": 1}))) == {"message": f"{said}: (left out)", "n": 1}

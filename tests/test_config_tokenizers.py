"""gateway/config/tokenizers.py: what a tokenizer's name or file may be, and what the sysadmin is told of one that is unusable."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.config import tokenizers
from gateway.config.tokenizers import BUNDLED, FOLDER, Unusable, ranks, read, trouble

ROOT = Path(__file__).parents[1]
BYTES = [base64.b64encode(bytes([byte])) + b" %d" % byte for byte in range(256)]


@pytest.mark.parametrize("name", [*BUNDLED, "engine"])
def test_the_bundled_are_there(tmp_path, name):
    assert trouble(name, tmp_path) is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cl100", 'there is no tokenizer "cl100" (bundled are cl100k, o200k, qwen; or "engine", or a file); did you mean "cl100k"?'),
        ("Qwen", 'there is no tokenizer "Qwen" (bundled are cl100k, o200k, qwen; or "engine", or a file); did you mean "qwen"?'),
        ("zzz", 'there is no tokenizer "zzz" (bundled are cl100k, o200k, qwen; or "engine", or a file)'),
        ("no/such.json", "no/such.json: there is no such file"),
        ("tokenizer.json", "tokenizer.json: there is no such file"),
        (".", ".: it is a directory, not a file"),
        ("a.\0", "a.\0: embedded null byte"),
    ],
)
def test_names_that_are_none(tmp_path, name, said):
    assert trouble(name, tmp_path) == said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"\n\n", "it is empty"),
        (b"\0\1\2", "1: this is no `token rank` line of a .tiktoken file"),
        (b"\n".join([*BYTES, b"!!! 256"]), "257: this is no `token rank` line of a .tiktoken file"),
        (b"\n".join([*BYTES, b"YWI="]), "257: this is no `token rank` line of a .tiktoken file"),
        (b"\n".join([*BYTES, b"YWI= x"]), "257: this is no `token rank` line of a .tiktoken file"),
        (b"\n".join([*BYTES, b"YWI= 3"]), "its ranks are not one number from 0 to 4294967295 for each token"),
        (b"\n".join([*BYTES, b"YWI= -3"]), "its ranks are not one number from 0 to 4294967295 for each token"),
        (b"\n".join([*BYTES, b"YWI= 4294967296"]), "its ranks are not one number from 0 to 4294967295 for each token"),
        (b"\n".join(BYTES[:-1]), "it has no token for the byte 0xff, so some texts could not be counted"),
        (b"version https://git-lfs.github.com/spec/v1\n", "1: this is no `token rank` line of a .tiktoken file"),
        (b"{}", "this is no tokenizer.json (Object missing required field `model`)"),
        (b'{"model": {"type": "BPE"}}', "this is no tokenizer.json (Object missing required field `vocab` - at `$.model`)"),
        (b'{"model": {"type": "BPE", "vocab": {"a": ', "this is no tokenizer.json (Input data was truncated)"),
        (
            b'{"model": {"type": "Magic", "vocab": {"a": 0}}}',
            'a model of type "Magic" is not known (known are BPE, Unigram, WordLevel, WordPiece)',
        ),
        (b'{"model": {"type": "BPE", "vocab": {}}}', "its vocabulary is empty"),
        (b'{"model": ' + b"[" * 5_000, "this is no tokenizer.json (Expected `object`, got `array` - at `$.model`)"),
    ],
)
def test_files_that_are_none(tmp_path, content, said):
    (tmp_path / "t.x").write_bytes(content)
    found = trouble("t.x", tmp_path)
    assert found is not None and found.removeprefix("t.x:").strip() == said


@pytest.mark.parametrize(
    "content",
    [
        b"\n".join(BYTES),
        b"\r\n".join([*BYTES, b"", b"YWI= 999"]),
        json.dumps({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}).encode(),
        b'  {"model": {"vocab": {"a": 0}, "merges": []}}',
        json.dumps({"model": {"type": "Unigram", "vocab": [["a", 0.5]], "unk_id": 0}}).encode(),
    ],
)
def test_files_that_are_right(tmp_path, content):
    (tmp_path / "t.x").write_bytes(content)
    assert trouble("t.x", tmp_path) is None
    assert trouble(str(tmp_path / "t.x"), Path("/nowhere")) is None


def test_a_file_that_may_not_be_read_or_never_ends(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.json")
    assert trouble("pipe.json", tmp_path) == "pipe.json: it is not a regular file"
    (tmp_path / "large.json").write_bytes(b"{" * 3_000_000)
    monkeypatch.setattr(tokenizers, "LARGEST", 2 << 20)
    assert trouble("large.json", tmp_path) == "large.json: it is larger than 2 MiB"


def test_a_missing_or_spoilt_vocabulary_names_its_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(tokenizers, "FOLDER", tmp_path)
    assert trouble("qwen", tmp_path) == (
        'the vocabulary "qwen" is missing (qwen.tiktoken: there is no such file); `make vocabularies` fetches the bundled vocabularies'
    )
    (tmp_path / "qwen.tiktoken").write_bytes((FOLDER / "qwen.tiktoken").read_bytes()[:-1])
    with pytest.raises(Unusable, match=r"is not what it should be; `make vocabularies`"):
        read("qwen", tmp_path)


@pytest.mark.parametrize("name", list(BUNDLED))
def test_the_bundled_are_what_is_written_of_them(name):
    bundled = BUNDLED[name]
    data = read(name, Path())
    assert len(data) == bundled.size
    assert max(map(len, ranks(data, name))) == bundled.longest


def test_vocabularies_are_fetched_once(tmp_path):
    """What is there and right is left alone, without the network; pip would have to be asked for anything else."""
    run = "sys.argv = ['v']; runpy.run_path('packaging/vocabularies.py', run_name='__main__')"
    script = f"import runpy, subprocess, sys; subprocess.run = None; {run}"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

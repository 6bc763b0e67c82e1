"""A tokenizer.json is converted once, by a process of its own; whoever needs it finds it."""

import os
import sys
from pathlib import Path

import pytest

from gateway.config import tokenizers
from gateway.config.tokenizers import Unusable, trouble
from gateway.govern.proving import Prover
from gateway.tokens import kept, vocabulary
from gateway.tokens.byte_level import SAMPLE
from gateway.tokens.vocabulary import HuggingFace, Ranked, load
from tests.harness import Rig
from tests.test_tokens_byte_level import KINDS

DATA = KINDS["qwen"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "t.json").write_bytes(DATA)
    return tmp_path


def never(*_: object) -> None:
    raise AssertionError("`tokenizers` was asked")


def test_what_is_kept_counts_alike_and_tokenizers_is_not_asked_again(folder, monkeypatch):
    store = folder / "kept"
    first = load("t.json", folder, store)
    assert isinstance(first, Ranked) and len(list(store.iterdir())) == 1
    monkeypatch.setattr(vocabulary, "HuggingFace", never)
    again = load("t.json", folder, store)
    assert isinstance(again, Ranked) and (again.longest, again.growth) == (first.longest, first.growth)
    texts = [SAMPLE, *SAMPLE.split(), "<think>x</think>", "<|im_end|>", "e\u0301"]
    assert [again.count(text) for text in texts] == [first.count(text) for text in texts]


@pytest.mark.parametrize("damage", [b"", b"\x00", b"\x85"])
def test_what_is_damaged_is_made_anew(folder, damage):
    store = folder / "kept"
    load("t.json", folder, store)
    [file] = store.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage or whole[:-10])
    assert isinstance(load("t.json", folder, store), Ranked) and file.read_bytes() == whole


def test_another_format_is_not_read(folder, monkeypatch):
    load("t.json", folder, folder / "kept")
    monkeypatch.setattr(kept, "FORMAT", 2)
    assert kept.find(folder / "kept", DATA) is None


def test_a_folder_that_cannot_be_written_is_done_without(folder):
    (folder / "kept").write_text("a file")
    assert isinstance(load("t.json", folder, folder / "kept"), Ranked)


def test_the_oldest_go(folder, monkeypatch):
    monkeypatch.setattr(kept, "MOST", 2)
    store = folder / "kept"
    for number, kind in enumerate(KINDS):
        (folder / "t.json").write_bytes(KINDS[kind])
        load("t.json", folder, store)
        for file in store.iterdir():
            os.utime(file, ns=(number, number)) if file.stat().st_mtime_ns > 10**9 else None
    assert kept.find(store, KINDS["qwen"]) is None and kept.find(store, KINDS["gpt2"]) is not None


def test_a_process_of_its_own_proves_it_and_keeps_it(folder, monkeypatch):
    monkeypatch.setattr(tokenizers, "prove", Prover(folder / "kept"))
    monkeypatch.setattr("gateway.govern.proving.prove_here", never)
    assert trouble("t.json", folder) is None
    assert kept.find(folder / "kept", DATA) is not None
    monkeypatch.setattr("gateway.govern.proving.self_command", never)
    assert trouble("t.json", folder) is None, "it is remembered"


@pytest.mark.parametrize("data", [b'{"model": 3}', b'{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b"]]}}', b"{"])
def test_what_it_cannot_use_it_says(folder, monkeypatch, data):
    (folder / "t.json").write_bytes(data)
    plain = trouble("t.json", folder)
    monkeypatch.setattr(tokenizers, "prove", Prover(folder / "kept"))
    found = trouble("t.json", folder)
    assert plain and found and found.startswith("t.json: ") and plain.startswith("t.json: ")
    assert not (folder / "kept").exists()


@pytest.mark.parametrize("command", [["/nowhere/at/all"], [sys.executable, "-c", "import os; os.abort()"], [sys.executable, "-c", "1 / 0"]])
def test_when_no_process_answers_it_is_proved_here(folder, monkeypatch, command):
    monkeypatch.setattr("gateway.govern.proving.self_command", lambda: command)
    prover = Prover(folder / "kept")
    prover(DATA, "t.json", folder)
    with pytest.raises(Unusable, match=r"t\.json: "):
        prover(b'{"model": {}}', "t.json", folder)


def test_others_are_left_to_tokenizers(folder):
    (folder / "t.json").write_bytes(DATA.replace(b'"NFC"', b'"NFKC"'))
    assert isinstance(load("t.json", folder, folder / "kept"), HuggingFace) and not (folder / "kept").exists()


async def test_control_has_it_converted_before_workers_are_asked(tmp_path):
    async with Rig(tmp_path, workers=1) as rig:
        await rig.engine("a", model="m")
        rig.model("m", {"a": 1})
        await rig.start()
        (tmp_path / "t.json").write_bytes(DATA)
        rig.config["models"]["m"]["tokenizer"] = "t.json"
        assert (await rig.reload())["ok"]
        [file] = (rig.data_dir / "tokenizers").iterdir()
        assert file.suffix == ".ranks" and kept.find(kept.kept_in(rig.data_dir), DATA) is not None
        maps = Path(f"/proc/{rig.pid_of('worker-0')}/maps").read_text() + Path(f"/proc/{rig.pid_of('control')}/maps").read_text()
        assert "/tiktoken/" in maps and "/tokenizers/" not in maps, "neither has loaded the package"
        (tmp_path / "t.json").write_bytes(b'{"model": 3}')
        no = await rig.reload()
        assert not no["ok"] and "t.json: this is no tokenizer.json" in str(no)

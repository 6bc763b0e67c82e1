"""A tokenizer.json that is converted to ranks counts what `tokenizers` counts; one that cannot be is left to it."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Loaded

from gateway.tokens.byte_level import SAMPLE, agree, byte_level
from gateway.tokens.vocabulary import HuggingFace, Ranked, load

ROOT = Path(__file__).parents[1]
QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA = QWEN.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)


def split(pattern: str) -> Any:
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )


def trained(pre: Any, normalizer: Any = None, added: tuple[AddedToken, ...] = ()) -> bytes:
    tokenizer = Loaded(models.BPE())
    tokenizer.pre_tokenizer = pre
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=3_000, special_tokens=["<|im_end|>"], initial_alphabet=alphabet, show_progress=False)
    texts = [SAMPLE * 5, *(file.read_text() for file in sorted((ROOT / "docs").glob("*.md")))]
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens(list(added))
    data: str = tokenizer.to_str()
    return data.encode()


THINK = AddedToken("<think>", normalized=False)
KINDS = {
    "qwen": trained(split(QWEN), normalizers.NFC(), (THINK,)),
    "llama": trained(split(LLAMA)),
    "gpt2": trained(pre_tokenizers.ByteLevel(add_prefix_space=False)),
}
WORDS = [*SAMPLE.split(" "), " ", "  ", "\n", "\r\n", "<think>", "<|im_end|>", "e\u0301", "12345", "🙂"]
TEXT = st.one_of(
    st.text(max_size=60),
    st.lists(
        st.sampled_from([*SAMPLE.split(" "), " ", "  ", "\n", "\r\n", "<think>", "<|im_end|>", "e\u0301", "12345", "🙂"]), max_size=12
    ).map("".join),
)


def counts(data: bytes, folder: Path) -> tuple[Any, HuggingFace]:
    (folder / "tokenizer.json").write_bytes(data)
    return load("tokenizer.json", folder), HuggingFace(data)


@pytest.mark.parametrize("kind", KINDS)
def test_it_counts_what_tokenizers_counts(kind, tmp_path):
    made, own = counts(KINDS[kind], tmp_path)
    assert isinstance(made, Ranked)

    @settings(max_examples=300, deadline=None)
    @given(text=TEXT)
    def same(text: str) -> None:
        assert made.count(text) == own.count(text)

    same()


def test_added_tokens_count_as_one_and_special_ones_as_text(tmp_path):
    made, _ = counts(KINDS["qwen"], tmp_path)
    assert made.count("<think>") == 1
    assert made.count("<|im_end|>") > 1


@pytest.mark.parametrize(
    ("pre", "normalizer", "added"),
    [
        (pre_tokenizers.ByteLevel(add_prefix_space=True), None, ()),
        (pre_tokenizers.Sequence([pre_tokenizers.Digits(), pre_tokenizers.ByteLevel(add_prefix_space=False)]), None, ()),
        (split(QWEN), normalizers.NFKC(), ()),
        (split(QWEN), None, (AddedToken("<think>", lstrip=True),)),
        (split(QWEN), None, (AddedToken("<t>"), AddedToken("<t>x"))),
        (pre_tokenizers.Metaspace(), None, ()),
    ],
)
def test_what_is_of_another_kind_is_left_to_tokenizers(pre, normalizer, added, tmp_path):
    made, own = counts(trained(pre, normalizer, added), tmp_path)
    assert isinstance(made, HuggingFace)
    assert made.count(SAMPLE) == own.count(SAMPLE)


def test_a_file_whose_counts_would_differ_is_left_to_tokenizers(tmp_path, monkeypatch):
    found = byte_level(KINDS["llama"])
    assert found is not None
    made, own = counts(KINDS["llama"], tmp_path)
    assert agree(made.count, own.count, found.ranks)
    assert not agree(lambda text: made.count(text) + ("½" in text), own.count, found.ranks)
    other = msgspec.structs.replace(found, pattern=r"\S+|\s")  # as if the two engines read the pattern differently
    monkeypatch.setattr("gateway.tokens.vocabulary.byte_level", lambda data: other)
    assert isinstance(load("tokenizer.json", tmp_path), HuggingFace)
    broken = msgspec.structs.replace(found, pattern="(unclosed")
    monkeypatch.setattr("gateway.tokens.vocabulary.byte_level", lambda data: broken)
    assert isinstance(load("tokenizer.json", tmp_path), HuggingFace)


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"model":5}', b'{"model":{"type":"BPE","vocab":{},"merges":[["a"]]}}', b"\xff{"])
def test_rubbish_is_of_no_kind(data):
    assert byte_level(data) is None


def test_files_without_all_bytes_or_with_merges_to_nowhere_are_of_no_kind():
    file = json.loads(KINDS["llama"])
    del file["model"]["vocab"]["Ġ"]
    assert byte_level(json.dumps(file).encode()) is None
    file = json.loads(KINDS["llama"])
    file["model"]["merges"].append(["zz", "qq"])
    assert byte_level(json.dumps(file).encode()) is None
    file = json.loads(KINDS["llama"])
    file["model"] |= {"ignore_merges": True, "vocab": {**file["model"]["vocab"], "nobodyMakesThis": 99_999}}
    assert byte_level(json.dumps(file).encode()) is None

"""gateway/tokens/vocabulary.py and pieces.py: counts equal tiktoken's and tokenizers' own, whatever the text and wherever it is cut."""

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from tiktoken_ext import openai_public  # type: ignore[import-untyped]
from tokenizers import Tokenizer as Loaded
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from gateway.config.tokenizers import BUNDLED, FOLDER, Unusable
from gateway.tokens import pieces as cutting
from gateway.tokens.bounds import NFC, UNKNOWN, Growth
from gateway.tokens.pieces import PIECE, WINDOW, pieces
from gateway.tokens.vocabulary import HuggingFace, Shelf, load

ROOT = Path(__file__).parents[1]
SENTENCES = """网关把请求交给引擎。|每个词元只计一次，不多不少！|昨天晚上，三台服务器同时重启了；为什么？|模型的上下文长度是32768。
|“先看规则，再看权重”，他说。|北京、上海、深圳：三个机房。|接口返回429，请稍后再试。|価格は１２３円です。""".split("|")
TRICKY = "aAbsStTdlLveERrm159 \n\r\t'’，。！.,/_-=é\u0301\u0308\u0338\u3000²①的国ก\u0e31ǅ·\\(){}\"\u200b\u00a0ﬁ👩🏽\u200d\0"
HOSTILE = {
    "spaces": " " * 1_000_000,
    "spaces and a letter": " " * 1_000_000 + "x",
    "tabs and newlines": "\t\n" * 500_000,
    "newlines": "\n" * 1_000_000,
    "letters": "a" * 1_000_000,
    "Chinese": "的" * 300_000,
    "marks": "a" + "\u0301" * 300_000,
    "NULs": "\0" * 300_000,
    "surrogates": "\ud800" * 200_000 + "a\udfffb",
    "quotes": "a's" * 300_000,
    "special tokens": "<|endoftext|><|im_start|>" * 20_000,
    "emoji": "👩🏽‍💻" * 50_000,
}


def code() -> str:
    return "".join(file.read_text() for file in sorted((ROOT / "gateway").rglob("*.py")))


def prose() -> str:
    return "".join(file.read_text() for file in sorted((ROOT / "docs").glob("*.md"))) + (ROOT / "LICENSE").read_text()


def chinese() -> str:
    pick = random.Random(7)
    return "".join(pick.choice(SENTENCES).strip() for _ in range(20_000))


TEXTS = {"code": code, "prose": prose, "Chinese": chinese}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tiktoken.Encoding]:
    """tiktoken's own idea of cl100k and o200k, from its own cache; of Qwen, its maker's pattern over the same ranks."""
    cache = tmp_path_factory.mktemp("tiktoken")
    for name in ("cl100k", "o200k"):
        source = f"https://openaipublic.blob.core.windows.net/encodings/{name}_base.tiktoken"
        os.symlink(FOLDER / BUNDLED[name].file, cache / hashlib.sha1(source.encode()).hexdigest())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(cache))
        return {name: tiktoken.Encoding(**getattr(openai_public, f"{name}_base")()) for name in ("cl100k", "o200k")}


@pytest.fixture(scope="module", params=list(BUNDLED))
def bundled(request):
    return load(request.param, Path())


@pytest.mark.parametrize("name", ["cl100k", "o200k"])
@pytest.mark.parametrize("kind", list(TEXTS))
def test_counts_equal_tiktokens_over_the_whole_uncut_text(reference, name, kind):
    text = TEXTS[kind]()
    assert len(text) > 2 * (PIECE + WINDOW) or kind == "prose"
    assert load(name, Path()).count(text) == len(reference[name].encode(text, disallowed_special=()))


@pytest.mark.parametrize("kind", list(TEXTS))
def test_pieces_count_together_what_the_text_counts(bundled, kind, monkeypatch):
    text = TEXTS[kind]()[:150_000]
    whole = len(bundled._encoding.encode_ordinary(text))
    monkeypatch.setattr(cutting, "PIECE", 150)
    monkeypatch.setattr(cutting, "WINDOW", 1000)
    cut = list(pieces(text))
    assert "".join(cut) == text and len(cut) > 300
    assert bundled.count(text) == whole


@settings(max_examples=400, deadline=None)
@given(text=st.text(st.sampled_from(TRICKY) | st.characters(exclude_categories=["Cs"]), max_size=40))
def test_a_place_is_safe_whatever_surrounds_it(bundled, text):
    whole = bundled.count(text)
    for place in cutting._PLACE.finditer(text):
        assert bundled.count(text[: place.start()]) + bundled.count(text[place.start() :]) == whole


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.characters(), max_size=300))
def test_no_text_raises_and_no_token_is_longer_than_the_longest(bundled, text):
    tokens, size = bundled.count(text), len(text.encode(errors="replace"))
    assert size / bundled.longest / 3 <= tokens <= max(bundled.growth) * size


@pytest.mark.parametrize("name", list(HOSTILE))
def test_hostile_texts_take_little_time(bundled, name):
    text = HOSTILE[name]
    start = time.process_time()
    tokens = bundled.count(text)
    assert tokens >= len(text) // bundled.longest // 2
    assert time.process_time() - start < 2.0


def test_time_grows_with_the_text_and_no_faster(bundled):
    def spent(text: str) -> float:
        start = time.process_time()
        bundled.count(text)
        return time.process_time() - start

    for letter in " a":
        assert spent(letter * 1_600_000) < 8 * max(min(spent(letter * 400_000) for _ in range(2)), 0.02)


def test_tiktoken_itself_breaks_on_what_we_count(bundled):
    """When this fails, tiktoken has become better and pieces.py may be wanted less."""
    with pytest.raises(BaseException, match="StackOverflow"):
        bundled._encoding.encode_ordinary(" " * 1_000_000 + "x")


def test_a_panic_of_the_library_becomes_a_guess_and_an_interrupt_stays_one(bundled):
    class Broken:
        def __init__(self, error: BaseException) -> None:
            self.error = error

        def encode_ordinary(self, text: str) -> list[int]:
            raise self.error

    class PanicException(BaseException):
        pass

    tokenizer = load("qwen", Path())
    tokenizer._encoding = Broken(PanicException("StackOverflow"))  # type: ignore[attr-defined]
    assert tokenizer.count("x" * 400) == 100
    tokenizer._encoding = Broken(KeyboardInterrupt())  # type: ignore[attr-defined]
    with pytest.raises(KeyboardInterrupt):
        tokenizer.count("x")


def test_special_tokens_are_text(bundled):
    assert bundled.count("<|endoftext|>") > 3
    assert bundled.count("<|im_end|>") > 3


def test_qwen_composes_what_is_written_apart_and_counts_each_digit():
    qwen = load("qwen", Path())
    assert qwen.count("e\u0301te\u0301") == qwen.count("été")
    assert qwen.count("1234567") == 7
    assert load("cl100k", Path()).count("1234567") == 3
    assert qwen.count("Ａ\u30ab\u3099") == qwen.count("Ａガ")


@pytest.mark.parametrize("name", list(BUNDLED))
def test_a_file_of_ranks_gets_the_pattern_of_its_kind(tmp_path, name):
    (tmp_path / "mine.tiktoken").write_bytes((FOLDER / BUNDLED[name].file).read_bytes())
    mine, known, text = load("mine.tiktoken", tmp_path), load(name, Path()), code()[:50_000] + chinese()[:5_000] + "1234567 É\u0301"
    assert mine.count(text) == known.count(text)
    assert (mine.longest, mine.growth) == (known.longest, known.growth) == (BUNDLED[name].longest, NFC if name == "qwen" else Growth())


# -- tokenizer.json ---------------------------------------------------------------------------------------------------


def trained(folder: Path, **parts) -> Path:
    """A small tokenizer.json of the usual kind, made on the spot."""
    tokenizer = Loaded(models.BPE())
    tokenizer.pre_tokenizer = parts.get("pre", pre_tokenizers.ByteLevel(add_prefix_space=False))
    if "normalizer" in parts:
        tokenizer.normalizer = parts["normalizer"]
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=2_000, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([prose(), chinese()[:20_000]], trainer)
    tokenizer.enable_truncation(512)
    tokenizer.enable_padding(length=512)
    path = folder / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.fixture(scope="module")
def huggingface(tmp_path_factory) -> Path:
    return trained(tmp_path_factory.mktemp("hf"))


@pytest.mark.parametrize("kind", list(TEXTS))
def test_a_tokenizer_json_counts_what_tokenizers_counts_over_the_uncut_text(huggingface, kind):
    plain = Loaded.from_file(str(huggingface))
    plain.no_truncation()
    plain.no_padding()
    plain.encode_special_tokens = True
    text = TEXTS[kind]()
    assert load(huggingface.name, huggingface.parent).count(text) == len(plain.encode(text, add_special_tokens=False).ids)


def test_a_tokenizer_json_neither_truncates_nor_pads_nor_knows_special_tokens_in_texts(huggingface):
    tokenizer = load(str(huggingface), Path())
    assert tokenizer.count("a b") <= 3
    assert tokenizer.count("word " * 2_000) > 1_000
    assert tokenizer.count("<|im_end|>") > 3
    assert tokenizer.longest > 1 and tokenizer.growth == Growth()


@pytest.mark.parametrize("name", list(HOSTILE))
def test_hostile_texts_take_little_time_with_a_tokenizer_json(huggingface, name):
    start = time.process_time()
    assert load(str(huggingface), Path()).count(HOSTILE[name]) > 100
    assert time.process_time() - start < 6.0


def test_what_a_tokenizer_json_does_to_texts_decides_how_its_tokens_are_bounded(tmp_path):
    def facts(**parts):
        tokenizer = load(str(trained(tmp_path, **parts)), Path())
        return tokenizer.longest > 0, tokenizer.growth

    assert facts(normalizer=normalizers.NFC()) == (True, NFC)
    assert facts(normalizer=normalizers.Sequence([])) == (True, Growth())
    assert facts(normalizer=normalizers.NFKC()) == (False, UNKNOWN)
    assert facts(pre=pre_tokenizers.Metaspace()) == (False, UNKNOWN)
    assert facts(pre=pre_tokenizers.ByteLevel(add_prefix_space=True)) == (False, UNKNOWN)
    split = pre_tokenizers.Split(" ", "isolated")
    assert facts(pre=pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False)])) == (True, Growth())
    assert facts(pre=pre_tokenizers.Whitespace()) == (False, Growth())


def test_a_panic_in_tokenizers_becomes_a_guess(huggingface):
    class PanicException(BaseException):
        pass

    class Broken:
        def encode_batch_fast(self, texts, add_special_tokens):
            raise PanicException

    tokenizer = HuggingFace(huggingface.read_bytes())
    tokenizer._tokenizer = Broken()
    assert tokenizer.count("x" * 400) == 100


# -- the shelf --------------------------------------------------------------------------------------------------------


def test_a_file_is_loaded_once_and_anew_when_it_has_changed(tmp_path):
    file = trained(tmp_path)
    shelf = Shelf(tmp_path)
    first = shelf.get(file.name)
    assert shelf.get(file.name) is first
    os.utime(file, ns=(1, 1))
    second = shelf.get(file.name)
    assert second is not first
    shelf.keep({"other"})
    assert shelf.get(file.name) is not second


@pytest.mark.parametrize(
    "model",
    [
        {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b"]]},
        {"type": "Unigram", "vocab": {"a": 0}},
        {"type": "BPE", "vocab": {"a": "b"}, "merges": []},
    ],
)
def test_a_file_that_tokenizers_cannot_read_is_unusable_and_no_more(tmp_path, model):
    (tmp_path / "t.json").write_text(json.dumps({"model": model, "added_tokens": []}))
    with pytest.raises(Unusable, match=r"^t\.json: "):
        load("t.json", tmp_path)


def test_nothing_is_imported_before_a_model_needs_it():
    script = (
        "import sys, gateway.tokens.counter, gateway.tokens.ask_engine; print([n for n in ('tiktoken', 'tokenizers') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() == "[]", done.stderr

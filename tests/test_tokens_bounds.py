"""gateway/tokens/bounds.py and total.py: the bounds hold for whatever a caller may send, and decide small prompts without a count."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from gateway.config.tokenizers import BUNDLED
from gateway.route.ask import Ask
from gateway.tokens import total as totals
from gateway.tokens.bounds import NFC, SMALL, START, TURN, Growth, bounds, estimate, undecided
from gateway.tokens.total import measure, total
from gateway.tokens.vocabulary import load

TEXT = st.text(st.characters() | st.sampled_from(' \n"\\{}aeＡ한\u1112\u1161\u11ab\u0301\u0344\u212b\u0958\ufb2c\U0001d160<|'), max_size=60)
PART = st.fixed_dictionaries({"type": st.just("text"), "text": TEXT})
IMAGE = st.fixed_dictionaries({"type": st.just("image_url"), "image_url": st.fixed_dictionaries({"url": TEXT})})
CALL = st.fixed_dictionaries({"id": TEXT, "function": st.fixed_dictionaries({"name": TEXT, "arguments": TEXT})})
MESSAGE = st.fixed_dictionaries(
    {},
    optional={"role": TEXT, "content": TEXT | st.none() | st.lists(PART | IMAGE, max_size=3), "tool_calls": st.lists(CALL, max_size=2)},
)
TOOL = st.fixed_dictionaries({"type": st.just("function"), "function": st.fixed_dictionaries({"name": TEXT, "description": TEXT})})
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "messages": st.lists(MESSAGE, max_size=8),
        "tools": st.lists(TOOL, max_size=2),
        "prompt": TEXT | st.lists(TEXT, max_size=3) | st.lists(st.integers(0, 9), max_size=9) | st.lists(st.lists(st.integers(0, 9))),
        "input": TEXT | st.lists(TEXT, max_size=3) | st.integers(),
        "query": TEXT,
        "documents": st.lists(TEXT, max_size=3),
        "text_1": TEXT | st.lists(TEXT, max_size=3),
        "text_2": TEXT | st.lists(TEXT, max_size=3),
    },
)


def asked(fields: dict[str, object], *, ascii: bool = False, indent: int | None = None) -> Ask:
    made = {name: Raw(json.dumps(value, ensure_ascii=ascii, indent=indent).encode(errors="replace")) for name, value in fields.items()}
    return Ask(api="chat", model="m", fields=made)


def said(*texts: str) -> Ask:
    return asked({"messages": [{"role": "user", "content": text} for text in texts]})


@pytest.fixture(scope="module", params=list(BUNDLED))
def tokenizer(request):
    return load(request.param, Path())


@settings(max_examples=600, deadline=None)
@given(fields=FIELDS, ascii=st.booleans(), indent=st.sampled_from([None, 0, 2]))
def test_a_count_lies_between_its_bounds(tokenizer, fields, ascii, indent):
    ask = asked(fields, ascii=ascii, indent=indent)
    least, most = bounds(ask, tokenizer.longest, tokenizer.growth)
    assert 0 <= least <= total(ask, tokenizer) <= most


@settings(max_examples=60, deadline=None)
@given(text=st.text(min_size=1, max_size=40), times=st.integers(60, 4_000), ascii=st.booleans())
def test_bounds_hold_for_long_prompts(tokenizer, text, times, ascii):
    ask = asked({"messages": [{"role": "user", "content": text * times}, {}, {"content": text}]}, ascii=ascii)
    least, most = bounds(ask, tokenizer.longest, tokenizer.growth)
    assert least <= total(ask, tokenizer) <= most


@pytest.mark.parametrize("text", ["\U0001d160", "\u0958", "\ufb2c", "\u0344", "\u1112\u1161\u11ab", "한글", "\0", "👩🏽‍💻", "\u212a"])
@pytest.mark.parametrize("ascii", [True, False])
@pytest.mark.parametrize("times", [1, 100, 20_000])
def test_bounds_hold_for_what_normalising_makes_longer_or_shorter(tokenizer, text, ascii, times):
    ask = asked({"prompt": text * times}, ascii=ascii)
    least, most = bounds(ask, tokenizer.longest, tokenizer.growth)
    assert least <= total(ask, tokenizer) <= most


@pytest.mark.parametrize("message", ["{}", '{"content":""}', '{"content":"a"}', '{"role":"user","content":"a b"}'])
@pytest.mark.parametrize("many", [1, 100, 30_000])
def test_bounds_hold_for_many_small_messages(tokenizer, message, many):
    ask = Ask(api="chat", model="m", fields={"messages": Raw(f"[{','.join([message] * many)}]".encode())})
    least, most = bounds(ask, tokenizer.longest, tokenizer.growth)
    assert least <= total(ask, tokenizer) <= most


def test_bounds_hold_where_nothing_can_be_decoded(tokenizer):
    for raw in (b'[{"role":"user","content":"a\\ud800b"}]', b'[{"role":5}]', b'{"a":1}', b'"x"', b"[" * 5_000 + b"]" * 5_000):
        ask = Ask(api="chat", model="m", fields={"messages": Raw(raw)})
        least, most = bounds(ask, tokenizer.longest, tokenizer.growth)
        assert least <= total(ask, tokenizer) <= most and total(ask, tokenizer) == estimate(ask)


def test_a_kilobyte_is_decided_without_a_count_or_a_decoder(monkeypatch):
    ask = said("word " * 200)
    monkeypatch.setattr(Ask, "texts", property(lambda _: pytest.fail("decoded")))
    for growth in (Growth(), NFC):
        least, most = bounds(ask, 128, growth)
        assert least == 0 and most < 1_200
        assert not undecided([30_000, 2_000], least, most)


def test_long_prompts_are_bounded_by_their_size_alone(monkeypatch):
    ask = said("word " * SMALL)
    monkeypatch.setattr(Ask, "texts", property(lambda _: pytest.fail("decoded")))
    size = ask.prompt_bytes
    assert bounds(ask, 128, Growth()) == (0, 2 * size + START)
    assert bounds(ask, 128, NFC) == (0, 3 * size + START)


def test_the_bounds_are_as_tight_as_they_can_cheaply_be():
    ask = said(" " * 12_800)
    assert bounds(ask, 128, Growth()) == (100, ask.prompt_bytes + TURN + START)
    assert bounds(asked({"prompt": "é" * 4_000}, ascii=True), 128, NFC) == (4_000 // 256, 2 * 24_002 + 3)
    assert bounds(asked({"prompt": "é" * 4_000}), 128, NFC) == (4_000 // 256, 3 * 8_002 + 3)
    assert bounds(asked({"prompt": "é" * 4_000}), 128, Growth()) == (4_000 // 128, 8_002 + 3)


def test_undecided_is_a_limit_that_may_be_passed_or_not():
    assert undecided([10], 5, 11) and undecided([10], 10, 11) and undecided([1, 10], 10, 11)
    assert not undecided([10], 5, 10) and not undecided([10], 11, 20) and not undecided([], 0, 99)


# -- the number that stands in for a count ----------------------------------------------------------------------------


@pytest.mark.parametrize("ascii", [True, False])
def test_the_estimate_is_near_for_prose_and_chinese(tokenizer, ascii):
    prose = (Path(__file__).parents[1] / "docs/architecture.md").read_text()
    chinese = "网关把请求交给合适的引擎，每个词元只计一次；出了故障，就换一个目标再试，直到成功为止。" * 100
    for text in (prose, chinese):
        ask = asked({"messages": [{"role": "user", "content": text}]}, ascii=ascii)
        assert 0.6 < estimate(ask) / total(ask, tokenizer) < 1.5


def test_images_weigh_nothing(tokenizer):
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "iVBORw0KGgo" * 50_000}}
    ask = asked({"messages": [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]}]})
    assert total(ask, tokenizer) == 4 + TURN + START
    assert estimate(ask) < 20
    alone = asked({"messages": [{"role": "user", "content": [image]}]})
    assert total(alone, tokenizer) == TURN + START and estimate(alone) == TURN + START


# -- what is counted --------------------------------------------------------------------------------------------------


def test_texts_tools_calls_and_the_template_are_counted(tokenizer):
    count = tokenizer.count
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "北京"}'}}
    ask = asked(
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "How is it"}, {"type": "text", "text": "in Peking?"}]},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "content": "sunny"},
            ],
            "tools": tools,
            "max_tokens": 5,
            "user": "somebody " * 100,
        }
    )
    texts = ["Be brief.", "How is it", "in Peking?", "sunny", "weather", '{"city": "北京"}', json.dumps(tools)]
    assert total(ask, tokenizer) == sum(map(count, texts)) + 4 * TURN + START


def test_prompts_of_other_apis_have_no_template(tokenizer):
    assert total(asked({"prompt": "one two"}), tokenizer) == tokenizer.count("one two")
    assert total(asked({"input": ["one", "two three"]}), tokenizer) == tokenizer.count("two three"), "the longest, not the sum"
    ranked = asked({"query": "one", "documents": ["two", {"text": "three and four"}]})
    assert total(ranked, tokenizer) == tokenizer.count("one\nthree and four")
    scored = asked({"text_1": "one", "text_2": ["two", "three and four"]})
    assert total(scored, tokenizer) == tokenizer.count("one\nthree and four") and estimate(scored) == len("one\nthree and four") // 4
    paired = asked({"text_1": ["one", "five six"], "text_2": ["three and four", "two"]})
    assert total(paired, tokenizer) == tokenizer.count("one\nthree and four")


def test_a_long_query_before_many_documents_takes_no_more_memory_than_may_count():
    ask = asked({"query": "q" * 1_000_000, "documents": [str(number) for number in range(1_000)]})
    assert sum(map(len, ask.units)) < 10_000_000 and ask.units[0].endswith("\n100")


def test_token_ids_are_what_they_are(tokenizer):
    assert total(asked({"prompt": [5, 6, 7]}), tokenizer) == 3
    assert total(asked({"prompt": [[5, 6, 7], [8]]}), tokenizer) == 3
    assert total(asked({"input": [[1] * 1_000]}), tokenizer) == 1_000


class Slow:
    """Says one token for each character, and how many it has seen."""

    def __init__(self) -> None:
        self.seen = 0

    def count(self, text: str) -> int:
        self.seen += len(text)
        return len(text)


def test_past_enough_the_rest_is_only_estimated():
    slow = Slow()
    ask = said("x" * 1_000_000)
    assert total(ask, slow, enough=30_000) == 1_000_000 + TURN + START
    assert 30_000 < slow.seen < 100_000
    slow.seen = 0
    assert total(ask, slow, enough=2_000_000) == 1_000_000 + TURN + START and slow.seen == 1_000_000


def test_sure_are_the_texts_that_were_counted(tokenizer, monkeypatch):
    count, slow = tokenizer.count, Slow()
    assert measure(said("one two"), tokenizer) == (count("one two") + TURN + START, count("one two"))
    calls = [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}, {"role": "user", "content": "one two"}]
    ask = asked({"messages": calls, "tools": [{"type": "function"}]})
    assert measure(ask, tokenizer).sure == count("one two") < measure(ask, tokenizer).tokens - 2 * TURN - START
    assert measure(asked({"prompt": [[5, 6], [7]]}), tokenizer) == (2, 2)
    assert measure(said("x" * 1_000_000), slow, enough=30_000) == (1_000_000 + TURN + START, slow.seen)
    for raw in (b'[{"role":null,"content":"one two three"}]', b'[{"content":"one\\ud800"}]'):
        ask = Ask(api="chat", model="m", fields={"messages": Raw(raw)})
        assert measure(ask, tokenizer) == (estimate(ask), 0)
    monkeypatch.setattr(totals, "READ", 10)
    assert measure(said("word " * 1_000), tokenizer).sure == 0


@settings(max_examples=200, deadline=None)
@given(fields=FIELDS)
def test_never_more_is_sure_than_there_is(tokenizer, fields):
    found = measure(asked(fields), tokenizer)
    assert 0 <= found.sure <= found.tokens


def test_one_who_has_left_is_not_counted_for_any_longer():
    slow = Slow()
    total(said("x" * 1_000_000), slow, stopped=lambda: slow.seen > 200_000)
    assert slow.seen < 300_000


def test_prompts_without_end_cost_no_more_than_long_ones(monkeypatch):
    monkeypatch.setattr(totals, "EXACT", 100_000)
    slow = Slow()
    assert total(said("x" * 1_000_000), slow) == 1_000_000 + TURN + START and slow.seen < 200_000
    monkeypatch.setattr(totals, "READ", 1_000)
    assert total(said("word " * 1_000), slow) == (5_000 + 33) // 4
    monkeypatch.undo()
    monkeypatch.setattr(totals, "MESSAGES", 10)
    ask = said(*["a"] * 20)
    monkeypatch.setattr(Ask, "texts", property(lambda _: pytest.fail("decoded")))
    assert total(ask, slow) == estimate(ask)

"""The three transforms on what engines really send, at every split; splice must say what decode says."""

import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.engine.family import DIALECTS
from gateway.wire.openai import parse_object
from gateway.wire.sse import LIMIT
from gateway.wire.stream import KINDS, transform, transform_for
from gateway.wire.tally import choices_of_each, several_of_one
from gateway.wire.usage import usage_of
from tests.fixtures.engines import (
    ERROR_EVENTS,
    LLAMA,
    MINDIE,
    MINDIE_CUT,
    MINDIE_TWO,
    OPENAI,
    SGLANG,
    STREAMS,
    VLLM_013_BOTH,
    VLLM_033,
    VLLM_CONTINUOUS,
    VLLM_TOOLS,
    VLLM_TWO,
)

WANTS = [(False, False), (True, False), (True, True)]
REASONING = ["reasoning_content", "reasoning", "thinking"]


def make(kind="splice", dialect="vllm", usage=False, continuous=False, reasoning="reasoning_content", model="virtual", rename=True):
    return transform(
        kind, model=model, wants_usage=usage, wants_continuous=continuous, reasoning=reasoning, event=DIALECTS[dialect].event, rename=rename
    )


def arrive(stream, pieces):
    """What the caller gets of pieces that arrive at once, each as a chunk of its own."""
    shown = stream.feed_framed(b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces))
    return stream.feed_all(pieces) if shown is None else shown


def run(stream, text, per=1, together=1):
    """All that the caller gets when `per` events are in a piece and `together` pieces arrive at once."""
    data = text.encode() if isinstance(text, str) else text
    events = [event + b"\n\n" for event in data.split(b"\n\n")]
    events[-1] = events[-1][:-2]
    feeds = [b"".join(events[at : at + per]) for at in range(0, len(events), per)]
    return b"".join([*(arrive(stream, feeds[at : at + together]) for at in range(0, len(feeds), together)), stream.flush()])


def messages(out):
    assert out == b"" or out.endswith(b"\n\n")
    found = [event for event in out.decode().split("\n\n") if event]
    assert all(event.startswith("data: ") for event in found)
    return [json.loads(event[6:]) for event in found]


def state(stream):
    error = stream.error
    counts = json.loads(stream.tally.usage or b"null")
    return stream.committed, stream.done, stream.finished, error, stream.broken, stream.broken_text, counts, stream.tally.events


def deltas(shown):
    return [choice["delta"] for message in shown for choice in message["choices"]]


@pytest.mark.parametrize("reasoning", REASONING)
@pytest.mark.parametrize(("usage", "continuous"), WANTS)
@pytest.mark.parametrize("name", STREAMS)
def test_splice_says_what_decode_says_and_nothing_of_the_engine_leaks(name, usage, continuous, reasoning):
    dialect, text = STREAMS[name]
    slow = make("decode", dialect, usage, continuous, reasoning)
    expected = messages(run(slow, text))
    for per in (1, 3, 1000):
        quick = make("splice", dialect, usage, continuous, reasoning)
        assert messages(run(quick, text, per)) == expected
        assert state(quick) == state(slow)
    assert all(message["model"] == "virtual" for message in expected)
    assert "qwen3" not in json.dumps(expected)
    if not usage:
        assert all(message["choices"] and "usage" not in message for message in expected)
    elif slow.done and slow.tally.usage:
        assert expected[-1]["choices"] == [] and expected[-1]["usage"] == json.loads(slow.tally.usage)
        assert sum(not message["choices"] for message in expected) == 1
    if not continuous:
        assert all("usage" not in message for message in expected if message["choices"])
    for delta in deltas([message for message in expected if "delta" in (message["choices"] or [{}])[0]]):
        assert not {"reasoning", "reasoning_content", "thinking"} - {reasoning} & delta.keys()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", STREAMS)
def test_every_split_gives_the_same_output(name, kind):
    dialect, text = STREAMS[name]
    data = text.encode()
    whole = make(kind, dialect, usage=True)
    expected = whole.feed(data) + whole.flush()
    single = make(kind, dialect, usage=True)
    assert b"".join(single.feed(data[at : at + 1]) for at in range(len(data))) + single.flush() == expected
    assert state(single) == state(whole)
    for at in range(0, len(data), 7):
        halves = make(kind, dialect, usage=True)
        assert halves.feed(data[:at]) + halves.feed(data[at:]) + halves.flush() == expected
    crlf = make(kind, dialect, usage=True)
    assert crlf.feed(data.replace(b"\n", b"\r\n")) + crlf.flush() == expected


@pytest.mark.parametrize("name", STREAMS)
def test_none_gives_events_as_they_came(name):
    dialect, text = STREAMS[name]
    stream, judge = make("none", dialect), make("decode", dialect)
    out = run(stream, text)
    run(judge, text)
    whole = text.encode().partition(b"data: [DONE]")[0]
    assert whole.startswith(out) and (out == whole or stream.broken)
    told = usage_of(stream.tally.usage), stream.committed, stream.finished, stream.done, stream.tally.events
    assert told == (usage_of(judge.tally.usage), judge.committed, judge.finished, judge.done, judge.tally.events)


TEXTS = st.one_of(
    st.text(max_size=30),
    st.lists(
        st.sampled_from(
            [
                '"usage":{"x',
                '"model":"qwen3"',
                "\\",
                '"',
                "}]}",
                '"},"logprobs":null',
                "\n\n",
                "data: [DONE]",
                "\u2028",
                "é",
                "你",
                "😀",
                "\ue000text\ue000",
            ]
        ),
        max_size=5,
    ).map("".join),
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["content", "reasoning", "reasoning_content", "arguments", "text"]), TEXTS, st.integers(0, 2)),
        max_size=14,
    ),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from(WANTS),
    st.sampled_from(["vllm", "sglang", "mindie", "openai"]),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_splice_equals_decode_whatever_the_text(parts, ascii, spaced, with_usage, wants, dialect, per, together):
    lines = []
    for number, (field, text, index) in enumerate(parts):
        holder = (
            {"tool_calls": [{"index": 0, "id": None, "function": {"name": None, "arguments": text}}]}
            if field == "arguments"
            else {field: text}
        )
        choice = {"index": index, "finish_reason": None}
        choice |= holder if field == "text" else {"delta": holder}
        event = {
            "id": "x",
            "created": 5 + number // 5,
            "model": "qwen3",
            "choices": [choice],
            "metadata": {"model": "m", "usage": {"a": 1}},
        }
        if with_usage:
            event["usage"] = {"prompt_tokens": 3, "completion_tokens": number, "prompt_tokens_details": {"cached_tokens": number * 7}}
        if number % 7 == 6:
            event["kv_transfer_params"] = None
        lines.append(json.dumps(event, ensure_ascii=ascii, separators=(", ", ": ") if spaced else (",", ":")))
    data = "".join(f"data: {line}\n\n" for line in lines).encode()
    slow, quick = make("decode", dialect, *wants), make("splice", dialect, *wants)
    assert messages(run(quick, data, per, together)) == messages(run(slow, data, per))
    assert state(quick) == state(slow)


@pytest.mark.parametrize("damage", [b"\xff", b"\xe4\xbd", b'"', b"\\", b"\x01", b"}", b"0", b",", b"\r", b"\n"])
def test_splice_equals_decode_on_damaged_events(damage):
    events = VLLM_CONTINUOUS.encode().split(b"\n\n")
    head, hurt = b"\n\n".join(events[:6]), events[6] + b"\n\n"
    for at in range(len(hurt)):
        data = hurt[:at] + damage + hurt[at + len(damage) :]
        slow, quick = make("decode"), make("splice")
        slow.feed(head + b"\n\n"), quick.feed(head + b"\n\n")
        assert messages(quick.feed(data)) == messages(slow.feed(data))
        quick.flush(), slow.flush()
        assert state(quick) == state(slow)
        slow, quick = make("decode"), make("splice")
        pieces = [*(event + b"\n\n" for event in events[:6]), data, events[7] + b"\n\n"]
        for first in (6, 5):
            assert messages(arrive(quick, pieces[:first]) + arrive(quick, pieces[first:])) == messages(b"".join(map(slow.feed, pieces)))
            assert state(quick) == state(slow)
            slow, quick = make("decode"), make("splice")


@pytest.mark.parametrize("end", [b"\xff", b"\\x", b"\x01", b"\xe4\xbd", b"\\", "é".encode(), b"\\n", b""])
def test_a_long_text_is_looked_at_to_its_end(end):
    text = b"y" * 4096 + end
    event = b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n'
    slow, quick = make("decode"), make("splice")
    pieces = [event % b"x", event % b"x", event % text]
    assert messages(arrive(quick, pieces[:2]) + arrive(quick, pieces[2:])) == messages(b"".join(map(slow.feed, pieces)))
    assert state(quick) == state(slow)


TRAPS = [
    '{"note":{"content":"%d"},"choices":[{"index":0,"delta":{"content":"1"}}],"model":"qwen3"}',
    '{"note":{"content":"x"},"choices":[{"index":0,"delta":{"content":"%d"}}],"model":"qwen3"}',
    '{"usage":{},"choices":[{"index":0,"delta":{"content":"%d"}}],"model":"qwen3"}',
    '{"usage":{"a":%d},"usage":{"a":1},"choices":[{"index":0,"delta":{"content":"x"}}],"model":"qwen3"}',
    '{"choices":[{"index":0,"delta":{"content":"%d"}}],"usage":{"a":1},"x":{"usage":{"a":1}},"model":"qwen3"}',
    '{"choices":[{"index":0,"delta":{"content":"x","content":"%d"}}],"model":"qwen3","model":"qwen3"}',
    '{"choices":[{"index":0,"delta":{"content":"%d","content":"x"}}],"model":"qwen3","choices":[{"index":0,"delta":{"content":"y"}}]}',
    '{"choices":[{"index":0,"delta":{"reasoning":"x","reasoning_content":"%d","content":"y"}}],"model":"qwen3"}',
    '{"choices":[{"index":0,"delta":{"content":"%d","refusal":"no"}}],"usage":{"completion_tokens":%d,"batch_size":[1]},"full_text":"x"}',
    '{"choices":[{"index":0,"delta":{"content":"x"}}],"usage":{"completion_tokens":%d,"rate":1.5,"n":"7"}}',
    '{"choices":[{"index":0,"delta":{"content":"x"}}],"usage":{"completion_tokens":%d,"long":123456789012345678901234567890}}',
    '{"choices":[{"index":0,"delta":{"content":"x"}}],"usage":{"completion_tokens":7,"p%d":1,"%d":2}}',
    '{"choices":[{"index":0,"delta":{"content":"x"}}],"usage":{"completion_tokens":%d,"note":"at %d, or"}}',
    '{"choices":[{"index":0,"delta":{"content":"\\n%d\\"}}],\\"usage\\":"}}],"usage":{"a":%d}}',
    '{"choices":[{"index":"0","delta":{"content":"%d"}}],"usage":{"a":%d}}',
    '{"choices":[{"index":[0],"delta":{"content":"%d"}},5],"usage":{"a":%d}}',
    '{"choices":[{"index":0,"delta":{"content":["%d"],"text":"x"}}],"usage":[%d]}',
    '{"choices":[{"index":0,"delta":{"content":"%d"},"logprobs":{"content":[{"token":"%d"}]}}]}',
    '{"choices":[{"index":0,"delta":{"content":"a\\\\"}}],"x":"%d"}',
    '{"choices":[{"index":0,"delta":{"content":"\ue000text\ue000"}}],"x":"\ue000text\ue000","usage":{"\ue000":"\ue000usage\ue000"}}',
]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(("usage", "continuous"), WANTS)
@pytest.mark.parametrize("trap", TRAPS)
def test_splice_is_not_fooled_by_look_alikes(trap, usage, continuous, dialect):
    data = "".join(f"data: {trap.replace('%d', str(number))}\n\n" for number in range(12)).encode()
    slow, quick = make("decode", dialect, usage, continuous), make("splice", dialect, usage, continuous)
    assert messages(run(quick, data)) == messages(run(slow, data))
    assert state(quick) == state(slow) and slow.broken is None


@pytest.mark.parametrize("per", [1, 2, 5])
@pytest.mark.parametrize("strange", ["05", "", "1e3", "-5", "1.5", "1 2", "12345678901234567890", "1234567890123456789012"])
def test_numbers_of_a_usage_are_numbers_also_when_they_are_as_long_as_others(strange, per):
    lines = ['{"choices":[{"index":0,"delta":{"content":"x"}}],"usage":{"completion_tokens":%s,"total_tokens":100}}'] * 6
    numbers = ["10", "11", "12", "13", strange, "14"]
    data = "".join(f"data: {line % number}\n\n" for line, number in zip(lines, numbers, strict=True)).encode()
    slow, quick = make("decode"), make("splice")
    assert messages(run(quick, data, per)) == messages(run(slow, data, per))
    assert state(quick) == state(slow)


def test_usage_of_one_choice_after_a_total_counts_again():
    stream = make()
    stream.feed(b'data: {"choices":[],"usage":{"completion_tokens":1}}\n\n')
    stream.feed(b'data: {"choices":[{"index":0,"delta":{"content":"x"}}],"usage":{"completion_tokens":2}}\n\n')
    assert usage_of(stream.tally.usage).completion_tokens == 2


def test_splice_learns_each_form_once_and_then_pastes():
    stream = make()
    run(stream, VLLM_CONTINUOUS)
    assert len(stream._templates) == 2  # reasoning and content
    assert stream._tried == 2


def test_whole_chunks_of_one_form_are_taken_as_they_are_and_others_are_left_untouched():
    stream = make()
    form = (
        VLLM_CONTINUOUS.split("\n\n")[4]
        .replace("word 4", "word %d")
        .replace('_tokens":9', '_tokens":%d')
        .replace('_tokens":4', '_tokens":%d')
    )
    events = [(form % (number, 5 + number, number)).encode() + b"\n\n" for number in range(3, 12)]
    chunks = [b"%x\r\n%b\r\n" % (len(event), event) for event in events]
    assert stream.feed_framed(chunks[0]) is None  # no form is known yet
    stream.feed_all(events[:3])
    before = state(stream)
    for other in (
        b"",
        b"".join(events[3:5]),
        chunks[3][:-1],
        chunks[3] + chunks[4][:9],
        chunks[3] + b"0\r\n\r\n",
        chunks[3].replace(b"\r\n", b";a=b\r\n", 1),
        b"%x\r\n%b\r\n" % (2 * len(events[3]), 2 * events[3]),
        b"%x\r\n%b\r\n%b" % (len(events[3]) + len(chunks[4]), events[3], chunks[4]),  # one chunk, whose body looks like two
        chunks[3] + b"e\r\ndata: [DONE]\n\n\r\n",
        chunks[3].replace(b"\n\n\r\n", b"\n\r\n"),
    ):
        assert stream.feed_framed(other) is None
    assert state(stream) == before
    shown = messages(stream.feed_framed(b"".join(chunks[3:])))
    assert [delta["content"] for delta in deltas(shown)] == [f"word {number}" for number in range(6, 12)]
    assert json.loads(stream.tally.usage)["completion_tokens"] == 11
    assert state(stream)[-1] == before[-1] + 6


def test_a_form_is_not_searched_for_for_ever():
    stream = make()
    for number in range(400):
        stream.feed(b'data: {"id":"%d","choices":[{"index":0,"delta":{"content":"x"}}]}\n\n' % number)
    assert stream.tally.events == 400 and stream._tried <= 8


def test_of_a_stream_with_enormous_events_nothing_is_kept_for_the_next():
    event = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}],"pad":"%b"}\n\n' % (b"a" * 1_000_000)
    tracemalloc.start()
    try:
        stream = make()
        for _ in range(3):
            stream.feed(event)
        assert stream._templates
        del stream
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("event", "commits"),
    [
        ('{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}', False),
        ('{"choices":[{"index":0,"delta":{"role":"assistant","content":null,"tool_calls":[]},"finish_reason":null}]}', False),
        ('{"choices":[],"usage":{"prompt_tokens":1}}', False),
        ('{"choices":[{"index":0,"delta":{"reasoning_content":null},"finish_reason":""}]}', False),
        ('{"choices":[{"index":0,"text":"","finish_reason":null}]}', False),
        ('{"choices":[{"index":0,"delta":{"content":"x"}}]}', True),
        ('{"choices":[{"index":0,"delta":{"reasoning":"x"}}]}', True),
        ('{"choices":[{"index":0,"delta":{"reasoning_content":"x"}}]}', True),
        ('{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0}]}}]}', True),
        ('{"choices":[{"index":0,"delta":{"function_call":{"name":"f"}}}]}', True),
        ('{"choices":[{"index":0,"delta":{"refusal":"no"}}]}', True),
        ('{"choices":[{"index":0,"delta":{"audio":{"data":"x"}}}]}', True),
        ('{"choices":[{"index":0,"text":"x"}]}', True),
        ('{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}', True),
        ('{"choices":[{"index":0,"delta":{}},{"index":1,"delta":{"content":"x"}}]}', True),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_what_commits(event, commits, kind):
    stream = make(kind)
    stream.feed(f": comment\n\ndata: {event}\n\n".encode())
    assert stream.committed is commits


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ERROR_EVENTS)
def test_an_error_in_band_ends_the_stream_after_what_came_before_it(name, kind):
    before = VLLM_033.partition("data: [DONE]")[0]
    stream = make(kind)
    out = stream.feed(f"{before}data: {ERROR_EVENTS[name]}\n\ndata: [DONE]\n\n".encode())
    assert out and b"error" not in out and stream.feed(b"data: {}\n\n") == b"" and stream.flush() == b""
    assert stream.error is not None and "error" in stream.error and not stream.done and stream.broken is None
    assert DIALECTS["vllm"].event_failure(stream.error).message


@pytest.mark.parametrize(
    "event",
    [
        'error: {"code":500,"message":"bad"}',
        'event: error\ndata: {"message":"bad"}',
        'data: {"detail":"bad"}',
        'data: {"error":"bad","error_type":"x"}',
    ],
)
def test_other_forms_of_errors(event):
    stream = make(dialect="openai")
    assert stream.feed(f"{event}\n\n".encode()) == b""
    assert stream.error is not None and DIALECTS["openai"].event_failure(stream.error).message == "bad"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("tail", "what", "text"),
    [
        ("Engine callback timeout: server tokenTimeout", "text that is no event", b"Engine callback timeout: server tokenTimeout"),
        ("Engine callback timeout.\n\n", "text that is no event", b"Engine callback timeout."),
        ("Failed to get engine response\ndata: {}\n\n", "text that is no event", b"Failed to get engine response\ndata: {}"),
        ('data: {"choices":[{"delta":{"content":"cut', "the stream ended within an event", b'data: {"choices":[{"delta":{"content":"cut'),
        ("data: {garbage}\n\n", "data that is no JSON object", b"{garbage}"),
        ("data: [1]\n\n", "data that is no JSON object", b"[1]"),
        ('data: {"a":"\\x"}\n\n', "data that is no JSON object", b'{"a":"\\x"}'),
        ("<html>" + "x" * 600, "text that is no event", b"<html>" + b"x" * 494),
    ],
)
def test_bytes_that_are_no_events(tail, what, text, kind):
    before = VLLM_CONTINUOUS.partition("data: [DONE]")[0]
    clean, stream = make(kind), make(kind)
    expected = clean.feed(before.encode())
    out = stream.feed((before + tail).encode()) + stream.flush()
    assert out == expected and stream.broken == what and stream.broken_text == text and not stream.done and stream.error is None


@pytest.mark.parametrize("kind", ["splice", "decode"])
def test_null_says_nothing(kind):
    """llama.cpp begins so when it is asked several prompts at once."""
    clean, stream = make(kind, "openai"), make(kind, "openai")
    expected = clean.feed(VLLM_033.encode())
    assert stream.feed(b"data: null\n\n") == b"" and not stream.committed
    assert stream.feed(VLLM_033.encode()) == expected and stream.done and stream.broken is None


def test_an_end_without_done_is_seen():
    stream = make()
    stream.feed(VLLM_033.partition("data: [DONE]")[0].encode())
    assert stream.flush() == b"" and not stream.done and stream.broken is None and stream.finished
    stream = make()
    stream.feed(b"data: {}\n\n \n")
    assert stream.flush() == b"" and stream.broken is None
    stream = make()
    stream.feed(b": keep-al")
    assert stream.flush() == b"" and stream.broken is None


def test_done_without_its_blank_line_is_done():
    stream = make(dialect="mindie", usage=True)
    out = stream.feed(MINDIE.encode().rstrip()) + stream.flush()
    assert stream.done and messages(out)[-1]["choices"] == []


def test_an_error_object_without_its_blank_line_is_an_error():
    stream = make()
    stream.feed(b'data: {"error":{"message":"x","code":500}}')
    assert stream.flush() == b"" and stream.error == {"error": {"message": "x", "code": 500}}


def test_an_event_beyond_the_limit_breaks_the_stream():
    stream = make()
    stream.feed(b"data: {}\n\ndata: " + b"x" * LIMIT)
    assert stream.broken == f"an event is longer than {LIMIT} bytes"


def test_a_megabyte_in_one_event():
    stream = make()
    text = "x" * 1_000_000
    for _ in range(4):
        out = stream.feed(f'data: {{"model":"qwen3","choices":[{{"index":0,"delta":{{"content":"{text}"}}}}]}}\n\n'.encode())
        assert messages(out)[0]["choices"][0]["delta"]["content"] == text
    assert stream.tally.events == 4 and stream._templates


def test_mindie_usage_is_split_hidden_and_summed():
    stream = make("decode", "mindie", usage=True)
    shown = messages(run(stream, MINDIE))
    assert [message["choices"][0]["delta"].get("content") for message in shown[:-1]] == ["", "Hel", "l", "lo"]
    assert shown[-2]["choices"][0]["finish_reason"] == "length" and "full_text" not in shown[-2]
    assert shown[-1] == {
        "id": shown[0]["id"], "object": "chat.completion.chunk", "created": 1775112197, "model": "virtual", "choices": [],
        "usage": {"prompt_tokens": 24, "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens": 5, "total_tokens": 29},
    }  # fmt: skip
    stream = make("decode", "mindie", usage=True)
    shown = messages(run(stream, MINDIE_TWO))
    usage = {"prompt_tokens": 24, "prompt_tokens_details": {"cached_tokens": 8}, "completion_tokens": 12, "total_tokens": 36}
    assert json.loads(stream.tally.usage) == usage and shown[-1]["usage"] == usage and len(shown) == 5
    stream = make("decode", "mindie")
    run(stream, MINDIE_CUT)
    assert stream.broken_text == b"Engine callback timeout: server tokenTimeout" and not stream.done


def test_continuous_usage_of_several_choices_is_summed_until_the_total_comes():
    stream = make()
    run(stream, VLLM_TWO)
    assert usage_of(stream.tally.usage).completion_tokens == 9 and usage_of(stream.tally.usage).prompt_tokens == 5
    stream.feed(b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":10}}\n\n')
    assert usage_of(stream.tally.usage).completion_tokens == 9  # after [DONE] nothing counts


@pytest.mark.parametrize("per", [1, 2, 3])
@pytest.mark.parametrize("together", [1, 2, 3])
def test_usage_of_several_choices_does_not_depend_on_how_many_events_come_at_once(per, together):
    """Of a prompt's size that is told anew each time, the largest holds, wherever it is told."""
    told = [(0, 9), (0, 9), (0, 9), (1, 9), (1, 70), (1, 9), (1, 9), (1, 9), (0, 9), (0, 80), (0, 9)]
    line = '{"choices":[{"index":%d,"delta":{"content":"x"}}],"usage":{"prompt_tokens":%d,"completion_tokens":%d}}'
    data = "".join(f"data: {line % (index, prompt, number)}\n\n" for number, (index, prompt) in enumerate(told))
    slow, quick = make("decode"), make("splice")
    assert messages(run(quick, data, per, together)) == messages(run(slow, data))
    assert state(quick) == state(slow) and usage_of(quick.tally.usage).prompt_tokens == 80


def of_choice(index, prompt, completion):
    usage = {
        "prompt_tokens": prompt,
        "total_tokens": prompt + completion,
        "completion_tokens": completion,
        "details": {"reasoning_tokens": 1},
    }
    return b"data: " + json.dumps({"choices": [{"index": index, "text": "x"}], "usage": usage}).encode() + b"\n\n"


@pytest.mark.parametrize(
    ("asked", "prompt"),
    [
        ({"prompt": ["abc", "defg"], "n": 2}, 7),
        ({"prompt": [[1, 2, 3], [4, 5, 6, 7]], "n": 2}, 7),
        ({"prompt": "abc", "n": 4}, 4),
        ({"prompt": [1, 2, 3], "n": 4}, 4),
        ({"prompt": ["abc", "d", "e", "defg"], "n": None}, 14),
        ({"messages": [], "n": 4}, 4),
    ],
)
def test_prompts_of_one_request_are_summed_and_choices_of_one_prompt_share_it(asked, prompt):
    """As vLLM 0.32 tells it: each event has the counts of its own choice, and of that choice's own prompt."""
    stream = make()
    stream.tally.each = choices_of_each(parse_object(json.dumps(asked).encode()))
    for index, own, completion in ((0, 3, 1), (2, 4, 1), (3, 4, 1), (0, 3, 2), (1, 3, 1), (1, 3, 5)):
        stream.feed(of_choice(index, own, completion))
    told = json.loads(stream.tally.usage)
    assert (told["prompt_tokens"], told["completion_tokens"], told["total_tokens"]) == (prompt, 9, prompt + 9)
    assert told["details"] == {"reasoning_tokens": 4}


def ends_of(*told):
    """Two choices: `1` and `0` are their ends, a pair of numbers is an event with usage alone."""
    for each in told:
        usage = isinstance(each, tuple)
        choices = [] if usage else [{"index": each, "delta": {}, "finish_reason": "stop"}]
        counts = {"usage": {"prompt_tokens": each[0], "completion_tokens": each[1], "total_tokens": sum(each)}} if usage else {}
        yield b"data: " + json.dumps({"id": "x", "choices": choices, **counts}).encode() + b"\n\n"


@pytest.mark.parametrize("wants", [True, False])
@pytest.mark.parametrize(
    ("told", "completion"),
    [
        ((1, (5, 3), 0, (5, 4)), 7),  # as llama.cpp: each choice for itself
        ((0, 1, (5, 9)), 9),  # as all others
    ],
)
def test_choices_that_tell_their_usage_apart_are_summed_and_the_caller_gets_it_once(told, completion, wants):
    stream = make("splice", "openai", usage=wants)
    stream.tally.apart = several_of_one(parse_object(b'{"n": 2}'))
    shown = messages(b"".join(map(stream.feed, [*ends_of(*told), b"data: [DONE]\n\n"])))
    whole = {"prompt_tokens": 5, "completion_tokens": completion, "total_tokens": 5 + completion}
    assert json.loads(stream.tally.usage) == whole
    assert [message["usage"] for message in shown if "usage" in message] == [whole] * wants and shown[-1]["id"] == "x"


@pytest.mark.parametrize("body", [b"{}", b'{"n": 1}', b'{"n": null}', b'{"n": "2"}', b'{"n": true}'])
def test_of_one_choice_the_usage_is_the_answers(body):
    assert not several_of_one(parse_object(body))


def test_sglang_nulls_in_tool_calls_are_dropped_and_named_events_too():
    shown = messages(run(make("splice", "sglang"), SGLANG))
    assert "output_ids" not in json.dumps(shown)
    calls = [delta for delta in deltas(shown) if "tool_calls" in delta]
    assert calls[1] == {
        "content": None,
        "reasoning_content": None,
        "tool_calls": [{"index": 0, "type": "function", "function": {"arguments": '{"a": '}}],
    }


def test_both_reasoning_fields_become_one():
    shown = deltas(messages(run(make(), VLLM_013_BOTH)))
    assert [delta.get("reasoning_content") for delta in shown[1:5]] == [f"thought {number}" for number in range(1, 5)]
    assert not any("reasoning" in delta for delta in shown)


def test_tool_arguments_that_look_like_our_patterns_pass_whole():
    shown = deltas(messages(run(make(), VLLM_TOOLS)))
    text = "".join(call["function"].get("arguments", "") for delta in shown for call in delta.get("tool_calls", []))
    assert text == '{"usage":{"model": "x", "finish_reason": {}}}'


def test_a_lone_surrogate_passes():
    stream = make()
    event = b'data: {"model":"qwen3","choices":[{"index":0,"delta":{"content":"\\ud83d"}}]}\n\n'
    for _ in range(4):
        assert messages(stream.feed(event)) == [{"model": "virtual", "choices": [{"index": 0, "delta": {"content": "\ud83d"}}]}]


@pytest.mark.parametrize("kind", KINDS)
def test_a_lone_surrogate_passes_also_beside_a_usage(kind):
    stream = make(kind)
    event = b'data: {"choices":[{"index":0,"delta":{"content":"\\ud83d"}}],"usage":{"prompt_tokens":3,"completion_tokens":%d}}\n\n'
    for tokens in range(1, 5):
        [shown] = messages(stream.feed(event % tokens))
        assert shown["choices"] == [{"index": 0, "delta": {"content": "\ud83d"}}]
        assert usage_of(stream.tally.usage).completion_tokens == tokens


def test_a_model_is_not_renamed_when_it_need_not_be():
    for text in (OPENAI, LLAMA):
        shown = messages(run(make(dialect="openai", rename=False), text))
        assert all(message["model"] == "qwen3" for message in shown)


@pytest.mark.parametrize("name", DIALECTS)
def test_a_dialect_chooses_its_transform(name):
    stream = transform_for(DIALECTS[name], model="virtual", wants_usage=False, wants_continuous=False, reasoning="reasoning_content")
    assert stream.feed(VLLM_CONTINUOUS.encode()) and stream.done
    with pytest.raises(ValueError):
        make("sideways")

"""The answer so far, event by event: what is held back, what is joined at the seam, which tokens the caller has."""

from typing import Any

import pytest

from gateway.record import Tokens
from gateway.wire.continuation import SoFar


def event(text: str | None = None, *, finish: str | None = None, usage: tuple[int, int] | None = None, **delta: Any) -> dict[str, Any]:
    found = {**delta, **({} if text is None else {"content": text})}
    made: dict[str, Any] = {"id": "i", "created": 1, "choices": [{"index": 0, "delta": found, "finish_reason": finish}]}
    return {**made, "usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}} if usage else made


def told(so_far: SoFar, *events: dict[str, Any]) -> list[str | None]:
    """What the caller gets of each event; None = not that event."""
    shown = [so_far.event(event, "reasoning") for event in events]
    return [value["choices"][0]["delta"].get("content") if value else None for value in shown]


def engine(so_far: SoFar, *texts: str) -> list[str | None]:
    so_far.begin(lambda value, _: value)
    return told(so_far, *map(event, texts))


@pytest.mark.parametrize(
    ("first", "second", "text"),
    [
        (["one", " two"], [" three"], "one two three"),
        (["one", " "], [" two"], "one two"),  # written again by the second
        (["one", " "], ["two"], "one two"),  # not written again
        (["one", " two\n\n"], [" two\n", "\nthree"], "one two\n\nthree"),  # with the event that it belongs to
        (["one", " \n", " "], ["two"], "one \n two"),
        (["one ", "two ", "three "], [" four"], "one two three four"),  # one that ends every event so is shown all the same
        (["one", "\n"], ["\n\n", "two"], "one\n\ntwo"),  # the second knows better
        (["one", " "], ["", " two"], "one two"),
        (["one ", "two"], ["ly"], "one twoly"),
        (["the text so far, ", "long"], ["the text so far, long", " enough"], "the text so far, long enough"),
        (["the text so far, ", "long"], ["the text so far, long enough"], "the text so far, long enough"),
        (["ha"], ["ha", "ha"], "hahaha"),  # too short to say that it is repeated
    ],
)
def test_the_seam(first: list[str], second: list[str], text: str) -> None:
    so_far = SoFar(None)
    shown = engine(so_far, *first)
    assert so_far.able and not so_far.text[-1:].isspace() and so_far.text == "".join(filter(None, shown))
    shown += engine(so_far, *second)
    assert "".join(filter(None, shown)) == so_far.text == text and so_far.continued


def test_the_role_is_told_once_also_by_engines_that_repeat_it() -> None:
    so_far = SoFar(None)
    engine(so_far, "one")
    so_far.begin(lambda value, _: value)
    shown = [so_far.event(one, "r") for one in (event(" two", role="assistant"), event("", role="assistant", finish="stop"))]
    assert [one["choices"][0]["delta"] for one in shown] == [{"content": " two"}, {"content": ""}]


@pytest.mark.parametrize(
    ("stops", "first", "second", "given", "text"),
    [
        (["END"], ["x =", " EN"], [" "], "x =", "x ="),  # the second writes it whole, sees it and stops
        (["END"], ["x =", " EN"], [" ENTER"], "x =", "x = ENTER"),  # it was another word
        (["END"], ["x =", " EN"], ["ENTER"], "x =", "x = ENTER"),  # the white space that stood before comes back
        (["END"], ["x EN", "TER"], [" it"], "x ENTER", "x ENTER it"),
        (["\nObservation:", "\n\n"], ["Act", "\n", "Obs"], ["\nObs", "olete"], "Act", "Act\nObsolete"),
        (["abcd", "bcx"], ["z", "ab", "c"], ["abc", "e"], "z", "zabce"),  # the longer one
        (["aab"], ["a", "a", "a"], ["aac"], "a", "aaac"),
        (["that model"], ["come", " at"], [" at", " the"], "come", "come at the"),  # not `come a`: no model goes on with that by `t`
        (["y th", "z"], ["one", " my", " t", "urn"], [" it"], "one my turn", "one my turn it"),
        (["E"], ["one E", "n"], ["d"], "one En", "one End"),  # of one character nothing is a beginning
    ],
)
def test_the_beginning_of_a_stop_string_is_left_to_the_engine_that_goes_on(stops, first, second, given, text) -> None:
    so_far = SoFar(None, stops)
    shown = engine(so_far, *first)
    assert so_far.text == given == "".join(filter(None, shown))
    shown += engine(so_far, *second)
    shown += told(so_far, event("", finish="stop"))
    assert "".join(filter(None, shown)).rstrip() == text


def test_what_is_held_back_for_a_stop_string_comes_when_it_was_none() -> None:
    for end in (event("", finish="stop"), event("", finish="length")):
        so_far = SoFar(None, ["END"])
        engine(so_far, "x", " EN")
        assert told(so_far, end) == [" EN"]
    so_far = SoFar(None, ["END"])
    assert engine(so_far, "x", " E", "N", "TRY") == ["x", None, None, " ENTRY"]
    assert engine(SoFar(None, ["END"]), "EN", "D") == [None, "END"], "an engine that does not look for it"


def test_white_space_at_the_very_end_is_given_back() -> None:
    for end in (event("", finish="stop"), event(None, finish="stop"), event("\n", finish="stop")):
        so_far = SoFar(None)
        engine(so_far, "one", " \n")
        text = "\n" if (end["choices"][0]["delta"].get("content")) else ""
        assert told(so_far, end) == [" \n" + text] and so_far.text == "one \n" + text and not so_far.able
    so_far = SoFar(None)
    engine(so_far, "one", "\n")
    engine(so_far)  # a second that has nothing to add
    assert told(so_far, event("", role="assistant"), event("", finish="stop")) == [None, "\n"]


def test_what_ends_the_right_to_go_on() -> None:
    for last in (
        event(None, finish="stop"),
        event(None, reasoning="hm"),
        event("\ud83d"),
        event(None, tool_calls=[{"index": 0}]),
        {"choices": [{"index": 0, "delta": {}}, {"index": 1, "delta": {}}]},
        {"choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": {"content": []}}]},
    ):
        so_far = SoFar(None)
        engine(so_far, "one")
        assert so_far.able and so_far.event(last, "reasoning") == last and not so_far.able


def test_tokens_are_those_the_caller_has() -> None:
    so_far = SoFar(8)
    so_far.begin(lambda value, _: value)
    told(so_far, event("one", usage=(5, 1)), event(" two", usage=(5, 3)), event("\n", usage=(5, 4)))
    assert (so_far.given, so_far.own) == (3, Tokens(5, 0, 4)), "the line's end was generated and not given"
    so_far.begin(lambda value, _: value)
    value = so_far.event(event("\nthree", usage=(9, 2)), "reasoning")
    assert value["usage"] == {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10} and so_far.given == 5 and not so_far.full
    so_far.event(event(" four", usage=(9, 5)), "reasoning")
    assert so_far.full and so_far.exact
    end = so_far.event({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 5, "prompt_tokens_details": None}}, "reasoning")
    assert end["usage"] == {"prompt_tokens": 5, "completion_tokens": 8, "prompt_tokens_details": None}


@pytest.mark.parametrize("reported", [True, False])
def test_tokens_of_events_that_are_held_back_are_not_given(reported: bool) -> None:
    """Those that go on write them again: with too many given, the answer would end before its limit."""
    so_far = SoFar(8, ["that model"])
    so_far.begin(lambda value, _: value)
    texts = ["one", " cat", " the", "n"]
    shown = told(so_far, *(event(text, usage=(5, number) if reported else None) for number, text in enumerate(texts, 1)))
    assert shown == ["one", None, " cat the", "n"] and so_far.given == 4
    assert told(so_far, event(" that", usage=(5, 6) if reported else None)) == [None] and so_far.given == 4
    assert told(so_far, event("\nt", usage=(5, 7) if reported else None)) == [" that"] and so_far.given == (6 if reported else 5)
    assert so_far.text == "one cat then that" and not so_far.full


def test_the_end_that_is_missing() -> None:
    so_far = SoFar(3)
    so_far.begin(lambda value, _: value)
    last = so_far.event(event("one", usage=(5, 1)), "reasoning")
    assert told(so_far, event(" two\n", usage=(5, 3))) == [None] and so_far.given == 1
    assert so_far.full, "what is held back is here"
    end = {"index": 0, "delta": {"content": " two\n"}, "logprobs": None, "finish_reason": "length"}
    assert so_far.last_event(last) == {**last, "choices": [end]} and so_far.given == 3


@pytest.mark.parametrize("text", [" three four\n", " three four \n\n", " three\n"])
def test_of_an_event_with_several_tokens_all_are_given_or_none(text: str) -> None:
    """How many of them the text without its white space would have, nobody says."""
    so_far = SoFar(20)
    so_far.begin(lambda value, _: value)
    shown = told(so_far, event("one", usage=(5, 1)), event(" two", usage=(5, 4)), event(text, usage=(5, 7)))
    assert shown == ["one", " two", None] and so_far.given == 4
    assert told(so_far, event("five", usage=(5, 9))) == [text + "five"] and so_far.given == 9


def test_an_engine_that_failed_before_its_text_leaves_no_trace() -> None:
    so_far = SoFar(None)
    so_far.begin(lambda value, _: value)
    so_far.event({**event(None, role="assistant"), "id": "first"}, "reasoning")
    so_far.begin(lambda value, _: value)
    assert so_far.event({**event("one"), "id": "second"}, "reasoning")["id"] == "second" and not so_far.continued


def test_white_space_at_the_end_of_an_answer_without_a_finish_reason_is_not_lost() -> None:
    so_far = SoFar(None)
    so_far.begin(lambda event, reasoning: event)
    choice = {"index": 0, "delta": {"content": "a"}, "finish_reason": None}
    shown = so_far.event({"id": "x", "object": "chat.completion.chunk", "choices": [choice], "usage": {"prompt_tokens": 1}}, "reasoning")
    assert told(so_far, event(" b \n")) == [None]
    left = so_far.left(shown)
    assert left["id"] == "x" and "usage" not in left
    assert left["choices"] == [{"index": 0, "delta": {"content": " b \n"}, "logprobs": None, "finish_reason": None}]
    assert so_far.left(shown) == {}

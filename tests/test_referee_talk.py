"""A worker's talk with control, frame by frame, on a loop whose clock the test moves."""

from typing import Any

import pytest

from gateway.referee.talk import LINGER, PATIENCE, Talk
from tests.test_limits_talk import Loop


class Mouth:
    """A talk, what it sent, and what it was told of control. asked: what is asked still when control comes."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.sent: list[dict[str, Any]] = []
        self.lost: list[str] = []
        self.asked: list[list[Any]] = []
        self.connected = True
        self.talk = Talk(self.say, self.loop, lambda: ({"hold": []}, self.asked), self.lost.append)  # type: ignore[arg-type]

    def say(self, frame: dict[str, Any]) -> bool:
        if self.connected:
            self.sent.append(frame)
        return self.connected

    def met(self) -> "Mouth":
        assert self.talk.alone and not self.talk.heard({"n": 0, "tell": True}) and not self.talk.alone
        return self

    def taken(self) -> list[dict[str, Any]]:
        sent, self.sent = self.sent, []
        return sent


@pytest.fixture
def mouth() -> Mouth:
    return Mouth().met()


def test_control_that_comes_is_told_what_there_is(mouth):
    assert mouth.sent == [{"hold": [], "ops": [], "n": 1}]
    assert mouth.talk.heard({"n": 1})


def test_one_turn_is_one_frame_in_the_order_of_its_ops(mouth):
    mouth.taken()
    mouth.talk.note([1], asks=False)
    mouth.talk.note([2, "a"], asks=True)
    mouth.talk.note([3], asks=False)
    mouth.loop.turn()
    assert mouth.taken() == [{"ops": [[1], [2, "a"], [3]], "n": 2}]
    mouth.loop.advance(LINGER)
    assert not mouth.sent


def test_what_nobody_waits_for_lingers_unless_it_is_to_go_soon(mouth):
    mouth.taken()
    mouth.talk.note([1], asks=False)
    mouth.loop.turn()
    assert not mouth.sent
    mouth.loop.advance(LINGER)
    assert [frame["ops"] for frame in mouth.taken()] == [[[1]]]
    mouth.talk.note([2], asks=False, soon=True)
    mouth.loop.turn()
    assert [frame["ops"] for frame in mouth.taken()] == [[[2]]]
    mouth.loop.advance(2 * PATIENCE)
    assert mouth.lost == [], "there was no question"


def test_a_question_left_unread_is_silence_and_whatever_comes_then_begins_anew(mouth):
    mouth.talk.note([1, "a"], asks=True)
    mouth.loop.turn()
    mouth.loop.advance(PATIENCE - 0.01)
    mouth.talk.note([2], asks=False, soon=True)
    mouth.loop.advance(0.02)
    assert mouth.lost == ["silent"] and mouth.talk.alone
    mouth.asked = [[1, "a"]]
    mouth.taken()
    assert not mouth.talk.heard({"n": 2})
    (told,) = mouth.taken()
    assert told["ops"] == [[1, "a"]] and not mouth.talk.alone
    assert not mouth.talk.heard({"n": told["n"] - 1}), "said before it read that"
    assert mouth.talk.heard({"n": told["n"]})
    mouth.loop.advance(2 * PATIENCE)
    assert mouth.lost == ["silent"]


def test_what_is_asked_in_the_beginning_is_a_question_too(mouth):
    mouth.talk.lost()
    mouth.asked = [[1, "a"]]
    mouth.met()
    mouth.loop.advance(PATIENCE)
    assert mouth.lost == ["away", "silent"]


def test_control_that_reads_is_given_time_anew(mouth):
    for _ in range(4):
        mouth.talk.note([1, "a"], asks=True)
        mouth.loop.turn()
        mouth.loop.advance(0.6 * PATIENCE)
        assert mouth.talk.heard({"n": mouth.sent[-1]["n"]})
    assert mouth.lost == []


def test_a_line_that_breaks_is_told_once_and_what_was_noted_is_forgotten(mouth):
    mouth.taken()
    mouth.talk.note([1, "a"], asks=True)
    mouth.connected = False
    mouth.loop.turn()
    mouth.talk.lost()
    assert mouth.lost == ["away"] and mouth.talk.alone
    mouth.connected = True
    mouth.met()
    mouth.loop.advance(LINGER)
    assert [frame["ops"] for frame in mouth.taken()] == [[]]


def test_who_ends_is_not_lost_to_control(mouth):
    mouth.talk.note([1], asks=False)
    mouth.talk.hurry()
    mouth.talk.close()
    mouth.connected = False
    mouth.talk.lost()
    assert mouth.taken()[-1] == {"ops": [[1]], "n": 2} and not mouth.lost

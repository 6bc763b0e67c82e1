"""What a request is given before anything else."""

import uuid
from typing import Any

import pytest

from gateway.accept.request import WHOLE_MOST, Ids, facts
from gateway.wire.openai import encode, parse_object


def test_request_ids_tell_their_time_and_are_never_the_same():
    ids = Ids()
    made = [uuid.UUID(ids.new(1_800_000_000.0 + number)) for number in range(2000)]
    assert made == sorted(set(made))
    assert {(id.version, id.variant) for id in made} == {(7, uuid.RFC_4122)}
    assert made[1999].int >> 80 == 1_800_001_999_000


@pytest.mark.parametrize(
    ("sent", "limit"),
    [
        ({"max_tokens": 9}, 9),
        ({"max_tokens": 5, "max_completion_tokens": 9}, 9),
        ({"max_tokens": 9, "max_completion_tokens": None}, 9),
        ({"max_tokens": "9"}, 9),
        ({"max_tokens": 9.0}, 9),
        ({"max_tokens": 10**12}, WHOLE_MOST),
        ({"max_tokens": "many"}, 0),
        ({"max_tokens": 9.5}, 9),
        ({"max_tokens": -9}, 0),
        ({"max_tokens": True}, 0),
        ({"max_tokens": [9]}, 0),
        ({}, 0),
    ],
)
def test_the_longest_answer_that_a_caller_wants_is_read_as_engines_read_it(sent: dict[str, Any], limit: int):
    assert facts(parse_object(encode(sent))).max_tokens == limit

"""What a request is given before anything else."""

import uuid

import msgspec
import pytest

from gateway.accept.request import WHOLE_MOST, Ids, facts


def test_request_ids_tell_their_time_and_are_never_the_same():
    ids = Ids()
    made = [uuid.UUID(ids.new(1_800_000_000.0 + number)) for number in range(2000)]
    assert made == sorted(set(made))
    assert {(id.version, id.variant) for id in made} == {(7, uuid.RFC_4122)}
    assert made[1999].int >> 80 == 1_800_001_999_000


@pytest.mark.parametrize(
    ("sent", "most"),
    [
        ({"max_tokens": 5}, 5), ({"max_tokens": "4000"}, 4000), ({"max_tokens": 4e3}, 4000), ({"max_tokens": 10**12}, WHOLE_MOST),
        ({"max_tokens": 5, "max_completion_tokens": 7}, 7), ({"max_tokens": 5, "max_completion_tokens": None}, 5),
        ({"max_tokens": None}, 0), ({"max_tokens": -5}, 0), ({"max_tokens": "many"}, 0), ({"max_tokens": True}, 0), ({}, 0),
    ],
)  # fmt: skip
def test_how_long_the_answer_may_be_is_read_as_engines_read_it(sent, most):
    assert facts({name: msgspec.Raw(msgspec.json.encode(value)) for name, value in sent.items()}).max_tokens == most

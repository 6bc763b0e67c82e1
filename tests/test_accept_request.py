"""What a request is given before anything else."""

import uuid

from gateway.accept.request import Ids


def test_request_ids_tell_their_time_and_are_never_the_same():
    ids = Ids()
    made = [uuid.UUID(ids.new(1_800_000_000.0 + number)) for number in range(2000)]
    assert made == sorted(set(made))
    assert {(id.version, id.variant) for id in made} == {(7, uuid.RFC_4122)}
    assert made[1999].int >> 80 == 1_800_001_999_000

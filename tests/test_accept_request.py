"""What a request is given before anything else."""

import asyncio
import uuid
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.accept.request import WHOLE_MOST, Ids, Memory, facts, read_body
from gateway.errors import Refusal
from gateway.exchange import Exchange
from gateway.wire.openai import LARGE, encode, parse_object


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


class Arriving:
    """A body that comes in pieces of ten bytes (or `size`), one in each turn of the loop."""

    def __init__(self, pieces: int, size: int = 10) -> None:
        self._left = pieces
        self._piece = b"x" * size

    def is_eof(self) -> bool:
        return False

    async def readany(self) -> bytes:
        await asyncio.sleep(0)
        self._left -= 1
        return self._piece if self._left >= 0 else b""


async def test_when_bodies_are_too_many_only_as_many_are_refused_as_must_be():
    http = SimpleNamespace(body=1000, body_timeout=5.0)
    memory = Memory()

    async def read() -> Any:
        x = Exchange("id", "id", SimpleNamespace(http=http, body_share=100), "POST", "/", {}, "", 0.0, 0.0)
        caller: Any = SimpleNamespace(payload=Arriving(4))
        try:
            await read_body(x, caller, memory)  # type: ignore[misc]
        except Refusal as no:
            assert (no.status, no.code, x.held) == (503, "overloaded", 0) and x.body_bytes
            return None
        return x.held

    held = await asyncio.gather(*(read() for _ in range(5)))
    assert held.count(40) == 2 and held.count(None) == 3
    assert memory.used == 80


@pytest.mark.parametrize(("size", "together"), [(LARGE // 3, 1), (10, 5)])
async def test_large_bodies_that_end_at_the_same_time_are_gone_on_with_one_by_one(size, together):
    snapshot = SimpleNamespace(http=SimpleNamespace(body=10 * LARGE, body_timeout=5.0), body_share=10 * LARGE)
    memory = Memory()
    turns: list[int] = []
    turn = 0

    async def loop_turns() -> None:
        nonlocal turn
        while True:
            await asyncio.sleep(0)
            turn += 1

    async def read() -> None:
        x = Exchange("id", "id", snapshot, "POST", "/", {}, "", 0.0, 0.0)
        caller: Any = SimpleNamespace(payload=Arriving(4, size))
        await read_body(x, caller, memory)  # type: ignore[misc]
        turns.append(turn)

    clock = asyncio.create_task(loop_turns())
    await asyncio.gather(*(read() for _ in range(5)))
    clock.cancel()
    assert max(turns.count(one) for one in turns) == together

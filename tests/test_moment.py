"""Waits that have an end: what is waited for came, it did not, whoever waits is cancelled in the moment it comes; strokes of one clock."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.moment import comes, stroke, until_stroke


@pytest.mark.parametrize("within", [0.0, 5.0, None])
async def test_what_has_come_is_not_waited_for(within):
    event = asyncio.Event()
    event.set()
    assert await comes(event, within)


async def test_what_comes_in_time_is_seen_at_once():
    event = asyncio.Event()
    asyncio.get_running_loop().call_soon(event.set)
    assert await comes(event, 60)


@pytest.mark.parametrize("within", [0.0, 0.01])
async def test_what_does_not_come_is_waited_for_so_long(within):
    assert not await comes(asyncio.Event(), within)


async def test_who_is_cancelled_as_it_comes_is_cancelled():
    event = asyncio.Event()
    waiting = asyncio.create_task(comes(event, 60))
    await asyncio.sleep(0)
    event.set()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


@pytest.mark.parametrize(
    ("every", "now", "left"),
    [
        (1.0, 7.0, 1.0),
        (1.0, 7.5, 0.5),
        (1.0, 7.7, 0.3),
        (1.0, 7.8, 1.2),
        (1.0, 7.9999, 1.0001),
        (0.25, 8.0, 0.25),
        (0.25, 8.1, 0.15),
        (2.0, 9.0, 1.0),
    ],
)
def test_a_stroke_that_is_too_near_is_left_out(every, now, left):
    assert until_stroke(every, now) == pytest.approx(left)


@given(st.sampled_from([0.25, 0.5, 1.0, 2.0, 5.0]), st.floats(0, 1e7))
def test_each_wait_ends_at_a_stroke_and_is_neither_short_nor_long(every, now):
    left = until_stroke(every, now)
    assert every * 0.25 <= left <= every * 1.2501
    assert (now + left) / every == pytest.approx(round((now + left) / every), abs=1e-6)


async def test_a_stroke_is_waited_for(monkeypatch):
    pauses = []

    async def slept(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("gateway.moment.asyncio.sleep", slept)
    monkeypatch.setattr("gateway.moment.time.monotonic", lambda: 7.75)
    await stroke(2.0)
    assert pauses == [2.25], "7.75 is nearly 8"

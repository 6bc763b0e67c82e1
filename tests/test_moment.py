"""A wait for an event that has an end: it came, it did not, and whoever waits is cancelled in the moment it comes."""

import asyncio

import pytest

from gateway.moment import comes


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

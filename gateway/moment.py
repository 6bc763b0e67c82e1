"""Waits that have an end."""

import asyncio


async def comes(event: asyncio.Event, within: float | None) -> bool:
    """Whether it is set within so many seconds; None = it is waited for without end."""
    try:
        async with asyncio.timeout(within):
            return await event.wait()
    except TimeoutError:
        return False

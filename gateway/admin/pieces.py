"""Answers that come in pieces: files of any size."""

from collections.abc import AsyncIterator
from typing import Any, cast

from aiohttp import web


async def in_pieces(request: web.Request, kind: str, pieces: AsyncIterator[bytes]) -> web.StreamResponse:
    """kind: its Content-Type. The pieces' generator is closed whatever happens, also when the caller leaves."""
    stream = web.StreamResponse(headers={"Content-Type": kind})
    try:
        await stream.prepare(request)
        async for piece in pieces:
            await stream.write(piece)
    except ConnectionError:  # the caller has what it wanted, as `head` does
        pass
    finally:
        await cast(Any, pieces).aclose()
    return stream

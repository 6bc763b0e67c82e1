"""How a stream's head, its events and its end leave: the head with what comes first, all of it in order."""

import asyncio

from gateway.accept.caller import Caller, Door


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


async def _nobody(*args: object) -> None: ...


def caller_of(door: Door) -> tuple[Caller, Transport]:
    caller = door()
    assert isinstance(caller, Caller)
    transport = Transport()
    caller.connection_made(transport)
    return caller, transport


def a_door() -> Door:
    return Door(_nobody, _nobody, header=4096, keepalive=10, write_idle=10)


async def ended(*callers: Caller) -> None:
    for caller in callers:
        caller.connection_lost(None)
    await asyncio.sleep(0)


async def test_the_head_leaves_with_the_first_event() -> None:
    caller, transport = caller_of(a_door())
    caller.outlet.begin_stream(b"x-request-id: a\r\n")
    assert transport.writes == []
    caller.outlet.send(b"data: 1\n\n")
    caller.outlet.send(b"data: 2\n\n")
    head, _, body = transport.writes[0].partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n") and body == b"9\r\ndata: 1\n\n\r\n"
    assert transport.writes[1:] == [b"9\r\ndata: 2\n\n\r\n"]
    await ended(caller)


async def test_a_stream_of_one_event_is_one_write() -> None:
    caller, transport = caller_of(a_door())
    caller.outlet.begin_stream(b"")
    caller.outlet.write(caller.outlet.ended(b"data: [DONE]\n\n"))
    assert len(transport.writes) == 1 and transport.writes[0].endswith(b"\r\n\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
    await ended(caller)


async def test_a_head_without_events_leaves_before_the_connection_closes() -> None:
    caller, transport = caller_of(a_door())
    caller.outlet.begin_stream(b"")
    caller.force_close()
    assert transport.closed and len(transport.writes) == 1 and transport.writes[0].endswith(b"\r\n\r\n")
    await ended(caller)


async def test_a_refusal_that_fails_closes_its_connection() -> None:
    """Where the next request would begin, nobody can tell: it is not left open, and not waited on either."""

    async def fails(*args: object) -> None:
        raise TypeError("a fault of ours")

    caller, transport = caller_of(Door(_nobody, fails, header=4096, keepalive=10, write_idle=10))
    caller.data_received(b"no request at all\r\n\r\n")
    for _ in range(5):
        await asyncio.sleep(0)
    assert transport.closed
    await ended(caller)

"""What a caller is sent within one turn of the event loop: it leaves at the turn's end, whole and in order."""

import asyncio

from gateway.accept.caller import Caller, Door


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = self.broken = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.broken:
            raise RuntimeError("the handle is closed")
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


async def test_the_head_and_the_events_of_a_turn_are_one_write() -> None:
    caller, transport = caller_of(a_door())
    caller.begin_stream(b"x-request-id: a\r\n")
    caller.send(b"data: 1\n\n")
    caller.send(b"data: 2\n\n")
    assert transport.writes == []
    await asyncio.sleep(0)
    head, _, body = transport.writes[0].partition(b"\r\n\r\n")
    assert len(transport.writes) == 1 and head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body == b"12\r\ndata: 1\n\ndata: 2\n\n\r\n"
    caller.send(b"data: 3\n\n")
    await asyncio.sleep(0)
    assert transport.writes[1:] == [b"9\r\ndata: 3\n\n\r\n"]
    await ended(caller)


async def test_an_end_never_overtakes_the_events_before_it() -> None:
    caller, transport = caller_of(a_door())
    caller.begin_stream(b"")
    await asyncio.sleep(0)
    caller.send(b"data: 1\n\n")
    caller.write(caller.ended(b"data: [DONE]\n\n"))
    await asyncio.sleep(0)
    assert transport.writes[1:] == [b"9\r\ndata: 1\n\n\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"]
    await ended(caller)


async def test_what_waits_leaves_before_the_connection_closes() -> None:
    caller, transport = caller_of(a_door())
    caller.begin_stream(b"")
    caller.send(b"data: 1\n\n")
    caller.force_close()
    assert transport.closed and transport.writes[0].endswith(b"9\r\ndata: 1\n\n\r\n")
    await asyncio.sleep(0)
    assert len(transport.writes) == 1
    await ended(caller)


async def test_one_broken_connection_does_not_hold_up_the_others() -> None:
    door = a_door()
    (first, broken), (second, well) = caller_of(door), caller_of(door)
    for caller in (first, second):
        caller.begin_stream(b"")
        caller.send(b"data: 1\n\n")
    broken.broken = True
    await asyncio.sleep(0)
    assert well.writes[0].endswith(b"data: 1\n\n\r\n")
    broken.broken = False
    await ended(first, second)

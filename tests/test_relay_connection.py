"""One connection to an engine: whose it is, and when. Two requests on one connection would get each other's answers."""

import asyncio

import pytest

from gateway.errors import UpstreamFailure
from gateway.relay.connection import Connection

ANSWER = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nDONE!\r\n0\r\n\r\n"


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.ended = ""
        self.sent = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += bytes(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return bool(self.ended)

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None:
        self.ended = "closed"

    def abort(self) -> None:
        self.ended = "aborted"


class Owner:
    """Its turn of the loop ends at once, unless it `waits`."""

    def __init__(self, *, waits: bool = False) -> None:
        self.given_back = 0
        self.waits = waits

    def post(self, connection: Connection) -> None:
        if not self.waits:
            connection.transmit()

    def give_back(self, connection: Connection) -> None:
        self.given_back += 1

    def forget(self, connection: Connection) -> None: ...


class Sink:
    """Takes what it is given; `then` is done to the connection at the first data, or at the end."""

    def __init__(self, connection: Connection, then: str, when: str) -> None:
        self.connection, self.then, self.when = connection, then, when

    def head(self, status: int, headers: object) -> None: ...

    def data(self, pieces: list[bytes]) -> None:
        if self.when == "data":
            getattr(self.connection, self.then)()

    def framed(self, data):
        return False

    def end(self) -> None:
        if self.when == "end":
            getattr(self.connection, self.then)()

    def lost(self, failure: UpstreamFailure) -> None:
        raise AssertionError(failure)


@pytest.mark.parametrize("when", ["data", "end", "never"])
@pytest.mark.parametrize("cut", [*range(60, len(ANSWER), 3), len(ANSWER)])
async def test_a_connection_goes_back_to_its_pool_once(when: str, cut: int) -> None:
    owner, transport = Owner(), Transport()
    connection = Connection(owner, asyncio.get_running_loop())
    connection.connection_made(transport)
    connection.send(b"", Sink(connection, "detach", when))
    for piece in (ANSWER[:cut], ANSWER[cut:]):
        if piece:
            connection.data_received(piece)
    assert owner.given_back == 1 and not transport.ended
    connection.connection_lost(None)


async def test_a_connection_that_was_aborted_never_goes_back() -> None:
    owner, transport = Owner(), Transport()
    connection = Connection(owner, asyncio.get_running_loop())
    connection.connection_made(transport)
    connection.send(b"", Sink(connection, "abort", "data"))
    connection.data_received(ANSWER)
    assert not owner.given_back and transport.ended


async def test_who_was_answered_cannot_end_the_connection_under_the_next() -> None:
    """A caller may leave between the end of its answer and its record: by then the connection may serve somebody else."""
    owner, transport = Owner(), Transport()
    connection = Connection(owner, asyncio.get_running_loop())
    connection.connection_made(transport)
    first, second = Sink(connection, "", "never"), Sink(connection, "", "never")
    connection.send(b"", first)
    connection.data_received(ANSWER)
    connection.leave(first)
    assert owner.given_back == 1 and not transport.ended
    connection.send(b"", second)
    connection.leave(first)
    assert not transport.ended
    connection.leave(second)
    assert transport.ended


async def test_a_request_leaves_at_the_end_of_the_turn() -> None:
    owner, transport = Owner(waits=True), Transport()
    connection = Connection(owner, asyncio.get_running_loop())
    connection.connection_made(transport)
    connection.send(b"POST", Sink(connection, "detach", "never"))
    assert transport.sent == b""
    connection.transmit()
    connection.transmit()
    assert transport.sent == b"POST"
    connection.abort()


async def test_nothing_leaves_on_a_connection_that_was_dropped_within_the_turn() -> None:
    owner, transport = Owner(waits=True), Transport()
    connection = Connection(owner, asyncio.get_running_loop())
    connection.connection_made(transport)
    connection.send(b"POST", Sink(connection, "detach", "never"))
    connection.abort()
    connection.transmit()
    assert transport.sent == b"" and transport.ended == "aborted"


async def test_an_answer_before_its_request_has_left_ends_the_connection() -> None:
    owner, transport = Owner(waits=True), Transport()
    connection = Connection(owner, asyncio.get_running_loop())
    connection.connection_made(transport)
    connection.send(b"POST", Sink(connection, "detach", "never"))
    connection.data_received(ANSWER)
    connection.transmit()
    assert owner.given_back == 0 and transport.sent == b"" and transport.ended == "aborted"


async def test_what_comes_together_is_told_in_the_pieces_of_its_framing_and_kept_for_nobody_else() -> None:
    connection = Connection(Owner(), asyncio.get_running_loop())
    connection.connection_made(Transport())
    heard: list[list[bytes]] = []

    class Failing(Sink):
        def data(self, pieces: list[bytes]) -> None:
            heard.append(pieces)
            raise RuntimeError("a fault of ours")

    connection.send(b"GET / HTTP/1.1\r\n\r\n", Failing(connection, "", "never"))
    with pytest.raises(RuntimeError, match="of ours"):
        connection.data_received(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n5\r\nthr")
    with pytest.raises(RuntimeError, match="of ours"):
        connection.data_received(b"ee\r\n4\r\nfour\r\n")
    assert heard == [[b"one", b"two", b"thr"], [b"ee", b"four"]]

"""What a relay in Python costs when it does nothing but relay: uvloop and httptools on both sides, no key, no JSON, no record.

`make bench ARGS=--floor` measures it in the gateway's place. What the gateway costs above it is what its features cost.
"""

import asyncio
import gc
from typing import Any

import httptools
import uvloop

HERE, ENGINE = ("127.0.0.1", 8110), ("127.0.0.1", 9000)
HEAD = b"POST %b HTTP/1.1\r\nHost: 127.0.0.1:9000\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"

idle: list["Engine"] = []


class Engine(asyncio.Protocol):
    """A connection to the engine. Whatever comes goes to the caller as it is; it is parsed only to see where the answer ends."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def send(self, caller: "Caller", request: bytes) -> None:
        self.caller, self.complete = caller, False
        self.parser = httptools.HttpResponseParser(self)
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.caller.transport.write(data)
        self.parser.feed_data(data)
        if self.complete:
            idle.append(self)

    def on_message_complete(self) -> None:
        self.complete = True


class Caller(asyncio.Protocol):
    """A caller's connection."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.pieces: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        self.url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        self.pieces.append(body)

    def on_message_complete(self) -> None:
        if self.url == b"/healthz":
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            return
        body = b"".join(self.pieces)
        request = HEAD % (self.url, len(body), body)
        if idle:
            idle.pop().send(self, request)
        else:
            dialling.add(task := asyncio.ensure_future(self.dial(request)))
            task.add_done_callback(dialling.discard)

    async def dial(self, request: bytes) -> None:
        _, engine = await asyncio.get_running_loop().create_connection(Engine, *ENGINE)
        engine.send(self, request)


dialling: set["asyncio.Future[None]"] = set()


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Caller, *HERE, backlog=2048)
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())

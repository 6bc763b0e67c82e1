"""Sends one answer at the model's pace, and lets one fault strike it. The only place that writes answers.

A fault of a whole answer strikes in the middle of its body; of a stream, after `events_before` events.
"""

import asyncio
import contextlib
import socket
import struct
import time
from dataclasses import replace
from typing import NoReturn

from aiohttp import web

from gateway.simulate.dialect import Answer, Dialect, Received, Stream, Whole
from gateway.simulate.engine import Engine
from gateway.simulate.faults import FOREVER, STREAM_FAULTS, Fault
from gateway.simulate.sse import DONE, Event

WRITES_PER_TURN = 32
"""Writes between two looks at the event loop: 1,000 streams stay fair, and a client that left is noticed."""
SLICES_PER_SECOND = 10


class HungUp(ConnectionError):
    """We closed the connection ourselves."""


async def hang_up(http: web.Request, record: Received, *, reset: bool = False) -> NoReturn:
    """Close the connection after what was written has left: FIN, or RST with `reset`. Always raises HungUp."""
    record.dropped = True
    transport = http.transport
    if transport is not None:
        deadline = time.monotonic() + 1.0
        while transport.get_write_buffer_size() and time.monotonic() < deadline:  # noqa: ASYNC110 - a transport has no such event
            await asyncio.sleep(0.001)
        if reset:
            plug = transport.get_extra_info("socket")
            with contextlib.suppress(OSError):
                plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        else:
            transport.close()
    raise HungUp


async def stall(seconds: float) -> None:
    """Nothing for a time, or until the client has left."""
    if seconds == FOREVER:
        await asyncio.Event().wait()
    await asyncio.sleep(seconds)


def scripted_status(dialect: Dialect, fault: Fault) -> Whole:
    """The answer of `do: status`: the script's body, or the engine's own shape of such an error."""
    if fault.body is None:
        return replace(dialect.failure(fault.status, "simulated failure"), headers=fault.headers)
    kind = "application/json" if fault.body.startswith((b"{", b"[", b'"')) else "text/plain; charset=utf-8"
    return Whole(fault.body, fault.status, fault.headers, kind)


class Delivery:
    """One answer on its way to one client."""

    def __init__(self, http: web.Request, record: Received, engine: Engine, dialect: Dialect, fault: Fault | None) -> None:
        self.http, self.record, self.engine, self.dialect, self.fault = http, record, engine, dialect, fault
        settings = engine.settings
        self._tps, self._burst = settings.tps, max(1, settings.burst)
        self._first_at = time.monotonic() + settings.ttft
        self._writes = 0

    def start_clock(self) -> None:
        """The request has left the queue: the first token is due `ttft` from now."""
        self._first_at = time.monotonic() + self.engine.settings.ttft

    async def send(self, answer: Answer) -> web.StreamResponse:
        """Errors: ConnectionError (the client left, or HungUp)."""
        self.record.status = answer.status if isinstance(answer, Whole) else 200
        if isinstance(answer, Stream):
            return await self._stream(answer)
        if answer.work is not None:
            await self._generate(answer)
        return await self._whole(answer)

    def _due(self, step: int) -> float:
        return self._first_at + (step // self._burst * self._burst / self._tps if self._tps else 0.0)

    async def _generate(self, answer: Whole) -> None:
        """The time and the tokens that a whole answer takes. A client that leaves pays for what was generated."""
        work = answer.work
        assert work is not None
        try:
            delay = self._due(max(0, answer.steps - 1)) - time.monotonic()
            if delay > 0:
                await asyncio.sleep(delay)
        except asyncio.CancelledError:
            spent = max(0.0, time.monotonic() - self._first_at) * self._tps
            self._count(answer, min(answer.tokens, int(spent)))
            raise
        self._count(answer, answer.tokens)

    def _count(self, answer: Answer, tokens: int) -> None:
        if tokens and answer.work is not None:
            self.record.tokens += tokens
            self.engine.token(answer.work, tokens, time.monotonic())

    def _open(self, answer: Answer, content_type: str) -> web.StreamResponse:
        headers = {**self.dialect.headers(answer), **answer.headers, "Content-Type": content_type}
        response = web.StreamResponse(status=self.record.status, headers=headers)
        if headers.get("Connection") == "close":
            response.force_close()
        return response

    async def _whole(self, answer: Whole) -> web.StreamResponse:
        fault = self.fault
        if fault is not None and fault.do == "bare_text":
            answer = Whole(fault.text.encode(), 500)
        elif fault is not None and fault.do == "garbage":
            answer = replace(answer, body=fault.text.encode(), status=200)
        elif fault is not None and fault.do == "error_event":
            answer = self.dialect.failure(500, fault.text or self.dialect.broken)
        self.record.status = answer.status
        if fault is not None and fault.do in ("cut", "reset", "stall", "slow_body"):
            return await self._faulty_body(answer, fault)
        headers = {**self.dialect.headers(answer), **answer.headers, "Content-Type": answer.content_type}
        response = web.Response(status=answer.status, body=answer.body, headers=headers)
        if headers.get("Connection") == "close":
            response.force_close()
        return response

    async def _faulty_body(self, answer: Whole, fault: Fault) -> web.StreamResponse:
        response = self._open(answer, answer.content_type)
        response.content_length = len(answer.body)
        await response.prepare(self.http)
        if fault.do == "slow_body":
            await self._slowly(response, answer.body, fault.rate)
            return response
        half = 0 if fault.do == "stall" and fault.at == "first_event" else len(answer.body) // 2
        if half:
            await response.write(answer.body[:half])
        if fault.do == "stall" and fault.at != "headers":
            await stall(fault.seconds)
        elif fault.do != "stall":
            await hang_up(self.http, self.record, reset=fault.do == "reset")
        await response.write(answer.body[half:])
        return response

    async def _stream(self, answer: Stream) -> web.StreamResponse:
        if answer.work is None:
            self._first_at = 0.0
        if not self.dialect.headers_first:
            await self._wait(0)
        response = self._open(answer, self.dialect.stream_content_type)
        await response.prepare(self.http)
        if self.fault is not None:
            await self._faulty_events(response, answer, self.fault)
        else:
            await self._events(response, answer)
        await response.write_eof()
        return response

    async def _wait(self, step: int) -> None:
        delay = self._due(step) - time.monotonic()
        if delay > 0:
            await asyncio.sleep(delay)

    async def _events(self, response: web.StreamResponse, answer: Stream) -> None:
        batch: list[bytes] = []
        tokens = 0
        for event in answer.events:
            if self._due(event.step) > time.monotonic():
                if batch:
                    await self._write(response, b"".join(batch))
                    self._count(answer, tokens)
                    batch, tokens = [], 0
                await self._wait(event.step)
            batch.append(event.data)
            tokens += event.tokens
            if len(batch) >= self._burst:
                self._count(answer, tokens)
                await self._write(response, batch[0] if len(batch) == 1 else b"".join(batch))
                batch, tokens = [], 0
        if batch:
            self._count(answer, tokens)
            await self._write(response, b"".join(batch))

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        await response.write(data)
        self._writes += 1
        if self._writes % WRITES_PER_TURN == 0:
            await asyncio.sleep(0)

    async def _faulty_events(self, response: web.StreamResponse, answer: Stream, fault: Fault) -> None:
        strikes = fault.events_before if fault.do in STREAM_FAULTS and not fault.before_answer else -1
        for sent, event in enumerate(answer.events):
            if sent == strikes and await self._strike(response, fault):
                return
            if fault.do == "no_done" and event.data == DONE:
                response.force_close()
                return
            await self._one(response, answer, event, fault)

    async def _one(self, response: web.StreamResponse, answer: Stream, event: Event, fault: Fault) -> None:
        await self._wait(event.step)
        self._count(answer, event.tokens)
        if fault.do == "slow_body":
            await self._slowly(response, event.data, fault.rate)
        else:
            await self._write(response, event.data)

    async def _strike(self, response: web.StreamResponse, fault: Fault) -> bool:
        """The fault happens between two events. True: the stream is over."""
        if fault.do == "stall":
            await stall(fault.seconds)
            return False
        if fault.do in ("cut", "reset"):
            await hang_up(self.http, self.record, reset=fault.do == "reset")
        ending = self.dialect.error_event(fault.text) if fault.do == "error_event" else fault.text.encode()
        await response.write(ending)
        response.force_close()
        return True

    async def _slowly(self, response: web.StreamResponse, data: bytes, rate: float) -> None:
        size = max(1, int(rate / SLICES_PER_SECOND))
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            await response.write(piece)
            await asyncio.sleep(len(piece) / rate)
